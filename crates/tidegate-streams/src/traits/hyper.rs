//! hyper's runtime traits: a [`Connection`] reads and writes, [`LoopExecutor`] spawns,
//! [`LoopTimer`] sleeps.
//!
//! # Upgrades
//!
//! `hyper::upgrade` and `with_upgrades` need a connection that is `Send`: hyper hands it over in a
//! `Box<dyn Io + Send>`. A connection of a loop stays on its thread and is not. hyper's
//! `without_shutdown` gives it back without that bound: it completes when a reply with status 101
//! is sent, with the [`Connection`] and the bytes that hyper had read ahead.
//!
//! ```text
//! let parts = http1.serve_connection(connection, service).without_shutdown().await?;
//! let (mut reader, writer) = parts.io.split();
//! // The bytes of `parts.read_buf` come first, then those of the reader.
//! ```

use super::{HasReader, HasWriter, impl_read, impl_write};
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

/// Spawns on the loop that is running on this thread; where none is, the task is dropped, and the
/// log says so.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct LoopExecutor;

impl LoopExecutor {
    /// Returns one; there is nothing to set.
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
        if spawn(future).is_finished() {
            log::error!(
                target: "tidegate::streams",
                "hyper's task was dropped: no event loop is running on this thread"
            );
        }
    }
}

/// Sleeps by the timers of the loop that is running on this thread; where none is, a sleep never
/// ends, and the log says so.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct LoopTimer;

impl LoopTimer {
    /// Returns one; there is nothing to set.
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
    let timers = TIMERS.try_with(|timers| timers.borrow_mut().remove(&number));
    timers.ok().flatten()
}

/// Belongs to the timer's callback. Forgets the timer when that has run or was dropped, also by the
/// end of the loop.
struct Entry(u64);

impl Drop for Entry {
    fn drop(&mut self) {
        drop(take_timer(self.0));
    }
}

impl SharedSleep {
    /// `None`: later than the clock can say.
    fn new(deadline: Option<Instant>) -> Self {
        let alarm: Arc<Mutex<Alarm>> = Arc::default();
        let number = SLEEPS.fetch_add(1, Ordering::Relaxed);
        let handle = Handle::current();
        match (&handle, deadline) {
            (Some(handle), Some(deadline)) => {
                let (rings, entry) = (alarm.clone(), Entry(number));
                let timer = handle.call_at(deadline, move |_| {
                    drop(entry);
                    ring(&rings);
                });
                // Fails as above.
                let _ = TIMERS.try_with(|timers| timers.borrow_mut().insert(number, timer));
            }
            (Some(_), None) => {}
            (None, _) => log::error!(
                target: "tidegate::streams",
                "a sleep outside of an event loop never ends"
            ),
        }
        Self {
            alarm,
            number,
            thread: thread::current().id(),
            remote: handle.map(|handle| handle.remote()),
        }
    }
}

fn ring(alarm: &Mutex<Alarm>) {
    let waker = {
        let mut alarm = lock(alarm);
        alarm.rung = true;
        alarm.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
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

impl_read!(Read, ReadBufCursor<'_>);
impl_write!(Write, poll_shutdown, is_write_vectored);
