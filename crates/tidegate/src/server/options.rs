//! Options of a server.

use super::accepting::AcceptIf;
use super::layers::MakeLayers;
use super::limits::Limits;
use crate::address::{Target, from_addresses};
use crate::driver::{BindOptions, Listener, OsListener, SocketOption, UnixFileOptions};
use crate::flow::WriteLimits;
use crate::socket_options::SocketOptions;
use crate::timeouts::Timeouts;
use crate::{Address, Keepalive, LingerLimits};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

const DEFAULT_BACKLOG: u32 = 1024;

/// The addresses and the settings of a server; see
/// [`Handle::create_server`](crate::Handle::create_server).
///
/// Made from `"127.0.0.1:8888"`, `"[::1]:0"`, `"localhost:8888"`, `"unix:/path"`, a host and a
/// port, a [`SocketAddr`], an [`Address`], a listener of the standard library, or several of one
/// kind. `"[fe80::1%eth0]:80"` is an address in the zone of a network interface (RFC 4007). Port 0
/// takes a free one, for each address its own. `0.0.0.0` is all IPv4 addresses of the machine, and
/// `[::]` all IPv6 ones, so `127.0.0.1` may have the same port as `[::]`: see [`v6only`](Self::v6only).
///
/// A name stands for all of its addresses. Those that this machine does not have are left out, as
/// in asyncio, as long as there is another. An address that is named twice, or that two names stand
/// for, is bound once. Port 0 is another port each time.
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
    pub(super) at: Vec<ListenAt>,
    /// No address is needed.
    pub(super) nowhere: bool,
    pub(super) backlog: u32,
    pub(super) start_serving: bool,
    pub(super) write_limits: WriteLimits,
    pub(super) linger_limits: LingerLimits,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) accept_if: Option<AcceptIf>,
    pub(super) layers: MakeLayers,
    pub(super) bind: BindOptions,
    pub(super) socket: SocketOptions,
}

#[derive(Debug)]
pub(super) enum ListenAt {
    Target(Target),
    /// Bound already, perhaps listening.
    Ready(Listener),
    /// The given text is no address.
    Failed(io::Error),
}

impl ListenOptions {
    /// Listens there, with the defaults. `create_server` has the error of a wrong address.
    pub fn new(at: impl Into<Self>) -> Self {
        at.into()
    }

    pub(super) fn at(at: Vec<ListenAt>) -> Self {
        Self {
            at,
            nowhere: false,
            backlog: DEFAULT_BACKLOG,
            start_serving: true,
            write_limits: WriteLimits::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            accept_if: None,
            layers: MakeLayers::default(),
            linger_limits: LingerLimits::new(),
            bind: BindOptions {
                reuse_port: false,
                only_v6: true,
                unix: UnixFileOptions::default(),
            },
            socket: SocketOptions::default(),
        }
    }

    /// Listens there too. Only the addresses of `at` count, not its settings.
    pub fn also(mut self, at: impl Into<Self>) -> Self {
        self.at.extend(at.into().at);
        self
    }

    /// Sets the maximum number of connections that wait in the kernel to be accepted; 1,024 unless set. The
    /// system has a limit of its own (listen(2)).
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets whether the server listens from the start; on unless set. Otherwise it is bound, and listens
    /// from [`start_serving`](crate::Server::start_serving) on.
    pub fn start_serving(mut self, now: bool) -> Self {
        self.start_serving = now;
        self
    }

    /// Sets whether other sockets with this setting may listen on the same TCP port (SO_REUSEPORT,
    /// socket(7)). The kernel spreads connections over them, such as the loops of several threads. Off
    /// unless set; no effect on Unix sockets.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.bind.reuse_port = on;
        self
    }

    /// Sets whether an IPv6 address is for IPv6 alone (IPV6_V6ONLY, ipv6(7)); on unless set, as in asyncio.
    /// Off, `[::]` takes IPv4 connections too, and an IPv4 address beside it at the same port is in use.
    pub fn v6only(mut self, on: bool) -> Self {
        self.bind.only_v6 = on;
        self
    }

    /// Sets the write limits of the accepted connections.
    pub fn write_limits(mut self, limits: WriteLimits) -> Self {
        self.write_limits = limits;
        self
    }

    /// Sets the [limits of the linger](LingerLimits) of accepted connections, after their close.
    pub fn linger_limits(mut self, limits: LingerLimits) -> Self {
        self.linger_limits = limits;
        self
    }

    /// Has `create_server` fail with `error`, before anything is bound.
    ///
    /// For extension traits, whose methods return the options and have no other way to refuse an
    /// argument.
    pub fn fail_with(mut self, error: io::Error) -> Self {
        self.at.insert(0, ListenAt::Failed(error));
        self
    }
}

