//! How streams end: closed, aborted, dropped; and what the other half and the waiters are told.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use support::logs::{Line, keep_log, logged};
use support::{
    Kind, closed_of, drive, each_kind, finish, never_paused, opened, poll_once, settle, stall,
};
use tidegate::{CloseReason, EventLoop, WriteError, WriteLimits};
use tidegate_streams::{Connection, StreamReader, StreamWriter, spawn_on};

const KIB: usize = 1024;

/// Returns the log lines of this thread's streams since the last call.
fn lines() -> Vec<Line> {
    let lines = logged().into_iter();
    lines
        .filter(|line| line.target == "tidegate::streams")
        .collect()
}

each_kind!(close_begins_when_it_is_called_and_refuses_writes_from_then_on);
fn close_begins_when_it_is_called_and_refuses_writes_from_then_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    writer.write(b"before").unwrap();
    assert!(!writer.is_closing());
    let close = writer.close();
    assert!(writer.is_closing());
    let refused = writer.write(b"after").unwrap_err();
    assert!(matches!(refused, WriteError::Closing { .. }), "{refused:?}");
    let refused = writer.write_eof().unwrap_err();
    assert!(matches!(refused, WriteError::Closing { .. }), "{refused:?}");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"before", "{kind:?}");
    finish(&mut event_loop, "close", close).unwrap();
    finish(&mut event_loop, "a second close", writer.close()).unwrap();
}

each_kind!(a_close_waits_for_all_that_was_written_and_those_who_wait_for_that_get_it);
fn a_close_waits_for_all_that_was_written_and_those_who_wait_for_that_get_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let limits = WriteLimits::new().with_high(100).with_low(10);
    writer.transport().set_write_limits(limits).unwrap();
    let total = writer.transport().written() as usize;
    let writer = Rc::new(writer);
    let (one, two, three) = (writer.clone(), writer.clone(), writer.clone());
    let drain = spawn_on(event_loop.handle(), async move { one.drain().await });
    let flush = spawn_on(event_loop.handle(), async move { two.flush().await });
    let late = spawn_on(event_loop.handle(), async move {
        three.write_all(b"too late").await
    });
    settle(&mut event_loop);
    let close = spawn_on(event_loop.handle(), writer.close());
    settle(&mut event_loop);
    assert!(!close.is_finished() && !drain.is_finished() && !flush.is_finished());
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received().len(), total, "{kind:?}");
    finish(&mut event_loop, "flush", flush).unwrap().unwrap();
    finish(&mut event_loop, "close", close).unwrap().unwrap();
    // At the low-water mark when the rest was still on its way, or with the end.
    let drained = finish(&mut event_loop, "drain", drain).unwrap();
    if drained.is_err() {
        assert_eq!(closed_of(drained).unsent(), 0);
    }
    // Its bytes were never taken: it must not say that they were written.
    finish(&mut event_loop, "write_all", late)
        .unwrap()
        .unwrap_err();
}

each_kind!(close_and_the_waiters_fail_when_the_peer_is_gone_before_all_was_sent);
fn close_and_the_waiters_fail_when_the_peer_is_gone_before_all_was_sent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let writer = Rc::new(writer);
    let one = writer.clone();
    let flush = spawn_on(event_loop.handle(), async move { one.flush().await });
    let closes = [writer.close(), writer.close()];
    settle(&mut event_loop);
    assert!(!flush.is_finished());
    peer.reset();
    let flush = closed_of(finish(&mut event_loop, "flush", flush).unwrap());
    assert!(flush.is_reset() && flush.unsent() > 0, "{kind:?}: {flush}");
    for close in closes {
        let close = closed_of(finish(&mut event_loop, "close", close));
        assert_eq!(close.unsent(), flush.unsent(), "{kind:?}");
        assert!(close.is_reset(), "{close}");
    }
}

