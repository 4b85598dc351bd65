//! The limits on the time for which no byte moves in a relay, by the clock of a simulated world
//! and, in a form each, on real sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{
    BOUND, Kind, Log, Recorder, TempDir, accept, adopted, drive, each_way, pattern, relayed, untied,
};
use tidegate::{CloseReason, ConnectOptions, EventLoop, Relay, RelayReport, TimeoutKind};
use tidegate_testkit::{Host, Link, Peer, World};

const IDLE: Duration = Duration::from_secs(60);
const HALF_CLOSED: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(1);

/// A relay between two peers.
struct Tied {
    world: World,
    host: Host,
    front: Peer,
    back: Peer,
    report: Rc<RefCell<Option<RelayReport>>>,
}

impl Tied {
    fn new(configure: fn(Relay) -> Relay) -> Self {
        Self::over(Link::new(), configure)
    }

    fn over(link: Link, configure: fn(Relay) -> Relay) -> Self {
        let mut world = World::builder().link(link).build();
        let host = world.add_host("relay").unwrap();
        let listener = world.network().listen(7).unwrap();
        let report: Rc<RefCell<Option<RelayReport>>> = Rc::default();
        let (told, to) = (report.clone(), listener.addr());
        let relay = move || {
            let told = told.clone();
            configure(Relay::to(to)).on_end(move |_, report| {
                told.replace(Some(report.clone()));
            })
        };
        host.handle().create_server(host.addr(1), relay).unwrap();
        let front = world.network().dial(host.addr(1)).unwrap();
        world.settle().unwrap();
        let back = listener.accept().unwrap();
        Self {
            world,
            host,
            front,
            back,
            report,
        }
    }

    fn advance(&mut self, by: Duration) {
        self.world.advance(by).unwrap();
    }

    fn is_tied(&self) -> bool {
        assert_eq!(self.front.is_reset(), self.back.is_reset());
        !self.front.is_reset()
    }

    /// The relay lives until just before `limit` is over, and then ends for that reason.
    #[track_caller]
    fn ends_after(&mut self, limit: Duration, kind: TimeoutKind) {
        self.advance(limit - MOMENT);
        assert!(self.is_tied(), "ended too early");
        self.advance(MOMENT);
        self.has_ended(kind);
    }

    #[track_caller]
    fn has_ended(&self, kind: TimeoutKind) {
        assert!(!self.is_tied(), "not ended");
        let report = self.report.borrow();
        let report = report.as_ref().unwrap();
        let expected = CloseReason::Timeout(kind);
        assert_eq!(report.front.reason(), &expected);
        assert_eq!(report.back.as_ref().unwrap().reason(), &expected);
        assert!(!report.is_clean());
        let stats = self.host.handle().stats();
        assert_eq!((stats.connections, stats.timers), (0, 0));
    }
}

fn idle(relay: Relay) -> Relay {
    relay.idle_timeout(IDLE)
}

fn half_closed(relay: Relay) -> Relay {
    relay.half_closed_timeout(HALF_CLOSED)
}

fn both(relay: Relay) -> Relay {
    half_closed(idle(relay))
}

#[test]
fn a_relay_that_is_idle_is_reset_at_the_limit() {
    let mut tied = Tied::new(idle);
    assert_eq!(tied.host.handle().stats().timers, 1);
    tied.ends_after(IDLE, TimeoutKind::Idle);
}

#[test]
fn every_byte_from_either_side_starts_the_idle_time_again() {
    let mut tied = Tied::new(idle);
    for _ in 0..10 {
        tied.advance(IDLE - MOMENT);
        tied.front.send(b"up").unwrap();
        tied.advance(IDLE - MOMENT);
        tied.back.send(b"down").unwrap();
        tied.advance(Duration::ZERO);
        assert_eq!(tied.host.handle().stats().timers, 1);
    }
    assert!(tied.is_tied());
    tied.ends_after(IDLE, TimeoutKind::Idle);
    let report = tied.report.take().unwrap();
    assert_eq!((report.to_back.sent, report.to_front.sent), (20, 40));
}

#[test]
fn without_limits_a_relay_lives_however_idle_or_half_closed_it_is() {
    let mut tied = Tied::new(|relay| relay);
    tied.advance(Duration::from_secs(1_000_000));
    tied.front.send_eof().unwrap();
    tied.advance(Duration::from_secs(1_000_000));
    assert!(tied.is_tied());
    assert_eq!(tied.host.handle().stats().timers, 0);
    tied.back.send(b"late").unwrap();
    tied.advance(Duration::ZERO);
    assert_eq!(tied.front.take(), b"late");
}

