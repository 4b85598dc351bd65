//! Frames that did not come whole, and the buffers that they are kept in.

use std::cell::RefCell;
use std::time::Instant;

/// Maximum size of a buffer that goes back to the pool: a frame above it is rare, and pays for its memory.
const MAX_CAPACITY: usize = 16 * 1024;

/// Maximum number of buffers in the pool of a thread: at most half a MiB.
const MAX_POOLED: usize = 32;

/// Minimum number of bytes that are copied to a torn frame of unknown length.
const MIN_PIECE: usize = 64;

/// The first part of a frame.
#[derive(Debug, Default)]
pub(crate) struct Torn {
    pub(crate) bytes: Vec<u8>,
    /// The number of bytes that the codec misses; 0 and 1: unknown.
    pub(crate) need: usize,
    /// The time from which it is late, if that is watched.
    pub(crate) since: Option<Instant>,
}

thread_local! {
    /// They are in boxes, so that one is handed over in one word, and a connection without one has a
    /// word for it.
    #[expect(clippy::vec_box, reason = "they come in boxes and go in them")]
    static POOL: RefCell<Vec<Box<Torn>>> = const { RefCell::new(Vec::new()) };
}

impl Torn {
    /// Takes an empty one from the pool.
    pub(crate) fn from_pool() -> Box<Self> {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop());
        pooled.ok().flatten().unwrap_or_default()
    }

    /// Gives the buffer back to the pool.
    pub(crate) fn free(mut self: Box<Self>) {
        if self.bytes.capacity() > MAX_CAPACITY {
            return;
        }
        self.bytes.clear();
        (self.need, self.since) = (0, None);
        // At the end of the thread there is none.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MAX_POOLED {
                pool.push(self);
            }
        });
    }

    /// Copies the first bytes of `data`, as many as are needed. Returns their number.
    ///
    /// It doubles the bytes that are not `taken` when the number is unknown. There is no room for more than
    /// has come: an announced length takes no memory.
    pub(crate) fn copy(&mut self, taken: usize, need: usize, data: &[u8]) -> usize {
        let piece = match need {
            0 | 1 => (self.bytes.len() - taken).max(MIN_PIECE),
            _ => need,
        };
        let copied = piece.min(data.len());
        self.bytes.extend_from_slice(&data[..copied]);
        copied
    }

    /// Returns the number of buffers in the pool, and the number of bytes in them.
    #[cfg(test)]
    pub(crate) fn pooled() -> (usize, usize) {
        POOL.with_borrow(|pool| {
            (
                pool.len(),
                pool.iter().map(|one| one.bytes.capacity()).sum(),
            )
        })
    }
}
