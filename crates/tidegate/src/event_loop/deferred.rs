//! Deferred drops: discarded values of the user wait here for the end of the tick.

use super::core::Core;
use super::failure::Failure;
use super::todo::Todo;
use crate::Protocol;
use crate::callback::Run;
use crate::layer::TakenOff;
use bytes::Bytes;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The maximum number of deferred drops for which the loop keeps the memory of the list.
const KEPT: usize = 64;

/// A discarded value of the user. Its drop runs user code, so it is deferred until nothing is borrowed and
/// no call of the user is on the stack.
#[expect(dead_code, reason = "held to be dropped, never looked at")]
pub(crate) enum Deferred {
    Protocol(Box<dyn Protocol>),
    Bytes(Bytes),
    Layers(TakenOff),
    Value(Box<dyn Any>),
}

impl Core {
    pub(crate) fn defer_drop(&self, deferred: Deferred) {
        if self.gone.get() {
            // The loop that would do it later is gone.
            self.drop_value(deferred);
            return;
        }
        self.todo.set(Todo::DEFERRED);
        self.deferred.borrow_mut().push(deferred);
    }

    /// Defers the drop of a closure that does not run.
    pub(crate) fn defer_drop_call(&self, run: &dyn Run) {
        if let Some(call) = run.take() {
            self.defer_drop(Deferred::Value(call));
        }
    }

    /// Drops the values discarded until now; values that these drops discard wait for the next call.
    pub(crate) fn drop_deferred(&self) {
        if !self.todo.take(Todo::DEFERRED) {
            return;
        }
        let mut values = self.deferred.take();
        for deferred in values.drain(..) {
            self.drop_value(deferred);
        }
        let mut since = self.deferred.borrow_mut();
        if since.capacity() == 0 && values.capacity() <= KEPT {
            *since = values;
        }
    }

    /// Drops a value of the user's now.
    pub(crate) fn drop_value<V>(&self, value: V) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            let reason = self.park_panic_of_drop(payload);
            self.report(Failure::new("a drop", reason));
        }
    }

    /// Discards owned bytes. Plain memory is freed now, or a callback that ignores every refusal would
    /// pile it up; bytes with an owner are left to the loop, because dropping that one is user code.
    pub(crate) fn defer_drop_bytes(&self, data: Bytes) {
        if let Err(owned) = data.try_into_mut() {
            self.defer_drop(Deferred::Bytes(owned));
        }
    }
}
