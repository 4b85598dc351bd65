//! Netstrings: a decimal length, a colon, the bytes, a comma.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use std::io::{IoSlice, Write as _};
use tidegate::{Flow, Transport, WriteError};

/// Maximum length of a frame by default.
const DEFAULT_MAX: usize = 1024 * 1024;

/// Maximum number of digits of a length, which is a `usize` of 64 bits, and the colon.
const MAX_HEAD: usize = 21;

/// Netstrings, as in `5:hello,`.
///
/// ```
/// use tidegate_framing::{Decode, Netstring, Step};
///
/// let mut netstring = Netstring::new();
/// assert_eq!(netstring.decode(b"5:hello,0:,"), Ok(Step::Frame(&b"hello"[..], 8)));
/// assert_eq!(netstring.decode(b"5:hel"), Ok(Step::Need(3)));
/// assert!(netstring.decode(b"05:hello,").is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Netstring {
    max: usize,
}

impl Default for Netstring {
    fn default() -> Self {
        Self::new()
    }
}

impl Netstring {
    /// Makes a codec for netstrings of at most 1 MiB.
    pub fn new() -> Self {
        Self { max: DEFAULT_MAX }
    }

    /// Sets the maximum length of a frame, in bytes between the colon and the comma.
    #[must_use]
    pub fn max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// Writes a netstring, in one write.
    ///
    /// # Errors
    ///
    /// See [`WriteError`]. Nothing is written then.
    pub fn write(&self, transport: &Transport, frame: &[u8]) -> Result<Flow, WriteError> {
        let mut buffer = [0; MAX_HEAD];
        let head = head(frame.len(), &mut buffer);
        transport.write_vectored(&[IoSlice::new(head), IoSlice::new(frame), IoSlice::new(b",")])
    }

    /// Returns the length of the payload and that of its head, when all of the head is there.
    fn read_head(&self, input: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let malformed = |what| Err(FrameError::Malformed { what });
        let mut len: usize = 0;
        for (at, &byte) in input.iter().enumerate() {
            match byte {
                b':' if at > 0 => return Ok(Some((len, at + 1))),
                b'0'..=b'9' if at == 1 && len == 0 => {
                    return malformed("a length with a zero in front");
                }
                b'0'..=b'9' => {
                    let digit = usize::from(byte - b'0');
                    let longer = len.checked_mul(10).and_then(|len| len.checked_add(digit));
                    let longer = longer.filter(|&len| len <= self.max);
                    len = longer.ok_or(FrameError::TooLong { max: self.max })?;
                }
                _ => return malformed("a length that is no number"),
            }
        }
        Ok(None)
    }
}

/// Returns the length and the colon in front of a payload.
pub(crate) fn head(len: usize, buffer: &mut [u8; MAX_HEAD]) -> &[u8] {
    let mut rest = &mut buffer[..];
    // There is room for every number.
    let _ = write!(rest, "{len}:");
    let unused = rest.len();
    &buffer[..MAX_HEAD - unused]
}

impl Decode for Netstring {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, FrameError> {
        let Some((len, head)) = self.read_head(input)? else {
            return Ok(Step::Need(0));
        };
        let rest = &input[head..];
        match rest.get(len) {
            Some(b',') => Ok(Step::Frame(&rest[..len], head + len + 1)),
            Some(_) => Err(FrameError::Malformed {
                what: "no comma after the bytes",
            }),
            None => Ok(Step::Need((len - rest.len()).saturating_add(1))),
        }
    }
}
