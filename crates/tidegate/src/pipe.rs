//! Pipes, FIFOs and terminals, to be driven by the loop in one direction.

use crate::driver::{OsPipe, Socket};
use crate::event_loop::Deferred;
use crate::flow::{Watermarks, WriteLimits};
use crate::protocol::boxed;
use crate::transport::{NewConnection, Transport};
use crate::{Address, Handle, LoopClosed, Protocol};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

/// The one direction of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Read,
    Write,
}

/// The end of a pipe, FIFO, terminal or socket, for [`Handle::connect_read_pipe`] and
/// [`Handle::connect_write_pipe`].
///
/// Dropping it closes the descriptor. The standard streams are given as copies:
///
/// ```
/// use std::io;
/// use std::os::fd::AsFd;
/// use tidegate::PipeEnd;
///
/// # fn main() -> io::Result<()> {
/// let stdin = PipeEnd::from(io::stdin().as_fd().try_clone_to_owned()?);
/// # drop(stdin);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PipeEnd(End);

#[derive(Debug)]
enum End {
    Descriptor {
        fd: OwnedFd,
        /// Nobody else has the open file, so its flags may change.
        is_private: bool,
    },
    /// Of a program that the driver has started.
    #[cfg(feature = "process")]
    Socket(Socket, Way),
}

impl PipeEnd {
    fn private(fd: impl Into<OwnedFd>) -> Self {
        Self(End::Descriptor {
            fd: fd.into(),
            is_private: true,
        })
    }

    fn shared(fd: impl Into<OwnedFd>) -> Self {
        Self(End::Descriptor {
            fd: fd.into(),
            is_private: false,
        })
    }

    #[cfg(feature = "process")]
    pub(crate) fn of_socket(socket: Socket, way: Way) -> Self {
        Self(End::Socket(socket, way))
    }

    fn into_socket(self, way: Way) -> io::Result<Socket> {
        match self.0 {
            End::Descriptor { fd, is_private } => {
                OsPipe::new(fd, way, is_private).map(Socket::foreign)
            }
            #[cfg(feature = "process")]
            End::Socket(socket, own) if own == way => Ok(socket),
            #[cfg(feature = "process")]
            End::Socket(..) => Err(way.is_not_open()),
        }
    }
}

impl Way {
    /// Returns the error of an end that is not open for this direction.
    pub(crate) fn is_not_open(self) -> io::Error {
        let message = match self {
            Self::Read => "the descriptor is not open for reading",
            Self::Write => "the descriptor is not open for writing",
        };
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }
}

impl From<PipeReader> for PipeEnd {
    fn from(reader: PipeReader) -> Self {
        Self::shared(reader)
    }
}

impl From<PipeWriter> for PipeEnd {
    fn from(writer: PipeWriter) -> Self {
        Self::shared(writer)
    }
}

impl From<ChildStdin> for PipeEnd {
    fn from(stdin: ChildStdin) -> Self {
        Self::private(stdin)
    }
}

impl From<ChildStdout> for PipeEnd {
    fn from(stdout: ChildStdout) -> Self {
        Self::private(stdout)
    }
}

impl From<ChildStderr> for PipeEnd {
    fn from(stderr: ChildStderr) -> Self {
        Self::private(stderr)
    }
}

impl From<File> for PipeEnd {
    fn from(file: File) -> Self {
        Self::shared(file)
    }
}

impl From<OwnedFd> for PipeEnd {
    fn from(fd: OwnedFd) -> Self {
        Self::shared(fd)
    }
}

impl From<UnixStream> for PipeEnd {
    fn from(stream: UnixStream) -> Self {
        Self::shared(stream)
    }
}

