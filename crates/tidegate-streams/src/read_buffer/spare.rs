//! The buffers of connections that have nothing to read, kept for those that receive something.

use super::Held;
use std::cell::{Cell, RefCell};
use std::fmt;

/// The maximum number of emptied buffers that are kept for the next connections that receive.
const MOST_SPARE: usize = 64;

/// Emptied buffers of at most `KEPT` bytes: a connection that has nothing to read has no buffer.
///
/// They are in boxes, so that one is handed over in one word.
#[derive(Default)]
pub(crate) struct Spare {
    /// The buffer that was given last, and is mostly taken next.
    last: Cell<Option<Box<Held>>>,
    #[expect(clippy::vec_box, reason = "they come in boxes and go in them")]
    others: RefCell<Vec<Box<Held>>>,
}

impl Spare {
    /// Returns a buffer with this much room, if there is one. A buffer has no room while bytes that
    /// were taken from it are in use.
    #[inline]
    pub(super) fn take(&self, room: usize) -> Option<Box<Held>> {
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
    pub(super) fn give(&self, buffer: Option<Box<Held>>) {
        if let Some(before) = self.last.replace(buffer) {
            self.keep(before);
        }
    }

    #[cold]
    fn keep(&self, buffer: Box<Held>) {
        let mut others = self.others.borrow_mut();
        if others.len() < MOST_SPARE {
            others.push(buffer);
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}
