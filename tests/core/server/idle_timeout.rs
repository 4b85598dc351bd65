//! Connections of a server over which no byte moves end. By the clock of the simulated world where
//! the rule is one of times.

use std::time::{Duration, Instant};
use support::{
    Kind, Log, MIB, Recorder, Served, TempDir, drive, each_kind, never_paused, stall, text,
};
use tidegate::{CloseReason, EventLoop, ListenOptions, OnPause, TimeoutKind};
use tidegate_testkit::{Host, Link, Peer as SimPeer, World};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const INSTANT: Duration = Duration::from_nanos(1);

/// The time that the looks of a limit may take more than five quarters of it, by rounding.
pub(crate) const LATE: Duration = Duration::from_micros(5);

/// A server in the simulated world.
pub(crate) struct Timed {
    pub(crate) world: World,
    pub(crate) host: Host,
    pub(crate) served: Served,
}

impl Timed {
    pub(crate) fn new(
        limit: Duration,
        more: impl FnOnce(ListenOptions) -> ListenOptions,
        make: impl FnMut(Recorder) -> Recorder + 'static,
    ) -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let link = Link::new().send_buffer(1).receive_buffer(999);
        world.network().set_link_to_peers(&host, link);
        let options = more(ListenOptions::new(host.addr(7)).idle_timeout(limit));
        let served = Served::new(host.handle(), options, make);
        Self {
            world,
            host,
            served,
        }
    }

    fn echo(limit: Duration) -> Self {
        Self::new(
            limit,
            |options| options,
            |recorder| {
                recorder.on_data(|transport, data| {
                    transport.write(data)?;
                    Ok(())
                })
            },
        )
    }

    pub(crate) fn dial(&mut self) -> SimPeer {
        let peer = self.world.network().dial(self.host.addr(7)).unwrap();
        self.world.settle().unwrap();
        peer
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.world.advance(time).unwrap();
    }

    fn timers(&self) -> usize {
        self.host.handle().stats().timers
    }

    /// The connection ends within a quarter of the limit after it, and not before.
    #[track_caller]
    pub(crate) fn assert_ends_after(&mut self, n: usize, limit: Duration) {
        self.pass(limit - INSTANT);
        let log = self.served.log(n);
        assert!(!log.is_lost(), "early: {}", log.closed());
        self.pass(limit / 4 + LATE);
        assert_idle(&log);
    }
}

#[track_caller]
fn assert_idle(log: &Log) {
    assert!(log.is_lost(), "late");
    let reason = CloseReason::Timeout(TimeoutKind::Idle);
    assert_eq!(*log.closed().reason(), reason, "{}", log.closed());
}

#[test]
fn a_connection_without_a_byte_ends_after_the_limit_and_at_most_a_quarter_later() {
    let mut timed = Timed::echo(LIMIT);
    let mut peers = vec![timed.dial()];
    // Wherever it begins between two sweeps.
    for begins in 1..20 {
        timed.pass(LIMIT / 20 + Duration::from_millis(begins));
        peers.push(timed.dial());
    }
    let last = peers.len() - 1;
    timed.assert_ends_after(last, LIMIT);
    for n in 0..last {
        assert_idle(&timed.served.log(n));
    }
    assert_eq!(
        timed.served.log(0).closed().to_string(),
        "connection closed: no byte came or went within the idle timeout"
    );
    assert!(peers.iter().all(SimPeer::is_ended));
}

#[test]
fn wherever_a_connection_begins_between_two_sweeps_it_does_not_end_before_the_limit() {
    for part in 0..16 {
        let mut timed = Timed::echo(LIMIT);
        let first = timed.dial();
        timed.pass(LIMIT * part / 64);
        first.send(b"x").unwrap();
        let _second = timed.dial();
        timed.assert_ends_after(1, LIMIT);
        assert_idle(&timed.served.log(0));
    }
}

