//! Counts the allocations of the process.
//!
//! The memory that a write timeout costs: nothing, until the kernel refuses.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;
use support::{Kind, Scene, stall};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_write_timeout_allocates_nothing_until_the_kernel_refuses() {
    let limit = Duration::from_secs(3600);
    for kind in Kind::ALL {
        let (mut event_loop, _log, transport, _peer) = Scene::of(kind).set();
        let mut round = || {
            transport.set_write_timeout(None);
            transport.set_write_timeout(Some(limit));
            transport.write(b"0123456789").unwrap();
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        };
        // The lists of the loop get their memory.
        (0..10).for_each(|_| round());
        let region = Region::new(GLOBAL);
        (0..100).for_each(|_| round());
        let change = region.change();
        assert_eq!(
            (change.allocations, change.reallocations),
            (0, 0),
            "{kind:?}"
        );
        assert_eq!(event_loop.handle().stats().timers, 0);

        stall(&mut event_loop, &transport, 1000);
        assert_eq!(event_loop.handle().stats().timers, 1);
    }
}
