//! `drain`, `flush`: waiters complete at the right moment, and with a true result.

use crate::event_loop::by_hand::ByHand;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use support::wakers::{leave, local_waker};
use support::{
    How, Kind, Recorder, Scene, answer, closed_of, drive, each_kind, limits, never_paused,
    no_limits, put, settle, stall, text,
};
use tidegate::{Completion, Flow, Transport, WriteError, WriteLimits};

fn is_ok(completion: &mut Completion<()>) -> bool {
    match answer(completion) {
        Some(Ok(())) => true,
        Some(Err(error)) => panic!("{error}"),
        None => false,
    }
}

each_kind!(flush_completes_when_all_written_before_the_call_is_in_the_kernel);
fn flush_completes_when_all_written_before_the_call_is_in_the_kernel(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
    let mut flushes = Vec::new();
    for i in 0..20 {
        for _ in 0..=i % 3 {
            flushes.push((transport.written(), transport.flush()));
        }
        How::ALL[i % 4].put(&transport, 200_000).unwrap();
    }
    let mut steps = 0;
    drive(&mut event_loop, "all flushes", || {
        let waiting = flushes.len();
        flushes.retain_mut(|(target, flush)| {
            let done = is_ok(flush);
            assert_eq!(done, transport.sent() >= *target);
            !done
        });
        steps += u32::from(flushes.len() < waiting);
        peer.read_some(20_000);
        flushes.is_empty()
    });
    assert!(steps > 1, "all at the same moment");
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(flush_waits_for_gathered_and_queued_small_writes_too);
fn flush_waits_for_gathered_and_queued_small_writes_too(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    let done = Rc::new(Cell::new(false));
    let flushed = done.clone();
    transport.call_soon(move |_: &mut Recorder, transport| {
        put(transport, 10);
        let mut flush = transport.flush();
        assert!(!is_ok(&mut flush));
        flush.then(move |_, result| {
            result.unwrap();
            flushed.set(true);
        });
        Ok(())
    });
    drive(&mut event_loop, "the flush", || done.get());
    put(&transport, 10);
    let mut flush = transport.flush();
    assert!(!is_ok(&mut flush));
    event_loop.run_until(flush).unwrap();
    assert_eq!(transport.sent(), 20);
    peer.expect(&mut event_loop, 20);
}

each_kind!(a_wait_with_a_known_end_completes_at_once);
fn a_wait_with_a_known_end_completes_at_once(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).strict().set();
    assert!(is_ok(&mut transport.flush()), "nothing was written");
    assert!(is_ok(&mut transport.drain()), "not paused");
    stall(&mut event_loop, never_paused(&transport), 1000);
    assert!(is_ok(&mut transport.drain()), "below the mark");
    assert!(!is_ok(&mut transport.flush()));
    transport.set_write_limits(limits(0, 0)).unwrap();
    assert!(!is_ok(&mut transport.drain()));
    transport.abort();
    assert_eq!(
        closed_of(answer(&mut transport.flush()).unwrap()).unsent(),
        transport.written() - transport.sent()
    );
    assert!(!closed_of(answer(&mut transport.drain()).unwrap()).is_clean());
    assert!(!log.is_lost());
    settle(&mut event_loop);
    closed_of(answer(&mut transport.flush()).unwrap());
    closed_of(answer(&mut transport.drain()).unwrap());
}

each_kind!(flush_is_ok_after_the_end_if_the_bytes_are_in_the_kernel_but_drain_fails);
fn flush_is_ok_after_the_end_if_the_bytes_are_in_the_kernel_but_drain_fails(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).strict().set();
    put(&transport, 1000);
    settle(&mut event_loop);
    let mut before = transport.flush();
    transport.abort();
    assert!(is_ok(&mut before));
    assert!(is_ok(&mut transport.flush()));
    // Nothing is buffered and nothing paused: yet the connection has ended.
    closed_of(answer(&mut transport.drain()).unwrap());
    settle(&mut event_loop);
    assert!(log.is_lost());
    assert!(is_ok(&mut transport.flush()));
    let closed = closed_of(answer(&mut transport.drain()).unwrap());
    assert_eq!(closed.unsent(), 0);
}

