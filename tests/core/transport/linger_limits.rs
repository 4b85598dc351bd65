//! The limits of the linger after a close, in time and in bytes: what they bound, where they are set,
//! and which holds.

use super::timed::{INSTANT, Timed};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use support::{
    Kind, Log, Peer, Recorder, Scene, Served, TempDir, adopted, drive, each_kind, pattern, settle,
};
use tidegate::{EventLoop, LingerLimits, ListenOptions, Transport};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn bytes(bytes: u64) -> LingerLimits {
    LingerLimits::new().with_time(HOUR).with_bytes(bytes)
}

fn time(time: Duration) -> LingerLimits {
    LingerLimits::new().with_time(time)
}

fn lingering(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().lingering
}

/// A reply that the peer has not read, then our close.
fn replied(
    event_loop: &mut EventLoop,
    kind: Kind,
    limits: Option<LingerLimits>,
) -> (Log, Transport, Peer) {
    let log = Log::new();
    let (transport, peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    if let Some(limits) = limits {
        transport.set_linger_limits(limits);
    }
    transport.write(&pattern(0, 50_000)).unwrap();
    transport.close();
    drive(event_loop, "lost", || log.is_lost());
    assert!(log.closed().is_clean());
    (log, transport, peer)
}

/// The peer sends until it is refused and the loop has nothing to do.
fn flood(event_loop: &mut EventLoop, peer: &mut Peer) -> u64 {
    let chunk = vec![7; 256 * 1024];
    let mut sent = 0;
    loop {
        let now = peer.write(&chunk) as u64;
        sent += now;
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        if now == 0 {
            settle(event_loop);
            if peer.write(&chunk[..1]) == 0 {
                return sent;
            }
            sent += 1;
        }
    }
}

#[track_caller]
fn expect_reply(event_loop: &mut EventLoop, peer: &mut Peer) {
    peer.expect_end(event_loop);
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    assert!(peer.received() == pattern(0, 50_000));
}

each_kind!(at_the_limit_in_bytes_discarding_stops_and_the_peer_may_still_read);
fn at_the_limit_in_bytes_discarding_stops_and_the_peer_may_still_read(kind: Kind) {
    // Less than a read, and more than a tick discards.
    for limit in [0, 100_000, 3_000_001] {
        let mut event_loop = EventLoop::new().unwrap();
        let (_, _, mut peer) = replied(&mut event_loop, kind, Some(bytes(limit)));
        let sent = flood(&mut event_loop, &mut peer);
        assert!(sent > limit);
        let stats = event_loop.handle().stats();
        assert_eq!((stats.bytes_received, stats.lingering), (limit, 1));
        expect_reply(&mut event_loop, &mut peer);
    }
}

each_kind!(a_peer_that_sends_at_full_speed_is_read_up_to_a_bound_by_default);
fn a_peer_that_sends_at_full_speed_is_read_up_to_a_bound_by_default(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_, _, mut peer) = replied(&mut event_loop, kind, None);
    let handle = event_loop.handle().clone();
    let chunk = vec![7; 256 * 1024];
    drive(&mut event_loop, "the end of the linger", || {
        // Refused once the linger is over.
        let _ = peer.try_write(&chunk);
        handle.stats().lingering == 0
    });
    let most = LingerLimits::new().bytes();
    let received = handle.stats().bytes_received;
    assert!(received <= most, "{received} of {most}");
    assert_eq!(handle.stats().timers, 0);
}

each_kind!(the_end_of_the_peers_stream_behind_the_limit_does_not_destroy_the_reply);
fn the_end_of_the_peers_stream_behind_the_limit_does_not_destroy_the_reply(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_, _, mut peer) = replied(&mut event_loop, kind, Some(bytes(1000)));
    // A plain client: it sends all, ends its stream, and only then reads.
    peer.send(&[7; 20_000]);
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    expect_reply(&mut event_loop, &mut peer);
}

#[test]
fn a_reset_behind_the_limit_ends_the_linger() {
    let mut event_loop = EventLoop::new().unwrap();
    let (_, _, mut peer) = replied(&mut event_loop, Kind::Tcp, Some(bytes(1000)));
    peer.send(&[7; 20_000]);
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    peer.reset();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the end of the linger", || {
        handle.stats().lingering == 0
    });
    assert_eq!(handle.stats().timers, 0);
}

