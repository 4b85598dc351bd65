//! Panics of user code as values.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A panic in flight, as `catch_unwind` returns it.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// The maximum number of payloads that one panic may bring about, each by the drop of the one
/// before. One is usual; a chain of this length is a program's mistake.
const MAX_DROPS: usize = 64;

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
        discard(payload);
        message
    })
}

/// Drops a payload where no failure can be reported. The drop is user code: its own panic has a
/// payload too, which is dropped in turn. After [`MAX_DROPS`] of them the last one leaks.
pub(crate) fn discard(mut payload: PanicPayload) {
    for _ in 0..MAX_DROPS {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    mem::forget(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    /// Panics with another one of itself as often as it says.
    struct Again(usize);

    impl Drop for Again {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_whose_drop_panics_is_dropped_to_its_end_or_to_a_bound() {
        discard(Box::new(Again(3)));
        assert_eq!(DROPPED.swap(0, Ordering::Relaxed), 4);
        discard(Box::new(Again(usize::MAX)));
        assert_eq!(DROPPED.swap(0, Ordering::Relaxed), MAX_DROPS);
    }
}
