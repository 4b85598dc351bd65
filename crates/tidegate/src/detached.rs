//! Connections without a loop: just accepted, made of a stream of std, or taken out of a loop.
//!
//! [`transport/detach.rs`](crate::transport) is how a connection leaves its loop, and how it arrives in
//! another. `server/hand_over.rs` has the methods of servers.

use crate::adopt::StdStream;
use crate::driver::{Carried, Socket, SocketOption};
use crate::flow::Watermarks;
use crate::protocol::boxed;
use crate::transport::{Arrival, Transport};
use crate::{Address, Bytes, Handle, LingerLimits, Protocol};
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

/// A connection without a loop, which may be sent to another thread.
///
/// There are three ways to one: [`Handle::accept_with`] gives each accepted connection,
/// [`Transport::detach`] takes one out of its loop, and [`of`](Self::of) makes one of a stream of the
/// standard library. There are two ways on: [`Handle::attach`] gives it a protocol, and
/// [`Server::attach`](crate::Server::attach) has a server do so.
///
/// Nothing is read and nothing is sent meanwhile, and no timeout runs. Dropping it closes the connection. If bytes
/// are [unsent](Self::unsent), or the kernel has bytes that nobody read (RFC 2525, 2.17), a TCP peer sees a reset, and
/// otherwise an EOF.
///
/// A connection of a simulated network stays on its thread, where it moves between loops. Another thread
/// can only give the value back.
///
/// ```
/// use std::thread;
/// use tidegate::{Detached, EventLoop, Protocol, Result, Transport};
///
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         transport.write(data)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # use std::io::{Read, Write};
/// # use std::os::unix::net::UnixStream;
/// # let (mut peer, stream) = UnixStream::pair()?;
/// let detached = Detached::of(stream)?;
/// let serving = thread::spawn(move || -> std::io::Result<()> {
///     let mut event_loop = EventLoop::new()?;
///     let transport = event_loop.handle().attach(detached, Echo)?;
///     event_loop.run_until(transport.wait_closed())?;
///     Ok(())
/// });
/// # peer.write_all(b"moved")?;
/// # let mut read = [0; 5];
/// # peer.read_exact(&mut read)?;
/// # assert_eq!(&read, b"moved");
/// # drop(peer);
/// # serving.join().unwrap()?;
/// # Ok(()) }
/// ```
#[must_use = "dropping it closes the connection"]
pub struct Detached(Box<Parts>);

/// Everything of a connection that goes along.
pub(crate) struct Parts {
    /// Taken out by a loop.
    socket: Option<Carried>,
    pub(crate) peer: Address,
    pub(crate) accepted: bool,
    pub(crate) progress: Progress,
    pub(crate) settings: Settings,
    /// Received, and used by no protocol yet.
    pub(crate) unread: Vec<u8>,
    /// Written, and not taken by the kernel yet.
    pub(crate) unsent: Vec<Bytes>,
    /// Dropping it resets a TCP connection.
    cut: bool,
}

/// How far the streams of a connection are.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) written: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// The value of `written` when a write was last refused at the cap.
    pub(crate) refused_at: u64,
    pub(crate) eof_asked: bool,
    pub(crate) eof_sent: bool,
}

/// The settings of a connection's own.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) marks: Option<Watermarks>,
    pub(crate) linger: Option<LingerLimits>,
    /// With `None` in it: no write timeout, whatever the server has.
    pub(crate) write_timeout: Option<Option<Duration>>,
}

impl Detached {
    /// Makes one of a connected stream of the standard library. It counts as accepted, as after
    /// [`Handle::adopt`].
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn of(stream: impl StdStream) -> io::Result<Self> {
        let (mut socket, peer) = stream.into_socket()?;
        socket.set_nodelay_at_start(&peer);
        Ok(Self::new(socket, peer))
    }

    /// Makes one of an accepted socket.
    pub(crate) fn new(socket: Socket, peer: Address) -> Self {
        Parts::new(socket, peer, true).into()
    }

    /// Ends it; a TCP peer sees a reset.
    pub(crate) fn reset(mut self) {
        self.0.cut = true;
    }

    pub(crate) fn parts(&mut self) -> &mut Parts {
        &mut self.0
    }

    /// Returns the peer's address.
    pub fn peer_addr(&self) -> &Address {
        &self.0.peer
    }

