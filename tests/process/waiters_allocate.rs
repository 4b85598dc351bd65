//! Counts the allocations of the process.
//!
//! The memory of waiters.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;
use support::{
    Kind, Recorder, Scene, answer, drive, limits, never_paused, put, settle, stall, tick,
};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: u64 = 20_000;

#[test]
fn known_results_are_free_and_nothing_dropped_or_replaced_piles_up() {
    for kind in Kind::ALL {
        let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
        put(&transport, 10);
        settle(&mut event_loop);

        let region = Region::new(GLOBAL);
        for _ in 0..100 {
            assert!(answer(&mut transport.drain()).unwrap().is_ok());
            assert!(answer(&mut transport.flush()).unwrap().is_ok());
        }
        assert_eq!(region.change().allocations, 0, "{kind:?}");

        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        let (mut drain, mut flush) = (transport.drain(), transport.flush());
        let region = Region::new(GLOBAL);
        let most = most_live(|_| drop((transport.drain(), transport.flush())));
        assert!(
            region.change().allocations >= 40_000,
            "nothing was measured"
        );
        assert!(
            most < 16 * 1024,
            "{kind:?}: {most} bytes for dropped waiters"
        );

        drive(&mut event_loop, "the two that wait on", || {
            peer.read_available();
            transport.write_buffer_size() == 0
        });
        assert!(answer(&mut drain).unwrap().is_ok());
        assert!(answer(&mut flush).unwrap().is_ok());

        let most = most_live(|_| {
            transport.call_later::<Recorder>(Duration::ZERO, |_, _| Ok(()));
            tick(&mut event_loop);
        });
        assert!(
            most < 16 * 1024,
            "{kind:?}: {most} bytes for timers that have fired"
        );

        stall(&mut event_loop, never_paused(&transport), 1000);
        let most = most_live(|n| {
            transport.close_within(Duration::from_secs(CALLS - n));
            tick(&mut event_loop);
        });
        assert!(
            most < 16 * 1024,
            "{kind:?}: {most} bytes for deadlines that were brought forward"
        );
    }
}

/// Makes many calls with their numbers; returns the most bytes that they had allocated at a time.
fn most_live(mut call: impl FnMut(u64)) -> i64 {
    let region = Region::new(GLOBAL);
    let live = |n| {
        call(n);
        let change = region.change();
        change.bytes_allocated as i64 - change.bytes_deallocated as i64
    };
    (0..CALLS).map(live).max().unwrap()
}
