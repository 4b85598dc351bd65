//! Options of a connect.

use super::happy_eyeballs::ATTEMPT_DELAY;
use crate::address::{Target, from_addresses};
use crate::driver::SocketOption;
use crate::flow::WriteLimits;
use crate::socket_options::SocketOptions;
use crate::timeouts::Timeouts;
use crate::transport::NewLayer;
use crate::{Address, Keepalive, Layer, LingerLimits};
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The target and the settings of a connect; see
/// [`Handle::create_connection`](crate::Handle::create_connection).
///
/// Made from `"127.0.0.1:8888"`, `"[::1]:8888"`, `"localhost:8888"`, `"unix:/path"`, a host and a
/// port, a [`SocketAddr`] or an [`Address`]. `"[fe80::1%eth0]:80"` is an address in the zone of a
/// network interface (RFC 4007).
///
/// A name is resolved off the loop. Several addresses are tried as RFC 8305 (Happy Eyeballs) says. The
/// families alternate. The next attempt begins when one has failed or has taken longer than the
/// [delay](Self::happy_eyeballs_delay). The first that connects is taken, and the others are closed.
///
/// ```
/// use std::time::Duration;
/// use tidegate::ConnectOptions;
///
/// let options = ConnectOptions::new(("localhost", 8888)).timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Debug)]
#[must_use]
pub struct ConnectOptions {
    pub(super) to: io::Result<Target>,
    pub(super) timeout: Option<Duration>,
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) attempt_delay: Duration,
    pub(super) write_limits: WriteLimits,
    pub(super) socket: SocketOptions,
    pub(super) linger_limits: Option<LingerLimits>,
    pub(super) timeouts: Timeouts,
    /// From the wire up.
    pub(super) layers: Vec<NewLayer>,
}

impl ConnectOptions {
    /// Connects there, with the defaults. The completion has the error of a wrong address.
    pub fn new(to: impl Into<Self>) -> Self {
        to.into()
    }

    fn to(to: io::Result<Target>) -> Self {
        Self {
            to,
            timeout: None,
            local_addr: None,
            attempt_delay: ATTEMPT_DELAY,
            write_limits: WriteLimits::new(),
            socket: SocketOptions::default(),
            linger_limits: None,
            timeouts: Timeouts::default(),
            layers: Vec::new(),
        }
    }

    /// Sets the time limit of the connect, resolving and the opening of [layers](Self::layer) included.
    /// Without one the system's own limits hold, which are minutes for each address.
    ///
    /// The connect then fails with [`TimedOut`](io::ErrorKind::TimedOut). The error tells when the name was
    /// still being resolved. Names are resolved on the threads of
    /// [jobs](crate::Handle::run_in_executor), so jobs that hold them all hold up connects too.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Connects from this address; port 0 takes a free one. Addresses of the other family, and Unix
    /// sockets, then fail with [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable).
    pub fn local_addr(mut self, addr: SocketAddr) -> Self {
        self.local_addr = Some(addr);
        self
    }

    /// Sets the time that an attempt has before another address is tried beside it; 250 ms unless set, as
    /// RFC 8305 recommends (section 8). [`Duration::MAX`] tries one after the other.
    pub fn happy_eyeballs_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay;
        self
    }

    /// Sets the write limits of the connection.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }

    /// Sets the [limits of the linger](LingerLimits) of the connection, after its close.
    pub fn linger_limits(mut self, limits: LingerLimits) -> Self {
        self.linger_limits = Some(limits);
        self
    }

    /// Ends the connection with [`TimeoutKind::Idle`](crate::TimeoutKind::Idle) when no byte comes
    /// or goes for `limit`; no limit unless set.
    ///
    /// As [`ListenOptions::idle_timeout`](crate::ListenOptions::idle_timeout), from the moment at which the
    /// socket has connected. It is one timer for the connection. [`Duration::ZERO`] is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.idle = Some(limit);
        self
    }

    /// Sets the write timeout of the connection from the start, as
    /// [`Transport::set_write_timeout`](crate::Transport::set_write_timeout) does; no limit unless set.
    /// [`Duration::ZERO`] is [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.write = Some(limit);
        self
    }

    /// Bounds every graceful close of the connection; no limit unless set. As
    /// [`ListenOptions::close_timeout`](crate::ListenOptions::close_timeout). [`Duration::ZERO`] is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.close = Some(limit);
        self
    }

    /// Returns the host of the address, a name or an IP address without its zone. `None` for a Unix
    /// socket, and for a text that is no address.
    ///
    /// For layers that check the name of the server, as TLS does.
    pub fn host(&self) -> Option<String> {
        match self.to.as_ref().ok()? {
            Target::Address(address) => Some(address.as_inet()?.ip().to_string()),
            Target::Zoned { ip, .. } => Some(ip.to_string()),
            Target::Name { host, .. } => Some(host.clone()),
        }
    }

    /// Has the connect fail with `error`, unless it fails for its address anyway.
    ///
    /// For extension traits, whose methods return the options and have no other way to refuse an
    /// argument.
    pub fn fail_with(mut self, error: io::Error) -> Self {
        self.to = self.to.and(Err(error));
        self
    }

    /// Puts a layer on the connection, such as TLS. Several calls stack them, from the wire up.
    ///
    /// The layers open when the socket has connected. `connection_made`, and the completion of
    /// [`create_connection`](crate::Handle::create_connection), come when all are open. Until then
    /// dropping the completion cancels the connect, and its [`timeout`](Self::timeout) holds.
    ///
    /// A connection whose layers do not open has no callback at all: its protocol is dropped. The
    /// completion fails with the layer's error, in a [`ConnectError`](crate::ConnectError), or
    /// with [`TimedOut`](io::ErrorKind::TimedOut) after the layer's
    /// [`open_limit`](crate::Layer::open_limit). No other address is tried then. The completion
    /// fails with [`InvalidInput`](io::ErrorKind::InvalidInput) when a limit is zero.
    ///
    /// # Panics
    ///
    /// A panic of the layer's `open_limit`, which this call asks, goes to the caller.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(NewLayer::new(layer));
        self
    }
}

