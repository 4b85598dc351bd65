//! A reader's limit: how long a line may be, and how much is read ahead.

use futures_io::{AsyncBufRead, AsyncRead};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use support::{
    Kind, Polled, Streamed, drive, each_kind, give_up, now, pattern, settle, thread_time, wait,
};
use tidegate_streams::{LimitOverrun, ReadError};

/// The loop's buffer for reads, and so the most that one of them brings.
const ONE_READ: usize = 128 * 1024;

#[track_caller]
fn assert_overrun<T>(result: Result<T, ReadError>, consumed: usize, found: bool) -> String {
    let error = result.err().unwrap();
    let overrun: &LimitOverrun = error.as_overrun().unwrap();
    assert_eq!((overrun.consumed, overrun.found), (consumed, found));
    error.to_string()
}

each_kind!(a_piece_may_be_as_long_as_the_limit_without_its_separator);
fn a_piece_may_be_as_long_as_the_limit_without_its_separator(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    s.feed(b"four\r\nfour\n");
    assert_eq!(now(s.reader.read_until(b"\r\n")).unwrap(), "four\r\n");
    assert_eq!(now(s.reader.read_line()).unwrap(), "four\n");
}

each_kind!(a_separator_behind_the_limit_is_told_with_the_bytes_before_it_and_all_stays);
fn a_separator_behind_the_limit_is_told_with_the_bytes_before_it_and_all_stays(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    s.feed(b"fives\r\nmore");
    for _ in 0..2 {
        let text = assert_overrun(now(s.reader.read_until(b"\r\n")), 5, true);
        assert_eq!(text, "the separator comes after 5 bytes, beyond the limit");
        assert_overrun(now(s.reader.read_line()), 6, true);
    }
    // This number of bytes can be read away without missing it.
    assert_eq!(now(s.reader.read_chunk(5)).unwrap(), "fives");
    assert_eq!(now(s.reader.read_until(b"\r\n")).unwrap(), "\r\n");
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "more");
}

each_kind!(a_missing_separator_is_told_with_the_bytes_that_hold_none_and_all_stays);
fn a_missing_separator_is_told_with_the_bytes_that_hold_none_and_all_stays(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    s.feed(b"fours\r");
    // The last byte may begin a separator.
    let text = assert_overrun(now(s.reader.read_until(b"\r\n")), 5, false);
    assert_eq!(text, "no end within the limit, in 5 bytes");
    assert_overrun(now(s.reader.read_line()), 6, false);
    let separators: &[&[u8]] = &[b"\n", b"\r\n"];
    assert_overrun(now(s.reader.read_until(separators)), 5, false);
    assert_eq!(now(s.reader.read_chunk(5)).unwrap(), "fours");
    s.feed(b"\n");
    assert_eq!(now(s.reader.read_until(separators)).unwrap(), "\r\n");
}

each_kind!(a_line_that_grows_beyond_the_limit_fails_while_it_is_waited_for);
fn a_line_that_grows_beyond_the_limit_fails_while_it_is_waited_for(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(4);
    let mut reading = Polled::new(s.reader.read_line());
    for sent in 1..=5 {
        assert!(reading.poll().is_pending());
        s.peer.send(b"+");
        drive(&mut s.event_loop, &format!("byte {sent}"), || {
            reading.is_woken()
        });
    }
    assert_overrun(reading.value(), 5, false);
    drop(reading);
    assert_eq!(now(s.reader.read_chunk(9)).unwrap(), "+++++");
}

each_kind!(an_overrun_comes_before_the_end_of_the_stream_or_the_connection);
fn an_overrun_comes_before_the_end_of_the_stream_or_the_connection(kind: Kind) {
    for ends in [true, false] {
        let mut s = Streamed::new(kind);
        s.reader.set_limit(4);
        s.feed(b"fives and more");
        if ends {
            s.end();
        } else {
            s.writer.abort();
            s.lose();
        }
        assert_overrun(now(s.reader.read_line()), 14, false);
        assert_eq!(now(s.reader.read_chunk(99)).unwrap(), "fives and more");
    }
}

each_kind!(reads_that_look_for_no_end_have_no_limit);
fn reads_that_look_for_no_end_have_no_limit(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(1);
    let data = pattern(0, 3 * ONE_READ);
    let (peer, mut buffer) = (&mut s.peer, vec![0; data.len()]);
    for most in [data.len(), data.len() / 3] {
        let mut sent = 0;
        let mut reading = Polled::new(s.reader.read_exact(&mut buffer[..most]));
        let mut done = reading.poll().is_ready();
        drive(&mut s.event_loop, "more than the limit", || {
            sent += peer.write(&data[sent..]);
            if reading.is_woken() && !done {
                done = reading.poll().is_ready();
            }
            done && sent == data.len()
        });
        drop(reading);
        assert!(buffer[..most] == data[..most]);
        let mut rest = data[most..].to_vec();
        let read = s.reader.read_exact(&mut rest);
        wait(&mut s.event_loop, "the rest", read).unwrap();
        assert!(rest == data[most..]);
    }
}

