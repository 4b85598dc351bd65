//! One call of a protocol's code: before it, after it, and its error or panic.

use super::Transport;
use super::state::State;
use crate::event_loop::{Deferred, PanicPayload, add};
use crate::{BoxError, CloseReason, Protocol, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Transport {
    /// Calls the protocol. The bytes that the callback wrote are sent when it has returned; an error or a
    /// panic ends the connection. Returns `None` when the callback returned no value.
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

    /// A callback has returned: its writes go out.
    #[inline(always)]
    fn leave(&self, context: &'static str) {
        let core = &**self.core();
        self.send_gathered(core);
        self.conn().clear(State::RUNNING);
        core.end_callback(|| self.callback_name(context));
    }

    #[cold]
    fn callback_name(&self, context: &'static str) -> String {
        let context = self.core().read_callback.take().unwrap_or(context);
        let protocol = self.protocol_name().unwrap_or("a protocol");
        let (id, peer) = (self.id(), self.peer_addr());
        format!("{context} of {protocol} on {id} (peer {peer})")
    }

    #[cold]
    fn leave_failed(
        &self,
        context: &'static str,
        failed: std::result::Result<BoxError, PanicPayload>,
    ) {
        let context = self.core().read_callback.take().unwrap_or(context);
        let fault = self.fault_of(failed);
        self.leave(context);
        if let Some(fault) = fault {
            self.callback_failed(context, fault);
        }
    }

    /// Returns the reason with which a failed callback ends its connection, if it does.
    pub(super) fn fault_of(
        &self,
        failed: std::result::Result<BoxError, PanicPayload>,
    ) -> Option<CloseReason> {
        let core = self.core();
        let fault = match failed {
            Ok(error) if self.is_own_ending(&error) => {
                core.defer_drop(Deferred::Value(Box::new(error)));
                return None;
            }
            Ok(error) => {
                self.note_refusal_in(&*error);
                CloseReason::Callback(error.into())
            }
            Err(payload) => core.park_panic(payload),
        };
        self.note_failure(&fault);
        Some(fault)
    }
}