each_kind!(an_abort_loses_what_is_buffered_and_both_halves_are_told_how_much);
fn an_abort_loses_what_is_buffered_and_both_halves_are_told_how_much(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, kind);
    peer.send(b"held");
    drive(&mut event_loop, "the bytes", || {
        writer.transport().stats().received == 4
    });
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let unsent = writer.transport().write_buffer_size() as u64;
    writer.abort();
    writer.abort();
    assert!(writer.is_closing());
    // It was never paused: that must not look like room.
    let Poll::Ready(drain) = poll_once(pin!(writer.drain())) else {
        panic!("it waits for what is lost");
    };
    assert_eq!(closed_of(drain).unsent(), unsent, "{kind:?}");
    let close = closed_of(finish(&mut event_loop, "close", writer.close()));
    assert!(matches!(close.reason(), CloseReason::LocalAbort));
    assert_eq!(close.unsent(), unsent, "{kind:?}");
    let sent = writer.transport().sent() as usize;
    peer.expect_end(&mut event_loop);
    match kind {
        Kind::Tcp => assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset)),
        Kind::Unix => assert_eq!(peer.received().len(), sent),
    }
    finish(&mut event_loop, "the reader", async move {
        assert_eq!(&reader.read_chunk(100).await.unwrap()[..], b"held");
        let error = reader.read_chunk(100).await.unwrap_err();
        assert_eq!(error.as_closed().unwrap().unsent(), unsent);
        assert!(!reader.at_eof(), "that was not the peer's end");
    });
}

/// Drops a writer in some way: by itself, in a connection, with a task that is cancelled.
type DropIt = fn(&mut EventLoop, StreamReader, StreamWriter) -> Option<StreamReader>;

each_kind!(a_dropped_writer_sends_its_rest_and_the_reader_returns_what_it_holds);
fn a_dropped_writer_sends_its_rest_and_the_reader_returns_what_it_holds(kind: Kind) {
    let ways: [(&str, DropIt); 3] = [
        ("alone", |_, reader, writer| {
            drop(writer);
            Some(reader)
        }),
        ("with its reader", |_, reader, writer| {
            drop(Connection::new(reader, writer));
            None
        }),
        ("in a task that is aborted", |event_loop, reader, writer| {
            let task = spawn_on(event_loop.handle(), async move {
                let _writer = writer;
                std::future::pending::<()>().await;
            });
            settle(event_loop);
            task.abort();
            drive(event_loop, "the abort", || task.is_finished());
            Some(reader)
        }),
    ];
    for (name, drop_it) in ways {
        let mut event_loop = EventLoop::new().unwrap();
        let (reader, writer, mut peer) = opened(&mut event_loop, kind);
        peer.send(b"held");
        drive(&mut event_loop, "the bytes", || {
            writer.transport().stats().received == 4
        });
        stall(&mut event_loop, never_paused(writer.transport()), 1000);
        let transport = writer.transport().clone();
        let (total, unsent) = (transport.written(), transport.write_buffer_size());
        keep_log(log::LevelFilter::Trace);
        let reader = drop_it(&mut event_loop, reader, writer);
        let lines = lines();
        let [
            Line {
                level: log::Level::Debug,
                text: line,
                ..
            },
        ] = &lines[..]
        else {
            panic!("{kind:?} {name}: {lines:?}");
        };
        assert!(line.contains(&format!("{unsent} bytes")), "{line}");
        assert!(line.contains(&transport.id().to_string()), "{line}");
        assert!(transport.is_closing() && transport.closed().is_none());
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received().len() as u64, total, "{kind:?} {name}");
        assert!(peer.saw_eof());
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        assert!(transport.closed().unwrap().is_clean(), "{kind:?} {name}");
        let Some(mut reader) = reader else { continue };
        finish(&mut event_loop, "the reader", async move {
            assert_eq!(&reader.read_chunk(100).await.unwrap()[..], b"held");
            let error = reader.read_to_end(100).await.unwrap_err();
            let closed = error.as_closed().unwrap();
            assert!(matches!(closed.reason(), CloseReason::LocalClose));
            assert!(!reader.at_eof());
        });
    }
}

