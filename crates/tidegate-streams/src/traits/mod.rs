//! The asynchronous traits of other crates, on the halves and on both together.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "tokio")]
mod tokio;

use crate::StreamWriter;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidegate::{Completion, WriteError};

/// What the polled methods of a writer wait for.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    room: Option<Completion<()>>,
    flushing: Option<Completion<()>>,
}

impl StreamWriter {
    /// Waits while the transport is paused, then takes all of it.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let transport = self.transport().clone();
        while self.polled.room.is_some() || transport.flow().is_paused() {
            let room = self.polled.room.get_or_insert_with(|| transport.drain());
            let drained = ready!(Pin::new(room).poll(context));
            self.polled.room = None;
            drained?;
        }
        transport.write_vectored(slices)?;
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = self.transport().clone();
        let flush = || transport.flush();
        let flushing = self.polled.flushing.get_or_insert_with(flush);
        let flushed = ready!(Pin::new(flushing).poll(context));
        self.polled.flushing = None;
        Poll::Ready(flushed)
    }

    /// Flushes, then ends our side of the stream.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        match self.transport().write_eof() {
            // It is being closed as a whole.
            Ok(()) | Err(WriteError::Closing { .. }) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}
