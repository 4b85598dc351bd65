//! Drops that are put off: values of the user that were thrown away wait here for the end of the
//! turn.

use super::core::Core;
use super::failure::Failure;
use super::todo::Todo;
use crate::Protocol;
use crate::callback::Run;
use bytes::Bytes;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Values of the user that were thrown away. Dropping them runs user code, so it is put off until
/// nothing is borrowed and no call of the user is on the stack.
#[expect(dead_code, reason = "held to be dropped, never looked at")]
pub(crate) enum Grave {
    Protocol(Box<dyn Protocol>),
    Bytes(Bytes),
    Value(Box<dyn Any>),
}

impl Core {
    pub(crate) fn bury(&self, grave: Grave) {
        if self.gone.get() {
            // The loop that would do it later is gone.
            self.drop_value(grave);
            return;
        }
        self.todo.set(Todo::GRAVES);
        self.graveyard.borrow_mut().push(grave);
    }

    /// Buries, uncalled, what was to run.
    pub(crate) fn bury_call(&self, run: &dyn Run) {
        if let Some(call) = run.take() {
            self.bury(Grave::Value(call));
        }
    }

    /// Drops what was thrown away until now; what that throws away waits for the next call.
    pub(crate) fn empty_graveyard(&self) {
        if !self.todo.take(Todo::GRAVES) {
            return;
        }
        let graves = self.graveyard.take();
        for grave in graves {
            self.drop_value(grave);
        }
    }

    /// Drops a value of the user's now.
    pub(crate) fn drop_value<V>(&self, value: V) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            let reason = self.park_panic(payload);
            self.report(Failure::new("a drop", reason));
        }
    }

    /// Owned bytes that are done with. Plain memory is freed now, or a callback that ignores
    /// every refusal would pile it up; bytes with an owner are left to the loop, because dropping
    /// that one is user code.
    pub(crate) fn bury_bytes(&self, data: Bytes) {
        if let Err(owned) = data.try_into_mut() {
            self.bury(Grave::Bytes(owned));
        }
    }
}