each_kind!(a_connection_that_the_end_of_the_loop_cuts_is_logged_if_bytes_are_unsent);
fn a_connection_that_the_end_of_the_loop_cuts_is_logged_if_bytes_are_unsent(kind: Kind) {
    for stalled in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let (_reader, writer, _peer) = opened(&mut event_loop, kind);
        let transport = writer.transport().clone();
        if stalled {
            stall(&mut event_loop, never_paused(&transport), 1000);
        }
        let (id, unsent) = (transport.id(), transport.write_buffer_size());
        keep_log(log::LevelFilter::Trace);
        drop(event_loop);
        let texts: Vec<_> = lines().into_iter().map(|line| line.text).collect();
        let peer = transport.peer_addr();
        let cut = format!("{id} (peer {peer}) was cut with {unsent} bytes unsent");
        assert_eq!(texts, Vec::from_iter(stalled.then_some(cut)));
    }
}

each_kind!(a_writer_dropped_with_nothing_unsent_or_after_its_end_is_not_logged);
fn a_writer_dropped_with_nothing_unsent_or_after_its_end_is_not_logged(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    writer.write(b"sent").unwrap();
    settle(&mut event_loop);
    keep_log(log::LevelFilter::Trace);
    drop(writer);
    peer.expect_end(&mut event_loop);
    let (_reader, writer, _peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    writer.abort();
    drop(writer);
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    drop(writer.close());
    drop(writer);
    peer.expect_end(&mut event_loop);
    settle(&mut event_loop);
    assert_eq!(lines(), [], "{kind:?}");
}

#[test]
fn a_writer_dropped_after_a_failed_write_ends_the_connection_of_the_reader() {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, mut peer) = opened(&mut event_loop, Kind::Tcp);
    reader.set_limit(1);
    peer.send(&[1; 64 * KIB]);
    drive(&mut event_loop, "the reader to be full", || {
        !writer.transport().is_reading()
    });
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    peer.reset();
    drive(&mut event_loop, "the failure", || writer.closed().is_some());
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, 1);
    drop(writer);
    drive(&mut event_loop, "the end", || event_loop_is_empty(&reader));
}

fn event_loop_is_empty(reader: &StreamReader) -> bool {
    let transport = reader.transport().expect("of a connection");
    transport.handle().stats().connections == 0
}

each_kind!(a_pending_read_ends_when_the_writer_is_dropped);
fn a_pending_read_ends_when_the_writer_is_dropped(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (mut reader, writer, _peer) = opened(&mut event_loop, kind);
    let mut read: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(async move { reader.read_line().await });
    assert!(poll_once(read.as_mut()).is_pending());
    drop(writer);
    let error = finish(&mut event_loop, "the read", read).unwrap_err();
    let reason = error.as_closed().unwrap().reason().clone();
    assert!(matches!(reason, CloseReason::LocalClose), "{kind:?}");
}

each_kind!(everything_may_be_called_after_the_loop_is_gone_and_nothing_waits);
fn everything_may_be_called_after_the_loop_is_gone_and_nothing_waits(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (reader, writer, _peer) = opened(&mut event_loop, kind);
    drop(event_loop);
    assert!(matches!(writer.write(b"x"), Err(WriteError::Closed { .. })));
    assert!(writer.write_eof().is_err());
    assert!(matches!(
        poll_once(pin!(writer.drain())),
        Poll::Ready(Err(_))
    ));
    assert!(matches!(
        poll_once(pin!(writer.write_all(b"x"))),
        Poll::Ready(Err(_))
    ));
    assert!(matches!(
        poll_once(pin!(writer.close())),
        Poll::Ready(Err(_))
    ));
    // Nothing of it was unsent.
    assert!(matches!(
        poll_once(pin!(writer.flush())),
        Poll::Ready(Ok(()))
    ));
    writer.abort();
    assert!(writer.is_closing() && writer.closed().is_some());
    let (reader, writer) = Connection::new(reader, writer).split();
    drop(writer);
    drop(reader);
}
