//! How the end of one side of a relay reaches the other: a close as a close, everything else never
//! as a mere end of stream, and what was received before is delivered first.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::{
    BOUND, Kind, Peer, TempDir, Tied, accept, adopted, drive, each_way, failures, pattern, relayed,
    settle, tie, untied,
};
use tidegate::{
    CloseReason, Closed, EventLoop, OnEof, OnPause, Protocol, Relay, RelayReport, Result,
    Transport, WriteLimits,
};

/// A TCP peer sees a reset; a Unix one cannot, and what it sees is no matter of the relay's.
#[track_caller]
fn assert_was_reset(kind: Kind, peer: &Peer) {
    match kind {
        Kind::Tcp => assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset)),
        Kind::Unix => assert!(peer.is_ended()),
    }
}

fn back(report: &RelayReport) -> Closed {
    report.back.clone().unwrap()
}

each_way!(a_reset_of_one_side_becomes_a_reset_of_the_other_behind_what_was_received);
fn a_reset_of_one_side_becomes_a_reset_of_the_other_behind_what_was_received(kind: Kind) {
    for front_dies in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, a_peer), (b, b_peer)] = untied(&mut event_loop, kind);
        let report = tie(&a, &b);
        let (mut dying, mut other) = if front_dies {
            (a_peer, b_peer)
        } else {
            (b_peer, a_peer)
        };
        dying.send(b"last words");
        other.expect(&mut event_loop, 10);
        other.send(b"unread, so that a Unix peer that closes is seen to break off");
        settle(&mut event_loop);
        dying.reset();
        other.expect_end(&mut event_loop);
        assert_was_reset(kind, &other);
        assert_eq!(other.received(), b"last words");
        let report = event_loop.run_until(report.within(BOUND)).unwrap();
        assert!(!report.is_clean());
        let back = back(&report);
        let (dead, cut) = if front_dies {
            (report.front, back)
        } else {
            (back, report.front)
        };
        assert!(dead.is_reset(), "{dead}");
        assert!(matches!(cut.reason(), CloseReason::LocalAbort), "{cut}");
        settle(&mut event_loop);
        let stats = event_loop.handle().stats();
        assert_eq!((stats.connections, stats.timers), (0, 0));
    }
}

#[test]
fn a_side_that_nothing_was_sent_to_is_reset_at_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, Kind::Tcp);
    tied.back.reset();
    drive(&mut event_loop, "the report", || {
        !tied.reports.borrow().is_empty()
    });
    tied.front.expect_end(&mut event_loop);
    assert_was_reset(Kind::Tcp, &tied.front);
    // The grace for bytes on their way would have needed a timer.
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_way!(an_early_answer_before_a_reset_arrives_although_the_front_was_still_sending);
fn an_early_answer_before_a_reset_arrives_although_the_front_was_still_sending(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.front.fill(&mut event_loop);
    let before = event_loop.handle().stats().bytes_received;
    let answer = pattern(9, 150_000);
    let mut given = 0;
    drive(&mut event_loop, "the answer with the relay", || {
        given += tied.back.write(&answer[given..]);
        given == answer.len()
    });
    settle(&mut event_loop);
    let received = event_loop.handle().stats().bytes_received - before;
    assert_eq!(received, answer.len() as u64);
    tied.back.reset();
    tied.front.expect_end(&mut event_loop);
    assert!(tied.front.received() == answer, "{kind:?}");
    assert_was_reset(kind, &tied.front);
    let report = tied.report(&mut event_loop);
    assert!(back(&report).is_reset());
    assert!(report.to_back.lost > 0, "{report:?}");
    assert_eq!(report.to_front.sent, answer.len() as u64);
}

each_way!(what_the_kernel_still_has_for_a_peer_gets_through_before_the_reset);
/// The kernel still has much of it for a slow reader when the relay has nothing more to send.
fn what_the_kernel_still_has_for_a_peer_gets_through_before_the_reset(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.front
        .send(b"unread, so that a Unix peer that closes is seen to break off");
    settle(&mut event_loop);
    let before = event_loop.handle().stats().bytes_received;
    let sent = tied.back.write(&pattern(0, 2 << 20));
    settle(&mut event_loop);
    let received = (event_loop.handle().stats().bytes_received - before) as usize;
    assert!(received > 128 * 1024 && received <= sent, "{received}");
    tied.back.reset();
    drive(&mut event_loop, "the end at the front", || {
        tied.front.read_some(256 * 1024);
        tied.front.is_ended()
    });
    assert_was_reset(kind, &tied.front);
    let got = tied.front.received();
    assert!(got.len() >= received, "{} of {received}", got.len());
    assert!(got == pattern(0, got.len()));
    let report = tied.report(&mut event_loop);
    assert_eq!(report.to_front.sent, got.len() as u64);
    assert_eq!(report.to_front.lost, 0);
}

