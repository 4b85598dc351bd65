//! How a connection ended, and why a write was refused.

use crate::TransportId;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Any error, as callbacks may return it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The result of a callback: any error converts into its error with `?`.
///
/// Both parameters have defaults, so that this type can take the place of the standard library's:
/// `Result` alone, `Result<T>` and `Result<T, E>` all mean what they say. An expression takes no
/// default of a type: the last line of an async block is `Ok::<_, BoxError>(())`.
///
/// ```
/// use tidegate::Result;
///
/// fn port(text: &str) -> Result<u16, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// fn main() -> Result {
///     assert_eq!(port("8888")?, 8888);
///     Ok(())
/// }
/// ```
///
/// A callback that ends with a write does not return the result of the write, which has a
/// [`Flow`](crate::Flow) and an error of another type:
///
/// ```compile_fail,E0308
/// # use tidegate::{Result, Transport};
/// fn data_received(transport: &Transport, data: &[u8]) -> Result {
///     transport.write(data)
/// }
/// ```
///
/// ```
/// # use tidegate::{Result, Transport};
/// fn data_received(transport: &Transport, data: &[u8]) -> Result {
///     transport.write(data)?;
///     Ok(())
/// }
/// ```
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// How a connection ended: the reason, and the number of [unsent](Closed::unsent) bytes.
///
/// There is one for a connection: `connection_lost`, every pending and later
/// [`drain`](crate::Transport::drain), [`flush`](crate::Transport::flush) and
/// [`wait_closed`](crate::Transport::wait_closed), and every later write see the same.
///
/// Two are equal when their reasons are, as [`CloseReason`] defines that, and the same number of
/// bytes is unsent; also those of two connections.
#[derive(Debug, Clone)]
pub struct Closed {
    transport: TransportId,
    reason: CloseReason,
    unsent: u64,
}

impl Closed {
    pub(crate) fn new(transport: TransportId, reason: CloseReason, unsent: u64) -> Self {
        Self {
            transport,
            reason,
            unsent,
        }
    }

    /// Returns the id of the connection that ended.
    pub fn transport(&self) -> TransportId {
        self.transport
    }

    /// Returns the reason of the end.
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }

    /// Returns the number of unsent bytes, which `write` took and the kernel never did:
    /// `written - sent`.
    ///
    /// Bytes that the kernel took do not count, also when the peer never got them. Nor do those of a
    /// [refused](WriteError::BufferFull) write, which were never taken. Those of the write that
    /// [ended](WriteError::Closed) the connection do. When the number is not 0 and the reason is not
    /// [`Detached`](CloseReason::Detached), a TCP peer saw a reset and no EOF. A peer of a Unix socket saw an EOF, for such sockets have no reset.
    pub fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Returns whether the reason is [`LocalClose`](CloseReason::LocalClose) or
    /// [`PeerEof`](CloseReason::PeerEof), and no byte is unsent.
    pub fn is_clean(&self) -> bool {
        self.unsent == 0 && matches!(self.reason, CloseReason::LocalClose | CloseReason::PeerEof)
    }

    /// Returns whether the peer reset the connection: ECONNRESET, EPIPE or ECONNABORTED.
    pub fn is_reset(&self) -> bool {
        match &self.reason {
            CloseReason::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
            ),
            _ => false,
        }
    }

    /// Returns the `Closed` in the error of a completion, if the connection's end is its cause.
    pub fn of(error: &io::Error) -> Option<Self> {
        let mut next: Option<&(dyn Error + 'static)> =
            error.get_ref().map(|inner| inner as &(dyn Error + 'static));
        while let Some(error) = next {
            if let Some(closed) = error.downcast_ref::<Self>() {
                return Some(closed.clone());
            }
            if let Some(WriteError::Closed { closed, .. }) = error.downcast_ref() {
                return Some(closed.clone());
            }
            next = error.source();
        }
        None
    }
}

impl PartialEq for Closed {
    fn eq(&self, other: &Self) -> bool {
        self.unsent == other.unsent && self.reason == other.reason
    }
}

impl Eq for Closed {}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection closed: {}", self.reason)?;
        if self.unsent > 0 {
            write!(f, " ({} bytes unsent)", self.unsent)?;
        }
        Ok(())
    }
}

impl Error for Closed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        let kind = match &closed.reason {
            CloseReason::Io(error) => error.kind(),
            CloseReason::Timeout(_) => io::ErrorKind::TimedOut,
            CloseReason::Memory => io::ErrorKind::OutOfMemory,
            _ => io::ErrorKind::NotConnected,
        };
        Self::new(kind, closed)
    }
}

