//! Jobs: closures that may block, on threads beside the loop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{
    BOUND, Dropped, Kind, Log, Peer, Recorder, Served, TempDir, adopted, drive, each_kind,
    failures, occupy, settle,
};
use tidegate::{Completion, EventLoop, Handle, JobPanicked, PanicPolicy};

fn loop_with(threads: usize) -> EventLoop {
    let builder = EventLoop::builder().executor_threads(threads);
    builder.build().unwrap()
}

fn assert_nothing_waits(handle: &Handle) {
    let stats = handle.stats();
    let waiting = (stats.jobs, stats.completions, stats.timers);
    assert_eq!(waiting, (0, 0, 0));
}

#[test]
fn a_job_runs_on_a_thread_of_the_pool_and_is_answered_on_the_loop() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    let here = thread::current().id();
    let place = || {
        assert!(Handle::current().is_none(), "the loop is on another thread");
        let thread = thread::current();
        (thread.name().unwrap().to_owned(), thread.id())
    };
    let (name, id) = event_loop.run_until(handle.run_in_executor(place)).unwrap();
    assert_eq!(name, "tidegate-job-0");
    assert_ne!(id, here);

    let told = Rc::new(RefCell::new(Vec::new()));
    let by_then = told.clone();
    handle.run_in_executor(place).then(move |_, answer| {
        assert!(Handle::current().is_some());
        let answered_on = thread::current().id();
        by_then.borrow_mut().push((answer.unwrap(), answered_on));
    });
    let log = Log::new();
    let (transport, _peer) = adopted(&handle, Kind::Unix, Recorder::new(&log));
    let by_then_on = told.clone();
    let job = handle.run_in_executor(place);
    job.then_on(&transport, move |_: &mut Recorder, _, answer| {
        let answered_on = thread::current().id();
        by_then_on.borrow_mut().push((answer?, answered_on));
        Ok(())
    });
    assert!(told.borrow().is_empty(), "never inside the call");
    drive(&mut event_loop, "two answers", || told.borrow().len() == 2);
    for told in told.take() {
        assert_eq!(told, ((name.clone(), id), here));
    }
    assert_nothing_waits(&handle);
}

#[test]
fn what_a_job_returns_is_passed_on_as_it_is() {
    let mut event_loop = loop_with(2);
    let handle = event_loop.handle().clone();
    let told = failures(&handle);

    struct OnlyOne(Box<u8>);
    let one = event_loop.run_until(handle.run_in_executor(|| OnlyOne(Box::new(7))));
    assert_eq!(*one.unwrap().0, 7);

    let large = handle.run_in_executor(|| {
        let large = vec![1_u8; 64 << 20];
        (large.as_ptr() as usize, large)
    });
    let (made_at, large) = event_loop.run_until(large).unwrap();
    assert_eq!(large.as_ptr() as usize, made_at, "moved, not copied");

    let failing = || Err::<(), _>(io::Error::other("the job's own"));
    let answer = event_loop.run_until(handle.run_in_executor(failing));
    assert_eq!(answer.unwrap().unwrap_err().to_string(), "the job's own");
    // The completion has not failed, so nothing is reported.
    handle.run_in_executor(failing).detach();
    drive(&mut event_loop, "the detached job", || {
        handle.stats().jobs == 0
    });
    settle(&mut event_loop);
    assert!(told.borrow().is_empty());
}

