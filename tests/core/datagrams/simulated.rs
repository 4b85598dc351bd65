//! Endpoints of datagrams in virtual time: order, losses, refusals, room, and ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::{Asker, Heard, assert_accounted};
use tidegate::{Address, Arrival, CloseReason, DatagramOptions, DatagramTransport, TimeoutKind};
use tidegate_testkit::{Fault, Faults, Host, Link, Seen, World};

const SECOND: Duration = Duration::from_secs(1);

fn endpoint(host: &Host, options: impl Into<DatagramOptions>, heard: &Heard) -> DatagramTransport {
    host.handle()
        .create_datagram_endpoint(options, heard.protocol())
        .unwrap()
}

/// Two hosts, an endpoint of each, and what those have heard.
struct Scene {
    world: World,
    hosts: [Host; 2],
    ends: [DatagramTransport; 2],
    heard: [Heard; 2],
}

impl Scene {
    fn new(link: Link) -> Self {
        Self::with(link, true)
    }

    /// One in which each datagram is a call of its own.
    fn singly(link: Link) -> Self {
        Self::with(link, false)
    }

    fn with(link: Link, segmentation: bool) -> Self {
        let mut world = World::builder().link(link).build();
        let hosts = ["a", "b"].map(|name| world.add_host(name).unwrap());
        let heard: [Heard; 2] = Default::default();
        let ends = [0, 1].map(|n| {
            let at = DatagramOptions::from(hosts[n].addr(7)).segmentation(segmentation);
            endpoint(&hosts[n], at, &heard[n])
        });
        world.run_until_idle().unwrap();
        Self {
            world,
            hosts,
            ends,
            heard,
        }
    }

    /// Sends from the first to the second: `count` datagrams of `len` bytes, each with its number.
    fn send(&self, count: u8, len: usize) {
        for i in 0..count {
            let to = self.hosts[1].addr(7);
            self.ends[0].send_to(&vec![i; len], &to).unwrap();
        }
    }

    fn run(&mut self) {
        self.world.run_until_idle().unwrap();
        for end in &self.ends {
            assert_accounted(end);
        }
    }

    /// The numbers of the datagrams that arrived.
    fn arrived(&self) -> Vec<u8> {
        let datagrams = self.heard[1].datagrams();
        datagrams.iter().map(|data| data[0]).collect()
    }
}

fn numbers(count: u8) -> Vec<u8> {
    (0..count).collect()
}

#[test]
fn datagrams_keep_their_order_and_lengths_whatever_latency_and_jitter() {
    let link = Link::new()
        .latency(SECOND / 100)
        .jitter(SECOND / 10)
        .bandwidth(100_000);
    let mut scene = Scene::new(link);
    let to = scene.hosts[1].addr(7);
    let lengths = [5, 5, 5, 0, 5, 3, 5, 900, 900, 10, 0, 0, 1];
    for (i, len) in lengths.iter().enumerate() {
        scene.ends[0].send_to(&vec![i as u8; *len], &to).unwrap();
    }
    scene.run();
    let expected = lengths.iter().enumerate();
    let expected: Vec<_> = expected.map(|(i, len)| vec![i as u8; *len]).collect();
    assert_eq!(scene.heard[1].datagrams(), expected);
    let [Seen::Made, Seen::Datagram(_, from), ..] = &scene.heard[1].seen()[..] else {
        panic!("{:?}", scene.heard[1]);
    };
    assert_eq!(*from, Address::Inet(scene.hosts[0].addr(7)));
}

#[test]
fn a_run_is_one_call_until_eio_ends_segmentation_for_good() {
    let mut scene = Scene::new(Link::new());
    let mut calls = Vec::new();
    for forced in [0, 1, 0] {
        scene.world.network().force(Fault::NoSegmentation, forced);
        let before = scene.hosts[0].handle().stats().writes;
        scene.send(20, 100);
        scene.run();
        calls.push(scene.hosts[0].handle().stats().writes - before);
    }
    assert_eq!(calls, [1, 21, 20]);
    assert_eq!(scene.arrived(), numbers(20).repeat(3));
    assert_eq!(scene.heard[0].errors(), []);
}

#[test]
fn a_run_that_is_too_long_for_the_path_goes_singly_and_so_do_later_ones() {
    let mut scene = Scene::new(Link::new().mtu(1_000));
    let mut calls = Vec::new();
    for len in [1_000, 2_000, 2_000, 1_000] {
        let before = scene.hosts[0].handle().stats().writes;
        scene.send(20, len);
        scene.run();
        calls.push(scene.hosts[0].handle().stats().writes - before);
    }
    assert_eq!(calls, [1, 21, 20, 1]);
    assert_eq!(scene.arrived(), numbers(20).repeat(4));
    assert_eq!(scene.heard[0].errors(), []);
}

