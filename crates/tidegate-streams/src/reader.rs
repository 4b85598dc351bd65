//! The reading half of a connection.
//!
//! A method that is called for each message is a plain function that returns a future. An async one
//! would keep its arguments twice, and take a function call and more for each await.

use crate::error::{IncompleteRead, LimitOverrun, ReadError};
use crate::read_buffer::{ReadBuffer, Search};
use crate::separators::Separators;
use crate::stream::Incoming;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tidegate::{Closed, Transport};

mod feed;
#[cfg(feature = "framing")]
mod framed;
mod layer;
mod limited;
mod peek;

pub use feed::Feed;
#[cfg(feature = "framing")]
pub use framed::FramedReader;
pub use limited::{Limited, Lines};

/// Reads what a connection receives.
///
/// [`open_connection`](crate::open_connection) and [`start_server`](crate::start_server) make it,
/// together with a [`StreamWriter`](crate::StreamWriter).
///
/// # The limit
///
/// The reader takes in bytes before they are asked for, within a bound. Above twice its limit it stops
/// reading from the peer. It resumes when the unread bytes are at the limit or below, or when a read
/// waits for more. The limit is also the longest line that [`read_line`](Self::read_line) accepts, and
/// the longest piece of [`read_until`](Self::read_until). It is 64 KiB unless set: see
/// [`set_limit`](Self::set_limit), and [`with_limit`](Self::with_limit) for one call.
///
/// # Errors
///
/// Bytes that came before an error are read before the error is returned. Only the peer's EOF ends a
/// stream: after our own `close`, an abort or an error, reads return the bytes that are there and then
/// fail with [`ReadError::Closed`].
///
/// # Cancel safety
///
/// Every method here takes bytes out of the reader at its end only, all at once: dropping its
/// future before loses nothing.
///
/// # Dropping
///
/// Bytes that arrive later are discarded, so that a peer that goes on sending does not stand in the way
/// of our writes. The reader of a [pipe](crate::read_pipe) has no writer, and closes it.
pub struct StreamReader {
    incoming: Rc<Incoming>,
    /// `None` for a detached reader.
    transport: Option<Transport>,
    /// Taken out of the buffer to be lent by `poll_fill_buf` and `peek`; `incoming` knows how many of the
    /// last ones were not used. Shared with the buffer, so that another protocol can take over.
    lent: Option<Rc<BytesMut>>,
}

impl StreamReader {
    pub(crate) fn new(incoming: Rc<Incoming>, transport: Transport) -> Self {
        Self {
            incoming,
            transport: Some(transport),
            lent: None,
        }
    }
}

/// Reading. Each method is cancel safe.
impl StreamReader {
    /// Reads the bytes that are there, at most `max`, without copying them. Waits for the first one.
    ///
    /// No bytes mean the end of the stream, or a `max` of 0. This is asyncio's `read(n)`.
    ///
    /// The bytes that this and the methods below return share memory with others that arrived beside
    /// them: copy those that are few and kept for long.
    ///
    /// # Errors
    ///
    /// [`ReadError::Closed`].
    pub fn read_chunk(&mut self, max: usize) -> impl Future<Output = Result<Bytes, ReadError>> {
        poll_fn(move |context| self.poll_chunk(context, max))
    }

    /// Reads a line with its `\n`. The last one of a stream may have none; an empty one is the end
    /// of the stream.
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when the line is longer than the limit, and all of it stays in the
    /// reader; [`ReadError::Closed`].
    #[doc(alias = "readline")]
    pub fn read_line(&mut self) -> impl Future<Output = Result<Bytes, ReadError>> {
        let limit = self.limit();
        self.with_limit(limit).read_line()
    }