    /// Returns the bytes that were received and that no protocol has used. The next protocol reads them
    /// before those of the kernel.
    pub fn unread(&self) -> &[u8] {
        &self.0.unread
    }

    /// Returns the bytes that were written and that the kernel has not taken. The next loop sends them
    /// before all else.
    pub fn unsent(&self) -> &[Bytes] {
        &self.0.unsent
    }
}

impl From<Parts> for Detached {
    fn from(parts: Parts) -> Self {
        Self(Box::new(parts))
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsent: usize = self.unsent().iter().map(Bytes::len).sum();
        f.debug_struct("Detached")
            .field("peer", self.peer_addr())
            .field("unread", &self.unread().len())
            .field("unsent", &unsent)
            .finish_non_exhaustive()
    }
}

impl Parts {
    pub(crate) fn new(socket: Socket, peer: Address, accepted: bool) -> Self {
        Self {
            socket: Some(socket.into()),
            peer,
            accepted,
            progress: Progress::default(),
            settings: Settings::default(),
            unread: Vec::new(),
            unsent: Vec::new(),
            cut: false,
        }
    }

    /// Takes the socket out, for a loop of this thread.
    pub(crate) fn take_socket(&mut self) -> io::Result<Socket> {
        let Some(carried) = self.socket.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        carried.into_socket().map_err(|(error, carried)| {
            self.socket = Some(carried);
            error
        })
    }

    pub(crate) fn put_back(&mut self, socket: Socket) {
        self.socket = Some(socket.into());
    }

    /// Whether the peer misses bytes if the connection ends now.
    fn is_cut(&self) -> bool {
        let Progress {
            written,
            refused_at,
            ..
        } = self.progress;
        self.cut || !self.unsent.is_empty() || (written > 0 && refused_at == written)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // On another thread than its own, a socket of another world stays until that thread ends.
        if let Ok(mut socket) = self.take_socket() {
            if self.is_cut() {
                // It fails on a socket that was reset already.
                let _ = socket.set_option(SocketOption::ResetOnClose);
            }
            socket.close_unwatched();
        }
    }
}

/// The error of [`Handle::attach`] and of [`Server::attach`](crate::Server::attach), which has the
/// connection still.
///
/// As an [`io::Error`] it has the cause alone, and the connection is closed.
#[derive(Debug)]
pub struct AttachError {
    error: io::Error,
    detached: Detached,
}

impl AttachError {
    pub(crate) fn new(error: impl Into<io::Error>, detached: Detached) -> Self {
        let error = error.into();
        Self { error, detached }
    }

    /// Returns why the loop did not take the connection.
    pub fn error(&self) -> &io::Error {
        &self.error
    }

    /// Returns the connection, as it was.
    pub fn into_detached(self) -> Detached {
        self.detached
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection was not taken: {}", self.error)
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<AttachError> for io::Error {
    fn from(error: AttachError) -> Self {
        error.error
    }
}

/// # Connections without a loop
impl Handle {
    /// Drives a connection that has no loop.
    ///
    /// `connection_made` comes from the loop. The protocol then reads what is [unread](Detached::unread),
    /// and the bytes of the kernel. An end of the stream that the peer has sent is told here,
    /// whether it was told before or not.
    ///
    /// These go along from the loop before: bytes that are [unsent](Detached::unsent), a
    /// [`write_eof`](Transport::write_eof), the counters of bytes, which side
    /// [opened](Transport::is_accepted) the connection, the write limits, and the write timeout and the linger limits
    /// that were set on the transport itself. Timers, waiters, pauses of reading, the
    /// [id](Transport::id), and the timeouts for idleness and for closing of
    /// [`ConnectOptions`](crate::ConnectOptions) stay behind.
    ///
    /// # Errors
    ///
    /// [`AttachError`], with the connection; the protocol is dropped: errors of the system, [`LoopClosed`](crate::LoopClosed), and
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a connection of a simulated network on another
    /// thread.
    pub fn attach(
        &self,
        detached: Detached,
        protocol: impl Protocol,
    ) -> Result<Transport, AttachError> {
        let arrival = Arrival {
            protocol: boxed(protocol),
            layers: Vec::new(),
            marks: Watermarks::default(),
            server: None,
        };
        Transport::arrive(self, detached, arrival)
    }
}

/// A value of this type goes from thread to thread.
const _: fn() = || {
    fn send<T: Send>() {}
    send::<Detached>();
    send::<AttachError>();
};
