//! What a server listens on, and how.

use crate::address::{self, Target};
use crate::driver::{BindOptions, Listener, OsListener};
use crate::event_loop::Core;
use crate::flow::WriteLimits;
use crate::{Address, LingerLimits};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

const DEFAULT_BACKLOG: u32 = 1024;

/// Where and how a server listens; see [`Handle::create_server`](crate::Handle::create_server).
///
/// Made from `"127.0.0.1:8888"`, `"[::1]:0"`, `"localhost:8888"`, `"unix:/path"`, a host and a
/// port, a [`SocketAddr`], an [`Address`], a listener of the standard library, or several of one
/// kind. Port 0 takes a free one, for each address its own. `0.0.0.0` and `[::]` are all addresses
/// of the machine.
///
/// A name stands for all of its addresses. Those that this machine does not have are left out, as
/// in asyncio, as long as there is another.
///
/// ```
/// use tidegate::{ListenOptions, WriteLimits};
///
/// let options = ListenOptions::new(["127.0.0.1:0", "[::1]:0"])
///     .also("unix:/tmp/echo.sock")
///     .backlog(128)
///     .write_limits(WriteLimits::new().with_high(1 << 20));
/// # let _ = options;
/// ```
#[derive(Debug)]
#[must_use]
pub struct ListenOptions {
    at: Vec<ListenAt>,
    pub(super) backlog: u32,
    pub(super) start_serving: bool,
    pub(super) write_limits: WriteLimits,
    pub(super) linger_limits: LingerLimits,
    bind: BindOptions,
}

#[derive(Debug)]
enum ListenAt {
    Target(Target),
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

    fn at(at: Vec<ListenAt>) -> Self {
        Self {
            at,
            backlog: DEFAULT_BACKLOG,
            start_serving: true,
            write_limits: WriteLimits::new(),
            linger_limits: LingerLimits::new(),
            bind: BindOptions {
                reuse_port: false,
                only_v6: true,
            },
        }
    }

    /// Listens there too. Only the addresses of `at` count, not its settings.
    pub fn also(mut self, at: impl Into<Self>) -> Self {
        self.at.extend(at.into().at);
        self
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

    /// Whether other sockets that say so too may listen on the same TCP port (SO_REUSEPORT,
    /// socket(7)): the kernel spreads connections over them, such as the loops of several threads.
    /// Off unless set; no effect on Unix sockets.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.bind.reuse_port = on;
        self
    }

    /// Whether an IPv6 address is for IPv6 alone (IPV6_V6ONLY, ipv6(7)); on unless set, as in
    /// asyncio. Off, `[::]` takes IPv4 connections too.
    pub fn v6only(mut self, on: bool) -> Self {
        self.bind.only_v6 = on;
        self
    }

    /// The write limits of the accepted connections.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }

    /// The [limits of the linger](LingerLimits) of accepted connections, after their close.
    pub fn linger_limits(mut self, limits: LingerLimits) -> Self {
        self.linger_limits = limits;
        self
    }

    /// Binds every address, or none. Names are resolved here and now.
    pub(super) fn bind(&mut self, core: &Core) -> io::Result<Vec<Listener>> {
        let mut bound = Vec::new();
        for at in self.at.drain(..) {
            match at {
                ListenAt::Ready(listener) => bound.push(listener),
                ListenAt::Failed(error) => return Err(error),
                ListenAt::Target(Target::Address(address)) => {
                    let listener = bind(core, &address, self.bind);
                    bound.push(listener.map_err(|error| refused(&address, &error))?);
                }
                ListenAt::Target(Target::Name { host, port }) => {
                    bound.extend(bind_name(core, &host, port, self.bind)?);
                }
            }
        }
        if bound.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a server needs at least one address to listen on",
            ));
        }
        Ok(bound)
    }
}

fn bind(core: &Core, address: &Address, options: BindOptions) -> io::Result<Listener> {
    core.with_driver(|driver| driver.as_dyn().bind(address, options))
}

fn bind_name(
    core: &Core,
    host: &str,
    port: u16,
    options: BindOptions,
) -> io::Result<Vec<Listener>> {
    let name = Target::Name {
        host: host.to_owned(),
        port,
    };
    let addresses = core
        .resolver()
        .ask(host, port)
        .map_err(|error| refused(&name, &error))?;
    let (mut bound, mut left_out) = (Vec::new(), Vec::new());
    for address in addresses.into_iter().map(Address::Inet) {
        match bind(core, &address, options) {
            Ok(listener) => bound.push(listener),
            Err(error) if is_not_of_this_machine(&error) => left_out.push((address, error)),
            Err(error) => {
                return Err(refused(&format!("{name}: {address}"), &error));
            }
        }
    }
    if bound.is_empty() {
        let reasons: Vec<_> = left_out
            .iter()
            .map(|(address, error)| format!("{address}: {error}"))
            .collect();
        let message = format!("cannot listen on {name}: {}", reasons.join("; "));
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    Ok(bound)
}

/// The address, or its whole family.
fn is_not_of_this_machine(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

pub(super) fn refused(place: &impl std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {place}: {error}"))
}

impl From<Address> for ListenOptions {
    fn from(address: Address) -> Self {
        Self::at(vec![ListenAt::Target(Target::Address(address))])
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

impl From<(&str, u16)> for ListenOptions {
    fn from((host, port): (&str, u16)) -> Self {
        Self::parsed(Target::of_host(host, port))
    }
}

impl From<&str> for ListenOptions {
    fn from(text: &str) -> Self {
        Self::parsed(address::parse(text))
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

/// All of them.
impl<T: Into<Self>> From<Vec<T>> for ListenOptions {
    fn from(several: Vec<T>) -> Self {
        let at = several.into_iter().flat_map(|one| one.into().at);
        Self::at(at.collect())
    }
}

/// All of them.
impl<T: Into<Self>, const N: usize> From<[T; N]> for ListenOptions {
    fn from(several: [T; N]) -> Self {
        Vec::from(several).into()
    }
}

impl ListenOptions {
    fn parsed(target: io::Result<Target>) -> Self {
        Self::at(vec![target.map_or_else(ListenAt::Failed, ListenAt::Target)])
    }

    fn taken_over(listener: io::Result<OsListener>) -> Self {
        let listener = listener.map(Listener::Os);
        Self::at(vec![
            listener.map_or_else(ListenAt::Failed, ListenAt::Ready),
        ])
    }
}
