//! Calls from other threads.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use support::{BOUND, settle};
use tidegate::{
    Callback, CallbackHandle, Completer, Completion, EventLoop, Handle, LoopClosed, RemoteHandle,
    Server, Transport,
};

thread_local! {
    /// Completed by a remote call, which must be `Send`, on the loop's thread.
    static DONE: RefCell<Option<Completer<()>>> = const { RefCell::new(None) };
}

/// Runs the loop until a remote call says [`done`]. Nothing else wakes the loop, but for one
/// timer that ends a run which sleeps over a call.
fn run_until_done(event_loop: &mut EventLoop) {
    let (completer, completion) = event_loop.handle().completion();
    DONE.set(Some(completer));
    let answer = completion.within(3 * BOUND);
    event_loop.run_until(answer).expect("a call was slept over");
}

fn done() {
    DONE.take().unwrap().complete(Ok(()));
}

#[test]
fn a_million_calls_of_eight_threads_run_once_each_in_the_order_of_their_thread() {
    const THREADS: usize = 8;
    const CALLS: u32 = 125_000;
    let mut event_loop = EventLoop::new().unwrap();
    let next: Arc<Vec<AtomicU32>> = Arc::new((0..THREADS).map(|_| AtomicU32::new(0)).collect());
    let total = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let remote = event_loop.handle().remote();
            let (next, total) = (next.clone(), total.clone());
            thread::spawn(move || {
                for n in 0..CALLS {
                    let (next, total) = (next.clone(), total.clone());
                    let call = move |_: &Handle| {
                        let expected = next[thread].fetch_add(1, Ordering::Relaxed);
                        assert_eq!(n, expected, "out of order, or twice");
                        if total.fetch_add(1, Ordering::Relaxed) + 1 == THREADS * CALLS as usize {
                            done();
                        }
                    };
                    remote.call_soon_threadsafe(call).unwrap();
                    if n % 500 == 0 {
                        // Lets the loop fall asleep now and then.
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    run_until_done(&mut event_loop);
    for thread in threads {
        thread.join().unwrap();
    }
    settle(&mut event_loop);
    assert_eq!(total.load(Ordering::Relaxed), THREADS * CALLS as usize);
    assert!(
        next.iter()
            .all(|next| next.load(Ordering::Relaxed) == CALLS)
    );
}

#[test]
fn each_of_many_calls_to_a_sleeping_loop_wakes_it() {
    const CALLS: usize = 20_000;
    let mut event_loop = EventLoop::new().unwrap();
    let remote = event_loop.handle().remote();
    let thread = thread::spawn(move || {
        let (sender, receiver) = mpsc::channel();
        for n in 0..CALLS {
            let sender = sender.clone();
            let call = move |_: &Handle| sender.send(n).unwrap();
            remote.call_soon_threadsafe(call).unwrap();
            // The loop has nothing to do until the next call.
            assert_eq!(receiver.recv_timeout(2 * BOUND), Ok(n));
        }
        remote.call_soon_threadsafe(|_| done()).unwrap();
    });
    run_until_done(&mut event_loop);
    thread.join().unwrap();
    let events = event_loop.handle().stats().events;
    assert!(events as usize <= CALLS + 1, "{events} wake-ups");
}

#[test]
fn many_calls_between_two_ticks_cost_one_wake_up() {
    let mut event_loop = EventLoop::new().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    for round in 1..=2 {
        let before = event_loop.handle().stats();
        thread::scope(|scope| {
            for _ in 0..4 {
                let remote = event_loop.handle().remote();
                let ran = ran.clone();
                scope.spawn(move || {
                    for _ in 0..250 {
                        let ran = ran.clone();
                        let call = move |_: &Handle| {
                            ran.fetch_add(1, Ordering::Relaxed);
                        };
                        remote.call_soon_threadsafe(call).unwrap();
                    }
                });
            }
        });
        let start = Instant::now();
        event_loop.run_once(Some(BOUND)).unwrap();
        assert!(start.elapsed() < BOUND / 2, "the loop slept over the calls");
        assert_eq!(ran.load(Ordering::Relaxed), 1000 * round);
        settle(&mut event_loop);
        let after = event_loop.handle().stats();
        assert_eq!(after.events - before.events, 1);
    }
}

#[test]
fn a_call_from_a_callback_runs_in_the_next_tick_without_a_sleep() {
    let mut event_loop = EventLoop::new().unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let seen = ran.clone();
    event_loop.handle().call_soon(move |handle| {
        let call = move |_: &Handle| seen.store(true, Ordering::Relaxed);
        handle.remote().call_soon_threadsafe(call).unwrap();
    });
    for expected in [false, true] {
        let start = Instant::now();
        event_loop.run_once(Some(BOUND)).unwrap();
        assert!(start.elapsed() < BOUND / 2);
        assert_eq!(ran.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn a_call_that_panics_disturbs_no_other() {
    let mut event_loop = EventLoop::new().unwrap();
    let remote = event_loop.handle().remote();
    remote
        .call_soon_threadsafe(|_| panic!("on purpose"))
        .unwrap();
    remote.call_soon_threadsafe(|_| done()).unwrap();
    run_until_done(&mut event_loop);
}

#[test]
fn a_stop_from_another_thread_ends_the_run() {
    let mut event_loop = EventLoop::new().unwrap();
    let remote = event_loop.handle().remote();
    event_loop
        .handle()
        .call_later(2 * BOUND, |_| panic!("the stop was slept over"));
    let thread = thread::spawn(move || remote.stop());
    event_loop.run_forever().unwrap();
    thread.join().unwrap();
}

/// Tells which thread dropped it.
struct Value(Arc<Drops>);

#[derive(Default)]
struct Drops {
    by_loop: AtomicUsize,
    elsewhere: AtomicUsize,
    loop_thread: Option<ThreadId>,
}

impl Drops {
    fn here() -> Arc<Self> {
        Arc::new(Self {
            loop_thread: Some(thread::current().id()),
            ..Self::default()
        })
    }

    fn counts(&self) -> (usize, usize) {
        let by_loop = self.by_loop.load(Ordering::SeqCst);
        (by_loop, self.elsewhere.load(Ordering::SeqCst))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let by_loop = self.0.loop_thread == Some(thread::current().id());
        let count = if by_loop {
            &self.0.by_loop
        } else {
            &self.0.elsewhere
        };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn after_the_end_calls_are_refused_and_accepted_ones_were_dropped_by_the_loop() {
    let event_loop = EventLoop::new().unwrap();
    let remote = event_loop.handle().remote();
    let drops = Drops::here();
    let accept = |remote: &RemoteHandle| {
        let value = Value(drops.clone());
        let call = move |_: &Handle| {
            let _value = &value;
            panic!("called after the end");
        };
        remote.call_soon_threadsafe(call)
    };
    thread::scope(|scope| {
        let accepted = scope.spawn(|| (0..10).all(|_| accept(&remote).is_ok()));
        assert!(accepted.join().unwrap());
    });
    assert_eq!(drops.counts(), (0, 0));
    drop(event_loop);
    assert_eq!(drops.counts(), (10, 0));
    thread::scope(|scope| {
        let refused = scope.spawn(|| accept(&remote));
        assert_eq!(refused.join().unwrap(), Err(LoopClosed));
    });
    assert_eq!(drops.counts(), (10, 1), "dropped by the thread that called");
    remote.stop();
    let error = std::io::Error::from(LoopClosed);
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn calls_that_race_with_the_end_are_either_refused_or_dropped_by_the_loop() {
    const THREADS: usize = 4;
    for ticks in 0..50 {
        let mut event_loop = EventLoop::new().unwrap();
        let drops = Drops::here();
        let start = Instant::now();
        let accepted = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let remote = event_loop.handle().remote();
                let (drops, accepted) = (drops.clone(), accepted.clone());
                thread::spawn(move || {
                    let call = || {
                        let value = Value(drops.clone());
                        remote.call_soon_threadsafe(move |_| drop(value))
                    };
                    while call().is_ok() {
                        accepted.fetch_add(1, Ordering::SeqCst);
                        // Four threads are faster than one loop.
                        while accepted.load(Ordering::SeqCst) > drops.counts().0 + 5000 {
                            assert!(start.elapsed() < BOUND, "accepted and not dropped");
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..ticks % 5 {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        drop(event_loop);
        for thread in threads {
            thread.join().unwrap();
        }
        let accepted = accepted.load(Ordering::SeqCst);
        assert_eq!(drops.counts(), (accepted, THREADS));
    }
}

/// Does not compile when the type is `Send`: it is ambiguous then which `check` is meant.
macro_rules! assert_not_send {
    ($($type:ty),*) => {$({
        trait NotSend<Case> {
            fn check() {}
        }
        struct Sent;
        impl<T> NotSend<()> for T {}
        impl<T: Send> NotSend<Sent> for T {}
        <$type as NotSend<_>>::check();
    })*};
}

#[test]
fn of_all_handles_only_the_remote_one_crosses_threads() {
    fn crosses<T: Clone + Send + Sync + 'static>() {}
    crosses::<RemoteHandle>();
    assert_not_send!(
        EventLoop,
        Handle,
        Transport,
        Server,
        Callback,
        CallbackHandle,
        Completion<()>,
        Completer<()>
    );
}
