//! Splicing: when bytes come in bulk, splice(2) moves them.

use super::link::{Link, Side};
use crate::Transport;
use crate::transport::Spliced;
use std::cell::Cell;
use std::rc::Rc;

/// The number of bytes that are bulk when they come at a time. For fewer than some thousand, the calls of a
/// splice take more time than two copies.
const FROM: usize = 16 * 1024;

/// The number of reads in a row that have to bring bulk.
const READS: u8 = 2;

/// Whether the bytes of one side come in bulk, by what the last reads and splices were. Pure.
pub(super) struct Bulk {
    from: Cell<usize>,
    /// The reads in a row that have brought bulk.
    reads: Cell<u8>,
    /// The bytes that came since there were none.
    arrived: Cell<usize>,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            from: Cell::new(FROM),
            reads: Cell::new(0),
            arrived: Cell::new(0),
        }
    }
}

impl Bulk {
    pub(super) fn set_from(&self, bytes: usize) {
        self.from.set(bytes);
    }

    /// Notes a read. Returns whether the next bytes are to be spliced.
    fn read(&self, len: usize) -> bool {
        if len < self.from.get() {
            self.reads.set(0);
            return false;
        }
        self.reads.set(READS.min(self.reads.get() + 1));
        self.arrived.set(len);
        self.reads.get() == READS
    }

    fn spliced(&self, len: usize) {
        self.arrived.set(self.arrived.get().saturating_add(len));
    }

    /// Nothing more is there. Returns whether what comes next is to be spliced too.
    fn emptied(&self) -> bool {
        let goes_on = self.arrived.take() >= self.from.get();
        if !goes_on {
            self.reads.set(0);
        }
        goes_on
    }
}

impl Link {
    /// Notes a read of `side`, whose bytes are passed on next.
    #[inline]
    pub(super) fn note_read(&self, side: Side, transport: &Transport, len: usize) {
        if self.end(side).bulk.read(len) {
            self.begin_to_splice(side, transport);
        }
    }

    /// Both sides stand: has them splice from the first byte on, if that was set.
    pub(super) fn splice_all(&self) {
        for side in Side::BOTH {
            if self.end(side).bulk.from.get() == 0
                && let Some(transport) = self.end(side).transport.get()
            {
                self.begin_to_splice(side, transport);
            }
        }
    }

    #[cold]
    fn begin_to_splice(&self, side: Side, transport: &Transport) {
        let to = self.end(side.other()).transport.get();
        if transport.can_splice() && to.is_some_and(Transport::can_splice) {
            transport.set_spliced(true);
        }
    }

    /// Moves bytes of `side`, which is `transport`, to the other. Returns `false` if they are to be read.
    pub(super) fn splice(self: &Rc<Self>, side: Side, transport: &Transport) -> bool {
        let (from, to) = (self.end(side), self.end(side.other()));
        let Some(other) = to.transport.get().filter(|_| !to.holds() && !to.has_left()) else {
            return false;
        };
        match transport.splice_to(other) {
            Spliced::Bytes(len) => {
                from.bulk.spliced(len);
                from.received.set(from.received.get() + len as u64);
                self.note_progress(transport.handle());
                to.taken.set(to.taken.get() + len as u64);
                to.taken_at.set(Some(transport.handle().now()));
                if other.flow().is_paused() || other.is_closing() {
                    self.steer(side);
                }
            }
            Spliced::Empty => {
                if !from.bulk.emptied() {
                    transport.set_spliced(false);
                }
            }
            Spliced::Ended => {}
            Spliced::Read => return false,
            Spliced::Refused => {
                // Asked again after as many reads.
                from.bulk.reads.set(0);
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spliced_after_two_reads_of_bulk_until_less_comes_at_a_time() {
        let bulk = Bulk::default();
        bulk.set_from(100);
        assert!(!bulk.read(100));
        assert!(!bulk.read(99));
        assert!(!bulk.read(100));
        assert!(bulk.read(100));
        assert!(bulk.emptied(), "the last read was of the same time");
        bulk.spliced(60);
        bulk.spliced(40);
        assert!(bulk.emptied());
        bulk.spliced(99);
        assert!(!bulk.emptied());
        assert!(!bulk.read(100));
        assert!(bulk.read(1000));
    }

    #[test]
    fn all_bytes_are_bulk_from_zero_and_none_from_the_maximum() {
        let bulk = Bulk::default();
        bulk.set_from(0);
        assert!(bulk.emptied());
        assert!(!bulk.read(1));
        assert!(bulk.read(1));
        assert!(bulk.emptied());
        bulk.set_from(usize::MAX);
        assert!(!bulk.read(1 << 40));
        assert!(!bulk.read(1 << 40));
    }
}
