//! The rules of a transport, after any operations: a few numbers and flags, compared
//! with the transport at every step.
//!
//! The kernel decides which bytes it takes, and when: the model follows `sent` and checks the
//! library's conclusions.

mod budget;
mod callbacks;
mod peer;
mod waiters;
mod wire;

use crate::transport::random::layers::{Alive, LayerKind};
use crate::transport::random::ops::{Plan, Script};
use crate::transport::random::protocol::Leftover;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Instant;
use support::{Log, Peer, pattern};
use tidegate::{CloseReason, Closed, ReadHold, Transport};

pub(crate) use waiters::{Kept, Waiter};
use wire::Wire;

/// A layer that the peer has already, and that we put on when we have received all before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    pub(crate) kind: LayerKind,
    pub(crate) level: usize,
    /// The number of the peer's bytes before it.
    place: usize,
}

/// No more is written than this in a case.
const OURS: usize = 16 << 20;
const THEIRS: usize = 8 << 20;

/// The maximum cost of an enqueued chunk against the cap, beside its bytes.
pub(crate) const CHUNK_COST: u64 = 128;

/// Returns our bytes, by their place in the stream.
pub(crate) fn ours(from: u64, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| pattern(0, OURS));
    let from = (from as usize).min(OURS);
    &table[from..(from + len).min(OURS)]
}

