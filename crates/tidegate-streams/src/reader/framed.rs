//! Frames out of a reader's bytes.

use super::StreamReader;
use crate::error::{FramedError, ReadError};
use bytes::{Buf, Bytes};
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::task::{Context, Poll, ready};
use tidegate::BoxError;
use tidegate_framing::{Decode, FrameError, Step};

/// Maximum size of a torn frame by default: a net for codecs that have no maximum of their own.
const DEFAULT_LIMIT: usize = 16 * 1024 * 1024;

/// Reads frames with a codec of [`tidegate_framing`].
///
/// [`next`](Self::next) returns frames that are bytes and share the reader's memory.
/// [`ready`](Self::ready) and [`next_ready`](Self::next_ready) lend frames of any codec where they lie,
/// which costs less:
///
/// ```
/// use tidegate::Result;
/// use tidegate_framing::{LengthPrefix, Lines, Prefix};
/// use tidegate_streams::{FramedReader, block_on, open_connection, start_server};
///
/// async fn run() -> Result {
///     let server = start_server("127.0.0.1:0", async |reader, writer| {
///         let mut lines = FramedReader::new(reader, Lines::new().max(1000));
///         while lines.ready().await? {
///             while let Some(line) = lines.next_ready()? {
///                 let reply = [b"hello ", line].concat();
///                 LengthPrefix::new(Prefix::Big(2)).write(writer.transport(), &reply)?;
///             }
///             writer.drain().await?;
///         }
///         Ok(())
///     })?;
///
///     let (reader, writer) = open_connection(&server.local_addrs()[0]).await?;
///     let mut replies = FramedReader::new(reader, LengthPrefix::new(Prefix::Big(2)));
///     writer.write(b"Ada\nGrace\n")?;
///     writer.write_eof()?;
///     while let Some(reply) = replies.next().await? {
///         println!("{}", String::from_utf8_lossy(&reply));
///     }
///     Ok(())
/// }
///
/// fn main() -> Result {
///     block_on(run())?
/// }
/// ```
///
/// # Rules
///
/// * The frames are the same, and in the same order, however the stream is cut, and in both ways. They
///   are those that a [`Framed`](tidegate_framing::Framed) protocol receives.
/// * A change of the [codec](Self::codec) holds from the next frame on, also for bytes that have
///   arrived. Within a frame that has begun it holds when the codec is [asked
///   again](Decode::is_changed).
/// * At the end of the stream a last frame without an end comes, if the codec has such. Bytes that are
///   left otherwise are a [`Truncated`](FrameError::Truncated) frame.
/// * An error comes behind the frames before it. After one of the codec nothing is decoded: the stream
///   counts as ended. The bytes that are no frame stay in the [reader](Self::into_reader).
/// * Memory follows the bytes that came, never a length that was only announced. The reader's
///   [limit](StreamReader#the-limit) bounds what is taken in beyond a torn frame.
///
/// # Cancel safety
///
/// `next` takes a frame in the poll that completes, and `ready` takes nothing. Dropping their futures
/// before loses nothing.
pub struct FramedReader<C> {
    reader: StreamReader,
    codec: C,
    /// Maximum number of bytes of a frame that is not complete.
    limit: usize,
    /// The number of unread bytes from which on the codec is asked: 0 after a frame, and no number is
    /// enough when it is done.
    wanted: usize,
    /// The number of unread bytes that the codec saw when it returned no frame.
    seen: usize,
    /// The reader's bytes were taken out of its buffer, by `next_ready`.
    is_lending: bool,
    /// The last frame was returned, or the codec has failed.
    is_done: bool,
}

/// The result of a look at the bytes.
enum Found<F> {
    Frame(F),
    /// At least this many bytes are missing.
    Need(usize),
    Failed(BoxError),
}

/// Returns the number of bytes behind what the codec finds first in `input`. Nothing comes behind
/// `input` if `is_last`.
#[inline(always)]
fn look<'a, C: Decode>(
    codec: &mut C,
    input: &'a [u8],
    is_last: impl Fn() -> bool,
) -> (usize, Found<C::Frame<'a>>) {
    let mut rest = input;
    loop {
        let mut step = codec.decode(rest);
        if matches!(step, Ok(Step::Need(_) | Step::Skip(0))) && is_last() {
            step = codec.decode_eof(rest);
        }
        match step {
            // The slices panic when a codec takes more than there is.
            Ok(Step::Frame(frame, len)) => return (rest[len..].len(), Found::Frame(frame)),
            Ok(Step::Skip(len @ 1..)) => rest = &rest[len..],
            Ok(Step::Need(missing)) => return (rest.len(), Found::Need(missing.max(1))),
            Ok(Step::Skip(0)) => return (rest.len(), Found::Need(1)),
            Err(error) => return (rest.len(), Found::Failed(error.into())),
        }
    }
}

