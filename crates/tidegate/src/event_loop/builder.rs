use super::failure::PanicPolicy;
use super::{Core, EventLoop};
use crate::driver::{AnyDriver, OsDriver};
use std::io;
use std::time::Duration;

/// Settings of an event loop.
///
/// ```
/// use std::time::Duration;
/// use tidegate::EventLoop;
///
/// # fn main() -> std::io::Result<()> {
/// let event_loop = EventLoop::builder()
///     .slow_callback(Duration::from_millis(100))
///     .build()?;
/// # drop(event_loop); Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct EventLoopBuilder {
    panic_policy: PanicPolicy,
    slow_callback: Option<Duration>,
    #[cfg(feature = "unstable-driver")]
    driver: Option<Box<dyn crate::driver::Driver>>,
}

impl EventLoopBuilder {
    /// What happens to a panic in user code; isolated unless set.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.panic_policy = policy;
        self
    }

    /// Logs, at `warn` under `tidegate::slow`, each callback that takes longer, with the type
    /// name of its protocol. Off unless set; off, no clock is read for it.
    pub fn slow_callback(mut self, longer_than: Duration) -> Self {
        self.slow_callback = Some(longer_than);
        self
    }

    /// Another world under the loop.
    #[cfg(feature = "unstable-driver")]
    #[doc(hidden)]
    pub fn driver(mut self, driver: impl crate::driver::Driver + 'static) -> Self {
        self.driver = Some(Box::new(driver));
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    ///
    /// Those of the system: it may be out of descriptors.
    pub fn build(self) -> io::Result<EventLoop> {
        #[cfg(feature = "unstable-driver")]
        if let Some(driver) = self.driver {
            let driver = AnyDriver::Foreign(driver);
            let core = Core::new(driver, self.panic_policy, self.slow_callback);
            return Ok(EventLoop::with_core(core));
        }
        let driver = AnyDriver::Os(OsDriver::new()?);
        let core = Core::new(driver, self.panic_policy, self.slow_callback);
        Ok(EventLoop::with_core(core))
    }
}
