//! hyper's runtime traits: a [`Connection`] reads and writes, [`LoopExecutor`] spawns,
//! [`LoopTimer`] sleeps.

use crate::{Connection, StreamReader, StreamWriter, spawn};
use ::hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Timer, Write};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use tidegate::{CallbackHandle, Handle, RemoteHandle};

/// Spawns on the loop that is running on this thread. Where none is running, what is to be spawned
/// is dropped.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct LoopExecutor;

impl LoopExecutor {
    /// There is nothing to set.
    pub fn new() -> Self {
        Self
    }
}

impl<F> Executor<F> for LoopExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // Detached; a panic goes to the error handler.
        drop(spawn(future));
    }
}

/// Sleeps by the timers of the loop that is running on this thread. Where none is running, a sleep
/// never ends. A sleep may be sent to another thread and dropped there.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct LoopTimer;

impl LoopTimer {
    /// There is nothing to set.
    pub fn new() -> Self {
        Self
    }
}

impl Timer for LoopTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(SharedSleep::new(self.now().checked_add(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(SharedSleep::new(Some(deadline)))
    }

    fn now(&self) -> Instant {
        Handle::current().map_or_else(Instant::now, |handle| handle.now())
    }
}

/// hyper's sleeps must be `Send` and `Sync`, which a timer of the loop is not. So this one shares
/// only a cell with the loop, which keeps the timer under a number.
#[derive(Debug)]
struct SharedSleep {
    alarm: Arc<Mutex<Alarm>>,
    number: u64,
    thread: ThreadId,
    remote: Option<RemoteHandle>,
}

#[derive(Debug, Default)]
struct Alarm {
    rung: bool,
    waker: Option<Waker>,
}

fn lock(alarm: &Mutex<Alarm>) -> MutexGuard<'_, Alarm> {
    alarm.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The timers of the sleeps of this thread's loops.
    static TIMERS: RefCell<BTreeMap<u64, CallbackHandle>> = const { RefCell::new(BTreeMap::new()) };
}

/// Names a sleep among all of the process.
static SLEEPS: AtomicU64 = AtomicU64::new(0);

fn take_timer(number: u64) -> Option<CallbackHandle> {
    // It fails when the thread is ending, and the loop with it.
    TIMERS
        .try_with(|timers| timers.borrow_mut().remove(&number))
        .ok()
        .flatten()
}

impl SharedSleep {
    fn new(deadline: Option<Instant>) -> Self {
        let number = SLEEPS.fetch_add(1, Ordering::Relaxed);
        let alarm: Arc<Mutex<Alarm>> = Arc::default();
        let handle = Handle::current();
        if let (Some(handle), Some(deadline)) = (&handle, deadline) {
            let rings = alarm.clone();
            let timer = handle.call_at(deadline, move |_| {
                take_timer(number);
                let waker = {
                    let mut alarm = lock(&rings);
                    alarm.rung = true;
                    alarm.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
            // Fails as above.
            let _ = TIMERS.try_with(|timers| timers.borrow_mut().insert(number, timer));
        }
        Self {
            alarm,
            number,
            thread: thread::current().id(),
            remote: handle.map(|handle| handle.remote()),
        }
    }
}

impl Future for SharedSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker().clone();
        let mut alarm = lock(&self.alarm);
        if alarm.rung {
            return Poll::Ready(());
        }
        let before = alarm.waker.replace(waker);
        drop(alarm);
        drop(before);
        Poll::Pending
    }
}

impl Sleep for SharedSleep {}

impl Drop for SharedSleep {
    fn drop(&mut self) {
        let cancel = |number| {
            if let Some(timer) = take_timer(number) {
                timer.cancel();
            }
        };
        let number = self.number;
        if thread::current().id() == self.thread {
            cancel(number);
        } else if !lock(&self.alarm).rung
            && let Some(remote) = &self.remote
        {
            // Refused when the loop is gone, and its timers with it.
            let _ = remote.call_soon_threadsafe(move |_| cancel(number));
        }
    }
}

impl Read for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let most = buffer.remaining();
        self.poll_give(context, most, |data| buffer.put_slice(data))
            .map_err(Into::into)
    }
}

impl Write for StreamWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        StreamWriter::poll_write(&mut self, context, &[IoSlice::new(data)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        StreamWriter::poll_flush(&mut self, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        StreamWriter::poll_close(&mut self, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        StreamWriter::poll_write(&mut self, context, slices)
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Read::poll_read(Pin::new(&mut self.reader), context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer.poll_write(context, &[IoSlice::new(data)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_close(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer.poll_write(context, slices)
    }
}
