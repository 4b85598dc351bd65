//! The decoders and encoders of tokio-util.

use crate::decode::{Decode, Step};
use bytes::BytesMut;
use std::cell::Cell;
use tidegate::{BoxError, Flow, Result, Transport};
use tokio_util::codec::{Decoder, Encoder};

/// Maximum size of the buffer that a thread keeps for its codecs: as large as a torn frame may keep.
const MAX_KEPT: usize = 16 * 1024;

/// Minimum number of bytes that a decoder is shown at first.
const MIN_SHOWN: usize = 64;

/// A codec of tokio-util.
///
/// A decoder takes its bytes out of a `BytesMut`, so they are copied for it: not more than the length
/// of the frame before at first, then twice as many, until there is an item. A decoder may reserve room
/// for a length that was only announced, so set its maximum.
///
/// Bytes that a decoder takes without an item, such as a head, belong to the frame that has begun. They
/// are kept until its item is there, in memory and against its deadline. A protocol that takes over gets
/// them, and a stream that ends behind them is [`Truncated`](crate::FrameError::Truncated). So a decoder
/// that takes bytes between frames, such as heartbeats, must not be used with a deadline for frames.
///
/// A decoder remembers what it took, and nothing resets it. So [`Raw::expect`](crate::Raw::expect) must not
/// be called within a frame that its decoder has begun.
///
/// ```
/// use tidegate_framing::{Decode, Step, TokioCodec};
/// use tokio_util::codec::LinesCodec;
///
/// let mut codec = TokioCodec::new(LinesCodec::new());
/// let step = codec.decode(b"one\ntwo").unwrap();
/// assert_eq!(step, Step::Frame("one".to_owned(), 4));
/// assert_eq!(codec.decode(b"two").unwrap(), Step::Need(0));
/// ```
#[derive(Debug, Clone)]
pub struct TokioCodec<D> {
    codec: D,
    /// The first bytes of the input, this many, were taken by the decoder for an item that is not there.
    taken: usize,
    /// The bytes behind these, as long as the decoder looks for the item.
    shown: BytesMut,
    /// The number of bytes of the last item.
    usual: usize,
}

thread_local! {
    /// A buffer for the next item to be decoded or encoded, so that no connection owns one.
    static SPARE: Cell<BytesMut> = Cell::new(BytesMut::new());
}

fn take_spare() -> BytesMut {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

fn give_spare(mut buffer: BytesMut) {
    if buffer.capacity() <= MAX_KEPT {
        buffer.clear();
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}

impl<D> TokioCodec<D> {
    /// Makes a codec of a decoder, an encoder, or what is both.
    pub fn new(codec: D) -> Self {
        Self {
            codec,
            taken: 0,
            shown: BytesMut::new(),
            usual: 0,
        }
    }

    /// Returns the decoder or encoder.
    pub fn codec(&mut self) -> &mut D {
        &mut self.codec
    }

    /// Encodes an item, and writes its bytes in one write.
    ///
    /// # Errors
    ///
    /// That of the encoder, or a [`WriteError`](tidegate::WriteError). Nothing is written then.
    pub fn write<I>(&mut self, transport: &Transport, item: I) -> Result<Flow>
    where
        D: Encoder<I, Error: Into<BoxError>>,
    {
        let mut buffer = take_spare();
        let encoded = self.codec.encode(item, &mut buffer).map_err(Into::into);
        let written = encoded.and_then(|()| Ok(transport.write(&buffer)?));
        give_spare(buffer);
        written
    }
}

impl<D: Decoder<Error: Into<BoxError>>> TokioCodec<D> {
    /// Lets the decoder take what it wants of the bytes that it was shown.
    fn ask(
        &mut self,
        ask: impl FnOnce(&mut D, &mut BytesMut) -> std::result::Result<Option<D::Item>, D::Error>,
    ) -> std::result::Result<Step<D::Item>, D::Error> {
        let before = self.shown.len();
        let item = ask(&mut self.codec, &mut self.shown)?;
        self.taken += before.saturating_sub(self.shown.len());
        if item.is_some() || self.shown.is_empty() {
            give_spare(std::mem::take(&mut self.shown));
        }
        Ok(match item {
            Some(item) => {
                self.usual = std::mem::take(&mut self.taken);
                Step::Frame(item, self.usual)
            }
            None => Step::Need(0),
        })
    }

    /// Shows the decoder more of the input.
    fn show(&mut self, input: &[u8], len: usize) {
        if self.shown.capacity() == 0 {
            self.shown = take_spare();
        }
        let seen = self.seen();
        self.shown.extend_from_slice(&input[seen..len]);
    }

    /// The number of bytes of the input that the decoder has seen.
    fn seen(&self) -> usize {
        self.taken + self.shown.len()
    }
}

impl<D: Decoder<Error: Into<BoxError>>> Decode for TokioCodec<D> {
    type Frame<'a> = D::Item;
    type Error = D::Error;

    fn decode(&mut self, input: &[u8]) -> std::result::Result<Step<D::Item>, D::Error> {
        let mut len = input.len().min(self.usual.max(MIN_SHOWN));
        loop {
            len = len.max(self.seen()).min(input.len());
            self.show(input, len);
            let step = self.ask(D::decode)?;
            if !matches!(step, Step::Need(_)) || len == input.len() {
                return Ok(step);
            }
            len = len.saturating_mul(2);
        }
    }

    fn decode_eof(&mut self, _: &[u8]) -> std::result::Result<Step<D::Item>, D::Error> {
        // `decode` has shown all of it.
        self.ask(D::decode_eof)
    }

    fn restart(&mut self) {
        self.taken = 0;
        self.shown = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::codec::LinesCodec;

    #[test]
    fn a_codec_between_frames_owns_no_buffer() {
        let mut codec = TokioCodec::new(LinesCodec::new());
        assert!(matches!(codec.decode(b"torn"), Ok(Step::Need(0))));
        assert!(codec.shown.capacity() > 0);
        assert!(matches!(codec.decode(b"torn\n"), Ok(Step::Frame(_, 5))));
        assert_eq!(codec.shown.capacity(), 0);
        assert!(matches!(codec.decode(b""), Ok(Step::Need(0))));
        assert_eq!(codec.shown.capacity(), 0);
        // The buffer waits for the next one.
        assert!(take_spare().capacity() > 0);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        give_spare(BytesMut::with_capacity(3 * MAX_KEPT));
        assert!(take_spare().capacity() <= MAX_KEPT);
    }
}
