//! Panics of user code as values.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A panic in flight, as `catch_unwind` returns it.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// Returns the text that the panic was raised with.
pub(crate) fn panic_message(payload: &PanicPayload) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a message".into()
    }
}

/// Calls user code; returns the message of its panic as the error.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, Arc<str>> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let message = panic_message(&payload);
        // Its drop may panic too.
        mem::forget(payload);
        message
    })
}
