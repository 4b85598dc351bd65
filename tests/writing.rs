//! When the bytes of a write go to the kernel: how many system calls, and at which moment.

use bytes::Bytes;
use std::cell::Cell;
use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tests::{
    How, Kind, Log, Recorder, adopted, adopted_with, clog, drive, limits, no_limits, put, settle,
    strict_loop, text,
};
use tidegate::{EventLoop, Flow, Handle, Transport, WriteError};

fn writes(handle: &Handle) -> u64 {
    handle.snapshot().writes
}

fn turn(event_loop: &mut EventLoop) {
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
}

/// Small writes of every kind; says that none of it goes out within the calls.
fn put_small(transport: &Transport) {
    let before = (writes(transport.handle()), transport.sent());
    for how in How::ALL.into_iter().chain(How::ALL) {
        assert_eq!(how.put(transport, 100).unwrap(), Flow::Open);
    }
    let after = (writes(transport.handle()), transport.sent());
    assert_eq!(before, after, "sent within the call");
}

type Run = fn(&mut EventLoop, &Transport, &mut tests::Peer);

#[test]
fn small_writes_of_a_callback_go_out_in_one_call_after_it_has_returned() {
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
    for (kind, (name, cause)) in Kind::ALL
        .into_iter()
        .flat_map(|kind| callbacks.map(|case| (kind, case)))
    {
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
            assert_eq!(transport.sent(), 1600, "{name}: not before the turn's end");
            assert_eq!(writes(event_loop.handle()), calls.get() + 2, "{name}");
        }
        peer.expect(&mut event_loop, transport.written() as usize);
        assert_eq!(peer.received(), text(0, transport.written() as usize));
    }
}

#[test]
fn small_writes_of_pause_and_resume_go_out_in_one_call_each() {
    for kind in Kind::ALL {
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
        clog(&mut event_loop, &transport);
        let marks = limits(transport.write_buffer_size() - 1, 0);
        transport.set_write_limits(marks).unwrap();
        drive(&mut event_loop, "resume", || {
            peer.read_available();
            calls.get() > 0
        });
        assert_eq!(writes(event_loop.handle()), calls.get() + 1);
        assert_eq!(transport.sent(), transport.written());
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn writes_from_outside_go_out_in_one_call_at_the_end_of_the_turn() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
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
        turn(&mut event_loop);
        check(&mut event_loop, 800);
        // In a callback of the loop, of a timer, of another connection: the same turn.
        let target = transport.clone();
        event_loop.handle().call_soon(move |_| put_small(&target));
        turn(&mut event_loop);
        check(&mut event_loop, 1600);
        let target = transport.clone();
        event_loop
            .handle()
            .call_later(Duration::ZERO, move |_| put_small(&target));
        turn(&mut event_loop);
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
}

/// Runs `call` outside of callbacks, or as one of the transport.
fn run_in(
    event_loop: &mut EventLoop,
    transport: &Transport,
    inside: bool,
    call: impl FnOnce(&Transport) + 'static,
) {
    if !inside {
        call(transport);
        return;
    }
    let done = Rc::new(Cell::new(false));
    let ran = done.clone();
    transport.call_soon(move |_: &mut Recorder, transport| {
        call(transport);
        ran.set(true);
        Ok(())
    });
    turn(event_loop);
    assert!(done.get());
}

#[test]
fn a_large_write_and_one_above_high_go_to_the_kernel_within_the_call() {
    const LARGE: usize = 64 * 1024;
    for (kind, inside, how) in Kind::ALL.into_iter().flat_map(|kind| {
        let hows = move |inside| How::ALL.map(|how| (kind, inside, how));
        hows(false).into_iter().chain(hows(true))
    }) {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
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
            turn(&mut event_loop);
        }
        assert_eq!(writes(event_loop.handle()), calls.get() + 1);
        assert_eq!(transport.sent(), transport.written());
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn a_kernel_that_has_refused_is_not_asked_again_before_its_writable_event() {
    for (kind, inside) in Kind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
    {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
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
        turn(&mut event_loop);
        assert!(
            writes(event_loop.handle()) > before,
            "the event was not used"
        );
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn a_part_taken_is_a_refusal_of_the_rest() {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
    settle(&mut event_loop);
    // Less than one call is offered, more than the socket holds.
    assert!(put(&transport, 1_000_000).is_paused());
    assert!(transport.sent() > 0);
    assert!(put(&transport, 1_000_000).is_paused());
    assert_eq!(writes(event_loop.handle()), 1);
}

#[test]
fn more_slices_and_more_owned_chunks_than_the_system_takes_in_one_call_go_in_order() {
    const COUNT: usize = 5000;
    for (kind, clogged, inside) in Kind::ALL.into_iter().flat_map(|kind| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(clogged, inside)| (kind, clogged, inside))
    }) {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        if clogged {
            clog(&mut event_loop, &transport);
        }
        transport.set_write_limits(no_limits()).unwrap();
        run_in(&mut event_loop, &transport, inside, |transport| {
            for size in [3, 20] {
                let data = text(transport.written(), COUNT * size);
                let empty = IoSlice::new(&[]);
                let slices: Vec<_> = data
                    .chunks(size)
                    .flat_map(|chunk| [IoSlice::new(chunk), empty])
                    .collect();
                assert_eq!(slices.len(), 2 * COUNT);
                assert_eq!(transport.write_vectored(&slices).unwrap(), Flow::Open);
                for chunk in 0..COUNT {
                    let written = transport.written();
                    How::Owned.put(transport, 1 + chunk % size).unwrap();
                    assert_eq!(transport.written(), written + 1 + (chunk % size) as u64);
                }
            }
        });
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn an_empty_write_is_no_write_whatever_the_state() {
    fn empty_writes(transport: &Transport) {
        let before = (transport.stats(), writes(transport.handle()));
        let flow = transport.flow();
        let empty = IoSlice::new(&[]);
        assert_eq!(transport.write(b"").unwrap(), flow);
        assert_eq!(transport.write_owned(Bytes::new()).unwrap(), flow);
        assert_eq!(transport.write_vectored(&[]).unwrap(), flow);
        assert_eq!(transport.write_vectored(&[empty; 3]).unwrap(), flow);
        assert_eq!(write!(transport, "").unwrap(), flow);
        assert_eq!(write!(transport, "{}", String::new()).unwrap(), flow);
        assert_eq!((transport.stats(), writes(transport.handle())), before);
    }
    for (kind, clogged) in Kind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
    {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log).on_data(|transport, _| {
            empty_writes(transport);
            Ok(())
        });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        empty_writes(&transport);
        settle(&mut event_loop);
        assert_eq!(writes(event_loop.handle()), 0);
        if clogged {
            clog(&mut event_loop, &transport);
        }
        peer.send(b"x");
        settle(&mut event_loop);
        // Between others they leave no trace, and the close is not kept waiting.
        put(&transport, 5);
        empty_writes(&transport);
        put(&transport, 5);
        empty_writes(&transport);
        transport.close();
        empty_writes(&transport);
        peer.expect_end(&mut event_loop);
        assert!(peer.received() == text(0, transport.written() as usize));
        peer.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        empty_writes(&transport);
        assert_eq!(log.reason(), "local-close");
        settle(&mut event_loop);
    }
}

#[test]
fn a_turn_sends_at_most_a_mebibyte_of_one_transport_in_a_bounded_number_of_calls() {
    const MEBIBYTE: u64 = 1 << 20;
    for (kind, count, piece) in Kind::ALL
        .into_iter()
        .flat_map(|kind| [(kind, 400, 10_000), (kind, 4000, 1)])
    {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
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
            assert!(moved <= MEBIBYTE, "{moved} bytes in one turn");
            assert!(calls <= 16, "{calls} calls in one turn");
            most = most.max(moved);
            before = now;
            peer.read_available();
            transport.sent() == transport.written()
        });
        // The bounds are reached: by bytes where the kernel takes so many, by calls anywhere.
        if piece == 1 {
            assert!(most < transport.written(), "all in one turn");
        } else if kind == Kind::Tcp {
            assert_eq!(most, MEBIBYTE);
        }
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn one_system_call_is_offered_at_most_a_mebibyte() {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
    settle(&mut event_loop);
    put(&transport, 16 << 20);
    let calls = writes(event_loop.handle());
    let sent = transport.sent();
    assert!(sent > 1 << 20, "the kernel took only {sent} bytes");
    assert!(sent <= calls << 20, "{sent} bytes in {calls} calls");
    peer.expect(&mut event_loop, transport.written() as usize);
    assert!(peer.received() == text(0, transport.written() as usize));
}

struct Failing;

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half of it")?;
        Err(fmt::Error)
    }
}

#[test]
fn a_value_that_fails_to_format_writes_nothing() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        let stats = transport.stats();
        let result = write!(transport, "before {Failing} after");
        assert!(
            matches!(result, Err(WriteError::Format { transport: id }) if id == transport.id()),
            "{result:?}"
        );
        assert_eq!(transport.stats(), stats);
        assert_eq!(write!(transport, "well {}", 1).unwrap(), Flow::Open);
        peer.expect(&mut event_loop, 6);
        assert_eq!(peer.received(), b"well 1");
        assert_eq!(log.words(), ["made"]);
    }
}

