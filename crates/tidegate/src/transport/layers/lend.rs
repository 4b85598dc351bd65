//! How the code of layers runs: with the layered socket out of its cell.
//!
//! That code is the user's, and may call any method of any transport. So nothing that such a call
//! needs is borrowed: the socket is out of its cell, and the writes that the running callback has
//! gathered are out of the loop's buffer. The slot of the protocol is taken, if no callback has it,
//! so that a loop that is run by that code finds the connection in use.

use super::super::conn::Conn;
use super::super::state::State;
use crate::Protocol;
use crate::driver::{Socket, StreamSocket};
use crate::layer::LayeredSocket;
use std::cell::RefMut;
use std::io;
use std::mem;
use std::time::Instant;

/// A protocol that is in use.
type Slot<'c> = RefMut<'c, Option<Box<dyn Protocol>>>;

/// A layered socket out of its cell. A panic puts everything back, too.
struct Lent<'c> {
    conn: &'c Conn,
    socket: Option<Socket>,
    gathered: Vec<u8>,
}

impl Lent<'_> {
    #[inline(always)]
    fn put_back(&mut self) {
        self.conn.socket.replace(self.socket.take());
        if !self.gathered.is_empty() {
            let gathered = mem::take(&mut self.gathered);
            self.conn.core().gather.replace(gathered);
        }
        self.conn.clear(State::IN_LAYER);
    }
}

impl Drop for Lent<'_> {
    #[cold]
    fn drop(&mut self) {
        self.put_back();
    }
}

/// All that code of layers may have changed.
struct Changes {
    /// The number of bytes that wait below a layer.
    waiting: usize,
    output: bool,
    input: bool,
    wants_write: bool,
    starved: bool,
    left: bool,
    deadline: Option<Instant>,
}

impl Changes {
    fn of(layered: &LayeredSocket) -> Self {
        Self {
            waiting: layered.waiting_output(),
            output: layered.has_output(),
            input: layered.has_input(),
            wants_write: layered.wants_write(),
            starved: layered.needs_input(),
            left: layered.has_left(),
            deadline: layered.deadline(),
        }
    }

    /// Whether a write may go on is not asked: where nothing waits, one is worth a try.
    fn is_nothing(&self) -> bool {
        let told = self.waiting > 0 || self.output || self.input || self.starved || self.left;
        !told && self.deadline.is_none()
    }
}

impl Conn {
    /// Calls with the layered socket, if it is in its cell, and notes what has changed.
    pub(in super::super) fn lend<R>(
        &self,
        call: impl FnOnce(&mut LayeredSocket) -> R,
    ) -> Option<R> {
        let (result, quiet) = self.lend_only(self.protocol.try_borrow_mut().ok(), call)?;
        self.note(quiet, false);
        Some(result)
    }

    /// As [`lend`](Self::lend), for a read in a callback, which has the protocol. Returns also whether
    /// another read may have something to tell.
    #[inline(always)]
    pub(in super::super) fn lend_to_read(
        &self,
        buffer: &mut [u8],
    ) -> Option<(io::Result<usize>, bool)> {
        let read = |layered: &mut LayeredSocket| (layered.read(buffer), layered.is_drained());
        let ((result, drained), quiet) = self.lend_only(None, read)?;
        let has_input = self.note(quiet, false);
        Some((result, !drained || has_input))
    }

    /// As [`lend`](Self::lend), for a write: one that was taken in part is not repeated at once.
    #[inline(always)]
    pub(in super::super) fn lend_to_write<R>(
        &self,
        call: impl FnOnce(&mut LayeredSocket) -> R,
    ) -> Option<R> {
        let (result, quiet) = self.lend_only(self.protocol.try_borrow_mut().ok(), call)?;
        self.note(quiet, true);
        Some(result)
    }

    /// As [`lend`](Self::lend), for a call from outside. Returns also whether nothing has come of it:
    /// layers that were quiet have stayed so, and nothing else was noted meanwhile, such as an event
    /// in a loop that the call has run.
    pub(super) fn lend_aside<R>(
        &self,
        call: impl FnOnce(&mut LayeredSocket) -> R,
    ) -> Option<(R, bool)> {
        let before = self.state.get();
        let aside = |layered: &mut LayeredSocket| (layered.is_quiet(), call(layered));
        let ((was_quiet, result), quiet) =
            self.lend_only(self.protocol.try_borrow_mut().ok(), aside)?;
        let is_nothing = was_quiet && quiet && self.state.get() == before;
        if !is_nothing {
            self.note(quiet, false);
        }
        Some((result, is_nothing))
    }

