//! Runs that one call of `send_run_to` takes: as `send_to` for each, with marks and a source of their own.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams, assert_accounted};
use support::{TempDir, drive, settle};
use tidegate::{
    Address, Arrival, DatagramOptions, DatagramTransport, Departure, Ecn, EventLoop, Flow,
    WhenFull, WriteError, WriteLimits,
};
use tidegate_testkit::{DatagramRecorder, Fault, Link, Log, Seen, World};

fn endpoint(
    event_loop: &EventLoop,
    options: impl Into<DatagramOptions>,
    log: &Log,
) -> DatagramTransport {
    let protocol = DatagramRecorder::new(log);
    let handle = event_loop.handle();
    handle.create_datagram_endpoint(options, protocol).unwrap()
}

/// The length of what is sent, that of segments, and those of the datagrams that come.
const RUNS: [(usize, usize, &[usize]); 7] = [
    (2_500, 1_000, &[1_000, 1_000, 500]),
    (3_000, 1_000, &[1_000; 3]),
    (300, 300, &[300]),
    (300, 1_000, &[300]),
    (300, 0, &[300]),
    (0, 0, &[0]),
    (0, 1_000, &[0]),
];

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_run_arrives_as_datagrams_of_its_length_and_each_is_counted() {
    for wire in Datagrams::each() {
        for (segmentation, connected) in [(true, false), (false, false), (true, true)] {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = TempDir::new();
            let peer = DatagramPeer::new(wire, &dir, "b");
            let to = peer.address();
            let mut options = wire.local(&dir, "a").segmentation(segmentation);
            if connected {
                options = options.remote(to.clone());
            }
            let transport = endpoint(&event_loop, options, &Log::new());
            settle(&mut event_loop);
            for (len, segment, expected) in RUNS {
                let data = pattern(len);
                let before = (transport.stats(), event_loop.handle().stats().writes);
                let sent = match connected {
                    true => transport.send_run(&data, segment, Departure::new()),
                    false => transport.send_run_to(&data, segment, &to, Departure::new()),
                };
                assert_eq!(sent.unwrap(), Flow::Open);
                let count = expected.len() as u64;
                assert_eq!(transport.stats().taken - before.0.taken, count);
                assert_accounted(&transport);
                drive(&mut event_loop, "the run is sent", || {
                    transport.stats().sent - before.0.sent == count
                });
                let received: Vec<_> = expected.iter().map(|_| peer.receive()).collect();
                let lengths: Vec<_> = received.iter().map(Vec::len).collect();
                assert_eq!(lengths, expected, "{wire:?}");
                assert_eq!(received.concat(), data, "{wire:?}");
                let one_call = segmentation && wire != Datagrams::Unix;
                let calls = if one_call { 1 } else { count };
                assert_eq!(event_loop.handle().stats().writes - before.1, calls);
            }
            assert_accounted(&transport);
        }
    }
}

#[test]
fn a_run_keeps_its_place_among_other_datagrams() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let to = peer.address();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &Log::new());
        transport.send_to(&[1; 100], &to).unwrap();
        let run = [[2; 100], [3; 100]].concat();
        transport
            .send_run_to(&run, 100, &to, Departure::new())
            .unwrap();
        transport.send_to(&[4; 100], &to).unwrap();
        drive(&mut event_loop, "all are sent", || {
            transport.stats().sent == 4
        });
        for n in 1..=4 {
            assert_eq!(peer.receive(), [n; 100], "{wire:?}");
        }
    }
}

/// An endpoint whose peer takes nothing, with its queue at the cap.
fn at_the_cap(
    event_loop: &EventLoop,
    dir: &TempDir,
    action: WhenFull,
) -> (DatagramPeer, DatagramTransport) {
    let peer = DatagramPeer::new(Datagrams::Unix, dir, "b");
    let limits = WriteLimits::new().with_high(2_000).with_cap(10_000);
    let options = Datagrams::Unix.local(dir, "a").remote(peer.address());
    let options = options.write_limits(limits).when_full(action);
    let transport = endpoint(event_loop, options, &Log::new());
    while transport.write_buffer_size() < 10_000 {
        transport.send(&[0; 1_000]).unwrap();
    }
    (peer, transport)
}

#[test]
fn at_the_cap_a_run_is_refused_whole_and_counted_by_its_datagrams() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_peer, transport) = at_the_cap(&event_loop, &dir, WhenFull::Refuse);
    let before = transport.stats();
    let refused = transport.send_run(&pattern(2_500), 1_000, Departure::new());
    assert!(matches!(refused, Err(WriteError::BufferFull { .. })));
    let after = transport.stats();
    assert_eq!(after.refused, before.refused + 3);
    assert_eq!((after.taken, after.queued), (before.taken, before.queued));
}

