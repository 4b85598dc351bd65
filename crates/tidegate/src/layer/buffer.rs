//! Bytes with room behind them that is cleared once.

use super::shared::{SCRATCH, Shared};
use std::fmt;
use std::mem;

/// No memory grows beyond this for bytes that may still come: eight times what is lent.
const MAX_AHEAD: usize = 8 * SCRATCH;

/// A queue of bytes in one piece of memory, with room behind them to write into. While a layered
/// socket works, the memory is lent by [`Shared`]; between two calls a queue has what its bytes
/// need, and an empty one has none.
///
/// Invariant: `start <= end <= memory.len()`, and both are 0 when there are no bytes. These lie
/// between the two, and all memory is initialised: it was cleared when it was taken from the system.
#[derive(Default)]
pub(super) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            end: bytes.len(),
            memory: bytes.into_boxed_slice(),
            start: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end == 0
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    #[inline(always)]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    pub(super) fn push(&mut self, data: &[u8], shared: &Shared) {
        self.spare(data.len(), shared)[..data.len()].copy_from_slice(data);
        self.end += data.len();
    }

    /// Returns whether `len` bytes more have room in the memory that there is, or that is lent.
    #[inline(always)]
    pub(super) fn has_place(&self, len: usize) -> bool {
        self.memory.len() - self.end >= len || (self.memory.is_empty() && len <= SCRATCH)
    }

    /// Returns all room behind the bytes, which is `len` bytes or more.
    pub(super) fn spare(&mut self, len: usize, shared: &Shared) -> &mut [u8] {
        self.spare_or_grow(len, shared, |_| {})
    }

    /// As [`spare`](Self::spare). Where the memory that is lent does not suffice, `before` is told of the number
    /// of bytes that are there.
    #[inline(always)]
    pub(super) fn spare_or_grow(
        &mut self,
        len: usize,
        shared: &Shared,
        before: impl FnOnce(usize),
    ) -> &mut [u8] {
        if self.memory.len() - self.end < len {
            if self.memory.is_empty() && len <= SCRATCH {
                self.memory = shared.lend();
            } else {
                before(self.len());
                self.make_more_room(len, shared);
            }
        }
        &mut self.memory[self.end..]
    }

    #[inline(never)]
    fn make_more_room(&mut self, len: usize, shared: &Shared) {
        let (held, needed) = (self.len(), self.len() + len);
        if needed <= self.memory.len() {
            self.memory.copy_within(self.start..self.end, 0);
        } else {
            let memory = if needed <= SCRATCH {
                shared.lend()
            } else {
                let ahead = (2 * self.memory.len()).min(MAX_AHEAD);
                vec![0; needed.max(ahead)].into_boxed_slice()
            };
            let old = mem::replace(&mut self.memory, memory);
            if !old.is_empty() {
                self.memory[..held].copy_from_slice(&old[self.start..self.end]);
                shared.take_back(old);
            }
        }
        (self.start, self.end) = (0, held);
    }

    /// Takes the first `len` bytes of the room for written. Returns whether there were as many; none are
    /// taken otherwise.
    pub(super) fn fill(&mut self, len: usize) -> bool {
        let there = len <= self.memory.len() - self.end;
        if there {
            self.end += len;
        }
        there
    }

    /// Forgets the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.len());
        self.start += len;
        if self.start == self.end {
            self.clear();
        }
    }

    /// Has no more memory than the bytes need, where that is more than what is lent.
    pub(super) fn fit(&mut self) {
        if self.memory.len() > SCRATCH {
            *self = Self::of(self.bytes().to_vec());
        }
    }

    /// Forgets all bytes.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Moves the first bytes out, as many as fit, and returns their number.
    pub(super) fn move_to(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.bytes()[..len]);
        self.consume(len);
        len
    }

    /// Gives back the memory that the bytes do not need.
    #[inline(always)]
    pub(super) fn park(&mut self, shared: &Shared) {
        if self.memory.is_empty() {
            return;
        }
        if self.is_empty() {
            self.give_back(shared);
        } else {
            self.shrink(shared);
        }
    }

    /// Takes memory that is lent, and returns it to be written into. There is none yet.
    #[inline(always)]
    pub(super) fn take_memory(&mut self, shared: &Shared) -> &mut [u8] {
        debug_assert!(self.memory.is_empty(), "memory that is in use");
        self.memory = shared.lend();
        &mut self.memory
    }

    /// Gives back all memory. There are no bytes in it.
    #[inline(always)]
    pub(super) fn give_back(&mut self, shared: &Shared) {
        debug_assert!(self.is_empty(), "memory that is in use");
        shared.take_back(mem::take(&mut self.memory));
    }

    #[inline(never)]
    fn shrink(&mut self, shared: &Shared) {
        if self.len() < self.memory.len() / 2 {
            let exact = Self::of(self.bytes().to_vec());
            shared.take_back(mem::replace(self, exact).memory);
        }
    }

    /// The memory that it has, for the tests.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.memory.len()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len(), self.memory.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shared() -> std::rc::Rc<Shared> {
        Shared::new(Instant::now)
    }

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_went_in() {
        let shared = shared();
        let mut buffer = Buffer::default();
        let (mut put, mut got) = (0_u32, 0_u32);
        for round in 0..5_000_usize {
            for _ in 0..round % 100 {
                buffer.push(&put.to_le_bytes(), &shared);
                put += 1;
            }
            for _ in 0..(round * 7) % 101 {
                let mut four = [0; 4];
                if buffer.move_to(&mut four) == 4 {
                    assert_eq!(u32::from_le_bytes(four), got);
                    got += 1;
                }
            }
            assert_eq!(buffer.len(), 4 * (put - got) as usize);
            if round % 10 == 0 {
                buffer.park(&shared);
                assert!(buffer.footprint() <= 2 * buffer.len() + 1);
            }
        }
    }

    #[test]
    fn memory_grows_beyond_what_is_lent_and_keeps_the_bytes() {
        let shared = shared();
        let mut buffer = Buffer::of(vec![1; 3]);
        buffer.consume(1);
        buffer.push(&[2; SCRATCH], &shared);
        buffer.push(&[3; SCRATCH], &shared);
        let expected = [&[1; 2][..], &[2; SCRATCH], &[3; SCRATCH]].concat();
        assert!(buffer.bytes() == expected);
    }

    #[test]
    fn room_that_is_filled_is_the_room_that_was_given() {
        let shared = shared();
        let mut buffer = Buffer::default();
        let room = buffer.spare(10, &shared).len();
        assert_eq!(room, SCRATCH);
        assert!(buffer.fill(room));
        assert!(!buffer.fill(1));
        assert_eq!(buffer.len(), room);
    }
}
