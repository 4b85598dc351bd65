//! Counts the allocations of the process.
//!
//! The memory that a connection keeps beside its fixed size.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{Kind, Log, MIB, Recorder, Scene, drive, never_paused, settle, stall, tick};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test, because others would be counted.
#[test]
fn a_connection_has_memory_only_for_what_it_was_asked_for() {
    for kind in Kind::ALL {
        nobody_waits(kind);
        the_end_gives_back(kind);
    }
}

/// A write that the kernel takes whole looks for no waiters where there never were any.
fn nobody_waits(kind: Kind) {
    let (mut event_loop, _log, other, _other_peer) = Scene::of(kind).set();
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::default());
    // The lists of the loop get their memory.
    for _ in 0..10 {
        other.write(b"x").unwrap();
        tick(&mut event_loop);
    }
    let large = [b'x'; 32 * 1024];
    let region = Region::new(GLOBAL);
    transport.write(&large).unwrap();
    let change = region.change();
    assert_eq!(transport.write_buffer_size(), 0);
    assert_eq!((change.allocations, change.reallocations), (0, 0));
    peer.expect(&mut event_loop, large.len());
}

/// A handle that is kept after the end keeps neither unsent bytes nor unread ones.
fn the_end_gives_back(kind: Kind) {
    let (mut event_loop, _log, transport, _peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    let unread = vec![b'x'; MIB];
    let region = Region::new(GLOBAL);
    stall(&mut event_loop, never_paused(&transport), MIB);
    transport.pause_reading();
    let new = Log::new().switched_in();
    transport
        .set_protocol(Recorder::new(&new), &unread)
        .unwrap();
    settle(&mut event_loop);
    let kept = || {
        let change = region.change();
        change.bytes_allocated as i64 - change.bytes_deallocated as i64
    };
    assert!(kept() > 2 * MIB as i64, "nothing was measured");
    transport.abort();
    drive(&mut event_loop, "the end", || new.is_lost());
    settle(&mut event_loop);
    assert!(kept() < MIB as i64 / 2, "{} bytes are kept", kept());
}
