//! Mailboxes: messages of other threads for a closure that stays on its loop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::{drive, failures, settle, tick};
use tidegate::{EventLoop, Mailbox, SendError};

const BOUND: Duration = Duration::from_secs(30);

/// Longer than any test waits: a wait that ends was ended.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Joins a thread that no loop has to run for.
#[track_caller]
fn join_alone<T>(thread: JoinHandle<T>) -> T {
    let begun = Instant::now();
    while !thread.is_finished() {
        assert!(begun.elapsed() < BOUND, "the thread still waits");
        thread::yield_now();
    }
    thread.join().unwrap()
}

type Heard = Rc<RefCell<Vec<u32>>>;

fn mailbox(event_loop: &EventLoop, capacity: usize) -> (Mailbox<u32>, Heard) {
    let heard = Heard::default();
    let into = heard.clone();
    let mailbox = event_loop.handle().mailbox(capacity, move |_, message| {
        into.borrow_mut().push(message);
    });
    (mailbox, heard)
}

#[test]
fn messages_of_threads_come_once_and_in_the_order_of_the_thread() {
    const THREADS: u32 = 4;
    const MESSAGES: u32 = 20_000;
    let mut event_loop = EventLoop::new().unwrap();
    let (mailbox, heard) = mailbox(&event_loop, 100);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                for n in 0..MESSAGES {
                    mailbox.send_within(thread * MESSAGES + n, LONG).unwrap();
                }
            })
        })
        .collect();
    drive(&mut event_loop, "all messages", || {
        heard.borrow().len() as u32 == THREADS * MESSAGES
    });
    for thread in threads {
        thread.join().unwrap();
    }
    for thread in 0..THREADS {
        let heard = heard.borrow();
        let of_it = heard.iter().filter(|n| **n / MESSAGES == thread);
        assert!(of_it.map(|n| n % MESSAGES).eq(0..MESSAGES));
    }
}

#[test]
fn no_more_than_the_capacity_waits_and_the_others_are_given_back() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mailbox, heard) = mailbox(&event_loop, 3);
    assert!((0..3).all(|n| mailbox.send(n).is_ok()));
    assert_eq!(
        (mailbox.send(3), mailbox.waiting()),
        (Err(SendError::Full(3)), 3)
    );
    let own = mailbox.send_within(4, BOUND);
    assert_eq!(own, Err(SendError::OnItsOwnLoop(4)));
    let other = mailbox.clone();
    let timed = thread::spawn(move || other.send_within(5, Duration::from_millis(1)));
    assert_eq!(timed.join().unwrap(), Err(SendError::Full(5)));
    assert_eq!(*heard.borrow(), [], "the closure runs on the loop alone");
    settle(&mut event_loop);
    assert_eq!(*heard.borrow(), [0, 1, 2]);
    mailbox.send(6).unwrap();
    settle(&mut event_loop);
    assert_eq!(*heard.borrow(), [0, 1, 2, 6]);
}

#[test]
fn a_flood_leaves_turns_for_others_and_wakes_the_loop_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mailbox, heard) = mailbox(&event_loop, 1000);
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    for n in 0..1000 {
        mailbox.send(n).unwrap();
    }
    let (mut ticks, mut most) = (0, 0);
    while heard.borrow().len() < 1000 {
        let before = heard.borrow().len();
        tick(&mut event_loop);
        most = most.max(heard.borrow().len() - before);
        ticks += 1;
        assert!(ticks < 100);
    }
    assert_eq!(most, 64);
    // One for each message, and one for the call of the loop.
    let callbacks = event_loop.handle().stats().callbacks - before.callbacks;
    assert_eq!(callbacks, 1001);
}

#[test]
fn a_panic_is_reported_and_the_next_message_comes() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let heard = Rc::new(Cell::new(0));
    let into = heard.clone();
    let mailbox = event_loop.handle().mailbox(10, move |_, message: u32| {
        assert!(message != 1, "panicking on purpose");
        into.set(into.get() + message);
    });
    for n in 0..4 {
        mailbox.send(n).unwrap();
    }
    settle(&mut event_loop);
    assert_eq!((heard.get(), told.borrow().len()), (5, 1));
}

