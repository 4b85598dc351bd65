//! The queue of a writer in every order in which threads can meet, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p tidegate-service --lib --target-dir target/loom queue::loom
//! ```
//!
//! The loop is a thread that sleeps until it is called. One that is not called sleeps for ever, and so does
//! a writer that nobody tells of room: loom reports both as a deadlock.

use super::Queue;
use crate::{RemoteLimits, RemoteWriteError};
use ::loom::model::Builder;
use ::loom::sync::{Condvar, Mutex};
use ::loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::time::Duration;
use tidegate::{Bytes, Flow};

const LONG: Duration = Duration::from_secs(3600);

/// Each piece is one byte: it names its thread and its number.
struct World {
    queue: Queue,
    called: Mutex<bool>,
    changed: Condvar,
}

impl World {
    /// Pauses behind the first piece, and goes on when there is none.
    fn new() -> Arc<Self> {
        let limits = RemoteLimits::new().high(1).low(0).cap(1024);
        Arc::new(Self {
            queue: Queue::new(limits),
            called: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    fn call(&self) -> bool {
        *self.called.lock().unwrap() = true;
        self.changed.notify_one();
        true
    }

    fn until_called(&self) {
        let mut called = self.called.lock().unwrap();
        while !*called {
            called = self.changed.wait(called).unwrap();
        }
        *called = false;
    }

    fn writer(self: &Arc<Self>, thread: u8, pieces: u8) -> JoinHandle<u8> {
        let world = self.clone();
        thread::spawn(move || {
            for n in 0..pieces {
                let piece = Bytes::from(vec![thread * 16 + n]);
                match world.queue.push(piece, || world.call()) {
                    Ok(Flow::Open) => {}
                    Ok(Flow::Paused) => {
                        if world.queue.wait(LONG).is_err() {
                            return n + 1;
                        }
                    }
                    Err(_) => return n,
                }
            }
            pieces
        })
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn all_arrive(threads: u8, pieces: u8) {
    let world = World::new();
    let writers: Vec<_> = (0..threads).map(|n| world.writer(n, pieces)).collect();
    let mut all = Vec::new();
    while all.len() < usize::from(threads * pieces) {
        world.until_called();
        while let Some(piece) = world.queue.take() {
            all.push(piece[0]);
        }
    }
    for (thread, writer) in (0..threads).zip(writers) {
        assert_eq!(writer.join().unwrap(), pieces);
        let of_it = all.iter().filter(|piece| **piece / 16 == thread);
        assert!(of_it.map(|piece| piece % 16).eq(0..pieces), "{all:?}");
    }
}

#[test]
fn pieces_of_two_writers_that_wait_arrive_once_in_the_order_of_the_writer() {
    model(|| all_arrive(2, 2));
}

#[test]
fn pieces_of_one_writer_that_waits_arrive_once_and_in_order() {
    model(|| all_arrive(1, 3));
}

#[test]
fn a_close_beside_writers_that_wait_ends_their_wait() {
    model(|| {
        let world = World::new();
        let writers = [world.writer(0, 2), world.writer(1, 2)];
        world.queue.close(None);
        for writer in writers {
            writer.join().unwrap();
        }
        let late = world.queue.push(Bytes::from_static(b"x"), || true);
        assert!(matches!(late, Err(RemoteWriteError::Closed(None))));
        assert_eq!(world.queue.waiting(), 0);
    });
}