#[test]
fn thousands_of_jobs_are_each_answered_once_by_no_more_threads_than_allowed() {
    const JOBS: usize = 10_000;
    let mut event_loop = loop_with(2);
    let handle = event_loop.handle().clone();
    let threads: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let answers = Rc::new(RefCell::new(vec![0; JOBS]));
    for number in 0..JOBS {
        let (threads, running, most) = (threads.clone(), running.clone(), most.clone());
        let answers = answers.clone();
        let job = handle.run_in_executor(move || {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            let name = thread::current().name().unwrap().to_owned();
            threads.lock().unwrap().insert(name);
            running.fetch_sub(1, Ordering::SeqCst);
            number
        });
        job.then(move |_, answer| answers.borrow_mut()[answer.unwrap()] += 1);
    }
    assert!(handle.stats().completions == JOBS);
    drive(&mut event_loop, "every answer", || {
        handle.stats().completions == 0
    });
    settle(&mut event_loop);
    assert!(answers.borrow().iter().all(|&times| times == 1));
    assert!(most.load(Ordering::SeqCst) <= 2);
    let allowed = ["tidegate-job-0", "tidegate-job-1"];
    let seen = threads.lock().unwrap();
    assert!(seen.iter().all(|name| allowed.contains(&name.as_str())));
    assert_nothing_waits(&handle);
}

#[test]
fn one_thread_runs_jobs_and_answers_them_in_the_order_of_their_start() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    let ran: Arc<Mutex<Vec<u32>>> = Arc::default();
    let answered = Rc::new(RefCell::new(Vec::new()));
    for number in 0..1000 {
        let (ran, answered) = (ran.clone(), answered.clone());
        let job = handle.run_in_executor(move || ran.lock().unwrap().push(number));
        job.then(move |_, _| answered.borrow_mut().push(number));
    }
    drive(&mut event_loop, "every answer", || {
        answered.borrow().len() == 1000
    });
    let in_order: Vec<u32> = (0..1000).collect();
    assert_eq!(*ran.lock().unwrap(), in_order);
    assert_eq!(*answered.borrow(), in_order);
}

/// The panic payload of a hostile job.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a payload that panics when dropped");
        }
    }
}

#[test]
fn a_panic_is_an_error_with_its_message_and_the_pool_goes_on_by_any_policy() {
    for policy in [PanicPolicy::Isolate, PanicPolicy::Propagate] {
        let builder = EventLoop::builder().executor_threads(1);
        let mut event_loop = builder.panic_policy(policy).build().unwrap();
        let handle = event_loop.handle().clone();
        let told = failures(&handle);
        let number = 3;
        let jobs: [(Completion<()>, &str); 4] = [
            (handle.run_in_executor(|| panic!("a text")), "a text"),
            (
                handle.run_in_executor(move || panic!("text {number}")),
                "text 3",
            ),
            (
                handle.run_in_executor(|| std::panic::panic_any(7)),
                "a panic without a message",
            ),
            (
                handle.run_in_executor(|| std::panic::panic_any(Bomb)),
                "a panic without a message",
            ),
        ];
        for (job, message) in jobs {
            let error = event_loop.run_until(job.within(BOUND)).unwrap_err();
            let panicked = JobPanicked::of(&error).unwrap();
            assert_eq!(panicked.message(), message);
            assert_eq!(error.to_string(), format!("a job panicked: {message}"));
        }
        let alive = handle.run_in_executor(|| thread::current().name().unwrap().to_owned());
        assert_eq!(
            event_loop.run_until(alive.within(BOUND)).unwrap(),
            "tidegate-job-0"
        );
        assert!(told.borrow().is_empty(), "the completion has told it");
    }
}

#[test]
fn dropping_the_completion_of_a_job_not_begun_cancels_it() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    let release = occupy(&handle);
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
    let (first, first_dropped) = start();
    drop(first);
    assert_eq!(handle.stats().jobs, 1, "the one that runs");
    assert!(
        first_dropped.try_recv().is_err(),
        "never within a call of the user's"
    );
    let (second, second_dropped) = start();
    let error = event_loop.run_until(second.within(Duration::from_millis(1)));
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    // With a callback for its result, it can be cancelled by its time alone.
    let (third, third_dropped) = start();
    let timed_out = Rc::new(Cell::new(false));
    let told = timed_out.clone();
    let third = third.within(Duration::from_millis(1));
    third.then(move |_, answer| {
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut);
        told.set(true);
    });
    drive(&mut event_loop, "the limit", || timed_out.get());
    settle(&mut event_loop);
    for dropped in [first_dropped, second_dropped, third_dropped] {
        assert_eq!(dropped.try_recv().unwrap(), thread::current().id());
        assert!(dropped.try_recv().is_err());
    }
    drop(release);
    // The only thread would have met the others first.
    event_loop.run_until(handle.run_in_executor(|| ())).unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_nothing_waits(&handle);
}

