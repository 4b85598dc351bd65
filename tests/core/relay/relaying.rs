//! A relay while it lives: what one side sends the other receives, unchanged and in order, within
//! bounded memory, and an end of stream is carried over without ending the other direction.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::wakers::{leave, local_waker};
use support::{
    BOUND, Kind, Log, Peer, Recorder, Scene, Served, TempDir, Tied, adopted, drive, each_kind,
    each_way, no_limits, pattern, relay_server, relayed, settle, tie, untied,
};
use tidegate::{EventLoop, Flow, Relay, RelayReport, WriteLimits};

const MIB: usize = 1024 * 1024;

/// Sends `data`, as far as it goes, from where `sent` is.
fn feed(peer: &mut Peer, data: &[u8], sent: &mut usize) {
    if *sent < data.len() {
        let end = data.len().min(*sent + 256 * 1024);
        *sent += peer.write(&data[*sent..end]);
    }
}

each_way!(what_each_side_sends_arrives_at_the_other_unchanged);
fn what_each_side_sends_arrives_at_the_other_unchanged(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    let (up, down) = (pattern(0, 3 * MIB), pattern(1 << 40, 5 * MIB));
    let (mut up_sent, mut down_sent) = (0, 0);
    drive(&mut event_loop, "both streams", || {
        feed(&mut tied.front, &up, &mut up_sent);
        feed(&mut tied.back, &down, &mut down_sent);
        tied.front.read_available();
        tied.back.read_available();
        tied.back.received().len() >= up.len() && tied.front.received().len() >= down.len()
    });
    assert!(tied.back.received() == up, "{kind:?}: to the back");
    assert!(tied.front.received() == down, "{kind:?}: to the front");
    tied.front.shutdown_write();
    tied.back.shutdown_write();
    let report = tied.report(&mut event_loop);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.to_back.sent, up.len() as u64);
    assert_eq!(report.to_front.sent, down.len() as u64);
}

each_way!(a_side_that_does_not_read_stops_reading_from_the_other_and_no_more);
fn a_side_that_does_not_read_stops_reading_from_the_other_and_no_more(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::with(
        &mut event_loop,
        kind,
        WriteLimits::new().with_high(32 * 1024),
        |_| {},
    );
    let sent = tied.front.fill(&mut event_loop);
    // No tick reads any more: what the front sends stays with the kernel.
    let before = event_loop.handle().stats();
    tied.back.send(b"still here");
    tied.front.expect(&mut event_loop, 10);
    let after = event_loop.handle().stats();
    assert_eq!(after.bytes_received - before.bytes_received, 10);
    let in_memory = after.bytes_received - after.bytes_sent;
    assert!(in_memory > 0, "the back was to stall");
    assert!(in_memory <= 32 * 1024 + 128 * 1024, "{in_memory} in memory");
    tied.back.expect(&mut event_loop, sent);
    assert!(tied.back.received() == pattern(0, sent));
}

each_way!(both_directions_stalled_at_once_lose_nothing);
fn both_directions_stalled_at_once_lose_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    let up = tied.front.fill(&mut event_loop);
    let down = tied.back.fill(&mut event_loop);
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    let in_memory = stats.bytes_received - stats.bytes_sent;
    assert!(in_memory <= 2 * (64 + 128) * 1024, "{in_memory} in memory");
    tied.front.shutdown_write();
    tied.back.shutdown_write();
    tied.back.expect(&mut event_loop, up);
    tied.front.expect(&mut event_loop, down);
    tied.back.expect_end(&mut event_loop);
    tied.front.expect_end(&mut event_loop);
    assert!(tied.back.received() == pattern(0, up));
    assert!(tied.front.received() == pattern(0, down));
    assert!(tied.back.saw_eof() && tied.front.saw_eof());
    let report = tied.report(&mut event_loop);
    assert!(report.is_clean(), "{report:?}");
}

