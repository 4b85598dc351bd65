//! The inbox in every order in which threads can meet, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p tidegate --lib --target-dir target/loom remote::loom
//! ```
//!
//! The loop is a thread that sleeps until it is woken and then takes what there is, as a tick does.
//! One that is not woken sleeps for ever, which loom reports as a deadlock. Calls are told apart
//! by what they drop: to run them would need a loop.

use super::{Inbox, RemoteCall};
use crate::driver::Wake;
use ::loom::model::Builder;
use ::loom::sync::{Condvar, Mutex};
use ::loom::thread::{self, JoinHandle};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as PlainMutex};

/// The wait of a poll: set by a wake-up, cleared by the poll that sees it.
#[derive(Default)]
struct Sleep {
    woken: Mutex<bool>,
    changed: Condvar,
    wake_ups: AtomicUsize,
}

impl Wake for Sleep {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
        self.wake_ups.fetch_add(1, Ordering::Relaxed);
    }
}

impl Sleep {
    /// A poll without a timeout.
    fn until_woken(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }

    /// A poll that does not wait.
    fn take_wake_up(&self) -> bool {
        std::mem::take(&mut *self.woken.lock().unwrap())
    }
}

/// A thread and the number of a call of it.
type Name = (usize, usize);

/// The names of calls in the order in which they were dropped. Its lock is not loom's: it is no part of
/// the model, and switches to no other thread.
type Dropped = Arc<PlainMutex<Vec<Name>>>;

struct Named(Name, Dropped);

impl Drop for Named {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

struct World {
    inbox: Inbox,
    sleep: Arc<Sleep>,
    dropped: Dropped,
}

impl World {
    fn new() -> Arc<Self> {
        let sleep = Arc::new(Sleep::default());
        Arc::new(Self {
            inbox: Inbox::new(sleep.clone()),
            sleep,
            dropped: Dropped::default(),
        })
    }

    /// Pushes a call, and returns whether it was accepted. One that was refused has been dropped.
    fn push(&self, name: Name) -> bool {
        let call = Named(name, self.dropped.clone());
        let accepted = self.inbox.push(Box::new(move |_| drop(call))).is_ok();
        if !accepted {
            assert_eq!(self.dropped.lock().unwrap().pop(), Some(name));
        }
        accepted
    }

    /// Whose calls these are, in their order.
    fn names(&self, calls: Vec<RemoteCall>) -> Vec<Name> {
        assert!(self.dropped.lock().unwrap().is_empty());
        drop(calls);
        std::mem::take(&mut *self.dropped.lock().unwrap())
    }

    fn take(&self) -> Vec<Name> {
        self.names(self.inbox.take())
    }
}

/// Starts `threads` that push `calls` each, and return which were accepted.
fn pushers(world: &Arc<World>, threads: usize, calls: usize) -> Vec<JoinHandle<Vec<bool>>> {
    (0..threads)
        .map(|thread| {
            let world = world.clone();
            thread::spawn(move || (0..calls).map(|call| world.push((thread, call))).collect())
        })
        .collect()
}

fn joined(threads: Vec<JoinHandle<Vec<bool>>>) -> Vec<Vec<bool>> {
    threads.into_iter().map(|one| one.join().unwrap()).collect()
}

fn of_thread(names: &[Name], thread: usize) -> Vec<usize> {
    let of_it = names.iter().filter(|name| name.0 == thread);
    of_it.map(|name| name.1).collect()
}

/// Checks with at most `switches` switches away from a thread that could have gone on.
fn model(switches: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(check);
}

/// A loop that sleeps whenever it has taken all, until it has had each call.
fn sleeping_loop(threads: usize, calls: usize) {
    let world = World::new();
    let pushing = pushers(&world, threads, calls);
    let (mut ran, mut takes) = (Vec::new(), 0);
    while ran.len() < threads * calls {
        world.sleep.until_woken();
        let taken = world.take();
        takes += usize::from(!taken.is_empty());
        ran.extend(taken);
    }
    for accepted in joined(pushing) {
        assert_eq!(accepted, vec![true; calls]);
    }
    assert_eq!(world.take(), []);
    for thread in 0..threads {
        assert_eq!(of_thread(&ran, thread), Vec::from_iter(0..calls));
    }
    // One for each time that there was something, however many calls it was.
    assert_eq!(world.sleep.wake_ups.load(Ordering::Relaxed), takes);
}

#[test]
fn a_loop_that_sleeps_gets_each_call_of_two_threads_in_the_order_of_the_thread() {
    model(4, || sleeping_loop(2, 2));
}

#[test]
fn a_loop_that_sleeps_gets_each_call_of_three_threads() {
    model(3, || sleeping_loop(3, 1));
}

#[test]
fn a_loop_that_sleeps_gets_a_long_row_of_calls_of_one_thread() {
    model(6, || sleeping_loop(1, 4));
}

/// The loop takes whenever it was woken, for a few ticks, and does not wait.
#[test]
fn when_all_have_pushed_a_queue_that_is_not_empty_has_its_wake_up() {
    model(4, || {
        let world = World::new();
        let pushing = pushers(&world, 2, 2);
        let mut ran = Vec::new();
        for _ in 0..2 {
            if world.sleep.take_wake_up() {
                ran.extend(world.take());
            }
        }
        joined(pushing);
        let woken = world.sleep.take_wake_up();
        let rest = world.take();
        assert!(
            woken || rest.is_empty(),
            "nobody wakes the loop for {rest:?}"
        );
        assert_eq!(ran.len() + rest.len(), 4);
    });
}

#[test]
fn of_pushes_beside_a_close_each_call_is_run_or_given_back_or_refused_and_never_two_of_it() {
    model(4, || {
        let world = World::new();
        let pushing = pushers(&world, 2, 2);
        let mut kept = Vec::new();
        if world.sleep.take_wake_up() {
            kept.extend(world.take());
        }
        kept.extend(world.names(world.inbox.close()));
        // Nothing comes in any more.
        let late = world.take();
        assert_eq!(late, []);
        for (thread, accepted) in joined(pushing).into_iter().enumerate() {
            // Calls after a refused one are refused too.
            assert!(accepted.is_sorted_by(|one, next| one >= next));
            let count = accepted.iter().filter(|&&accepted| accepted).count();
            assert_eq!(of_thread(&kept, thread), Vec::from_iter(0..count));
        }
        assert_eq!(world.take(), []);
        assert_eq!(world.names(world.inbox.close()), []);
        assert!(!world.push((0, 9)));
    });
}