#[test]
fn at_the_cap_a_run_takes_the_place_of_the_oldest() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_peer, transport) = at_the_cap(&event_loop, &dir, WhenFull::DropOldest);
    let before = transport.stats();
    let flow = transport.send_run(&pattern(2_500), 1_000, Departure::new());
    assert_eq!(flow.unwrap(), Flow::Paused);
    let after = transport.stats();
    assert_eq!(after.taken, before.taken + 3);
    assert!(after.dropped > before.dropped, "{after:?}");
    assert_accounted(&transport);
}

#[test]
fn runs_are_refused_from_a_close_on_and_pause_above_the_high_water_mark() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let to = peer.address();
        let limits = WriteLimits::new().with_high(1 << 20).with_cap(4 << 20);
        let options = wire.local(&dir, "a").write_limits(limits);
        let transport = endpoint(&event_loop, options, &Log::new());
        // More than the share of a tick, and than the mark.
        let flow = transport.send_run_to(&pattern(3 << 20), 1_000, &to, Departure::new());
        assert_eq!(flow.unwrap(), Flow::Paused, "{wire:?}");
        assert_accounted(&transport);
        transport.abort();
        let late = transport.send_run_to(b"late", 0, &to, Departure::new());
        assert!(matches!(late, Err(WriteError::Closed { .. })), "{late:?}");
        let closed = event_loop.run_until(transport.wait_closed()).unwrap();
        let stats = transport.stats();
        assert_eq!(stats.taken, (3_u64 << 20).div_ceil(1_000));
        assert_eq!(closed.unsent(), stats.taken_bytes - stats.sent_bytes);
    }
}

#[test]
fn a_run_without_a_destination_or_to_a_wrong_one_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let v4 = endpoint(&event_loop, "127.0.0.1:0", &Log::new());
    let unix = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &Log::new());
    let path = Address::Unix(dir.path("b"));
    let at = v4.local_addr().as_inet().unwrap();
    let marked = Departure::new().ecn(Ecn::Capable0);
    let of_v6 = Departure::new().source(IpAddr::from(Ipv6Addr::LOCALHOST));
    for refused in [
        v4.send_run(b"x", 0, Departure::new()),
        v4.send_run_to(b"x", 0, &path, Departure::new()),
        v4.send_run_to(b"x", 0, &at, of_v6),
        unix.send_run_to(b"x", 0, &path, marked),
        unix.send_run_to(b"x", 0, &path, of_v6),
    ] {
        let is_about_it = matches!(refused, Err(WriteError::Destination { .. }));
        assert!(is_about_it, "{refused:?}");
    }
    assert_eq!((v4.stats().taken, unix.stats().taken), (0, 0));
}

type Arrivals = Rc<RefCell<Vec<(Arrival, IpAddr)>>>;

/// An endpoint that notes the arrival and the sender of each datagram.
fn noting(event_loop: &EventLoop, wire: Datagrams) -> (DatagramTransport, Arrivals) {
    let arrivals: Rc<RefCell<Vec<_>>> = Rc::default();
    let noted = arrivals.clone();
    let protocol = DatagramRecorder::new(&Log::new()).on_datagram(move |transport, _, from| {
        let from = from.as_inet().unwrap().ip();
        noted.borrow_mut().push((transport.arrival(), from));
        Ok(())
    });
    let options = wire.local(&TempDir::new(), "unused").receive_ecn(true);
    let handle = event_loop.handle();
    let made = handle.create_datagram_endpoint(options, protocol);
    (made.unwrap(), arrivals)
}

#[test]
fn marks_hold_for_the_datagrams_that_they_were_sent_with_alone() {
    for wire in Datagrams::of_udp() {
        for connected in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let (receiver, arrivals) = noting(&event_loop, wire);
            let to = receiver.local_addr();
            let mut options = wire.local(&TempDir::new(), "unused");
            if connected {
                options = options.remote(to.clone());
            }
            let sender = endpoint(&event_loop, options, &Log::new());
            sender
                .set_traffic_class(Ecn::Capable1.bits().into())
                .unwrap();
            // One after the other, in one queue.
            sender.send_to(&[0; 100], to).unwrap();
            for mark in [Ecn::Capable0, Ecn::Congested, Ecn::NotCapable] {
                let marked = Departure::new().ecn(mark);
                sender.send_run_to(&[0; 200], 100, to, marked).unwrap();
            }
            sender
                .send_run_to(&[0; 100], 0, to, Departure::new())
                .unwrap();
            drive(&mut event_loop, "all arrive", || {
                arrivals.borrow().len() == 8
            });
            let marks: Vec<_> = arrivals.borrow().iter().map(|(at, _)| at.ecn).collect();
            let expected = [
                Ecn::Capable1,
                Ecn::Capable0,
                Ecn::Capable0,
                Ecn::Congested,
                Ecn::Congested,
                Ecn::NotCapable,
                Ecn::NotCapable,
                Ecn::Capable1,
            ];
            assert_eq!(marks, expected.map(Some), "{wire:?}");
        }
    }
}

