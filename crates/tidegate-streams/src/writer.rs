//! The writing half of a connection.

use crate::executor;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tidegate::{Closed, Completion, Flow, Transport, WriteError};

/// Writes to a connection. Made by [`open_connection`](crate::open_connection) and
/// [`start_server`](crate::start_server), together with a [`StreamReader`](crate::StreamReader).
///
/// # Which way to write
///
/// * [`write`](Self::write) and [`drain`](Self::drain), as in asyncio: `write` takes its bytes at
///   once and never waits; `drain` waits while more than enough is buffered. For many small
///   writes: they go out together.
/// * [`write_all`](Self::write_all) waits until these very bytes are with the kernel. For a last
///   word, or one message at a time.
///
/// Who never drains is told by [`Flow::Paused`], and stopped by an error at the
/// [cap](tidegate::WriteLimits).
///
/// Everyone who waits fails with [`Closed`] when the connection has ended and bytes were lost.
///
/// # Dropping
///
/// Closes the connection as [`close`](Self::close) does, in the background. The reader, if it still
/// exists, gets what has arrived.
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

    /// Takes all of `data`, or nothing, without waiting; [`Transport::write`]. The answer says
    /// whether it is time to [`drain`](Self::drain). Formatted text and `Bytes` that need no copy go
    /// through the [`transport`](Self::transport).
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

    /// As one [`write`](Self::write) of the slices one after the other.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    #[doc(alias = "writelines")]
    pub fn write_vectored(&self, slices: &[IoSlice<'_>]) -> Result<Flow, WriteError> {
        self.transport.write_vectored(slices)
    }

    /// Waits until the transport is not paused: it was not, or what is buffered has fallen to the
    /// low-water mark. Any number of tasks may wait. It gives way to the loop now and then when it
    /// need not wait.
    ///
    /// # Errors
    ///
    /// The [`Closed`] of the connection, once it has one: bytes may have been lost.
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub fn drain(&self) -> impl Future<Output = io::Result<()>> {
        let mut waiting = None;
        poll_fn(move |context| self.poll_drain(context, &mut waiting))
    }

    /// Mostly there is nothing to wait for: what is then to be done is in here, the rest is not.
    #[inline]
    fn poll_drain(
        &self,
        context: &mut Context<'_>,
        waiting: &mut Option<Completion<()>>,
    ) -> Poll<io::Result<()>> {
        if waiting.is_none() {
            if executor::is_turn_over() {
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

    /// Lets the loop turn once in so many calls.
    async fn give_way() {
        if executor::is_turn_over() {
            crate::time::yield_now().await;
        }
    }

    /// Writes, and waits until the kernel has these bytes. It first waits until the transport is not
    /// paused, and then takes all of them at once.
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
            // Others that waited may have been faster.
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

    /// Waits until the kernel has all that was written before this call. It gives way to the loop
    /// as [`drain`](Self::drain) does.
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

    /// Sends what is buffered, then ends the connection. It begins now, whether the completion is
    /// awaited or not; that is answered when the connection has ended. Who does not want to wait
    /// drops the writer, or the completion.
    ///
    /// # Errors
    ///
    /// Of the completion: the [`Closed`] of the connection unless it ended cleanly and everything was
    /// sent.
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

    /// Ends the connection now. What is buffered is lost.
    pub fn abort(&self) {
        self.transport.abort();
    }

    /// Whether the connection is ending or has ended.
    pub fn is_closing(&self) -> bool {
        self.transport.is_closing()
    }

    /// How the connection ended, once that is fixed.
    pub fn closed(&self) -> Option<Closed> {
        self.transport.closed()
    }

    /// The transport under it: addresses, counters, limits, `close_within`, `reset`. Its
    /// `set_protocol` would take the connection from the reader.
    #[doc(alias = "get_extra_info")]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        let unsent = self.transport.write_buffer_size();
        if unsent > 0 && !self.transport.is_closing() {
            let id = self.transport.id();
            log::debug!(
                target: "tidegate::streams",
                "the writer of {id} was dropped with {unsent} bytes unsent; they are sent in the \
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