    /// Returns the lines, one after the other; asyncio's `async for line in reader`.
    #[doc(alias = "__aiter__")]
    pub fn lines(&mut self) -> Lines<'_> {
        Lines { reader: self }
    }

    /// Reads up to a separator, and the separator too. With several (`[b"\r\n", b"\n"]` as slices)
    /// the one that ends first counts.
    ///
    /// ```
    /// # use tidegate_streams::{block_on, open_connection, start_server};
    /// # fn main() -> tidegate::Result { block_on(async {
    /// # let server = start_server("127.0.0.1:0", async |_, w| Ok(w.write_all(b"a;b\r\nc").await?))?;
    /// # let (mut reader, writer) = open_connection(&server.local_addrs()[0]).await?;
    /// // The peer has sent `a;b\r\nc`, and its end of stream.
    /// assert_eq!(&reader.read_until(b";").await?[..], b"a;");
    /// let either: [&[u8]; 2] = [b"\r\n", b"\n"];
    /// assert_eq!(&reader.read_until(&either[..]).await?[..], b"b\r\n");
    /// let error = reader.read_until("\n").await.unwrap_err();
    /// assert_eq!(&error.as_incomplete().unwrap().partial[..], b"c");
    /// # Ok(()) })? }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`ReadError::LimitOverrun`] when no separator begins within the limit; all bytes stay in the
    ///   reader.
    /// * [`ReadError::Incomplete`], with the rest, when the stream ended first.
    /// * [`ReadError::Closed`]; the bytes that were there stay to be read.
    /// * [`ReadError::NoSeparator`].
    #[doc(alias = "readuntil")]
    pub async fn read_until<'s>(
        &mut self,
        separators: impl Into<Separators<'s>>,
    ) -> Result<Bytes, ReadError> {
        let limit = self.limit();
        self.with_limit(limit).read_until(separators).await
    }

    /// Fills `buffer`, which may be longer than the limit.
    ///
    /// Until there is enough, all of it stays in the reader.
    ///
    /// # Errors
    ///
    /// [`ReadError::Incomplete`], with the bytes that were there, when the stream ended first;
    /// [`ReadError::Closed`], and these bytes stay to be read.
    #[doc(alias = "readexactly")]
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.fill(buffer.len()).await?;
        self.unlend();
        let len = buffer.len();
        let copy = |data: &[u8]| buffer.copy_from_slice(data);
        self.incoming.buffer.borrow_mut().give(len, copy);
        self.incoming.make_room(false);
        Ok(())
    }

    /// Reads up to the end of the stream, at most `max` bytes; asyncio's `read()`, which has no
    /// bound.
    ///
    /// # Errors
    ///
    /// [`ReadError::LimitOverrun`] when the stream is longer than `max`; its bytes stay in the reader.
    /// [`ReadError::Closed`]; the bytes that were there stay to be read.
    pub async fn read_to_end(&mut self, max: usize) -> Result<Bytes, ReadError> {
        poll_fn(|context| self.poll_ready(context, |there| there > max)).await?;
        let there = self.incoming.buffered();
        if there > max {
            let overrun = LimitOverrun {
                consumed: there,
                found: false,
            };
            return Err(ReadError::LimitOverrun(overrun));
        }
        Ok(self.take(there))
    }

    /// Copies the bytes that are there into `buffer`, as many as fit. Waits for the first one.
    ///
    /// Returns 0 at the end of the stream, or for an empty `buffer`. asyncio's `read(n)` is rather
    /// [`read_chunk`](Self::read_chunk).
    ///
    /// # Errors
    ///
    /// [`ReadError::Closed`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }
}

/// The end of the stream, and the connection.
impl StreamReader {
    /// Returns whether the peer has ended the stream and everything was read.
    ///
    /// It is false after an error, which reads return.
    pub fn at_eof(&self) -> bool {
        self.incoming.ended.get() && self.incoming.buffered() == 0
    }

    /// Returns how the connection ended, or `None` while it is open. Unread bytes may be left.
    #[doc(alias = "exception")]
    pub fn closed(&self) -> Option<Closed> {
        let closed = self.transport.as_ref()?.closed();
        closed.filter(|_| self.incoming.lost.get())
    }