#[test]
fn datagrams_leave_from_the_source_that_they_were_sent_with() {
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let other = |n| IpAddr::from([127, 0, 0, n]);
    for (wire, at, source) in [
        (Datagrams::V4, "0.0.0.0:0", other(2)),
        (Datagrams::V6, "[::]:0", v6),
        // Of both families.
        (Datagrams::V4, "[::]:0", other(3)),
    ] {
        if !Datagrams::each().any(|each| each == Datagrams::V6) && at != "0.0.0.0:0" {
            continue;
        }
        let mut event_loop = EventLoop::new().unwrap();
        let (receiver, arrivals) = noting(&event_loop, wire);
        let mut to = receiver.local_addr().as_inet().unwrap();
        let both = wire == Datagrams::V4 && at == "[::]:0";
        if both {
            to.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
        }
        let options = DatagramOptions::new(at).v6only(!both);
        let sender = endpoint(&event_loop, options, &Log::new());
        let departure = Departure::new().source(source).ecn(Ecn::Capable0);
        sender
            .send_run_to(&[0; 2_500], 1_000, &to, departure)
            .unwrap();
        sender.send_to(b"x", &to).unwrap();
        drive(&mut event_loop, "all arrive", || {
            arrivals.borrow().len() == 4
        });
        let arrivals = arrivals.borrow();
        for (arrival, from) in &arrivals[..3] {
            assert_eq!((*from, arrival.ecn), (source, Some(Ecn::Capable0)), "{at}");
        }
        let usual = if wire == Datagrams::V6 { v6 } else { other(1) };
        assert_eq!(arrivals[3].1, usual, "{at}");
    }
}

#[test]
fn a_source_that_is_no_own_address_is_told_for_each_datagram_and_others_go_on() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let to = peer.address();
    let log = Log::new();
    let transport = endpoint(&event_loop, "0.0.0.0:0", &log);
    // Of documentation (RFC 5737).
    let departure = Departure::new().source(IpAddr::from([192, 0, 2, 1]));
    transport
        .send_run_to(&[0; 250], 100, &to, departure)
        .unwrap();
    transport
        .send_run_to(&[1; 200], 100, &to, Departure::new())
        .unwrap();
    drive(&mut event_loop, "two are sent", || {
        transport.stats().sent == 2
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "error", "error", "error"]);
    assert_eq!(
        (peer.receive(), peer.receive()),
        (vec![1; 100], vec![1; 100])
    );
    assert_eq!(transport.stats().failed, 3);
    assert_accounted(&transport);
}

#[test]
fn on_a_simulated_network_a_refused_run_goes_singly_and_a_source_holds() {
    let mut world = World::builder().link(Link::new()).build();
    let hosts = ["a", "b"].map(|name| world.add_host(name).unwrap());
    let (sent, received) = (Log::new(), Log::new());
    let to = hosts[1].addr(7);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7));
    let sender = hosts[0].handle().create_datagram_endpoint(
        DatagramOptions::from(any).v6only(false),
        DatagramRecorder::new(&sent),
    );
    let receiver = hosts[1]
        .handle()
        .create_datagram_endpoint(to, DatagramRecorder::new(&received));
    let (sender, _receiver) = (sender.unwrap(), receiver.unwrap());
    let own = hosts[0].ip();
    world.run_until_idle().unwrap();
    let marked = Departure::new().ecn(Ecn::Capable0).source(own);
    for (forced, calls, arrived, told) in [(0, 1, 3, 0), (1, 4, 3, 0), (2, 4, 2, 1)] {
        world.network().force(Fault::NoMemory, forced);
        let before = (sender.stats(), hosts[0].handle().stats().writes);
        let (seen, words) = (received.datagrams().len(), sent.words().len());
        sender.send_run_to(&[0; 250], 100, &to, marked).unwrap();
        world.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(hosts[0].handle().stats().writes - before.1, calls);
        assert_eq!(received.datagrams().len() - seen, arrived);
        assert_eq!(sender.stats().failed - before.0.failed, told);
        assert_eq!(sent.words().len() as u64 - words as u64, told);
        assert_accounted(&sender);
    }
    let from = |seen: &Seen| matches!(seen, Seen::Datagram(_, from) if from.as_inet().unwrap().ip() == own);
    assert!(received.seen()[1..].iter().all(from), "{received:?}");
    let strange = Departure::new().source(IpAddr::from([192, 0, 2, 1]));
    sender.send_run_to(&[0; 250], 100, &to, strange).unwrap();
    world.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(sender.stats().failed, 4);
    assert_accounted(&sender);
}
