//! The results of a reader when the connection ends, and not by the peer's end of stream: first the bytes
//! that had arrived, then how it ended.

use std::error::Error;
use std::io;
use support::{Kind, Polled, Streamed, drive, each_kind, give_up, now, wait};
use tidegate::{CloseReason, Closed};
use tidegate_streams::{ReadError, StreamReader};

/// Returns the error of each method.
async fn errors(reader: &mut StreamReader) -> Vec<(&'static str, ReadError)> {
    vec![
        (
            "read_exact",
            reader.read_exact(&mut [0; 99]).await.unwrap_err(),
        ),
        ("read_until", reader.read_until(b"--").await.unwrap_err()),
        ("read_line", reader.read_line().await.unwrap_err()),
        ("lines", reader.lines().next().await.unwrap_err()),
        ("read_to_end", reader.read_to_end(99).await.unwrap_err()),
    ]
}

#[track_caller]
fn assert_all_closed(errors: Vec<(&str, ReadError)>, is_expected: impl Fn(&Closed) -> bool) {
    for (method, error) in errors {
        match error.as_closed() {
            Some(closed) => assert!(is_expected(closed), "{method}: {closed:?}"),
            None => panic!("{method}: {error:?}"),
        }
    }
}

/// The bytes "held" are there, and the connection ends in some way; then they are read.
#[track_caller]
fn assert_gives_what_it_holds(
    kind: Kind,
    end: impl FnOnce(&mut Streamed),
    is_expected: impl Fn(&Closed) -> bool + Copy,
) {
    let mut s = Streamed::new(kind);
    s.feed(b"held");
    end(&mut s);
    s.lose();
    // Those that cannot be complete any more fail, and what is there stays.
    assert_all_closed(now(errors(&mut s.reader)), is_expected);
    assert!(is_expected(&s.reader.closed().unwrap()));
    assert_eq!(now(s.reader.read_chunk(2)).unwrap(), "he");
    let mut buffer = [0; 9];
    assert_eq!(now(s.reader.read(&mut buffer)).unwrap(), 2);
    assert_eq!(&buffer[..2], b"ld");
    for _ in 0..2 {
        let mut all = now(errors(&mut s.reader));
        all.push(("read", now(s.reader.read(&mut buffer)).unwrap_err()));
        all.push(("read_chunk", now(s.reader.read_chunk(9)).unwrap_err()));
        assert_all_closed(all, is_expected);
        assert!(!s.reader.at_eof(), "only the peer ends a stream");
    }
}

fn is_local_close(closed: &Closed) -> bool {
    matches!(closed.reason(), CloseReason::LocalClose)
}

fn is_local_abort(closed: &Closed) -> bool {
    matches!(closed.reason(), CloseReason::LocalAbort)
}

each_kind!(after_our_close_reads_bring_what_is_held_and_then_fail);
fn after_our_close_reads_bring_what_is_held_and_then_fail(kind: Kind) {
    let close = |s: &mut Streamed| s.writer.close().detach();
    assert_gives_what_it_holds(kind, close, is_local_close);
}

each_kind!(after_an_abort_reads_bring_what_is_held_and_then_fail);
fn after_an_abort_reads_bring_what_is_held_and_then_fail(kind: Kind) {
    let abort = |s: &mut Streamed| s.writer.abort();
    assert_gives_what_it_holds(kind, abort, is_local_abort);
}

#[test]
fn after_a_reset_by_the_peer_reads_bring_what_is_held_and_then_fail() {
    let reset = |s: &mut Streamed| s.peer.reset();
    assert_gives_what_it_holds(Kind::Tcp, reset, Closed::is_reset);
}

#[test]
fn what_the_peer_sent_right_before_its_reset_is_read_before_the_error() {
    let mut s = Streamed::new(Kind::Tcp);
    s.peer.send(b"a line\nand more");
    s.peer.reset();
    let line = wait(&mut s.event_loop, "the line", s.reader.read_line());
    assert_eq!(line.unwrap(), "a line\n");
    let line = wait(&mut s.event_loop, "the error", s.reader.read_line());
    assert!(line.unwrap_err().as_closed().unwrap().is_reset());
    assert_eq!(now(s.reader.read_chunk(99)).unwrap(), "and more");
    assert!(
        now(s.reader.read_chunk(99))
            .unwrap_err()
            .as_closed()
            .is_some()
    );
}

