//! The measurements of tidegate.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tidegate::{CallbackHandle, EventLoop, Handle};

const LONG: Duration = Duration::from_secs(3600);

fn event_loop() -> EventLoop {
    EventLoop::new().expect("a loop")
}

/// Timers at different times within the hour, so that their order has to be found.
fn timers(handle: &Handle, count: usize) -> Vec<CallbackHandle> {
    let mut timers = Vec::with_capacity(count);
    for index in 0..count {
        let delay = LONG + super::spread(index);
        timers.push(handle.call_later(delay, |_| {
            black_box(0);
        }));
    }
    timers
}

pub(crate) fn insert(count: usize) -> Duration {
    let event_loop = event_loop();
    let start = Instant::now();
    let timers = timers(event_loop.handle(), count);
    let elapsed = start.elapsed();
    assert_eq!(timers.len(), count);
    elapsed
}

pub(crate) fn cancel(count: usize) -> Duration {
    let event_loop = event_loop();
    let timers = timers(event_loop.handle(), count);
    let start = Instant::now();
    for timer in &timers {
        timer.cancel();
    }
    drop(timers);
    let elapsed = start.elapsed();
    assert_eq!(event_loop.handle().stats().timers, 0);
    elapsed
}

pub(crate) fn insert_and_cancel(count: usize) -> Duration {
    let mut event_loop = event_loop();
    let live = timers(event_loop.handle(), count);
    let start = Instant::now();
    for index in 0..count {
        let delay = LONG + super::spread(index + count);
        event_loop.handle().call_later(delay, |_| {}).cancel();
    }
    // The loop drops cancelled timers.
    let turned = event_loop.run_once(Some(Duration::ZERO));
    turned.expect("it runs");
    let elapsed = start.elapsed();
    assert_eq!(event_loop.handle().stats().timers, live.len());
    elapsed
}

pub(crate) fn reset(count: usize) -> Duration {
    let event_loop = event_loop();
    let timers = timers(event_loop.handle(), count);
    let start = Instant::now();
    for (index, timer) in timers.iter().enumerate() {
        assert!(timer.reset(LONG + super::spread(index + count)));
    }
    start.elapsed()
}

pub(crate) fn expire(count: usize) -> Duration {
    let mut event_loop = event_loop();
    let handle = event_loop.handle().clone();
    let left = Rc::new(Cell::new(count));
    let first = Rc::new(Cell::new(None));
    let due = Instant::now() + super::time_to_insert(count);
    for _ in 0..count {
        let (left, first) = (left.clone(), first.clone());
        handle.call_at(due, move |handle| {
            if first.get().is_none() {
                first.set(Some(Instant::now()));
            }
            left.set(left.get() - 1);
            if left.get() == 0 {
                handle.stop();
            }
        });
    }
    event_loop.run_forever().expect("it runs");
    first.get().expect("they have fired").elapsed()
}

pub(crate) fn soon(count: usize) -> Duration {
    let mut event_loop = event_loop();
    let handle = event_loop.handle().clone();
    let left = Rc::new(Cell::new(count));
    let start = Instant::now();
    for _ in 0..count {
        let left = left.clone();
        handle.call_soon(move |handle| {
            left.set(left.get() - 1);
            if left.get() == 0 {
                handle.stop();
            }
        });
    }
    event_loop.run_forever().expect("it runs");
    start.elapsed()
}

pub(crate) fn round_trips(count: usize) -> Duration {
    let mut event_loop = event_loop();
    let remote = event_loop.handle().remote();
    let other = thread::spawn(move || {
        let (sender, receiver) = mpsc::channel();
        let start = Instant::now();
        for _ in 0..count {
            let sender = sender.clone();
            let reply = move |_: &Handle| {
                // The other end waits for it.
                let _ = sender.send(());
            };
            remote.call_soon_threadsafe(reply).expect("the loop runs");
            receiver.recv().expect("a reply");
        }
        let elapsed = start.elapsed();
        remote.stop();
        elapsed
    });
    event_loop.run_forever().expect("it runs");
    other.join().expect("no panic")
}

pub(crate) fn remote_calls(count: usize) -> Duration {
    let mut event_loop = event_loop();
    let remote = event_loop.handle().remote();
    let done = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let other = thread::spawn(move || {
        for _ in 0..count {
            let done = done.clone();
            let call = move |handle: &Handle| {
                if done.fetch_add(1, Ordering::Relaxed) + 1 == count {
                    handle.stop();
                }
            };
            remote.call_soon_threadsafe(call).expect("the loop runs");
        }
    });
    event_loop.run_forever().expect("it runs");
    let elapsed = start.elapsed();
    other.join().expect("no panic");
    elapsed
}
