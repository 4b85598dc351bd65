//! The socket under a connection: its options, and its descriptor.

use crate::driver::{Socket, SocketOption};
use crate::{Keepalive, Transport};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// # The socket
///
/// Options of the kernel. [`ListenOptions`](crate::ListenOptions) and
/// [`ConnectOptions`](crate::ConnectOptions) set them from the start.
impl Transport {
    /// Limits the unsent bytes in the kernel (TCP_NOTSENT_LOWAT), so that few of them lie before
    /// the next write; `None` is the system's default. Costs throughput on bulk transfers.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on Unix sockets and where the system has no
    /// such option; the [`Closed`](crate::Closed) of an ended connection.
    pub fn set_unsent_low_water(&self, bytes: Option<u32>) -> io::Result<()> {
        self.set_option(SocketOption::UnsentLowWater(bytes.unwrap_or(0)))
    }

    /// Sets TCP_NODELAY, which is on from the start, as in asyncio. No effect on Unix sockets.
    ///
    /// # Errors
    ///
    /// Those of the system; the [`Closed`](crate::Closed) of an ended connection.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_option(SocketOption::NoDelay(on))
    }

    /// Has the kernel probe the connection while it is idle (SO_KEEPALIVE, tcp(7)), or, with `None`,
    /// not; off from the start. No effect on Unix sockets.
    ///
    /// A silent peer is found although nothing is sent. The connection then ends with
    /// [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for values out of range; others of the system;
    /// the [`Closed`](crate::Closed) of an ended connection.
    #[doc(alias = "SO_KEEPALIVE")]
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        self.set_option(SocketOption::KeepAlive(keepalive))
    }

    /// Has the kernel end the connection when the peer acknowledges no byte for `limit`, or takes
    /// none (TCP_USER_TIMEOUT, tcp(7)). `None` is the system's limit. No effect on Unix sockets.
    ///
    /// The limit is rounded up to whole milliseconds. The connection ends with
    /// [`TimedOut`](io::ErrorKind::TimedOut). With [keepalive](Self::set_keepalive) the limit also
    /// decides when lost probes end the connection. See
    /// [`set_write_timeout`](Self::set_write_timeout) for a limit of the loop's.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 24 days;
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system has no such option; the
    /// [`Closed`](crate::Closed) of an ended connection.
    #[doc(alias = "TCP_USER_TIMEOUT")]
    pub fn set_user_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.set_option(SocketOption::UserTimeout(limit))
    }

    /// Sets the size in bytes of the kernel's send buffer (SO_SNDBUF, socket(7)).
    ///
    /// Linux doubles the value for its own needs, keeps it between limits of the system, and does
    /// not tune a buffer that was set.
    ///
    /// # Errors
    ///
    /// Those of the system; the [`Closed`](crate::Closed) of an ended connection.
    #[doc(alias = "SO_SNDBUF")]
    pub fn set_send_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.set_option(SocketOption::SendBuffer(bytes))
    }

    /// Sets the size in bytes of the kernel's receive buffer (SO_RCVBUF, socket(7)), as
    /// [`set_send_buffer_size`](Self::set_send_buffer_size) does for sending. No effect on Unix
    /// sockets, where the sender's buffer counts (unix(7)).
    ///
    /// # Errors
    ///
    /// Those of the system; the [`Closed`](crate::Closed) of an ended connection.
    #[doc(alias = "SO_RCVBUF")]
    pub fn set_recv_buffer_size(&self, bytes: u32) -> io::Result<()> {
        self.set_option(SocketOption::ReceiveBuffer(bytes))
    }

    /// Shows `call` the descriptor, to read or set any option. Reading, writing, or changing flags
    /// of the file such as O_NONBLOCK breaks the connection.
    ///
    /// The descriptor is a copy of the connection's, which is closed when `call` has returned. From
    /// the first call on the loop takes the socket for shared: see
    /// [`Handle::adopt`](crate::Handle::adopt). A panic of `call` goes to the caller.
    ///
    /// # Errors
    ///
    /// Those of `call`; [`Unsupported`](io::ErrorKind::Unsupported) on a simulated network, whose
    /// sockets have no descriptors; EMFILE when there is no descriptor for the copy; the
    /// [`Closed`](crate::Closed) of an ended connection.
    ///
    /// ```
    /// use socket2::SockRef;
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// struct Mover;
    ///
    /// impl Protocol for Mover {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result {
    ///         transport.with_fd(|fd| SockRef::from(&fd).set_tos_v4(0x08))?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[doc(alias = "get_extra_info")]
    #[doc(alias = "setsockopt")]
    pub fn with_fd<R>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        // A copy, because nothing may be borrowed while code of the user's runs.
        let copy = self.with_socket(Socket::copy_descriptor)?;
        call(copy.as_fd())
    }
}
