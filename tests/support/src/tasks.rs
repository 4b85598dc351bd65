//! Helpers of the tests of tasks: bounded runs, futures that wait by hand, and drops that are
//! counted with their threads.

use crate::BOUND;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use tidegate_streams::{block_on, spawn, timeout};

/// Runs a future on a loop of its own, for a bounded time.
#[track_caller]
pub fn run<F>(what: &str, future: F) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    // A task of its own: a wake of it that is lost must not lose the bound.
    match block_on(async { timeout(BOUND, spawn(future)).await }) {
        Ok(Ok(Ok(value))) => value,
        Ok(Ok(Err(error))) => panic!("{what}: {error}"),
        Ok(Err(elapsed)) => panic!("waited in vain for: {what}: {elapsed}"),
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Polls once, with a waker that does nothing.
pub fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Something to wait for, which any thread may let happen any number of times.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Mutex<(usize, Option<Waker>)>>);

impl Signal {
    /// Returns one to which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&self) -> Option<Waker> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        state.1.clone()
    }

    /// Counts once more, and wakes.
    pub fn send(&self) {
        if let Some(waker) = self.add() {
            waker.wake();
        }
    }

    /// As `send`, by a waker that stays with the signal.
    pub fn send_by_ref(&self) {
        self.add();
        let state = self.0.lock().unwrap();
        if let Some(waker) = &state.1 {
            waker.wake_by_ref();
        }
    }

    /// Returns the waker that waits.
    pub fn waker(&self) -> Option<Waker> {
        self.0.lock().unwrap().1.clone()
    }

    /// Waits until it has happened `times` times.
    pub async fn wait(&self, times: usize) {
        poll_fn(|context| {
            let mut state = self.0.lock().unwrap();
            if state.0 >= times {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Counts drops, with the thread of each.
#[derive(Debug, Clone, Default)]
pub struct Drops(Arc<Mutex<Vec<ThreadId>>>);

impl Drops {
    /// Returns one to which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a value whose drop is counted.
    pub fn counted(&self) -> Counted {
        Counted(self.clone())
    }

    /// Returns how many were dropped.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// All of them were dropped, each once, on this thread.
    #[track_caller]
    pub fn assert_all_on(&self, thread: ThreadId, count: usize) {
        let threads = self.0.lock().unwrap();
        assert_eq!(threads.len(), count, "drops");
        assert!(
            threads.iter().all(|&known| known == thread),
            "on another thread"
        );
    }
}

/// Tells of its drop.
#[derive(Debug)]
pub struct Counted(Drops);

impl Drop for Counted {
    fn drop(&mut self) {
        (self.0.0.lock().unwrap()).push(thread::current().id());
    }
}
