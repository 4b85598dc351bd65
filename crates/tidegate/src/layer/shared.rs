//! What the layered sockets of a loop share: memory that one of them needs while it works, and the
//! clock.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

/// The size of the memory that is lent: what one read or one write takes at a time.
pub(super) const SCRATCH: usize = 128 * 1024;

/// The maximum number of pieces of memory that are kept. A stack of two layers needs four at a time.
const KEPT: usize = 8;

/// What the layered sockets of a loop share.
pub(crate) struct Shared {
    memory: RefCell<Vec<Vec<u8>>>,
    clock: Box<dyn Fn() -> Instant>,
}

impl Shared {
    /// `clock` is asked when a layer asks for the time, or starts its timer. It must not borrow
    /// anything that is borrowed while a layered socket is called.
    pub(crate) fn new(clock: impl Fn() -> Instant + 'static) -> Rc<Self> {
        Rc::new(Self {
            memory: RefCell::default(),
            clock: Box::new(clock),
        })
    }

    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Returns [`SCRATCH`] bytes.
    pub(super) fn take_memory(&self) -> Vec<u8> {
        let kept = self.memory.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; SCRATCH])
    }

    pub(super) fn give_memory(&self, memory: Vec<u8>) {
        let mut kept = self.memory.borrow_mut();
        if memory.len() == SCRATCH && kept.len() < KEPT {
            kept.push(memory);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
