//! Frames that end with a byte string.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use crate::search;
use memchr::memmem;
use std::borrow::Cow;
use std::io::IoSlice;
use tidegate::{Flow, Transport, WriteError};

/// Maximum length of a frame by default, as that of a line.
const DEFAULT_MAX: usize = 64 * 1024;

/// Frames that end with a byte string, without it.
///
/// ```
/// use tidegate_framing::{Decode, Delimiter, Step};
///
/// let mut delimiter = Delimiter::new(b"--");
/// assert_eq!(delimiter.decode(b"a-b--c"), Ok(Step::Frame(&b"a-b"[..], 5)));
/// assert_eq!(delimiter.decode(b"c"), Ok(Step::Need(0)));
/// ```
#[derive(Debug, Clone)]
pub struct Delimiter {
    delimiter: Cow<'static, [u8]>,
    max: usize,
    /// No delimiter begins before this place of the input.
    searched: usize,
}

impl Delimiter {
    /// Makes a codec for frames of at most 64 KiB that end with `delimiter`.
    ///
    /// # Panics
    ///
    /// When `delimiter` is empty.
    pub fn new(delimiter: impl Into<Cow<'static, [u8]>>) -> Self {
        let delimiter = delimiter.into();
        assert!(!delimiter.is_empty(), "a delimiter has at least one byte");
        Self {
            delimiter,
            max: DEFAULT_MAX,
            searched: 0,
        }
    }

    /// Sets the maximum length of a frame, in bytes without the delimiter.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Writes a frame and the delimiter, in one write.
    ///
    /// `frame` is not searched for delimiters.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. Nothing is written then.
    pub fn write(&self, transport: &Transport, frame: &[u8]) -> Result<Flow, WriteError> {
        transport.write_vectored(&[IoSlice::new(frame), IoSlice::new(&self.delimiter)])
    }

    fn find(&self, input: &[u8]) -> Option<usize> {
        let unsearched = input.get(self.searched..)?;
        let found = match *self.delimiter {
            [byte] => search::find(byte, unsearched)?,
            _ => memmem::find(unsearched, &self.delimiter)?,
        };
        Some(self.searched + found)
    }
}

impl Decode for Delimiter {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, FrameError> {
        // The last bytes of the input may be the begin of a delimiter.
        let partial = self.delimiter.len() - 1;
        let found = self.find(input);
        let len = found.unwrap_or(input.len().saturating_sub(partial));
        if len > self.max {
            return Err(FrameError::TooLong { max: self.max });
        }
        if found.is_none() {
            self.searched = len;
            return Ok(Step::Need(0));
        }
        self.searched = 0;
        Ok(Step::Frame(&input[..len], len + self.delimiter.len()))
    }

    fn restart(&mut self) {
        self.searched = 0;
    }
}
