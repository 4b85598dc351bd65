//! The write budget: what all connections of a loop buffer together.

use socket2::Socket;
use std::io;
use std::time::Duration;
use support::{
    How, Kind, Log, MIB, Peer, Recorder, Scene, Wire, adopted, drive, each_kind, each_wire,
    failures, limits, no_limits, put, settle, stall, text,
};
use tidegate::{
    CloseReason, Closed, EventLoop, Flow, OnPause, PanicPolicy, Transport, WriteError, WriteLimits,
};

const BUDGET: usize = 4 * MIB;

/// The size of one write of a producer.
const PIECE: usize = 64 * 1024;

fn budgeted(bytes: usize) -> EventLoop {
    let builder = EventLoop::builder().panic_policy(PanicPolicy::Propagate);
    builder.write_budget(bytes).build().unwrap()
}

fn buffered(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().buffered as usize
}

/// Keeps the kernel from taking megabytes for each connection.
fn small(socket: &Socket) {
    socket.set_send_buffer_size(16 * 1024).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
}

/// Writes [`text`] in pieces, up to `most` bytes, until the transport is paused.
fn produce(transport: &Transport, most: usize) {
    while transport.written() < most as u64 {
        let len = PIECE.min(most - transport.written() as usize);
        if put(transport, len).is_paused() {
            return;
        }
    }
}

/// Writes until it is paused, and goes on when it is resumed.
fn producer(log: &Log, most: usize) -> Recorder {
    let go_on = move |transport: &Transport| {
        produce(transport, most);
        Ok(())
    };
    Recorder::new(log).on_made(go_on).on_resume(go_on)
}

fn assert_ended_for_memory(log: &Log, transport: &Transport, peer: &mut Peer) {
    let closed = log.closed();
    assert_eq!(*closed.reason(), CloseReason::Memory);
    assert_eq!(closed.unsent(), transport.written() - transport.sent());
    assert!(closed.unsent() > 0);
    assert_eq!(io::Error::from(closed).kind(), io::ErrorKind::OutOfMemory);
    while !peer.is_ended() {
        peer.read_available();
    }
    assert_eq!(peer.saw_error().is_some(), peer.is_tcp(), "a reset");
}

each_wire!(sixteen_producers_that_heed_flow_stay_below_the_budget_and_none_waits_for_ever);
fn sixteen_producers_that_heed_flow_stay_below_the_budget_and_none_waits_for_ever(wire: Wire) {
    const ALL: usize = 2 * MIB;
    let mut event_loop = budgeted(BUDGET);
    let large = || limits(8 * MIB, 8 * MIB);
    let mut producers: Vec<_> = (0..16)
        .map(|_| {
            let log = Log::new();
            let scene = wire.scene().sockets(small).limits(large());
            let (transport, peer) = scene.on(&mut event_loop, producer(&log, ALL));
            (log, transport, peer)
        })
        .collect();
    settle(&mut event_loop);
    let used = buffered(&event_loop);
    assert!(used > BUDGET / 2, "{used} of {BUDGET} bytes are used");
    assert!(used < BUDGET, "{used} of {BUDGET} bytes are used");
    for (_, transport, _) in &producers {
        assert_eq!(transport.flow(), Flow::Paused, "{transport:?}");
        assert_eq!(transport.closed(), None);
        assert_eq!(transport.write_limits(), large(), "what was set");
    }

    // One beside them is served, whose reply does not fit into the kernel.
    let log = Log::new();
    let echo = wire.scene().sockets(small);
    let (_, mut peer) = echo.on(&mut event_loop, Recorder::echo(&log));
    let request = text(0, MIB);
    let mut sent = 0;
    drive(&mut event_loop, "the echo", || {
        sent += peer.write(&request[sent..]);
        peer.read_available();
        peer.received().len() == request.len()
    });
    assert!(peer.received() == request);
    assert!(buffered(&event_loop) < BUDGET);

    // One after the other goes on as its own peer reads.
    for (_, transport, peer) in producers.iter_mut().rev() {
        peer.expect(&mut event_loop, ALL);
        assert!(peer.received() == text(0, ALL));
        assert_eq!(transport.closed(), None);
    }
    assert_eq!(buffered(&event_loop), 0);
    for (log, _, _) in &producers {
        assert_eq!(log.take_violations(), [""; 0]);
    }
}