/// Returns the peer's bytes.
pub(crate) fn theirs(from: usize, len: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| pattern(1 << 40, THEIRS));
    let from = from.min(THEIRS);
    &table[from..(from + len).min(THEIRS)]
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) trace: Vec<String>,
    pub(crate) trace_is_over: bool,
    pub(crate) violations: Vec<String>,
    pub(crate) scripts: VecDeque<Script>,
    pub(crate) resets_when_lost: bool,
    /// The case is over: callbacks do nothing more.
    pub(crate) finale: bool,
    pub(crate) tick: u32,

    // Writing.
    pub(crate) written: u64,
    pub(crate) sent: u64,
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) cap: u64,
    pub(crate) budget: Option<u64>,
    /// The size of the largest write.
    pub(crate) largest: u64,
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
    /// The number of these bytes that came with it.
    next_own: usize,
    /// The bytes that the current one has kept for it.
    left_over: Vec<u8>,
    pub(crate) leftover: Rc<Leftover>,
    /// The data that the current one was given last, without what it gave back.
    last: Vec<u8>,
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
    pub(crate) holds: Vec<ReadHold>,
    /// Unread bytes to be delivered before those from the kernel.
    pub(crate) front: Vec<u8>,
    /// The tick in which the current protocol gave some back.
    given_back_in: Option<u32>,
    /// Bytes from the kernel so far.
    pub(crate) received: usize,

    // The layers.
    pub(crate) alive: Rc<Alive>,
    pub(crate) accepted: bool,
    /// Layers open before `connection_made`.
    has_first_layers: bool,
    pub(crate) announced: Option<Announced>,
    /// The peer's bytes in front of the layer, of those that were received last.
    pub(crate) plain: usize,
    pub(crate) wire: Wire,

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
    /// `reset` was called before the end was fixed.
    reset: bool,
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
            resets_when_lost: plan.resets_when_lost,
            finale: false,
            tick: 0,
            written: 0,
            sent: 0,
            high: 64 * 1024,
            low: 16 * 1024,
            cap: 64 << 20,
            budget: plan.budget.map(|bytes| bytes as u64),
            largest: 0,
            eof_asked: false,
            paused: false,
            crossings: 0,
            falls: 0,
            sure_falls: 0,
            chunks: 0,
            logs: vec![log.clone()],
            current: 0,
            next: None,
            next_own: 0,
            left_over: Vec::new(),
            leftover: Rc::default(),
            last: Vec::new(),
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
            holds: Vec::new(),
            front: Vec::new(),
            given_back_in: None,
            received: 0,
            alive: Rc::default(),
            accepted: plan.accepted,
            has_first_layers: false,
            announced: None,
            plain: 0,
            wire: Wire::default(),
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
            reset: false,
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
        self.follow_switches();
        let sent = transport.sent();
        self.expect(transport.written() == self.written, "what was written");
        self.expect(self.sent <= sent && sent <= self.written, "what was sent");
        self.sent = sent.min(self.written);
        let buffered = self.buffered();
        if buffered == 0 {
            self.chunks = 0;
        }
        self.follow_end(transport);
        if self.is_unmade() && self.lost.is_none() && self.logs[0].dropped() > 0 {
            self.lost = Some(Instant::now());
        }
        let mut fell = self.paused && buffered <= self.low;
        if self.budget.is_some() {
            fell = self.follow_budget(transport, rise);
        } else if fell {
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
        if rise && !self.paused && buffered > self.high && self.budget.is_none() {
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
    /// to the low-water mark and then rise within one call, above the high-water mark again or not.
    pub(crate) fn fell_and_rose(&mut self, transport: &Transport, before: u64) {
        let sent_at_most = transport.sent() - self.sent;
        let rose = transport.stats().pauses == self.crossings + 1;
        if self.paused
            && before.saturating_sub(sent_at_most) <= self.low
            && (rose || !transport.flow().is_paused())
        {
            self.falls += 1;
            self.sure_falls += 1;
            self.paused = false;
            if rose {
                self.cross();
            }
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
                // As after an abort, nothing more comes.
                self.aborted |= *now.reason() == CloseReason::Memory;
            }
            (None, None) => {
                let due = self.aborted || self.callback_failed;
                self.expect(!due, "an abort and an error end it at once");
            }
        }
        let ended = self.is_ended();
        self.expect(transport.is_closing() == ended, "is_closing");
        if ended || self.reading_paused || !self.holds.is_empty() {
            let stopped = !transport.is_reading() || (!self.closing && closed.is_some());
            self.expect(stopped || self.is_write_dead(), "is_reading");
            let unwanted = !transport.wants_input();
            self.expect(unwanted || self.is_write_dead(), "input is not wanted");
        }
    }

    fn check_reason(&mut self, closed: &Closed) {
        // Layers end their streams behind the last byte of the protocol, and that may fail.
        let first = !self.closing || closed.unsent() > 0 || !self.wire.is_plain();
        let closed_whole = self.closing && !self.reset && closed.unsent() == 0;
        let possible = match closed.reason() {
            CloseReason::LocalClose => closed_whole && !self.eof_first,
            CloseReason::PeerEof => closed_whole && self.eof_first,
            CloseReason::LocalAbort => self.reset || (first && self.aborted),
            CloseReason::Timeout(_) => first && self.timed,
            CloseReason::Callback(_) => first && self.callback_failed,
            CloseReason::Io(_) => first && self.peer_gone,
            CloseReason::Memory => first && self.is_over_budget(closed),
            CloseReason::Shutdown => first && self.shut_down,
            _ => false,
        };
        self.expect(possible, "the reason is one that has happened");
    }

    /// A layer is put on. Returns whether `connection_made` waits for it.
    pub(crate) fn opens_first(&mut self) -> bool {
        self.has_first_layers |= !self.made;
        !self.made
    }

    /// Whether it ended before its layers were open: no callback comes.
    pub(crate) fn is_unmade(&self) -> bool {
        self.has_first_layers && !self.made && self.closed.is_some()
    }

    /// Writing has failed; reading may go on.
    fn is_write_dead(&self) -> bool {
        self.closed.is_some() && !self.aborted && !self.closing && !self.callback_failed
    }

    pub(crate) fn abort(&mut self) {
        self.aborted |= self.lost.is_none();
    }

    pub(crate) fn reset(&mut self) {
        self.reset |= self.closed.is_none();
        self.abort();
    }

    pub(crate) fn begin_close(&mut self) {
        if self.is_write_dead() {
            self.aborted = true;
        } else if self.closed.is_none() && !self.closing {
            self.closing = true;
            self.eof_first = self.eof_delivered;
        }
    }
}

fn same(one: &Closed, other: &Closed) -> bool {
    one.to_string() == other.to_string() && one.unsent() == other.unsent()
}
