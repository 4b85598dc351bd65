//! What has arrived and was not read yet, and where a separator ends in it. Pure.

use crate::error::LimitOverrun;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::rc::Rc;

/// An empty buffer that held more than this gives its memory back, so that a connection that is
/// quiet after a burst costs little.
const KEPT: usize = 64 * 1024;

const LEAST_ROOM: usize = 512;

/// So many emptied buffers are kept for the next connections that receive something.
const SPARE: usize = 64;

/// Emptied buffers, of at most `KEPT` bytes: a connection that has nothing to read has no buffer.
/// They are in boxes, to be handed over in one word.
#[derive(Default)]
pub(crate) struct Spare {
    /// The last one that was given, mostly the next one to be taken.
    last: Cell<Option<Box<Held>>>,
    #[expect(clippy::vec_box, reason = "they come in boxes and go in them")]
    others: RefCell<Vec<Box<Held>>>,
}

impl Spare {
    /// One with so much room, if there is one: of some, what was taken may still be in use.
    #[inline]
    fn take(&self, room: usize) -> Option<Box<Held>> {
        let mut last = self.last.take();
        let free = last.take_if(|last| last.bytes.try_reclaim(room));
        if free.is_some() {
            return free;
        }
        self.last.set(last);
        self.take_other(room)
    }

    #[cold]
    fn take_other(&self, room: usize) -> Option<Box<Held>> {
        let mut others = self.others.borrow_mut();
        let mut from_last = others.iter_mut();
        let free = from_last.rposition(|buffer| buffer.bytes.try_reclaim(room))?;
        Some(others.swap_remove(free))
    }

    #[inline]
    fn give(&self, buffer: Option<Box<Held>>) {
        if let Some(before) = self.last.replace(buffer) {
            self.keep(before);
        }
    }

    #[cold]
    fn keep(&self, buffer: Box<Held>) {
        let mut others = self.others.borrow_mut();
        if others.len() < SPARE {
            others.push(buffer);
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Held {
    bytes: BytesMut,
    /// There were more than `KEPT` since it was made.
    large: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    /// `None` while it is empty and its memory is with the spare ones.
    held: Option<Box<Held>>,
    /// Where its memory goes when it is empty; without, it is kept.
    spare: Option<Rc<Spare>>,
}

/// Where a search for a separator has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// What was searched for ends here.
    Found(usize),
    /// Not in what is there; a later search need not look before this.
    Missing(usize),
    Overrun(LimitOverrun),
}

impl ReadBuffer {
    /// Answers how many bytes there are then.
    pub(crate) fn push(&mut self, data: &[u8]) -> usize {
        let held = self.held.get_or_insert_with(|| {
            let spare = self.spare.as_ref().and_then(|spare| spare.take(data.len()));
            spare.unwrap_or_default()
        });
        let bytes = &mut held.bytes;
        if bytes.capacity() - bytes.len() < data.len() {
            // Room for several small pieces: what is taken takes its room along.
            bytes.reserve(data.len().max(LEAST_ROOM));
        }
        bytes.extend_from_slice(data);
        held.large |= bytes.len() > KEPT;
        bytes.len()
    }

    fn bytes(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| &held.bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.len())
    }

    /// Takes the first bytes, at most so many, without copying them.
    #[inline]
    pub(crate) fn take(&mut self, most: usize) -> Bytes {
        let Some(held) = &mut self.held else {
            return Bytes::new();
        };
        let most = most.min(held.bytes.len());
        let taken = held.bytes.split_to(most).freeze();
        if held.bytes.is_empty() {
            self.shrink();
        }
        taken
    }

    /// As [`take`](Self::take), but lends the bytes, to be copied.
    pub(crate) fn give(&mut self, most: usize, copy: impl FnOnce(&[u8])) {
        let Some(held) = &mut self.held else {
            return copy(&[]);
        };
        let most = most.min(held.bytes.len());
        copy(&held.bytes[..most]);
        held.bytes.advance(most);
        if held.bytes.is_empty() {
            self.shrink();
        }
    }

    pub(crate) fn keep_in(&mut self, spare: Rc<Spare>) {
        self.spare = Some(spare);
    }

    /// It is empty.
    #[inline]
    fn shrink(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.large) {
            self.clear();
        } else if let Some(spare) = &self.spare {
            spare.give(self.held.take());
        }
    }

