//! What must be true of a transport, whatever was done to it: a few numbers and flags, compared
//! with the transport at every step.
//!
//! What the kernel takes, and when, is its own affair: the model follows `sent` and checks what
//! the library makes of it.

use crate::ops::{How, Plan, Script, What};
use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tests::{Log, Peer, pattern};
use tidegate::{CloseReason, Closed, Completion, OnPause, Transport, WriteError};

/// No more is written than this in a case.
const OURS: usize = 16 << 20;
const THEIRS: usize = 8 << 20;

/// What an enqueued chunk may count against the cap beside its bytes; an upper bound.
pub(crate) const CHUNK_COST: u64 = 64;

/// What we write, by its place in the stream.
pub(crate) fn ours(from: u64, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| pattern(0, OURS));
    let from = (from as usize).min(OURS);
    &table[from..(from + len).min(OURS)]
}

/// What the peer writes.
pub(crate) fn theirs(from: usize, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| pattern(1 << 40, THEIRS));
    let from = from.min(THEIRS);
    &table[from..(from + len).min(THEIRS)]
}

#[derive(Debug)]
pub(crate) struct Waiter {
    what: What,
    how: How,
    since: Instant,
    /// Of `flush`: what `sent` must reach.
    target: u64,
    /// Of `drain`: it was not paused, or else the falls so far.
    open: bool,
    falls: u32,
    sure_falls: u32,
    answers: u32,
}

/// A completion that a case keeps; dropped later, or asked at the end.
#[derive(Debug)]
pub(crate) enum Kept {
    Unit(usize, Completion<()>),
    Closed(usize, Completion<Closed>),
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) trace: Vec<String>,
    pub(crate) trace_is_over: bool,
    pub(crate) violations: Vec<String>,
    pub(crate) scripts: VecDeque<Script>,
    /// The case is over: callbacks do nothing more.
    pub(crate) finale: bool,
    pub(crate) turn: u32,

    // Writing.
    pub(crate) written: u64,
    pub(crate) sent: u64,
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) cap: u64,
    pub(crate) eof_asked: bool,
    paused: bool,
    crossings: u32,
    /// Falls to the low-water mark, and those seen before the connection had its `Closed`.
    falls: u32,
    sure_falls: u32,
    /// At least as many as are queued.
    pub(crate) chunks: u64,

    // The protocols; the last one to be switched in is current.
    pub(crate) logs: Vec<Log>,
    current: usize,
    /// The one that `set_protocol` brought, with its unread bytes.
    pub(crate) next: Option<(usize, Vec<u8>)>,
    /// It was brought within a callback, whose return puts it in its place.
    next_is_due: bool,
    made: bool,
    /// The current one was told to pause, and has not been told to resume.
    told: bool,
    stopped: bool,
    /// Switched in while paused, and not told yet.
    untold: bool,
    may_pause: bool,
    must_pause: bool,
    resumed_in: Option<u32>,
    eof_told: bool,
    eof_kept: bool,

    // Reading.
    pub(crate) reading_paused: bool,
    /// Unread bytes to be delivered before those from the kernel.
    pub(crate) front: Vec<u8>,
    /// Bytes from the kernel so far.
    pub(crate) received: usize,

    // The peer.
    pub(crate) peer: Option<Peer>,
    pub(crate) peer_sent: usize,
    pub(crate) peer_eof: bool,
    pub(crate) peer_gone: bool,
    /// A write of the peer failed: the kernel has told the reset, and will say eof now.
    peer_failed: bool,
    peer_checked: usize,

    // The end.
    pub(crate) closing: bool,
    eof_delivered: bool,
    eof_first: bool,
    pub(crate) aborted: bool,
    pub(crate) timed: bool,
    callback_failed: bool,
    pub(crate) shut_down: bool,
    closed: Option<Closed>,
    closing_when_fixed: bool,
    pub(crate) lost: Option<Instant>,

    pub(crate) waiters: Vec<Waiter>,
    pub(crate) kept: Vec<Kept>,
}

