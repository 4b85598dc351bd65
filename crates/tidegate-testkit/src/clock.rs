//! The time of a world, for code that has no handle of a loop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The clock of a [`World`](crate::World), from [`World::clock`](crate::World::clock). Clones are the
/// same clock, on any thread.
///
/// It is for code that asks for the time and has no [`Handle`](tidegate::Handle), such as the
/// `time_provider` of a rustls configuration.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<Duration>>);

impl Clock {
    /// Returns the time since the world began.
    pub fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}
