//! The write timeout and the close timeout of a server: for all of its connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::seal::{Seal, hello};
use support::{
    Hooked, Kind, Log, MIB, Recorder, Served, TempDir, answer_of, drive, each_kind, never_paused,
    stall,
};
use tidegate::{CloseReason, EventLoop, ListenOptions, OnPause, TimeoutKind, Transport};
use tidegate_testkit::{Host, Link, Peer as SimPeer, World};

const LIMIT: Duration = Duration::from_secs(10);
const INSTANT: Duration = Duration::from_nanos(1);

/// The bytes that the kernels of both ends take.
const CAPACITY: usize = 1000;

/// One connection of a server in the simulated world.
struct Timed {
    world: World,
    host: Host,
    served: Served,
    peer: SimPeer,
}

impl Timed {
    fn new(options: impl FnOnce(ListenOptions) -> ListenOptions) -> Self {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let link = Link::new().send_buffer(1).receive_buffer(CAPACITY - 1);
        world.network().set_link_to_peers(&host, link);
        let options = options(ListenOptions::new(host.addr(7)));
        let served = Served::new(host.handle(), options, |recorder| {
            recorder.on_pause(|_| Ok(OnPause::KeepReading))
        });
        let peer = world.network().dial(host.addr(7)).unwrap();
        world.settle().unwrap();
        Self {
            world,
            host,
            served,
            peer,
        }
    }

    fn transport(&self) -> Transport {
        self.served.transport(0)
    }

    fn stall(&mut self) -> Transport {
        let transport = self.transport();
        transport.write(&[1; 3 * CAPACITY]).unwrap();
        self.run();
        assert!(transport.write_buffer_size() > 0);
        transport
    }

    fn run(&mut self) {
        self.world.settle().unwrap();
    }

    fn pass(&mut self, time: Duration) {
        self.world.advance(time).unwrap();
    }

    fn timers(&self) -> usize {
        self.host.handle().stats().timers
    }

    #[track_caller]
    fn assert_ends_in(&mut self, time: Duration, kind: TimeoutKind) {
        self.pass(time - INSTANT);
        let log = self.served.log(0);
        assert!(!log.is_lost(), "early: {}", log.closed());
        self.pass(INSTANT);
        assert_timed_out(&log, kind);
        assert_eq!(self.timers(), 0);
    }
}

#[track_caller]
fn assert_timed_out(log: &Log, kind: TimeoutKind) {
    assert!(log.is_lost(), "late");
    assert_eq!(*log.closed().reason(), CloseReason::Timeout(kind));
}

fn write_limit(options: ListenOptions) -> ListenOptions {
    options.write_timeout(LIMIT)
}

fn close_limit(options: ListenOptions) -> ListenOptions {
    options.close_timeout(LIMIT)
}

#[test]
fn a_server_without_limits_cuts_nobody_and_starts_no_timer() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut timed = Timed::new(|options| options);
    let reads_nothing = timed.stall();
    let others: Vec<_> = (0..100)
        .map(|_| timed.world.network().dial(timed.host.addr(7)).unwrap())
        .collect();
    timed.run();
    assert_eq!(timed.timers(), 0);
    timed.pass(DAY);
    reads_nothing.close();
    timed.pass(DAY);
    assert_eq!(timed.timers(), 0);
    assert_eq!(timed.served.accepted(), 1 + others.len());
    for n in 0..=others.len() {
        assert!(!timed.served.log(n).is_lost(), "connection {n}");
    }
}

#[test]
fn the_write_timeout_of_a_server_begins_when_the_kernel_refuses() {
    let mut timed = Timed::new(write_limit);
    timed.transport().write(&[1; CAPACITY]).unwrap();
    timed.run();
    timed.pass(5 * LIMIT);
    assert_eq!(timed.timers(), 0);
    let transport = timed.transport();
    transport.write(b"more").unwrap();
    timed.run();
    assert_eq!(timed.timers(), 1);
    timed.pass(LIMIT / 2);
    assert_eq!(timed.peer.read(&mut [0]).unwrap(), 1);
    timed.run();
    timed.assert_ends_in(LIMIT, TimeoutKind::Write);
    assert_eq!(timed.served.log(0).closed().unsent(), 3);
}

