//! Counts the allocations of the process.
//!
//! Large writes are not copied, and refused ones not kept.

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::io::IoSlice;
use std::rc::Rc;
use support::{Kind, Recorder, Scene, drive, never_paused, settle, stall, text};
use tidegate::{Transport, WriteLimits};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LARGE: usize = 100_000;

/// Bytes allocated by `call`.
fn allocated(call: impl FnOnce()) -> usize {
    let region = Region::new(GLOBAL);
    call();
    region.change().bytes_allocated
}

fn kernel_takes_all(transport: &Transport, data: &[u8]) {
    let used = allocated(|| {
        transport.write(data).unwrap();
    });
    assert!(used < 1000, "write allocated {used} bytes");
    let (front, back) = data.split_at(LARGE / 2);
    let slices = [IoSlice::new(front), IoSlice::new(back)];
    let used = allocated(|| {
        transport.write_vectored(&slices).unwrap();
    });
    assert!(used < 1000, "write_vectored allocated {used} bytes");
    assert_eq!(transport.sent(), transport.written());
}

#[test]
fn a_large_write_is_copied_only_to_wait_and_a_refused_one_is_not_kept() {
    for kind in Kind::ALL {
        println!("{kind:?}");
        let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
        settle(&mut event_loop);
        let data = Bytes::from(text(0, LARGE));
        kernel_takes_all(&transport, &data);
        drive(&mut event_loop, "the bytes", || {
            peer.read_available();
            peer.received().len() == 2 * LARGE
        });
        let done = Rc::new(Cell::new(false));
        let ran = done.clone();
        let copy = data.clone();
        transport.call_soon(move |_: &mut Recorder, transport| {
            kernel_takes_all(transport, &copy);
            ran.set(true);
            Ok(())
        });
        drive(&mut event_loop, "the callback", || done.get());

        // The kernel takes nothing: owned bytes wait as they are.
        stall(&mut event_loop, never_paused(&transport), 1000);
        let used = allocated(|| {
            transport.write_owned(data.clone()).unwrap();
            transport.write_owned(data.clone()).unwrap();
        });
        assert!(used < 10_000, "write_owned allocated {used} bytes");
        // The measure itself sees a copy.
        let used = allocated(|| {
            transport.write(&data).unwrap();
        });
        assert!(used >= LARGE, "a copy of {LARGE} bytes took {used}");

        // A callback that ignores every refusal.
        let cap = WriteLimits::new().with_high(0).with_cap(LARGE);
        transport.set_write_limits(cap).unwrap();
        let done = Rc::new(Cell::new(false));
        let ran = done.clone();
        transport.call_soon(move |_: &mut Recorder, transport| {
            let region = Region::new(GLOBAL);
            for _ in 0..100 {
                assert!(transport.write_owned(vec![0; LARGE]).is_err());
            }
            let change = region.change();
            let kept = change.bytes_allocated - change.bytes_deallocated;
            assert!(kept < LARGE, "{kept} bytes of refused writes are kept");
            ran.set(true);
            Ok(())
        });
        drive(&mut event_loop, "the refusals", || done.get());
    }
}
