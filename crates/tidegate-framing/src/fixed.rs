//! Frames of one length.

use crate::decode::{Decode, Step};
use std::convert::Infallible;

/// Frames of one length.
///
/// ```
/// use tidegate_framing::{Decode, Fixed, Step};
///
/// let mut fixed = Fixed::new(3);
/// assert_eq!(fixed.decode(b"abcd"), Ok(Step::Frame(&b"abc"[..], 3)));
/// assert_eq!(fixed.decode(b"d"), Ok(Step::Need(2)));
/// ```
#[derive(Debug, Clone)]
pub struct Fixed {
    len: usize,
}

impl Fixed {
    /// Makes a codec for frames of `len` bytes.
    ///
    /// # Panics
    ///
    /// When `len` is 0.
    pub fn new(len: usize) -> Self {
        assert!(len > 0, "a frame has at least one byte");
        Self { len }
    }
}

impl Decode for Fixed {
    type Frame<'a> = &'a [u8];
    type Error = Infallible;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<&'a [u8]>, Infallible> {
        Ok(match input.get(..self.len) {
            Some(frame) => Step::Frame(frame, self.len),
            None => Step::Need(self.len - input.len()),
        })
    }
}
