//! The bytes that were written and that the kernel has not taken yet.
//!
//! Pure: a queue of chunks with an offset into the first one. It knows nothing of sockets,
//! watermarks or transports. Small writes are copied to the end of the last chunk; owned bytes
//! are queued as they are. The length is kept, never summed up.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Maximum size of a copied chunk in bytes, so that the memory of sent bytes comes free.
const CHUNK_SIZE: usize = 64 * 1024;

/// The cost of a chunk in bytes, beside its payload; counted against the cap, so that a queue of tiny owned
/// chunks is bounded too. Its 32 bytes twice, for a queue that has just doubled, and once more for the half
/// that it grew out of, which the allocator may keep.
pub(crate) const CHUNK_OVERHEAD: usize = 128;
const _: () = assert!(3 * size_of::<Chunk>() <= CHUNK_OVERHEAD);

/// Maximum numbers of slices and bytes that one system call is offered. A larger offer can be taken whole
/// by the kernel and hold the loop for tens of milliseconds.
pub(crate) const MAX_SLICES: usize = 64;
pub(crate) const MAX_OFFER: usize = 1024 * 1024;

#[derive(Debug)]
enum Chunk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Invariants: no chunk is empty; `offset` lies inside the first chunk (zero when there is none);
/// `len` is the sum of the chunks less `offset`.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    chunks: VecDeque<Chunk>,
    offset: usize,
    len: usize,
    /// The memory of a sent chunk, for the next one.
    spare: Vec<u8>,
}

impl WriteBuffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub(crate) fn push_copy(&mut self, data: &[u8]) {
        self.len += data.len();
        let mut rest = data;
        if let Some(Chunk::Copied(last)) = self.chunks.back_mut()
            && last.len() < CHUNK_SIZE
        {
            let (fits, left) = data.split_at(data.len().min(CHUNK_SIZE - last.len()));
            append(last, fits);
            rest = left;
        }
        if rest.is_empty() {
            return;
        }
        let mut chunk = std::mem::take(&mut self.spare);
        chunk.extend_from_slice(rest);
        self.chunks.push_back(Chunk::Copied(chunk));
    }

    pub(crate) fn push_shared(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        self.chunks.push_back(Chunk::Shared(data));
    }

    /// Puts bytes in front of those that wait, none of which was taken.
    #[cfg(feature = "splice")]
    pub(crate) fn push_in_front(&mut self, data: Vec<u8>) {
        debug_assert_eq!(self.offset, 0, "they come before bytes that were taken");
        if !data.is_empty() {
            self.len += data.len();
            self.chunks.push_front(Chunk::Copied(data));
        }
    }

    /// Adds the front of the queue to an offer, as much as fits.
    pub(crate) fn fill<'a, const N: usize>(&'a self, offer: &mut Offer<'a, N>) {
        let mut offset = self.offset;
        for chunk in &self.chunks {
            if !offer.push(&chunk.as_slice()[offset..]) {
                return;
            }
            offset = 0;
        }
    }

    /// Returns everything as owned bytes, uncopied.
    pub(crate) fn into_bytes(self) -> Vec<Bytes> {
        let mut offset = self.offset;
        let chunks = self.chunks.into_iter();
        let owned = chunks.map(|chunk| {
            let bytes = match chunk {
                Chunk::Copied(bytes) => Bytes::from(bytes),
                Chunk::Shared(bytes) => bytes,
            };
            bytes.slice(std::mem::take(&mut offset)..)
        });
        owned.collect()
    }

    /// Forgets the first `taken` bytes. Owned chunks that are sent go to `spent`, because dropping them can
    /// run code of their owner.
    pub(crate) fn advance(&mut self, mut taken: usize, spent: &mut Vec<Bytes>) {
        debug_assert!(taken <= self.len);
        self.len -= taken;
        while taken > 0 {
            let Some(first) = self.chunks.front() else {
                return;
            };
            let left = first.as_slice().len() - self.offset;
            if taken < left {
                self.offset += taken;
                return;
            }
            taken -= left;
            self.offset = 0;
            match self.chunks.pop_front() {
                Some(Chunk::Copied(mut bytes)) if bytes.capacity() <= 2 * CHUNK_SIZE => {
                    bytes.clear();
                    self.spare = bytes;
                }
                Some(Chunk::Shared(bytes)) => spent.push(bytes),
                _ => {}
            }
        }
        if self.chunks.is_empty() {
            self.chunks.shrink_to(MAX_SLICES);
        }
    }
}

