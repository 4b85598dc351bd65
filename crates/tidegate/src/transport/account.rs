//! The part of a connection in the account of its loop: the bytes in its write buffer, and the output of
//! its layers.
//!
//! Every change of the buffer's length changes the account: [`queue`](mod@super::write) adds,
//! [`send`](super::flush) and the end take away. The output of layers is counted anew after each call of
//! theirs. A connection that has ended, or cannot write any more, counts nothing.
//!
//! With a budget, marks are lower where the kernel refuses bytes and little is left. At the budget the
//! connection that holds the most ends, whichever writes.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::CloseReason;
use crate::event_loop::Core;
use crate::flow::Watermarks;

impl Transport {
    /// Bytes were queued; the account had `before` until then. Ends connections as long as the budget was
    /// used up by these. Returns whether this connection is one of them.
    #[inline]
    pub(super) fn keep_to_budget(&self, before: u64) -> bool {
        self.core().account.is_limited() && self.end_largest(before)
    }

    /// As [`keep_to_budget`](Self::keep_to_budget), for bytes that no write tells of; the flow follows.
    pub(super) fn note_queued(&self, before: u64) {
        if !self.keep_to_budget(before) {
            self.update_flow();
        }
    }

    #[cold]
    fn end_largest(&self, before: u64) -> bool {
        let core = self.core();
        let added = core.account.used().saturating_sub(before);
        if added == 0 {
            return false;
        }
        // Asked first, for most writes: the walk is only for those beyond the budget.
        while core.account.is_full_without(added)
            && let (Some(largest), leaving) = core.largest_account()
            && core.account.is_full_without(added + leaving)
        {
            largest.end(CloseReason::Memory);
        }
        self.conn().is(State::ENDED)
    }

    /// The number of bytes that end with the connection, if it can be ended for them; in the account or on
    /// their way there.
    fn held(&self) -> u64 {
        let conn = self.conn();
        if conn.counts() {
            conn.buffered() + conn.counted_output() as u64
        } else {
            0
        }
    }
}

impl Core {
    /// Returns the connection that holds the most, and the number of bytes of those that end when code
    /// of their layers has returned. A walk over all connections.
    fn largest_account(&self) -> (Option<Transport>, u64) {
        #[cfg(test)]
        self.account.walks.set(self.account.walks.get() + 1);
        let registry = self.registry.borrow();
        let (mut largest, mut most, mut leaving) = (None, 0, 0);
        for transport in registry.connections() {
            let held = transport.held();
            if transport.conn().is(State::END_NOTED) {
                leaving += held;
            } else if held > most {
                (largest, most) = (Some(transport), held);
            }
        }
        (largest.cloned(), leaving)
    }

    /// Checks that the account is the sum over all connections.
    pub(crate) fn check_account(&self) {
        let registry = self.registry.borrow();
        let mut sum = 0;
        for transport in registry.connections() {
            let conn = transport.conn();
            if conn.is(State::IN_LAYER) {
                // Its buffer and its socket may be out of their places.
                return;
            }
            sum += conn
                .queue
                .with(|queue| queue.as_ref().map_or(0, |it| it.len()));
            sum += conn.output();
            #[cfg(feature = "splice")]
            {
                sum += conn.piped();
            }
        }
        debug_assert_eq!(self.account.used(), sum as u64, "the account is the sum");
    }
}

impl Conn {
    /// Returns the marks in force: those of the connection, or lower ones where the loop has less left.
    pub(super) fn marks_in_force(&self) -> Watermarks {
        let marks = self.marks.get();
        match self.core().account.left() {
            // The kernel has not refused anything: what is buffered goes out next.
            Some(_) if self.is(State::WRITABLE) && !self.is(State::PAUSED) => marks,
            Some(left) => marks.within(left),
            None => marks,
        }
    }

    /// Returns whether `len` more bytes would not pause if the kernel refused them. Those that would are
    /// offered to it at once: a callback must not fill the budget with what the kernel has room for.
    pub(super) fn fits_into_budget(&self, len: usize) -> bool {
        let Some(left) = self.core().account.left() else {
            return true;
        };
        let marks = self.marks.get().within(left);
        !marks.above_high(self.buffered() + len as u64)
    }

    /// Whether its bytes count: they may still be sent.
    fn counts(&self) -> bool {
        !self.is(State::WRITE_FAILED | State::ENDED | State::LOST_CALLED)
    }

    /// The number of bytes that layers have put out and the kernel has not taken.
    fn output(&self) -> usize {
        if !self.counts() || !self.is(State::LAYERED) {
            return 0;
        }
        self.layered(|layered| layered.waiting_output())
            .unwrap_or_default()
    }

    fn counted_output(&self) -> usize {
        if !self.is(State::OUTPUT_COUNTED) {
            return 0;
        }
        self.if_layers(|layers| layers.counted).unwrap_or_default()
    }

    /// Counts the output of layers anew.
    pub(super) fn count_output(&self) {
        self.replace_output(self.output());
    }

    /// The connection ends, or writing does: its output does not count any more.
    pub(super) fn uncount_output(&self) {
        self.replace_output(0);
    }

    fn replace_output(&self, output: usize) {
        let account = &self.core().account;
        account.take(self.counted_output());
        account.add(output);
        if output == 0 {
            self.clear(State::OUTPUT_COUNTED);
        } else {
            self.with_layers(|layers| layers.counted = output);
            self.set(State::OUTPUT_COUNTED);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{EventLoop, Protocol};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    struct Silent;

    impl Protocol for Silent {}

    #[test]
    fn below_the_budget_no_write_walks_over_the_connections() {
        const PIECE: usize = 16 << 10;
        let mut event_loop = EventLoop::builder()
            .write_budget(64 * PIECE)
            .build()
            .unwrap();
        let (ours, _peer) = UnixStream::pair().unwrap();
        let transport = event_loop.handle().adopt(ours, Silent).unwrap();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let walks = |event_loop: &EventLoop| event_loop.handle().core().account.walks.get();
        while transport.write_buffer_size() < 60 * PIECE {
            transport.write(&[1; PIECE]).unwrap();
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert_eq!(walks(&event_loop), 0);
        for _ in 0..8 {
            // The last of these end it.
            let _ = transport.write(&[1; PIECE]);
        }
        assert!(transport.closed().is_some());
        assert!(walks(&event_loop) > 0);
    }
}