#[test]
fn a_datagram_that_finds_no_memory_is_told_and_the_others_go_on() {
    let mut scene = Scene::new(Link::new());
    let to = scene.hosts[1].addr(7);
    scene.world.network().force(Fault::NoMemory, 1);
    for (i, len) in [10, 20, 30].into_iter().enumerate() {
        scene.ends[0].send_to(&vec![i as u8; len], &to).unwrap();
    }
    scene.run();
    assert_eq!(scene.arrived(), [1, 2]);
    let errors = scene.heard[0].errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (errors[0].1.clone(), errors[0].2),
        (Some(to.into()), Some(10))
    );
    let stats = scene.ends[0].stats();
    assert_eq!((stats.taken, stats.sent, stats.failed), (3, 2, 1));
}

#[test]
fn a_run_that_finds_no_memory_gives_each_datagram_a_verdict_of_its_own() {
    let mut scene = Scene::new(Link::new());
    // The run, then its first and its second datagram.
    scene.world.network().force(Fault::NoMemory, 3);
    scene.send(5, 100);
    scene.run();
    assert_eq!(scene.arrived(), [2, 3, 4]);
    assert_eq!(scene.heard[0].errors().len(), 2);
    assert_eq!(scene.ends[0].stats().failed, 2);
}

#[test]
fn a_refused_datagram_stays_first_and_goes_when_there_is_room() {
    let mut scene = Scene::new(Link::new());
    let before = scene.hosts[0].handle().stats().registrations;
    scene.world.network().force(Fault::WriteAgain, 5);
    scene.send(5, 10);
    scene.run();
    assert_eq!(scene.arrived(), numbers(5));
    assert_eq!(scene.world.fault_counts().times(Fault::WriteAgain), 5);
    let registrations = scene.hosts[0].handle().stats().registrations - before;
    assert_eq!(registrations, 2, "room is watched once, and then no more");
}

#[test]
fn a_slow_link_holds_the_writer_back_and_loses_nothing() {
    let link = Link::new().bandwidth(10_000).send_buffer(4_000);
    let mut scene = Scene::new(link);
    scene.send(200, 1_000);
    assert!(scene.ends[0].flow().is_paused());
    scene.run();
    assert_eq!(scene.arrived(), numbers(200));
    assert_eq!(scene.world.elapsed(), 20 * SECOND);
    let heard = scene.heard[0].seen();
    assert_eq!(heard[1..], [Seen::Pause, Seen::Resume]);
}

#[test]
fn flush_completes_when_the_last_datagram_is_with_the_kernel() {
    let link = Link::new().bandwidth(1_000).send_buffer(1);
    let mut scene = Scene::singly(link);
    scene.send(3, 1_000);
    let flush = scene.ends[0].flush();
    scene.world.run_until(flush).unwrap();
    // The third is taken when the second is on the link.
    assert_eq!(scene.world.elapsed(), 2 * SECOND);
    scene.run();
    assert_eq!(scene.world.elapsed(), 3 * SECOND);
}

#[test]
fn try_send_takes_nothing_while_there_is_no_room_and_writable_tells_of_it() {
    let link = Link::new().bandwidth(1_000).send_buffer(1_000);
    let mut scene = Scene::new(link);
    let to = scene.hosts[1].addr(7);
    let end = scene.ends[0].clone();
    end.try_send_to(&[0; 1_000], &to).unwrap();
    let error = end.try_send_to(&[1; 10], &to).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(end.stats().taken, 1);
    scene.world.run_until(end.writable()).unwrap();
    assert_eq!(scene.world.elapsed(), SECOND);
    end.try_send_to(&[1; 10], &to).unwrap();
    scene.run();
    assert_eq!(scene.arrived(), [0, 1]);
}

#[test]
fn lost_doubled_and_late_datagrams_are_what_their_faults_say() {
    let rows: [(Fault, u32, &[u8]); 3] = [
        (Fault::DatagramLost, 2, &[2, 3, 4]),
        (Fault::DatagramDoubled, 2, &[0, 0, 1, 1, 2, 3, 4]),
        (Fault::DatagramLate, 1, &[1, 2, 3, 4, 0]),
    ];
    for (fault, times, expected) in rows {
        let mut scene = Scene::new(Link::new());
        scene.world.network().force(fault, times);
        scene.send(5, 10);
        scene.run();
        assert_eq!(scene.arrived(), expected, "{fault}");
        assert!(scene.world.elapsed() <= Faults::LATE, "{fault}");
        assert_eq!(scene.ends[0].stats().sent, 5, "{fault}");
    }
}

