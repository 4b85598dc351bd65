//! The writing half of a connection.

use crate::executor;
use bytes::Bytes;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tidegate::{Closed, Completion, Flow, Transport, WriteError};

/// Writes to a connection.
///
/// [`open_connection`](crate::open_connection) and [`start_server`](crate::start_server) make it,
/// together with a [`StreamReader`](crate::StreamReader).
///
/// # Which way to write
///
/// * [`write`](Self::write) and [`drain`](Self::drain), as in asyncio: `write` takes its bytes at
///   once and never waits; `drain` waits while too much is buffered. Small writes are sent together.
///   [`write_owned`](Self::write_owned) and `write!` are other forms of `write`.
/// * [`write_all`](Self::write_all) waits until these very bytes are with the kernel. Use it for a
///   last message, or for one message at a time.
///
/// A writer that never drains gets [`Flow::Paused`], and at the [cap](tidegate::WriteLimits) an
/// error.
///
/// [`drain`](Self::drain) fails with [`Closed`] once the connection has ended, [`flush`](Self::flush) and
/// [`write_all`](Self::write_all) when their bytes are [unsent](Closed::unsent) then, and
/// [`close`](Self::close) unless the end is [clean](Closed::is_clean).
///
/// # Dropping
///
/// Closes the connection as [`close`](Self::close) does, in the background. The reader, if it still
/// exists, gets what has arrived.
///
/// A writer whose last write was refused at the cap ([`WriteError::BufferFull`]) ends the connection
/// as a failed callback does ([`Transport::fail`]): the peer misses the refused bytes, and an orderly
/// end would look complete. So a task that fails by `writer.write(..)?` resets a TCP connection. A
/// later write that is taken, or `close`, says that the refusal was dealt with.
pub struct StreamWriter {
    transport: Transport,
    #[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
    pub(crate) polled: Option<Box<crate::traits::Polled>>,
}

