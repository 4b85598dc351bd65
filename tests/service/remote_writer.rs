//! Writes of other threads to one connection: all of them, in their order, within bounds; and nobody waits for
//! ever.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::{Kind, Log, Peer, Recorder, adopted, drive, each_kind, settle, tick};
use tidegate::{Bytes, CloseReason, EventLoop, Flow, Transport, WriteLimits};
use tidegate_service::{RemoteLimits, RemoteWriteError, RemoteWriter};

const BOUND: Duration = Duration::from_secs(30);

/// Longer than any test waits: a wait that ends was ended.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Joins a thread while the loop runs.
fn join<T>(event_loop: &mut EventLoop, thread: JoinHandle<T>) -> T {
    drive(event_loop, "the thread", || thread.is_finished());
    thread.join().unwrap()
}

/// Joins a thread that no loop has to run for.
#[track_caller]
fn join_alone<T>(thread: JoinHandle<T>) -> T {
    let begun = Instant::now();
    while !thread.is_finished() {
        assert!(begun.elapsed() < BOUND, "the thread still waits");
        thread::yield_now();
    }
    thread.join().unwrap()
}

each_kind!(writes_of_threads_arrive_whole_and_in_the_order_of_the_thread);
fn writes_of_threads_arrive_whole_and_in_the_order_of_the_thread(kind: Kind) {
    const THREADS: usize = 4;
    const LINES: usize = 5_000;
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    let writer = RemoteWriter::new(&transport, RemoteLimits::new()).unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let writer = writer.clone();
            thread::spawn(move || {
                for n in 0..LINES {
                    let line = format!("{thread} {n}\n");
                    if writer.write_owned(line).unwrap() == Flow::Paused {
                        writer.wait(BOUND).unwrap();
                    }
                }
            })
        })
        .collect();
    let mut lines = 0;
    while lines < THREADS * LINES {
        tick(&mut event_loop);
        peer.read_available();
        lines = peer
            .received()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
    }
    for thread in threads {
        join(&mut event_loop, thread);
    }
    let mut next = [0; THREADS];
    for line in std::str::from_utf8(peer.received()).unwrap().lines() {
        let (thread, n) = line.split_once(' ').unwrap();
        let next = &mut next[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse(), Ok(*next));
        *next += 1;
    }
    assert_eq!(next, [LINES; THREADS]);
    assert_eq!(writer.waiting(), 0);
}

