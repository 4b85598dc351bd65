//! How callbacks reach a protocol: one at a time, never from within a call of the user, each
//! followed by what it has caused.

use super::Transport;
use super::state::{State, Step};
use crate::event_loop::{Grave, PanicPayload, add};
use crate::{BoxError, CloseReason, OnPause, Protocol, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A protocol whose callbacks always cause another one must not hold the loop.
const STEPS_PER_SETTLE: usize = 32;

impl Transport {
    /// Calls the protocol. What the callback wrote is sent when it has returned; an error or a
    /// panic ends the connection. `None` when there was no answer.
    #[inline(always)]
    pub(super) fn call<R>(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &Self) -> Result<R>,
    ) -> Option<R> {
        let conn = self.conn();
        let core = &**conn.core();
        add(&core.counters.callbacks, 1);
        core.begin_callback();
        debug_assert!(core.gather.borrow().is_empty(), "bytes of another callback");
        // Callers have made sure that it is there and free.
        let mut slot = conn.protocol.try_borrow_mut().ok()?;
        let protocol = slot.as_deref_mut()?;
        conn.set(State::RUNNING);
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(protocol, self)));
        drop(slot);
        match outcome {
            Ok(Ok(answer)) => {
                self.leave(context);
                Some(answer)
            }
            Ok(Err(error)) => {
                self.leave_failed(context, Ok(error));
                None
            }
            Err(payload) => {
                self.leave_failed(context, Err(payload));
                None
            }
        }
    }

    /// A callback has returned: what it wrote goes out.
    #[inline(always)]
    fn leave(&self, context: &'static str) {
        let core = &**self.core();
        self.send_gathered(core);
        self.conn().clear(State::RUNNING);
        core.end_callback(|| {
            let name = self.protocol_name().unwrap_or("a protocol");
            format!("{context} of {name}")
        });
    }

    #[cold]
    fn leave_failed(
        &self,
        context: &'static str,
        failed: std::result::Result<BoxError, PanicPayload>,
    ) {
        let fault = self.fault_of(failed);
        self.leave(context);
        if let Some(fault) = fault {
            self.callback_failed(context, fault);
        }
    }

    /// What a callback that failed ends its connection with, if it does.
    fn fault_of(&self, failed: std::result::Result<BoxError, PanicPayload>) -> Option<CloseReason> {
        let core = self.core();
        let fault = match failed {
            Ok(error) if self.is_own_ending(&error) => {
                core.bury(Grave::Value(Box::new(error)));
                return None;
            }
            Ok(error) => CloseReason::Callback(error.into()),
            Err(payload) => core.park_panic(payload),
        };
        self.note_failure(&fault);
        Some(fault)
    }

    /// Calls the protocol on behalf of a queued closure, and delivers what that causes.
    pub(crate) fn run_callback(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn Protocol, &Self) -> Result,
    ) {
        if self.conn().is(State::UNMADE | State::SWITCH) {
            self.settle();
        }
        if self.conn().is(State::LOST) {
            self.conn().core().drop_value(callback);
            return;
        }
        self.call(context, callback);
        self.settle();
    }

    /// Delivers what is owed, in the order that [`State::next`] gives, until nothing is. Only the
    /// loop calls this, and never within a callback of this connection.
    pub(crate) fn settle(&self) {
        let conn = self.conn();
        if self.is_borrowed() {
            self.postpone();
            return;
        }
        for _ in 0..STEPS_PER_SETTLE {
            match conn.state.get().next(conn.spent()) {
                Step::Made => self.make(),
                Step::Switch => self.switch(),
                Step::Finish => self.finish(),
                Step::Flush => self.flush_queue(),
                Step::ShutdownWrite => self.shut_write(),
                Step::Close => self.begin_close(),
                Step::Pause => self.pause(),
                Step::Resume => self.resume(),
                Step::QueueRead => {
                    conn.set(State::READ_QUEUED);
                    conn.core().push_leftover(conn.id);
                }
                Step::Postpone => {
                    self.postpone();
                    return;
                }
                Step::Rest => return,
            }
        }
        self.postpone();
    }

    fn postpone(&self) {
        let conn = self.conn();
        if !conn.is(State::DIRTY) {
            conn.set(State::DIRTY);
            conn.core().push_dirty(conn.id);
        }
    }

    /// Something was changed from outside: the loop is to look before it sleeps. Within a
    /// callback of this connection its return does that.
    pub(crate) fn touch(&self) {
        if !self.conn().is(State::RUNNING | State::LOST) {
            self.postpone();
        }
    }

    /// From the loop's list of touched transports.
    pub(crate) fn settle_dirty(&self) {
        self.conn().clear(State::DIRTY);
        self.settle();
    }

    fn make(&self) {
        self.call("connection_made", |protocol, transport| {
            protocol.connection_made(transport)
        });
        self.conn().clear(State::UNMADE);
    }

    fn shut_write(&self) {
        let conn = self.conn();
        conn.set(State::EOF_SENT);
        let result = match conn.socket.borrow_mut().as_mut() {
            Some(socket) => socket.shutdown_write(),
            None => return,
        };
        if let Err(error) = result {
            // A reset shows as "not connected" here; the socket still has its own word for it.
            self.look_for_error();
            if !conn.is(State::ENDING) {
                self.write_failed(error);
            }
        }
    }

    fn pause(&self) {
        let conn = self.conn();
        conn.clear(State::ROUND);
        conn.set(State::TOLD);
        let answer = self.call("pause_writing", |protocol, transport| {
            protocol.pause_writing(transport)
        });
        conn.clear(State::STOPS);
        if answer == Some(OnPause::StopReading) {
            conn.set(State::STOPS);
        }
        if conn.is(State::PAUSED) && conn.is(State::STOPS) {
            conn.set(State::HELD);
        } else {
            conn.clear(State::HELD);
        }
    }

    fn resume(&self) {
        let conn = self.conn();
        conn.clear(State::TOLD | State::HELD);
        conn.round_tick.set(conn.core().tick());
        self.call("resume_writing", |protocol, transport| {
            protocol.resume_writing(transport)
        });
    }

    /// Puts the protocol that `set_protocol` brought in its place.
    pub(super) fn switch(&self) {
        let conn = self.conn();
        conn.clear(State::SWITCH | State::TOLD | State::EOF_TOLD | State::KEPT_OPEN);
        if !conn.is(State::PAUSED) {
            conn.clear(State::HELD);
        }
        let Some(next) = conn.with_extra(|extra| extra.next.take()) else {
            return;
        };
        conn.with_extra(|extra| {
            extra.unread.put_in_front(next.unread);
            if !extra.unread.rest().is_empty() {
                conn.set(State::UNREAD);
            }
        });
        let old = conn.protocol.replace(Some(next.protocol));
        if let Some(old) = old {
            conn.core().bury(Grave::Protocol(old));
        }
    }

    /// Whether `with_protocol` is on the stack: somebody runs the loop from within it.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.conn().protocol.try_borrow_mut().is_err()
    }
}
