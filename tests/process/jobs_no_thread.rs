//! Lowers the limit on address space of the process, so that no thread's stack fits.
//!
//! A system that gives no more threads.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use support::{BOUND, drive, failures, settle};
use tidegate::{EventLoop, Handle, JobPanicked};

/// Leaves room for small things, but not for the stack of a thread.
fn without_threads<R>(run: impl FnOnce() -> R) -> R {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: u64 = size
        .unwrap()
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap();
    let before = getrlimit(Resource::As);
    let limit = Rlimit {
        current: Some((kib + 512) * 1024),
        maximum: before.maximum,
    };
    setrlimit(Resource::As, limit).unwrap();
    let result = run();
    setrlimit(Resource::As, before).unwrap();
    result
}

#[test]
fn without_a_thread_a_job_fails_and_with_a_busy_one_it_waits() {
    let builder = EventLoop::builder().executor_threads(4);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();
    let (value, dropped) = mpsc::channel::<()>();
    let told = failures(&handle);
    let answered = Rc::new(Cell::new(false));
    let seen = answered.clone();
    let (error, name) = without_threads(|| {
        assert!(thread::Builder::new().spawn(|| ()).is_err());
        let job = handle.run_in_executor(move || value.send(()).unwrap());
        let error = event_loop.run_until(job).unwrap_err();
        handle.run_in_executor(|| ()).detach();
        // Within the call it is only known.
        handle.run_in_executor(|| ()).then(move |_, answer| {
            assert!(answer.is_err());
            seen.set(true);
        });
        assert!(!answered.get());
        let name = event_loop.run_until(handle.resolve("localhost", 1));
        drive(&mut event_loop, "the answers", || answered.get());
        (error, name.unwrap_err())
    });
    for error in [&error, &name] {
        assert!(error.raw_os_error().is_some(), "{error:?}");
        assert!(JobPanicked::of(error).is_none());
    }
    settle(&mut event_loop);
    let disconnected = Err(mpsc::TryRecvError::Disconnected);
    assert_eq!(dropped.try_recv(), disconnected, "never called");
    assert_eq!(told.borrow().len(), 1, "{:?}", told.borrow());
    let stats = handle.stats();
    assert_eq!((stats.jobs, stats.completions), (0, 0));

    // With one thread at least, what comes is only later.
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let held = handle.run_in_executor(move || {
        begin.send(()).unwrap();
        let _ = released.recv();
    });
    begun.recv_timeout(BOUND).unwrap();
    let named = || thread::current().name().map(str::to_owned);
    let waiting: Vec<_> = without_threads(|| {
        let start = |_| Handle::run_in_executor(&handle, named);
        (0..3).map(start).collect()
    });
    drop(release);
    event_loop.run_until(held).unwrap();
    for job in waiting {
        let name = event_loop.run_until(job).unwrap();
        assert_eq!(name.as_deref(), Some("tidegate-job-0"));
    }
    // And when there is room again, there are more.
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let _held = handle.run_in_executor(move || {
        begin.send(()).unwrap();
        let _ = released.recv();
    });
    begun.recv_timeout(BOUND).unwrap();
    let name = event_loop.run_until(handle.run_in_executor(named)).unwrap();
    assert_eq!(name.as_deref(), Some("tidegate-job-1"));
    drop(release);
}
