//! The asynchronous traits of other crates, on the halves and on both together. These crates differ in
//! little more than names.

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "tokio")]
mod tokio;

use crate::{Connection, StreamReader, StreamWriter, executor};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidegate::{Completion, WriteError};

/// The waits of a writer's polled methods, from one poll to the next.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    room: Option<Completion<()>>,
    /// With the number of bytes that were written before it began.
    flushing: Option<(u64, Completion<()>)>,
}

impl StreamWriter {
    /// Kept in a box, for most writers are never polled and each of them is in a task's memory.
    fn polled(&mut self) -> &mut Polled {
        self.polled.get_or_insert_default()
    }

    /// Waits while the transport is paused, then takes all of it.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if executor::must_yield() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let waits = |this: &Self| this.polled.as_ref().is_some_and(|it| it.room.is_some());
        while waits(self) || self.transport().flow().is_paused() {
            let transport = self.transport().clone();
            let room = self.polled().room.get_or_insert_with(|| transport.drain());
            let drained = ready!(Pin::new(room).poll(context));
            self.polled().room = None;
            drained?;
        }
        self.transport().write_vectored(slices)?;
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// Waits until the kernel has what was written before; also what was written since a poll that
    /// had to wait, for that may have been another call's.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let transport = self.transport().clone();
        loop {
            let begin = || (transport.written(), transport.flush());
            let polled = self.polled();
            let (written, flushing) = polled.flushing.get_or_insert_with(begin);
            let flushed = ready!(Pin::new(flushing).poll(context));
            let is_all = *written == transport.written();
            polled.flushing = None;
            if is_all || flushed.is_err() {
                return Poll::Ready(flushed);
            }
        }
    }

    /// Flushes, then ends our side of the stream.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        match self.transport().write_eof() {
            // It is being closed as a whole.
            Ok(()) | Err(WriteError::Closing { .. }) => Poll::Ready(Ok(())),
            Err(WriteError::Closed { closed, .. }) if closed.is_clean() => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

/// Lets the impls for a half and for both have the same words.
trait HasReader: Unpin {
    fn reader(self: Pin<&mut Self>) -> &mut StreamReader;
}

impl HasReader for StreamReader {
    fn reader(self: Pin<&mut Self>) -> &mut StreamReader {
        self.get_mut()
    }
}

impl HasReader for Connection {
    fn reader(self: Pin<&mut Self>) -> &mut StreamReader {
        &mut self.get_mut().reader
    }
}

/// As [`HasReader`].
trait HasWriter: Unpin {
    fn writer(self: Pin<&mut Self>) -> &mut StreamWriter;
}

impl HasWriter for StreamWriter {
    fn writer(self: Pin<&mut Self>) -> &mut StreamWriter {
        self.get_mut()
    }
}

impl HasWriter for Connection {
    fn writer(self: Pin<&mut Self>) -> &mut StreamWriter {
        &mut self.get_mut().writer
    }
}

/// Implements a reading trait with the `poll_read` of tokio, which hyper has too; the types are the
/// trait and its buffer.
#[cfg(any(feature = "tokio", feature = "hyper"))]
macro_rules! impl_read {
    ($read:path, $buffer:ty) => {
        impl_read!(@ StreamReader, $read, $buffer);
        impl_read!(@ Connection, $read, $buffer);
    };
    (@ $half:ty, $read:path, $buffer:ty) => {
        impl $read for $half {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                #[allow(unused_mut, reason = "one of them is a reference")] mut buffer: $buffer,
            ) -> Poll<io::Result<()>> {
                let (reader, most) = (self.reader(), buffer.remaining());
                let given = reader.poll_give(context, most, |data| buffer.put_slice(data));
                given.map_err(Into::into)
            }
        }
    };
}

/// Implements a writing trait. `close` is the name that it has for the end; some have another method.
macro_rules! impl_write {
    ($write:path, $close:ident $(, $is_vectored:ident)?) => {
        impl_write!(@ StreamWriter, $write, $close $(, $is_vectored)?);
        impl_write!(@ Connection, $write, $close $(, $is_vectored)?);
    };
    (@ $half:ty, $write:path, $close:ident $(, $is_vectored:ident)?) => {
        impl $write for $half {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                data: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.writer().poll_write(context, &[IoSlice::new(data)])
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.writer().poll_write(context, slices)
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.writer().poll_flush(context)
            }

            fn $close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.writer().poll_close(context)
            }

            $(fn $is_vectored(&self) -> bool {
                true
            })?
        }
    };
}
#[cfg(any(feature = "tokio", feature = "hyper"))]
use impl_read;
use impl_write;
