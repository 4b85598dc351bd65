//! The error of the codecs.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The reason why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame is longer than allowed.
    #[non_exhaustive]
    TooLong {
        /// The maximum number of bytes.
        max: usize,
    },
    /// The bytes are not of this codec.
    #[non_exhaustive]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
    },
    /// The stream has ended within a frame.
    #[non_exhaustive]
    Truncated {
        /// The number of bytes that are there and not used.
        have: usize,
    },
    /// The frame was not complete in time.
    #[non_exhaustive]
    TimedOut {
        /// The time that a frame has.
        limit: Duration,
    },
}

/// The errors of codecs; a codec of a user's may return them too.
impl FrameError {
    /// Returns a [`TooLong`](Self::TooLong).
    pub fn too_long(max: usize) -> Self {
        Self::TooLong { max }
    }

    /// Returns a [`Malformed`](Self::Malformed).
    pub fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }

    /// Returns a [`Truncated`](Self::Truncated).
    pub fn truncated(have: usize) -> Self {
        Self::Truncated { have }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { max } => write!(f, "a frame is longer than {max} bytes"),
            Self::Malformed { what } => write!(f, "a malformed frame: {what}"),
            Self::Truncated { have } => {
                write!(
                    f,
                    "the stream ended within a frame, of which {have} bytes are left"
                )
            }
            Self::TimedOut { limit } => write!(f, "a frame was not complete within {limit:?}"),
        }
    }
}

impl Error for FrameError {}