#[test]
fn a_begun_job_runs_to_its_end_and_an_unwanted_result_is_dropped_on_the_loop() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    for by_time in [false, true] {
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let (result, dropped) = Dropped::new();
        let job = handle.run_in_executor(move || {
            begin.send(()).unwrap();
            let _ = released.recv();
            result
        });
        begun.recv_timeout(BOUND).unwrap();
        if by_time {
            let answer = event_loop.run_until(job.within(Duration::ZERO));
            assert!(answer.is_err());
        } else {
            drop(job);
        }
        assert_nothing_waits(&handle);
        settle(&mut event_loop);
        assert!(dropped.try_recv().is_err(), "it runs");
        drop(release);
        let mut dropped_on = None;
        drive(&mut event_loop, "the result's drop", || {
            dropped_on = dropped.try_recv().ok();
            dropped_on.is_some()
        });
        assert_eq!(dropped_on, Some(thread::current().id()));
        assert!(dropped.try_recv().is_err());
    }
}

#[test]
fn a_detached_job_runs_and_its_panic_goes_to_the_error_handler() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    let told = failures(&handle);
    let (done, is_done) = mpsc::channel();
    handle
        .run_in_executor(move || done.send(()).unwrap())
        .detach();
    handle.run_in_executor(|| panic!("nobody waits")).detach();
    drive(&mut event_loop, "the report", || !told.borrow().is_empty());
    assert!(is_done.try_recv().is_ok());
    let told = told.borrow();
    assert_eq!(told.len(), 1);
    let text = told[0].to_string();
    assert!(text.contains("a job panicked: nobody waits"), "{text}");
    assert_nothing_waits(&handle);
}

each_kind!(the_loop_serves_while_jobs_block_every_thread);
fn the_loop_serves_while_jobs_block_every_thread(kind: Kind) {
    let mut event_loop = loop_with(2);
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let held = [occupy(&handle), occupy(&handle)];
    let queued = handle.run_in_executor(|| 5);
    let served = Served::echo(&handle, kind.somewhere(&dir).as_str());
    let mut peer = Peer::connect(&served.address());
    for round in 1..=100 {
        peer.send(b"ping");
        peer.expect(&mut event_loop, 4 * round);
    }
    assert_eq!(handle.stats().jobs, 3, "none of them has ended");
    drop(held);
    assert_eq!(event_loop.run_until(queued).unwrap(), 5);
    drive(&mut event_loop, "free threads", || handle.stats().jobs == 0);
}

#[test]
fn results_that_arrive_together_cost_one_wake_up() {
    let mut event_loop = loop_with(1);
    let handle = event_loop.handle().clone();
    let answered = Rc::new(Cell::new(0));
    for _ in 0..1000 {
        let answered = answered.clone();
        let job = handle.run_in_executor(|| ());
        job.then(move |_, _| answered.set(answered.get() + 1));
    }
    // One thread: when this one has begun, the others have handed in their results.
    let release = occupy(&handle);
    let before = handle.stats();
    event_loop.run_once(Some(BOUND)).unwrap();
    // The closure of `then` runs one tick after the result.
    event_loop.run_once(Some(BOUND)).unwrap();
    assert_eq!(answered.get(), 1000);
    let after = handle.stats();
    assert_eq!(after.events - before.events, 1);
    drop(release);
}

#[test]
fn an_executor_without_threads_is_invalid() {
    let built = EventLoop::builder().executor_threads(0).build();
    let error = built.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("at least one thread"), "{error}");
}