/// The reason why a connection ended.
///
/// It is the earliest of abort, deadline, error, panic and shutdown, but only if our `close` had not been
/// called yet or bytes were still unsent. Without any of these it is [`PeerEof`](Self::PeerEof) if the
/// protocol knew of the peer's EOF when it was closed, and [`LocalClose`](Self::LocalClose) otherwise.
///
/// # Equality
///
/// * Errors of the operating system are equal when their numbers are. Errors that are only an
///   [`ErrorKind`](io::ErrorKind) are equal when their kinds are.
/// * Other errors cannot be compared: a reason that holds one equals only its own clones.
/// * Panics are equal when their messages are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CloseReason {
    /// Our `close`.
    LocalClose,
    /// Our `abort` or `reset`.
    LocalAbort,
    /// The peer's EOF.
    PeerEof,
    /// A deadline that was set on the transport.
    Timeout(TimeoutKind),
    /// An error of the operating system.
    Io(Arc<io::Error>),
    /// An error that a callback returned.
    Callback(Arc<dyn Error + Send + Sync>),
    /// A panic in a callback, with its message.
    Panic(Arc<str>),
    /// The loop's [`write_budget`](crate::EventLoopBuilder::write_budget) was used up, and this connection had
    /// the most bytes buffered.
    ///
    /// These are lost, and counted as [unsent](Closed::unsent). The error of a completion is then of the
    /// kind [`OutOfMemory`](io::ErrorKind::OutOfMemory).
    Memory,
    /// [`Transport::detach`](crate::Transport::detach): the connection lives on, without this loop. The
    /// [unsent](Closed::unsent) bytes go along.
    Detached,
    /// The end of the event loop, or the end of the grace of
    /// [`Server::shutdown`](crate::Server::shutdown).
    Shutdown,
}

/// Which deadline ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The one of [`Transport::close_within`](crate::Transport::close_within), or of
    /// [`ListenOptions::close_timeout`](crate::ListenOptions::close_timeout).
    Close,
    /// The one of [`Transport::set_write_timeout`](crate::Transport::set_write_timeout), or of
    /// [`ListenOptions::write_timeout`](crate::ListenOptions::write_timeout).
    Write,
    /// The one of [`ListenOptions::idle_timeout`](crate::ListenOptions::idle_timeout), or of
    /// [`Relay::idle_timeout`](crate::Relay::idle_timeout).
    Idle,
    /// The one of [`Relay::half_closed_timeout`](crate::Relay::half_closed_timeout).
    HalfClosed,
    /// The one of [`Layer::open_limit`](crate::Layer::open_limit).
    Handshake,
}