each_kind!(what_waits_is_bounded_here_and_in_the_transport);
fn what_waits_is_bounded_here_and_in_the_transport(kind: Kind) {
    const PIECE: usize = 1_000;
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    transport
        .set_write_limits(WriteLimits::new().with_high(8 * PIECE))
        .unwrap();
    let limits = RemoteLimits::new()
        .high(4 * PIECE)
        .low(2 * PIECE)
        .cap(10 * PIECE);
    let writer = RemoteWriter::new(&transport, limits).unwrap();
    // The peer does not read, so the kernel is full at some time, then the transport, then the writer.
    let mut taken = 0;
    let full = loop {
        match writer.write_owned(vec![7; PIECE]) {
            Ok(_) => taken += PIECE,
            Err(RemoteWriteError::Full(piece)) => {
                settle(&mut event_loop);
                if writer.waiting() >= 10 * PIECE {
                    break piece;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(writer.waiting() < 11 * PIECE);
        assert!(transport.write_buffer_size() <= 9 * PIECE);
    };
    assert_eq!(full, Bytes::from(vec![7; PIECE]));
    assert_eq!(
        (writer.flow(), writer.waiting()),
        (Flow::Paused, 10 * PIECE)
    );
    // On the loop's own thread nobody could make room.
    let own = writer.wait(BOUND);
    assert_eq!(own, Err(RemoteWriteError::OnItsOwnLoop));
    let waiting = writer.clone();
    let timed = thread::spawn(move || waiting.wait(Duration::from_millis(1)));
    assert_eq!(timed.join().unwrap(), Err(RemoteWriteError::TimedOut));
    peer.expect(&mut event_loop, taken);
    assert_eq!((writer.flow(), writer.waiting()), (Flow::Open, 0));
}

each_kind!(a_piece_that_the_cap_of_the_connection_refuses_is_sent_when_there_is_room);
fn a_piece_that_the_cap_of_the_connection_refuses_is_sent_when_there_is_room(kind: Kind) {
    // Queued without a copy, so that each counts more against the cap than its bytes.
    const PIECE: usize = 4096;
    const CAP: usize = 64 * PIECE;
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    let limits = WriteLimits::new().with_high(CAP).with_cap(CAP);
    transport.set_write_limits(limits).unwrap();
    let writer = RemoteWriter::new(&transport, RemoteLimits::new()).unwrap();
    let mut taken = 0;
    // Until the kernel is full, and then the connection.
    while transport.refused_write().is_none() {
        writer.write_owned(vec![7; PIECE]).unwrap();
        taken += PIECE;
        tick(&mut event_loop);
    }
    assert_eq!(transport.flow(), Flow::Open);
    assert!(writer.waiting() > 0);
    peer.expect(&mut event_loop, taken);
    assert_eq!(writer.waiting(), 0);
    writer.write_owned("more").unwrap();
}

each_kind!(pieces_of_a_byte_are_bounded_by_the_memory_that_they_take);
fn pieces_of_a_byte_are_bounded_by_the_memory_that_they_take(kind: Kind) {
    const CAP: usize = 128 * 1024;
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    let limits = RemoteLimits::new().cap(CAP);
    let writer = RemoteWriter::new(&transport, limits).unwrap();
    let taken = (0..CAP)
        .take_while(|_| writer.write_owned("x").is_ok())
        .count();
    // A piece is a pointer, a length and more, and may be one to memory of its own.
    assert_eq!(taken, CAP / 128);
    assert_eq!(
        writer.write_owned("x"),
        Err(RemoteWriteError::Full("x".into()))
    );
    peer.expect(&mut event_loop, taken);
    assert_eq!(writer.write_owned("x"), Ok(Flow::Open));
}

each_kind!(many_writes_between_two_ticks_are_one_call_of_the_loop_and_one_system_call);
fn many_writes_between_two_ticks_are_one_call_of_the_loop_and_one_system_call(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    let writer = RemoteWriter::new(&transport, RemoteLimits::new()).unwrap();
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    for _ in 0..500 {
        assert_eq!(writer.write_owned(&b"piece"[..]), Ok(Flow::Open));
    }
    assert_eq!(writer.write_owned(Bytes::new()), Ok(Flow::Open));
    peer.expect(&mut event_loop, 2_500);
    let after = event_loop.handle().stats();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.callbacks - before.callbacks, 1);
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A connection whose kernel is full, with a writer that is paused.
fn paused(kind: Kind) -> (EventLoop, Transport, Peer, RemoteWriter) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    let limits = RemoteLimits::new().high(100).low(10);
    let writer = RemoteWriter::new(&transport, limits).unwrap();
    tick(&mut event_loop);
    while writer.waiting() < 1_000 {
        let _ = writer.write_owned(vec![7; 64 * 1024]);
        settle(&mut event_loop);
    }
    assert_eq!(writer.flow(), Flow::Paused);
    (event_loop, transport, peer, writer)
}

each_kind!(async_code_is_woken_when_the_flow_is_open_again);
fn async_code_is_woken_when_the_flow_is_open_again(kind: Kind) {
    let (mut event_loop, transport, mut peer, writer) = paused(kind);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut ready = pin!(writer.ready());
    let mut context = Context::from_waker(&waker);
    assert!(ready.as_mut().poll(&mut context).is_pending());
    let all = transport.written() as usize + writer.waiting();
    peer.expect(&mut event_loop, all);
    assert!(woken.0.load(Ordering::SeqCst));
    assert_eq!(ready.as_mut().poll(&mut context), Poll::Ready(Ok(())));
}

each_kind!(a_wait_that_is_dropped_keeps_no_waker);
fn a_wait_that_is_dropped_keeps_no_waker(kind: Kind) {
    let (mut event_loop, transport, mut peer, writer) = paused(kind);
    let [dropped, kept] = [(); 2].map(|()| Arc::new(Woken::default()));
    let mut stays = Box::pin(writer.ready());
    let kept_waker = Waker::from(kept.clone());
    let mut context = Context::from_waker(&kept_waker);
    assert!(stays.as_mut().poll(&mut context).is_pending());
    for _ in 0..100 {
        let waker = Waker::from(dropped.clone());
        let waits = pin!(writer.ready());
        let mut context = Context::from_waker(&waker);
        assert!(waits.poll(&mut context).is_pending());
    }
    assert_eq!(Arc::strong_count(&dropped), 1);
    // Polled with another one, it is woken by that alone.
    let other = Arc::new(Woken::default());
    let waker = Waker::from(other.clone());
    let mut context = Context::from_waker(&waker);
    assert!(stays.as_mut().poll(&mut context).is_pending());
    let all = transport.written() as usize + writer.waiting();
    peer.expect(&mut event_loop, all);
    assert!(other.0.load(Ordering::SeqCst) && !kept.0.load(Ordering::SeqCst));
}

each_kind!(a_waker_that_panics_keeps_no_other_asleep_and_loses_no_piece);
fn a_waker_that_panics_keeps_no_other_asleep_and_loses_no_piece(kind: Kind) {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("panicking on purpose");
        }
    }
    let (mut event_loop, transport, mut peer, writer) = paused(kind);
    let woken = Arc::new(Woken::default());
    let wakers = [Waker::from(Arc::new(Panics)), Waker::from(woken.clone())];
    let mut waits = [(); 2].map(|()| Box::pin(writer.ready()));
    for (wait, waker) in waits.iter_mut().zip(&wakers) {
        let mut context = Context::from_waker(waker);
        assert!(wait.as_mut().poll(&mut context).is_pending());
    }
    let all = transport.written() as usize + writer.waiting();
    peer.expect(&mut event_loop, all);
    assert!(woken.0.load(Ordering::SeqCst));
    assert_eq!(writer.write_owned("goes on"), Ok(Flow::Open));
    peer.expect(&mut event_loop, all + 7);
}

