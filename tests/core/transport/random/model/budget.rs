//! The write budget of the loop: marks that fall as it fills, and the end of what fills it.

use super::Model;
use tidegate::{Closed, Transport};

/// The maximum number of bytes that a callback gathers.
const GATHERED: u64 = 64 * 1024;

impl Model {
    /// The marks follow what is left, and hold where the kernel refuses: takes the transport's word for
    /// crossings, and checks what holds for all. Returns whether there was a fall.
    pub(crate) fn follow_budget(&mut self, transport: &Transport, rise: bool) -> bool {
        let before = self.falls;
        let is_paused = transport.flow().is_paused();
        while self.crossings < transport.stats().pauses {
            if self.paused {
                self.falls += 1;
            }
            self.cross();
        }
        if self.paused && !is_paused {
            self.paused = false;
            self.falls += 1;
        }
        if self.closed.is_none() {
            let buffered = self.buffered();
            self.expect(!is_paused || buffered > 0, "an empty buffer is not paused");
            self.expect(
                is_paused || buffered <= self.high,
                "above high it is paused",
            );
            let left = self.left(buffered);
            let low = match left < self.high {
                true => self.low.min(left / 4),
                false => self.low,
            };
            if self.wire.is_plain() && is_paused {
                self.expect(buffered > low, "paused until at the low mark in force");
            } else if self.wire.is_plain() && self.falls > before && !rise {
                self.expect(buffered <= low, "resumed at the low mark in force");
            }
        }
        self.falls > before
    }

    /// Returns the rest of three quarters of the budget for this connection, the only one.
    fn left(&self, buffered: u64) -> u64 {
        let budget = self.budget.unwrap_or(u64::MAX);
        (budget - budget.div_ceil(4)).saturating_sub(buffered)
    }

    /// Whether the loop, at its end, had its budget in its buffers.
    pub(crate) fn is_over_budget(&self, closed: &Closed) -> bool {
        let is_full = |budget| closed.unsent() >= budget || !self.wire.is_plain();
        self.budget.is_some_and(is_full)
    }

    /// Compares the account of the loop with the buffer of the connection, outside of callbacks.
    pub(crate) fn check_account(&mut self, transport: &Transport, account: u64) {
        let size = transport.write_buffer_size() as u64;
        let is_sum = if self.wire.is_plain() || size == 0 && self.lost.is_some() {
            account == size
        } else {
            account >= size
        };
        self.expect(is_sum, "the account is the sum of the buffers");
        if let Some(budget) = self.budget.filter(|_| self.wire.is_plain()) {
            let most = budget + self.largest.max(GATHERED);
            self.expect(account < most, "no more than the budget and one write");
        }
    }

    /// The loop has nothing to do: the kernel refuses what is buffered.
    pub(crate) fn check_settled_budget(&mut self, transport: &Transport) {
        let buffered = self.buffered();
        let is_open = !transport.flow().is_paused() && !self.is_ended();
        if self.budget.is_some() && is_open {
            let fits = buffered <= self.left(buffered);
            self.expect(fits, "paused above what is left");
        }
    }
}
