//! Child processes, which the system's driver alone knows.

use super::os::ExitWatch;
use super::{AnyDriver, Token};
use std::io;

impl AnyDriver {
    /// Reports the exit of a child: by an event of `token`, or by a call of `exited` from another thread.
    pub(crate) fn watch_exit(
        &mut self,
        pid: u32,
        token: Token,
        exited: impl FnOnce() + Send + 'static,
    ) -> io::Result<ExitWatch> {
        match self {
            Self::Os(driver) => driver.watch_exit(pid, token, exited),
            Self::Foreign(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this world under the loop has no child processes",
            )),
        }
    }

    pub(crate) fn forget_exit(&self, watch: &ExitWatch) {
        if let Self::Os(driver) = self {
            driver.forget_exit(watch);
        }
    }
}
