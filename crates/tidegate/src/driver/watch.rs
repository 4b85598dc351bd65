//! Descriptors of the user's, which the system's driver alone knows.

use super::{AnyDriver, Token};
use crate::watch::WatchFor;
use std::io;
use std::os::fd::RawFd;

impl AnyDriver {
    /// Reports events of a descriptor from now on, what is ready already included.
    pub(crate) fn watch_descriptor(
        &mut self,
        fd: RawFd,
        token: Token,
        events: WatchFor,
    ) -> io::Result<()> {
        match self {
            Self::Os(driver) => driver.watch_descriptor(fd, token, events),
            Self::Foreign(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this world under the loop has no descriptors",
            )),
        }
    }

    pub(crate) fn forget_descriptor(&self, fd: RawFd) {
        if let Self::Os(driver) = self {
            driver.forget(fd);
        }
    }
}