/// Returns where `frame` lies in the first bytes of `input`, if it does.
fn place(input: &[u8], frame: &[u8]) -> Option<Range<usize>> {
    let start = frame.as_ptr().addr().checked_sub(input.as_ptr().addr())?;
    let end = start.checked_add(frame.len())?;
    (end <= input.len()).then_some(start..end)
}

impl<C: Decode> FramedReader<C> {
    /// Reads the frames of `codec`, of the bytes that `reader` has not returned.
    pub fn new(mut reader: StreamReader, codec: C) -> Self {
        reader.unlend();
        Self {
            reader,
            codec,
            limit: DEFAULT_LIMIT,
            wanted: 1,
            seen: 0,
            is_lending: false,
            is_done: false,
        }
    }

    /// Sets the maximum number of bytes of a frame that is not complete. By default it is 16 MiB. A longer
    /// one is [`TooLong`](FrameError::TooLong).
    ///
    /// This is a net for codecs without a maximum of their own.
    #[must_use]
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Returns the codec.
    pub fn codec(&mut self) -> &mut C {
        &mut self.codec
    }

    /// Returns the reader. Bytes that belong to no returned frame come first from it.
    pub fn into_reader(mut self) -> StreamReader {
        self.settle();
        self.reader
    }

    /// Waits for a frame, and returns it; `None` at the end of the stream.
    ///
    /// A frame shares memory with the bytes that arrived beside it: copy those that are few and kept for
    /// long. The codec is one whose frames are bytes, as most are.
    ///
    /// # Errors
    ///
    /// * [`FramedError::Codec`], once.
    /// * [`FramedError::Closed`]; the bytes of a torn frame stay in the [reader](Self::into_reader).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no frame.
    #[expect(
        clippy::should_implement_trait,
        reason = "as an async function it would have the same name and cost more"
    )]
    pub fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, FramedError>>
    where
        C: for<'a> Decode<Frame<'a> = &'a [u8]>,
    {
        poll_fn(|context| self.poll_next(context))
    }

    /// Waits until [`next_ready`](Self::next_ready) may return a frame: for bytes that the codec has not
    /// seen, or the end of the stream. Returns false when there is no further frame.
    ///
    /// # Errors
    ///
    /// [`FramedError::Closed`]; the bytes of a torn frame stay in the [reader](Self::into_reader).
    ///
    /// # Cancel safety
    ///
    /// It takes nothing.
    pub fn ready(&mut self) -> impl Future<Output = Result<bool, FramedError>> {
        poll_fn(|context| self.poll_ready(context))
    }

    /// Lends the next frame that has arrived, or returns `None`: then [`ready`](Self::ready) waits for
    /// more.
    ///
    /// A frame may borrow from the reader's bytes, so the next call ends it.
    ///
    /// # Errors
    ///
    /// [`FramedError::Codec`], once.
    pub fn next_ready(&mut self) -> Result<Option<C::Frame<'_>>, FramedError> {
        if self.reader.incoming.lent.get() == 0 {
            self.lend();
        }
        let incoming = &*self.reader.incoming;
        let input = self.reader.lent();
        // A torn frame may go on in the buffer.
        let is_last = || incoming.ended.get() && incoming.buffer.borrow_mut().len() == 0;
        if input.len() < self.wanted
            && (self.is_done || !is_last() && !is_early(&self.codec, self.seen, input.len()))
        {
            return Ok(None);
        }
        let (left, found) = look(&mut self.codec, input, is_last);
        incoming.lent.set(left);
        let result = match found {
            Found::Frame(frame) => {
                self.wanted = 0;
                return Ok(Some(frame));
            }
            Found::Need(missing) if !is_last() => {
                self.seen = left;
                need(&mut self.wanted, self.limit, left, missing)
            }
            Found::Need(_) => end(left),
            Found::Failed(error) => Err(FramedError::Codec(error)),
        };
        if result.is_err() || is_last() {
            (self.is_done, self.wanted) = (true, usize::MAX);
        }
        result.map(|()| None)
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, FramedError>> {
        if self.is_done {
            return Poll::Ready(Ok(false));
        }
        if self.wanted == 0 {
            return Poll::Ready(Ok(true));
        }
        // Lent bytes would hide those behind them, and reading may go on.
        self.settle();
        let waited = self.poll_wanted(context);
        waited.map_ok(|()| true)
    }

    /// Ready when the codec is to be asked.
    #[inline]
    fn poll_wanted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), FramedError>> {
        let (codec, wanted, seen) = (&self.codec, self.wanted, self.seen);
        let is_due = |there| there >= wanted || is_early(codec, seen, there);
        let waited = self.reader.poll_ready(context, is_due);
        waited.map_err(|error| match error {
            ReadError::Closed(closed) => FramedError::Closed(closed),
            other => FramedError::Codec(other.into()),
        })
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, FramedError>>
    where
        C: for<'a> Decode<Frame<'a> = &'a [u8]>,
    {
        self.settle();
        loop {
            if self.is_done {
                return Poll::Ready(Ok(None));
            }
            if self.wanted > 0 {
                ready!(self.poll_wanted(context))?;
            }
            let incoming = &*self.reader.incoming;
            let buffer = incoming.buffer.borrow_mut();
            let input = buffer.bytes();
            let (left, found) = look(&mut self.codec, input, || incoming.ended.get());
            let taken = input.len() - left;
            let failed = match found {
                Found::Frame(frame) => {
                    let frame = place(&input[..taken], frame).ok_or_else(|| frame.to_vec());
                    drop(buffer);
                    self.wanted = 0;
                    let mut bytes = self.reader.take(taken);
                    match frame {
                        Ok(place) => {
                            bytes.truncate(place.end);
                            bytes.advance(place.start);
                        }
                        Err(copied) => bytes = copied.into(),
                    }
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Found::Need(missing) => Ok((left, missing)),
                Found::Failed(error) => Err(error),
            };
            drop(buffer);
            self.without_frame(taken, failed)?;
        }
    }

    /// Does what is to be done when there is no frame, but maybe bytes to skip.
    #[cold]
    fn without_frame(
        &mut self,
        skipped: usize,
        failed: Result<(usize, usize), BoxError>,
    ) -> Result<(), FramedError> {
        if skipped > 0 {
            drop(self.reader.take(skipped));
        }
        let is_last = self.reader.incoming.ended.get();
        let result = match failed {
            Ok((left, missing)) if !is_last => {
                self.seen = left;
                need(&mut self.wanted, self.limit, left, missing)
            }
            Ok((left, _)) => end(left),
            Err(error) => Err(FramedError::Codec(error)),
        };
        if result.is_err() || is_last {
            (self.is_done, self.wanted) = (true, usize::MAX);
        }
        result
    }

    /// Lends all that is in the reader's buffer; nothing is lent any more.
    #[cold]
    fn lend(&mut self) {
        self.settle();
        let reader = &mut self.reader;
        let lent = reader
            .incoming
            .buffer
            .borrow_mut()
            .lend_briefly(&mut reader.lent);
        reader.incoming.lent.set(lent);
        self.is_lending = lent > 0;
    }

    /// Puts back what is left of the lent bytes, with their memory.
    #[inline]
    fn settle(&mut self) {
        if self.is_lending {
            self.is_lending = false;
            self.reader.put_back();
            self.reader.incoming.make_room(false);
        }
    }
}

/// Whether the codec is asked before the bytes that it needs are there: it was changed, and a byte has come.
fn is_early<C: Decode>(codec: &C, seen: usize, there: usize) -> bool {
    there > seen && codec.is_changed()
}

/// Notes from how many bytes on the codec is asked again, if that is within the limit.
fn need(wanted: &mut usize, limit: usize, left: usize, missing: usize) -> Result<(), FramedError> {
    let needed = left.saturating_add(missing);
    if needed <= limit {
        *wanted = needed;
    } else if left == 0 {
        // No frame has begun: it is refused at its first byte.
        *wanted = 1;
    } else {
        return Err(FramedError::Codec(FrameError::too_long(limit).into()));
    }
    Ok(())
}

/// The stream has ended, with this many bytes behind the last frame.
fn end(left: usize) -> Result<(), FramedError> {
    if left > 0 {
        return Err(FramedError::Codec(FrameError::truncated(left).into()));
    }
    Ok(())
}

impl<C> fmt::Debug for FramedReader<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedReader")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
