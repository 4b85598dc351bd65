//! Options of sockets that a user may set, and setting them before a socket is bound or connected.
//! `driver/os/socket_options.rs` makes the system calls.

use crate::Address;
use crate::driver::{Socket, SocketOption};
use crate::event_loop::{Core, Deferred};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The times at which the kernel probes an idle TCP connection, and the number of lost probes that end it
/// (SO_KEEPALIVE, tcp(7)).
///
/// A value that is not set is the system's: on Linux 2 hours, 75 s and 9 probes. Times are rounded
/// up to whole seconds. A peer that stays silent ends the connection with
/// [`TimedOut`](io::ErrorKind::TimedOut).
///
/// ```
/// use std::time::Duration;
/// use tidegate::{ConnectOptions, Keepalive};
///
/// let keepalive = Keepalive::new()
///     .with_time(Duration::from_secs(60))
///     .with_interval(Duration::from_secs(10))
///     .with_retries(3);
/// let options = ConnectOptions::new("192.0.2.1:8888").keepalive(keepalive);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Keepalive {
    pub(crate) time: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) retries: Option<u32>,
}

impl Keepalive {
    /// Returns the system's settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a connection is idle before the first probe (TCP_KEEPIDLE), 1 s to 32,767 s.
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets the time between two probes (TCP_KEEPINTVL), 1 s to 32,767 s.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Sets the number of unanswered probes that end the connection (TCP_KEEPCNT), 1 to 127.
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }
}

/// Code of the user's that is shown a new socket.
type Hook = Arc<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync>;

/// Options to set on sockets before they are bound or connected.
#[derive(Clone, Default)]
pub(crate) struct SocketOptions {
    options: Vec<SocketOption>,
    hook: Option<Hook>,
}

/// A socket on which options are set.
pub(crate) trait Configure {
    fn configure(&mut self, option: SocketOption) -> io::Result<()>;

    /// Returns the descriptor for the user to see, if the socket has one. From now on it may have a
    /// copy.
    fn expose(&mut self) -> Option<BorrowedFd<'_>>;
}

impl SocketOptions {
    /// Sets an option, in place of an earlier one of the kind.
    pub(crate) fn set(&mut self, option: SocketOption) {
        let kind = mem::discriminant(&option);
        self.options.retain(|set| mem::discriminant(set) != kind);
        self.options.push(option);
    }

    pub(crate) fn set_hook(
        &mut self,
        hook: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) {
        self.hook = Some(Arc::new(hook));
    }

    pub(crate) fn options(&self) -> &[SocketOption] {
        &self.options
    }

    /// Returns whether code of the user's would run.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some()
    }

    /// Makes a socket for `address` ahead of its bind or connect, when there is something to set
    /// and sockets have descriptors. Runs code of the user's: nothing may be borrowed.
    pub(crate) fn prepare(&self, core: &Core, address: &Address) -> io::Result<Option<Socket>> {
        if self.options.is_empty() && self.hook.is_none() {
            return Ok(None);
        }
        let mut socket = core.with_driver(|driver| driver.socket(address))?;
        if let Some(socket) = &mut socket {
            self.apply(core, socket)?;
        }
        Ok(socket)
    }

    /// Sets everything on a socket. Runs code of the user's: nothing may be borrowed.
    pub(crate) fn apply(&self, core: &Core, socket: &mut impl Configure) -> io::Result<()> {
        for option in &self.options {
            let set = socket.configure(*option);
            set.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", option.name()))
            })?;
        }
        match &self.hook {
            Some(hook) => socket.expose().map_or(Ok(()), |fd| run(hook, core, fd)),
            None => Ok(()),
        }
    }

    /// Leaves the drop of the user's code to the loop.
    pub(crate) fn retire(&mut self, core: &Core) {
        if let Some(hook) = self.hook.take() {
            core.defer_drop(Deferred::Value(Box::new(hook)));
        }
    }
}

fn run(hook: &Hook, core: &Core, fd: BorrowedFd<'_>) -> io::Result<()> {
    catch_unwind(AssertUnwindSafe(|| hook(fd))).unwrap_or_else(|payload| {
        let reason = core.park_panic(payload);
        Err(io::Error::other(format!("on_socket: {reason}")))
    })
}

impl fmt::Debug for SocketOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOptions")
            .field("options", &self.options)
            .field("hook", &self.hook.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_options_of_a_kind_counts() {
        let mut options = SocketOptions::default();
        options.set(SocketOption::SendBuffer(1));
        options.set(SocketOption::ReceiveBuffer(2));
        options.set(SocketOption::SendBuffer(3));
        let expected = [SocketOption::ReceiveBuffer(2), SocketOption::SendBuffer(3)];
        assert_eq!(options.options(), expected);
    }
}
