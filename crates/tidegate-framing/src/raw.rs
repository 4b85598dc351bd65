//! Bytes between frames, as they arrive.

use crate::decode::{Decode, Step};
use crate::error::FrameError;
use tidegate::BoxError;

/// Frames of another codec, and between them bytes that come as they arrive, such as the body after a
/// head.
///
/// [`expect`](Self::expect) says how many bytes come next. They are not collected, so a body may be of
/// any size.
///
/// ```
/// use tidegate_framing::{Decode, Lines, Piece, Raw, Step};
///
/// let mut codec = Raw::new(Lines::new());
/// let head = codec.decode(b"PUT 5\nhel").unwrap();
/// assert_eq!(head, Step::Frame(Piece::Frame(&b"PUT 5"[..]), 6));
/// codec.expect(5);
/// let body = codec.decode(b"hel").unwrap();
/// assert_eq!(body, Step::Frame(Piece::Raw { bytes: b"hel", left: 2 }, 3));
/// let body = codec.decode(b"loGET").unwrap();
/// assert_eq!(body, Step::Frame(Piece::Raw { bytes: b"lo", left: 0 }, 2));
/// ```
#[derive(Debug, Clone)]
pub struct Raw<C> {
    codec: C,
    /// The number of bytes that are still to come; `u64::MAX`: all.
    expected: u64,
    is_changed: bool,
}

/// A frame, or bytes between frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third kind of bytes")]
pub enum Piece<'a, F> {
    /// A frame of the codec.
    Frame(F),
    /// Some of the expected bytes.
    Raw {
        /// The bytes, at least one.
        bytes: &'a [u8],
        /// The number of expected bytes behind them; `u64::MAX` of all that follow.
        left: u64,
    },
}

impl<C> Raw<C> {
    /// Makes a codec that begins with frames of `codec`.
    pub fn new(codec: C) -> Self {
        Self {
            codec,
            expected: 0,
            is_changed: false,
        }
    }

    /// Returns the codec of the frames.
    pub fn codec(&mut self) -> &mut C {
        &mut self.codec
    }
}

impl<C: Decode> Raw<C> {
    /// Makes the next `len` bytes come as they arrive; `u64::MAX` stands for all that follow, and 0 for
    /// none: there is no empty piece. An earlier call that is not fulfilled has no effect any more.
    ///
    /// From a timer, the bytes of a frame that has begun are the first of them. They come when the next
    /// byte arrives.
    ///
    /// A stream that ends before all of them are there is an error.
    pub fn expect(&mut self, len: u64) {
        self.expected = len;
        self.is_changed = true;
        self.codec.restart();
    }
}

impl<C: Decode> Decode for Raw<C> {
    type Frame<'a> = Piece<'a, C::Frame<'a>>;
    type Error = BoxError;

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, BoxError> {
        self.is_changed = false;
        if self.expected == 0 {
            return self.codec.decode(input).map(framed).map_err(Into::into);
        }
        let len = usize::try_from(self.expected).map_or(input.len(), |most| most.min(input.len()));
        if len == 0 {
            return Ok(Step::Need(0));
        }
        if self.expected != u64::MAX {
            self.expected -= len as u64;
        }
        let piece = Piece::Raw {
            bytes: &input[..len],
            left: self.expected,
        };
        Ok(Step::Frame(piece, len))
    }

    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, BoxError> {
        match self.expected {
            0 => self.codec.decode_eof(input).map(framed).map_err(Into::into),
            u64::MAX => Ok(Step::Need(0)),
            _ => Err(FrameError::Truncated { have: input.len() }.into()),
        }
    }

    fn skipping(&self) -> Option<u64> {
        self.codec.skipping()
    }

    fn restart(&mut self) {
        self.expected = 0;
        self.codec.restart();
    }

    fn is_changed(&self) -> bool {
        self.is_changed || self.codec.is_changed()
    }
}

#[inline]
fn framed<F>(step: Step<F>) -> Step<Piece<'static, F>> {
    match step {
        Step::Frame(frame, len) => Step::Frame(Piece::Frame(frame), len),
        Step::Skip(len) => Step::Skip(len),
        Step::Need(len) => Step::Need(len),
    }
}
