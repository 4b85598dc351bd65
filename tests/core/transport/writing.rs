//! When the bytes of a write go to the kernel: how many system calls, and at which moment.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::{
    How, Kind, Log, Recorder, Scene, adopted, drive, each_kind, limits, never_paused, no_limits,
    put, run_in, settle, stall, strict_loop, text, tick, writes,
};
use tidegate::{EventLoop, Flow, Transport};

/// Small writes of every kind; says that none of it goes out within the calls.
fn put_small(transport: &Transport) {
    let before = (writes(transport.handle()), transport.sent());
    for how in How::ALL.into_iter().chain(How::ALL) {
        assert_eq!(how.put(transport, 100).unwrap(), Flow::Open);
    }
    let after = (writes(transport.handle()), transport.sent());
    assert_eq!(before, after, "sent within the call");
}

type Run = fn(&mut EventLoop, &Transport, &mut support::Peer);

each_kind!(small_writes_of_a_callback_go_out_in_one_call_after_it_has_returned);
fn small_writes_of_a_callback_go_out_in_one_call_after_it_has_returned(kind: Kind) {
    fn run(_: &mut Recorder, transport: &Transport) -> tidegate::Result {
        put_small(transport);
        Ok(())
    }
    let callbacks: [(&str, Run); 7] = [
        ("made", |_, _, _| {}),
        ("data", |_, _, peer| peer.send(b"d")),
        ("eof", |_, _, peer| peer.shutdown_write()),
        ("call_soon", |_, transport, _| {
            transport.call_soon(run);
        }),
        ("call_later", |_, transport, _| {
            transport.call_later(Duration::ZERO, run);
        }),
        ("then_on", |_, transport, _| {
            let done = transport.drain();
            done.then_on(transport, |this: &mut Recorder, transport, result| {
                result?;
                run(this, transport)
            });
        }),
        ("set_protocol", |_, transport, _| {
            let log = Log::new().switched_in();
            let next = Recorder::new(&log).on_data(|transport, _| {
                put_small(transport);
                Ok(())
            });
            transport.set_protocol(next, b"unread").unwrap();
        }),
    ];
    for (name, cause) in callbacks {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let calls = Rc::new(Cell::new(0));
        let made = calls.clone();
        let protocol = Recorder::new(&log)
            .on_made(move |transport| {
                made.set(writes(transport.handle()));
                put_small(transport);
                Ok(())
            })
            .on_data(|transport, _| {
                put_small(transport);
                Ok(())
            })
            .on_eof(|transport| {
                put_small(transport);
                Ok(tidegate::OnEof::KeepOpen)
            });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        assert_eq!(writes(event_loop.handle()), calls.get() + 1, "made");
        assert_eq!(transport.sent(), 800);
        if name != "made" {
            cause(&mut event_loop, &transport, &mut peer);
            drive(&mut event_loop, name, || transport.written() == 1600);
            assert_eq!(transport.sent(), 1600, "{name}: not before the tick's end");
            assert_eq!(writes(event_loop.handle()), calls.get() + 2, "{name}");
        }
        peer.expect(&mut event_loop, transport.written() as usize);
        assert_eq!(peer.received(), text(0, transport.written() as usize));
    }
}

