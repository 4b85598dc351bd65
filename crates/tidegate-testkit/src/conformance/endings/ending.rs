//! The ways to end a connection, its states, and the observations around the call.

use crate::Recorder;
use crate::conformance::probe::{Answer, Endpoint, put};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Closed, OnEof, OnPause, Transport, WriteError};

/// The ways to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    CloseWithin,
    Abort,
    Reset,
}

impl Ending {
    pub(super) const ALL: [Self; 4] = [Self::Close, Self::CloseWithin, Self::Abort, Self::Reset];

    pub(super) fn is_graceful(self) -> bool {
        matches!(self, Self::Close | Self::CloseWithin)
    }

    fn call(self, transport: &Transport) {
        match self {
            Self::Close => transport.close(),
            // A deadline that is not reached, and must not stay behind.
            Self::CloseWithin => transport.close_within(Duration::from_secs(3600)),
            Self::Abort => transport.abort(),
            Self::Reset => transport.reset(),
        }
    }
}

/// The states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    JustMade,
    InConnectionMade,
    InDataReceived,
    InEofReceived,
    InPauseWriting,
    InResumeWriting,
    InConnectionLost,
    PausedForWriting,
    Buffered,
    ReadingPaused,
    AfterWriteEof,
    AfterEofKeptOpen,
    Closing,
    ClosingAndClogged,
    Aborted,
    Lost,
}

impl State {
    /// Something is written just before the connection is ended.
    pub(super) fn writes(self) -> bool {
        matches!(
            self,
            Self::InConnectionMade | Self::InDataReceived | Self::InEofReceived | Self::Buffered
        )
    }

    pub(super) fn is_clogged(self) -> bool {
        matches!(
            self,
            Self::InPauseWriting | Self::PausedForWriting | Self::ClosingAndClogged
        )
    }

    /// The connection's end was decided before.
    pub(super) fn is_ended(self) -> bool {
        matches!(self, Self::Aborted | Self::Lost | Self::InConnectionLost)
    }

    pub(super) fn reason(self, ending: Ending) -> &'static str {
        match self {
            _ if self.is_ended() => "local-abort",
            Self::InEofReceived | Self::AfterEofKeptOpen if ending.is_graceful() => "peer-eof",
            // There was nothing left to cut short.
            Self::Closing if ending != Ending::Reset => "local-close",
            _ if ending.is_graceful() => "local-close",
            _ => "local-abort",
        }
    }
}

/// The observations around the call that ended the connection.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) seen_before: usize,
    pub(super) seen_after: usize,
    pub(super) buffered: u64,
    pub(super) was_paused: bool,
    pub(super) was_lost: bool,
    pub(super) closed_before: Option<String>,
    pub(super) is_closing: bool,
    /// The result of a write after it, and whether the write was counted.
    pub(super) refusal: &'static str,
    pub(super) counted: bool,
    pub(super) flush_target: u64,
    pub(super) drain: Answer<()>,
    pub(super) flush: Answer<()>,
    pub(super) ended: Answer<Closed>,
}

pub(super) fn end_and_observe(
    state: State,
    ending: Ending,
    endpoint: &Endpoint,
    transport: &Transport,
) -> Observed {
    if state.writes() {
        // A refusal shows in the bytes that the peer gets.
        let _ = put(transport, 700);
    }
    let hour = Duration::from_secs(3600);
    transport.call_later(hour, |_: &mut Recorder, _| Ok(()));
    let was_lost = endpoint.is_lost();
    let buffered = transport.write_buffer_size() as u64;
    let was_paused = transport.flow().is_paused();
    let closed_before = transport.closed().map(|closed| closed.to_string());
    let flush_target = transport.written();
    let drain = Answer::of(transport.drain());
    let flush = Answer::of(transport.flush());
    let ended = Answer::of(transport.wait_closed());
    let seen_before = endpoint.log().seen().len();
    ending.call(transport);
    let seen_after = endpoint.log().seen().len();
    let is_closing = transport.is_closing();
    let written = transport.written();
    let refusal = match put(transport, 1) {
        Ok(_) => "taken",
        Err(WriteError::Closing { .. }) => "Closing",
        Err(WriteError::Closed { .. }) => "Closed",
        Err(_) => "another error",
    };
    Observed {
        seen_before,
        seen_after,
        buffered,
        was_paused,
        was_lost,
        closed_before,
        is_closing,
        refusal,
        counted: transport.written() != written,
        flush_target,
        drain,
        flush,
        ended,
    }
}

/// Ends the connection once, within the callback that the state names.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) state: State,
    pub(super) ending: Ending,
    pub(super) endpoint: Endpoint,
    pub(super) observed: Rc<RefCell<Option<Observed>>>,
}

impl Hook {
    fn run(&self, transport: &Transport) {
        if self.observed.borrow().is_some() {
            return;
        }
        let observed = end_and_observe(self.state, self.ending, &self.endpoint, transport);
        self.observed.replace(Some(observed));
    }

    pub(super) fn plan(&self, it: Recorder) -> Recorder {
        let hook = self.clone();
        match self.state {
            State::InConnectionMade => it.on_made(move |transport| {
                hook.run(transport);
                Ok(())
            }),
            State::InDataReceived => it.on_data(move |transport, _| {
                hook.run(transport);
                Ok(())
            }),
            State::InEofReceived => it.on_eof(move |transport| {
                hook.run(transport);
                Ok(OnEof::Close)
            }),
            State::InPauseWriting => it.on_pause(move |transport| {
                hook.run(transport);
                Ok(OnPause::StopReading)
            }),
            State::InResumeWriting => it.on_resume(move |transport| {
                hook.run(transport);
                Ok(())
            }),
            State::InConnectionLost => it.on_lost(move |transport, _| hook.run(transport)),
            State::AfterEofKeptOpen => it.keep_open(),
            _ => it,
        }
    }
}