#[test]
fn a_byte_that_comes_begins_the_time_anew() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let peer = timed.dial();
    for _ in 0..20 {
        timed.pass(LIMIT - INSTANT);
        // A part of a message.
        peer.send(b"x").unwrap();
        timed.world.settle().unwrap();
        assert!(!timed.served.log(0).is_lost());
    }
    assert_eq!(timed.served.log(0).data_len(), 20);
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn a_byte_that_goes_begins_the_time_anew() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let peer = timed.dial();
    let transport = timed.served.transport(0);
    for _ in 0..20 {
        timed.pass(LIMIT - INSTANT);
        transport.write(b"x").unwrap();
        timed.world.settle().unwrap();
        assert!(!transport.is_closing());
    }
    assert_eq!(peer.take(), [b'x'; 20]);
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn the_rest_of_a_large_reply_keeps_its_connection_as_long_as_the_kernel_takes_bytes() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let peer = timed.dial();
    let transport = timed.served.transport(0);
    never_paused(&transport).write(&[1; 3000]).unwrap();
    timed.world.settle().unwrap();
    for _ in 0..20 {
        timed.pass(LIMIT - INSTANT);
        assert_eq!(peer.read(&mut [0]).unwrap(), 1);
        timed.world.settle().unwrap();
        assert!(!transport.is_closing());
    }
    // And no longer.
    timed.assert_ends_after(0, LIMIT);
    let closed = timed.served.log(0).closed();
    assert_eq!(closed.unsent(), 3000 - transport.sent());
    assert!(closed.unsent() > 0);
    assert!(peer.is_reset());
}

#[test]
fn a_write_that_the_kernel_refuses_moves_no_byte() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let _peer = timed.dial();
    let transport = timed.served.transport(0);
    never_paused(&transport).write(&[1; 3000]).unwrap();
    timed.world.settle().unwrap();
    for _ in 0..9 {
        timed.pass(LIMIT / 10);
        transport.write(b"more").unwrap();
        timed.world.settle().unwrap();
    }
    assert!(!timed.served.log(0).is_lost());
    timed.pass(LIMIT / 10 + LIMIT / 4 + LATE);
    assert_idle(&timed.served.log(0));
}

#[test]
fn a_connection_whose_reading_is_stopped_is_idle_too() {
    let mut timed = Timed::echo(LIMIT);
    let peer = timed.dial();
    timed.served.transport(0).pause_reading();
    peer.send(b"x").unwrap();
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn a_hold_on_reading_is_no_idleness_of_the_peer_unless_it_does_not_read() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let (peer, _deaf) = (timed.dial(), timed.dial());
    let holds = [0, 1].map(|n| timed.served.transport(n).hold_reading());
    never_paused(&timed.served.transport(1))
        .write(&[1; 3000])
        .unwrap();
    peer.send(b"x").unwrap();
    timed.assert_ends_after(1, LIMIT);
    timed.pass(10 * LIMIT);
    assert!(!timed.served.log(0).is_lost());
    drop(holds);
    timed.world.settle().unwrap();
    assert_eq!(timed.served.log(0).data(), b"x");
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn a_close_that_is_still_sending_is_idle_too() {
    let mut timed = Timed::new(LIMIT, |options| options, |recorder| recorder);
    let _peer = timed.dial();
    let transport = timed.served.transport(0);
    never_paused(&transport).write(&[1; 3000]).unwrap();
    transport.close();
    timed.world.settle().unwrap();
    timed.assert_ends_after(0, LIMIT);
}

#[test]
fn a_limit_of_days_is_kept_and_a_limit_beyond_the_clock_never_ends() {
    let days = Duration::from_secs(3 * 86_400 + 1);
    let mut timed = Timed::echo(days);
    let peer = timed.dial();
    timed.pass(days - INSTANT);
    peer.send(b"x").unwrap();
    timed.world.settle().unwrap();
    timed.assert_ends_after(0, days);

    let mut timed = Timed::echo(Duration::MAX);
    let _peer = timed.dial();
    timed.pass(10 * days);
    assert!(!timed.served.log(0).is_lost());
}

#[test]
fn a_server_has_one_timer_and_none_without_connections() {
    let mut timed = Timed::echo(LIMIT);
    assert_eq!(timed.timers(), 0);
    for _ in 0..3 {
        let peers: Vec<_> = (0..100).map(|_| timed.dial()).collect();
        assert_eq!(timed.timers(), 1);
        timed.pass(LIMIT / 2);
        assert_eq!(timed.timers(), 1);
        for peer in &peers {
            peer.send_eof().unwrap();
        }
        timed.world.settle().unwrap();
        assert_eq!(timed.served.server.connection_count(), 0);
        assert_eq!(timed.timers(), 0);
    }
}

#[test]
fn a_world_with_idle_connections_comes_to_rest_when_they_have_ended() {
    let mut timed = Timed::echo(LIMIT);
    let _peers: Vec<_> = (0..3).map(|_| timed.dial()).collect();
    timed.world.run_until_idle().unwrap();
    assert!(timed.world.elapsed() >= LIMIT);
    assert_eq!(timed.served.server.connection_count(), 0);
}

#[test]
fn only_the_connections_of_the_server_itself_end() {
    let mut timed = Timed::echo(LIMIT);
    let (handle, addr) = (timed.host.handle().clone(), timed.host.addr(8));
    let other = Served::echo(&handle, addr);
    let (first, _second) = (timed.dial(), timed.world.network().dial(addr).unwrap());
    let client = Log::new();
    let connect = handle.create_connection(addr, Recorder::new(&client));
    timed.world.run_until(connect).unwrap();
    timed.pass(2 * LIMIT);
    assert!(first.is_ended());
    assert!(!client.is_lost() && other.server.connection_count() == 2);
}

/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(100);

fn listening(kind: Kind, dir: &TempDir) -> ListenOptions {
    ListenOptions::new(kind.somewhere(dir)).idle_timeout(SOON)
}

each_kind!(a_silent_peer_is_cut_and_sees_the_end);
fn a_silent_peer_is_cut_and_sees_the_end(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), listening(kind, &dir));
    let begun = Instant::now();
    let [mut peer] = served.connect(&mut event_loop);
    let log = served.log(0);
    drive(&mut event_loop, "the cut", || log.is_lost());
    assert!(begun.elapsed() >= SOON);
    assert_idle(&log);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(a_peer_that_sends_now_and_then_is_served_and_a_silent_one_beside_it_is_not);