each_kind!(pending_waiters_get_the_truth_of_an_abort_after_connection_lost);
fn pending_waiters_get_the_truth_of_an_abort_after_connection_lost(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    put(&transport, 2_000_000);
    transport.set_write_limits(limits(0, 0)).unwrap();
    let mut early = transport.flush();
    let target = transport.written();
    put(&transport, 4_000_000);
    let mut late = transport.flush();
    let mut drain = transport.drain();
    drive(&mut event_loop, "the first half to go", || {
        peer.read_some(100_000);
        transport.sent() >= target
    });
    assert!(transport.sent() < transport.written());
    transport.abort();
    assert!(is_ok(&mut early));
    assert!(answer(&mut late).is_none());
    assert!(answer(&mut drain).is_none());
    for waiting in [late, drain] {
        let log = log.clone();
        waiting.then(move |_, result| {
            assert!(log.is_lost());
            let closed = closed_of(result);
            assert_eq!(closed.unsent(), log.closed().unsent());
            log.note("told");
        });
    }
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "lost", "told", "told"]);
    assert!(log.closed().unsent() > 0);
}

each_kind!(waiters_of_a_closing_connection_are_answered_as_its_bytes_go);
fn waiters_of_a_closing_connection_are_answered_as_its_bytes_go(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    // More than goes in one tick, with the mark in the middle.
    put(&transport, 4_000_000);
    let low = 2_000_000;
    transport.set_write_limits(limits(low, low)).unwrap();
    let mut drain = transport.drain();
    let mut flush = transport.flush();
    transport.close();
    let mut after = transport.flush();
    let mut drained_first = false;
    drive(&mut event_loop, "the end", || {
        peer.read_some(100_000);
        if !drained_first && is_ok(&mut drain) {
            assert!(transport.write_buffer_size() <= low);
            assert!(!log.is_lost());
            drained_first = true;
        }
        log.is_lost()
    });
    assert!(drained_first);
    assert!(is_ok(&mut flush) && is_ok(&mut after) && is_ok(&mut transport.flush()));
    closed_of(answer(&mut transport.drain()).unwrap());
    peer.expect_end(&mut event_loop);
    assert!(peer.received() == text(0, transport.written() as usize));
}

each_kind!(drain_waits_for_the_low_mark_and_flush_for_all);
fn drain_waits_for_the_low_mark_and_flush_for_all(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
    put(&transport, 300_000);
    let low = 50_000;
    transport.set_write_limits(limits(100_000, low)).unwrap();
    let (mut drain, mut flush) = (transport.drain(), transport.flush());
    drive(&mut event_loop, "the drain", || {
        peer.read_some(20_000);
        let drained = is_ok(&mut drain);
        assert_eq!(drained, transport.write_buffer_size() <= low);
        drained
    });
    drive(&mut event_loop, "the flush", || {
        peer.read_some(20_000);
        let flushed = is_ok(&mut flush);
        assert_eq!(flushed, transport.write_buffer_size() == 0);
        flushed
    });
    assert!(event_loop.handle().stats().completions == 0);
}

each_kind!(waiters_dropped_while_they_wait_leave_nothing_behind);
fn waiters_dropped_while_they_wait_leave_nothing_behind(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
    transport.set_write_limits(limits(0, 0)).unwrap();
    let (mut drain, mut flush) = (transport.drain(), transport.flush());
    for _ in 0..10_000 {
        drop((
            transport.drain(),
            transport.flush(),
            transport.wait_closed(),
        ));
    }
    assert_eq!(event_loop.handle().stats().completions, 2);
    // Those between them are not forgotten with them.
    peer.expect(&mut event_loop, transport.written() as usize);
    assert!(is_ok(&mut drain) && is_ok(&mut flush));
    assert_eq!(event_loop.handle().stats().completions, 0);
}

/// A waker that writes within each wake, but for those that come from within its own writes.
struct WritesInWake {
    waker: Waker,
    wakes: Rc<Cell<u32>>,
    /// The bytes that were sent at each wake that wrote.
    seen: Rc<RefCell<Vec<u64>>>,
}

