//! Jobs when their loop ends.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, Dropped, Kind, Log, Recorder, adopted, failures, occupy, settle};
use tidegate::{Completion, EventLoop, LoopClosed};

const LONG: Duration = Duration::from_secs(3600);

fn loop_with(threads: usize, grace: Duration) -> EventLoop {
    let builder = EventLoop::builder().executor_threads(threads);
    builder.executor_grace(grace).build().unwrap()
}

fn is_loop_closed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|error| error.is::<LoopClosed>())
}

#[test]
fn jobs_that_have_not_begun_are_dropped_uncalled_and_their_completions_fail() {
    let event_loop = loop_with(1, Duration::ZERO);
    let handle = event_loop.handle().clone();
    let release = occupy(event_loop.handle());
    let ran = Arc::new(AtomicUsize::new(0));
    let start = || {
        let (value, dropped) = Dropped::new();
        let ran = ran.clone();
        let job = handle.run_in_executor(move || {
            ran.fetch_add(1, Ordering::SeqCst);
            drop(value);
        });
        (job, dropped)
    };
    let ((kept, first), (then, second), (detached, third)) = (start(), start(), start());
    let (limited, fourth) = start();
    let limited = limited.within(LONG);
    let (held, uncalled) = Dropped::new();
    let called = ran.clone();
    then.then(move |_, _| {
        called.fetch_add(1, Ordering::SeqCst);
        drop(held);
    });
    detached.detach();
    drop(event_loop);
    let here = thread::current().id();
    for dropped in [first, second, third, fourth, uncalled] {
        assert_eq!(dropped.try_recv().unwrap(), here);
        assert!(dropped.try_recv().is_err());
    }
    for job in [kept, limited] {
        let error = answer_of(job);
        assert!(is_loop_closed(&error), "{error}");
    }
    drop(release);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    let stats = handle.stats();
    let waiting = (stats.jobs, stats.completions, stats.timers);
    assert_eq!(waiting, (0, 0, 0));
}

/// Returns the error of a completion of a loop that is gone.
fn answer_of<T>(job: Completion<T>) -> io::Error {
    match pin!(job).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => error,
        Poll::Ready(Ok(_)) => panic!("the job was cancelled"),
        Poll::Pending => panic!("nobody will answer it"),
    }
}

#[test]
fn a_job_that_ends_within_the_grace_is_waited_for_and_its_result_dropped() {
    let event_loop = loop_with(1, BOUND);
    let remote = event_loop.handle().remote();
    let (result, dropped) = Dropped::new();
    let (begin, begun) = mpsc::channel();
    let job = event_loop.handle().run_in_executor(move || {
        begin.send(thread::current().id()).unwrap();
        // The loop is refused to other threads as soon as it ends.
        while remote.call_soon_threadsafe(|_| {}) != Err(LoopClosed) {
            thread::yield_now();
        }
        result
    });
    let on = begun.recv_timeout(BOUND).unwrap();
    drop(event_loop);
    assert_eq!(dropped.try_recv().unwrap(), on);
    assert!(dropped.try_recv().is_err());
    assert!(is_loop_closed(&answer_of(job)));
}

#[test]
fn a_result_that_waits_for_the_loop_is_dropped_there() {
    let event_loop = loop_with(1, BOUND);
    let (result, dropped) = Dropped::new();
    let job = event_loop.handle().run_in_executor(move || result);
    // The only thread: the result is handed in.
    let release = occupy(event_loop.handle());
    assert!(dropped.try_recv().is_err());
    drop(release);
    drop(event_loop);
    assert_eq!(dropped.try_recv().unwrap(), thread::current().id());
    assert!(is_loop_closed(&answer_of(job)));
}

/// Drops the loop while a job waits for a channel whose sender something of the loop's holds.
#[track_caller]
fn assert_ends<K>(holder: &str, hold: impl FnOnce(&mut EventLoop, Sender<()>) -> K) {
    let mut event_loop = loop_with(1, BOUND);
    let (sender, receiver) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let job = event_loop.handle().run_in_executor(move || {
        begin.send(()).unwrap();
        let closed = receiver.recv_timeout(BOUND) == Err(RecvTimeoutError::Disconnected);
        end.send(closed).unwrap();
    });
    begun.recv_timeout(BOUND).unwrap();
    let _kept = hold(&mut event_loop, sender);
    drop(event_loop);
    assert_eq!(ended.try_recv(), Ok(true), "held by {holder}");
    assert!(is_loop_closed(&answer_of(job)));
}

