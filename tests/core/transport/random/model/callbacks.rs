//! Which callback may come, with what, and to whom.

use super::{Announced, Model, same, theirs};
use crate::transport::random::layers::LayerKind;
use std::time::Instant;
use tidegate::{Closed, OnPause, Transport, WithProtocolError, WriteError};

impl Model {
    /// A callback begins, for the protocol of this index.
    pub(crate) fn enter(&mut self, transport: &Transport, index: usize, name: &str) {
        self.note(format!("   {name} of protocol {index}"));
        self.observe(transport);
        self.expect(index == self.current, "callbacks go to the newest protocol");
        let early = name == "connection_made";
        self.expect(self.next.is_none() || early, "the switch comes first");
        self.expect(self.made != early, "connection_made is the first callback");
        self.expect(self.lost.is_none(), "connection_lost is the last callback");
        self.made = true;
    }

    /// A protocol that waited for `connection_made` takes its place next.
    pub(crate) fn made_has_returned(&mut self) {
        self.next_is_due |= self.next.is_some();
    }

    /// Each old protocol is asked for its leftover, once, when the new one takes its place.
    pub(crate) fn follow_switches(&mut self) {
        while let Some(asked) = self.leftover.take_asked() {
            self.note(format!("   leftover of protocol {asked}"));
            let due = self.made && self.next.is_some();
            let rule = "leftover is asked of the old protocol, when a new one comes";
            self.expect(due && asked == self.current, rule);
            self.switch();
        }
    }

