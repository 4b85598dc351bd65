//! The promises of a writer: when it waits, for what, and its errors when bytes are lost.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use support::{
    Kind, MIB, closed_of, drive, each_kind, finish, limits, never_paused, opened, pattern,
    poll_once, settle, stall,
};
use tidegate::{CloseReason, EventLoop, Flow, Handle, WriteError, WriteLimits};
use tidegate_streams::{JoinHandle, ReadError, StreamWriter, spawn_on};

const KIB: usize = 1024;

/// Returns the error of a write as a word.
fn word(error: &WriteError) -> &'static str {
    match error {
        WriteError::Closing { .. } => "closing",
        WriteError::AfterEof { .. } => "after eof",
        WriteError::Closed { .. } => "closed",
        _ => "another",
    }
}

/// Starts what waits, so far as it goes without the loop's doing.
fn waiting<F>(event_loop: &mut EventLoop, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let task = spawn_on(event_loop.handle(), future);
    settle(event_loop);
    assert!(!task.is_finished(), "there was nothing to wait for");
    task
}

/// The writer's buffer is far above the low-water mark, and the peer reads nothing.
fn stuck(event_loop: &mut EventLoop, writer: &StreamWriter) {
    stall(event_loop, never_paused(writer.transport()), 1000);
    let limits = WriteLimits::new().with_high(KIB).with_low(100);
    writer.transport().set_write_limits(limits).unwrap();
    writer.write(&[7; 4 * KIB]).unwrap();
    settle(event_loop);
    assert!(writer.transport().flow().is_paused());
}

/// Each waits in a task of its own.
fn all_waiters(
    event_loop: &mut EventLoop,
    writer: &Rc<StreamWriter>,
) -> Vec<JoinHandle<io::Result<()>>> {
    type Wait = fn(Rc<StreamWriter>) -> Pin<Box<dyn Future<Output = io::Result<()>>>>;
    let waits: [Wait; 3] = [
        |writer| Box::pin(async move { writer.drain().await }),
        |writer| Box::pin(async move { writer.flush().await }),
        |writer| Box::pin(async move { writer.write_all(b"never").await }),
    ];
    let twice = waits.into_iter().chain(waits);
    twice
        .map(|wait| waiting(event_loop, wait(writer.clone())))
        .collect()
}

each_kind!(what_is_written_in_any_form_arrives_in_the_order_of_the_calls);
fn what_is_written_in_any_form_arrives_in_the_order_of_the_calls(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    finish(&mut event_loop, "all forms of writing", async move {
        assert_eq!(writer.write(b"one ").unwrap(), Flow::Open);
        let slices = [b"two ".as_slice(), b"", b"three "].map(IoSlice::new);
        writer.write_vectored(&slices).unwrap();
        writer.write_all(b"four ").await.unwrap();
        writer.write(b"five").unwrap();
        writer.close().await.unwrap();
    });
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"one two three four five", "{kind:?}");
    assert!(peer.saw_eof());
}

each_kind!(a_drain_that_finds_room_answers_in_its_first_poll);
fn a_drain_that_finds_room_answers_in_its_first_poll(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    writer.write(b"buffered, but little").unwrap();
    assert!(writer.transport().write_buffer_size() > 0);
    let answer = poll_once(pin!(writer.drain()));
    assert!(matches!(answer, Poll::Ready(Ok(()))), "{answer:?}");
}

each_kind!(a_drain_ends_at_the_low_water_mark_before_the_buffer_is_empty);
fn a_drain_ends_at_the_low_water_mark_before_the_buffer_is_empty(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    let low = 8 * MIB;
    writer
        .transport()
        .set_write_limits(limits(2 * low, low))
        .unwrap();
    let flow = writer.write(&vec![1; 4 * low]).unwrap();
    assert!(flow.is_paused());
    let transport = writer.transport().clone();
    let left = waiting(&mut event_loop, async move {
        writer.drain().await.unwrap();
        writer.transport().write_buffer_size()
    });
    drive(&mut event_loop, "the drain", || {
        if transport.flow().is_paused() {
            peer.read_some(256 * KIB);
        }
        left.is_finished()
    });
    let left = finish(&mut event_loop, "its answer", left).unwrap();
    assert!(0 < left && left <= low, "{kind:?}: {left} bytes were left");
}

each_kind!(any_number_of_tasks_may_drain_and_all_go_on_at_the_same_fall);
fn any_number_of_tasks_may_drain_and_all_go_on_at_the_same_fall(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stuck(&mut event_loop, &writer);
    let resumes = event_loop.handle().stats().resumes;
    let writer = Rc::new(writer);
    let drained = Rc::new(Cell::new(0));
    for _ in 0..100 {
        let (writer, drained) = (writer.clone(), drained.clone());
        drop(spawn_on(event_loop.handle(), async move {
            writer.drain().await.unwrap();
            drained.set(drained.get() + 1);
        }));
    }
    settle(&mut event_loop);
    assert_eq!(drained.get(), 0);
    drive(&mut event_loop, "all drains", || {
        peer.read_available();
        drained.get() == 100
    });
    assert_eq!(event_loop.handle().stats().resumes - resumes, 1);
}