/// # Socket options
///
/// They are set on the socket of each attempt, before connect(2). An option that is refused fails
/// the attempt. A simulated network ignores them.
impl ConnectOptions {
    /// Has the kernel probe the connection while it is idle (SO_KEEPALIVE); off unless set. No
    /// effect on Unix sockets.
    #[doc(alias = "SO_KEEPALIVE")]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.socket.set(SocketOption::KeepAlive(Some(keepalive)));
        self
    }

    /// Ends the connection when its peer acknowledges nothing for this long; see
    /// [`Transport::set_user_timeout`](crate::Transport::set_user_timeout). No effect on Unix
    /// sockets.
    #[doc(alias = "TCP_USER_TIMEOUT")]
    pub fn user_timeout(mut self, limit: Duration) -> Self {
        self.socket.set(SocketOption::UserTimeout(Some(limit)));
        self
    }

    /// Sets the size in bytes of the kernel's send buffer; see
    /// [`Transport::set_send_buffer_size`](crate::Transport::set_send_buffer_size).
    #[doc(alias = "SO_SNDBUF")]
    pub fn send_buffer_size(mut self, bytes: u32) -> Self {
        self.socket.set(SocketOption::SendBuffer(bytes));
        self
    }

    /// Sets the size in bytes of the kernel's receive buffer; see
    /// [`Transport::set_recv_buffer_size`](crate::Transport::set_recv_buffer_size).
    ///
    /// Above 64 KiB, TCP uses it fully only when it is set before connecting (tcp(7)), as it is here.
    #[doc(alias = "SO_RCVBUF")]
    pub fn recv_buffer_size(mut self, bytes: u32) -> Self {
        self.socket.set(SocketOption::ReceiveBuffer(bytes));
        self
    }

    /// Shows `call` the descriptor of each attempt's socket before connect(2), for any other option.
    ///
    /// `call` runs on the loop, after the options above were set. Its error fails the attempt, and
    /// so does a panic. It is not called on a simulated network, whose sockets have no descriptors.
    ///
    /// ```
    /// use socket2::SockRef;
    /// use tidegate::ConnectOptions;
    ///
    /// // Asks routers for a short delay (ip(7)).
    /// let options = ConnectOptions::new("192.0.2.1:8888")
    ///     .on_socket(|fd| SockRef::from(&fd).set_tos_v4(0x10));
    /// # let _ = options;
    /// ```
    pub fn on_socket(
        mut self,
        call: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.socket.set_hook(call);
        self
    }

    /// Checks the address and the limits, and fails as the connect itself would.
    ///
    /// For programs that connect later, such as a proxy: nothing is resolved or connected.
    ///
    /// ```
    /// use tidegate::ConnectOptions;
    ///
    /// assert!(ConnectOptions::new("localhost:8888").validate().is_ok());
    /// let error = ConnectOptions::new("nonsense").validate().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a text that is no address, for write limits
    /// that contradict each other, for a timeout of zero, and for a layer whose `open_limit` is zero.
    pub fn validate(&self) -> io::Result<()> {
        if let Err(error) = &self.to {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        self.write_limits.resolve()?;
        self.timeouts.check()?;
        self.layers.iter().try_for_each(NewLayer::check)
    }
}

from_addresses!(ConnectOptions, ConnectOptions::to);