each_way!(the_end_of_one_direction_is_carried_over_and_the_other_direction_goes_on);
fn the_end_of_one_direction_is_carried_over_and_the_other_direction_goes_on(kind: Kind) {
    for front_first in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let Tied {
            mut front,
            mut back,
            reports,
            server: _server,
            dir: _dir,
        } = Tied::new(&mut event_loop, kind);
        if !front_first {
            std::mem::swap(&mut front, &mut back);
        }
        front.send(b"the question");
        front.shutdown_write();
        back.expect_end(&mut event_loop);
        assert_eq!(back.received(), b"the question");
        assert!(back.saw_eof(), "{:?}", back.saw_error());
        // Long after.
        settle(&mut event_loop);
        let answer = pattern(7, 2 * MIB);
        let mut sent = 0;
        drive(&mut event_loop, "the answer", || {
            feed(&mut back, &answer, &mut sent);
            front.read_available();
            front.received().len() == answer.len()
        });
        assert!(front.received() == answer);
        assert!(!front.is_ended());
        assert_eq!(event_loop.handle().stats().connections, 2);
        back.shutdown_write();
        front.expect_end(&mut event_loop);
        assert!(front.saw_eof(), "{:?}", front.saw_error());
        drive(&mut event_loop, "the report", || {
            !reports.borrow().is_empty()
        });
        let report: &RelayReport = &reports.borrow()[0];
        assert!(report.is_clean(), "{report:?}");
        let reasons = [&report.front, report.back.as_ref().unwrap()];
        for closed in reasons {
            assert_eq!(closed.reason().to_string(), "end of stream from the peer");
        }
        let stats = event_loop.handle().stats();
        assert_eq!((stats.connections, stats.lingering), (0, 0));
    }
}

each_way!(an_end_of_stream_waits_for_the_bytes_before_it);
fn an_end_of_stream_waits_for_the_bytes_before_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let mut tied = Tied::new(&mut event_loop, kind);
    let sent = tied.front.fill(&mut event_loop);
    tied.front.shutdown_write();
    settle(&mut event_loop);
    tied.back.expect_end(&mut event_loop);
    assert!(tied.back.saw_eof());
    assert!(tied.back.received() == pattern(0, sent));
}

each_way!(relays_can_be_chained);
fn relays_can_be_chained(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dirs = [TempDir::new(), TempDir::new(), TempDir::new()];
    let served = Served::echo(&handle, kind.somewhere(&dirs[0]).as_str());
    let high = WriteLimits::new().with_high(4096);
    let (second, second_ends) = relay_server(
        &handle,
        kind.somewhere(&dirs[1]).as_str(),
        high,
        &served.address(),
    );
    let (first, first_ends) = relay_server(
        &handle,
        kind.somewhere(&dirs[2]).as_str(),
        WriteLimits::new(),
        &second.local_addrs()[0],
    );
    let mut peer = Peer::connect(&first.local_addrs()[0]);
    let data = pattern(3, 3 * MIB);
    let mut sent = 0;
    drive(&mut event_loop, "the echo", || {
        feed(&mut peer, &data, &mut sent);
        peer.read_available();
        peer.received().len() >= data.len()
    });
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert!(peer.received() == data);
    drive(&mut event_loop, "both reports", || {
        first_ends.borrow().len() + second_ends.borrow().len() == 2
    });
    assert!(first_ends.borrow()[0].is_clean() && second_ends.borrow()[0].is_clean());
}

each_way!(two_connections_that_are_there_can_be_tied_and_what_was_paused_is_resumed);
fn two_connections_that_are_there_can_be_tied_and_what_was_paused_is_resumed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    a.pause_reading();
    a_peer.send(b"sent before");
    settle(&mut event_loop);
    let mut report = tie(&a, &b);
    b_peer.expect(&mut event_loop, 11);
    b_peer.send(b"answer");
    a_peer.expect(&mut event_loop, 6);
    assert_eq!(
        (b_peer.received(), a_peer.received()),
        (&b"sent before"[..], &b"answer"[..])
    );
    assert!(support::answer(&mut report).is_none());
    a_peer.shutdown_write();
    b_peer.shutdown_write();
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.to_back.sent, report.to_front.sent), (11, 6));
}

each_way!(an_end_of_stream_from_before_the_tie_is_carried_over_too);
fn an_end_of_stream_from_before_the_tie_is_carried_over_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (a, mut a_peer) = adopted(
        event_loop.handle(),
        kind,
        Recorder::new(&log).on_eof(|_| Ok(tidegate::OnEof::KeepOpen)),
    );
    a_peer.shutdown_write();
    drive(&mut event_loop, "eof", || log.has(&support::Seen::Eof));
    let (b, mut b_peer) = Scene::of(kind)
        .connected()
        .on(&mut event_loop, Recorder::new(&Log::new()));
    let report = tie(&a, &b);
    b_peer.expect_end(&mut event_loop);
    assert!(b_peer.saw_eof());
    b_peer.send(b"late");
    b_peer.shutdown_write();
    a_peer.expect_end(&mut event_loop);
    assert_eq!(a_peer.received(), b"late");
    assert!(
        event_loop
            .run_until(report.within(BOUND))
            .unwrap()
            .is_clean()
    );
}

