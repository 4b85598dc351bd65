//! Jobs hold and return values of the user: dropping them may panic, or call back into
//! the loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use support::{
    BOUND, Kind, Log, Peer, Recorder, Served, TempDir, adopted, drive, failures, settle,
};
use tidegate::{Completion, EventLoop, Handle, TransportId};

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a value that panics when dropped");
        }
    }
}

/// Calls the loop when dropped on its thread.
struct CallsBack {
    transport: TransportId,
    called: Sender<bool>,
}

impl Drop for CallsBack {
    fn drop(&mut self) {
        let handle = Handle::current();
        if let Some(handle) = &handle {
            if let Some(transport) = handle.transport(self.transport) {
                // The result tells of it, where it matters.
                let _ = transport.write(b"dropped ");
                transport.set_nodelay(false).unwrap_or_default();
            }
            handle.run_in_executor(|| ()).detach();
            drop(handle.run_in_executor(|| ()));
            handle.call_soon(|_| {});
            handle.set_error_handler(|_, _| {});
        }
        // Nobody may care.
        let _ = self.called.send(handle.is_some());
    }
}

/// A loop whose only job thread is busy until the sender is dropped.
fn occupied() -> (EventLoop, Sender<()>) {
    let builder = EventLoop::builder().executor_threads(1);
    let event_loop = builder.build().unwrap();
    let (release, released) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let job = event_loop.handle().run_in_executor(move || {
        begin.send(()).unwrap();
        // Fails, when the time has come.
        let _ = released.recv();
    });
    job.detach();
    begun.recv_timeout(BOUND).unwrap();
    (event_loop, release)
}

/// The loop has got over what happened.
#[track_caller]
fn assert_well(event_loop: &mut EventLoop) {
    let dir = TempDir::new();
    let handle = event_loop.handle().clone();
    let served = Served::echo(&handle, Kind::Unix.somewhere(&dir).as_str());
    let mut peer = Peer::connect(&served.address());
    peer.send(b"ping");
    peer.expect(event_loop, 4);
    let job = handle.run_in_executor(|| thread::current().name().unwrap().to_owned());
    assert_eq!(
        event_loop.run_until(job.within(BOUND)).unwrap(),
        "tidegate-job-0"
    );
    drive(event_loop, "all jobs", || handle.stats().jobs == 0);
}

#[test]
fn a_cancelled_job_whose_drop_panics_is_reported_and_harms_nobody() {
    let (mut event_loop, release) = occupied();
    let told = failures(event_loop.handle());
    let bomb = Bomb;
    drop(event_loop.handle().run_in_executor(move || drop(bomb)));
    settle(&mut event_loop);
    assert_eq!(told.borrow().len(), 1);
    assert!(told.borrow()[0].to_string().contains("when dropped"));
    drop(release);
    assert_well(&mut event_loop);
}

#[test]
fn a_job_whose_own_values_panic_when_dropped_is_one_that_panicked() {
    let (mut event_loop, release) = occupied();
    drop(release);
    let bomb = Bomb;
    let job = event_loop.handle().run_in_executor(move || {
        let _held = bomb;
        5
    });
    let error = event_loop.run_until(job.within(BOUND)).unwrap_err();
    let text = "a job panicked: a value that panics when dropped";
    assert_eq!(error.to_string(), text);
    assert_well(&mut event_loop);
}

#[test]
fn an_unwanted_result_whose_drop_panics_is_reported_and_harms_nobody() {
    let (mut event_loop, release) = occupied();
    let handle = event_loop.handle().clone();
    drop(release);
    drive(&mut event_loop, "a free thread", || {
        handle.stats().jobs == 0
    });
    let told = failures(&handle);
    // Given up while it runs, and taken by a callback that does not look at it.
    let (go, gone) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let given_up = handle.run_in_executor(move || {
        begin.send(()).unwrap();
        let _ = gone.recv();
        Bomb
    });
    begun.recv_timeout(BOUND).unwrap();
    drop(given_up);
    drop(go);
    drive(&mut event_loop, "a report", || told.borrow().len() == 1);
    handle
        .run_in_executor(|| Bomb)
        .then(|_, answer| drop(answer));
    drive(&mut event_loop, "a report", || told.borrow().len() == 2);
    handle.run_in_executor(|| Bomb).detach();
    drive(&mut event_loop, "a report", || told.borrow().len() == 3);
    assert_well(&mut event_loop);
}