each_kind!(the_limit_of_one_call_is_its_own);
fn the_limit_of_one_call_is_its_own(kind: Kind) {
    let mut s = Streamed::new(kind);
    assert_eq!(s.reader.limit(), 64 * 1024);
    s.reader.set_limit(4);
    s.feed(b"seven..\nfive.\r\n");
    assert_overrun(now(s.reader.read_line()), 7, true);
    assert_overrun(now(s.reader.with_limit(6).read_line()), 7, true);
    assert_eq!(
        now(s.reader.with_limit(7).read_line()).unwrap(),
        "seven..\n"
    );
    let five = now(s.reader.with_limit(5).read_until(b"\r\n"));
    assert_eq!(five.unwrap(), "five.\r\n");
    assert_eq!(s.reader.limit(), 4);
    s.feed(b"\n+\n");
    assert_eq!(now(s.reader.with_limit(0).read_line()).unwrap(), "\n");
    assert_overrun(now(s.reader.with_limit(0).read_line()), 1, true);
}

#[test]
fn a_limit_of_nothing_counts_as_one_byte() {
    let mut s = Streamed::new(Kind::Unix);
    s.reader.set_limit(0);
    assert_eq!(s.reader.limit(), 1);
    s.feed(b"+\n");
    assert_eq!(now(s.reader.read_line()).unwrap(), "+\n");
}

each_kind!(read_to_end_refuses_more_than_its_bound_and_loses_nothing);
fn read_to_end_refuses_more_than_its_bound_and_loses_nothing(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"1234");
    give_up(s.reader.read_to_end(4));
    s.feed(b"5");
    let text = assert_overrun(now(s.reader.read_to_end(4)), 5, false);
    assert_eq!(text, "no end within the limit, in 5 bytes");
    s.end();
    assert_overrun(now(s.reader.read_to_end(4)), 5, false);
    assert_eq!(now(s.reader.read_to_end(5)).unwrap(), "12345");
}

each_kind!(reading_stops_above_twice_the_limit_and_goes_on_at_the_limit);
fn reading_stops_above_twice_the_limit_and_goes_on_at_the_limit(kind: Kind) {
    let mut s = Streamed::new(kind);
    let transport = s.writer.transport().clone();
    s.reader.set_limit(1000);
    s.feed(&[0; 2000]);
    assert!(transport.is_reading(), "at twice the limit");
    s.feed(&[0; 1]);
    assert!(!transport.is_reading(), "above twice the limit");
    now(s.reader.read_chunk(1000)).unwrap();
    assert!(!transport.is_reading(), "above the limit");
    now(s.reader.read_chunk(1)).unwrap();
    assert!(transport.is_reading(), "at the limit");
    s.feed(&[0; 1001]);
    assert!(!transport.is_reading(), "the second time");
    now(s.reader.read_exact(&mut [0; 2001])).unwrap();
    assert!(transport.is_reading(), "empty");
}

each_kind!(a_higher_limit_lets_reading_go_on_at_once);
fn a_higher_limit_lets_reading_go_on_at_once(kind: Kind) {
    let mut s = Streamed::new(kind);
    let transport = s.writer.transport().clone();
    s.reader.set_limit(1000);
    s.feed(&[0; 2001]);
    s.reader.set_limit(2000);
    assert!(!transport.is_reading());
    s.reader.set_limit(2001);
    assert!(transport.is_reading());
}

each_kind!(a_lower_limit_holds_back_at_once);
fn a_lower_limit_holds_back_at_once(kind: Kind) {
    let mut s = Streamed::new(kind);
    let transport = s.writer.transport().clone();
    s.feed(&[0; 2001]);
    s.reader.set_limit(1001);
    assert!(transport.is_reading());
    s.reader.set_limit(1000);
    assert!(!transport.is_reading());
    now(s.reader.read_chunk(1001)).unwrap();
    assert!(transport.is_reading());
}

each_kind!(a_read_that_waits_always_lets_reading_go_on);
fn a_read_that_waits_always_lets_reading_go_on(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(10);
    let transport = s.writer.transport().clone();
    s.feed(&[b'+'; 21]);
    assert!(!transport.is_reading());
    s.peer.send(b"+++\n");
    settle(&mut s.event_loop);
    assert_eq!(s.received(), 21);
    let line = s.reader.with_limit(99).read_line();
    let line = wait(&mut s.event_loop, "a line above twice the limit", line);
    assert_eq!(line.unwrap().len(), 25);
    s.feed(&[b'+'; 21]);
    assert!(!transport.is_reading());
    give_up(s.reader.read_exact(&mut [0; 22]));
    assert!(transport.is_reading());
    s.feed(&[b'+'; 1]);
    assert!(!transport.is_reading());
    give_up(s.reader.read_to_end(99));
    assert!(transport.is_reading());
}

