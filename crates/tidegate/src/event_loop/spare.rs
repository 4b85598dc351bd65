//! Emptied buffers that wait for the next source that needs one.

use super::core::Core;
#[cfg(feature = "splice")]
use super::spare_pipes::SparePipes;
use crate::datagram::DatagramQueue;
use crate::write_buffer::WriteBuffer;
use std::cell::{Cell, RefCell};
use std::fmt;

/// Maximum number of emptied write buffers that are kept for the next transport that needs one.
const WRITE_BUFFERS: usize = 32;

/// Maximum number of bytes of memory of the queue that is kept for the next endpoint of datagrams: those of
/// the batch of one sender.
const DATAGRAMS: usize = 256 * 1024;

/// The buffers of a loop that nothing is in.
#[derive(Default)]
pub(super) struct Spare {
    #[expect(
        clippy::vec_box,
        reason = "they move in and out of connections as boxes"
    )]
    buffers: RefCell<Vec<Box<WriteBuffer>>>,
    datagrams: Cell<Option<Box<DatagramQueue>>>,
    #[cfg(feature = "splice")]
    pub(super) pipes: SparePipes,
}

impl Core {
    pub(crate) fn take_buffer(&self) -> Box<WriteBuffer> {
        self.spare.buffers.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back an empty one.
    pub(crate) fn give_buffer(&self, buffer: Box<WriteBuffer>) {
        let mut spare = self.spare.buffers.borrow_mut();
        if spare.len() < WRITE_BUFFERS {
            spare.push(buffer);
        }
    }

    /// Returns an empty queue of datagrams.
    pub(crate) fn take_datagrams(&self) -> Box<DatagramQueue> {
        self.spare.datagrams.take().unwrap_or_default()
    }

    /// Takes back an empty one.
    pub(crate) fn give_datagrams(&self, queue: Box<DatagramQueue>) {
        if queue.footprint() <= DATAGRAMS {
            self.spare.datagrams.set(Some(queue));
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spare").finish_non_exhaustive()
    }
}