each_kind!(async_code_is_woken_by_the_end_of_the_connection_and_of_the_loop);
fn async_code_is_woken_by_the_end_of_the_connection_and_of_the_loop(kind: Kind) {
    for ends_the_loop in [false, true] {
        let (mut event_loop, transport, _peer, writer) = paused(kind);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut ready = pin!(writer.ready());
        let mut context = Context::from_waker(&waker);
        assert!(ready.as_mut().poll(&mut context).is_pending());
        if ends_the_loop {
            drop(event_loop);
        } else {
            transport.abort();
            settle(&mut event_loop);
        }
        assert!(woken.0.load(Ordering::SeqCst), "loop: {ends_the_loop}");
        let end = ready.as_mut().poll(&mut context);
        assert!(
            matches!(end, Poll::Ready(Err(RemoteWriteError::Closed(_)))),
            "{end:?}"
        );
    }
}

each_kind!(a_flood_of_pieces_leaves_turns_for_others);
fn a_flood_of_pieces_leaves_turns_for_others(kind: Kind) {
    const MIB: usize = 1 << 20;
    for (len, number, most) in [(1, 10_000, 4096), (64 * 1024, 64, MIB)] {
        let mut event_loop = EventLoop::new().unwrap();
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
        transport
            .set_write_limits(WriteLimits::new().with_high(8 * MIB))
            .unwrap();
        let limits = RemoteLimits::new().high(8 * MIB);
        let writer = RemoteWriter::new(&transport, limits).unwrap();
        settle(&mut event_loop);
        for _ in 0..number {
            writer.write_owned(vec![7; len]).unwrap();
        }
        while writer.waiting() > 0 {
            let before = transport.written() as usize;
            tick(&mut event_loop);
            let taken = transport.written() as usize - before;
            assert!((1..=most).contains(&taken), "{taken} bytes in a tick");
        }
    }
}