impl Model {
    pub(crate) fn new(plan: &Plan, log: &Log) -> Self {
        Self {
            trace: Vec::new(),
            trace_is_over: false,
            violations: Vec::new(),
            scripts: plan.scripts.iter().cloned().collect(),
            finale: false,
            turn: 0,
            written: 0,
            sent: 0,
            high: 64 * 1024,
            low: 16 * 1024,
            cap: 64 << 20,
            eof_asked: false,
            paused: false,
            crossings: 0,
            falls: 0,
            sure_falls: 0,
            chunks: 0,
            logs: vec![log.clone()],
            current: 0,
            next: None,
            next_is_due: false,
            made: false,
            told: false,
            stopped: false,
            untold: false,
            may_pause: false,
            must_pause: false,
            resumed_in: None,
            eof_told: false,
            eof_kept: false,
            reading_paused: false,
            front: Vec::new(),
            received: 0,
            peer: None,
            peer_sent: 0,
            peer_eof: false,
            peer_gone: false,
            peer_failed: false,
            peer_checked: 0,
            closing: false,
            eof_delivered: false,
            eof_first: false,
            aborted: false,
            timed: false,
            callback_failed: false,
            shut_down: false,
            closed: None,
            closing_when_fixed: false,
            lost: None,
            waiters: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Adds a line to what a failure shows.
    pub(crate) fn note(&mut self, line: String) {
        if !self.trace_is_over {
            self.trace.push(line);
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, holds: bool, rule: &str) {
        if !holds && self.violations.len() < 5 {
            let place = std::panic::Location::caller();
            let text = format!("{rule} ({place})");
            self.note(format!("!! {text}"));
            self.violations.push(text);
        }
    }

    pub(crate) fn buffered(&self) -> u64 {
        self.written - self.sent
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.closing || self.closed.is_some()
    }

    // Writing.

    /// Compares the transport's numbers with ours, after anything that only sends.
    pub(crate) fn observe(&mut self, transport: &Transport) {
        self.follow(transport, false);
    }

    /// As [`observe`](Model::observe), after a write or new limits.
    pub(crate) fn observe_rise(&mut self, transport: &Transport) {
        self.follow(transport, true);
    }

    fn follow(&mut self, transport: &Transport, rise: bool) {
        let sent = transport.sent();
        self.expect(transport.written() == self.written, "what was written");
        self.expect(self.sent <= sent && sent <= self.written, "what was sent");
        self.sent = sent.min(self.written);
        let buffered = self.buffered();
        if buffered == 0 {
            self.chunks = 0;
        }
        self.follow_end(transport);
        let fell = self.paused && buffered <= self.low;
        if fell {
            self.paused = false;
            self.falls += 1;
        }
        if let Some(closed) = &self.closed {
            let adds_up = closed.unsent() == buffered;
            self.expect(adds_up, "sent + unsent == written");
            self.expect(
                transport.write_buffer_size() == 0,
                "nothing waits at the end",
            );
            return;
        }
        if fell {
            self.sure_falls += 1;
        }
        if rise && !self.paused && buffered > self.high {
            self.cross();
        }
        let size = transport.write_buffer_size() as u64;
        self.expect(size == buffered, "write_buffer_size == written - sent");
        let flow = transport.flow().is_paused();
        self.expect(flow == self.paused, "paused above high until at low");
        let pauses = transport.stats().pauses;
        self.expect(pauses == self.crossings, "one pause for a crossing");
    }

    fn cross(&mut self) {
        self.paused = true;
        self.crossings += 1;
        self.may_pause = !self.told;
        self.must_pause = !self.told;
    }

    /// At the cap, what is buffered is offered before the write is refused: the buffer may fall
    /// to the low-water mark and then rise again within one call.
    pub(crate) fn fell_and_rose(&mut self, transport: &Transport, before: u64) {
        let sent_at_most = transport.sent() - self.sent;
        if self.paused
            && before.saturating_sub(sent_at_most) <= self.low
            && transport.stats().pauses == self.crossings + 1
        {
            self.falls += 1;
            self.sure_falls += 1;
            self.cross();
        }
    }

    fn follow_end(&mut self, transport: &Transport) {
        let by_itself = self.eof_kept && self.eof_asked && self.buffered() == 0;
        let closed = transport.closed();
        let clean = closed.as_ref().is_none_or(Closed::is_clean);
        if transport.is_closing() && !self.is_ended() && clean && by_itself {
            self.begin_close();
        }
        match (&self.closed, &closed) {
            (Some(before), now) => {
                let same = now.as_ref().is_some_and(|now| same(before, now));
                self.expect(same, "one Closed for all");
            }
            (None, Some(now)) => {
                self.note(format!("   {now}"));
                self.closing_when_fixed = self.closing;
                self.closed = Some(now.clone());
                self.check_reason(&now.clone());
            }
            (None, None) => {
                let due = self.aborted || self.callback_failed;
                self.expect(!due, "an abort and an error end it at once");
            }
        }
        let ended = self.is_ended();
        self.expect(transport.is_closing() == ended, "is_closing");
        if ended || self.reading_paused {
            let stopped = !transport.is_reading() || (!self.closing && closed.is_some());
            self.expect(stopped || self.is_write_dead(), "is_reading");
        }
    }

    fn check_reason(&mut self, closed: &Closed) {
        let first = !self.closing || closed.unsent() > 0;
        let possible = match closed.reason() {
            CloseReason::LocalClose => self.closing && !self.eof_first && closed.unsent() == 0,
            CloseReason::PeerEof => self.closing && self.eof_first && closed.unsent() == 0,
            CloseReason::LocalAbort => first && self.aborted,
            CloseReason::Timeout(_) => first && self.timed,
            CloseReason::Callback(_) => first && self.callback_failed,
            CloseReason::Io(_) => first && self.peer_gone,
            CloseReason::Shutdown => first && self.shut_down,
            _ => false,
        };
        self.expect(possible, "the reason is one that has happened");
    }

    /// Writing has failed; reading may go on.
    fn is_write_dead(&self) -> bool {
        self.closed.is_some() && !self.aborted && !self.closing && !self.callback_failed
    }

    pub(crate) fn abort(&mut self) {
        self.aborted |= self.lost.is_none();
    }

    pub(crate) fn begin_close(&mut self) {
        if self.is_write_dead() {
            self.aborted = true;
        } else if self.closed.is_none() && !self.closing {
            self.closing = true;
            self.eof_first = self.eof_delivered;
        }
    }

    // Callbacks.

    /// A callback begins, for the protocol of this index.
    pub(crate) fn enter(&mut self, transport: &Transport, index: usize, name: &str) {
        self.note(format!("   {name} of protocol {index}"));
        if self.next.as_ref().is_some_and(|(next, _)| *next == index) {
            self.switch();
        }
        self.observe(transport);
        self.expect(index == self.current, "callbacks go to the newest protocol");
        let early = name == "connection_made";
        self.expect(self.next.is_none() || early, "the switch comes first");
        self.expect(self.made != early, "connection_made is the first callback");
        self.expect(self.lost.is_none(), "connection_lost is the last callback");
        self.made = true;
    }

    /// As `enter`, for a closure: it is for whatever protocol is there.
    pub(crate) fn enter_any(&mut self, transport: &Transport) {
        if self.next.is_some() {
            self.switch();
        }
        let index = self.current;
        self.enter(transport, index, "a closure");
    }

    /// The protocol that `set_protocol` brought is in its place.
    pub(crate) fn switch(&mut self) {
        if let Some((index, mut unread)) = self.next.take_if(|_| self.made) {
            self.current = index;
            self.next_is_due = false;
            unread.append(&mut self.front);
            self.front = unread;
            self.told = false;
            self.stopped = false;
            self.untold = self.paused;
            // A pause that came and went untold may be told to the new one.
            self.may_pause |= self.paused;
            self.must_pause = self.paused;
            self.eof_told = false;
            self.eof_kept = false;
        }
    }

    /// After a turn of the loop: what was switched out was dropped in it.
    pub(crate) fn after_turn(&mut self, transport: &Transport) {
        if self.next.is_some() && self.logs[self.current].dropped() > 0 {
            self.switch();
        }
        self.observe(transport);
    }

    /// A closure that is no callback of the protocol begins.
    pub(crate) fn enter_outside(&mut self, transport: &Transport) {
        if self.next_is_due {
            self.switch();
        }
        self.observe(transport);
    }

    /// Adds what one more `set_protocol` brings.
    pub(crate) fn set_next(&mut self, index: usize, unread: &[u8], within_callback: bool) {
        match &mut self.next {
            Some((next, before)) if within_callback && self.next_is_due => {
                *next = index;
                before.extend_from_slice(unread);
            }
            next => {
                if let Some((_, mut before)) = next.replace((index, unread.to_vec())) {
                    before.append(&mut self.front);
                    self.front = before;
                }
            }
        }
        self.next_is_due = within_callback;
    }

    /// Something is delivered from the peer.
    pub(crate) fn check_reading(&mut self) {
        self.expect(!self.reading_paused, "no read while paused");
        let held = self.told && self.stopped && self.closed.is_none();
        self.expect(!held, "no read while held");
        let untold = self.untold && self.paused && self.closed.is_none();
        self.expect(!untold, "a new protocol is told of the pause first");
        let over = self.closing || self.aborted || self.callback_failed;
        self.expect(!over, "nothing but connection_lost after the end");
        self.expect(!self.eof_told, "no data after eof");
    }

    pub(crate) fn data(&mut self, data: &[u8]) {
        self.check_reading();
        if self.front.is_empty() {
            let expected = theirs(self.received, data.len());
            self.received += data.len();
            self.expect(self.received <= self.peer_sent, "no more than was sent");
            self.expect(data == expected, "the peer's bytes come in order");
        } else {
            let fits = self.front.starts_with(data);
            self.expect(fits, "unread bytes come first, in order");
            self.front.drain(..data.len().min(self.front.len()));
        }
    }

    pub(crate) fn eof(&mut self, keeps: bool) {
        self.check_reading();
        self.expect(self.closed.is_none(), "no eof after an error");
        self.expect(self.peer_eof || self.peer_gone, "eof when the peer ended");
        let all = self.received == self.peer_sent && self.front.is_empty();
        self.expect(all, "eof comes after all bytes");
        self.eof_told = true;
        self.eof_delivered = true;
        // Counts when the callback has returned without an error.
        self.eof_kept = keeps;
    }

    pub(crate) fn pause(&mut self, answer: OnPause) {
        self.expect(!self.is_ended(), "no pause at the end");
        self.expect(self.may_pause, "a pause comes with a crossing");
        let second = self.resumed_in == Some(self.turn);
        self.expect(!second, "one round of pause and resume in a turn");
        self.may_pause = false;
        self.must_pause = false;
        self.untold = false;
        self.told = true;
        self.stopped = answer == OnPause::StopReading;
    }

    pub(crate) fn resume(&mut self, transport: &Transport) {
        self.expect(!self.is_ended(), "no resume at the end");
        self.expect(self.told, "a resume comes after a pause");
        let open = !transport.flow().is_paused();
        self.expect(open, "a resume comes when the transport is open");
        self.told = false;
        self.stopped = false;
        self.resumed_in = Some(self.turn);
    }

    pub(crate) fn lose(&mut self, transport: &Transport, closed: &Closed) {
        let same = transport.closed().is_some_and(|fixed| same(&fixed, closed));
        self.expect(same, "connection_lost gets the Closed");
        self.lost = Some(Instant::now());
    }

    /// A callback returns this error.
    pub(crate) fn fails(&mut self, transport: &Transport, error: Option<&WriteError>) {
        let own_ending = matches!(
            error,
            Some(WriteError::Closing { .. } | WriteError::Closed { .. })
        );
        let ignored = own_ending && transport.is_closing();
        if !ignored && self.lost.is_none() {
            self.callback_failed = true;
        }
        self.eof_kept = false;
    }

    // Waiters.

    pub(crate) fn add_waiter(&mut self, what: What, how: How) -> usize {
        self.waiters.push(Waiter {
            what,
            how,
            since: Instant::now(),
            target: self.written,
            open: !self.paused && self.closed.is_none(),
            falls: self.falls,
            sure_falls: self.sure_falls,
            answers: 0,
        });
        self.waiters.len() - 1
    }

    pub(crate) fn answered(
        &mut self,
        transport: &Transport,
        index: usize,
        answer: io::Result<Option<Closed>>,
    ) {
        self.observe(transport);
        self.note(format!("   waiter {index}: {answer:?}"));
        let waiter = &mut self.waiters[index];
        waiter.answers += 1;
        let once = waiter.answers == 1;
        let closed = answer.as_ref().err().and_then(Closed::of);
        let holds = match (waiter.what, &answer, &closed) {
            (_, Err(error), None) => {
                let limit = match waiter.how {
                    How::ThenWithin(limit) => Duration::from_millis(limit),
                    _ => Duration::MAX,
                };
                error.kind() == io::ErrorKind::TimedOut && waiter.since.elapsed() >= limit
            }
            (What::Flush, Ok(_), _) => self.sent >= waiter.target,
            (What::Drain, Ok(_), _) => waiter.open || self.falls > waiter.falls,
            (What::Closed, Ok(told), _) => match (told, &self.closed) {
                (Some(told), Some(fixed)) => self.lost.is_some() && same(told, fixed),
                _ => false,
            },
            (What::Closed, Err(_), Some(_)) => false,
            (what, Err(_), Some(told)) => {
                let fixed = self.closed.as_ref();
                let lost = match what {
                    What::Flush => self.sent < waiter.target,
                    _ => !waiter.open && self.sure_falls == waiter.sure_falls,
                };
                lost && fixed.is_some_and(|fixed| same(told, fixed))
            }
        };
        self.expect(once, "a waiter is answered once");
        self.expect(holds, "a waiter's answer is true");
    }

    /// The loop has nothing to do: all that is owed has come.
    pub(crate) fn check_settled(&mut self, transport: &Transport) {
        self.observe(transport);
        if !self.is_ended() {
            self.expect(self.next.is_none(), "the switch was made");
            self.expect(!self.must_pause, "the pause was told");
            self.expect(self.told == self.paused, "pause and resume were told");
            let done = self.eof_kept && self.eof_asked && self.buffered() == 0;
            self.expect(!done, "both sides are done: it closes");
        }
        let dead = self.closed.is_some() && !self.is_write_dead();
        self.expect(!dead || self.lost.is_some(), "connection_lost came");
        for index in 0..self.waiters.len() {
            let waiter = &self.waiters[index];
            let due = match waiter.what {
                What::Drain => !self.paused || self.closed.is_some(),
                What::Flush => self.sent >= waiter.target || self.closed.is_some(),
                What::Closed => self.lost.is_some(),
            };
            let answered = waiter.answers == 1;
            let holds = waiter.how != How::Then || answered || !due;
            self.expect(holds, "whoever can be answered was answered");
        }
    }

    /// Whether all that both sides wrote has arrived.
    pub(crate) fn is_through(&self) -> bool {
        let peer = self.peer.as_ref().map_or(0, |peer| peer.received().len());
        peer as u64 == self.written
            && self.buffered() == 0
            && self.front.is_empty()
            && self.received == self.peer_sent
    }

    // The peer.

    pub(crate) fn peer_read(&mut self, transport: &Transport, most: usize) {
        let Some(mut peer) = self.peer.take().filter(|_| !self.peer_gone) else {
            return;
        };
        if most == usize::MAX {
            peer.read_available();
        } else {
            peer.read_some(most);
        }
        self.observe(transport);
        let new = &peer.received()[self.peer_checked..];
        let same = new == ours(self.peer_checked as u64, new.len());
        self.expect(same, "the peer gets what was written, in order");
        self.peer_checked = peer.received().len();
        let got = self.peer_checked as u64;
        self.expect(got <= self.sent, "the peer gets no more than was sent");
        if peer.saw_eof() && !self.peer_failed {
            self.expect(got == self.sent, "the peer's eof comes after all bytes");
            let ours = self.eof_asked || self.is_ended();
            self.expect(ours, "the peer's eof comes from our end");
        }
        if peer.saw_error().is_some() {
            let gentle = self.is_gentle();
            self.expect(!gentle, "a graceful close is no reset for the peer");
        }
        self.peer = Some(peer);
    }

    /// A write of the peer failed.
    pub(crate) fn peer_write_failed(&mut self) {
        let gentle = self.is_gentle();
        self.expect(
            !gentle,
            "a peer can write until the end, and a while after a close",
        );
        self.peer_failed = true;
    }

    /// Whether we have done nothing to be answered with a reset. After a graceful close the loop
    /// waits for the peer for a second, not for ever.
    fn is_gentle(&self) -> bool {
        let hard = self.aborted || self.timed || self.callback_failed || self.shut_down;
        let late = self
            .lost
            .is_some_and(|lost| lost.elapsed() > Duration::from_millis(800));
        !(hard || late || self.peer_gone)
    }

    /// After the end: the peer has read all there was.
    pub(crate) fn check_peer_end(&mut self) {
        let clean = self.closed.as_ref().is_some_and(Closed::is_clean);
        if let Some(peer) = &self.peer
            && clean
            && self.is_gentle()
        {
            let all = peer.received().len() as u64 == self.written && peer.saw_eof();
            self.expect(all, "after a clean end the peer has it all");
        }
    }

    /// After all: every waiter that was not dropped had its answer.
    pub(crate) fn check_waiters(&mut self) {
        let unanswered = self.waiters.iter().any(|waiter| {
            matches!(waiter.how, How::Then | How::ThenWithin(_) | How::Keep) && waiter.answers != 1
        });
        self.expect(!unanswered, "every waiter was answered");
    }

    /// A completion was dropped: nobody is answered.
    pub(crate) fn forget_waiter(&mut self, index: usize) {
        self.waiters[index].how = How::Drop;
    }
}

fn same(one: &Closed, other: &Closed) -> bool {
    one.to_string() == other.to_string() && one.unsent() == other.unsent()
}
