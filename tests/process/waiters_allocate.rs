//! Counts the allocations of the process.
//!
//! What waiting costs in memory.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{Kind, Scene, answer, drive, limits, never_paused, put, settle, stall};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn known_answers_allocate_nothing_and_dropped_waiters_do_not_pile_up() {
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
        let mut most = 0;
        for _ in 0..20_000 {
            drop((transport.drain(), transport.flush()));
            let change = region.change();
            let live = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
            most = most.max(live);
        }
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
    }
}