#[test]
fn the_unsent_low_water_mark_bounds_the_kernel_on_tcp_and_is_unsupported_on_unix() {
    let mut taken = Vec::new();
    for mark in [None, Some(4096)] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
        transport.set_unsent_low_water(mark).unwrap();
        clog(&mut event_loop, &transport);
        taken.push(transport.sent());
        peer.expect(&mut event_loop, transport.written() as usize);
        transport.abort();
        settle(&mut event_loop);
        let error = transport.set_unsent_low_water(mark).unwrap_err();
        assert!(tidegate::Closed::of(&error).is_some(), "{error}");
    }
    assert!(taken[1] < taken[0], "{taken:?}");

    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
    let error = transport.set_unsent_low_water(Some(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}

#[test]
fn any_number_of_slices_costs_time_in_proportion_to_it() {
    const MORE: usize = 16;
    let time = |count: usize| {
        let mut event_loop = strict_loop();
        let log = Log::new();
        // The kernel is to take all of it, in many system calls.
        let roomy = |socket: &socket2::Socket| {
            socket.set_send_buffer_size(8 << 20).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
        };
        let recorder = Recorder::new(&log);
        let (transport, mut peer) = adopted_with(event_loop.handle(), Kind::Tcp, roomy, recorder);
        settle(&mut event_loop);
        transport.set_write_limits(no_limits()).unwrap();
        let data = text(0, count);
        let slices: Vec<_> = data.chunks(1).map(IoSlice::new).collect();
        let start = Instant::now();
        transport.write_vectored(&slices).unwrap();
        let took = start.elapsed();
        peer.expect(&mut event_loop, count);
        took
    };
    let few = (0..3).map(|_| time(25_000)).min().unwrap();
    let many = time(MORE * 25_000);
    // Were each system call to look at all slices again, this would be the square.
    assert!(many < few * 5 * MORE as u32, "{few:?}, {many:?}");
}