/// Runs a loop that always finds room, and returns the number of ticks meanwhile.
fn ticks_during<F>(event_loop: &mut EventLoop, what: &str, future: F) -> u64
where
    F: Future<Output = ()> + 'static,
{
    let before = event_loop.handle().stats().polls;
    finish(event_loop, what, future);
    event_loop.handle().stats().polls - before
}

each_kind!(loops_that_never_have_to_wait_let_the_event_loop_turn_all_the_same);
fn loops_that_never_have_to_wait_let_the_event_loop_turn_all_the_same(kind: Kind) {
    const CALLS: u64 = 10_000;
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    let writer = Rc::new(writer);
    let pauses = event_loop.handle().stats().pauses;
    let one = writer.clone();
    let drains = ticks_during(&mut event_loop, "writes and drains", async move {
        for _ in 0..CALLS {
            one.write(b"x").unwrap();
            one.drain().await.unwrap();
        }
    });
    let flushes = ticks_during(&mut event_loop, "flushes of nothing", async move {
        for _ in 0..CALLS {
            writer.flush().await.unwrap();
        }
    });
    for ticks in [drains, flushes] {
        assert!(ticks >= CALLS / 100, "{kind:?}: {ticks} ticks");
        assert!(ticks <= CALLS / 10, "{kind:?}: {ticks} ticks, for nothing");
    }
    assert_eq!(event_loop.handle().stats().pauses, pauses);
}

each_kind!(a_loop_that_ignores_every_error_does_not_keep_the_end_from_being_told);
fn a_loop_that_ignores_every_error_does_not_keep_the_end_from_being_told(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (reader, writer, mut peer) = opened(&mut event_loop, kind);
    peer.reset();
    finish(&mut event_loop, "the end", async move {
        let mut rounds = 0;
        while reader.closed().is_none() {
            rounds += 1;
            assert!(rounds < 1_000_000, "the event loop never turned");
            // Refused from some time on.
            let _ = writer.write(b"anyone?");
            let _ = writer.drain().await;
        }
    });
}

each_kind!(every_waiter_and_later_call_fails_when_an_abort_elsewhere_lost_the_bytes);
fn every_waiter_and_later_call_fails_when_an_abort_elsewhere_lost_the_bytes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    stuck(&mut event_loop, &writer);
    let writer = Rc::new(writer);
    let waiters = all_waiters(&mut event_loop, &writer);
    let unsent = writer.transport().write_buffer_size() as u64;
    assert!(unsent > 0);
    writer.transport().clone().abort();
    for (n, waiter) in waiters.into_iter().enumerate() {
        let result = finish(&mut event_loop, "a waiter", waiter).unwrap();
        let closed = closed_of(result);
        assert!(matches!(closed.reason(), CloseReason::LocalAbort));
        assert_eq!(closed.unsent(), unsent, "{kind:?}: waiter {n}");
    }
    for late in [
        finish(&mut event_loop, "a late drain", {
            let w = writer.clone();
            async move { w.drain().await }
        }),
        finish(&mut event_loop, "a late flush", {
            let w = writer.clone();
            async move { w.flush().await }
        }),
        finish(&mut event_loop, "a late write_all", {
            let w = writer.clone();
            async move { w.write_all(b"late").await }
        }),
        finish(&mut event_loop, "close", writer.close()),
    ] {
        assert_eq!(closed_of(late).unsent(), unsent, "{kind:?}");
    }
    let late = writer.write(b"late").unwrap_err();
    assert!(matches!(late, WriteError::Closed { .. }), "{late:?}");
}

#[test]
fn writers_get_the_error_of_the_connection_and_readers_first_what_had_arrived() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, Kind::Tcp);
    stuck(&mut event_loop, &writer);
    peer.send(b"last words");
    drive(&mut event_loop, "the words", || {
        writer.transport().stats().received == 10
    });
    let writer = Rc::new(writer);
    let waiters = all_waiters(&mut event_loop, &writer);
    peer.reset();
    for waiter in waiters {
        let closed = closed_of(finish(&mut event_loop, "a waiter", waiter).unwrap());
        assert!(closed.is_reset() && closed.unsent() > 0, "{closed}");
    }
    let closed = closed_of(finish(&mut event_loop, "close", writer.close()));
    assert!(closed.is_reset(), "{closed}");
    finish(&mut event_loop, "the reader", async move {
        let mut words = [0; 10];
        reader.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"last words");
        let error = reader.read_chunk(1).await.unwrap_err();
        assert!(error.as_closed().unwrap().is_reset(), "{error}");
        assert!(!reader.at_eof());
    });
}

each_kind!(a_reader_that_failed_by_itself_does_not_fail_the_writer);
fn a_reader_that_failed_by_itself_does_not_fail_the_writer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    peer.send(b"no end of line here");
    peer.shutdown_write();
    finish(&mut event_loop, "the reader and the writer", async move {
        let error = reader.with_limit(5).read_line().await.unwrap_err();
        assert!(matches!(error, ReadError::LimitOverrun(_)), "{error:?}");
        let error = reader.read_until(b"\n").await.unwrap_err();
        assert!(error.as_incomplete().is_some(), "{error:?}");
        writer.drain().await.unwrap();
        // The peer has ended its side only.
        writer.write_all(b"still here").await.unwrap();
        writer.close().await.unwrap();
    });
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"still here", "{kind:?}");
}