/// A thread that waits, and then writes. It has begun when this returns.
fn wait_elsewhere(
    writer: &RemoteWriter,
) -> JoinHandle<(Result<(), RemoteWriteError>, Result<Flow, RemoteWriteError>)> {
    let writer = writer.clone();
    let (begins, begun) = mpsc::channel();
    let thread = thread::spawn(move || {
        begins.send(()).unwrap();
        (writer.wait(LONG), writer.write_owned("late"))
    });
    begun.recv().unwrap();
    thread
}

each_kind!(the_end_of_the_connection_ends_every_wait_with_its_reason);
fn the_end_of_the_connection_ends_every_wait_with_its_reason(kind: Kind) {
    let (mut event_loop, transport, _peer, writer) = paused(kind);
    let waiting = wait_elsewhere(&writer);
    transport.abort();
    let (waited, late) = join(&mut event_loop, waiting);
    let closed = transport.closed();
    assert_eq!(waited, Err(RemoteWriteError::Closed(closed.clone())));
    assert_eq!(late, Err(RemoteWriteError::Closed(closed)));
    assert_eq!(writer.waiting(), 0);
}

each_kind!(a_connection_that_is_detached_closes_its_writer);
fn a_connection_that_is_detached_closes_its_writer(kind: Kind) {
    let (mut event_loop, transport, _peer, writer) = paused(kind);
    let waiting = wait_elsewhere(&writer);
    let detached = event_loop.run_until(transport.detach()).unwrap();
    let (waited, _) = join(&mut event_loop, waiting);
    let Err(RemoteWriteError::Closed(Some(closed))) = waited else {
        panic!("{waited:?}");
    };
    assert_eq!(closed.reason(), &CloseReason::Detached);
    drop(detached);
}

each_kind!(a_loop_that_is_dropped_ends_every_wait);
fn a_loop_that_is_dropped_ends_every_wait(kind: Kind) {
    let (event_loop, transport, _peer, writer) = paused(kind);
    let waiting = wait_elsewhere(&writer);
    drop((event_loop, transport));
    let (waited, late) = join_alone(waiting);
    assert!(
        matches!(waited, Err(RemoteWriteError::Closed(_))),
        "{waited:?}"
    );
    assert!(matches!(late, Err(RemoteWriteError::Closed(_))), "{late:?}");
}

each_kind!(threads_that_write_while_the_loop_is_dropped_are_told_of_its_end);
fn threads_that_write_while_the_loop_is_dropped_are_told_of_its_end(kind: Kind) {
    for round in 0..20 {
        let mut event_loop = EventLoop::new().unwrap();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
        let writer = RemoteWriter::new(&transport, RemoteLimits::new()).unwrap();
        let threads = [(); 2].map(|()| {
            let writer = writer.clone();
            thread::spawn(move || {
                loop {
                    let written = match writer.write_owned(&b"a piece of some bytes"[..]) {
                        Ok(Flow::Paused) => writer.wait(LONG),
                        written => written.map(drop),
                    };
                    if let Err(error) = written {
                        return error;
                    }
                }
            })
        });
        // In every other round some of them wait for room.
        drive(&mut event_loop, "pieces", || {
            if round % 2 == 0 {
                peer.read_available();
            }
            transport.written() > 100_000
        });
        drop((event_loop, transport));
        for thread in threads {
            let end = join_alone(thread);
            assert!(matches!(end, RemoteWriteError::Closed(_)), "{end:?}");
        }
        assert_eq!(writer.waiting(), 0);
    }
}

each_kind!(a_connection_that_is_closing_takes_no_more);
fn a_connection_that_is_closing_takes_no_more(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    let writer = RemoteWriter::new(&transport, RemoteLimits::new()).unwrap();
    writer.write_owned("first").unwrap();
    settle(&mut event_loop);
    transport.write_eof().unwrap();
    writer.write_owned("behind the end").unwrap();
    settle(&mut event_loop);
    assert_eq!(
        writer.write_owned("late"),
        Err(RemoteWriteError::Closed(None))
    );
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"first");
    assert!(RemoteWriter::new(&transport, RemoteLimits::new().cap(0)).is_err());
}