    /// Returns also whether the layers are quiet.
    #[inline(always)]
    fn lend_only<R>(
        &self,
        _slot: Option<Slot<'_>>,
        call: impl FnOnce(&mut LayeredSocket) -> R,
    ) -> Option<(R, bool)> {
        if !self.is(State::LAYERED) || self.is(State::IN_LAYER) {
            return None;
        }
        let mut lent = Lent {
            conn: self,
            socket: self.socket.borrow_mut().take(),
            gathered: self.take_gathered(),
        };
        self.set(State::IN_LAYER);
        let layered = lent.socket.as_mut()?.foreign_mut::<LayeredSocket>()?;
        let result = call(layered);
        let quiet = layered.is_quiet();
        lent.put_back();
        // Nothing is left in it.
        mem::forget(lent);
        Some((result, quiet))
    }

    /// Calls with the layered socket in its cell, which must run no code of a layer.
    pub(in super::super) fn layered<R>(
        &self,
        call: impl FnOnce(&mut LayeredSocket) -> R,
    ) -> Option<R> {
        let mut socket = self.socket.borrow_mut();
        Some(call(socket.as_mut()?.foreign_mut()?))
    }

    /// Returns the gathered writes. The memory stays in the loop when there are none.
    fn take_gathered(&self) -> Vec<u8> {
        let mut gather = self.core().gather.borrow_mut();
        if gather.is_empty() {
            return Vec::new();
        }
        mem::take(&mut *gather)
    }

    /// Notes what has changed. Returns whether there is input that a read would find without the socket.
    #[inline(always)]
    fn note(&self, quiet: bool, is_write: bool) -> bool {
        if !quiet {
            return self.note_changes(is_write);
        }
        debug_assert!(
            self.layered(|layered| Changes::of(layered).is_nothing()) == Some(true),
            "layers that are not quiet"
        );
        if !is_write {
            self.set(State::WRITABLE);
        }
        let noted = State::OUTPUT | State::LAYER_STARVED | State::LAYER_TIMED;
        if self.is(noted | State::OUTPUT_COUNTED) {
            self.clear(State::OUTPUT | State::LAYER_STARVED);
            self.uncount_output();
            self.set_layer_timer(None);
        }
        false
    }

    #[inline(never)]
    fn note_changes(&self, is_write: bool) -> bool {
        let Some(changes) = self.layered(|layered| Changes::of(layered)) else {
            return false;
        };
        if changes.waiting > 0 || self.is(State::OUTPUT_COUNTED) {
            self.count_output();
        }
        if !is_write && changes.wants_write {
            self.set(State::WRITABLE);
        }
        for (flag, on) in [
            (State::OUTPUT, changes.output),
            (State::LAYER_STARVED, changes.starved),
        ] {
            if on {
                self.set(flag);
            } else {
                self.clear(flag);
            }
        }
        if changes.input {
            // Where reading is stopped, the socket itself need not be asked again.
            let stopped = self.is(State::NO_READ) && !self.state.get().is_opening();
            if stopped {
                self.set(State::LAYER_FED);
            }
            if !stopped || changes.starved {
                self.set(State::READABLE);
            }
        }
        if changes.deadline.is_some() || self.is(State::LAYER_TIMED) {
            self.set_layer_timer(changes.deadline);
        }
        if changes.left {
            self.take_off_left();
        }
        if self.is(State::OPENING) {
            self.note_open();
        }
        changes.input
    }

    /// Notes whether a layer is there that is to end our side of the stream, while others open.
    pub(super) fn note_open(&self) {
        if self.layered(|layered| layered.is_to_end()) == Some(true) {
            self.set(State::LAYER_OPEN);
        } else {
            self.clear(State::LAYER_OPEN);
        }
    }

    /// Takes off the layers that have left. Without any the connection is a plain one.
    #[cold]
    fn take_off_left(&self) {
        let Some(stack) = self.socket.take() else {
            return;
        };
        let (stack, off) = match stack.into_foreign::<LayeredSocket>() {
            Ok(layered) => layered.take_off_left(),
            Err(bare) => {
                self.socket.replace(Some(bare));
                return;
            }
        };
        self.socket.replace(Some(stack));
        self.keep(off);
        // The layer knew what the kernel has, or has room for.
        self.set(State::READABLE | State::WRITABLE);
        if self.layered(|_| ()).is_none() {
            let layered = State::LAYERED | State::LAYER_OPEN | State::OUTPUT;
            self.clear(layered | State::LAYER_STARVED | State::LAYER_FED);
            self.set_layer_timer(None);
        }
    }
}
