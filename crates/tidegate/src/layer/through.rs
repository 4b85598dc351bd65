//! Which bytes from above are through: below has taken everything that stands for them.
//!
//! Pure. The bytes are counted in the order in which they are written. The first ones are through
//! and not told of, the ones behind them are held: they were encoded, and a part of that waits.

use super::shared::Shared;
use std::collections::VecDeque;

/// Bytes from above, and the end of what stands for them as an offset in the stream below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    end: u64,
    plain: usize,
}

pub(super) type Marks = VecDeque<Mark>;

/// The maximum number of marks. A layer that takes little at a time makes one each time.
const MAX_MARKS: usize = 64;

/// Invariants: the ends of `marks` rise, and lie behind `taken`; `held` is the sum of their bytes.
#[derive(Debug, Default)]
pub(super) struct Through {
    /// Offset in the stream below up to which bytes were taken.
    taken: u64,
    marks: Marks,
    held: usize,
    credit: usize,
}

impl Through {
    /// Returns the number of bytes, not told of yet, that were encoded. They are the first of what
    /// is written next.
    pub(super) fn encoded(&self) -> usize {
        self.credit + self.held
    }

    /// Returns whether there are bytes to tell of.
    pub(super) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Returns whether nothing is held, and all is told.
    pub(super) fn is_settled(&self) -> bool {
        self.encoded() == 0
    }

    /// Returns the number of bytes for below up to the last that stands for bytes from above.
    pub(super) fn waiting(&self) -> usize {
        let last = self.marks.back();
        last.map_or(0, |mark| (mark.end - self.taken) as usize)
    }

    /// Returns whether some of the marks must go before there can be more.
    pub(super) fn is_full(&self) -> bool {
        self.marks.len() >= MAX_MARKS
    }

    /// Notes that `plain` bytes were encoded, with `waiting` bytes for below that it has not taken.
    pub(super) fn encode(&mut self, plain: usize, waiting: usize, shared: &Shared) {
        if waiting == 0 || plain == 0 {
            self.credit += plain;
            return;
        }
        if self.marks.capacity() == 0 {
            self.marks = shared.lend_marks();
        }
        let end = self.taken + waiting as u64;
        self.marks.push_back(Mark { end, plain });
        self.held += plain;
    }

    /// Notes that below took `len` bytes.
    pub(super) fn take(&mut self, len: usize) {
        self.taken += len as u64;
        while let Some(mark) = self.marks.front()
            && mark.end <= self.taken
        {
            self.held -= mark.plain;
            self.credit += mark.plain;
            self.marks.pop_front();
        }
    }

    /// Notes bytes that went by themselves.
    pub(super) fn pass(&mut self, plain: usize) {
        debug_assert!(self.marks.is_empty(), "bytes that overtake others");
        self.credit += plain;
    }

    /// Returns the number of bytes that are through, `most` at most, and forgets them.
    pub(super) fn tell(&mut self, most: usize) -> usize {
        let told = self.credit.min(most);
        self.credit -= told;
        told
    }

    /// Gives back the memory that it does not need.
    #[inline]
    pub(super) fn park(&mut self, shared: &Shared) {
        if self.marks.capacity() > 0 && self.marks.is_empty() {
            shared.take_back_marks(&mut self.marks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn bytes_are_through_with_the_last_byte_that_stands_for_them() {
        let shared = Shared::new(Instant::now);
        let mut through = Through::default();
        through.encode(10, 30, &shared);
        through.encode(5, 50, &shared);
        assert_eq!((through.encoded(), through.tell(100)), (15, 0));
        through.take(29);
        assert_eq!(through.tell(100), 0);
        through.take(1);
        assert_eq!((through.tell(4), through.tell(100)), (4, 6));
        assert_eq!(through.encoded(), 5);
        through.take(20);
        assert!(through.has_credit());
        assert_eq!(through.tell(100), 5);
        assert!(through.is_settled());
    }

    #[test]
    fn bytes_for_which_nothing_stands_are_through_at_once_but_not_before_those_in_front() {
        let shared = Shared::new(Instant::now);
        let mut through = Through::default();
        through.encode(1, 0, &shared);
        assert_eq!(through.tell(9), 1);
        through.encode(2, 7, &shared);
        through.encode(3, 7, &shared);
        assert_eq!(through.tell(9), 0);
        through.take(7);
        assert_eq!(through.tell(9), 5);
    }
}