each_kind!(limits_that_refuse_a_write_without_a_pause_lose_nothing);
/// The cap counts a little for each queued chunk, the high-water mark does not.
fn limits_that_refuse_a_write_without_a_pause_lose_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    b.set_write_limits(no_limits()).unwrap();
    let report = tie(&a, &b);
    let mut sent: usize = 0;
    while b.write_buffer_size() == 0 {
        sent += a_peer.write(&pattern(sent as u64, 64 * 1024));
        settle(&mut event_loop);
    }
    let full = b.write_buffer_size();
    let limits = WriteLimits::new().with_high(full).with_cap(full);
    b.set_write_limits(limits).unwrap();
    assert_eq!(b.flow(), Flow::Open);
    let written = b.written();
    for _ in 0..2 {
        sent += a_peer.write(&pattern(sent as u64, 700));
        settle(&mut event_loop);
    }
    assert_eq!((b.written(), b.flow()), (written, Flow::Open), "refused");
    assert_eq!(a.stats().received, written + 700, "and read no more");
    a_peer.shutdown_write();
    b_peer.expect_end(&mut event_loop);
    assert!(b_peer.saw_eof());
    assert_eq!(b_peer.received().len(), sent);
    assert!(b_peer.received() == pattern(0, sent));
    b_peer.shutdown_write();
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.to_back.sent, sent as u64);
}

#[test]
fn one_connection_cannot_be_tied_to_itself() {
    let mut event_loop = EventLoop::new().unwrap();
    let (a, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&Log::new()));
    let error = event_loop.run_until(Relay::between(&a, &a)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(!a.is_closing());
}

each_way!(a_relay_that_replaces_a_protocol_gets_the_bytes_that_were_read_too_far);
fn a_relay_that_replaces_a_protocol_gets_the_bytes_that_were_read_too_far(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir).as_str());
    let address = Rc::new(RefCell::new(Some(served.address())));
    let protocol = Recorder::new(&Log::new()).on_data(move |transport, data| {
        assert_eq!(&data[..5], b"HELLO");
        if let Some(address) = address.take() {
            transport.set_protocol(relayed(Relay::to(address)), &data[5..])?;
        }
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"HELLO and the rest");
    peer.expect(&mut event_loop, 13);
    assert_eq!(peer.received(), b" and the rest");
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
}

each_way!(a_side_with_a_new_protocol_leaves_the_relay_and_the_other_is_closed);
fn a_side_with_a_new_protocol_leaves_the_relay_and_the_other_is_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    let report = tie(&a, &b);
    a_peer.send(b"through");
    b_peer.expect(&mut event_loop, 7);
    let log = Log::new();
    a.set_protocol(Recorder::new(&log.clone().switched_in()), b"")
        .unwrap();
    b_peer.expect_end(&mut event_loop);
    assert!(b_peer.saw_eof());
    a_peer.send(b"to the new one");
    drive(&mut event_loop, "data", || log.data_len() == 14);
    assert!(!a.is_closing());
    let error = event_loop.run_until(report.within(BOUND)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

each_way!(both_sides_can_get_other_protocols_and_live_on);
fn both_sides_can_get_other_protocols_and_live_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    tie(&a, &b).detach();
    a_peer.send(b"through");
    b_peer.expect(&mut event_loop, 7);
    let logs = [Log::new().switched_in(), Log::new().switched_in()];
    a.set_protocol(Recorder::new(&logs[0]), b"").unwrap();
    b.set_protocol(Recorder::new(&logs[1]), b"").unwrap();
    settle(&mut event_loop);
    assert!(!a.is_closing() && !b.is_closing());
    a_peer.send(b"a");
    b_peer.send(b"b");
    drive(&mut event_loop, "data", || {
        logs.iter().all(|log| log.data_len() == 1)
    });
    assert_eq!(b_peer.received(), b"through");
}

each_way!(what_is_written_to_a_side_by_others_does_not_count_as_relayed);
fn what_is_written_to_a_side_by_others_does_not_count_as_relayed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, b_peer)] = untied(&mut event_loop, kind);
    let report = tie(&a, &b);
    settle(&mut event_loop);
    // It waits for the end of the tick, unless a write before takes it along and wakes.
    b.write(b"first").unwrap();
    let mut flushed = b.flush();
    let (woken, writes) = (Rc::new(Cell::new(false)), b.clone());
    let wakes = woken.clone();
    let waker = local_waker(move || {
        if !wakes.replace(true) {
            writes.write(&vec![0; MIB]).unwrap();
        }
    });
    leave(&mut flushed, &waker);
    let sent = a_peer.write(&pattern(0, 100_000)) as u64;
    drive(&mut event_loop, "the bytes", || a.stats().received == sent);
    assert!(woken.get(), "nobody was woken");
    drop((a_peer, b_peer));
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    assert_eq!(report.to_back.sent + report.to_back.lost, sent);
}
