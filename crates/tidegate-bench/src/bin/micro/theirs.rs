//! The same of tokio, on one thread.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::{Sleep, sleep, sleep_until};

const LONG: Duration = Duration::from_secs(3600);

/// With I/O, so that it sleeps in epoll as a server does.
fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A sleep is in tokio's wheel once it has been polled.
fn sleeps(count: usize) -> Vec<Pin<Box<Sleep>>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut sleeps = Vec::with_capacity(count);
    for index in 0..count {
        let mut timer = Box::pin(sleep(LONG + super::spread(index)));
        assert!(timer.as_mut().poll(&mut context).is_pending());
        sleeps.push(timer);
    }
    sleeps
}

pub(crate) fn insert(count: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let start = Instant::now();
        let timers = sleeps(count);
        let elapsed = start.elapsed();
        assert_eq!(timers.len(), count);
        elapsed
    })
}

pub(crate) fn cancel(count: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let timers = sleeps(count);
        let start = Instant::now();
        drop(timers);
        start.elapsed()
    })
}

pub(crate) fn insert_and_cancel(count: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let live = sleeps(count);
        let mut context = Context::from_waker(Waker::noop());
        let start = Instant::now();
        for index in 0..count {
            let mut timer = Box::pin(sleep(LONG + super::spread(index + count)));
            assert!(timer.as_mut().poll(&mut context).is_pending());
        }
        let elapsed = start.elapsed();
        assert_eq!(live.len(), count);
        elapsed
    })
}

pub(crate) fn reset(count: usize) -> Duration {
    let runtime = runtime();
    runtime.block_on(async {
        let mut timers = sleeps(count);
        let start = Instant::now();
        for (index, timer) in timers.iter_mut().enumerate() {
            let deadline = tokio::time::Instant::now() + LONG + super::spread(index + count);
            timer.as_mut().reset(deadline);
        }
        start.elapsed()
    })
}

pub(crate) fn expire(count: usize) -> Duration {
    let runtime = runtime();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let left = Rc::new(Cell::new(count));
        let first = Rc::new(Cell::new(None));
        let all = Rc::new(Notify::new());
        let due = tokio::time::Instant::now() + super::time_to_insert(count);
        for _ in 0..count {
            let (left, first, all) = (left.clone(), first.clone(), all.clone());
            tokio::task::spawn_local(async move {
                sleep_until(due).await;
                if first.get().is_none() {
                    first.set(Some(Instant::now()));
                }
                left.set(left.get() - 1);
                if left.get() == 0 {
                    all.notify_one();
                }
            });
        }
        all.notified().await;
        let first: Instant = first.get().expect("they have fired");
        first.elapsed()
    })
}

pub(crate) fn soon(count: usize) -> Duration {
    let runtime = runtime();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let left = Rc::new(Cell::new(count));
        let all = Rc::new(Notify::new());
        let start = Instant::now();
        for _ in 0..count {
            let (left, all) = (left.clone(), all.clone());
            tokio::task::spawn_local(async move {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    all.notify_one();
                }
            });
        }
        all.notified().await;
        start.elapsed()
    })
}

pub(crate) fn round_trips(count: usize) -> Duration {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let end = Arc::new(Notify::new());
    let ended = end.clone();
    let other = thread::spawn(move || {
        let (sender, receiver) = mpsc::channel();
        let start = Instant::now();
        for _ in 0..count {
            let sender = sender.clone();
            handle.spawn(async move {
                // The other end waits for it.
                let _ = sender.send(());
            });
            receiver.recv().expect("a reply");
        }
        let elapsed = start.elapsed();
        end.notify_one();
        elapsed
    });
    runtime.block_on(ended.notified());
    other.join().expect("no panic")
}

pub(crate) fn remote_calls(count: usize) -> Duration {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let end = Arc::new(Notify::new());
    let ended = end.clone();
    let done = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let other = thread::spawn(move || {
        for _ in 0..count {
            let (done, end) = (done.clone(), end.clone());
            handle.spawn(async move {
                if done.fetch_add(1, Ordering::Relaxed) + 1 == count {
                    end.notify_one();
                }
            });
        }
    });
    runtime.block_on(ended.notified());
    let elapsed = start.elapsed();
    other.join().expect("no panic");
    elapsed
}
