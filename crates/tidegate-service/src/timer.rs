//! A timer that its owner takes along.

use tidegate::CallbackHandle;

/// A timer, if there is one. Dropping it cancels.
#[derive(Default)]
pub(crate) struct Timer(pub(crate) Option<CallbackHandle>);

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(timer) = &self.0 {
            timer.cancel();
        }
    }
}