    /// Returns the underlying transport, for addresses and counters; `None` for a
    /// [detached](Self::detached) reader. The [writer](crate::StreamWriter::transport) has the same.
    ///
    /// Its `pause_reading` and `push_layer` would get in the way of this reader. Its `set_protocol` gives
    /// the bytes that were not read to the new protocol, which is the end of this reader: keep it until
    /// then, for its drop discards them, and read no more.
    pub fn transport(&self) -> Option<&Transport> {
        self.transport.as_ref()
    }
}

/// The limit.
impl StreamReader {
    /// Sets another limit, in bytes, for one call: `reader.with_limit(1 << 20).read_line().await`.
    pub fn with_limit(&mut self, limit: usize) -> Limited<'_> {
        Limited {
            reader: self,
            limit,
        }
    }

    /// Sets the limit, in bytes, from now on. 0 counts as 1.
    ///
    /// asyncio's limit is given to `open_connection` and `start_server`; here too, with
    /// [`StreamOptions::limit`](crate::StreamOptions::limit).
    pub fn set_limit(&mut self, limit: usize) {
        self.incoming.set_limit(&self.transport, limit.max(1));
    }

    /// Returns the limit, in bytes.
    pub fn limit(&self) -> usize {
        self.incoming.limit.get()
    }
}

impl StreamReader {
    /// Waits until there are `len` bytes.
    async fn fill(&mut self, len: usize) -> Result<(), ReadError> {
        poll_fn(|context| self.poll_ready(context, |there| there >= len)).await?;
        let there = self.incoming.buffered();
        if there >= len {
            return Ok(());
        }
        Err(ReadError::Incomplete(self.incomplete(Some(len))))
    }

    #[inline]
    fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<Bytes, ReadError>> {
        if max > 0 && self.incoming.buffered() == 0 {
            return self.poll_more(context, |_| Ok(Bytes::new()));
        }
        Poll::Ready(Ok(self.take(max)))
    }

    /// Takes the piece that `find` finds; `find` also gets the place that its last search has reached.
    /// `last` makes the result of the rest of an ended stream.
    #[inline]
    fn poll_found<T: From<Bytes>>(
        &mut self,
        context: &mut Context<'_>,
        searched: &mut usize,
        find: impl FnOnce(&ReadBuffer, usize) -> Search,
        last: impl FnOnce(IncompleteRead) -> Result<T, ReadError>,
    ) -> Poll<Result<T, ReadError>> {
        self.unlend();
        let found = find(&self.incoming.buffer.borrow_mut(), *searched);
        match found {
            Search::Found(end) => Poll::Ready(Ok(self.take(end).into())),
            Search::Overrun(overrun) => Poll::Ready(Err(ReadError::LimitOverrun(overrun))),
            Search::Missing(place) => {
                *searched = place;
                self.poll_more(context, |reader| last(reader.incomplete(None)))
            }
        }
    }

    #[inline]
    fn poll_line<T: From<Bytes>>(
        &mut self,
        context: &mut Context<'_>,
        searched: &mut usize,
        limit: usize,
        last: impl FnOnce(Bytes) -> T,
    ) -> Poll<Result<T, ReadError>> {
        let find = |buffer: &ReadBuffer, from| buffer.find_byte(b'\n', from, limit);
        self.poll_found(context, searched, find, |rest| Ok(last(rest.partial)))
    }

    /// Takes out what is left of an ended stream.
    #[cold]
    fn incomplete(&mut self, expected: Option<usize>) -> IncompleteRead {
        let partial = self.take(usize::MAX);
        IncompleteRead { partial, expected }
    }

    /// Not inlined into its callers: `split_to` is inlined where it is called from one place.
    #[inline(never)]
    fn take(&mut self, most: usize) -> Bytes {
        self.unlend();
        let taken = self.incoming.buffer.borrow_mut().take(most);
        self.incoming.make_room(false);
        taken
    }

    #[inline]
    fn unlend(&mut self) {
        if self.incoming.lent.get() > 0 {
            self.put_back();
        }
    }