#[test]
fn a_partition_loses_datagrams_and_its_end_brings_none_back() {
    let mut scene = Scene::new(Link::new());
    let [a, b] = scene.hosts.clone();
    scene.world.network().partition(&a, &b);
    scene.send(3, 10);
    scene.run();
    scene.world.network().heal(&a, &b);
    scene.run();
    assert_eq!(scene.arrived(), []);
    scene.send(2, 10);
    scene.run();
    assert_eq!(scene.arrived(), [0, 1]);
}

#[test]
fn a_paused_endpoint_keeps_what_its_buffer_holds_and_drops_the_rest() {
    let mut scene = Scene::new(Link::new().receive_buffer(500));
    scene.ends[1].pause_reading();
    scene.send(20, 100);
    scene.run();
    assert_eq!(scene.arrived(), []);
    assert_eq!(scene.world.network().datagrams_dropped(), 15);
    scene.ends[1].resume_reading();
    scene.run();
    assert_eq!(scene.arrived(), numbers(5));
}

#[test]
fn datagrams_of_one_call_that_are_left_when_reading_stops_come_first_on_resume() {
    let mut scene = Scene::new(Link::new());
    scene.ends[1].pause_reading();
    scene.send(10, 10);
    scene.run();
    let taken = Cell::new(0);
    let heard = &scene.heard[1];
    drop(heard.clone().on_datagram(move |transport, _, _| {
        taken.set(taken.get() + 1);
        if taken.get() == 3 {
            transport.pause_reading();
        }
        Ok(())
    }));
    scene.world.network().force(Fault::DatagramsTogether, 1);
    scene.ends[1].resume_reading();
    scene.run();
    assert_eq!(scene.arrived(), numbers(3));
    scene.send(2, 10);
    scene.ends[1].resume_reading();
    scene.run();
    let expected = [numbers(10), numbers(2)].concat();
    assert_eq!(scene.arrived(), expected);
    assert_eq!(scene.ends[1].stats().received, 12);
}

#[test]
fn a_close_drops_the_datagrams_of_one_call_that_were_not_delivered() {
    let mut scene = Scene::new(Link::new());
    scene.ends[1].pause_reading();
    scene.send(10, 10);
    scene.run();
    drop(scene.heard[1].clone().on_datagram(|transport, _, _| {
        transport.close();
        Ok(())
    }));
    scene.world.network().force(Fault::DatagramsTogether, 1);
    scene.ends[1].resume_reading();
    scene.run();
    assert_eq!(scene.arrived(), [0]);
    assert!(scene.heard[1].closed().is_some());
}

#[test]
fn a_refusal_comes_over_the_link_and_to_connected_endpoints_only() {
    let mut scene = Scene::new(Link::new().latency(SECOND));
    let nowhere = scene.hosts[1].addr(9);
    let connected = Heard::default();
    let options = DatagramOptions::connected(nowhere);
    let transport = endpoint(&scene.hosts[0], options, &connected);
    transport.send(b"x").unwrap();
    scene.ends[0].send_to(b"x", &nowhere).unwrap();
    scene.world.advance(2 * SECOND - SECOND / 10).unwrap();
    assert_eq!(connected.errors(), []);
    scene.run();
    assert_eq!(scene.world.elapsed(), 2 * SECOND);
    let errors = connected.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].0.contains("refused"), "{errors:?}");
    assert_eq!(
        (errors[0].1.clone(), errors[0].2),
        (Some(nowhere.into()), None)
    );
    assert_eq!(scene.heard[0].errors(), []);
    // It goes on, and a socket that comes later hears it.
    let late = Heard::default();
    endpoint(&scene.hosts[1], nowhere, &late);
    transport.send(b"again").unwrap();
    scene.run();
    assert_eq!(late.datagrams(), [b"again"]);
    assert_accounted(&transport);
}