each_way!(when_both_sides_die_while_both_are_stalled_nothing_is_left);
fn when_both_sides_die_while_both_are_stalled_nothing_is_left(kind: Kind) {
    for front_first in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, a_peer), (b, b_peer)] = untied(&mut event_loop, kind);
        let report = tie(&a, &b);
        let (mut first, mut second) = if front_first {
            (a_peer, b_peer)
        } else {
            (b_peer, a_peer)
        };
        first.fill(&mut event_loop);
        second.fill(&mut event_loop);
        assert!(!a.is_reading() && !b.is_reading());
        first.reset();
        settle(&mut event_loop);
        second.reset();
        let report = event_loop.run_until(report.within(BOUND)).unwrap();
        assert!(!report.front.is_clean() && !back(&report).is_clean());
        assert!(report.to_back.lost > 0 && report.to_front.lost > 0);
        settle(&mut event_loop);
        let stats = event_loop.handle().stats();
        assert_eq!(
            (stats.connections, stats.timers, stats.completions),
            (0, 0, 0)
        );
    }
}

each_way!(every_byte_that_was_received_is_reported_as_sent_or_lost);
fn every_byte_that_was_received_is_reported_as_sent_or_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.front.fill(&mut event_loop);
    tied.back.send(b"up");
    tied.front.expect(&mut event_loop, 2);
    let stalled = event_loop.handle().stats();
    tied.back.reset();
    let report = tied.report(&mut event_loop);
    let stats = event_loop.handle().stats();
    let (up, down) = (report.to_back, report.to_front);
    assert_eq!((down.sent, down.lost), (2, 0));
    assert_eq!(up.sent + down.sent, stats.bytes_sent);
    assert_eq!(up.sent + up.lost + down.sent, stats.bytes_received);
    assert!(up.lost >= stalled.bytes_received - stalled.bytes_sent);
    assert!(back(&report).unsent() > 0);
}

each_way!(a_close_of_one_side_closes_the_other_once_it_has_all);
fn a_close_of_one_side_closes_the_other_once_it_has_all(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    let report = tie(&a, &b);
    let sent = a_peer.fill(&mut event_loop);
    assert!(b.write_buffer_size() > 0);
    let received = a.stats().received as usize;
    b_peer.send(b"answer");
    a_peer.expect(&mut event_loop, 6);
    a.close();
    b_peer.expect(&mut event_loop, received);
    b_peer.expect_end(&mut event_loop);
    assert!(b_peer.saw_eof(), "{:?}", b_peer.saw_error());
    assert!(b_peer.received() == pattern(0, received) && received < sent);
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(matches!(report.front.reason(), CloseReason::LocalClose));
    assert!(matches!(back(&report).reason(), CloseReason::LocalClose));
    assert_eq!(a_peer.received(), b"answer");
}

each_way!(a_side_that_closes_slowly_stops_the_reading_of_the_other);
fn a_side_that_closes_slowly_stops_the_reading_of_the_other(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    a.set_write_limits(WriteLimits::new().with_high(1 << 30).with_cap(1 << 30))
        .unwrap();
    let report = tie(&a, &b);
    // The kernel for the front is full, and the relay has some.
    let mut sent = 0;
    while a.write_buffer_size() == 0 {
        sent += b_peer.write(&pattern(sent as u64, 64 * 1024));
        settle(&mut event_loop);
    }
    let received = b.stats().received as usize;
    // Bytes in a pipe have stopped it already.
    let lost = if b.is_reading() { 8 } else { 0 };
    a.close();
    b_peer.send(b"too late");
    settle(&mut event_loop);
    assert!(!b.is_reading());
    let before = event_loop.handle().stats().bytes_received;
    b_peer.write(&[0; 100_000]);
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().bytes_received, before);
    a_peer.expect_end(&mut event_loop);
    assert!(a_peer.received() == pattern(0, received));
    assert!(a_peer.saw_eof());
    b_peer.expect_end(&mut event_loop);
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert_eq!(report.to_front.lost, lost);
    assert!(report.front.is_clean() && back(&report).is_clean());
    assert_eq!(report.is_clean(), lost == 0, "bytes were lost");
}

each_way!(an_abort_a_timeout_and_a_shutdown_of_one_side_reset_the_other);
fn an_abort_a_timeout_and_a_shutdown_of_one_side_reset_the_other(kind: Kind) {
    let ways: [fn(&Transport); 3] = [
        Transport::abort,
        Transport::reset,
        // There is something to send, and nobody takes it.
        |transport| transport.close_within(Duration::from_millis(1)),
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
        let report = tie(&a, &b);
        a_peer.send(b"before");
        b_peer.expect(&mut event_loop, 6);
        b_peer.fill(&mut event_loop);
        assert!(a.write_buffer_size() > 0);
        way(&a);
        b_peer.expect_end(&mut event_loop);
        assert_was_reset(kind, &b_peer);
        assert_eq!(b_peer.received(), b"before", "{n}");
        let report = event_loop.run_until(report.within(BOUND)).unwrap();
        assert!(!report.front.is_clean(), "{report:?}");
        assert!(report.to_front.lost > 0, "{report:?}");
        assert!(matches!(back(&report).reason(), CloseReason::LocalAbort));
    }
}