/// # Pipes
///
/// A pipe is a connection of which one direction has ended already. It has the same [`Transport`], the same
/// watermarks and the same [`Closed`](crate::Closed).
///
/// An end is that of a pipe, a FIFO, a terminal or a socket of the kind SOCK_STREAM. Pipes, FIFOs and
/// terminals are opened once more, and the loop uses the new file: O_NONBLOCK belongs to an open file, which
/// a shell, a child or our own `println!` may share. Where that cannot be, the flag is set, and taken back
/// when no end of that file is left. That is so for sockets, for the master of a pseudoterminal, and without the
/// right to open the file. Packet mode (O_DIRECT, pipe(2)) is not supported.
///
/// A write to a pipe that nobody reads raises SIGPIPE, which the main function of every Rust program ignores.
/// A host in another language has to ignore it too.
impl Handle {
    /// Reads from a pipe, FIFO, terminal or socket.
    ///
    /// `connection_made` comes from the loop. A write fails with [`AfterEof`](crate::WriteError::AfterEof).
    /// The end of the stream ends the connection, whatever
    /// [`eof_received`](Protocol::eof_received) returns: the reason is
    /// [`PeerEof`](crate::CloseReason::PeerEof). On a terminal that is Ctrl-D, or a hang-up.
    /// [`close`](Transport::close) ends it at once, without a linger: the next write of a writer fails.
    ///
    /// Bytes that [`std::io::stdin`] has buffered already are not seen here.
    ///
    /// ```
    /// use std::io::{PipeWriter, Write};
    /// use tidegate::{EventLoop, Protocol, Result, Transport};
    ///
    /// #[derive(Default)]
    /// struct Count(usize);
    ///
    /// impl Protocol for Count {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
    ///         self.0 += data.len();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let transport = event_loop.handle().connect_read_pipe(reader, Count::default())?;
    /// writer.write_all(b"hello")?;
    /// drop(writer);
    /// let closed = event_loop.run_until(transport.wait_closed())?;
    /// assert!(closed.is_clean());
    /// assert_eq!(transport.stats().received, 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a descriptor that is not open for reading, and for
    /// files that a loop cannot wait for, such as regular files and /dev/null: read these in a
    /// [job](Handle::run_in_executor). Those of the system; [`LoopClosed`]. The end is then closed.
    pub fn connect_read_pipe(
        &self,
        end: impl Into<PipeEnd>,
        protocol: impl Protocol,
    ) -> io::Result<Transport> {
        self.connect_pipe(end.into(), Way::Read, boxed(protocol))
    }

    /// Writes to a pipe, FIFO, terminal or socket.
    ///
    /// `connection_made` comes from the loop. The connection never reads.
    /// [`write_eof`](Transport::write_eof) sends the buffered bytes and ends the connection, as
    /// [`close`](Transport::close) does.
    ///
    /// When the last reader is gone the connection ends, also while nothing is written. The reason is then
    /// EPIPE, or EIO for a terminal. A pipe has no reset: its reader sees an EOF, also where bytes are
    /// [unsent](crate::Closed::unsent).
    ///
    /// # Errors
    ///
    /// As [`connect_read_pipe`](Handle::connect_read_pipe), for writing.
    pub fn connect_write_pipe(
        &self,
        end: impl Into<PipeEnd>,
        protocol: impl Protocol,
    ) -> io::Result<Transport> {
        self.connect_pipe(end.into(), Way::Write, boxed(protocol))
    }

    fn connect_pipe(
        &self,
        end: PipeEnd,
        way: Way,
        protocol: Box<dyn Protocol>,
    ) -> io::Result<Transport> {
        let (socket, marks) = match self.prepare_pipe(end, way) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.core().defer_drop(Deferred::Protocol(protocol));
                return Err(error);
            }
        };
        let connection = NewConnection {
            socket,
            peer: Address::Unnamed,
            protocol,
            accepted: false,
            marks,
            server: None,
        };
        let transport = Transport::start(self, connection).map_err(|refused| refused.error)?;
        transport.make_one_way(way);
        transport.touch();
        Ok(transport)
    }

    fn prepare_pipe(&self, end: PipeEnd, way: Way) -> io::Result<(Socket, Watermarks)> {
        if self.core().is_closed() {
            return Err(LoopClosed.into());
        }
        Ok((end.into_socket(way)?, WriteLimits::new().resolve()?))
    }
}
