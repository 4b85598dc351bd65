//! A connection of streams that leaves its loop: its reads and writes end with the reason, and the bytes that
//! were not read go along.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Log, Peer, Polled, Recorder, Streamed, TempDir, drive, each_kind, now, settle, tick,
};
use tidegate::{CloseReason, Closed, Detached, EventLoop, ListenOptions, Transport, WriteError};
use tidegate_streams::{ReadError, StreamReader, StreamWriter, start_server_on};

fn is_detached(closed: Option<&Closed>) -> bool {
    closed.is_some_and(|closed| closed.reason() == &CloseReason::Detached)
}

each_kind!(a_read_that_waits_is_told_that_its_connection_was_detached);
fn a_read_that_waits_is_told_that_its_connection_was_detached(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"partial");
    let mut reading = Polled::new(s.reader.read_line());
    assert!(reading.poll().is_pending());
    let detach = s.writer.transport().detach();
    let detached = s.event_loop.run_until(detach).unwrap();
    drive(&mut s.event_loop, "a wake", || reading.is_woken());
    let error = reading.value().unwrap_err();
    assert!(is_detached(error.as_closed()), "{error:?}");
    drop(reading);
    assert_eq!(detached.unread(), b"partial");
    assert_eq!(s.reader.buffered(), 0);
    assert!(is_detached(s.reader.closed().as_ref()));
    assert!(!s.reader.at_eof(), "only the peer ends a stream");
}

each_kind!(reads_and_writes_fail_after_the_connection_was_detached);
fn reads_and_writes_fail_after_the_connection_was_detached(kind: Kind) {
    let mut s = Streamed::new(kind);
    let draining = s.writer.drain();
    let detach = s.writer.transport().detach();
    let _detached = s.event_loop.run_until(detach).unwrap();
    let reads = [
        now(s.reader.read_line()).map(drop).unwrap_err(),
        now(s.reader.read_chunk(9)).map(drop).unwrap_err(),
        now(s.reader.read_exact(&mut [0; 9])).unwrap_err(),
        now(s.reader.read_to_end(9)).map(drop).unwrap_err(),
    ];
    for error in reads {
        assert!(is_detached(ReadError::as_closed(&error)), "{error:?}");
    }
    let written = s.writer.write(b"late").unwrap_err();
    assert!(matches!(written, WriteError::Closed { .. }), "{written:?}");
    let waits: [io::Error; 4] = [
        now(draining).unwrap_err(),
        now(s.writer.drain()).unwrap_err(),
        now(s.writer.write_all(b"late")).unwrap_err(),
        s.event_loop.run_until(s.writer.close()).unwrap_err(),
    ];
    for error in waits {
        assert!(is_detached(Closed::of(&error).as_ref()), "{error:?}");
    }
}

each_kind!(a_write_that_waits_is_told_that_its_connection_was_detached);
fn a_write_that_waits_is_told_that_its_connection_was_detached(kind: Kind) {
    let mut s = Streamed::new(kind);
    while !s.writer.transport().flow().is_paused() {
        s.writer.write(&[7; 64 * 1024]).unwrap();
    }
    let mut writing = Polled::new(s.writer.write_all(b"behind"));
    assert!(writing.poll().is_pending());
    let detach = s.writer.transport().detach();
    let detached = s.event_loop.run_until(detach).unwrap();
    drive(&mut s.event_loop, "a wake", || writing.is_woken());
    let error = writing.value().unwrap_err();
    assert!(is_detached(Closed::of(&error).as_ref()), "{error:?}");
    assert!(!detached.unsent().is_empty());
}

/// Takes its connection out of the loop, and then reads and drops its halves as others do.
async fn give_away(
    reader: &mut StreamReader,
    writer: StreamWriter,
    taken: &Cell<Option<Detached>>,
) -> tidegate::Result {
    reader.read_line().await?;
    let detached = writer.transport().detach().await?;
    taken.set(Some(detached));
    reader.read_line().await?;
    Ok(())
}

each_kind!(a_handler_may_give_its_connection_to_another_loop_and_its_server_ends);
fn a_handler_may_give_its_connection_to_another_loop_and_its_server_ends(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let taken: Rc<Cell<Option<Detached>>> = Rc::default();
    let into = taken.clone();
    let handler = async move |mut reader: StreamReader, writer: StreamWriter| {
        give_away(&mut reader, writer, &into).await
    };
    let at = ListenOptions::new(kind.somewhere(&dir).as_str());
    let server = start_server_on(event_loop.handle(), at, handler).unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"give me away\nrest");
    let detached = loop {
        tick(&mut event_loop);
        if let Some(detached) = taken.take() {
            break detached;
        }
    };
    let shutdown = server.shutdown(Duration::from_secs(3600));
    let report = event_loop.run_until(shutdown).unwrap();
    assert_eq!((report.closed, report.aborted), (0, 0));
    let log = Log::new();
    let mut other = EventLoop::new().unwrap();
    let arrived: Transport = other
        .handle()
        .attach(detached, Recorder::echo(&log))
        .unwrap();
    peer.expect(&mut other, 4);
    assert_eq!(peer.received(), b"rest");
    arrived.close();
    settle(&mut other);
}
