//! What a server listens on, and how.

use crate::driver::{Listener, OsListener};
use crate::flow::WriteLimits;
use crate::{Address, address};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

const DEFAULT_BACKLOG: u32 = 1024;

/// Where and how a server listens; see [`Handle::create_server`](crate::Handle::create_server).
///
/// Made from `"127.0.0.1:8888"`, `"[::1]:0"`, `"unix:/path"`, a [`SocketAddr`], an [`Address`],
/// or a listener of the standard library. Port 0 takes a free one.
///
/// ```
/// use tidegate::{ListenOptions, WriteLimits};
///
/// let options = ListenOptions::new("127.0.0.1:0")
///     .backlog(128)
///     .write_limits(WriteLimits::new().with_high(1 << 20));
/// # let _ = options;
/// ```
#[derive(Debug)]
pub struct ListenOptions {
    pub(crate) at: ListenAt,
    pub(crate) backlog: u32,
    pub(crate) start_serving: bool,
    pub(crate) write_limits: WriteLimits,
}

#[derive(Debug)]
pub(crate) enum ListenAt {
    Address(Address),
    /// Bound and listening already.
    Ready(Listener),
    /// What was given is no address.
    Failed(io::Error),
}

impl ListenOptions {
    /// Listens there, with the defaults. What is wrong with an address is said by
    /// `create_server`.
    pub fn new(at: impl Into<Self>) -> Self {
        at.into()
    }

    fn at(at: ListenAt) -> Self {
        Self {
            at,
            backlog: DEFAULT_BACKLOG,
            start_serving: true,
            write_limits: WriteLimits::new(),
        }
    }

    /// How many connections may wait in the kernel to be accepted; 1,024 unless set. The system
    /// has a limit of its own (listen(2)).
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// `false`: bound, but not listening until
    /// [`start_serving`](crate::Server::start_serving).
    pub fn start_serving(mut self, now: bool) -> Self {
        self.start_serving = now;
        self
    }

    /// The write limits of the accepted connections.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }
}

impl From<Address> for ListenOptions {
    fn from(address: Address) -> Self {
        Self::at(ListenAt::Address(address))
    }
}

impl From<&Address> for ListenOptions {
    fn from(address: &Address) -> Self {
        address.clone().into()
    }
}

impl From<SocketAddr> for ListenOptions {
    fn from(addr: SocketAddr) -> Self {
        Address::Inet(addr).into()
    }
}

impl From<&str> for ListenOptions {
    fn from(text: &str) -> Self {
        Self::at(match address::parse(text) {
            Ok(address) => ListenAt::Address(address),
            Err(complaint) => {
                ListenAt::Failed(io::Error::new(io::ErrorKind::InvalidInput, complaint))
            }
        })
    }
}

impl From<String> for ListenOptions {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<TcpListener> for ListenOptions {
    fn from(listener: TcpListener) -> Self {
        Self::taken_over(OsListener::from_std(listener, true))
    }
}

/// Its socket file, if it has one, is not ours and stays.
impl From<UnixListener> for ListenOptions {
    fn from(listener: UnixListener) -> Self {
        Self::taken_over(OsListener::from_std(listener, false))
    }
}

impl ListenOptions {
    fn taken_over(listener: io::Result<OsListener>) -> Self {
        Self::at(match listener {
            Ok(listener) => ListenAt::Ready(Listener::Os(listener)),
            Err(error) => ListenAt::Failed(error),
        })
    }
}
