//! The timeouts of a connection that we open, from its options.

use crate::event_loop::by_hand::ByHand;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use support::seal::Seal;
use support::{Kind, Log, Recorder, Scene, drive, each_kind};
use tidegate::{CloseReason, ConnectOptions, EventLoop, TimeoutKind, Transport};
use tidegate_testkit::{Host, Link, Peer, World};

const LIMIT: Duration = Duration::from_secs(60);
const INSTANT: Duration = Duration::from_nanos(1);

/// A connection in the simulated world.
struct Timed {
    world: World,
    host: Host,
    log: Log,
    transport: Transport,
    peer: Peer,
}

impl Timed {
    fn new(options: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let link = Link::new().send_buffer(1).receive_buffer(999);
        world.network().set_link_to_peers(&host, link);
        let listener = world.network().listen(7).unwrap();
        let log = Log::new();
        let options = options(ConnectOptions::new(listener.addr()));
        let connect = host
            .handle()
            .create_connection(options, Recorder::new(&log));
        let transport = world.run_until(connect).unwrap();
        let peer = listener.accept().unwrap();
        world.settle().unwrap();
        Self {
            world,
            host,
            log,
            transport,
            peer,
        }
    }

    fn stall(&mut self) {
        self.transport.write(&[1; 3000]).unwrap();
        self.world.settle().unwrap();
    }

    #[track_caller]
    fn assert_ends(&mut self, after: Duration, by: Duration, kind: TimeoutKind) {
        self.world.advance(after - INSTANT).unwrap();
        assert!(!self.log.is_lost(), "early: {}", self.log.closed());
        self.world.advance(INSTANT + by).unwrap();
        assert!(self.log.is_lost(), "late");
        assert_eq!(*self.log.closed().reason(), CloseReason::Timeout(kind));
        assert_eq!(self.host.handle().stats().timers, 0);
    }
}

#[test]
fn a_connection_without_a_byte_ends_after_the_limit_and_at_most_a_quarter_later() {
    let mut timed = Timed::new(|options| options.idle_timeout(LIMIT));
    for round in 0..20 {
        timed.world.advance(LIMIT - INSTANT).unwrap();
        match round % 2 {
            0 => timed.transport.write(b"x").map(drop).unwrap(),
            _ => timed.peer.send(b"x").map(drop).unwrap(),
        }
        timed.world.settle().unwrap();
        assert!(!timed.log.is_lost());
    }
    timed.assert_ends(LIMIT, LIMIT / 4 + INSTANT * 9, TimeoutKind::Idle);
    assert!(timed.peer.is_ended());
}

#[test]
fn the_end_of_a_connection_ends_its_looks() {
    let bare = tidegate::LingerLimits::new().with_time(Duration::ZERO);
    let mut timed = Timed::new(|options| options.idle_timeout(LIMIT).linger_limits(bare));
    assert_eq!(timed.host.handle().stats().timers, 1);
    timed.transport.close();
    timed.world.settle().unwrap();
    assert_eq!(timed.host.handle().stats().timers, 0);
}

#[test]
fn a_write_timeout_of_the_options_holds_from_the_start() {
    let mut timed = Timed::new(|options| options.write_timeout(LIMIT));
    assert_eq!(timed.host.handle().stats().timers, 0);
    timed.stall();
    timed.assert_ends(LIMIT, Duration::ZERO, TimeoutKind::Write);
}

#[test]
fn a_close_timeout_of_the_options_bounds_every_close() {
    let mut timed = Timed::new(|options| options.close_timeout(LIMIT));
    timed.stall();
    timed.world.advance(5 * LIMIT).unwrap();
    timed.transport.close();
    timed.world.settle().unwrap();
    timed.assert_ends(LIMIT, Duration::ZERO, TimeoutKind::Close);
    assert_eq!(timed.log.closed().unsent(), 2000);
}

#[test]
fn the_idle_timeout_counts_while_layers_are_opening() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let listener = world.network().listen(7).unwrap();
    let options = ConnectOptions::new(listener.addr())
        .layer(Seal::client().limit(10 * LIMIT))
        .idle_timeout(LIMIT);
    let log = Log::new();
    let connect = host
        .handle()
        .create_connection(options, Recorder::new(&log));
    let error = world.run_until(connect).unwrap_err();
    assert!(error.to_string().contains("idle timeout"), "{error}");
    assert!((LIMIT..2 * LIMIT).contains(&world.elapsed()));
    assert!(log.words().is_empty());
}

#[test]
fn a_close_that_the_kernel_takes_whole_looks_at_no_clock() {
    let reads = |close_timeout: Option<Duration>| {
        let world = ByHand::new();
        let mut event_loop = world.event_loop();
        let mut options = ConnectOptions::new(SocketAddr::from(([192, 0, 2, 1], 7)))
            .linger_limits(tidegate::LingerLimits::new().with_time(Duration::ZERO));
        if let Some(limit) = close_timeout {
            options = options.close_timeout(limit);
        }
        let log = Log::new();
        let connect = event_loop
            .handle()
            .create_connection(options, Recorder::new(&log));
        let transport = event_loop.run_until(connect).unwrap();
        transport.write(b"the last words").unwrap();
        transport.close();
        world.run(&mut event_loop);
        assert!(log.is_lost() && log.closed().is_clean());
        world.clock_reads.get()
    };
    assert_eq!(reads(Some(LIMIT)), reads(None));
}

each_kind!(an_idle_connection_that_we_opened_ends);
fn an_idle_connection_that_we_opened_ends(kind: Kind) {
    let soon = Duration::from_millis(100);
    let scene = Scene::of(kind).connected_with(move |options| options.idle_timeout(soon));
    let (mut event_loop, log, _transport, mut peer) = scene.set();
    drive(&mut event_loop, "the end", || log.is_lost());
    let reason = CloseReason::Timeout(TimeoutKind::Idle);
    assert_eq!(*log.closed().reason(), reason);
    peer.expect_end(&mut event_loop);
}

#[test]
fn a_timeout_of_zero_is_invalid() {
    let at = || ConnectOptions::new("127.0.0.1:9");
    let zero = Duration::ZERO;
    for (options, name) in [
        (at().idle_timeout(zero), "idle_timeout of 0"),
        (at().write_timeout(zero), "write_timeout of 0"),
        (at().close_timeout(zero), "close_timeout of 0"),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let told = options.validate().unwrap_err();
        let connect = event_loop
            .handle()
            .create_connection(options, Recorder::new(&Log::new()));
        for error in [told, event_loop.run_until(connect).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
