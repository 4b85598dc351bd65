//! Writes of other threads to one connection.
//!
//! [`queue`] is what threads share; [`pump`] the loop's side, which writes as much as the connection takes.

mod pump;
mod queue;

use pump::Pump;
use queue::Queue;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tidegate::{Bytes, Closed, Flow, Handle, RemoteHandle, Transport, TransportId};

/// The limits of a [`RemoteWriter`], in bytes that wait for the loop.
///
/// Above `high` its flow is paused, and at `low` or below it is open again. At `cap` a write is refused, and also
/// when a piece waits for each 128 bytes of it: tiny pieces take more memory than their bytes. They are beside the
/// [`WriteLimits`](tidegate::WriteLimits) of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "limits do nothing until they are given to a writer"]
pub struct RemoteLimits {
    high: usize,
    low: usize,
    cap: usize,
}

impl RemoteLimits {
    /// Returns the defaults: high 64 KiB, low 16 KiB, cap 16 MiB.
    pub fn new() -> Self {
        Self {
            high: 64 << 10,
            low: 16 << 10,
            cap: 16 << 20,
        }
    }

    /// Sets the high-water mark.
    pub fn high(self, bytes: usize) -> Self {
        Self {
            high: bytes,
            ..self
        }
    }

    /// Sets the low-water mark.
    pub fn low(self, bytes: usize) -> Self {
        Self { low: bytes, ..self }
    }

    /// Sets the cap.
    pub fn cap(self, bytes: usize) -> Self {
        Self { cap: bytes, ..self }
    }

    fn check(&self) -> io::Result<()> {
        if self.low <= self.high && self.high <= self.cap && self.cap > 0 {
            return Ok(());
        }
        let message = format!("{self:?}: low <= high <= cap, and a cap above zero, are needed");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes to a connection from any thread. Clones write to the same connection.
///
/// A write takes all of its bytes or none, and never blocks. The writes of a thread are sent in their order.
/// The loop takes them while the connection's [flow](Transport::flow) is open, so the connection buffers no
/// more than its own high-water mark and one piece; the rest waits here, within the
/// [limits](RemoteLimits). However much is written while the loop is busy, it is woken once.
///
/// A producer that heeds the returned [`Flow`] waits with [`wait`](Self::wait) or [`ready`](Self::ready). Nobody
/// waits for ever: the end of the connection, its [detachment](Transport::detach), and the end of its loop
/// end every wait. Pieces that wait then are lost, also those of a detached connection: wait until
/// [nothing waits](Self::waiting) before.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use tidegate::{EventLoop, Flow, Protocol, Result, Transport};
/// use tidegate_service::{RemoteLimits, RemoteWriter};
///
/// /// Sends numbers that another thread counts.
/// struct Numbers;
///
/// impl Protocol for Numbers {
///     fn connection_made(&mut self, transport: &Transport) -> Result {
///         let writer = RemoteWriter::new(transport, RemoteLimits::new())?;
///         thread::spawn(move || {
///             for number in 0.. {
///                 match writer.write_owned(format!("{number}\n")) {
///                     Ok(Flow::Open) => {}
///                     Ok(Flow::Paused) => {
///                         if writer.wait(Duration::from_secs(60)).is_err() {
///                             return;
///                         }
///                     }
///                     Err(_) => return,
///                 }
///             }
///         });
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// # let event_loop = EventLoop::new()?;
/// event_loop.handle().create_server("127.0.0.1:0", || Numbers)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RemoteWriter {
    queue: Arc<Queue>,
    remote: RemoteHandle,
    id: TransportId,
    thread: ThreadId,
}

impl RemoteWriter {
    /// Makes a writer to the connection, on its loop's thread.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) unless `low <= high <= cap` and `cap > 0`.
    pub fn new(transport: &Transport, limits: RemoteLimits) -> io::Result<Self> {
        limits.check()?;
        let queue = Arc::new(Queue::new(limits));
        Pump::watch(transport, queue.clone());
        Ok(Self {
            queue,
            remote: transport.handle().remote(),
            id: transport.id(),
            thread: thread::current().id(),
        })
    }

    /// Writes all of the bytes, or nothing, without copying them.
    ///
    /// [`Flow::Paused`] is returned from the crossing of the high-water mark until the fall to the low one.
    /// The bytes were taken then.
    ///
    /// # Errors
    ///
    /// [`Closed`](RemoteWriteError::Closed), and [`Full`](RemoteWriteError::Full) with the bytes.
    pub fn write_owned(&self, bytes: impl Into<Bytes>) -> Result<Flow, RemoteWriteError> {
        self.queue.push(bytes.into(), || {
            let (queue, id) = (self.queue.clone(), self.id);
            let pump = move |handle: &Handle| Pump::start(handle, id, queue);
            self.remote.call_soon_threadsafe(pump).is_ok()
        })
    }

    /// Returns whether the writer is paused.
    pub fn flow(&self) -> Flow {
        self.queue.flow()
    }

    /// Returns the number of bytes that wait for the loop.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Blocks until the writer is not paused, at most for `limit`.
    ///
    /// # Errors
    ///
    /// [`Closed`](RemoteWriteError::Closed), [`TimedOut`](RemoteWriteError::TimedOut), and
    /// [`OnItsOwnLoop`](RemoteWriteError::OnItsOwnLoop) on the thread of the connection, at once.
    pub fn wait(&self, limit: Duration) -> Result<(), RemoteWriteError> {
        if thread::current().id() == self.thread {
            return Err(RemoteWriteError::OnItsOwnLoop);
        }
        self.queue.wait(limit)
    }

    /// Completes when the writer is not paused, for async code on any thread.
    ///
    /// # Errors
    ///
    /// [`Closed`](RemoteWriteError::Closed).
    pub fn ready(&self) -> impl Future<Output = Result<(), RemoteWriteError>> + Send + use<> {
        Ready {
            queue: self.queue.clone(),
            number: None,
        }
    }
}

/// A wait for an open flow. Its waker goes with it.
struct Ready {
    queue: Arc<Queue>,
    /// Since it waits.
    number: Option<u64>,
}

impl Future for Ready {
    type Output = Result<(), RemoteWriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { queue, number } = &mut *self;
        queue.poll_open(number, context.waker())
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.queue.forget(number);
        }
    }
}

impl fmt::Debug for RemoteWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWriter")
            .field("transport", &self.id)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// Why a [`RemoteWriter`] refused a write, or a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteWriteError {
    /// The connection takes no more: how it ended, if it has. `None` after its `close` or `write_eof`, and
    /// when its loop was dropped.
    Closed(Option<Closed>),
    /// The cap of what waits is reached. The bytes are given back.
    Full(Bytes),
    /// To wait on the loop's own thread would be to wait for ever.
    OnItsOwnLoop,
    /// The limit of the wait is over.
    TimedOut,
}

impl fmt::Display for RemoteWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(Some(closed)) => closed.fmt(f),
            Self::Closed(None) => f.write_str("the connection takes no more, or its loop is gone"),
            Self::Full(_) => f.write_str("the bytes that wait for the loop are at their cap"),
            Self::OnItsOwnLoop => f.write_str("a wait on the thread that it would wait for"),
            Self::TimedOut => f.write_str("the writer was paused for the whole limit"),
        }
    }
}

impl Error for RemoteWriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Closed(Some(closed)) => Some(closed),
            _ => None,
        }
    }
}
