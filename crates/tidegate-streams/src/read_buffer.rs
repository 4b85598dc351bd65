//! What has arrived and was not read yet, and where a separator ends in it. Pure.

use crate::error::LimitOverrun;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

const LEAST_ROOM: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
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
        if self.bytes.capacity() - self.bytes.len() < data.len() {
            // Room for several small pieces: what is taken takes its room along.
            self.bytes.reserve(data.len().max(LEAST_ROOM));
        }
        self.bytes.extend_from_slice(data);
        self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the first bytes, at most so many, without copying them.
    pub(crate) fn take(&mut self, most: usize) -> Bytes {
        let most = most.min(self.bytes.len());
        self.bytes.split_to(most).freeze()
    }

    /// As [`take`](Self::take), but lends the bytes, to be copied.
    pub(crate) fn give(&mut self, most: usize, copy: impl FnOnce(&[u8])) {
        let most = most.min(self.bytes.len());
        copy(&self.bytes[..most]);
        self.bytes.advance(most);
    }

    /// Puts back what was taken.
    #[cfg(feature = "futures-io")]
    pub(crate) fn put_back(&mut self, front: &[u8]) {
        let mut bytes = BytesMut::with_capacity(front.len() + self.bytes.len());
        bytes.extend_from_slice(front);
        bytes.extend_from_slice(&self.bytes);
        self.bytes = bytes;
    }

    pub(crate) fn clear(&mut self) {
        self.bytes = BytesMut::new();
    }

    /// Looks for the separator that ends first. `from`: where an earlier search has got to. A
    /// separator may begin up to `limit` and no later.
    pub(crate) fn find(&self, separators: &[&[u8]], from: usize, limit: usize) -> Search {
        let mut best: Option<(usize, usize)> = None;
        for separator in separators {
            // One that ends later than the best so far is of no use.
            let end = best.map_or(self.bytes.len(), |(_, end)| end);
            let place = self.bytes.get(from..end).unwrap_or_default();
            if let Some(at) = memmem::find(place, separator) {
                let (start, end) = (from + at, from + at + separator.len());
                if best.is_none_or(|(_, best)| end < best) {
                    best = Some((start, end));
                }
            }
        }
        let longest = separators.iter().map(|one| one.len()).max().unwrap_or(1);
        let searched = (self.bytes.len() + 1).saturating_sub(longest).max(from);
        match best {
            Some((start, _)) if start > limit => Search::Overrun(LimitOverrun {
                consumed: start,
                found: true,
            }),
            Some((_, end)) => Search::Found(end),
            None if searched > limit => Search::Overrun(LimitOverrun {
                consumed: searched,
                found: false,
            }),
            None => Search::Missing(searched),
        }
    }
}