    /// Takes all, to be put back.
    #[cfg(any(test, feature = "futures-io"))]
    pub(crate) fn lend(&mut self) -> BytesMut {
        let held = self.held.as_mut();
        held.map(|held| held.bytes.split()).unwrap_or_default()
    }

    /// What was lent is not in use any more.
    #[cfg(any(test, feature = "futures-io"))]
    pub(crate) fn used_up(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.bytes.is_empty()) {
            self.shrink();
        }
    }

    /// Puts back what is left of what was lent. Copies only what had no room behind it.
    pub(crate) fn put_back(&mut self, front: BytesMut) {
        let held = self.held.get_or_insert_default();
        let back = mem::replace(&mut held.bytes, front);
        held.bytes.unsplit(back);
        held.large |= held.bytes.len() > KEPT;
    }

    pub(crate) fn clear(&mut self) {
        self.held = None;
    }

    /// Looks for the separator that ends first, and of several that end there for the shortest.
    /// `from`: where an earlier search has got to. A separator may begin up to `limit` and no later.
    pub(crate) fn find(&self, separators: &[&[u8]], from: usize, limit: usize) -> Search {
        let mut best: Option<(usize, usize)> = None;
        for separator in separators {
            // One that ends later than the best so far is of no use.
            let end = best.map_or(self.len(), |(end, _)| end);
            let place = self.bytes().get(from..end).unwrap_or_default();
            if let Some(at) = memmem::find(place, separator) {
                let (start, end) = (from + at, from + at + separator.len());
                if best.is_none_or(|best| (end, best.1) < (best.0, start)) {
                    best = Some((end, start));
                }
            }
        }
        let longest = separators.iter().map(|one| one.len()).max().unwrap_or(1);
        self.judge(best, from, longest, limit)
    }

    /// As [`find`](Self::find) with this one byte, of which lines are made.
    #[inline]
    pub(crate) fn find_byte(&self, separator: u8, from: usize, limit: usize) -> Search {
        let found = find(separator, &self.bytes()[from..]);
        let found = found.map(|at| (from + at + 1, from + at));
        self.judge(found, from, 1, limit)
    }

    /// What a search comes to that has found one with this end and this begin, or none.
    #[inline]
    fn judge(
        &self,
        found: Option<(usize, usize)>,
        from: usize,
        longest: usize,
        limit: usize,
    ) -> Search {
        let searched = (self.len() + 1).saturating_sub(longest).max(from);
        match found {
            Some((_, start)) if start > limit => Search::Overrun(LimitOverrun {
                consumed: start,
                found: true,
            }),
            Some((end, _)) => Search::Found(end),
            None if searched > limit => Search::Overrun(LimitOverrun {
                consumed: searched,
                found: false,
            }),
            None => Search::Missing(searched),
        }
    }
}

