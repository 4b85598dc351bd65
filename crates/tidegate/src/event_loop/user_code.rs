//! Code of the user: running it, and reporting its failures. A panic in it stays in here.

use super::core::{Core, ErrorHandler};
use super::counters::add;
use super::deferred::Deferred;
use super::failure::{Failure, PanicPolicy};
use super::todo::Todo;
use crate::log::guarded;
use crate::panics::{PanicPayload, discard, panic_message};
use crate::{CloseReason, Handle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

impl Core {
    /// Runs user code that belongs to no connection.
    pub(crate) fn guard<R>(&self, context: &'static str, call: impl FnOnce() -> R) -> Option<R> {
        add(&self.counters.callbacks, 1);
        self.begin_callback();
        let result = catch_unwind(AssertUnwindSafe(call));
        self.end_callback(|| context.to_owned());
        match result {
            Ok(value) => Some(value),
            Err(payload) => {
                let reason = self.park_panic(payload);
                self.report(Failure::new(context, reason));
                None
            }
        }
    }

    /// Notes when a callback begins, if slow ones are logged.
    #[inline(always)]
    pub(crate) fn begin_callback(&self) {
        if self.slow_callback.is_some() {
            self.callback_began.set(Some(self.clock()));
        }
    }

    /// Logs the callback if it was slow.
    #[inline(always)]
    pub(crate) fn end_callback(&self, name: impl FnOnce() -> String) {
        if let Some(limit) = self.slow_callback {
            self.check_slow(limit, name);
        }
    }

    /// Notes the callback of a read that runs now, if slow ones are logged.
    #[inline(always)]
    pub(crate) fn in_read_callback(&self, name: &'static str) {
        if self.slow_callback.is_some() {
            self.read_callback.set(Some(name));
        }
    }

    /// Calls code that has a name of its own in the log of slow callbacks. Its time does not count as that
    /// of the callback which calls it.
    #[inline]
    pub(crate) fn timed<R>(&self, name: impl FnOnce() -> String, call: impl FnOnce() -> R) -> R {
        match self.slow_callback {
            None => call(),
            Some(limit) => self.time(limit, name, call),
        }
    }

    #[cold]
    fn time<R>(
        &self,
        limit: Duration,
        name: impl FnOnce() -> String,
        call: impl FnOnce() -> R,
    ) -> R {
        let outer = (self.callback_began.take(), self.read_callback.take());
        let began = self.clock();
        self.callback_began.set(Some(began));
        let result = call();
        self.check_slow(limit, name);
        let took = self.clock().saturating_duration_since(began);
        self.callback_began.set(outer.0.map(|outer| outer + took));
        self.read_callback.set(outer.1);
        result
    }

    #[cold]
    fn check_slow(&self, limit: Duration, name: impl FnOnce() -> String) {
        if let Some(began) = self.callback_began.take() {
            let took = self.clock().saturating_duration_since(began);
            if took > limit {
                guarded(|| log::warn!(target: "tidegate::slow", "{} took {took:?}", name()));
            }
        }
        self.read_callback.set(None);
    }

    /// Keeps a panic for the end of the tick, if it is to go on; returns its message.
    pub(crate) fn park_panic(&self, payload: PanicPayload) -> CloseReason {
        let reason = CloseReason::Panic(panic_message(&payload));
        if let Some(payload) = self.propagate(payload) {
            self.defer_drop(Deferred::Value(payload));
        }
        reason
    }

    /// As [`park_panic`](Core::park_panic), for the panic of a drop. Its payload is dropped here: deferred,
    /// one whose drop always panics with another would never let the loop sleep.
    pub(super) fn park_panic_of_drop(&self, payload: PanicPayload) -> CloseReason {
        let reason = CloseReason::Panic(panic_message(&payload));
        if let Some(payload) = self.propagate(payload) {
            discard(payload);
        }
        reason
    }

    /// Keeps a panic that is to go on, and returns any other. Of several in one tick the first
    /// goes on.
    fn propagate(&self, payload: PanicPayload) -> Option<PanicPayload> {
        let parked = self.parked_panic.take();
        if self.panic_policy == PanicPolicy::Propagate && parked.is_none() {
            self.parked_panic.set(Some(payload));
            self.todo.set(Todo::PANIC);
            return None;
        }
        self.parked_panic.set(parked);
        Some(payload)
    }

    pub(crate) fn take_panic(&self) -> Option<PanicPayload> {
        self.todo.clear(Todo::PANIC);
        self.parked_panic.take()
    }

    /// Wakes a task; the waker is user code. May be called within a call of the user's, so a
    /// panic goes to the log, not to the error handler.
    pub(crate) fn wake(&self, waker: Waker) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(move || waker.wake())) {
            let reason = self.park_panic(payload);
            self.log_failure(&Failure::new("a waker", reason));
        }
    }

    pub(crate) fn set_error_handler(&self, handler: ErrorHandler) {
        if self.is_closed() {
            return;
        }
        let old = self.error_handler.replace(Some(handler));
        if let Some(old) = old {
            self.defer_drop(Deferred::Value(Box::new(old)));
        }
    }

    /// Reports to the error handler, or else to the log. Called from the loop, with nothing borrowed.
    pub(crate) fn report(&self, failure: Failure) {
        let taken = self.error_handler.take();
        let Some(mut handler) = taken else {
            self.log_failure(&failure);
            return;
        };
        let handle = self.this.upgrade().map(Handle::new);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let Some(handle) = &handle {
                handler(handle, &failure);
            }
        }));
        if let Err(payload) = outcome {
            let reason = CloseReason::Panic(panic_message(&payload));
            self.defer_drop(Deferred::Value(payload));
            self.log_failure(&failure);
            self.log_failure(&Failure::new("the error handler", reason));
        }
        let replaced = self.error_handler.borrow().is_some();
        if replaced {
            self.defer_drop(Deferred::Value(Box::new(handler)));
        } else {
            self.error_handler.replace(Some(handler));
        }
    }

    fn log_failure(&self, failure: &Failure) {
        let admitted = self.failure_log.borrow_mut().admit(self.clock());
        let Some(left_out) = admitted else { return };
        // The error's Display, and the logger, are user code.
        guarded(|| {
            if left_out > 0 {
                log::error!(target: "tidegate::failure", "{left_out} failures were not logged");
            }
            log::error!(target: "tidegate::failure", "{failure}");
        });
    }
}