#[test]
fn a_job_that_waits_for_what_the_loop_holds_ends_with_it() {
    assert_ends("a timer", |event_loop, sender| {
        event_loop.handle().call_later(LONG, move |_| drop(sender));
    });
    assert_ends("a call", |event_loop, sender| {
        event_loop.handle().call_soon(move |_| drop(sender));
    });
    assert_ends("a call of another thread", |event_loop, sender| {
        let remote = event_loop.handle().remote();
        let left = remote.call_soon_threadsafe(move |_| drop(sender));
        left.unwrap();
    });
    assert_ends("the error handler", |event_loop, sender| {
        let handle = event_loop.handle();
        handle.set_error_handler(move |_, _| sender.send(()).unwrap());
    });
    assert_ends("another job", |event_loop, sender| {
        let job = event_loop.handle().run_in_executor(move || drop(sender));
        job.detach();
    });
    assert_ends("the answer to another job", |event_loop, sender| {
        let job = event_loop.handle().run_in_executor(|| ());
        job.then(move |_, _| drop(sender));
    });
    assert_ends("a server", |event_loop, sender| {
        let factory = move || {
            sender.send(()).unwrap();
            Recorder::new(&Log::new())
        };
        let server = event_loop.handle().create_server("127.0.0.1:0", factory);
        server.unwrap();
    });
    assert_ends("a protocol", |event_loop, sender| {
        let recorder = Recorder::new(&Log::new()).on_data(move |_, _| Ok(sender.send(())?));
        let connection = adopted(event_loop.handle(), Kind::Unix, recorder);
        settle(event_loop);
        connection
    });
}

#[test]
fn after_the_end_a_job_is_dropped_uncalled_and_fails() {
    let event_loop = loop_with(1, Duration::ZERO);
    let handle = event_loop.handle().clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let start = {
        let (handle, calls) = (handle.clone(), calls.clone());
        move || {
            let (value, dropped) = Dropped::new();
            let calls = calls.clone();
            let job = handle.run_in_executor(move || {
                calls.fetch_add(1, Ordering::SeqCst);
                drop(value);
            });
            (job, dropped)
        }
    };
    let late = Rc::new(Cell::new(None));
    let (in_lost, told) = (start.clone(), late.clone());
    let recorder = Recorder::new(&Log::new()).on_lost(move |_, _| told.set(Some(in_lost())));
    let _connection = adopted(&handle, Kind::Tcp, recorder);
    drop(event_loop);
    let here = thread::current().id();
    for (job, dropped) in [late.take().unwrap(), start()] {
        assert_eq!(dropped.try_recv().unwrap(), here);
        assert!(is_loop_closed(&answer_of(job)));
    }
    let uncalled = calls.clone();
    start().0.then(move |_, _| {
        uncalled.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert_eq!(handle.stats().jobs, 0);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a value that panics when dropped");
        }
    }
}

#[test]
fn drops_that_panic_do_not_keep_the_loop_from_its_end() {
    let event_loop = loop_with(1, BOUND);
    let handle = event_loop.handle().clone();
    let told = failures(&handle);
    let result = handle.run_in_executor(|| Bomb);
    let release = occupy(event_loop.handle());
    let bombs = [Bomb, Bomb];
    handle.run_in_executor(move || drop(bombs)).detach();
    let bomb = Bomb;
    let answer = handle.run_in_executor(|| ());
    answer.then(move |_, _| drop(bomb));
    let (value, dropped) = Dropped::new();
    handle.run_in_executor(move || drop(value)).detach();
    let sender = release.clone();
    drop(release);
    // The thread is busy for this time.
    handle.call_later(LONG, move |_| drop(sender));
    drop(event_loop);
    assert_eq!(dropped.try_recv().unwrap(), thread::current().id());
    assert!(told.borrow().len() >= 2, "{:?}", told.borrow());
    assert!(is_loop_closed(&answer_of(result)));
}

#[test]
fn a_result_that_panics_when_it_is_too_late_harms_nobody() {
    let event_loop = loop_with(1, BOUND);
    let remote = event_loop.handle().remote();
    let (begin, begun) = mpsc::channel();
    let job = event_loop.handle().run_in_executor(move || {
        begin.send(()).unwrap();
        while remote.call_soon_threadsafe(|_| {}).is_ok() {
            thread::yield_now();
        }
        Bomb
    });
    begun.recv_timeout(BOUND).unwrap();
    let start = Instant::now();
    drop(event_loop);
    assert!(start.elapsed() < BOUND, "it waited for a thread that died");
    assert!(is_loop_closed(&answer_of(job)));
}

#[test]
fn a_job_is_not_waited_for_longer_than_the_grace() {
    for grace in [Duration::ZERO, Duration::from_millis(50)] {
        let event_loop = loop_with(1, grace);
        let release = occupy(event_loop.handle());
        let start = Instant::now();
        drop(event_loop);
        let took = start.elapsed();
        assert!(took >= grace && took < BOUND, "{took:?}");
        drop(release);
    }
}