/// Grows a chunk as a `Vec` grows, but to no more than a full one: room that is never filled would
/// be memory beyond the cap.
fn append(chunk: &mut Vec<u8>, data: &[u8]) {
    let needed = chunk.len() + data.len();
    if needed > chunk.capacity() {
        let room = (2 * chunk.capacity()).min(CHUNK_SIZE).max(needed);
        chunk.reserve_exact(room - chunk.len());
    }
    chunk.extend_from_slice(data);
}

/// The slices of one system call: `N` and [`MAX_OFFER`] bytes are the most. Most calls have one
/// slice, and clearing room for many costs as much as the rest of a small write.
#[derive(Debug)]
pub(crate) struct Offer<'a, const N: usize> {
    slices: [IoSlice<'a>; N],
    count: usize,
    bytes: usize,
    most: usize,
}

impl<'a, const N: usize> Offer<'a, N> {
    /// For `most` bytes, at most [`MAX_OFFER`].
    pub(crate) fn new(most: usize) -> Self {
        Self {
            slices: [IoSlice::new(&[]); N],
            count: 0,
            bytes: 0,
            most: most.min(MAX_OFFER),
        }
    }

    /// Adds a slice; returns whether there is room for another.
    pub(crate) fn push(&mut self, data: &'a [u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        let room = self.most - self.bytes;
        let data = &data[..data.len().min(room)];
        if self.count == N || data.is_empty() {
            return false;
        }
        self.slices[self.count] = IoSlice::new(data);
        self.count += 1;
        self.bytes += data.len();
        self.count < N && self.bytes < self.most
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

#[cfg(all(test, not(loom)))]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(from: usize, len: usize) -> Vec<u8> {
        (from..from + len)
            .map(|i| (i * 31 + i / 251) as u8)
            .collect()
    }

    fn offered(buffer: &WriteBuffer) -> Vec<u8> {
        let mut offer = Offer::<MAX_SLICES>::new(MAX_OFFER);
        buffer.fill(&mut offer);
        assert!(offer.slices().len() <= MAX_SLICES);
        assert!(offer.slices().iter().all(|slice| !slice.is_empty()));
        let slices = offer.slices().iter();
        let bytes = slices.flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
        assert_eq!(bytes.len(), offer.bytes());
        bytes
    }

    #[test]
    fn every_size_of_write_and_of_take_up_to_forty_bytes_is_exact() {
        for size in 1..40 {
            for take in 1..40 {
                let mut buffer = WriteBuffer::default();
                for i in 0..10 {
                    let chunk = pattern(i * size, size);
                    if i % 3 == 1 {
                        buffer.push_shared(chunk.into());
                    } else {
                        buffer.push_copy(&chunk);
                    }
                }
                let mut out = Vec::new();
                while !buffer.is_empty() {
                    let offer = offered(&buffer);
                    let n = take.min(offer.len());
                    out.extend_from_slice(&offer[..n]);
                    buffer.advance(n, &mut Vec::new());
                }
                assert_eq!(
                    out,
                    pattern(0, 10 * size),
                    "writes of {size}, takes of {take}"
                );
            }
        }
    }

    #[test]
    fn empty_chunks_are_not_queued() {
        let mut buffer = WriteBuffer::default();
        buffer.push_copy(b"");
        buffer.push_shared(Bytes::new());
        assert!(buffer.is_empty());
        assert_eq!(buffer.chunks(), 0);
    }

    #[test]
    fn spent_owned_chunks_are_handed_out_not_dropped() {
        let mut buffer = WriteBuffer::default();
        buffer.push_shared(Bytes::from_static(b"ab"));
        buffer.push_copy(b"cd");
        let mut spent = Vec::new();
        buffer.advance(1, &mut spent);
        assert!(spent.is_empty());
        buffer.advance(3, &mut spent);
        assert_eq!(spent, [Bytes::from_static(b"ab")]);
    }

    #[test]
    fn an_emptied_queue_keeps_no_memory_of_its_longest_time() {
        let mut buffer = WriteBuffer::default();
        for _ in 0..100_000 {
            buffer.push_shared(Bytes::from_static(b"x"));
        }
        buffer.advance(100_000, &mut Vec::new());
        assert!(buffer.chunks.capacity() <= 2 * MAX_SLICES);
        assert!(buffer.spare.capacity() <= 2 * CHUNK_SIZE);
    }

    #[test]
    fn more_slices_than_one_call_takes_go_in_several() {
        let mut buffer = WriteBuffer::default();
        for i in 0..MAX_SLICES + 1 {
            buffer.push_shared(Bytes::from(vec![i as u8]));
        }
        assert_eq!(offered(&buffer).len(), MAX_SLICES);
        buffer.advance(MAX_SLICES, &mut Vec::new());
        assert_eq!(offered(&buffer), [MAX_SLICES as u8]);
    }
}
