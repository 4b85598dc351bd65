//! Why a read or the opening of a stream failed.

use bytes::Bytes;
use std::error::Error;
use std::fmt;
use std::io;
#[cfg(feature = "framing")]
use tidegate::BoxError;
use tidegate::{Closed, Transport, WriteError};
#[cfg(feature = "framing")]
use tidegate_framing::FrameError;

/// The error of a read. No byte that arrived is lost: it is in the error, or still in the reader.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream ended before the requested bytes were complete.
    Incomplete(IncompleteRead),
    /// The requested piece is longer than the limit. It is still in the reader.
    LimitOverrun(LimitOverrun),
    /// The connection ended, and not by the peer's end of stream. All bytes that came before were
    /// read.
    Closed(Closed),
    /// An empty separator, or none at all, was given: it could not end anything.
    NoSeparator,
}

/// The stream ended in the middle; asyncio's `IncompleteReadError`.
#[doc(alias = "IncompleteReadError")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompleteRead {
    /// The bytes that were there, taken out of the reader.
    pub partial: Bytes,
    /// The number of bytes that were asked for; `None` for a read up to a separator.
    pub expected: Option<usize>,
}

/// No separator within the limit, or more bytes than a read may bring; asyncio's
/// `LimitOverrunError`. Everything is still in the reader.
#[doc(alias = "LimitOverrunError")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitOverrun {
    /// The number of bytes that can be read before the next attempt without missing a separator.
    /// When one was found, they are those before it.
    pub consumed: usize,
    /// Whether a separator was found, beyond the limit.
    pub found: bool,
}

impl ReadError {
    /// Returns the incomplete read, if the stream ended in the middle of one.
    pub fn as_incomplete(&self) -> Option<&IncompleteRead> {
        match self {
            Self::Incomplete(incomplete) => Some(incomplete),
            _ => None,
        }
    }

    /// Returns the overrun, if the piece was longer than the limit.
    pub fn as_overrun(&self) -> Option<&LimitOverrun> {
        match self {
            Self::LimitOverrun(overrun) => Some(overrun),
            _ => None,
        }
    }

    /// Returns how the connection ended, if that is the error.
    pub fn as_closed(&self) -> Option<&Closed> {
        match self {
            Self::Closed(closed) => Some(closed),
            _ => None,
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(incomplete) => incomplete.fmt(f),
            Self::LimitOverrun(overrun) => overrun.fmt(f),
            Self::Closed(closed) => closed.fmt(f),
            Self::NoSeparator => f.write_str("a separator needs at least one byte"),
        }
    }
}

impl fmt::Display for IncompleteRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream ended after {} bytes", self.partial.len())?;
        match self.expected {
            Some(expected) => write!(f, " of {expected}"),
            None => f.write_str(" without a separator"),
        }
    }
}

impl fmt::Display for LimitOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found {
            write!(
                f,
                "the separator comes after {} bytes, beyond the limit",
                self.consumed
            )
        } else {
            write!(f, "no end within the limit, in {} bytes", self.consumed)
        }
    }
}

impl Error for IncompleteRead {}
impl Error for LimitOverrun {}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incomplete(incomplete) => Some(incomplete),
            Self::LimitOverrun(overrun) => Some(overrun),
            Self::Closed(closed) => Some(closed),
            Self::NoSeparator => None,
        }
    }
}

/// Returns whether an error only says that this very connection is ending or has ended, whatever
/// wraps it.
pub(crate) fn is_end_of(transport: &Transport, error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(closed) = error.downcast_ref::<Closed>() {
            return closed.transport() == transport.id();
        }
        if let Some(WriteError::Closing { transport: id, .. }) = error.downcast_ref() {
            return *id == transport.id() && transport.is_closing();
        }
        next = match error.downcast_ref::<io::Error>() {
            // Its source is that of what it holds.
            Some(io_error) => io_error.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    false
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match &error {
            ReadError::Incomplete(_) => io::ErrorKind::UnexpectedEof,
            ReadError::LimitOverrun(_) => io::ErrorKind::QuotaExceeded,
            ReadError::Closed(closed) => Self::from(closed.clone()).kind(),
            ReadError::NoSeparator => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// The error of a read of frames. Frames that came before it were returned before it.
#[cfg(feature = "framing")]
#[derive(Debug)]
#[non_exhaustive]
pub enum FramedError {
    /// The bytes are no frame: the error of the codec, or a
    /// [`FrameError`].
    Codec(BoxError),
    /// The connection ended, and not by the peer's end of stream.
    Closed(Closed),
}

#[cfg(feature = "framing")]
impl FramedError {
    /// Returns how the connection ended, if that is the error.
    pub fn as_closed(&self) -> Option<&Closed> {
        match self {
            Self::Closed(closed) => Some(closed),
            Self::Codec(_) => None,
        }
    }

    /// Returns the error of the codec, if it is a [`FrameError`].
    pub fn as_frame_error(&self) -> Option<&FrameError> {
        match self {
            Self::Codec(error) => error.downcast_ref(),
            Self::Closed(_) => None,
        }
    }
}

#[cfg(feature = "framing")]
impl fmt::Display for FramedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Codec(error) => error.fmt(f),
            Self::Closed(closed) => closed.fmt(f),
        }
    }
}

#[cfg(feature = "framing")]
impl Error for FramedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Codec(error) => Some(&**error),
            Self::Closed(closed) => Some(closed),
        }
    }
}

#[cfg(feature = "framing")]
impl From<FramedError> for io::Error {
    fn from(error: FramedError) -> Self {
        let kind = match &error {
            FramedError::Closed(closed) => Self::from(closed.clone()).kind(),
            FramedError::Codec(codec) => match codec.downcast_ref() {
                Some(FrameError::Truncated { .. }) => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::InvalidData,
            },
        };
        Self::new(kind, error)
    }
}

/// The error of a call that needs an event loop running on this thread.
///
/// It is inside of an [`io::Error`] where the other errors of the call are such. Code that asks
/// [`Handle::current`](tidegate::Handle::current) returns it by `Handle::current().ok_or(NoEventLoop)?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it says it all")]
pub struct NoEventLoop;

impl fmt::Display for NoEventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no event loop is running on this thread: use block_on, or spawn_on")
    }
}

impl Error for NoEventLoop {}

impl From<NoEventLoop> for io::Error {
    fn from(error: NoEventLoop) -> Self {
        Self::new(io::ErrorKind::NotConnected, error)
    }
}
