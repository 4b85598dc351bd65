//! Bytes with room behind them that is cleared once.

use super::shared::Shared;
use std::fmt;

/// A queue of bytes in one piece of memory, with room behind them to write into. An empty one has no
/// memory.
///
/// Invariant: `start <= end <= memory.len()`; the bytes are those between, and the memory behind is
/// initialised.
#[derive(Default)]
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self {
            memory: bytes,
            start: 0,
            end,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// Appends.
    pub(super) fn push(&mut self, data: &[u8], shared: &Shared) {
        self.spare(data.len(), shared)[..data.len()].copy_from_slice(data);
        self.end += data.len();
    }

    /// Returns all room behind the bytes, at least `len`.
    pub(super) fn spare(&mut self, len: usize, shared: &Shared) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = shared.take_memory();
        }
        if self.memory.len() - self.end < len {
            self.make_room(len);
        }
        &mut self.memory[self.end..]
    }

    #[cold]
    fn make_room(&mut self, len: usize) {
        self.memory.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.len());
        let needed = self.end + len;
        if needed > self.memory.len() {
            let grown = needed.max(2 * self.memory.len());
            self.memory.resize(grown, 0);
        }
    }

    /// Takes the first `len` bytes of the room for written. Returns false, and takes all, when there
    /// are fewer.
    pub(super) fn fill(&mut self, len: usize) -> bool {
        let room = self.memory.len() - self.end;
        self.end += len.min(room);
        len <= room
    }

    /// Forgets the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        debug_assert!(len <= self.len());
        self.start += len;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves bytes out, as many as fit, and returns their number.
    pub(super) fn move_to(&mut self, buffer: &mut [u8]) -> usize {
        let len = self.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.bytes()[..len]);
        self.consume(len);
        len
    }

    /// Gives back the memory that it does not need, between two calls of a layered socket.
    pub(super) fn park(&mut self, shared: &Shared) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            shared.give_memory(std::mem::take(&mut self.memory));
        } else if self.memory.len() / 2 > self.len() {
            let exact = self.bytes().to_vec();
            let large = std::mem::replace(self, Self::of(exact));
            shared.give_memory(large.memory);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len(), self.memory.len())
    }
}