each_wire!(bytes_that_a_change_of_the_limits_queues_keep_to_the_budget);
fn bytes_that_a_change_of_the_limits_queues_keep_to_the_budget(wire: Wire) {
    let mut event_loop = budgeted(BUDGET);
    let log = Log::new();
    let scene = wire.scene().sockets(small).limits(no_limits());
    let (full, mut peer) = scene.on(&mut event_loop, Recorder::new(&log));
    put(&full, 2 * BUDGET);
    settle(&mut event_loop);
    assert!(buffered(&event_loop) >= BUDGET);
    let other = Log::new();
    let gathers = Recorder::new(&other).on_made(|transport| {
        transport.write(b"gathered")?;
        transport.set_write_limits(limits(MIB, MIB))?;
        Ok(())
    });
    let (transport, _peer) = wire.scene().on(&mut event_loop, gathers);
    settle(&mut event_loop);
    assert!(log.is_lost(), "{} bytes", buffered(&event_loop));
    assert_ended_for_memory(&log, &full, &mut peer);
    assert_eq!(transport.closed(), None);
}

each_wire!(one_that_ignores_flow_ends_for_memory_and_the_others_go_on);
fn one_that_ignores_flow_ends_for_memory_and_the_others_go_on(wire: Wire) {
    let mut event_loop = budgeted(BUDGET);
    let mut honest: Vec<_> = (0..8)
        .map(|_| {
            let log = Log::new();
            let scene = wire.scene().sockets(small);
            let (transport, peer) = scene.on(&mut event_loop, producer(&log, MIB));
            (transport, peer)
        })
        .collect();
    let log = Log::new();
    let scene = wire.scene().sockets(small).limits(no_limits());
    let (transport, mut peer) = scene.on(&mut event_loop, Recorder::new(&log));
    settle(&mut event_loop);
    let refusal = loop {
        match How::Slice.put(&transport, PIECE) {
            Ok(_) => settle(&mut event_loop),
            Err(refusal) => break refusal,
        }
        let used = buffered(&event_loop);
        assert!(used < BUDGET + PIECE, "{used} of {BUDGET} bytes are used");
    };
    let closed = refusal.closed().unwrap();
    assert_eq!(*closed.reason(), CloseReason::Memory);
    settle(&mut event_loop);
    assert_ended_for_memory(&log, &transport, &mut peer);
    for (transport, peer) in &mut honest {
        assert_eq!(transport.closed(), None);
        peer.expect(&mut event_loop, MIB);
        assert!(peer.received() == text(0, MIB));
    }
    assert_eq!(buffered(&event_loop), 0);
}

each_wire!(the_connection_with_the_most_ends_and_not_the_one_that_writes);
fn the_connection_with_the_most_ends_and_not_the_one_that_writes(wire: Wire) {
    for ending in [false, true] {
        let mut event_loop = budgeted(BUDGET);
        let mut scene = |least| {
            let log = Log::new();
            let scene = wire.scene().sockets(small).limits(no_limits());
            let (transport, peer) = scene
                .stalled(least)
                .on(&mut event_loop, Recorder::new(&log));
            (log, transport, peer)
        };
        let (_, small, mut peer_of_small) = scene(1000);
        let (log, most, mut peer_of_most) = scene(MIB);
        let (_, less, _peer) = scene(MIB / 2);
        put(&most, BUDGET);
        if ending {
            most.close();
        }
        settle(&mut event_loop);
        assert!(buffered(&event_loop) >= BUDGET);
        assert!(!log.is_lost(), "one write is taken beyond the budget");
        put(&small, 1000);
        assert!(matches!(most.closed(), Some(closed) if *closed.reason() == CloseReason::Memory));
        settle(&mut event_loop);
        assert_ended_for_memory(&log, &most, &mut peer_of_most);
        assert_eq!((small.closed(), less.closed()), (None, None));
        peer_of_small.expect_text(&mut event_loop, &small);
    }
}