/// # Socket options
///
/// They are set on the listening sockets, before bind(2) and listen(2). TCP hands them down to
/// accepted connections (tcp(7)), and the loop hands the buffer sizes down on Unix sockets. An
/// option that is refused fails [`create_server`](crate::Handle::create_server). A simulated
/// network ignores them.
impl ListenOptions {
    /// Has the kernel probe accepted connections that are idle (SO_KEEPALIVE); off unless set. No
    /// effect on Unix sockets.
    #[doc(alias = "SO_KEEPALIVE")]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.socket.set(SocketOption::KeepAlive(Some(keepalive)));
        self
    }

    /// Ends accepted connections whose peer acknowledges nothing for this long; see
    /// [`Transport::set_user_timeout`](crate::Transport::set_user_timeout). No effect on Unix
    /// sockets.
    #[doc(alias = "TCP_USER_TIMEOUT")]
    pub fn user_timeout(mut self, limit: Duration) -> Self {
        self.socket.set(SocketOption::UserTimeout(Some(limit)));
        self
    }

    /// Sets the size in bytes of the kernel's send buffers; see
    /// [`Transport::set_send_buffer_size`](crate::Transport::set_send_buffer_size).
    #[doc(alias = "SO_SNDBUF")]
    pub fn send_buffer_size(mut self, bytes: u32) -> Self {
        self.socket.set(SocketOption::SendBuffer(bytes));
        self
    }

    /// Sets the size in bytes of the kernel's receive buffers; see
    /// [`Transport::set_recv_buffer_size`](crate::Transport::set_recv_buffer_size).
    ///
    /// Above 64 KiB, TCP uses it fully only when it is set before listening (tcp(7)), as it is here.
    #[doc(alias = "SO_RCVBUF")]
    pub fn recv_buffer_size(mut self, bytes: u32) -> Self {
        self.socket.set(SocketOption::ReceiveBuffer(bytes));
        self
    }

    /// Shows `call` the descriptor of each listening socket before bind(2), for any other option. A
    /// listener that was given to the server is bound already.
    ///
    /// `call` runs within [`create_server`](crate::Handle::create_server), after the options
    /// above. Its error fails that call, and so does a panic. It is not called on a simulated
    /// network, whose sockets have no descriptors. For options of accepted connections see
    /// [`Transport::with_fd`](crate::Transport::with_fd).
    ///
    /// ```
    /// use socket2::SockRef;
    /// use tidegate::ListenOptions;
    ///
    /// // Binds to addresses that the machine does not have yet (ip(7)).
    /// let options = ListenOptions::new("192.0.2.1:8888")
    ///     .on_socket(|fd| SockRef::from(&fd).set_freebind_v4(true));
    /// # let _ = options;
    /// ```
    pub fn on_socket(
        mut self,
        call: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.socket.set_hook(call);
        self
    }
}

from_addresses!(ListenOptions, ListenOptions::parsed);

/// A socket that is bound and does not listen yet is made to listen, as in asyncio. One that listens
/// keeps its own backlog.
///
/// Copies of its descriptor go on listening when the server is closed.
///
/// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) when it is no TCP
/// socket, or connected, or not bound.
impl From<TcpListener> for ListenOptions {
    fn from(listener: TcpListener) -> Self {
        Self::taken_over(OsListener::from_std(listener, true))
    }
}

/// Its socket file, if it has one, is not ours and stays.
///
/// A socket that is bound and does not listen yet is made to listen, as in asyncio. One that listens
/// keeps its own backlog.
///
/// Copies of its descriptor go on listening when the server is closed.
///
/// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) when it is no Unix
/// stream socket, or connected, or not bound.
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

/// # Files of Unix sockets
///
/// These settings hold for every Unix path of the server. They have no effect on TCP, nor on a
/// [`UnixListener`] of the standard library, whose file is not ours.
impl ListenOptions {
    /// Sets the permissions of the socket file (chmod(2)), such as `0o660`.
    ///
    /// A client needs the permission to write (unix(7)). They are set before the server listens, so
    /// no client gets in without them. Unless set, they are what the umask leaves of `0o777`.
    ///
    /// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) for more than
    /// `0o777`, as a decimal `660` would be.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.bind.unix.mode = Some(mode);
        self
    }

    /// Sets the user and the group of the socket file by their numbers (chown(2)); `None` leaves one
    /// as it is.
    ///
    /// They are set before the server listens. Another user than the own one takes root's rights,
    /// and another group to be one of its members: else `create_server` fails with
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied).
    pub fn unix_owner(mut self, user: Option<u32>, group: Option<u32>) -> Self {
        self.bind.unix.owner = (user, group);
        self
    }

    /// Sets whether the socket file is removed when the server is closed; on unless set.
    ///
    /// A file that stays refuses connections, and the next server replaces it. The lock file is
    /// removed in any case.
    #[doc(alias = "cleanup_socket")]
    pub fn remove_socket_file(mut self, on: bool) -> Self {
        self.bind.unix.keep = !on;
        self
    }
}
