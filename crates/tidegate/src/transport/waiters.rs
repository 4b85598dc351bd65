//! Waiters for bytes to go, or for the end: `drain`, `flush`, `wait_closed`.

use super::Transport;
use super::state::State;
use crate::completion::{Completer, Completion};
use crate::memory::trim_queue;
use crate::{Closed, Flow};
use std::io;
use std::mem;

impl Transport {
    pub(super) fn wait_drained(&self) -> Completion<()> {
        let conn = self.conn();
        if let Some(closed) = conn.closed() {
            return Completion::ready(&conn.handle, Err(closed.into()));
        }
        if conn.flow() == Flow::Open {
            return Completion::ready(&conn.handle, Ok(()));
        }
        let (completer, completion) = Completion::pair(&conn.handle);
        conn.with_extra(|extra| Completer::push_live(&mut extra.drains, completer));
        conn.set(State::AWAITED);
        completion
    }

    pub(super) fn wait_flushed(&self) -> Completion<()> {
        let conn = self.conn();
        let target = conn.written.get();
        if conn.sent.get() >= target {
            return Completion::ready(&conn.handle, Ok(()));
        }
        if let Some(closed) = conn.closed() {
            return Completion::ready(&conn.handle, Err(closed.into()));
        }
        let (completer, completion) = Completion::pair(&conn.handle);
        conn.with_extra(|extra| {
            if extra.flushes.len() == extra.flushes.capacity() {
                extra.flushes.retain(|(_, waiting)| !waiting.is_cancelled());
            }
            extra.flushes.push_back((target, completer));
        });
        conn.set(State::AWAITED);
        completion
    }

    pub(super) fn wait_lost(&self) -> Completion<Closed> {
        let conn = self.conn();
        if conn.is(State::LOST_CALLED)
            && let Some(closed) = conn.closed()
        {
            return Completion::ready(&conn.handle, Ok(closed));
        }
        let (completer, completion) = Completion::pair(&conn.handle);
        conn.with_extra(|extra| Completer::push_live(&mut extra.closes, completer));
        completion
    }

    /// Completes the waiters whose condition holds. Wakers run in here: nothing is borrowed, and the
    /// connection is in order. A condition that a waker reaches by writing is left to the call that woke it:
    /// were each to complete the next within its own write, the stack would bound them.
    pub(super) fn answer_waiters(&self) {
        let conn = self.conn();
        if !conn.is(State::AWAITED) || conn.is(State::COMPLETING) {
            return;
        }
        conn.set(State::COMPLETING);
        self.answer_reached();
        conn.clear(State::COMPLETING);
        let is_done = conn.with_extra(|extra| {
            let is_done = extra.drains.is_empty() && extra.flushes.is_empty();
            if is_done {
                trim_queue(&mut extra.flushes);
            }
            is_done
        });
        if is_done {
            conn.clear(State::AWAITED);
        }
    }

    fn answer_reached(&self) {
        let conn = self.conn();
        loop {
            let open = conn.flow() == Flow::Open;
            let drains = if open && !conn.is(State::ENDING.without(State::CLOSING)) {
                conn.with_extra(|extra| mem::take(&mut extra.drains))
            } else {
                Vec::new()
            };
            let flush = conn.with_extra(|extra| extra.pop_flushed(conn.sent.get()));
            if drains.is_empty() && flush.is_none() {
                return;
            }
            for reached in drains.into_iter().chain(flush) {
                reached.complete(Ok(()));
            }
        }
    }

    /// Fails the waiters for bytes that will not go.
    pub(super) fn fail_waiters(&self, closed: &Closed) {
        let conn = self.conn();
        if !conn.has_extra() {
            return;
        }
        self.answer_reached();
        let (drains, flushes) =
            conn.with_extra(|extra| (mem::take(&mut extra.drains), mem::take(&mut extra.flushes)));
        let flushes = flushes.into_iter().map(|(_, flush)| flush);
        for waiting in drains.into_iter().chain(flushes) {
            waiting.complete(Err(io::Error::from(closed.clone())));
        }
    }

    /// Completes `wait_closed`.
    pub(super) fn answer_closes(&self, closed: &Closed) {
        if self.conn().has_extra() {
            for waiting in self.conn().with_extra(|extra| mem::take(&mut extra.closes)) {
                waiting.complete(Ok(closed.clone()));
            }
        }
    }
}