each_wire!(one_write_larger_than_the_budget_is_taken_and_the_next_ends_it);
fn one_write_larger_than_the_budget_is_taken_and_the_next_ends_it(wire: Wire) {
    for how in How::ALL {
        let mut event_loop = budgeted(1000);
        let log = Log::new();
        let scene = wire.scene().sockets(small).limits(no_limits());
        let (transport, mut peer) = scene.on(&mut event_loop, Recorder::new(&log));
        settle(&mut event_loop);
        assert!(how.put(&transport, MIB).unwrap().is_paused(), "{how:?}");
        settle(&mut event_loop);
        peer.expect_text(&mut event_loop, &transport);
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause", "resume"]);
        // A peer that reads makes room before the next.
        assert!(how.put(&transport, MIB).unwrap().is_paused());
        settle(&mut event_loop);
        let written = transport.written();
        let refusal = how.put(&transport, PIECE).unwrap_err();
        assert!(matches!(refusal, WriteError::Closed { .. }), "{refusal}");
        assert_eq!(transport.written(), written + PIECE as u64);
        settle(&mut event_loop);
        assert_ended_for_memory(&log, &transport, &mut peer);
        assert_eq!(buffered(&event_loop), 0);
    }
}

each_wire!(small_writes_of_a_callback_are_paused_where_nothing_is_left);
fn small_writes_of_a_callback_are_paused_where_nothing_is_left(wire: Wire) {
    let mut event_loop = budgeted(BUDGET);
    let scene = wire.scene().sockets(small).limits(no_limits());
    let _full = scene
        .stalled(BUDGET / 4 * 3)
        .on(&mut event_loop, Recorder::new(&Log::new()));
    let log = Log::new();
    // Less than the high-water mark of its own.
    let writer = Recorder::new(&log).on_data(|transport, _| {
        while transport.write_buffer_size() + 1000 < 60_000 {
            assert_eq!(put(transport, 1000), Flow::Open);
        }
        Ok(())
    });
    let (transport, mut peer) = wire.scene().sockets(small).on(&mut event_loop, writer);
    while !transport.flow().is_paused() {
        assert_eq!(transport.write_buffer_size(), 0, "{transport:?}");
        peer.send(b"go");
        settle(&mut event_loop);
    }
    assert_eq!(log.words().last().unwrap(), "pause");
    // Its own progress resumes it, though there is no more room than before.
    peer.expect_text(&mut event_loop, &transport);
    settle(&mut event_loop);
    assert_eq!(log.words().last().unwrap(), "resume");
    assert!(buffered(&event_loop) >= BUDGET / 4 * 3);
}

each_wire!(small_writes_of_a_callback_end_the_largest_at_the_budget);
fn small_writes_of_a_callback_end_the_largest_at_the_budget(wire: Wire) {
    let mut event_loop = budgeted(BUDGET);
    let log = Log::new();
    let scene = wire.scene().sockets(small).limits(no_limits());
    let scene = scene.stalled(1000);
    let (most, mut peer_of_most) = scene.on(&mut event_loop, Recorder::new(&log));
    put(&most, BUDGET);
    let writer = Recorder::new(&Log::new()).on_data(|transport, _| {
        put(transport, 1000);
        Ok(())
    });
    let (transport, mut peer) = wire.scene().sockets(small).on(&mut event_loop, writer);
    while transport.write_buffer_size() == 0 {
        assert_eq!(most.closed(), None);
        peer.send(b"go");
        settle(&mut event_loop);
    }
    assert_ended_for_memory(&log, &most, &mut peer_of_most);
    peer.expect_text(&mut event_loop, &transport);
}