#[test]
fn the_write_timeout_of_a_connection_itself_counts_in_place_of_the_servers() {
    for longer in [false, true] {
        let mut timed = Timed::new(write_limit);
        let own = if longer { 2 * LIMIT } else { LIMIT / 2 };
        timed.transport().set_write_timeout(Some(own));
        timed.stall();
        timed.assert_ends_in(own, TimeoutKind::Write);
    }
    // None means never, also in mid-stall.
    for sets_first in [true, false] {
        let mut timed = Timed::new(write_limit);
        if sets_first {
            timed.transport().set_write_timeout(None);
        }
        let transport = timed.stall();
        transport.set_write_timeout(None);
        timed.pass(5 * LIMIT);
        assert!(!timed.served.log(0).is_lost());
        assert_eq!(timed.timers(), 0);
    }
}

#[test]
fn a_close_is_bounded_from_the_moment_at_which_the_kernel_refuses() {
    let mut timed = Timed::new(close_limit);
    let transport = timed.transport();
    transport.write(&[1; 3 * CAPACITY]).unwrap();
    transport.close();
    timed.run();
    timed.assert_ends_in(LIMIT, TimeoutKind::Close);
    assert_eq!(timed.served.log(0).closed().unsent(), 2 * CAPACITY as u64);
    assert!(timed.peer.is_reset());
}

#[test]
fn a_close_of_what_the_kernel_refuses_already_is_bounded_from_its_call() {
    let mut timed = Timed::new(close_limit);
    let transport = timed.stall();
    timed.pass(5 * LIMIT);
    assert_eq!(timed.timers(), 0);
    transport.close();
    // A peer that takes some does not begin the time anew.
    timed.pass(LIMIT / 2);
    assert_eq!(timed.peer.read(&mut [0]).unwrap(), 1);
    timed.run();
    timed.assert_ends_in(LIMIT / 2, TimeoutKind::Close);
}

#[test]
fn the_close_of_the_default_eof_received_is_bounded() {
    let mut timed = Timed::new(close_limit);
    timed.stall();
    timed.peer.send_eof().unwrap();
    timed.run();
    assert!(timed.transport().is_closing());
    timed.assert_ends_in(LIMIT, TimeoutKind::Close);
}

#[test]
fn the_close_of_a_shutdown_is_bounded() {
    let mut timed = Timed::new(close_limit);
    timed.stall();
    let report = answer_of(timed.served.server.shutdown(10 * LIMIT));
    timed.run();
    timed.pass(LIMIT - INSTANT);
    assert!(!timed.served.log(0).is_lost());
    timed.pass(INSTANT);
    assert_timed_out(&timed.served.log(0), TimeoutKind::Close);
    let report = report.borrow().unwrap();
    assert_eq!((report.closed, report.aborted), (1, 0));
    assert_eq!(report.unsent, 2 * CAPACITY as u64);
}

#[test]
fn of_the_close_timeout_and_a_deadline_of_the_close_itself_the_earlier_ends_it() {
    for (own, ends) in [(LIMIT / 2, LIMIT / 2), (2 * LIMIT, LIMIT)] {
        let mut timed = Timed::new(close_limit);
        let transport = timed.stall();
        transport.close_within(own);
        timed.run();
        timed.assert_ends_in(ends, TimeoutKind::Close);
    }
}

#[test]
fn of_the_close_timeout_and_the_write_timeout_the_earlier_ends_a_close() {
    let mut timed = Timed::new(|options| close_limit(options).write_timeout(LIMIT / 2));
    timed.stall().close();
    timed.run();
    timed.assert_ends_in(LIMIT / 2, TimeoutKind::Write);
    let mut timed = Timed::new(|options| write_limit(options).close_timeout(LIMIT / 2));
    timed.stall().close();
    timed.run();
    timed.assert_ends_in(LIMIT / 2, TimeoutKind::Close);
}