each_kind!(small_writes_of_pause_and_resume_go_out_in_one_call_each);
fn small_writes_of_pause_and_resume_go_out_in_one_call_each(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let calls = Rc::new(Cell::new(0));
    let at_resume = calls.clone();
    let protocol = Recorder::new(&log).on_resume(move |transport| {
        at_resume.set(writes(transport.handle()));
        put_small(transport);
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    stall(&mut event_loop, never_paused(&transport), 1000);
    let marks = limits(transport.write_buffer_size() - 1, 0);
    transport.set_write_limits(marks).unwrap();
    drive(&mut event_loop, "resume", || {
        peer.read_available();
        calls.get() > 0
    });
    assert_eq!(writes(event_loop.handle()), calls.get() + 1);
    assert_eq!(transport.sent(), transport.written());
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(writes_from_outside_go_out_in_one_call_at_the_end_of_the_tick);
fn writes_from_outside_go_out_in_one_call_at_the_end_of_the_tick(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    // Outside of all callbacks.
    let mut before = writes(event_loop.handle());
    let mut check = |event_loop: &mut EventLoop, written| {
        assert_eq!(transport.written(), written);
        assert_eq!(transport.sent(), written);
        before += 1;
        assert_eq!(writes(event_loop.handle()), before);
    };
    put_small(&transport);
    tick(&mut event_loop);
    check(&mut event_loop, 800);
    // In a callback of the loop, of a timer, of another connection: the same tick.
    let target = transport.clone();
    event_loop.handle().call_soon(move |_| put_small(&target));
    tick(&mut event_loop);
    check(&mut event_loop, 1600);
    let target = transport.clone();
    event_loop
        .handle()
        .call_later(Duration::ZERO, move |_| put_small(&target));
    tick(&mut event_loop);
    check(&mut event_loop, 2400);
    let other_log = Log::new();
    let target = transport.clone();
    let relay = Recorder::new(&other_log).on_data(move |_, _| {
        put_small(&target);
        Ok(())
    });
    let (_, mut other) = adopted(event_loop.handle(), kind, relay);
    other.send(b"x");
    drive(&mut event_loop, "the relay", || {
        !other_log.data().is_empty()
    });
    check(&mut event_loop, 3200);
    peer.expect(&mut event_loop, 3200);
    assert_eq!(peer.received(), text(0, 3200));
}

each_kind!(a_large_write_and_one_above_high_go_to_the_kernel_within_the_call);
fn a_large_write_and_one_above_high_go_to_the_kernel_within_the_call(kind: Kind) {
    const LARGE: usize = 64 * 1024;
    let all = [false, true].map(|inside| How::ALL.map(|how| (inside, how)));
    for (inside, how) in all.into_iter().flatten() {
        let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
        settle(&mut event_loop);
        let at_once = move |transport: &Transport, len| {
            let before = writes(transport.handle());
            assert_eq!(how.put(transport, len).unwrap(), Flow::Open);
            assert_eq!(writes(transport.handle()), before + 1, "{how:?}");
            assert_eq!(transport.sent(), transport.written(), "{how:?}");
        };
        // Large, with nothing buffered.
        run_in(&mut event_loop, &transport, inside, move |transport| {
            transport.set_write_limits(limits(10 * LARGE, 0)).unwrap();
            at_once(transport, LARGE);
        });
        peer.expect(&mut event_loop, LARGE);
        // Small, but above high.
        run_in(&mut event_loop, &transport, inside, move |transport| {
            transport.set_write_limits(limits(9, 0)).unwrap();
            at_once(transport, 10);
            // The first is at the mark; the second takes it along in one call.
            let before = writes(transport.handle());
            how.put(transport, 9).unwrap();
            assert_eq!(writes(transport.handle()), before);
            at_once(transport, 1);
        });
        // Large, but something is buffered before it: small writes and it go together later.
        let calls = Rc::new(Cell::new(0));
        let before = calls.clone();
        run_in(&mut event_loop, &transport, inside, move |transport| {
            transport.set_write_limits(limits(10 * LARGE, 0)).unwrap();
            before.set(writes(transport.handle()));
            how.put(transport, 9).unwrap();
            how.put(transport, LARGE).unwrap();
            assert_eq!(writes(transport.handle()), before.get());
        });
        if !inside {
            tick(&mut event_loop);
        }
        assert_eq!(writes(event_loop.handle()), calls.get() + 1);
        assert_eq!(transport.sent(), transport.written());
        peer.expect_text(&mut event_loop, &transport);
    }
}

each_kind!(a_kernel_that_has_refused_is_not_asked_again_before_its_writable_event);
fn a_kernel_that_has_refused_is_not_asked_again_before_its_writable_event(kind: Kind) {
    for inside in [false, true] {
        let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
        let before = writes(event_loop.handle());
        // Even when there is room again: the loop has not seen it yet.
        peer.read_available();
        run_in(&mut event_loop, &transport, false, |transport| {
            put(transport, 1);
            put(transport, 100_000);
            transport.set_write_limits(limits(0, 0)).unwrap();
            assert!(put(transport, 100_000).is_paused());
        });
        assert_eq!(writes(event_loop.handle()), before);
        if inside {
            peer.send(b"x");
        }
        tick(&mut event_loop);
        assert!(
            writes(event_loop.handle()) > before,
            "the event was not used"
        );
        peer.expect_text(&mut event_loop, &transport);
    }
}

#[test]
fn a_part_taken_is_a_refusal_of_the_rest() {
    let (mut event_loop, _, transport, _peer) = Scene::of(Kind::Unix).strict().set();
    settle(&mut event_loop);
    // Less than one call is offered, more than the socket holds.
    assert!(put(&transport, 1_000_000).is_paused());
    assert!(transport.sent() > 0);
    assert!(put(&transport, 1_000_000).is_paused());
    assert_eq!(writes(event_loop.handle()), 1);
}

each_kind!(a_tick_sends_at_most_a_mebibyte_of_a_transport_in_a_bounded_number_of_calls);
fn a_tick_sends_at_most_a_mebibyte_of_a_transport_in_a_bounded_number_of_calls(kind: Kind) {
    const MEBIBYTE: u64 = 1 << 20;
    for (count, piece) in [(400, 10_000), (4000, 1)] {
        let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
        settle(&mut event_loop);
        transport.set_write_limits(no_limits()).unwrap();
        for _ in 0..count {
            How::Owned.put(&transport, piece).unwrap();
        }
        assert_eq!(transport.sent(), 0);
        let mut before = (0, writes(event_loop.handle()));
        let mut most = 0;
        drive(&mut event_loop, "all of it", || {
            let now = (transport.sent(), writes(transport.handle()));
            let (moved, calls) = (now.0 - before.0, now.1 - before.1);
            assert!(moved <= MEBIBYTE, "{moved} bytes in one tick");
            assert!(calls <= 16, "{calls} calls in one tick");
            most = most.max(moved);
            before = now;
            peer.read_available();
            transport.sent() == transport.written()
        });
        // The bounds are reached: by bytes where the kernel takes them, by calls anywhere.
        if piece == 1 {
            assert!(most < transport.written(), "all in one tick");
        } else if kind == Kind::Tcp {
            assert_eq!(most, MEBIBYTE);
        }
        peer.expect_text(&mut event_loop, &transport);
    }
}

#[test]
fn one_system_call_is_offered_at_most_a_mebibyte() {
    let (mut event_loop, _, transport, mut peer) = Scene::of(Kind::Tcp).strict().set();
    settle(&mut event_loop);
    put(&transport, 16 << 20);
    let calls = writes(event_loop.handle());
    let sent = transport.sent();
    assert!(sent > 1 << 20, "the kernel took only {sent} bytes");
    assert!(sent <= calls << 20, "{sent} bytes in {calls} calls");
    peer.expect_text(&mut event_loop, &transport);
}

#[test]
fn the_unsent_low_water_mark_bounds_a_tcp_kernel_and_is_unsupported_on_unix() {
    let mut taken = Vec::new();
    for mark in [None, Some(4096)] {
        let (mut event_loop, _, transport, mut peer) = Scene::of(Kind::Tcp).strict().set();
        transport.set_unsent_low_water(mark).unwrap();
        stall(&mut event_loop, never_paused(&transport), 1000);
        taken.push(transport.sent());
        peer.expect(&mut event_loop, transport.written() as usize);
        transport.abort();
        settle(&mut event_loop);
        let error = transport.set_unsent_low_water(mark).unwrap_err();
        assert!(tidegate::Closed::of(&error).is_some(), "{error}");
    }
    assert!(taken[1] < taken[0], "{taken:?}");

    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Unix).strict().set();
    let error = transport.set_unsent_low_water(Some(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}