each_wire!(small_pieces_of_one_callback_are_offered_before_they_fill_the_budget);
fn small_pieces_of_one_callback_are_offered_before_they_fill_the_budget(wire: Wire) {
    const ALL: u64 = MIB as u64;
    let mut event_loop = budgeted(MIB / 4);
    let log = Log::new();
    let go_on = |transport: &Transport| {
        while transport.written() < ALL && !put(transport, 1000).is_paused() {}
        Ok(())
    };
    let writer = Recorder::new(&log).on_made(go_on).on_resume(go_on);
    let scene = wire.scene().limits(limits(8 * MIB, 8 * MIB));
    let (transport, mut peer) = scene.on(&mut event_loop, writer);
    drive(&mut event_loop, "all bytes", || {
        peer.read_available();
        assert_eq!(transport.closed(), None);
        transport.written() >= ALL
    });
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(new_limits_hold_as_far_as_the_budget_lets_them);
fn new_limits_hold_as_far_as_the_budget_lets_them(kind: Kind) {
    let mut event_loop = budgeted(BUDGET);
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind).sockets(small).on(
        &mut event_loop,
        Recorder::new(&log).on_pause(|_| Ok(OnPause::KeepReading)),
    );
    settle(&mut event_loop);
    let set = |limits: WriteLimits| {
        transport.set_write_limits(limits).unwrap();
        transport.flow()
    };
    // The high-water mark is now what is left of three quarters.
    set(no_limits());
    let mut held = 0;
    while put(&transport, PIECE) == Flow::Open {
        held = transport.write_buffer_size();
        settle(&mut event_loop);
        assert!(held < BUDGET);
    }
    assert!(held <= BUDGET / 8 * 3, "open with {held} bytes");
    let held = transport.write_buffer_size();
    assert!(held > BUDGET / 8 * 3 - PIECE, "paused with {held} bytes");
    // No limit of its own lifts that.
    assert_eq!(set(limits(8 * MIB, 8 * MIB)), Flow::Paused);
    assert_eq!(set(no_limits()), Flow::Paused);
    // One below holds.
    let low = held / 64;
    set(limits(low, low));
    let all = transport.written() as usize;
    drive(&mut event_loop, "the resume", || {
        if transport.flow().is_paused() {
            assert!(transport.write_buffer_size() > low);
            peer.read_some(1000);
        }
        !transport.flow().is_paused()
    });
    assert!(transport.write_buffer_size() <= low);
    peer.expect(&mut event_loop, all);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "resume"]);
    // While much is left, all is as without a budget.
    set(limits(PIECE, PIECE));
    stall(&mut event_loop, &transport, 2 * PIECE);
    drive(&mut event_loop, "the resume", || {
        peer.read_some(1000);
        !transport.flow().is_paused()
    });
    assert!(transport.write_buffer_size() > PIECE / 4, "{transport:?}");
}