#[test]
fn an_answer_for_a_connection_that_has_ended_is_dropped_by_the_loop() {
    let (mut event_loop, release) = occupied();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, _peer) = adopted(&handle, Kind::Unix, Recorder::new(&log));
    settle(&mut event_loop);
    let told = failures(&handle);
    let job = handle.run_in_executor(|| Bomb);
    job.then_on(&transport, |_: &mut Recorder, _, _| panic!("it has ended"));
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    drop(release);
    drive(&mut event_loop, "a report", || !told.borrow().is_empty());
    assert!(told.borrow()[0].to_string().contains("when dropped"));
    assert_well(&mut event_loop);
}

#[test]
fn values_that_call_the_loop_when_they_are_dropped_may_do_so() {
    for begins in [false, true] {
        let (mut event_loop, release) = occupied();
        let handle = event_loop.handle().clone();
        let log = Log::new();
        let (transport, mut peer) = adopted(&handle, Kind::Tcp, Recorder::new(&log));
        settle(&mut event_loop);
        let (called, calls) = mpsc::channel();
        let value = CallsBack {
            transport: transport.id(),
            called,
        };
        if begins {
            drop(release);
            drive(&mut event_loop, "a free thread", || {
                handle.stats().jobs == 0
            });
            let (begin, begun) = mpsc::channel();
            let (go, gone) = mpsc::channel::<()>();
            let job = handle.run_in_executor(move || {
                begin.send(()).unwrap();
                let _ = gone.recv();
                value
            });
            begun.recv_timeout(BOUND).unwrap();
            drop(job);
            drop(go);
        } else {
            drop(handle.run_in_executor(move || drop(value)));
            drop(release);
        }
        let mut on_the_loop = None;
        drive(&mut event_loop, "the drop", || {
            on_the_loop = calls.try_recv().ok();
            on_the_loop.is_some()
        });
        assert_eq!(on_the_loop, Some(true));
        peer.expect(&mut event_loop, 8);
        assert_well(&mut event_loop);
    }
}

#[test]
fn the_answer_of_a_job_may_drop_the_completions_of_others() {
    let (mut event_loop, release) = occupied();
    let handle = event_loop.handle().clone();
    let rest: Rc<RefCell<Vec<Completion<()>>>> = Rc::default();
    let ran = Arc::new(AtomicUsize::new(0));
    let (go, gone) = mpsc::channel::<()>();
    let all = rest.clone();
    handle.run_in_executor(|| ()).then(move |handle, _| {
        all.borrow_mut().clear();
        assert_eq!(handle.stats().jobs, 1);
        drop(go);
    });
    // Keeps the thread from the others until they are dropped.
    let between = handle.run_in_executor(move || gone.recv());
    for _ in 0..10 {
        let ran = ran.clone();
        let job = handle.run_in_executor(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        rest.borrow_mut().push(job);
    }
    drop(release);
    assert!(event_loop.run_until(between).unwrap().is_err());
    assert_well(&mut event_loop);
    assert_eq!(ran.load(Ordering::SeqCst), 0);
}

#[test]
fn jobs_start_jobs_through_the_loop_and_loops_of_their_own() {
    let (mut event_loop, release) = occupied();
    drop(release);
    let remote = event_loop.handle().remote();
    let (told, answers) = mpsc::channel();
    let outer = event_loop.handle().run_in_executor(move || {
        let (from_loop, asked) = mpsc::channel();
        let call = move |handle: &Handle| {
            let job = handle.run_in_executor(move || told.send(1));
            job.detach();
            from_loop.send(thread::current().id()).unwrap();
        };
        remote.call_soon_threadsafe(call).unwrap();
        asked.recv_timeout(BOUND).unwrap();
        // Another loop on this very thread, with a pool of its own.
        let mut own = EventLoop::new().unwrap();
        let job = own.handle().run_in_executor(|| 41);
        own.run_until(job).unwrap() + 1
    });
    assert_eq!(event_loop.run_until(outer).unwrap(), 42);
    drive(&mut event_loop, "the inner job", || {
        answers.try_recv().is_ok()
    });
    assert_well(&mut event_loop);
}