each_way!(a_shutdown_of_the_front_s_server_closes_the_backs_after_what_is_buffered);
fn a_shutdown_of_the_front_s_server_closes_the_backs_after_what_is_buffered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.front.fill(&mut event_loop);
    let received = event_loop.handle().stats().bytes_received as usize;
    tied.back.send(b"answer");
    tied.front.expect(&mut event_loop, 6);
    let shutdown = tied.server.shutdown(Duration::from_secs(20));
    tied.back.expect_end(&mut event_loop);
    assert!(tied.back.saw_eof());
    assert!(tied.back.received() == pattern(0, received));
    tied.front.expect_end(&mut event_loop);
    tied.front.close();
    let shutdown = event_loop.run_until(shutdown.within(BOUND)).unwrap();
    assert_eq!((shutdown.closed, shutdown.aborted), (1, 0));
    assert!(tied.report(&mut event_loop).is_clean());
    tied.back.close();
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, 0);
}

each_way!(a_front_that_is_cut_at_the_end_of_the_grace_takes_its_back_along);
fn a_front_that_is_cut_at_the_end_of_the_grace_takes_its_back_along(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.back.fill(&mut event_loop);
    let shutdown = tied.server.shutdown(Duration::from_millis(1));
    let shutdown = event_loop.run_until(shutdown.within(BOUND)).unwrap();
    assert_eq!(shutdown.aborted, 1);
    tied.back.expect_end(&mut event_loop);
    assert_was_reset(kind, &tied.back);
    let report = tied.report(&mut event_loop);
    assert!(matches!(report.front.reason(), CloseReason::Shutdown));
    assert!(report.to_front.lost > 0);
}

each_way!(the_end_of_the_loop_ends_both_sides_tells_it_and_keeps_nothing);
fn the_end_of_the_loop_ends_both_sides_tells_it_and_keeps_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    tied.front.fill(&mut event_loop);
    tied.back.fill(&mut event_loop);
    let [(a, _a_peer), (b, _b_peer)] = untied(&mut event_loop, kind);
    let mut between = tie(&a, &b);
    settle(&mut event_loop);
    let reports = tied.reports.clone();
    assert_eq!(Rc::strong_count(&reports), 4, "test, factory, relay");
    drop(event_loop);
    assert_eq!(Rc::strong_count(&reports), 2, "test only");
    let report = reports.borrow()[0].clone();
    assert!(matches!(report.front.reason(), CloseReason::Shutdown));
    assert!(matches!(back(&report).reason(), CloseReason::Shutdown));
    assert!(report.to_back.lost > 0 && report.to_front.lost > 0);
    let between = support::answer(&mut between).unwrap().unwrap();
    assert!(matches!(between.front.reason(), CloseReason::Shutdown));
    tied.front.read_available();
    tied.back.read_available();
    assert!(tied.front.is_ended() && tied.back.is_ended());
}

each_way!(a_connection_that_has_ended_before_the_tie_ends_the_other);
fn a_connection_that_has_ended_before_the_tie_ends_the_other(kind: Kind) {
    for clean in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, _a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
        if clean {
            a.close();
        } else {
            a.abort();
        }
        let closed = event_loop.run_until(a.wait_closed()).unwrap();
        assert_eq!(closed.is_clean(), clean);
        let report = event_loop.run_until(tie(&a, &b).within(BOUND)).unwrap();
        b_peer.expect_end(&mut event_loop);
        if clean {
            assert!(b_peer.saw_eof());
        } else {
            assert_was_reset(kind, &b_peer);
        }
        assert_eq!(report.is_clean(), clean);
    }
}

each_way!(no_end_of_a_connection_counts_as_an_error_of_the_relays_own);
fn no_end_of_a_connection_counts_as_an_error_of_the_relays_own(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    for round in 0..4 {
        let mut tied = Tied::new(&mut event_loop, kind);
        tied.front.fill(&mut event_loop);
        tied.back.fill(&mut event_loop);
        match round {
            0 => tied.front.reset(),
            1 => tied.back.reset(),
            2 => tied.server.abort_clients(),
            _ => tied.server.close_clients(),
        }
        drive(&mut event_loop, "the report", || {
            tied.read_available();
            !tied.reports.borrow().is_empty()
        });
    }
    assert!(failures.borrow().is_empty(), "{:?}", failures.borrow());
}

/// Does not even say what it wraps.
struct Wrapper(Relay);

impl Protocol for Wrapper {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.0.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0.data_received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.0.eof_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.0.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.0.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.connection_lost(transport, closed);
    }
}

each_way!(a_relay_works_within_another_protocol);
fn a_relay_works_within_another_protocol(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let relay = Wrapper(relayed(Relay::to(&address)));
    let (front, mut front_peer) = adopted(event_loop.handle(), kind, relay);
    let mut back_peer = accept(&mut event_loop, &listener);
    front_peer.fill(&mut event_loop);
    let received = front.stats().received as usize;
    front.abort();
    // The back still does not read: what is buffered for it keeps the reset off.
    settle(&mut event_loop);
    back_peer.expect_end(&mut event_loop);
    assert_was_reset(kind, &back_peer);
    assert!(back_peer.received() == pattern(0, received));
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, 0);
}