impl PartialEq for CloseReason {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LocalClose, Self::LocalClose)
            | (Self::LocalAbort, Self::LocalAbort)
            | (Self::PeerEof, Self::PeerEof)
            | (Self::Memory, Self::Memory)
            | (Self::Detached, Self::Detached)
            | (Self::Shutdown, Self::Shutdown) => true,
            (Self::Timeout(one), Self::Timeout(other)) => one == other,
            (Self::Io(one), Self::Io(other)) => is_same_error(one, other),
            (Self::Callback(one), Self::Callback(other)) => Arc::ptr_eq(one, other),
            (Self::Panic(one), Self::Panic(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for CloseReason {}

fn is_same_error(one: &Arc<io::Error>, other: &Arc<io::Error>) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    one.get_ref().is_none()
        && other.get_ref().is_none()
        && one.raw_os_error() == other.raw_os_error()
        && one.kind() == other.kind()
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalClose => f.write_str("closed here"),
            Self::LocalAbort => f.write_str("aborted here"),
            Self::PeerEof => f.write_str("end of stream from the peer"),
            Self::Timeout(TimeoutKind::Close) => {
                f.write_str("the peer did not take the rest in time")
            }
            Self::Timeout(TimeoutKind::Write) => {
                f.write_str("the peer took nothing within the write timeout")
            }
            Self::Timeout(TimeoutKind::Idle) => {
                f.write_str("no byte came or went within the idle timeout")
            }
            Self::Timeout(TimeoutKind::HalfClosed) => {
                f.write_str("one direction had ended, and no byte came within the timeout for that")
            }
            Self::Timeout(TimeoutKind::Handshake) => {
                f.write_str("a layer did not open within its limit")
            }
            Self::Io(error) => error.fmt(f),
            Self::Callback(error) => write!(f, "a callback failed: {error}"),
            Self::Panic(message) => write!(f, "a callback panicked: {message}"),
            Self::Memory => {
                f.write_str("the write budget was used up, and the most was buffered here")
            }
            Self::Detached => f.write_str("taken out of its loop"),
            Self::Shutdown => f.write_str("shut down"),
        }
    }
}

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(&**error),
            Self::Callback(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Why a write was refused. Nothing of it was taken, except for what [`WriteError::Closed`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// [`close`](crate::Transport::close) was called; what was written before it is still sent.
    #[non_exhaustive]
    Closing {
        /// The transport that was written to.
        transport: TransportId,
    },
    /// [`write_eof`](crate::Transport::write_eof) was called.
    #[non_exhaustive]
    AfterEof {
        /// The transport that was written to.
        transport: TransportId,
    },
    /// The connection ended. So says also the write that meets the error of the operating system
    /// itself, or that ends its own connection because the
    /// [write budget](crate::EventLoopBuilder::write_budget) is used up. Bytes of such a write count as
    /// written, and as [unsent](Closed::unsent) unless the kernel took them.
    #[non_exhaustive]
    Closed {
        /// The transport that was written to.
        transport: TransportId,
        /// How it ended.
        closed: Closed,
    },
    /// The buffer was at its cap. Wait for `resume_writing` or
    /// [`drain`](crate::Transport::drain), or give up on this peer.
    ///
    /// A callback that fails with it (`transport.write(..)?`) ends the connection, and the peer
    /// misses the refused bytes. So a TCP peer sees a reset, also when the kernel has taken all bytes
    /// before them. The same holds for any other end that follows a refused write, but for a
    /// [`close`](crate::Transport::close). A peer of a Unix socket sees an EOF, for such sockets have
    /// no reset.
    #[non_exhaustive]
    BufferFull {
        /// The transport that was written to.
        transport: TransportId,
    },
    /// The datagram cannot be sent to this address by this endpoint.
    #[non_exhaustive]
    Destination {
        /// The endpoint that was to send.
        transport: TransportId,
        /// Why not.
        reason: &'static str,
    },
    /// A `Display` implementation given to [`write_fmt`](crate::Transport::write_fmt) failed.
    #[non_exhaustive]
    Format {
        /// The transport that was written to.
        transport: TransportId,
    },
    /// The write came from the code of a [`Layer`](crate::Layer) of the connection itself. A layer
    /// sends with [`LayerIo::send`](crate::LayerIo::send).
    #[non_exhaustive]
    InLayer {
        /// The transport that was written to.
        transport: TransportId,
    },
}

impl WriteError {
    /// Returns the transport that was written to.
    pub fn transport(&self) -> TransportId {
        match self {
            Self::Closing { transport }
            | Self::AfterEof { transport }
            | Self::Closed { transport, .. }
            | Self::BufferFull { transport }
            | Self::Format { transport }
            | Self::Destination { transport, .. }
            | Self::InLayer { transport } => *transport,
        }
    }

    /// Returns the refusal that an error is, or that is the cause of it: in an [`io::Error`], or a
    /// [source](Error::source) of any error.
    pub fn of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref() {
                return Some(refusal);
            }
            next = match error.downcast_ref::<io::Error>() {
                // Its source is that of the error in it.
                Some(io_error) => io_error.get_ref().map(|inner| inner as _),
                None => error.source(),
            };
        }
        None
    }

    /// Returns whether the error of a callback only says that this transport is ending, or has ended.
    pub(crate) fn tells_of_end(error: &BoxError, of: TransportId) -> bool {
        let write_error = error.downcast_ref::<Self>().or_else(|| {
            let io_error = error.downcast_ref::<io::Error>()?;
            io_error.get_ref()?.downcast_ref()
        });
        match write_error {
            Some(Self::Closing { transport } | Self::Closed { transport, .. }) => *transport == of,
            _ => false,
        }
    }

    /// Returns how the connection ended, if it did.
    pub fn closed(&self) -> Option<&Closed> {
        match self {
            Self::Closed { closed, .. } => Some(closed),
            _ => None,
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closing { transport } => write!(f, "write to {transport} after close"),
            Self::AfterEof { transport } => write!(f, "write to {transport} after write_eof"),
            Self::Closed { transport, closed } => write!(f, "write to {transport}: {closed}"),
            Self::BufferFull { transport } => {
                write!(f, "write to {transport}: the write buffer is at its cap")
            }
            Self::Destination { transport, reason } => write!(f, "send from {transport}: {reason}"),
            Self::Format { transport } => {
                write!(f, "write to {transport}: a value could not be formatted")
            }
            Self::InLayer { transport } => {
                write!(f, "write to {transport} from within one of its layers")
            }
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Closed { closed, .. } => Some(closed),
            _ => None,
        }
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::Closed { closed, .. } => Self::from(closed.clone()).kind(),
            WriteError::BufferFull { .. } => io::ErrorKind::QuotaExceeded,
            WriteError::Format { .. } | WriteError::Destination { .. } => {
                io::ErrorKind::InvalidInput
            }
            WriteError::InLayer { .. } => io::ErrorKind::ResourceBusy,
            WriteError::Closing { .. } | WriteError::AfterEof { .. } => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
