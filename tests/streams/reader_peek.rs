//! Looking at what has arrived, and waiting for it, without taking it.

use std::time::Duration;
use support::{Kind, Peer, Polled, Streamed, drive, each_kind, give_up, now, settle, wait};
use tidegate_streams::ReadError;

each_kind!(a_reader_is_readable_when_a_read_would_not_wait_and_nothing_is_taken);
fn a_reader_is_readable_when_a_read_would_not_wait_and_nothing_is_taken(kind: Kind) {
    let mut s = Streamed::new(kind);
    give_up(s.reader.readable());
    assert_eq!(s.reader.buffered(), 0);
    s.peer.send(b"abc");
    wait(&mut s.event_loop, "bytes", s.reader.readable()).unwrap();
    assert_eq!(s.reader.buffered(), 3);
    now(s.reader.readable()).unwrap();
    assert_eq!(&now(s.reader.read_chunk(2)).unwrap()[..], b"ab");
    assert_eq!(s.reader.buffered(), 1);
    now(s.reader.readable()).unwrap();
    assert_eq!(&now(s.reader.read_chunk(2)).unwrap()[..], b"c");
    give_up(s.reader.readable());
}

each_kind!(a_reader_is_readable_at_the_end_of_the_stream_and_fails_at_another_end);
fn a_reader_is_readable_at_the_end_of_the_stream_and_fails_at_another_end(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.peer.shutdown_write();
    wait(&mut s.event_loop, "the end", s.reader.readable()).unwrap();
    assert!(s.reader.at_eof());
    assert_eq!(s.reader.buffered(), 0);

    let mut s = Streamed::new(kind);
    s.feed(b"last");
    s.writer.abort();
    s.lose();
    now(s.reader.readable()).unwrap();
    assert_eq!(s.reader.buffered(), 4);
    assert_eq!(&now(s.reader.read_chunk(9)).unwrap()[..], b"last");
    let error = now(s.reader.readable()).unwrap_err();
    assert!(matches!(error, ReadError::Closed(_)), "{error:?}");
}

each_kind!(a_peek_waits_for_its_bytes_and_leaves_them_to_every_read);
fn a_peek_waits_for_its_bytes_and_leaves_them_to_every_read(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"one\n");
    give_up(s.reader.peek(6));
    assert_eq!(now(s.reader.peek(0)).unwrap(), b"");
    assert_eq!(now(s.reader.peek(2)).unwrap(), b"on");
    // Longer than the one before, also with bytes that came meanwhile.
    let mut peek = Polled::new(s.reader.peek(6));
    assert!(peek.poll().is_pending());
    s.peer.send(b"two\nthree\nfour five");
    drive(&mut s.event_loop, "the rest", || peek.is_woken());
    assert_eq!(peek.value().unwrap(), b"one\ntw");
    drop(peek);
    let transport = s.writer.transport().clone();
    drive(&mut s.event_loop, "all of it", || {
        transport.stats().received == 23
    });
    assert_eq!(s.reader.buffered(), 23);
    assert_eq!(&now(s.reader.read_line()).unwrap()[..], b"one\n");
    assert_eq!(now(s.reader.peek(3)).unwrap(), b"two");
    assert_eq!(&now(s.reader.read_until(b"\n")).unwrap()[..], b"two\n");
    assert_eq!(now(s.reader.peek(3)).unwrap(), b"thr");
    let mut exact = [0; 6];
    now(s.reader.read_exact(&mut exact)).unwrap();
    assert_eq!(&exact, b"three\n");
    assert_eq!(now(s.reader.peek(3)).unwrap(), b"fou");
    let mut some = [0; 5];
    assert_eq!(now(s.reader.read(&mut some)).unwrap(), 5);
    assert_eq!(&some, b"four ");
    assert_eq!(now(s.reader.peek(4)).unwrap(), b"five");
    s.peer.shutdown_write();
    let rest = wait(&mut s.event_loop, "the rest", s.reader.read_to_end(100));
    assert_eq!(&rest.unwrap()[..], b"five");
}

each_kind!(a_peek_at_the_end_of_the_stream_gives_what_is_there);
fn a_peek_at_the_end_of_the_stream_gives_what_is_there(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"ab");
    s.end();
    assert_eq!(now(s.reader.peek(4)).unwrap(), b"ab");
    assert!(!s.reader.at_eof());
    assert_eq!(&now(s.reader.read_chunk(4)).unwrap()[..], b"ab");
    assert_eq!(now(s.reader.peek(4)).unwrap(), b"");
    assert!(s.reader.at_eof());
}

each_kind!(a_peek_that_another_end_leaves_short_fails_and_leaves_its_bytes);
fn a_peek_that_another_end_leaves_short_fails_and_leaves_its_bytes(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"ab");
    s.writer.abort();
    s.lose();
    assert_eq!(now(s.reader.peek(2)).unwrap(), b"ab");
    let error = now(s.reader.peek(3)).unwrap_err();
    assert!(matches!(error, ReadError::Closed(_)), "{error:?}");
    assert_eq!(&now(s.reader.read_chunk(9)).unwrap()[..], b"ab");
}

each_kind!(a_peek_up_to_the_limit_is_served_and_one_above_it_fails_at_once);
fn a_peek_up_to_the_limit_is_served_and_one_above_it_fails_at_once(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(1000);
    let data = support::pattern(0, 100_000);
    let mut sent = 0;
    let overrun = now(s.reader.peek(1001)).unwrap_err();
    assert!(overrun.as_overrun().is_some(), "{overrun}");
    // However full the reader is, a peek within the limit is served.
    let send = |peer: &mut Peer, sent: &mut usize| *sent += peer.write(&data[*sent..]);
    send(&mut s.peer, &mut sent);
    settle(&mut s.event_loop);
    assert!(!s.writer.transport().is_reading(), "it is full");
    let mut taken = Vec::new();
    while taken.len() < 50_000 {
        send(&mut s.peer, &mut sent);
        let peeked = wait(&mut s.event_loop, "the peek", s.reader.peek(1000));
        let peeked = peeked.unwrap().to_vec();
        let chunk = now(s.reader.read_chunk(700)).unwrap();
        assert_eq!(peeked[..700], chunk[..]);
        taken.extend_from_slice(&chunk);
    }
    assert_eq!(taken, data[..taken.len()]);
}

each_kind!(a_peek_that_is_dropped_where_it_waits_takes_nothing);
fn a_peek_that_is_dropped_where_it_waits_takes_nothing(kind: Kind) {
    let mut s = Streamed::new(kind);
    for byte in b"abc" {
        s.feed(&[*byte]);
        give_up(s.reader.peek(4));
    }
    s.feed(b"d");
    assert_eq!(now(s.reader.peek(4)).unwrap(), b"abcd");
    assert_eq!(s.reader.buffered(), 4);
    let _ = s.event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(&now(s.reader.read_chunk(9)).unwrap()[..], b"abcd");
}
