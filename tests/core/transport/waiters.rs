//! `drain`, `flush`: who waits is answered at the right moment, and truly.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::LocalKey;
use support::{
    How, Kind, Log, Recorder, adopted, answer, clog, drive, limits, no_limits, put, settle,
    strict_loop, text,
};
use tidegate::{Closed, Completion, Flow, Transport, WriteError, WriteLimits};

#[track_caller]
fn closed_of(answer: Option<io::Result<()>>) -> Closed {
    match answer {
        Some(Err(error)) => Closed::of(&error).unwrap_or_else(|| panic!("{error}")),
        other => panic!("not failed: {other:?}"),
    }
}

fn is_ok(completion: &mut Completion<()>) -> bool {
    match answer(completion) {
        Some(Ok(())) => true,
        Some(Err(error)) => panic!("{error}"),
        None => false,
    }
}

#[test]
fn flush_completes_when_all_written_before_the_call_is_in_the_kernel() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
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
}

#[test]
fn flush_waits_for_gathered_and_queued_small_writes_too() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
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
}

#[test]
fn what_is_known_is_answered_at_once() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        assert!(is_ok(&mut transport.flush()), "nothing was written");
        assert!(is_ok(&mut transport.drain()), "not paused");
        clog(&mut event_loop, &transport);
        assert!(is_ok(&mut transport.drain()), "below the mark");
        assert!(!is_ok(&mut transport.flush()));
        transport.set_write_limits(limits(0, 0)).unwrap();
        assert!(!is_ok(&mut transport.drain()));
        transport.abort();
        assert_eq!(
            closed_of(answer(&mut transport.flush())).unsent(),
            transport.written() - transport.sent()
        );
        assert!(!closed_of(answer(&mut transport.drain())).is_clean());
        assert!(!log.is_lost());
        settle(&mut event_loop);
        closed_of(answer(&mut transport.flush()));
        closed_of(answer(&mut transport.drain()));
    }
}

#[test]
fn flush_is_ok_after_the_end_if_the_bytes_are_in_the_kernel_but_drain_fails() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        put(&transport, 1000);
        settle(&mut event_loop);
        let mut before = transport.flush();
        transport.abort();
        assert!(is_ok(&mut before));
        assert!(is_ok(&mut transport.flush()));
        // Nothing is buffered and nothing paused: yet the connection has ended.
        closed_of(answer(&mut transport.drain()));
        settle(&mut event_loop);
        assert!(log.is_lost());
        assert!(is_ok(&mut transport.flush()));
        let closed = closed_of(answer(&mut transport.drain()));
        assert_eq!(closed.unsent(), 0);
    }
}

#[test]
fn pending_waiters_get_the_truth_of_an_abort_after_connection_lost() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
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
                let closed = closed_of(Some(result));
                assert_eq!(closed.unsent(), log.closed().unsent());
                log.note("told");
            });
        }
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause", "lost", "told", "told"]);
        assert!(log.closed().unsent() > 0);
    }
}

#[test]
fn waiters_of_a_closing_connection_are_answered_as_its_bytes_go() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
        // More than goes in one turn, with the mark in the middle.
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
        closed_of(answer(&mut transport.drain()));
        peer.expect_end(&mut event_loop);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

#[test]
fn drain_waits_for_the_low_mark_and_flush_for_all() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
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
        assert!(event_loop.handle().snapshot().completions == 0);
    }
}

#[test]
fn waiters_dropped_while_they_wait_leave_nothing_behind() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
        transport.set_write_limits(limits(0, 0)).unwrap();
        let (mut drain, mut flush) = (transport.drain(), transport.flush());
        for _ in 0..10_000 {
            drop((
                transport.drain(),
                transport.flush(),
                transport.wait_closed(),
            ));
        }
        assert_eq!(event_loop.handle().snapshot().completions, 2);
        // Those between them are not forgotten with them.
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(is_ok(&mut drain) && is_ok(&mut flush));
        assert_eq!(event_loop.handle().snapshot().completions, 0);
    }
}

thread_local! {
    static WOKEN: Cell<Option<Transport>> = const { Cell::new(None) };
}

/// Writes to the transport in [`WOKEN`] within each wake.
struct WriteInWake {
    wakes: AtomicU32,
    how: How,
    seen: Mutex<Vec<u64>>,
}

impl Wake for WriteInWake {
    fn wake(self: Arc<Self>) {
        let key: &'static LocalKey<_> = &WOKEN;
        self.wakes.fetch_add(1, Ordering::Relaxed);
        // None: this wake comes from within the writes of another one.
        let Some(transport) = key.take() else { return };
        self.seen.lock().unwrap().push(transport.sent());
        for len in [7, 40_000, 300] {
            self.how.put(&transport, len).unwrap();
        }
        key.set(Some(transport));
    }
}

