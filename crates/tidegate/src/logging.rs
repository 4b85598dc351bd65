//! Log lines. The logger is user code: a panic in it ends here, not in the loop.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what logs.
pub(crate) fn guarded(log: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(log)) {
        // There is nobody to tell, and dropping it may panic once more.
        std::mem::forget(payload);
    }
}
