//! Counts the allocated bytes of the process.
//!
//! A panic's payload is freed, whatever panicked, also when dropping the payload panics.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io;
use std::panic::panic_any;
use std::time::Duration;
use support::logs::log_to;
use support::tick;
use tidegate::{EventLoop, Handle, JobPanicked};
use tidegate_streams::spawn_on;

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PANICS: usize = 1000;
const SIZE: usize = 10_000;

/// A payload of ten kilobytes whose drop panics with another one, this number of times.
struct Chained(
    usize,
    #[expect(dead_code, reason = "its size counts")] Vec<u8>,
);

impl Chained {
    fn new(further: usize) -> Self {
        Self(further, vec![1; SIZE])
    }
}

impl Drop for Chained {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Self::new(self.0 - 1));
        }
    }
}

/// Panics with one payload or another.
fn panic_on_purpose(round: usize) {
    match round % 2 {
        0 => panic_any("x".repeat(SIZE)),
        _ => panic_any(Chained::new(2)),
    }
}

/// Fails unless `work` leaves less memory behind than a hundredth of the payloads.
#[track_caller]
fn assert_freed(what: &str, mut work: impl FnMut(usize)) {
    // Tables and threads get their memory.
    (0..10).for_each(&mut work);
    let region = Region::new(GLOBAL);
    (0..PANICS).for_each(&mut work);
    let change = region.change();
    let taken = change.bytes_allocated;
    assert!(taken > PANICS * SIZE, "{what}: nothing was measured");
    let left = taken as i64 - change.bytes_deallocated as i64;
    assert!(
        left < (PANICS * SIZE / 100) as i64,
        "{what}: {left} bytes are left of {taken}"
    );
}

/// Values that are thrown away in the first are dropped in one of the others.
fn ticks(event_loop: &mut EventLoop) {
    (0..4).for_each(|_| tick(event_loop));
}

#[test]
fn payloads_of_jobs_resolvers_loggers_tasks_and_closures_are_freed() {
    // Those on purpose are not printed.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.len() < SIZE) {
            eprintln!("{panic}");
        }
    }));
    let resolver = |host: &str, _| {
        panic_on_purpose(host.len());
        Err(io::Error::other("unreached"))
    };
    let builder = EventLoop::builder().resolver(resolver);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();

    assert_freed("a job", |round| {
        let job = handle.run_in_executor(move || panic_on_purpose(round));
        let error = event_loop.run_until(job).unwrap_err();
        assert!(JobPanicked::of(&error).is_some());
    });
    assert_freed("a resolver", |round| {
        let name = handle.resolve(["even", "odd"][round % 2], 1);
        let error = event_loop.run_until(name).unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    });
    assert_freed("a task", |round| {
        drop(spawn_on(&handle, async move { panic_on_purpose(round) }));
        ticks(&mut event_loop);
    });
    assert_freed("a closure", |round| {
        handle.call_soon(move |_| panic_on_purpose(round));
        ticks(&mut event_loop);
    });
    assert_freed("a drop", |_| {
        let held = Chained::new(3);
        handle.call_soon(move |_: &Handle| drop(held));
        ticks(&mut event_loop);
    });

    // A slow callback is a line of the log each time.
    let builder = EventLoop::builder().slow_callback(Duration::ZERO);
    let mut event_loop = builder.build().unwrap();
    let handle = event_loop.handle().clone();
    assert_freed("a logger", |round| {
        log_to(log::LevelFilter::Warn, move |_| panic_on_purpose(round));
        handle.call_soon(|_| {});
        ticks(&mut event_loop);
    });
}