#[test]
fn a_waker_that_writes_while_a_flush_is_under_way_keeps_the_order() {
    for (kind, how) in Kind::ALL
        .into_iter()
        .flat_map(|kind| How::ALL.map(|how| (kind, how)))
    {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
        WOKEN.set(Some(transport.clone()));
        let writer = Arc::new(WriteInWake {
            wakes: AtomicU32::new(0),
            how,
            seen: Mutex::default(),
        });
        let waker = Waker::from(writer.clone());
        let mut waiting = Vec::new();
        for _ in 0..10 {
            put(&transport, 300_000);
            transport.set_write_limits(limits(0, 0)).unwrap();
            for mut completion in [transport.flush(), transport.drain()] {
                let poll = Future::poll(
                    std::pin::Pin::new(&mut completion),
                    &mut Context::from_waker(&waker),
                );
                assert!(poll.is_pending());
                waiting.push(completion);
            }
        }
        // The fall by a change of the limits wakes too, within the call.
        transport.set_write_limits(no_limits()).unwrap();
        assert_eq!(writer.wakes.load(Ordering::Relaxed), 10);
        drive(&mut event_loop, "all flushes", || {
            peer.read_some(100_000);
            writer.wakes.load(Ordering::Relaxed) == 20
        });
        assert!(waiting.iter_mut().all(is_ok));
        let seen = writer.seen.lock().unwrap().clone();
        assert!(
            Some(&seen[10]) < seen.last(),
            "one flush took all: {seen:?}"
        );
        WOKEN.take();
        peer.expect_text(&mut event_loop, &transport);
    }
}

#[test]
fn a_waker_that_writes_after_the_gathered_writes_of_a_callback_comes_behind_them() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        WOKEN.set(Some(transport.clone()));
        let writer = Arc::new(WriteInWake {
            wakes: AtomicU32::new(0),
            how: How::Slice,
            seen: Mutex::default(),
        });
        let waker = Waker::from(writer.clone());
        let waiting = Rc::new(Cell::new(None));
        let flush = waiting.clone();
        transport.call_soon(move |_: &mut Recorder, transport| {
            put(transport, 100);
            let mut completion = transport.flush();
            let context = &mut Context::from_waker(&waker);
            assert!(Future::poll(std::pin::Pin::new(&mut completion), context).is_pending());
            flush.set(Some(completion));
            put(transport, 100);
            Ok(())
        });
        drive(&mut event_loop, "the flush", || {
            transport.sent() == 200 + 40_307
        });
        assert_eq!(*writer.seen.lock().unwrap(), [200]);
        assert!(is_ok(&mut waiting.take().unwrap()));
        WOKEN.take();
        peer.expect_text(&mut event_loop, &transport);
    }
}

#[test]
fn a_waker_that_writes_within_a_write_comes_behind_that_write() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        WOKEN.set(Some(transport.clone()));
        let writer = Arc::new(WriteInWake {
            wakes: AtomicU32::new(0),
            how: How::Slice,
            seen: Mutex::default(),
        });
        let waker = Waker::from(writer.clone());
        put(&transport, 100);
        let mut flush = transport.flush();
        let context = &mut Context::from_waker(&waker);
        assert!(Future::poll(std::pin::Pin::new(&mut flush), context).is_pending());
        // The kernel takes the small write and a part of this one.
        assert_eq!(put(&transport, 20_000_000), Flow::Paused);
        assert_eq!(writer.wakes.load(Ordering::Relaxed), 1);
        assert_eq!(transport.written(), 100 + 20_000_000 + 40_307);
        WOKEN.take();
        peer.expect_text(&mut event_loop, &transport);
    }
}

#[test]
fn a_write_that_fails_its_connection_fails_the_waiters_with_it() {
    for kind in Kind::ALL {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        clog(&mut event_loop, &transport);
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
        assert_eq!(closed_of(answer(&mut drain)).unsent(), closed.unsent());
        assert_eq!(closed_of(answer(&mut flush)).unsent(), closed.unsent());
        assert_eq!(transport.flow(), Flow::Open);
        assert!(transport.write_owned(Bytes::from_static(b"x")).is_err());
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "pause", "lost"]);
    }
}

#[test]
fn a_write_that_is_refused_answers_who_waits_for_what_its_offer_has_sent() {
    const CAP: usize = 150_000;
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
    settle(&mut event_loop);
    let roomy = WriteLimits::new().with_high(60 << 20);
    transport.set_write_limits(roomy).unwrap();
    put(&transport, 10);
    let mut flush = transport.flush();
    // The kernel refuses long before it has so many tiny chunks, and what is left of them costs
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

thread_local! {
    static WRITES: RefCell<Option<Transport>> = const { RefCell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAKES: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn wakers_that_write_are_not_run_within_each_other() {
    const WAITERS: u32 = 1000;
    struct Writes;
    impl Wake for Writes {
        fn wake(self: Arc<Self>) {
            assert_eq!(DEPTH.replace(1), 0, "within another");
            WAKES.set(WAKES.get() + 1);
            let transport = WRITES.with_borrow(Clone::clone).unwrap();
            transport.write(b"more").unwrap();
            DEPTH.set(0);
        }
    }
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(&log));
    clog(&mut event_loop, &transport);
    WRITES.set(Some(transport.clone()));
    let waker = Waker::from(Arc::new(Writes));
    let mut flushes: Vec<_> = (0..WAITERS).map(|_| Box::pin(transport.flush())).collect();
    for flush in &mut flushes {
        let polled = flush.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    drive(&mut event_loop, "all wakers", || {
        peer.read_some(100_000);
        WAKES.get() == WAITERS
    });
    WRITES.take();
}