#[test]
fn a_limit_beyond_the_clock_never_ends_a_relay() {
    let mut tied = Tied::new(|relay| {
        let relay = relay.idle_timeout(Duration::MAX);
        relay.half_closed_timeout(Duration::MAX)
    });
    tied.front.send_eof().unwrap();
    tied.advance(Duration::from_secs(1_000_000));
    assert!(tied.is_tied());
}

#[test]
fn a_half_closed_relay_whose_other_direction_is_idle_is_reset_at_the_limit() {
    for front_ends in [true, false] {
        let mut tied = Tied::new(half_closed);
        tied.advance(IDLE);
        let ending = if front_ends { &tied.front } else { &tied.back };
        ending.send_eof().unwrap();
        tied.ends_after(HALF_CLOSED, TimeoutKind::HalfClosed);
    }
}

#[test]
fn every_byte_of_the_other_direction_starts_the_half_closed_time_again() {
    let mut tied = Tied::new(both);
    tied.front.send_eof().unwrap();
    for _ in 0..20 {
        tied.advance(HALF_CLOSED - MOMENT);
        tied.back.send(b"reply").unwrap();
    }
    tied.advance(Duration::ZERO);
    assert_eq!(tied.front.take().len(), 100);
    tied.ends_after(HALF_CLOSED, TimeoutKind::HalfClosed);
}

#[test]
fn of_both_limits_the_shorter_one_holds() {
    let mut tied = Tied::new(|relay| relay.idle_timeout(HALF_CLOSED).half_closed_timeout(IDLE));
    tied.advance(HALF_CLOSED / 2);
    tied.front.send_eof().unwrap();
    tied.ends_after(HALF_CLOSED, TimeoutKind::Idle);
}

#[test]
fn a_relay_that_ends_by_itself_leaves_no_timer() {
    let mut tied = Tied::new(both);
    tied.front.send_eof().unwrap();
    tied.back.send_eof().unwrap();
    tied.advance(Duration::ZERO);
    assert!(tied.report.borrow().as_ref().unwrap().is_clean());
    assert_eq!(tied.host.handle().stats().timers, 0);
}

/// Little room, so that the relay has to wait for a peer.
fn narrow() -> Link {
    Link::new().send_buffer(4000).receive_buffer(4000)
}

/// Sends from the back until nobody takes any more.
fn fill(tied: &mut Tied) {
    let mut refused = 0;
    while refused < 3 {
        match tied.back.send(&pattern(0, 4000)) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        tied.world.settle().unwrap();
    }
}

#[test]
fn bytes_that_a_slow_peer_takes_keep_the_relay_alive() {
    let mut tied = Tied::over(narrow(), idle);
    fill(&mut tied);
    // The back has nothing more; what the relay has is taken in small pieces.
    let held = |tied: &Tied| {
        let stats = tied.host.handle().stats();
        stats.bytes_received - stats.bytes_sent
    };
    assert!(held(&tied) > 64 * 1024);
    while held(&tied) > 0 {
        tied.front.read(&mut [0; 2000]).unwrap();
        tied.advance(IDLE / 4 * 3);
        assert!(tied.is_tied(), "{} bytes are left", held(&tied));
    }
    // The last of them may be noticed later.
    tied.advance(2 * IDLE);
    tied.has_ended(TimeoutKind::Idle);
}

#[test]
fn bytes_that_a_kernel_would_take_but_does_not_ask_for_keep_the_relay_alive() {
    let mut tied = Tied::over(narrow(), idle);
    fill(&mut tied);
    tied.advance(IDLE / 2);
    // Too little for an event.
    let polls = tied.host.handle().stats().polls;
    tied.front.read(&mut [0; 500]).unwrap();
    tied.world.settle().unwrap();
    assert_eq!(tied.host.handle().stats().polls, polls);
    tied.advance(IDLE);
    assert!(tied.is_tied());
    tied.advance(IDLE);
    tied.has_ended(TimeoutKind::Idle);
}

#[test]
fn a_relay_whose_peers_take_nothing_is_reset_at_the_limit_and_counts_the_loss() {
    let mut tied = Tied::over(narrow(), idle);
    fill(&mut tied);
    tied.advance(2 * IDLE);
    tied.has_ended(TimeoutKind::Idle);
    let report = tied.report.take().unwrap();
    assert!(report.to_front.lost > 0, "{report:?}");
    assert_eq!(report.to_front.lost, report.front.unsent());
}

