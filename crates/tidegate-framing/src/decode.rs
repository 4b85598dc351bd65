//! The trait of codecs.

use tidegate::BoxError;

/// Finds frames in the bytes of a stream.
///
/// A codec is pure: it sees bytes, and says where the next frame ends in them. [`Lines`](crate::Lines)
/// and the others of this crate are such codecs. One of a user's own has a method:
///
/// ```
/// use tidegate_framing::{Decode, FrameError, Step};
///
/// /// A kind, a length, and a payload of at most 255 bytes.
/// struct Records;
///
/// impl Decode for Records {
///     type Frame<'a> = (u8, &'a [u8]);
///     type Error = FrameError;
///
///     fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, FrameError> {
///         let [kind, len, rest @ ..] = input else {
///             return Ok(Step::Need(2 - input.len()));
///         };
///         let len = usize::from(*len);
///         Ok(match rest.get(..len) {
///             Some(payload) => Step::Frame((*kind, payload), 2 + len),
///             None => Step::Need(len - rest.len()),
///         })
///     }
/// }
///
/// assert_eq!(Records.decode(b"a\x02hi"), Ok(Step::Frame((b'a', &b"hi"[..]), 4)));
/// assert_eq!(Records.decode(b"a\x02h"), Ok(Step::Need(1)));
/// ```
///
/// # The contract
///
/// * The input begins with the first byte that no earlier step has taken.
/// * After [`Need`](Step::Need) and [`Skip`](Step::Skip) the next input has the bytes that were left, and
///   maybe more. So a codec may remember how far it has looked.
/// * After a [`Frame`](Step::Frame) a codec remembers nothing of the bytes behind it: the next input may
///   be of another part of the stream.
/// * The frames do not depend on how the stream is cut. The driver asks with any number of bytes, also
///   with none, and again after a frame of no bytes.
/// * Within a frame that has begun the driver asks again when the bytes of [`Need`](Step::Need) are there,
///   or at the end of the stream.
/// * A codec that takes more bytes than its input has is a bug, and the driver panics.
/// * After an error a codec is not asked again.
pub trait Decode {
    /// A frame. It may borrow from the input.
    type Frame<'a>;

    /// The error of a stream that is not of this codec.
    type Error: Into<BoxError>;

    /// Looks for a frame at the beginning of `input`.
    ///
    /// # Errors
    ///
    /// When `input` does not begin with a frame, whatever follows.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, Self::Error>;

    /// Looks for a frame in the last bytes of a stream, after [`decode`](Self::decode) has returned
    /// [`Need`](Step::Need) for them. `input` may be empty. After a frame of no bytes it is called again, until it
    /// returns `Need`.
    ///
    /// Bytes that are left after another `Need` are a
    /// [`Truncated`](crate::FrameError::Truncated) frame. The default implementation calls `decode`.
    ///
    /// # Errors
    ///
    /// When the stream must not end here.
    fn decode_eof<'a>(&mut self, input: &'a [u8]) -> Result<Step<Self::Frame<'a>>, Self::Error> {
        self.decode(input)
    }

    /// Returns a number for the part of the stream that is being skipped, until its end has come; another
    /// number for another part.
    ///
    /// [`Framed::frame_timeout`](crate::Framed::frame_timeout) limits the time of such a part as that of
    /// a frame. The default implementation returns `None`: each [`Skip`](Step::Skip) is over at once.
    fn skipping(&self) -> Option<u64> {
        None
    }

    /// Forgets what it remembers of the input: these bytes go elsewhere, and the next input begins with a
    /// frame.
    ///
    /// Called by codecs around this one, such as [`Raw`](crate::Raw). The default implementation does
    /// nothing, as is right for a codec that remembers nothing.
    fn restart(&mut self) {}

    /// Returns true when the codec was changed since its last step. Then the driver asks as soon as a byte
    /// has come, whatever the step has needed.
    ///
    /// For codecs whose user changes them within a frame, as by a timer. The default implementation
    /// returns false.
    fn is_changed(&self) -> bool {
        false
    }
}

/// The result of a look at the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "codecs make them, drivers match them"
)]
pub enum Step<F> {
    /// A frame, and the number of bytes that it takes of the input. A frame of no bytes is allowed.
    Frame(F, usize),
    /// The first bytes, this many, belong to no frame. `Skip(0)` is taken as `Need(0)`.
    Skip(usize),
    /// No frame is complete. At least this many bytes are missing; 0 and 1 mean that the number is not
    /// known.
    Need(usize),
}
