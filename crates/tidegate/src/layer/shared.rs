//! The share of all layered sockets of a loop: the memory that one of them needs while it works, and
//! the clock.

use super::through::Marks;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::time::Instant;

/// The size in bytes of the memory that is lent: the maximum that a layer has as input at a time, and
/// that it has to send.
pub(super) const SCRATCH: usize = 128 * 1024;

/// The maximum number of pieces of each kind of memory that are kept for the next call. A layered
/// socket needs three at a time, and two more for each layer below.
const KEPT: usize = 8;

/// Memory and clock of the layered sockets of a loop.
pub(crate) struct Shared {
    /// A piece of memory that is kept, or nothing: most calls need one at a time.
    first: Cell<Box<[u8]>>,
    /// More of them.
    memory: RefCell<Vec<Box<[u8]>>>,
    marks: RefCell<Vec<Marks>>,
    clock: Box<dyn Fn() -> Instant>,
}

impl Shared {
    /// Calls `clock` when a layer asks for the time or starts its timer.
    pub(crate) fn new(clock: impl Fn() -> Instant + 'static) -> Rc<Self> {
        Rc::new(Self {
            first: Cell::default(),
            memory: RefCell::default(),
            marks: RefCell::default(),
            clock: Box::new(clock),
        })
    }

    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Returns [`SCRATCH`] bytes.
    #[inline(always)]
    pub(super) fn lend(&self) -> Box<[u8]> {
        let first = self.first.take();
        if first.is_empty() {
            return self.lend_another();
        }
        first
    }

    #[inline(never)]
    fn lend_another(&self) -> Box<[u8]> {
        let kept = self.memory.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice())
    }

    /// Takes memory back, of any origin.
    #[inline(always)]
    pub(super) fn take_back(&self, memory: Box<[u8]>) {
        if memory.len() != SCRATCH {
            return;
        }
        let before = self.first.replace(memory);
        if !before.is_empty() {
            self.take_back_another(before);
        }
    }

    #[inline(never)]
    fn take_back_another(&self, memory: Box<[u8]>) {
        let mut kept = self.memory.borrow_mut();
        if kept.len() < KEPT - 1 {
            kept.push(memory);
        }
    }

    /// Returns the number of pieces of memory that are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let first = self.first.take();
        let kept = self.memory.borrow().len() + usize::from(!first.is_empty());
        self.first.set(first);
        kept
    }

    /// Returns an empty list with memory, if there is one.
    pub(super) fn lend_marks(&self) -> Marks {
        self.marks.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes the memory of an empty list.
    pub(super) fn take_back_marks(&self, marks: &mut Marks) {
        let mut kept = self.marks.borrow_mut();
        let marks = mem::take(marks);
        if kept.len() < KEPT {
            kept.push(marks);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
