//! The queue of a mailbox in every order in which threads can meet, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p tidegate --lib --target-dir target/loom mailbox::queue::loom
//! ```
//!
//! The loop is a thread that sleeps until it is called. One that is not called sleeps for ever, and so does
//! a sender that nobody tells of room: loom reports both as a deadlock.

use super::{Left, Queue};
use crate::mailbox::SendError;
use ::loom::model::Builder;
use ::loom::sync::{Condvar, Mutex};
use ::loom::thread::{self, JoinHandle};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// The loop's sleep: a call wakes it.
#[derive(Default)]
struct Sleep {
    called: Mutex<usize>,
    changed: Condvar,
}

impl Sleep {
    fn call(&self) -> bool {
        *self.called.lock().unwrap() += 1;
        self.changed.notify_one();
        true
    }

    fn until_called(&self) {
        let mut called = self.called.lock().unwrap();
        while *called == 0 {
            called = self.changed.wait(called).unwrap();
        }
        *called -= 1;
    }
}

struct World {
    queue: Queue<(usize, usize)>,
    sleep: Sleep,
}

impl World {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Queue::new(capacity),
            sleep: Sleep::default(),
        })
    }

    fn sender(self: &Arc<Self>, thread: usize, messages: usize) -> JoinHandle<usize> {
        let world = self.clone();
        self.queue.add_sender();
        thread::spawn(move || {
            let send = |n| {
                let call = || world.sleep.call();
                world.queue.push_within((thread, n), LONG, call).is_ok()
            };
            let sent = (0..messages).take_while(|n| send(*n)).count();
            world.queue.remove_sender(|| world.sleep.call());
            sent
        })
    }

    /// Takes as a loop does, `most` at a time, until there is nobody left to send.
    fn run(&self, most: usize) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        loop {
            self.sleep.until_called();
            loop {
                match self.queue.take(most, &mut all) {
                    Left::More => {}
                    Left::Nothing => break,
                    Left::Ended => return all,
                }
            }
        }
    }
}

fn model(switches: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(check);
}

fn all_arrive(threads: usize, messages: usize, capacity: usize) {
    let world = World::new(capacity);
    let senders: Vec<_> = (0..threads)
        .map(|thread| world.sender(thread, messages))
        .collect();
    world.queue.remove_sender(|| world.sleep.call());
    let all = world.run(1);
    for (thread, sender) in senders.into_iter().enumerate() {
        assert_eq!(sender.join().unwrap(), messages);
        let of_it = all.iter().filter(|message| message.0 == thread);
        assert!(of_it.map(|message| message.1).eq(0..messages), "{all:?}");
    }
}

#[test]
fn messages_of_two_threads_arrive_once_in_the_order_of_the_thread_and_so_does_the_end() {
    model(3, || all_arrive(2, 2, 8));
}

#[test]
fn senders_that_wait_for_room_are_all_told_of_it() {
    model(3, || all_arrive(2, 2, 1));
}

#[test]
fn a_close_beside_senders_that_wait_ends_their_wait() {
    model(3, || {
        let world = World::new(1);
        let senders = [world.sender(0, 2), world.sender(1, 2)];
        let mut taken = Vec::new();
        world.queue.take(1, &mut taken);
        let left = world.queue.close();
        let sent: usize = senders.into_iter().map(|one| one.join().unwrap()).sum();
        assert_eq!(sent, taken.len() + left.len());
        let late = world.queue.push((9, 9), || true);
        assert!(matches!(late, Err(SendError::Closed((9, 9)))));
    });
}
