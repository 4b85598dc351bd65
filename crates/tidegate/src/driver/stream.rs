//! Streams: the trait of one of another world, and the type that stands for both.

use super::os::{OsPipe, OsStream};
use super::{of_another_driver, uninterrupted};
#[cfg(feature = "peer-credentials")]
use crate::PeerCredentials;
use crate::log::guarded;
use crate::socket_options::Configure;
use crate::{Address, Keepalive};
use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// A stream of another world. Errors are those of the socket calls of the same names; a read, a write or an
/// accept that was interrupted is made again. The default implementations suit a world without addresses,
/// options and errors that come by themselves.
pub trait StreamSocket: Any + fmt::Debug {
    /// `Ok(0)` is the end of the stream.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Takes a prefix of the slices.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends the write side, after what was written.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Takes the pending error, as SO_ERROR does.
    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
    /// After a writable event: whether the connection stands.
    fn connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }
    /// The own address.
    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }
    /// Sets an option.
    fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        let _ = option;
        Ok(())
    }
    /// Whether a close is to wait for the end of the peer's input, which is discarded.
    fn lingers(&self) -> bool {
        true
    }
    /// Whether a read may return less than there is and than its buffer holds.
    fn reads_in_parts(&self) -> bool {
        false
    }
}

/// An option of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// TCP_NODELAY. No effect on Unix sockets.
    NoDelay(bool),
    /// TCP_NOTSENT_LOWAT in bytes.
    UnsentLowWater(u32),
    /// Closing resets a TCP connection (SO_LINGER with zero seconds).
    ResetOnClose,
    /// SO_KEEPALIVE, and what goes with it. No effect on Unix sockets.
    KeepAlive(Option<Keepalive>),
    /// TCP_USER_TIMEOUT; `None` is the system's default. No effect on Unix sockets.
    UserTimeout(Option<Duration>),
    /// SO_SNDBUF in bytes.
    SendBuffer(u32),
    /// SO_RCVBUF in bytes.
    ReceiveBuffer(u32),
}

impl SocketOption {
    /// Returns the name that the system has for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoDelay(_) => "TCP_NODELAY",
            Self::UnsentLowWater(_) => "TCP_NOTSENT_LOWAT",
            Self::ResetOnClose => "SO_LINGER",
            Self::KeepAlive(_) => "SO_KEEPALIVE",
            Self::UserTimeout(_) => "TCP_USER_TIMEOUT",
            Self::SendBuffer(_) => "SO_SNDBUF",
            Self::ReceiveBuffer(_) => "SO_RCVBUF",
        }
    }
}

/// A stream, real or of another world.
#[derive(Debug)]
#[allow(private_interfaces, reason = "the real ones are made in here only")]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Socket {
    /// A real one.
    Os(OsStream),
    /// One of another world.
    Foreign(Box<dyn StreamSocket>),
}

impl Socket {
    /// Wraps one of another world.
    pub fn foreign(stream: impl StreamSocket) -> Self {
        Self::Foreign(Box::new(stream))
    }

    /// Returns the stream as the type of the driver that made it.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for one that another driver made.
    pub fn of<S: StreamSocket>(&mut self) -> io::Result<&mut S> {
        let stream: &mut dyn Any = match self {
            Self::Os(stream) => stream,
            Self::Foreign(stream) => &mut **stream,
        };
        stream.downcast_mut().ok_or_else(of_another_driver)
    }

    /// Returns the stream of this type, if it is one.
    pub(crate) fn foreign_ref<S: StreamSocket>(&self) -> Option<&S> {
        match self {
            Self::Os(_) => None,
            Self::Foreign(stream) => {
                let stream: &dyn Any = &**stream;
                stream.downcast_ref()
            }
        }
    }

    /// As [`foreign_ref`](Socket::foreign_ref).
    pub(crate) fn foreign_mut<S: StreamSocket>(&mut self) -> Option<&mut S> {
        match self {
            Self::Os(_) => None,
            Self::Foreign(stream) => {
                let stream: &mut dyn Any = &mut **stream;
                stream.downcast_mut()
            }
        }
    }

    /// Returns the stream itself if it is one of this type, else the socket.
    pub(crate) fn into_foreign<S: StreamSocket>(self) -> Result<Box<S>, Self> {
        if self.foreign_ref::<S>().is_none() {
            return Err(self);
        }
        let Self::Foreign(stream) = self else {
            return Err(self);
        };
        let any: Box<dyn Any> = stream;
        any.downcast()
            .map_err(|_| unreachable!("it is of this type"))
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => uninterrupted(|| stream.read(buffer)),
            Self::Foreign(stream) => uninterrupted(|| stream.read(buffer)),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => uninterrupted(|| stream.write(slices)),
            Self::Foreign(stream) => uninterrupted(|| stream.write(slices)),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.shutdown_write(),
            Self::Foreign(stream) => stream.shutdown_write(),
        }
    }

    pub(crate) fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Os(stream) => stream.take_error(),
            Self::Foreign(stream) => stream.take_error(),
        }
    }

    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        match self {
            Self::Os(stream) => stream.connected(),
            Self::Foreign(stream) => stream.connected(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Os(stream) => stream.local_addr(),
            Self::Foreign(stream) => stream.local_addr(),
        }
    }

    /// Closes a stream that no driver knows, for copies of its descriptor too.
    pub(crate) fn close_unwatched(self) {
        if let Self::Os(stream) = &self
            && stream.is_shared()
        {
            stream.end_for_all();
        }
    }

    /// TCP_NODELAY, as every TCP connection has it from the start.
    pub(crate) fn set_nodelay_at_start(&mut self, peer: &Address) {
        if let Err(error) = self.set_option(SocketOption::NoDelay(true)) {
            // The peer has reset it already; the first read will tell.
            guarded(|| {
                log::debug!(target: "tidegate::transport", "TCP_NODELAY on {peer}: {error}");
            });
        }
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.set_option(option),
            Self::Foreign(stream) => stream.set_option(option),
        }
    }

    pub(crate) fn lingers(&self) -> bool {
        match self {
            Self::Os(_) => true,
            Self::Foreign(stream) => stream.lingers(),
        }
    }

    pub(crate) fn reads_in_parts(&self) -> bool {
        match self {
            Self::Os(_) => false,
            Self::Foreign(stream) => stream.reads_in_parts(),
        }
    }

    #[cfg(feature = "peer-credentials")]
    pub(crate) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        match self {
            Self::Os(stream) => stream.peer_credentials(),
            Self::Foreign(_) => Err(no_descriptor()),
        }
    }

    /// Returns a copy of the descriptor.
    pub(crate) fn copy_descriptor(&mut self) -> io::Result<OwnedFd> {
        match self.expose() {
            Some(fd) => fd.try_clone_to_owned(),
            None => Err(no_descriptor()),
        }
    }
}

#[cold]
fn no_descriptor() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "a socket that is not the system's, such as a simulated one, has no descriptor",
    )
}

impl Configure for Socket {
    fn configure(&mut self, option: SocketOption) -> io::Result<()> {
        self.set_option(option)
    }

    fn expose(&mut self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Os(stream) => Some(stream.expose()),
            Self::Foreign(_) => self.foreign_mut().map(OsPipe::expose),
        }
    }
}