#[test]
fn a_close_whose_rest_is_taken_in_time_is_clean() {
    let mut timed = Timed::new(close_limit);
    timed.stall().close();
    timed.run();
    timed.pass(LIMIT - INSTANT);
    let mut received = timed.peer.take();
    while !timed.served.log(0).is_lost() {
        timed.run();
        received.extend(timed.peer.take());
    }
    assert_eq!(received, [1; 3 * CAPACITY]);
    assert!(timed.served.log(0).closed().is_clean());
}

#[test]
fn the_end_of_layers_is_a_part_of_the_close() {
    let mut timed = Timed::new(|options| close_limit(options).layer(Seal::server));
    timed.peer.send(&hello()).unwrap();
    timed.run();
    let transport = timed.transport();
    // The kernel takes the data, and not the last words of the layer.
    while transport.write_buffer_size() == 0 {
        transport.write(b"x").unwrap();
        timed.run();
    }
    while transport.write_buffer_size() > 0 {
        assert_eq!(timed.peer.read(&mut [0]).unwrap(), 1);
        timed.run();
    }
    timed.pass(5 * LIMIT);
    transport.close();
    timed.run();
    assert!(!timed.served.log(0).is_lost());
    timed.assert_ends_in(LIMIT, TimeoutKind::Close);
    assert_eq!(timed.served.log(0).closed().unsent(), 0);
}

#[test]
fn layers_that_take_nothing_more_do_not_hold_up_a_close() {
    let takes = Rc::new(Cell::new(5));
    let taken = takes.clone();
    let layer = move || Hooked::new(|_, _| Ok(())).taking(&taken);
    let mut timed = Timed::new(|options| close_limit(options).layer(layer));
    let transport = timed.transport();
    transport.write(b"0123456789").unwrap();
    transport.close();
    timed.run();
    timed.assert_ends_in(LIMIT, TimeoutKind::Close);
    assert_eq!(timed.served.log(0).closed().unsent(), 5);
}

const SOON: Duration = Duration::from_millis(100);

/// A stalled connection of a server.
fn stalled(
    event_loop: &mut EventLoop,
    options: ListenOptions,
) -> (Served, support::Peer, Transport) {
    let served = Served::new(event_loop.handle(), options, |recorder: Recorder| {
        recorder.on_pause(|_| Ok(OnPause::KeepReading))
    });
    let [peer] = served.connect(event_loop);
    let transport = served.transport(0);
    never_paused(&transport);
    stall(event_loop, &transport, MIB);
    (served, peer, transport)
}

each_kind!(a_peer_that_does_not_read_is_cut_at_the_write_timeout_of_the_server);
fn a_peer_that_does_not_read_is_cut_at_the_write_timeout_of_the_server(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).write_timeout(SOON);
    let begun = Instant::now();
    let (served, _peer, transport) = stalled(&mut event_loop, options);
    let log = served.log(0);
    drive(&mut event_loop, "the cut", || log.is_lost());
    assert!(begun.elapsed() >= SOON);
    assert_timed_out(&log, TimeoutKind::Write);
    assert_eq!(
        log.closed().unsent(),
        transport.written() - transport.sent()
    );
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(a_close_to_a_peer_that_does_not_read_ends_at_the_close_timeout_of_the_server);
fn a_close_to_a_peer_that_does_not_read_ends_at_the_close_timeout_of_the_server(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).close_timeout(SOON);
    let (served, _peer, transport) = stalled(&mut event_loop, options);
    let begun = Instant::now();
    transport.close();
    let log = served.log(0);
    drive(&mut event_loop, "the cut", || log.is_lost());
    assert!(begun.elapsed() >= SOON);
    assert_timed_out(&log, TimeoutKind::Close);
    assert_eq!(
        log.closed().unsent(),
        transport.written() - transport.sent()
    );
    assert_eq!(event_loop.handle().stats().timers, 0);
}
