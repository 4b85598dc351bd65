//! A connection that is read and written as a stream, polled by the test itself, and its peer.

use crate::wakers::Wakes;
use crate::{BOUND, Kind, Peer, drive, opened};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use tidegate::EventLoop;
use tidegate_streams::{StreamReader, StreamWriter};

/// A connection that the loop opened, as a stream.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct Streamed {
    /// Reads what the peer sends.
    pub reader: StreamReader,
    /// Its other half.
    pub writer: StreamWriter,
    /// The other end.
    pub peer: Peer,
    /// Their loop.
    pub event_loop: EventLoop,
}

impl Streamed {
    /// Opens one.
    pub fn new(kind: Kind) -> Self {
        let mut event_loop = match EventLoop::new() {
            Ok(event_loop) => event_loop,
            Err(error) => panic!("{error}"),
        };
        let (reader, writer, peer) = opened(&mut event_loop, kind);
        Self {
            reader,
            writer,
            peer,
            event_loop,
        }
    }

    /// How many bytes the reader took in.
    pub fn received(&self) -> usize {
        self.writer.transport().stats().received as usize
    }

    /// The peer sends these bytes, and the reader takes them in.
    #[track_caller]
    pub fn feed(&mut self, data: &[u8]) {
        self.peer.send(data);
        let all = self.received() + data.len();
        let transport = self.writer.transport().clone();
        drive(&mut self.event_loop, "what the peer sent", || {
            transport.stats().received as usize == all
        });
    }

    /// The peer ends its side, and the reader knows.
    #[track_caller]
    pub fn end(&mut self) {
        self.peer.shutdown_write();
        let transport = self.writer.transport().clone();
        drive(&mut self.event_loop, "the end of the stream", || {
            !transport.is_reading()
        });
    }

    /// Runs the loop until the connection has ended.
    #[track_caller]
    pub fn lose(&mut self) {
        let reader = &self.reader;
        drive(&mut self.event_loop, "the end of the connection", || {
            reader.closed().is_some()
        });
    }
}

/// Runs the loop until the future is ready. It is polled only when it was woken, so that a wake
/// that does not come fails the test.
#[track_caller]
pub fn wait<T>(event_loop: &mut EventLoop, what: &str, future: impl Future<Output = T>) -> T {
    let mut polled = Polled::new(future);
    let begun = Instant::now();
    loop {
        if polled.is_woken()
            && let Poll::Ready(value) = polled.poll()
        {
            return value;
        }
        assert!(
            begun.elapsed() < BOUND,
            "waited in vain for: {what}\n{:#?}",
            event_loop.handle().stats()
        );
        if let Err(error) = event_loop.run_once(Some(Duration::from_millis(5))) {
            panic!("the loop failed: {error}");
        }
    }
}

/// The value of a future that need not wait.
#[track_caller]
pub fn now<T>(future: impl Future<Output = T>) -> T {
    Polled::new(future).value()
}

/// Polls a future once and drops it; it must wait.
#[track_caller]
pub fn give_up<T>(future: impl Future<Output = T>) {
    let mut polled = Polled::new(future);
    assert!(polled.poll().is_pending(), "it did not wait");
}

/// A future polled by hand.
pub struct Polled<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    wakes: Wakes,
    is_new: bool,
}

impl<'f, T> Polled<'f, T> {
    /// It counts as woken, as a new task does.
    pub fn new(future: impl Future<Output = T> + 'f) -> Self {
        Self {
            future: Box::pin(future),
            wakes: Wakes::new(),
            is_new: true,
        }
    }

    /// Polls it once.
    pub fn poll(&mut self) -> Poll<T> {
        self.is_new = false;
        self.wakes.take();
        self.wakes.poll(self.future.as_mut())
    }

    /// Polls it once; it must be ready.
    #[track_caller]
    pub fn value(&mut self) -> T {
        match self.poll() {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// Whether it was woken since it was polled.
    pub fn is_woken(&self) -> bool {
        self.is_new || self.wakes.count() > 0
    }
}

impl<T> fmt::Debug for Polled<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled")
            .field("woken", &self.is_woken())
            .finish_non_exhaustive()
    }
}

/// Sends back all that comes, as far as the peer takes it.
///
/// # Errors
///
/// Those of reading and writing.
pub async fn echo_stream(mut reader: StreamReader, writer: StreamWriter) -> tidegate::Result {
    while !reader.at_eof() {
        let data = reader.read_chunk(64 * 1024).await?;
        writer.write(&data)?;
        writer.drain().await?;
    }
    Ok(())
}