/// Where a byte is first. Lines are mostly short: the choice among instruction sets, which
/// [`memchr::memchr`] makes at each call, costs more than wider ones save.
#[cfg(target_arch = "x86_64")]
#[inline]
fn find(byte: u8, data: &[u8]) -> Option<usize> {
    memchr::arch::x86_64::sse2::memchr::One::new(byte)?.find(data)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn find(byte: u8, data: &[u8]) -> Option<usize> {
    memchr::memchr(byte, data)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(data: &[u8]) -> ReadBuffer {
        let mut buffer = ReadBuffer::default();
        buffer.push(data);
        buffer
    }

    fn overrun(consumed: usize, found: bool) -> Search {
        Search::Overrun(LimitOverrun { consumed, found })
    }

    #[test]
    fn a_separator_may_begin_at_the_limit_and_not_behind_it() {
        let buffer = holding(b"four\r\n");
        assert_eq!(buffer.find(&[b"\r\n"], 0, 4), Search::Found(6));
        assert_eq!(buffer.find(&[b"\r\n"], 0, 3), overrun(4, true));
        assert_eq!(buffer.find(&[b"\n"], 0, 4), overrun(5, true));
    }

    #[test]
    fn what_may_be_the_begin_of_a_separator_does_not_count_against_the_limit() {
        assert_eq!(holding(b"four").find(&[b"\n"], 0, 4), Search::Missing(4));
        assert_eq!(holding(b"four+").find(&[b"\n"], 0, 4), overrun(5, false));
        let separators: &[&[u8]] = &[b"\n", b"---"];
        assert_eq!(
            holding(b"four--").find(separators, 0, 4),
            Search::Missing(4)
        );
        assert_eq!(holding(b"four---").find(separators, 0, 4), Search::Found(7));
    }

    #[test]
    fn a_buffer_whose_lent_bytes_are_used_up_is_given_back() {
        for len in [10, KEPT + 1] {
            let spare = Rc::new(Spare::default());
            let mut buffer = ReadBuffer::default();
            buffer.keep_in(spare.clone());
            buffer.push(&vec![b'+'; len]);
            let lent = buffer.lend();
            assert_eq!(lent.len(), len);
            drop(lent);
            buffer.used_up();
            assert!(buffer.held.is_none());
            // One that was large is no longer there for others.
            assert_eq!(spare.last.take().is_some(), len <= KEPT);
        }
        let mut buffer = holding(b"two");
        let lent = buffer.lend();
        buffer.push(b"more");
        drop(lent);
        buffer.used_up();
        assert_eq!(buffer.len(), 4);
    }

    #[test]
    fn of_separators_that_end_in_the_same_place_the_shortest_counts_in_whatever_order() {
        let buffer = holding(b"four\r\n");
        let (long, short): (&[u8], &[u8]) = (b"\r\n", b"\n");
        for separators in [[long, short], [short, long]] {
            assert_eq!(buffer.find(&separators, 0, 4), overrun(5, true));
            assert_eq!(buffer.find(&separators, 0, 5), Search::Found(6));
        }
    }

    #[test]
    fn a_search_that_goes_on_looks_at_nothing_twice_but_the_begin_of_a_separator() {
        let mut buffer = ReadBuffer::default();
        let mut from = 0;
        for len in 1..1000 {
            buffer.push(b"+");
            let found = buffer.find(&[b"ab", b"c"], from, usize::MAX);
            assert_eq!(found, Search::Missing(len - 1), "after {from}");
            from = len - 1;
        }
        // What was searched is not looked at again: here it would be found.
        assert_eq!(holding(b"ab++").find(&[b"ab"], 1, 9), Search::Missing(3));
    }

    #[test]
    fn what_was_lent_and_put_back_is_not_copied_when_nothing_came_meanwhile() {
        let mut buffer = holding(&[7; 1000]);
        let place = buffer.bytes().as_ptr();
        for _ in 0..10 {
            let mut lent = buffer.lend();
            lent.advance(1);
            buffer.put_back(lent);
        }
        assert_eq!(buffer.len(), 990);
        assert_eq!(buffer.bytes().as_ptr(), place.wrapping_add(10));
    }

    #[test]
    fn a_buffer_that_was_large_and_is_empty_holds_no_memory() {
        for empty in [
            (|buffer| drop(buffer.take(usize::MAX))) as fn(&mut ReadBuffer),
            |buffer| buffer.give(usize::MAX, |_| {}),
        ] {
            let mut buffer = holding(&[7; KEPT + 1]);
            empty(&mut buffer);
            assert!(
                !buffer
                    .held
                    .is_some_and(|mut held| held.bytes.try_reclaim(1))
            );
            let mut buffer = holding(&[7; KEPT]);
            empty(&mut buffer);
            assert!(
                buffer
                    .held
                    .is_some_and(|mut held| held.bytes.try_reclaim(1))
            );
        }
    }
}