each_kind!(without_time_the_socket_is_closed_at_once);
fn without_time_the_socket_is_closed_at_once(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).connected().set();
    transport.set_linger_limits(time(Duration::ZERO));
    transport.pause_reading();
    peer.send(b"unread");
    settle(&mut event_loop);
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(lingering(&event_loop), 0);
    // As close(2) does: the peer is told that nobody has read it.
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
}

each_kind!(a_server_a_connect_and_a_transport_can_set_them_and_the_last_holds);
fn a_server_a_connect_and_a_transport_can_set_them_and_the_last_holds(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let at = ListenOptions::new(kind.somewhere(&dir)).linger_limits(time(HOUR));
    let served = Served::new(event_loop.handle(), at, |it| it);
    let [mut peer] = served.connect(&mut event_loop);
    assert_eq!(served.transport(0).linger_limits(), time(HOUR));
    served.transport(0).close();
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    let start = Instant::now();
    drive(&mut event_loop, "more than the default", || {
        start.elapsed() > SECOND * 11 / 10
    });
    assert_eq!(lingering(&event_loop), 1);
    peer.close();
    settle(&mut event_loop);

    let [_peer] = served.connect(&mut event_loop);
    served.transport(1).set_linger_limits(time(Duration::ZERO));
    assert_eq!(served.transport(1).linger_limits(), time(Duration::ZERO));
    served.transport(1).close();
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 0);

    let set = |options: tidegate::ConnectOptions| options.linger_limits(time(Duration::ZERO));
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).connected_with(set).set();
    assert_eq!(transport.linger_limits(), time(Duration::ZERO));
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(lingering(&event_loop), 0);

    let (_, _, transport, _peer) = Scene::of(kind).set();
    assert_eq!(transport.linger_limits(), LingerLimits::new());
    assert_eq!(LingerLimits::new().time(), SECOND);
}

each_kind!(they_may_be_set_until_connection_lost_and_do_no_harm_after_it);
fn they_may_be_set_until_connection_lost_and_do_no_harm_after_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_lost(|transport, _| {
        transport.set_linger_limits(time(Duration::ZERO));
    });
    let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(lingering(&event_loop), 0);
    transport.set_linger_limits(time(HOUR));
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 0);
}

/// In the simulated world, where time is exact.
fn closed(limits: LingerLimits) -> Timed {
    let mut timed = Timed::new();
    timed.transport.set_linger_limits(limits);
    timed.transport.write(b"reply").unwrap();
    timed.transport.close();
    timed.run();
    assert!(timed.log.is_lost());
    timed
}

#[test]
fn a_linger_ends_at_its_time_and_not_before() {
    for limit in [SECOND / 7, SECOND, 20 * SECOND] {
        let mut timed = closed(time(limit));
        timed.peer.send(b"more").unwrap();
        timed.pass(limit - INSTANT);
        assert_eq!(timed.host.handle().stats().lingering, 1);
        timed.pass(INSTANT);
        let stats = timed.host.handle().stats();
        assert_eq!((stats.lingering, stats.timers), (0, 0));
        timed.read(100);
        assert_eq!(timed.received, b"reply");
        assert!(timed.peer.is_ended());
    }
}

#[test]
fn what_is_above_the_limit_in_bytes_is_reset_at_the_end_of_the_time_alone() {
    let limits = LingerLimits::new().with_bytes(10);
    let mut timed = closed(limits);
    timed.peer.send(&[7; 11]).unwrap();
    timed.pass(SECOND - INSTANT);
    assert!(!timed.peer.is_reset());
    assert_eq!(timed.host.handle().stats().bytes_received, 10);
    timed.pass(INSTANT);
    assert_eq!(timed.host.handle().stats().lingering, 0);
    assert!(timed.peer.is_reset());

    // All of it was below the limit, so nothing resets.
    let mut timed = closed(limits);
    timed.peer.send(&[7; 10]).unwrap();
    timed.pass(SECOND);
    assert_eq!(timed.host.handle().stats().lingering, 0);
    assert!(!timed.peer.is_reset());
}