each_wire!(nothing_is_left_in_the_account_after_any_end);
fn nothing_is_left_in_the_account_after_any_end(wire: Wire) {
    type End = fn(&mut EventLoop, &Transport, &mut Peer);
    let ends: [(&str, End); 10] = [
        ("all is sent", |event_loop, transport, peer| {
            peer.expect_text(event_loop, transport);
            transport.abort();
        }),
        ("abort", |_, transport, _| transport.abort()),
        ("reset", |_, transport, _| transport.reset()),
        ("close", |event_loop, transport, peer| {
            transport.close();
            peer.expect_text(event_loop, transport);
            peer.close();
        }),
        ("close, and the peer resets", |_, transport, peer| {
            transport.close();
            peer.reset();
        }),
        ("a deadline", |_, transport, _| {
            transport.close_within(Duration::ZERO);
        }),
        ("write timeout", |_, transport, _| {
            transport.set_write_timeout(Some(Duration::ZERO));
        }),
        (
            "a write fails, and nothing is read",
            |event_loop, transport, peer| {
                transport.pause_reading();
                peer.close();
                settle(event_loop);
                // It may have failed already.
                let _ = How::Slice.put(transport, PIECE);
                assert_eq!(buffered(event_loop), 0);
                transport.abort();
            },
        ),
        ("an error of a callback", |_, transport, _| {
            transport.call_soon(|_: &mut Recorder, _| Err("a fault".into()));
        }),
        ("a panic", |_, transport, _| {
            transport.call_soon(|_: &mut Recorder, transport| {
                put(transport, 1000);
                panic!("a fault")
            });
        }),
    ];
    for (name, end) in ends {
        let builder = EventLoop::builder().write_budget(BUDGET);
        let mut event_loop = builder.build().unwrap();
        event_loop.handle().set_error_handler(|_, _| {});
        let log = Log::new();
        let scene = wire.scene().sockets(small).limits(no_limits());
        let (transport, mut peer) = scene.stalled(MIB).on(&mut event_loop, Recorder::new(&log));
        assert!(buffered(&event_loop) >= MIB, "{name}");
        end(&mut event_loop, &transport, &mut peer);
        drive(&mut event_loop, name, || log.is_lost());
        assert_eq!(buffered(&event_loop), 0, "{name}");
    }
    let mut event_loop = budgeted(BUDGET);
    let scene = wire.scene().sockets(small).limits(no_limits());
    let _ends = scene
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&Log::new()));
    let handle = event_loop.handle().clone();
    drop(event_loop);
    assert_eq!(handle.stats().buffered, 0, "the end of the loop");
}

each_kind!(the_output_of_layers_counts);
fn the_output_of_layers_counts(kind: Kind) {
    // Without a budget too.
    for mut event_loop in [budgeted(BUDGET), EventLoop::new().unwrap()] {
        let log = Log::new();
        let scene = Wire::layered(kind).scene().sockets(small);
        let scene = scene.limits(no_limits()).stalled(MIB);
        let (transport, mut peer) = scene.on(&mut event_loop, Recorder::new(&log));
        let used = buffered(&event_loop);
        let output = used - transport.write_buffer_size();
        assert!(output > PIECE, "{output} bytes of output");
        peer.expect_text(&mut event_loop, &transport);
        assert_eq!(buffered(&event_loop), 0);
    }
}

each_kind!(the_loop_tells_the_sum_of_its_buffers);
fn the_loop_tells_the_sum_of_its_buffers(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let scene = |least| {
        Scene::of(kind)
            .sockets(small)
            .limits(no_limits())
            .stalled(least)
    };
    let connections: Vec<_> = [1000, PIECE, MIB]
        .map(|least| scene(least).on(&mut event_loop, Recorder::new(&Log::new())))
        .into_iter()
        .collect();
    let sizes = connections.iter().map(|(one, _)| one.write_buffer_size());
    assert_eq!(buffered(&event_loop), sizes.sum());
    // Without a budget nothing ends.
    put(&connections[0].0, 64 * MIB);
    assert!(connections.iter().all(|(one, _)| one.closed().is_none()));
}

each_kind!(a_callback_that_passes_the_refusal_on_has_not_failed);
fn a_callback_that_passes_the_refusal_on_has_not_failed(kind: Kind) {
    let mut event_loop = budgeted(BUDGET);
    let failures = failures(event_loop.handle());
    let log = Log::new();
    let writer = Recorder::new(&log).on_data(|transport, _| {
        loop {
            How::Slice.put(transport, PIECE)?;
        }
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, writer);
    transport.set_write_limits(no_limits()).unwrap();
    peer.send(b"go");
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_ended_for_memory(&log, &transport, &mut peer);
    assert!(failures.borrow().is_empty(), "{failures:?}");
    assert_eq!(buffered(&event_loop), 0);
}

#[test]
fn a_budget_of_zero_is_refused() {
    let error = EventLoop::builder().write_budget(0).build().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(Closed::of(&error).is_none());
}
