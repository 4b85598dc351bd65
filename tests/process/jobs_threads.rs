//! Counts the threads of the process, by name.
//!
//! The threads of the pool: when they come, how many they are, and that they go.

use log::LevelFilter;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};
use support::logs::{keep_log, logged};
use support::{BOUND, drive, settle};
use tidegate::{Completion, EventLoop, Handle};

fn warnings() -> Vec<String> {
    let lines = logged().into_iter();
    lines
        .map(|line| format!("{}: {}", line.target, line.text))
        .collect()
}

/// The names of the pool's threads that live, as the kernel has them (proc_pid_comm(5)).
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        // It may end meanwhile.
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    let mut names: Vec<_> = names
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("tidegate-job"))
        .collect();
    names.sort();
    names
}

/// A thread that was joined is known to the kernel a moment longer.
#[track_caller]
fn wait_for(names: &[&str]) {
    let start = Instant::now();
    while threads() != names {
        assert!(start.elapsed() < BOUND, "{:?}, not {names:?}", threads());
        thread::yield_now();
    }
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

/// Counts a thread that has ended.
struct CountsEnd;

impl Drop for CountsEnd {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static END: CountsEnd = const { CountsEnd };
}

/// How many threads of marked jobs have ended since the last call.
fn ended() -> usize {
    ENDED.swap(0, Ordering::SeqCst)
}

fn loop_with(threads: usize, grace: Duration) -> EventLoop {
    let builder = EventLoop::builder().executor_threads(threads);
    builder.executor_grace(grace).build().unwrap()
}

/// A job that says that it has begun, marks its thread, and runs until its sender is dropped.
fn blocked(handle: &Handle) -> (Completion<()>, Receiver<()>, Sender<()>) {
    let (release, released) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let job = handle.run_in_executor(move || {
        END.with(|_| ());
        begin.send(()).unwrap();
        // Fails, when the time has come.
        let _ = released.recv();
    });
    (job, begun, release)
}

fn threads_come_one_by_one_when_none_is_free_and_stay_for_later_jobs() {
    let mut event_loop = loop_with(3, BOUND);
    let handle = event_loop.handle().clone();
    settle(&mut event_loop);
    assert_eq!(threads(), [""; 0], "nobody has asked for one");
    let mut running = Vec::new();
    let names = ["tidegate-job-0", "tidegate-job-1", "tidegate-job-2"];
    for started in 1..=3 {
        let job = blocked(&handle);
        job.1.recv_timeout(BOUND).unwrap();
        running.push(job);
        assert_eq!(threads(), names[..started]);
    }
    let (more, begun, release) = blocked(&handle);
    settle(&mut event_loop);
    assert_eq!(threads(), names, "no more than allowed");
    assert!(begun.try_recv().is_err());
    drop(release);
    for (job, _, release) in running {
        drop(release);
        event_loop.run_until(job).unwrap();
    }
    event_loop.run_until(more).unwrap();
    for _ in 0..500 {
        handle.run_in_executor(|| ()).detach();
    }
    drive(&mut event_loop, "all answers", || handle.stats().jobs == 0);
    assert_eq!(threads(), names);
    assert_eq!(ended(), 0);
    drop(event_loop);
    assert_eq!(ended(), 3, "joined");
    wait_for(&[]);
    assert_eq!(warnings(), [""; 0]);
}

fn a_loop_that_ends_joins_the_threads_of_jobs_that_end_in_time() {
    let event_loop = loop_with(2, BOUND);
    let remote = event_loop.handle().remote();
    for _ in 0..2 {
        let remote = remote.clone();
        let (begin, begun) = mpsc::channel();
        let job = event_loop.handle().run_in_executor(move || {
            END.with(|_| ());
            begin.send(()).unwrap();
            while remote.call_soon_threadsafe(|_| {}).is_ok() {
                thread::yield_now();
            }
        });
        job.detach();
        begun.recv_timeout(BOUND).unwrap();
    }
    drop(event_loop);
    assert_eq!(ended(), 2, "joined");
    wait_for(&[]);
    assert_eq!(warnings(), [""; 0]);
}

fn what_runs_longer_is_left_behind_with_one_line_in_the_log() {
    let grace = Duration::from_millis(50);
    let mut event_loop = loop_with(4, grace);
    let handle = event_loop.handle().clone();
    let jobs = [blocked(&handle), blocked(&handle), blocked(&handle)];
    for (_, begun, _) in &jobs {
        begun.recv_timeout(BOUND).unwrap();
    }
    let marked = handle.run_in_executor(|| END.with(|_| ()));
    event_loop.run_until(marked).unwrap();
    assert_eq!(threads().len(), 4);
    let start = Instant::now();
    drop(event_loop);
    assert!(start.elapsed() >= grace);
    assert_eq!(ended(), 1, "the one that was free");
    wait_for(&["tidegate-job-0", "tidegate-job-1", "tidegate-job-2"]);
    let lines = warnings();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("tidegate::loop: "), "{lines:?}");
    assert!(lines[0].contains('3'), "{lines:?}");
    // They go when their jobs end, whatever is left.
    drop(jobs);
    wait_for(&[]);
    assert_eq!(warnings(), [""; 0]);
}

fn loops_have_threads_of_their_own() {
    let (mut one, mut other) = (loop_with(1, BOUND), loop_with(1, BOUND));
    let (held, begun, release) = blocked(one.handle());
    begun.recv_timeout(BOUND).unwrap();
    let free = other.handle().run_in_executor(|| ());
    other.run_until(free).unwrap();
    assert_eq!(threads(), ["tidegate-job-0", "tidegate-job-0"]);
    drop(other);
    wait_for(&["tidegate-job-0"]);
    drop(release);
    one.run_until(held).unwrap();
    drop(one);
    wait_for(&[]);
}

#[test]
fn threads_start_for_jobs_and_end_with_the_loop_unless_a_job_holds_them() {
    keep_log(LevelFilter::Warn);
    threads_come_one_by_one_when_none_is_free_and_stay_for_later_jobs();
    a_loop_that_ends_joins_the_threads_of_jobs_that_end_in_time();
    what_runs_longer_is_left_behind_with_one_line_in_the_log();
    loops_have_threads_of_their_own();
}