#[test]
fn the_closure_is_dropped_when_the_last_sender_is_gone_and_every_message_has_come() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mailbox, heard) = mailbox(&event_loop, 1000);
    let other = mailbox.clone();
    for n in 0..200 {
        mailbox.send(n).unwrap();
    }
    drop(mailbox);
    settle(&mut event_loop);
    assert_eq!((heard.borrow().len(), Rc::strong_count(&heard)), (200, 2));
    thread::spawn(move || drop(other)).join().unwrap();
    settle(&mut event_loop);
    assert_eq!(Rc::strong_count(&heard), 1);
}

#[test]
fn a_loop_that_is_dropped_ends_every_wait_and_drops_the_closure() {
    let event_loop = EventLoop::new().unwrap();
    let (mailbox, heard) = mailbox(&event_loop, 1);
    mailbox.send(0).unwrap();
    let (begins, begun) = mpsc::channel();
    let waiting = {
        let mailbox = mailbox.clone();
        thread::spawn(move || {
            begins.send(()).unwrap();
            mailbox.send_within(1, LONG)
        })
    };
    begun.recv().unwrap();
    let handle = event_loop.handle().clone();
    drop(event_loop);
    assert_eq!(join_alone(waiting), Err(SendError::Closed(1)));
    assert_eq!(mailbox.send(2), Err(SendError::Closed(2)));
    assert_eq!((heard.borrow().len(), Rc::strong_count(&heard)), (0, 1));
    // One that is made after the end.
    let late = handle.mailbox(1, |_, _: u32| ());
    assert_eq!(late.send(3), Err(SendError::Closed(3)));
}

#[test]
fn a_closure_may_send_to_its_own_mailbox_and_drop_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let heard = Heard::default();
    let own: Rc<RefCell<Option<Mailbox<u32>>>> = Rc::default();
    let (into, taken) = (heard.clone(), own.clone());
    let mailbox = event_loop.handle().mailbox(2, move |_, message| {
        into.borrow_mut().push(message);
        if message < 5 {
            let own = taken.borrow();
            own.as_ref().unwrap().send(message + 1).unwrap();
        } else {
            taken.take();
        }
    });
    mailbox.send(0).unwrap();
    own.replace(Some(mailbox));
    drive(&mut event_loop, "the last sender is gone", || {
        Rc::strong_count(&heard) == 1
    });
    assert_eq!(*heard.borrow(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn messages_that_never_come_are_dropped_on_the_thread_of_the_loop() {
    struct Named(mpsc::Sender<thread::ThreadId>);
    impl Drop for Named {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }
    let event_loop = EventLoop::new().unwrap();
    let mailbox = event_loop.handle().mailbox(3, |_, _: Named| ());
    let (dropped, threads) = mpsc::channel();
    let sender = thread::spawn(move || {
        for _ in 0..2 {
            assert!(mailbox.send(Named(dropped.clone())).is_ok());
        }
        mailbox
    });
    let mailbox = sender.join().unwrap();
    drop(event_loop);
    assert_eq!(
        threads.try_iter().collect::<Vec<_>>(),
        [thread::current().id(); 2]
    );
    assert_eq!(mailbox.waiting(), 0);
}

#[test]
fn threads_that_send_while_the_loop_is_dropped_are_told_of_its_end() {
    for round in 0..20 {
        let mut event_loop = EventLoop::new().unwrap();
        // With little room they wait as a rule.
        let (mailbox, heard) = mailbox(&event_loop, if round % 2 == 0 { 2 } else { 100_000 });
        let threads = [(); 2].map(|()| {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                (0..)
                    .find_map(|n| mailbox.send_within(n, LONG).err())
                    .unwrap()
            })
        });
        drive(&mut event_loop, "messages", || heard.borrow().len() > 100);
        drop(event_loop);
        for thread in threads {
            let end = join_alone(thread);
            assert!(matches!(end, SendError::Closed(_)), "{end:?}");
        }
        assert_eq!((mailbox.waiting(), Rc::strong_count(&heard)), (0, 1));
    }
}
