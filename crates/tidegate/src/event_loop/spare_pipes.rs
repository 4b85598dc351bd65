//! Empty pipes that wait for the next splice.
//!
//! An empty pipe is as good as a new one, so all connections of a loop share a few. They are open while bytes
//! are spliced: a timer closes those that were not used for its time.

use super::core::Core;
use crate::Handle;
use crate::driver::{SplicePipe, is_sigpipe_harmless};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::time::Duration;

/// Maximum number of empty pipes that are kept.
const PIPES: usize = 4;

/// A pipe that was not used for this time is closed within twice this time.
const UNUSED: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct SparePipes {
    pipes: RefCell<Vec<SplicePipe>>,
    /// Whether a splice into a broken connection is an error and nothing else; known since the first pipe.
    harmless: OnceCell<bool>,
    used: Cell<bool>,
    timed: Cell<bool>,
}

impl Core {
    /// Returns an empty pipe.
    pub(crate) fn take_pipe(&self) -> io::Result<SplicePipe> {
        let spare = &self.spare.pipes;
        if let Some(pipe) = spare.pipes.borrow_mut().pop() {
            return Ok(pipe);
        }
        if *spare.harmless.get_or_init(is_sigpipe_harmless) {
            SplicePipe::open()
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Takes back an empty pipe.
    pub(crate) fn give_pipe(&self, pipe: SplicePipe) {
        debug_assert!(pipe.is_empty());
        let spare = &self.spare.pipes;
        if self.is_closed() || spare.pipes.borrow().len() == PIPES {
            return;
        }
        spare.pipes.borrow_mut().push(pipe);
        spare.used.set(true);
        if !spare.timed.replace(true) {
            self.time_pipes();
        }
    }

    fn time_pipes(&self) {
        let deadline = self.clock() + UNUSED;
        self.at(Some(deadline), |handle: &Handle| {
            handle.core().close_unused_pipes();
        });
    }

    fn close_unused_pipes(&self) {
        let spare = &self.spare.pipes;
        if spare.used.replace(false) {
            self.time_pipes();
        } else {
            self.close_spare_pipes();
        }
    }

    /// The number of timers of the pipes, which no user has started.
    pub(super) fn timers_of_pipes(&self) -> usize {
        usize::from(self.spare.pipes.timed.get())
    }

    pub(super) fn close_spare_pipes(&self) {
        let spare = &self.spare.pipes;
        spare.timed.set(false);
        spare.pipes.borrow_mut().clear();
    }
}