fn a_peer_that_sends_now_and_then_is_served_and_a_silent_one_beside_it_is_not(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), listening(kind, &dir));
    let [mut speaks, _silent] = served.connect(&mut event_loop);
    let (speaking, silent) = (served.log(0), served.log(1));
    let (mut rounds, mut last) = (0, Instant::now());
    while !silent.is_lost() || rounds < 20 {
        // A machine that is busy for this long proves nothing.
        let in_time = last.elapsed() < SOON / 2;
        last = Instant::now();
        speaks.send(b"x");
        rounds += 1;
        speaks.expect(&mut event_loop, rounds);
        event_loop.run_once(Some(SOON / 20)).unwrap();
        assert!(!speaking.is_lost() || !in_time, "after {rounds} rounds");
        if speaking.is_lost() {
            return;
        }
    }
    assert_idle(&silent);
}

#[test]
fn before_it_is_cut_its_bytes_are_offered_once_more() {
    // A Unix socket tells of room only when there is much of it.
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::new(
        event_loop.handle(),
        listening(Kind::Unix, &dir),
        |recorder| recorder.on_pause(|_| Ok(OnPause::KeepReading)),
    );
    let [mut peer] = served.connect(&mut event_loop);
    let (transport, log) = (served.transport(0), served.log(0));
    never_paused(&transport);
    let begun = Instant::now();
    stall(&mut event_loop, &transport, MIB);
    let sent = transport.sent();
    while peer.received().len() < 64 * 1024 {
        assert!(peer.read_some(64 * 1024) > 0);
    }
    event_loop.run_once(Some(SOON / 10)).unwrap();
    if begun.elapsed() < SOON {
        assert_eq!(transport.sent(), sent, "the kernel has told of room");
    }
    drive(&mut event_loop, "the cut", || log.is_lost());
    assert_idle(&log);
    assert!(transport.sent() > sent, "nothing was offered");
    assert!(log.closed().unsent() > 0);
    let count = peer.received().len();
    assert_eq!(peer.received(), text(0, count));
}

#[test]
fn a_timeout_of_zero_is_invalid() {
    let event_loop = EventLoop::new().unwrap();
    let at = || ListenOptions::new("127.0.0.1:0");
    let zero = Duration::ZERO;
    for (options, name) in [
        (at().idle_timeout(zero), "idle_timeout of 0"),
        (at().write_timeout(zero), "write_timeout of 0"),
        (at().close_timeout(zero), "close_timeout of 0"),
    ] {
        let created = event_loop
            .handle()
            .create_server(options, || Recorder::new(&Log::new()));
        let error = created.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}
