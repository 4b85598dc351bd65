//! Writing what can be checked: each byte tells its place in the stream.

use crate::{Log, Peer, Recorder, pattern};
use bytes::Bytes;
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tidegate::{
    Closed, Completion, EventLoop, Flow, Handle, PanicPolicy, Transport, WriteError, WriteLimits,
};

/// A loop that lets a failed check inside a callback through to the test.
pub fn strict_loop() -> EventLoop {
    let builder = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
    match builder.build() {
        Ok(event_loop) => event_loop,
        Err(error) => panic!("{error}"),
    }
}

/// Limits without a cap.
pub fn limits(high: usize, low: usize) -> WriteLimits {
    WriteLimits::new()
        .with_cap(usize::MAX)
        .with_high(high)
        .with_low(low)
}

/// Limits that never pause.
pub fn no_limits() -> WriteLimits {
    limits(usize::MAX, usize::MAX)
}

/// The ways to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests match it")]
pub enum How {
    /// `write`
    Slice,
    /// `write_owned`
    Owned,
    /// `write_vectored`, in pieces, with an empty one among them
    Vectored,
    /// `write_fmt`
    Format,
}

impl How {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Slice, Self::Owned, Self::Vectored, Self::Format];

    /// Writes the next `len` bytes of [`text`].
    pub fn put(self, transport: &Transport, len: usize) -> Result<Flow, WriteError> {
        let data = text(transport.written(), len);
        match self {
            Self::Slice => transport.write(&data),
            Self::Owned => transport.write_owned(Bytes::from(data)),
            Self::Vectored => {
                let (front, back) = data.split_at(len / 3);
                let pieces = [front, &[], back].map(IoSlice::new);
                transport.write_vectored(&pieces)
            }
            Self::Format => transport.write_fmt(format_args!("{}", Text(&data))),
        }
    }
}

struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.0).map_err(|_| fmt::Error)?)
    }
}

/// As [`pattern`], but text, so that it can be formatted too.
pub fn text(from: u64, len: usize) -> Vec<u8> {
    let mut bytes = pattern(from, len);
    bytes.iter_mut().for_each(|byte| *byte &= 0x7f);
    bytes
}

impl Peer {
    /// Reads all that was written so far, and checks that it is [`text`].
    #[track_caller]
    pub fn expect_text(&mut self, event_loop: &mut EventLoop, transport: &Transport) {
        let written = transport.written() as usize;
        self.expect(event_loop, written);
        assert!(self.received() == text(0, written));
    }
}

/// Writes the next `len` bytes of [`text`].
#[track_caller]
pub fn put(transport: &Transport, len: usize) -> Flow {
    match How::Slice.put(transport, len) {
        Ok(flow) => flow,
        Err(error) => panic!("{error}"),
    }
}

/// Returns the result of a completion, if it is there.
pub fn answer<T>(completion: &mut Completion<T>) -> Option<io::Result<T>> {
    match Future::poll(
        Pin::new(completion),
        &mut Context::from_waker(Waker::noop()),
    ) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// The system calls that wrote, so far.
pub fn writes(handle: &Handle) -> u64 {
    handle.stats().writes
}

/// Runs `call` outside of callbacks, or as one of the transport.
#[track_caller]
pub fn run_in(
    event_loop: &mut EventLoop,
    transport: &Transport,
    inside: bool,
    call: impl FnOnce(&Transport) + 'static,
) {
    if !inside {
        call(transport);
        return;
    }
    let done = Rc::new(Cell::new(false));
    let ran = done.clone();
    transport.call_soon(move |_: &mut Recorder, transport| {
        call(transport);
        ran.set(true);
        Ok(())
    });
    if let Err(error) = event_loop.run_once(Some(Duration::ZERO)) {
        panic!("the loop failed: {error}");
    }
    assert!(done.get());
}

/// Notes the result in the log, when it comes: `NAME: ok`, or how the connection ended.
pub fn note_answer(log: &Log, name: &'static str, completion: Completion<()>) {
    let log = log.clone();
    completion.then(move |_, answer| {
        log.note(match answer.as_ref().map_err(Closed::of) {
            Ok(()) => format!("{name}: ok"),
            Err(Some(closed)) => format!("{name}: {closed}"),
            Err(None) => format!("{name}: {answer:?}"),
        });
    });
}