each_kind!(a_complete_line_is_read_after_the_end_of_the_connection);
fn a_complete_line_is_read_after_the_end_of_the_connection(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"one\ntwo\nrest");
    s.writer.abort();
    s.lose();
    assert_eq!(now(s.reader.read_line()).unwrap(), "one\n");
    assert_eq!(now(s.reader.read_until(b"\n")).unwrap(), "two\n");
    let mut rest = [0; 4];
    now(s.reader.read_exact(&mut rest)).unwrap();
    assert_eq!(&rest, b"rest");
}

each_kind!(a_read_that_waits_is_told_of_an_end_from_our_side);
fn a_read_that_waits_is_told_of_an_end_from_our_side(kind: Kind) {
    for aborts in [false, true] {
        let mut s = Streamed::new(kind);
        s.feed(b"partial");
        let mut reading = Polled::new(s.reader.read_line());
        assert!(reading.poll().is_pending());
        if aborts {
            s.writer.abort();
        } else {
            s.writer.close().detach();
        }
        drive(&mut s.event_loop, "a wake", || reading.is_woken());
        let error = reading.value().unwrap_err();
        let expected = if aborts {
            is_local_abort
        } else {
            is_local_close
        };
        assert!(expected(error.as_closed().unwrap()), "{error:?}");
        drop(reading);
        assert_eq!(now(s.reader.read_chunk(99)).unwrap(), "partial");
    }
}

#[test]
fn a_read_that_waits_is_told_of_a_reset() {
    let mut s = Streamed::new(Kind::Tcp);
    give_up(s.reader.read_chunk(9));
    s.peer.reset();
    let read = wait(&mut s.event_loop, "the reset", s.reader.read_chunk(9));
    assert!(read.unwrap_err().as_closed().unwrap().is_reset());
}

each_kind!(what_arrives_after_our_close_is_not_read);
fn what_arrives_after_our_close_is_not_read(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"before");
    s.writer.close().detach();
    // The peer may be faster than the close, or not any more.
    let _ = s.peer.try_write(b"after");
    s.lose();
    assert_eq!(now(s.reader.read_chunk(99)).unwrap(), "before");
    assert!(now(s.reader.read_chunk(99)).is_err());
}

each_kind!(dropping_the_writer_closes_for_the_reader_too);
fn dropping_the_writer_closes_for_the_reader_too(kind: Kind) {
    let s = Streamed::new(kind);
    let (mut reader, mut peer, mut event_loop) = (s.reader, s.peer, s.event_loop);
    s.writer.write(b"bye").unwrap();
    drop(s.writer);
    let read = wait(&mut event_loop, "the close", reader.read_chunk(9));
    assert!(is_local_close(read.unwrap_err().as_closed().unwrap()));
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"bye");
}

each_kind!(an_end_of_stream_stays_one_after_our_close);
fn an_end_of_stream_stays_one_after_our_close(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"held");
    s.end();
    s.writer.close().detach();
    s.lose();
    assert!(s.reader.closed().unwrap().is_clean());
    assert_eq!(now(s.reader.read_to_end(9)).unwrap(), "held");
    assert_eq!(now(s.reader.read(&mut [0; 9])).unwrap(), 0);
    assert!(s.reader.at_eof());
}

each_kind!(the_end_of_the_loop_ends_the_streams_of_it);
fn the_end_of_the_loop_ends_the_streams_of_it(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"held");
    drop(s.event_loop);
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "held");
    let error = now(s.reader.read_chunk(9)).unwrap_err();
    assert!(matches!(
        error.as_closed().unwrap().reason(),
        CloseReason::Shutdown
    ));
}

#[test]
fn as_an_io_error_a_read_error_keeps_its_kind_and_itself() {
    let mut s = Streamed::new(Kind::Tcp);
    s.feed(b"too long");
    let overrun = now(s.reader.with_limit(3).read_line()).unwrap_err();
    let none = now(s.reader.read_until(b"")).unwrap_err();
    s.peer.reset();
    s.lose();
    let reset = now(s.reader.read_line()).unwrap_err();
    let mut s = Streamed::new(Kind::Tcp);
    s.end();
    let incomplete = now(s.reader.read_exact(&mut [0; 1])).unwrap_err();
    for (error, kind, has_source) in [
        (overrun, io::ErrorKind::QuotaExceeded, true),
        (none, io::ErrorKind::InvalidInput, false),
        (reset, io::ErrorKind::ConnectionReset, true),
        (incomplete, io::ErrorKind::UnexpectedEof, true),
    ] {
        let text = error.to_string();
        assert_eq!(error.source().is_some(), has_source, "{text}");
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (kind, text));
        assert!(error.get_ref().unwrap().is::<ReadError>());
    }
}
