//! Counts the allocations of the process.
//!
//! The cost of a callback that is scheduled again and again.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::EventLoop;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn scheduling_a_callback_and_running_it_allocates_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let ran = Rc::new(Cell::new(0));
    let count = ran.clone();
    let callback = event_loop
        .handle()
        .callback(move |_| count.set(count.get() + 1));
    let mut round = || {
        callback.schedule();
        callback.schedule();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
    };
    // The lists of the loop get their memory.
    round();
    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        round();
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    assert_eq!(ran.get(), 1001);
}