each_kind!(flush_waits_for_what_was_written_before_it_and_not_for_what_came_after);
fn flush_waits_for_what_was_written_before_it_and_not_for_what_came_after(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let writer = Rc::new(writer);
    let target = writer.transport().written();
    let one = writer.clone();
    let flush = waiting(&mut event_loop, async move {
        one.flush().await.unwrap();
        one.transport().sent()
    });
    writer.write(&vec![2; 32 * MIB]).unwrap();
    drive(&mut event_loop, "the flush", || {
        if writer.transport().sent() < target {
            peer.read_some(64 * KIB);
        }
        flush.is_finished()
    });
    let sent = finish(&mut event_loop, "its answer", flush).unwrap();
    assert!(sent >= target, "{kind:?}");
    assert!(writer.transport().write_buffer_size() > 0, "{kind:?}");
}

each_kind!(write_eof_sends_the_rest_and_reading_goes_on);
fn write_eof_sends_the_rest_and_reading_goes_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    writer.write_eof().unwrap();
    writer.write_eof().unwrap();
    assert_eq!(word(&writer.write(b"more").unwrap_err()), "after eof");
    let total = writer.transport().written() as usize;
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert_eq!(peer.received().len(), total, "{kind:?}");
    assert!(!writer.is_closing());
    peer.send(b"answer");
    let read = finish(&mut event_loop, "the answer", async move {
        reader.read_chunk(100).await.map(|chunk| (chunk, reader))
    });
    let (chunk, _reader) = read.unwrap();
    assert_eq!(&chunk[..], b"answer");
    // Both sides have ended.
    peer.shutdown_write();
    drive(&mut event_loop, "the end", || writer.closed().is_some());
    assert!(writer.closed().unwrap().is_clean(), "{kind:?}");
}

each_kind!(a_peer_that_has_ended_its_side_may_be_written_to_until_we_close);
fn a_peer_that_has_ended_its_side_may_be_written_to_until_we_close(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    peer.shutdown_write();
    finish(&mut event_loop, "the rest", async move {
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
        assert!(reader.at_eof() && !writer.is_closing());
        writer.write_all(&[5; 1000]).await.unwrap();
        writer.drain().await.unwrap();
        writer.close().await.unwrap();
        let closed = writer.closed().unwrap();
        assert!(matches!(closed.reason(), CloseReason::PeerEof), "{closed}");
    });
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), [5; 1000], "{kind:?}");
}

each_kind!(what_a_future_waits_for_fails_when_the_loop_is_dropped);
fn what_a_future_waits_for_fails_when_the_loop_is_dropped(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    stuck(&mut event_loop, &writer);
    let mut drain = pin!(writer.drain());
    let mut flush = pin!(writer.flush());
    let mut writing = pin!(writer.write_all(b"never"));
    let mut close = pin!(writer.close());
    assert!(poll_once(drain.as_mut()).is_pending());
    assert!(poll_once(flush.as_mut()).is_pending());
    assert!(poll_once(writing.as_mut()).is_pending());
    assert!(poll_once(close.as_mut()).is_pending());
    drop(event_loop);
    for answer in [poll_once(drain), poll_once(flush), poll_once(writing)] {
        let Poll::Ready(Err(error)) = answer else {
            panic!("{answer:?}");
        };
        let closed = closed_of(Err::<(), _>(error));
        assert!(matches!(closed.reason(), CloseReason::Shutdown), "{kind:?}");
    }
    assert!(matches!(poll_once(close), Poll::Ready(Err(_))), "{kind:?}");
    assert!(Handle::current().is_none());
    assert_eq!(word(&writer.write(b"x").unwrap_err()), "closed");
}

each_kind!(the_halves_work_in_two_tasks);
fn the_halves_work_in_two_tasks(kind: Kind) {
    const TOTAL: usize = 4 * MIB;
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    let data = pattern(0, TOTAL);
    let ours = data.clone();
    let writing = spawn_on(event_loop.handle(), async move {
        for chunk in ours.chunks(10_000) {
            writer.write(chunk).unwrap();
            writer.drain().await.unwrap();
        }
        writer.write_eof().unwrap();
        writer
    });
    let reading = spawn_on(event_loop.handle(), async move {
        reader.read_to_end(TOTAL).await.unwrap()
    });
    let mut sent = 0;
    drive(&mut event_loop, "both ways", || {
        if sent < TOTAL {
            sent += peer.write(&data[sent..]);
            if sent == TOTAL {
                peer.shutdown_write();
            }
        }
        peer.read_some(256 * KIB);
        peer.is_ended() && reading.is_finished() && writing.is_finished()
    });
    assert!(peer.received() == data && peer.saw_eof(), "{kind:?}");
    let read = finish(&mut event_loop, "what was read", reading).unwrap();
    assert!(read == data, "{kind:?}");
}