each_kind!(what_a_peer_sends_without_end_is_held_up_to_twice_the_limit_and_one_read);
fn what_a_peer_sends_without_end_is_held_up_to_twice_the_limit_and_one_read(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.reader.set_limit(50_000);
    let sent = s.peer.fill(&mut s.event_loop);
    assert!(s.received() > 100_000, "{}", s.received());
    assert!(s.received() <= 100_000 + ONE_READ, "{}", s.received());
    assert!(sent > s.received(), "the peer was not held up");
    // Lent bytes count too, as long as they are not used up.
    let lent = now(poll_fn(|context| {
        let reader = Pin::new(&mut s.reader);
        reader.poll_fill_buf(context).map_ok(<[u8]>::len)
    }));
    assert_eq!(lent.unwrap(), s.received());
    let before = s.received();
    s.peer.fill(&mut s.event_loop);
    assert_eq!(s.received(), before);
    Pin::new(&mut s.reader).consume(before - 50_001);
    s.peer.fill(&mut s.event_loop);
    assert_eq!(s.received(), before);
    Pin::new(&mut s.reader).consume(1);
    s.peer.fill(&mut s.event_loop);
    assert!(s.received() > before, "using up lets reading go on");
    let held = s.received() - (before - 50_000);
    assert!(held <= 100_000 + ONE_READ, "{held}");
}

each_kind!(what_was_lent_and_not_used_up_is_read_first);
fn what_was_lent_and_not_used_up_is_read_first(kind: Kind) {
    let mut s = Streamed::new(kind);
    s.feed(b"one\ntwo");
    let lent = now(poll_fn(|context| {
        let reader = Pin::new(&mut s.reader);
        reader.poll_fill_buf(context).map_ok(<[u8]>::to_vec)
    }));
    assert_eq!(lent.unwrap(), b"one\ntwo");
    Pin::new(&mut s.reader).consume(1);
    assert!(!s.reader.at_eof());
    s.feed(b"\n");
    let mut buffer = [0; 2];
    let read = now(poll_fn(|context| {
        AsyncRead::poll_read(Pin::new(&mut s.reader), context, &mut buffer)
    }));
    assert_eq!((read.unwrap(), &buffer), (2, b"ne"));
    assert_eq!(now(s.reader.read_line()).unwrap(), "\n");
    assert_eq!(now(s.reader.read_line()).unwrap(), "two\n");
}

each_kind!(without_its_reader_a_connection_throws_away_what_comes);
fn without_its_reader_a_connection_throws_away_what_comes(kind: Kind) {
    let s = Streamed::new(kind);
    let (mut peer, mut event_loop, writer) = (s.peer, s.event_loop, s.writer);
    let mut reader = s.reader;
    reader.set_limit(1000);
    let transport = writer.transport().clone();
    let data = vec![0; 1 << 20];
    let mut sent = peer.write(&data);
    drive(&mut event_loop, "a full reader", || !transport.is_reading());
    drop(reader);
    drive(&mut event_loop, "16 MiB to be taken", || {
        sent += peer.write(&data);
        transport.stats().received >= 16 << 20
    });
    // The other direction lives on.
    writer.write(b"still here").unwrap();
    peer.expect(&mut event_loop, 10);
    peer.shutdown_write();
    drive(&mut event_loop, "the rest", || {
        transport.stats().received == sent as u64 && !transport.is_reading()
    });
    assert!(!transport.is_closing());
}

/// Returns the processor time of reading a line of `len` bytes that come one by one.
fn line_byte_by_byte(len: usize) -> Duration {
    let mut s = Streamed::new(Kind::Unix);
    s.reader.set_limit(usize::MAX);
    let separators: Vec<_> = (0..64).map(|i| [128 + i; 8]).collect();
    let separators: Vec<_> = separators.iter().map(|one| one.as_slice()).collect();
    let mut reading = Polled::new(s.reader.read_until(separators.as_slice()));
    let mut searching = Duration::ZERO;
    for sent in 0..len {
        let begun = thread_time();
        assert!(reading.poll().is_pending(), "after {sent} bytes");
        searching += thread_time() - begun;
        s.peer.send(b"+");
        drive(&mut s.event_loop, "a byte", || reading.is_woken());
    }
    searching
}

#[test]
fn a_long_line_that_comes_byte_by_byte_is_not_searched_again_and_again() {
    // The best of some: others may use this machine too.
    let best = |len| (0..3).map(|_| line_byte_by_byte(len)).min().unwrap();
    let (short, long) = (best(6000), best(24_000));
    println!("6,000 bytes: {short:?}, 24,000 bytes: {long:?}");
    // Four times as long if linear, sixteen times if not.
    assert!(long < short * 9, "{short:?}, then {long:?}");
}
