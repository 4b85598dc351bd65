//! Descriptors of the user's: what epoll(7) is told of them, and why it refuses some.

use super::OsDriver;
use crate::driver::Token;
use crate::watch::WatchFor;
use mio::Interest;
use std::io;
use std::os::fd::RawFd;

impl OsDriver {
    /// Reports events of a descriptor from now on, what is ready already included.
    pub(crate) fn watch_descriptor(
        &mut self,
        fd: RawFd,
        token: Token,
        events: WatchFor,
    ) -> io::Result<()> {
        let interest = match events {
            WatchFor::Read => Interest::READABLE,
            WatchFor::Write => Interest::WRITABLE,
            WatchFor::Both => Interest::READABLE | Interest::WRITABLE,
        };
        self.watch(fd, token, interest).map_err(explained)
    }
}

fn explained(error: io::Error) -> io::Error {
    let (kind, message) = match error.raw_os_error() {
        Some(libc::EPERM) => (
            io::ErrorKind::InvalidInput,
            "the system cannot wait for this kind of file: \
             read or write it in a job (Handle::run_in_executor)",
        ),
        Some(libc::EEXIST) => (
            io::ErrorKind::AlreadyExists,
            "this loop watches the descriptor already: watch it for both, or give a copy of it",
        ),
        _ => return error,
    };
    io::Error::new(kind, message)
}