    /// Puts back what was lent, of which nothing may be left.
    #[cold]
    fn put_back(&mut self) {
        let left = self.incoming.lent.replace(0);
        let mut buffer = self.incoming.buffer.borrow_mut();
        buffer.put_back(&mut self.lent, left);
    }

    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<usize, ReadError>> {
        let mut len = 0;
        let given = self.poll_give(context, buffer.len(), |data| {
            buffer[..data.len()].copy_from_slice(data);
            len = data.len();
        });
        given.map_ok(|()| len)
    }

    /// Lends what is there, at most `most` bytes, to be copied; nothing at the end of the stream.
    pub(crate) fn poll_give(
        &mut self,
        context: &mut Context<'_>,
        most: usize,
        give: impl FnOnce(&[u8]),
    ) -> Poll<Result<(), ReadError>> {
        if most > 0 {
            ready!(self.poll_some(context))?;
            let lent = self.lent();
            if !lent.is_empty() {
                let most = most.min(lent.len());
                give(&lent[..most]);
                self.consume(most);
                return Poll::Ready(Ok(()));
            }
            self.incoming.buffer.borrow_mut().give(most, give);
            self.incoming.make_room(false);
        }
        Poll::Ready(Ok(()))
    }

    /// Lends the bytes that are there; none at the end of the stream.
    #[cfg(feature = "futures-io")]
    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<&[u8], ReadError>> {
        if self.incoming.lent.get() == 0 {
            ready!(self.poll_some(context))?;
            self.lend();
        }
        Poll::Ready(Ok(self.lent()))
    }

    /// Lends all that is in the buffer; nothing is lent yet.
    fn lend(&mut self) {
        let lent = self.incoming.buffer.borrow_mut().lend(&mut self.lent);
        self.incoming.lent.set(lent);
    }

    /// Returns what is left of the lent bytes: `incoming` never counts more than were lent.
    fn lent(&self) -> &[u8] {
        let lent = self.lent.as_deref().map_or(&[][..], |lent| lent);
        &lent[lent.len() - self.incoming.lent.get()..]
    }

    pub(crate) fn consume(&mut self, len: usize) {
        let left = self.incoming.lent.get().saturating_sub(len);
        self.incoming.lent.set(left);
        if left == 0 {
            self.put_back();
        }
        self.incoming.make_room(false);
    }

    /// Ready when there is a byte, or the stream has ended.
    fn poll_some(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        self.poll_ready(context, |there| there > 0)
    }

    /// Ready when `enough` says so of what is there, or the stream has ended.
    #[inline]
    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        enough: impl FnOnce(usize) -> bool,
    ) -> Poll<Result<(), ReadError>> {
        if enough(self.incoming.buffered()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_more(context, |_| Ok(()))
    }

    /// Waits for more than is there. Ready when the stream has ended, with the result of `end`. The
    /// error of a connection that ended otherwise comes when there is nothing more to wait for.
    #[inline]
    fn poll_more<T>(
        &mut self,
        context: &mut Context<'_>,
        end: impl FnOnce(&mut Self) -> Result<T, ReadError>,
    ) -> Poll<Result<T, ReadError>> {
        if self.incoming.waits_again(context.waker()) {
            return Poll::Pending;
        }
        self.poll_end(context, end)
    }

    #[cold]
    #[inline(never)]
    fn poll_end<T>(
        &mut self,
        context: &mut Context<'_>,
        end: impl FnOnce(&mut Self) -> Result<T, ReadError>,
    ) -> Poll<Result<T, ReadError>> {
        if self.incoming.ended.get() {
            return Poll::Ready(end(self));
        }
        if let Some(closed) = self.closed() {
            return Poll::Ready(Err(ReadError::Closed(closed)));
        }
        self.incoming.set_waker(context.waker());
        self.incoming.make_room(true);
        Poll::Pending
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.incoming.abandon();
        if self.incoming.is_alone
            && let Some(transport) = &self.transport
        {
            transport.close();
        }
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("transport", &self.transport.as_ref().map(Transport::id))
            .field("incoming", &self.incoming)
            .finish_non_exhaustive()
    }
}