    /// The protocol that `set_protocol` brought is in its place.
    fn switch(&mut self) {
        if let Some((index, mut unread)) = self.next.take() {
            self.current = index;
            self.next_is_due = false;
            self.given_back_in = None;
            self.last.clear();
            unread.append(&mut self.left_over);
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

    /// After a tick of the loop: what was switched out was dropped in it.
    pub(crate) fn after_tick(&mut self, transport: &Transport) {
        self.observe(transport);
        let passed_over = self.made && self.next.is_some() && self.logs[self.current].dropped() > 0;
        self.expect(!passed_over, "an old protocol is asked for its leftover");
        if let Some(rule) = self.alive.wrong() {
            self.expect(false, rule);
        }
    }

    /// A closure that is no callback of the protocol begins.
    pub(crate) fn enter_outside(&mut self, transport: &Transport) {
        self.observe(transport);
        self.expect(
            !self.next_is_due,
            "a callback's switch is made when it has returned",
        );
    }

    /// Checks the results of `with_protocol`, for a protocol and for what it drives.
    pub(crate) fn check_found(
        &mut self,
        found: Result<usize, WithProtocolError>,
        driven: Result<usize, WithProtocolError>,
    ) {
        self.follow_switches();
        self.expect(
            found == driven,
            "with_protocol finds what a protocol drives",
        );
        if let Ok(index) = found {
            self.expect(self.lost.is_none(), "with_protocol finds nobody at the end");
            let newest = index == self.current && (self.next.is_none() || !self.made);
            self.expect(newest, "with_protocol finds the newest protocol");
        }
    }

    /// Returns what the current protocol was given last, in two parts: it has used one, and kept the
    /// other, at most `leftover` bytes.
    pub(crate) fn split_last(&self, leftover: usize) -> (Vec<u8>, Vec<u8>) {
        // A layer that opens would get them.
        let most = if self.wire.is_opening() { 0 } else { leftover };
        let (used, kept) = self.last.split_at(self.last.len().saturating_sub(most));
        (used.to_vec(), kept.to_vec())
    }

    /// Adds what one more `set_protocol` brings, and what the old protocol has kept.
    pub(crate) fn set_next(
        &mut self,
        index: usize,
        unread: &[u8],
        kept: Vec<u8>,
        within_callback: bool,
    ) {
        self.note(format!("   {} unread, {} kept", unread.len(), kept.len()));
        self.leftover.keep(&kept);
        self.left_over = kept;
        match &mut self.next {
            Some((next, before)) if within_callback && self.next_is_due => {
                *next = index;
                let own = self.next_own;
                before.splice(own..own, unread.iter().copied());
                self.next_own += unread.len();
            }
            next => {
                self.next_own = unread.len();
                let before = next.take().map(|(_, before)| before);
                let unread = [unread, &before.unwrap_or_default()].concat();
                *next = Some((index, unread));
            }
        }
        self.next_is_due = within_callback;
    }

    /// Something is delivered from the peer.
    pub(crate) fn check_reading(&mut self) {
        self.expect(!self.reading_paused, "no read while paused");
        self.expect(self.holds.is_empty(), "no read while held by a ReadHold");
        let yields = self.given_back_in != Some(self.tick);
        self.expect(yields, "bytes given back wait for the next tick");
        // A pause that was over when its callback returned holds nothing, though its resume may
        // wait for the next tick; a new crossing until then does.
        let held = self.told && self.stopped && self.paused && self.closed.is_none();
        self.expect(!held, "no read while held");
        let untold = self.untold && self.paused && self.closed.is_none();
        self.expect(!untold, "a new protocol is told of the pause first");
        let over = self.closing || self.aborted || self.callback_failed;
        self.expect(!over, "nothing but connection_lost after the end");
        self.expect(!self.eof_told, "no data after eof");
    }

    /// `get_buffer` may have caused a pause that is not told yet.
    pub(crate) fn check_wanted(&mut self, transport: &Transport) {
        let untold = self.paused && !self.told && self.closed.is_none();
        self.expect(transport.wants_input() != untold, "input is wanted");
    }

    pub(crate) fn data(&mut self, data: &[u8]) {
        self.check_reading();
        let mut data = data;
        if self.front.is_empty() {
            if let Some(announced) = &self.announced {
                let before = announced.place - self.received;
                data = &data[..before.min(data.len())];
            }
            let expected = theirs(self.received, data.len());
            self.received += data.len();
            self.expect(self.received <= self.peer_sent, "no more than was sent");
            self.expect(data == expected, "the peer's bytes come in order");
        } else {
            let fits = self.front.starts_with(data);
            self.expect(fits, "unread bytes come first, in order");
            self.front.drain(..data.len().min(self.front.len()));
        }
        self.plain = data.len();
        self.last = data.to_vec();
    }

    /// The peer goes on through a layer from the next of its bytes on. Returns whether we put it on
    /// now: nothing is on its way, and the transport holds nothing for the protocol.
    pub(crate) fn announce(&mut self, kind: LayerKind) -> bool {
        let level = self.wire.add(kind, self.accepted);
        let place = self.peer_sent;
        self.announced = Some(Announced { kind, level, place });
        let brought = self
            .next
            .as_ref()
            .is_some_and(|(_, unread)| !unread.is_empty() || !self.left_over.is_empty());
        self.is_at_announced() && !brought
    }

    /// Whether everything before the announced layer has been received.
    pub(crate) fn is_at_announced(&self) -> bool {
        let announced = self.announced.as_ref();
        self.front.is_empty() && announced.is_some_and(|it| it.place == self.received)
    }

    /// Whether putting a layer on is refused.
    pub(crate) fn refuses_layers(&self) -> bool {
        self.is_ended() || self.eof_asked || self.eof_delivered
    }

    /// Whether bytes may be given back: none come after an EOF, and a layer that opens would get them.
    /// Outside of callbacks nobody sees whether a new protocol has taken its place, and its bytes
    /// theirs.
    pub(crate) fn gives_back(&self) -> bool {
        let has_switched = self.next.is_none() || self.next_is_due;
        (!self.eof_told || self.next.is_some()) && has_switched && !self.wire.is_opening()
    }

    pub(crate) fn give_back(&mut self, bytes: &[u8]) {
        if self.last.ends_with(bytes) {
            self.last.truncate(self.last.len() - bytes.len());
        }
        self.front.splice(..0, bytes.iter().copied());
        self.given_back_in = Some(self.tick);
    }

    pub(crate) fn eof(&mut self, keeps: bool) {
        self.check_reading();
        self.expect(self.closed.is_none(), "no eof after an error");
        let ended = match self.wire.tells_cuts() {
            true => self.wire.is_shut,
            false => self.peer_eof || self.peer_gone,
        };
        self.expect(ended, "eof when the peer ended, and not when it was cut");
        let came = self.received == self.peer_sent || self.wire.is_cut;
        let all = came && self.front.is_empty();
        self.expect(all, "eof comes after all bytes");
        self.eof_told = true;
        self.eof_delivered = true;
        // Counts when the callback has returned without an error.
        self.eof_kept = keeps;
    }

    pub(crate) fn pause(&mut self, answer: OnPause) {
        self.expect(!self.is_ended(), "no pause at the end");
        self.expect(self.may_pause, "a pause comes with a crossing");
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
        let second = self.resumed_in == Some(self.tick);
        self.expect(!second, "one round of pause and resume ends in a tick");
        self.told = false;
        self.stopped = false;
        self.resumed_in = Some(self.tick);
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
}