#[test]
fn a_side_that_does_not_take_the_rest_after_the_end_of_the_other_is_reset_too() {
    for (configure, limit, kind) in [
        (idle as fn(Relay) -> Relay, IDLE, TimeoutKind::Idle),
        (half_closed, HALF_CLOSED, TimeoutKind::HalfClosed),
    ] {
        let Tied {
            mut world,
            host,
            front,
            back,
            report,
        } = {
            let mut tied = Tied::over(narrow(), configure);
            fill(&mut tied);
            tied
        };
        back.reset();
        world.advance(Duration::ZERO).unwrap();
        // Nobody reads what the relay has for the front; a byte from there finds the reset.
        front.send(b"?").unwrap();
        world.advance(2 * limit).unwrap();
        assert!(front.is_reset());
        let report = report.take().unwrap();
        assert_eq!(report.front.reason(), &CloseReason::Timeout(kind));
        assert_eq!(host.handle().stats().timers, 0);
    }
}

#[test]
fn the_time_begins_when_the_back_is_connected() {
    let mut world = World::builder().build();
    let [host, far] = ["relay", "far"].map(|name| world.add_host(name).unwrap());
    world.network().partition(&host, &far);
    let to = far.addr(7);
    let relay = move || Relay::to(ConnectOptions::new(to).timeout(2 * IDLE)).idle_timeout(IDLE);
    host.handle().create_server(host.addr(1), relay).unwrap();
    let front = world.network().dial(host.addr(1)).unwrap();
    world.advance(2 * IDLE - MOMENT).unwrap();
    assert!(!front.is_reset());
    world.advance(MOMENT).unwrap();
    assert!(front.is_reset());
}

#[test]
fn two_connections_that_were_there_are_tied_with_limits_too() {
    let mut world = World::builder().build();
    let host = world.add_host("relay").unwrap();
    let listener = world.network().listen(7).unwrap();
    let connect = |world: &mut World| {
        let recorder = Recorder::new(&Log::new());
        let connecting = host.handle().create_connection(listener.addr(), recorder);
        let transport = world.run_until(connecting).unwrap();
        (transport, listener.accept().unwrap())
    };
    let ((front, front_peer), (back, back_peer)) = (connect(&mut world), connect(&mut world));
    let told = Rc::new(RefCell::new(None));
    let tell = told.clone();
    let tied = Relay::between_with(&front, &back, |relay| {
        relay.idle_timeout(IDLE).on_end(move |_, report| {
            tell.replace(Some(report.clone()));
        })
    });
    front_peer.send(b"through").unwrap();
    world.settle().unwrap();
    assert_eq!(back_peer.take(), b"through");
    let begun = world.elapsed();
    let report = world.run_until(tied).unwrap();
    assert_eq!(world.elapsed() - begun, IDLE);
    let told = told.take().unwrap();
    for report in [report, told] {
        let expected = CloseReason::Timeout(TimeoutKind::Idle);
        assert_eq!(report.front.reason(), &expected);
        assert_eq!(report.to_back.sent, 7);
    }
}

each_way!(on_real_sockets_an_idle_relay_ends_both_sides);
fn on_real_sockets_an_idle_relay_ends_both_sides(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
    let report = Relay::between_with(&a, &b, |relay| {
        relayed(relay).idle_timeout(Duration::from_millis(20))
    });
    a_peer.send(b"through");
    b_peer.expect(&mut event_loop, 7);
    let report = event_loop.run_until(report.within(BOUND)).unwrap();
    let expected = CloseReason::Timeout(TimeoutKind::Idle);
    assert_eq!(report.front.reason(), &expected);
    for peer in [&mut a_peer, &mut b_peer] {
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_eof(), kind == Kind::Unix);
    }
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_way!(on_real_sockets_a_half_closed_relay_ends_both_sides);
fn on_real_sockets_a_half_closed_relay_ends_both_sides(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let report = Rc::new(RefCell::new(None));
    let told = report.clone();
    let relay = relayed(Relay::to(&address))
        .half_closed_timeout(Duration::from_millis(20))
        .on_end(move |_, report| {
            told.replace(Some(report.clone()));
        });
    let (_, mut front) = adopted(event_loop.handle(), kind, relay);
    let mut back = accept(&mut event_loop, &listener);
    front.send(b"request");
    front.shutdown_write();
    back.expect(&mut event_loop, 7);
    drive(&mut event_loop, "the report", || report.borrow().is_some());
    let report = report.take().unwrap();
    let expected = CloseReason::Timeout(TimeoutKind::HalfClosed);
    assert_eq!(report.back.unwrap().reason(), &expected);
    front.expect_end(&mut event_loop);
    assert_eq!(front.saw_eof(), kind == Kind::Unix);
    assert_eq!(event_loop.handle().stats().timers, 0);
}