impl WritesInWake {
    fn new(transport: &Transport, how: How) -> Self {
        let (wakes, seen) = (Rc::new(Cell::new(0)), Rc::<RefCell<Vec<_>>>::default());
        let (count, sent) = (wakes.clone(), seen.clone());
        let (transport, writing) = (transport.clone(), Cell::new(false));
        let waker = local_waker(move || {
            count.set(count.get() + 1);
            if writing.replace(true) {
                return;
            }
            sent.borrow_mut().push(transport.sent());
            for len in [7, 40_000, 300] {
                how.put(&transport, len).unwrap();
            }
            writing.set(false);
        });
        Self { waker, wakes, seen }
    }
}

/// Ten waiters that write when they are woken, each of them behind other bytes.
fn ten_that_write(
    transport: &Transport,
    writer: &WritesInWake,
    wait: fn(&Transport) -> Completion<()>,
) -> Vec<Completion<()>> {
    let waits = (0..10).map(|_| {
        put(transport, 300_000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        let mut waiting = wait(transport);
        leave(&mut waiting, &writer.waker);
        waiting
    });
    waits.collect()
}

each_kind!(a_waker_that_writes_while_a_flush_is_under_way_keeps_the_order);
fn a_waker_that_writes_while_a_flush_is_under_way_keeps_the_order(kind: Kind) {
    for how in How::ALL {
        let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
        let writer = WritesInWake::new(&transport, how);
        let mut flushes = ten_that_write(&transport, &writer, Transport::flush);
        transport.set_write_limits(no_limits()).unwrap();
        drive(&mut event_loop, "all flushes", || {
            peer.read_some(100_000);
            writer.wakes.get() == 10
        });
        assert!(flushes.iter_mut().all(is_ok));
        let seen = writer.seen.borrow().clone();
        let (first, last) = (seen.first(), seen.last());
        assert!(first < last, "{how:?}: one flush took all: {seen:?}");
        peer.expect_text(&mut event_loop, &transport);
    }
}

each_kind!(a_waker_that_writes_within_a_change_of_the_limits_keeps_the_order);
fn a_waker_that_writes_within_a_change_of_the_limits_keeps_the_order(kind: Kind) {
    for how in How::ALL {
        let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
        let writer = WritesInWake::new(&transport, how);
        let mut drains = ten_that_write(&transport, &writer, Transport::drain);
        transport.set_write_limits(no_limits()).unwrap();
        assert_eq!(writer.wakes.get(), 10, "{how:?}: the fall, within the call");
        assert!(drains.iter_mut().all(is_ok));
        peer.expect_text(&mut event_loop, &transport);
    }
}

each_kind!(a_waker_that_writes_after_a_callback_s_gathered_writes_comes_behind_them);
fn a_waker_that_writes_after_a_callback_s_gathered_writes_comes_behind_them(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let writer = WritesInWake::new(&transport, How::Slice);
    let waiting = Rc::new(Cell::new(None));
    let (flush, waker) = (waiting.clone(), writer.waker.clone());
    transport.call_soon(move |_: &mut Recorder, transport| {
        put(transport, 100);
        let mut completion = transport.flush();
        leave(&mut completion, &waker);
        flush.set(Some(completion));
        put(transport, 100);
        Ok(())
    });
    drive(&mut event_loop, "the flush", || {
        transport.sent() == 200 + 40_307
    });
    assert_eq!(*writer.seen.borrow(), [200]);
    assert!(is_ok(&mut waiting.take().unwrap()));
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(a_waker_that_writes_within_a_write_comes_behind_that_write);
fn a_waker_that_writes_within_a_write_comes_behind_that_write(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let writer = WritesInWake::new(&transport, How::Slice);
    put(&transport, 100);
    let mut flush = transport.flush();
    leave(&mut flush, &writer.waker);
    // The kernel takes the small write and a part of this one.
    assert_eq!(put(&transport, 20_000_000), Flow::Paused);
    assert_eq!(writer.wakes.get(), 1);
    assert_eq!(transport.written(), 100 + 20_000_000 + 40_307);
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(a_write_that_fails_its_connection_fails_the_waiters_with_it);
fn a_write_that_fails_its_connection_fails_the_waiters_with_it(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    transport.set_write_limits(limits(0, 0)).unwrap();
    settle(&mut event_loop);
    let (mut drain, mut flush) = (transport.drain(), transport.flush());
    let sent = transport.sent();
    peer.reset();
    drive(&mut event_loop, "the failure", || {
        transport.closed().is_some()
    });
    let closed = transport.closed().unwrap();
    assert_eq!(closed.unsent(), transport.written() - sent);
    assert_eq!(
        closed_of(answer(&mut drain).unwrap()).unsent(),
        closed.unsent()
    );
    assert_eq!(
        closed_of(answer(&mut flush).unwrap()).unsent(),
        closed.unsent()
    );
    assert_eq!(transport.flow(), Flow::Open);
    assert!(transport.write_owned(Bytes::from_static(b"x")).is_err());
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "pause", "lost"]);
}

#[test]
fn a_failed_write_completes_the_flush_of_bytes_that_went_just_before_it() {
    // A system call is offered this number of chunks at most.
    const FIRST: usize = 64;
    let world = ByHand::new();
    let mut event_loop = world.event_loop();
    let target = SocketAddr::from(([127, 0, 0, 1], 1));
    let connect = event_loop
        .handle()
        .create_connection(target, Recorder::default());
    let transport = event_loop.run_until(connect).unwrap();
    world.run(&mut event_loop);
    for _ in 0..FIRST {
        How::Owned.put(&transport, 1).unwrap();
    }
    let mut first = transport.flush();
    How::Owned.put(&transport, 1).unwrap();
    let mut second = transport.flush();
    assert_eq!(transport.sent(), 0);
    // The first call takes all that it is offered, and the next one fails.
    world.breaks_at.set(FIRST);
    world.run(&mut event_loop);
    assert_eq!(transport.sent(), FIRST as u64);
    assert!(is_ok(&mut first));
    assert!(closed_of(answer(&mut second).unwrap()).is_reset());
}

#[test]
fn a_write_that_is_refused_answers_who_waits_for_what_its_offer_has_sent() {
    const CAP: usize = 150_000;
    let (mut event_loop, _, transport, _peer) = Scene::of(Kind::Unix).strict().set();
    settle(&mut event_loop);
    let roomy = WriteLimits::new().with_high(60 << 20);
    transport.set_write_limits(roomy).unwrap();
    put(&transport, 10);
    let mut flush = transport.flush();
    // The kernel refuses long before it has this number of tiny chunks, and the rest of them costs
    // more than the cap although their bytes are few.
    for _ in 0..100_000 {
        transport.write_owned(Bytes::from_static(b"x")).unwrap();
    }
    assert_eq!(transport.sent(), 0);
    let tight = WriteLimits::new().with_high(CAP).with_cap(CAP);
    transport.set_write_limits(tight).unwrap();
    let refused = transport.write(b"y");
    assert!(matches!(refused, Err(WriteError::BufferFull { .. })));
    assert!(transport.sent() >= 10 && transport.write_buffer_size() > 0);
    assert!(is_ok(&mut flush));
}

#[test]
fn wakers_that_write_are_not_run_within_each_other() {
    const WAITERS: u32 = 1000;
    let (mut event_loop, _, transport, mut peer) = Scene::full(Kind::Unix).set();
    let (wakes, is_within) = (Rc::new(Cell::new(0)), Cell::new(false));
    let (count, writes) = (wakes.clone(), transport.clone());
    let waker = local_waker(move || {
        assert!(!is_within.replace(true), "within another");
        count.set(count.get() + 1);
        writes.write(b"more").unwrap();
        is_within.set(false);
    });
    let mut flushes: Vec<_> = (0..WAITERS).map(|_| transport.flush()).collect();
    for flush in &mut flushes {
        leave(flush, &waker);
    }
    drive(&mut event_loop, "all wakers", || {
        peer.read_some(100_000);
        wakes.get() == WAITERS
    });
}
