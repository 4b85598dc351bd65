//! The bytes that have arrived and were not read yet, and where a separator ends in them. Pure.

use crate::error::LimitOverrun;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use std::mem;
use std::rc::Rc;

mod spare;

pub(crate) use spare::Spare;

/// An empty buffer that held more than this gives its memory back, so that a connection that is
/// quiet after a burst costs little.
const KEPT: usize = 64 * 1024;

const LEAST_ROOM: usize = 512;

#[derive(Debug, Default)]
struct Held {
    bytes: BytesMut,
    /// The bytes in front of these, while the reader has lent them.
    lent: Option<Rc<BytesMut>>,
    /// There were more than `KEPT` since it was made.
    large: bool,
}

impl Held {
    /// Lends bytes that were taken out of it, and returns their number.
    fn share(&mut self, bytes: BytesMut, place: &mut Option<Rc<BytesMut>>) -> usize {
        let len = bytes.len();
        let lent = place.get_or_insert_default();
        match Rc::get_mut(lent) {
            Some(empty) => *empty = bytes,
            None => *lent = Rc::new(bytes),
        }
        self.lent = Some(lent.clone());
        len
    }
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
    /// The separator ends here.
    Found(usize),
    /// Not in what is there; a later search need not look before this.
    Missing(usize),
    Overrun(LimitOverrun),
}

impl ReadBuffer {
    /// Appends `data` and returns the number of bytes that are held then.
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

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| &held.bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.len())
    }

    /// Takes the first bytes, at most `most`, without copying them.
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

    /// Takes all, to be put back, and returns its length. `place` is where the reader has it, and is
    /// used again. Bytes that come meanwhile find room behind it.
    pub(crate) fn lend(&mut self, place: &mut Option<Rc<BytesMut>>) -> usize {
        self.held.as_mut().map_or(0, |held| {
            let bytes = held.bytes.split();
            held.share(bytes, place)
        })
    }

    /// As [`lend`](Self::lend), of bytes that are mostly put back before others come: these find no room.
    #[cfg(feature = "framing")]
    pub(crate) fn lend_briefly(&mut self, place: &mut Option<Rc<BytesMut>>) -> usize {
        self.held.as_mut().map_or(0, |held| {
            let bytes = mem::take(&mut held.bytes);
            held.share(bytes, place)
        })
    }

    /// Puts back what was lent, if anything was: its last bytes, this many, were not used. Copies only
    /// what had no room behind it.
    pub(crate) fn put_back(&mut self, place: &mut Option<Rc<BytesMut>>, left: usize) {
        let lent = self.held.as_mut().and_then(|held| held.lent.take());
        // From here on `place` alone has it.
        let (Some(held), Some(_)) = (&mut self.held, lent) else {
            return;
        };
        let place = place.as_mut().and_then(Rc::get_mut);
        let mut front = place.map(mem::take).unwrap_or_default();
        if left == 0 && held.bytes.capacity() == 0 {
            front.clear();
            held.bytes = front;
        } else {
            front.advance(front.len().saturating_sub(left));
            let back = mem::replace(&mut held.bytes, front);
            held.bytes.unsplit(back);
        }
        held.large |= held.bytes.len() > KEPT;
        if held.bytes.is_empty() {
            self.shrink();
        }
    }

    /// Takes all that was not read, to be read by others. The last `lent` bytes of what was lent belong
    /// to it.
    pub(crate) fn leave(&mut self, lent: usize) -> Vec<u8> {
        let Some(held) = self.held.take() else {
            return Vec::new();
        };
        let front = held.lent.as_ref().map_or(&[][..], |bytes| bytes);
        [&front[front.len() - lent..], &held.bytes].concat()
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
        // The bytes may have left the reader, with its connection, since an earlier search.
        let found = find(separator, self.bytes().get(from..).unwrap_or_default());
        let found = found.map(|at| (from + at + 1, from + at));
        self.judge(found, from, 1, limit)
    }

    /// Returns the result of a search that has found a separator with this end and this begin, or none.
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
mod tests;