#[test]
fn the_error_of_an_earlier_datagram_eats_no_later_one_in_a_world() {
    let mut scene = Scene::new(Link::new().latency(SECOND));
    let nowhere = scene.hosts[1].addr(9);
    let connected = Heard::default();
    let options = DatagramOptions::connected(nowhere);
    let transport = endpoint(&scene.hosts[0], options, &connected);
    transport.pause_reading();
    transport.send(b"lost").unwrap();
    scene.run();
    let late = Heard::default();
    endpoint(&scene.hosts[1], nowhere, &late);
    transport.send(b"arrives").unwrap();
    scene.run();
    assert_eq!(late.datagrams(), [b"arrives"]);
    let errors = connected.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (errors[0].1.clone(), errors[0].2),
        (Some(nowhere.into()), None)
    );
}

#[test]
fn a_close_sends_the_queue_and_a_deadline_ends_it_in_virtual_time() {
    for (limit, sent) in [(100 * SECOND, 20), (19 * SECOND / 2, 10)] {
        let link = Link::new().bandwidth(1_000).send_buffer(1);
        let mut scene = Scene::singly(link);
        scene.send(20, 1_000);
        scene.ends[0].close_within(limit);
        scene.run();
        let closed = scene.heard[0].closed().unwrap();
        let stats = scene.ends[0].stats();
        assert_eq!((stats.sent, stats.dropped), (sent, 20 - sent));
        assert_eq!(closed.unsent(), 1_000 * (20 - sent));
        let timed_out = matches!(closed.reason(), CloseReason::Timeout(TimeoutKind::Close));
        assert_eq!(timed_out, sent < 20, "{closed:?}");
        assert_eq!(scene.arrived(), numbers(sent as u8));
    }
}

#[test]
fn sockets_are_bound_by_host_and_port_and_both_families() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let [one, other] = [Heard::echo(), Heard::default()];
    let everywhere = DatagramOptions::new("[::]:7").v6only(false);
    let server = endpoint(&b, everywhere, &one);
    let taken = b
        .handle()
        .create_datagram_endpoint(b.addr(7), other.protocol());
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let strange = a
        .handle()
        .create_datagram_endpoint(b.addr(7), other.protocol());
    assert_eq!(
        strange.unwrap_err().kind(),
        std::io::ErrorKind::AddrNotAvailable
    );
    let unix = a
        .handle()
        .create_datagram_endpoint("unix:/x", other.protocol());
    assert_eq!(unix.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    let client = endpoint(&a, DatagramOptions::connected(b.addr(7)), &other);
    assert_eq!(client.local_addr().as_inet().unwrap().ip(), a.ip());
    client.send(b"four").unwrap();
    let v6 = Heard::default();
    let to = std::net::SocketAddr::new(b.ipv6(), 7);
    endpoint(&a, DatagramOptions::connected(to), &v6)
        .send(b"six")
        .unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(other.datagrams(), [b"four"]);
    assert_eq!(v6.datagrams(), [b"six"]);
    assert_eq!(world.network().datagram_sockets(), 3);
    server.abort();
    world.run_until_idle().unwrap();
    assert_eq!(world.network().datagram_sockets(), 2);
    assert_eq!(world.network().descriptors(&b), 0);
}

#[test]
fn a_client_that_asks_again_is_answered_under_every_fault() {
    for seed in 0..50 {
        let mut world = World::builder().seed(seed).build();
        let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
        let server = endpoint(&b, b.addr(7), &Heard::echo());
        let faults = Faults::all()
            .with(Fault::DatagramLost, 0.5)
            .with(Fault::NoDescriptor, 0.0);
        world.network().set_faults(&faults);
        let done: Vec<Rc<Cell<bool>>> = (0..4).map(|_| Rc::default()).collect();
        for done in &done {
            let asker = Asker::new(b.addr(7), 10, done);
            a.handle()
                .create_datagram_endpoint("0.0.0.0:0", asker)
                .unwrap();
        }
        world.run_until_idle().unwrap();
        assert!(done.iter().all(|done| done.get()), "seed {seed}");
        assert_accounted(&server);
        assert_eq!(world.network().descriptors(&a), 0, "seed {seed}");
    }
}

#[test]
fn a_simulated_network_takes_the_options_of_offload_and_tells_nothing() {
    let mut world = World::new();
    let hosts = ["a", "b"].map(|name| world.add_host(name).unwrap());
    let options = DatagramOptions::from(hosts[1].addr(7))
        .coalesce(true)
        .receive_ecn(true)
        .receive_destination(true);
    let heard = Heard::default();
    let to = endpoint(&hosts[1], options, &heard);
    let from = endpoint(&hosts[0], hosts[0].addr(7), &Heard::default());
    from.send_to(b"x", &hosts[1].addr(7)).unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(heard.datagrams(), [b"x"]);
    assert_eq!(to.arrival(), Arrival::default());
}