impl StreamWriter {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            #[cfg(any(feature = "futures-io", feature = "tokio", feature = "hyper"))]
            polled: None,
        }
    }

    /// Takes all of `data`, or nothing, without waiting.
    ///
    /// [`Flow::Paused`] means that it is time to [`drain`](Self::drain).
    ///
    /// Text is written by `write!(writer, "{text}")` or `writer.write(text.as_bytes())`.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: after `write_eof`, after `close` or the end, and from the cap on. None of
    /// `data` was taken then.
    // Inlined by order, as the way below it is: what is called for each message.
    #[inline(always)]
    pub fn write(&self, data: &[u8]) -> Result<Flow, WriteError> {
        self.transport.write(data)
    }

    /// Takes all of `data`, or nothing, as [`write`](Self::write) does, without copying it.
    ///
    /// Bytes that the kernel does not take at once are kept as they are. The loop drops an
    /// [owner](Bytes::from_owner) of them, never this call.
    ///
    /// ```
    /// # use tidegate_streams::StreamWriter;
    /// async fn send(writer: &StreamWriter, page: bytes::Bytes) -> tidegate::Result {
    ///     write!(writer, "{} bytes:\n", page.len())?;
    ///     writer.write_owned(page)?;
    ///     Ok(writer.drain().await?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`write`](Self::write).
    #[inline]
    pub fn write_owned(&self, data: impl Into<Bytes>) -> Result<Flow, WriteError> {
        self.transport.write_owned(data)
    }

    /// Writes formatted text as one [`write`](Self::write). It makes `write!(writer, "...")` work.
    ///
    /// # Errors
    ///
    /// See [`write`](Self::write). [`WriteError::Format`] when a value's own formatting fails.
    #[inline]
    pub fn write_fmt(&self, args: fmt::Arguments<'_>) -> Result<Flow, WriteError> {
        self.transport.write_fmt(args)
    }

    /// Writes the slices, one after the other, as one [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// See [`write`](Self::write).
    #[doc(alias = "writelines")]
    pub fn write_vectored(&self, slices: &[IoSlice<'_>]) -> Result<Flow, WriteError> {
        self.transport.write_vectored(slices)
    }

    /// Waits while the transport is paused, until the buffer has fallen to the low-water mark.
    ///
    /// Any number of tasks may wait. A call that need not wait still yields to the loop now and then.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection, once it has one: bytes may be [unsent](Closed::unsent).
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub fn drain(&self) -> impl Future<Output = io::Result<()>> {
        let mut waiting = None;
        poll_fn(move |context| self.poll_drain(context, &mut waiting))
    }

    /// Has the usual case inline, in which there is nothing to wait for.
    #[inline]
    fn poll_drain(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Option<Completion<()>>,
    ) -> Poll<io::Result<()>> {
        if waiting.is_none() {
            if executor::must_yield() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.transport.flow().is_paused() && !self.transport.is_closing() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_room(context, waiting)
    }

    #[cold]
    fn poll_room(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Option<Completion<()>>,
    ) -> Poll<io::Result<()>> {
        Pin::new(waiting.get_or_insert_with(|| self.transport.drain())).poll(context)
    }

    /// Yields to the loop, once in several calls.
    async fn give_way() {
        if executor::must_yield() {
            crate::time::yield_now().await;
        }
    }

    /// Writes, and waits until the kernel has these bytes.
    ///
    /// It first waits while the transport is paused, then takes all of them at once.
    ///
    /// # Errors
    ///
    /// See [`WriteError`], and the [`Closed`] of the connection: inside the [`io::Error`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before the bytes were taken, nothing of them is written; after it, all of them are.
    #[doc(alias = "awrite")]
    pub async fn write_all(&self, data: &[u8]) -> io::Result<()> {
        self.drain().await?;
        loop {
            // Another task that waited may have been faster.
            while self.transport.flow().is_paused() {
                self.transport.drain().await?;
            }
            match self.transport.write(data) {
                // Limits may let the cap be reached without a pause.
                Err(WriteError::BufferFull { .. }) => self.transport.flush().await?,
                Err(error) => return Err(error.into()),
                Ok(_) => return self.transport.flush().await,
            }
        }
    }

    /// Waits until the kernel has all that was written before this call.
    ///
    /// It yields to the loop as [`drain`](Self::drain) does.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection when that cannot happen any more.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub async fn flush(&self) -> io::Result<()> {
        let flush = self.transport.flush();
        Self::give_way().await;
        flush.await
    }

    /// Sends what is buffered, then ends our side of the stream; reading goes on.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closing`] after `close`, [`WriteError::Closed`] after the end.
    pub fn write_eof(&self) -> Result<(), WriteError> {
        self.transport.write_eof()
    }

    /// Sends what is buffered, then ends the connection.
    ///
    /// The close begins at the call, awaited or not. Dropping the writer closes too.
    ///
    /// The completion completes when the connection has ended: the kernel has all bytes, and nothing is
    /// read any more. It does not say that the peer has them: only its reply confirms that. It waits as
    /// long as the peer takes to read, unless [`Transport::close_within`] or
    /// [`Transport::set_write_timeout`] sets a limit.
    ///
    /// # Errors
    ///
    /// Of the completion: the [`Closed`] of the connection, in the [`io::Error`], unless the end is
    /// [clean](Closed::is_clean). So bytes are unsent, or something other than a close ended it, such as
    /// a reset by the peer. [`Closed::of`] finds it. [`LoopClosed`](tidegate::LoopClosed) when the loop
    /// ends before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion ends the waiting only.
    #[doc(alias = "aclose")]
    #[doc(alias = "wait_closed")]
    pub fn close(&self) -> Completion<()> {
        self.transport.close();
        let (completer, completion) = self.transport.handle().completion();
        self.transport.wait_closed().then(move |_, closed| {
            completer.complete(match closed {
                Ok(closed) if closed.is_clean() => Ok(()),
                Ok(closed) => Err(closed.into()),
                Err(error) => Err(error),
            });
        });
        completion
    }

    /// Ends the connection now and discards the buffer.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// Returns whether the connection is ending or has ended.
    pub fn is_closing(&self) -> bool {
        self.transport.is_closing()
    }

    /// Returns how the connection ended, or `None` while it is open.
    pub fn closed(&self) -> Option<Closed> {
        self.transport.closed()
    }

    /// Returns the underlying transport, for addresses, counters, limits, `close_within` and `reset`.
    ///
    /// Its `set_protocol` would take the connection from the reader, and its `push_layer` would miss
    /// what the reader holds: see [`StreamReader::start_layer`](crate::StreamReader::start_layer).
    #[doc(alias = "get_extra_info")]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if let Some(refused) = self.transport.refused_write() {
            self.transport.fail(refused);
        }
        let unsent = self.transport.write_buffer_size();
        if unsent > 0 && !self.transport.is_closing() {
            let (id, peer) = (self.transport.id(), self.transport.peer_addr());
            log::debug!(
                target: "tidegate::streams",
                "the writer of {id} (peer {peer}) was dropped with {unsent} bytes unsent; they are sent in the \
                 background"
            );
        }
        // Also after a failed write: it would wait for what the peer sent before.
        self.transport.close();
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
