//! The links between the hosts of a simulated world: time, room, order, and partitions.

use std::io::ErrorKind;
use std::time::Duration;
use support::{Log, Recorder, pattern};
use tidegate::{ConnectOptions, Transport};
use tidegate_testkit::{Fault, Faults, Host, Link, Peer, World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two hand-held ends of one connection.
fn peers(world: &mut World) -> (Peer, Peer) {
    let listener = world.network().listen(0).unwrap();
    let one = world.network().dial(listener.addr()).unwrap();
    world.run_until_idle().unwrap();
    (one, listener.accept().unwrap())
}

/// A transport of `a` to a server of `b`, and what that received.
fn hosts(world: &mut World, log: &Log) -> (Host, Host, Transport) {
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let served = log.clone();
    let protocol = move || Recorder::new(&served).keep_open();
    b.handle().create_server(b.addr(7), protocol).unwrap();
    let client = Recorder::new(&Log::new()).keep_open();
    let connect = a.handle().create_connection(b.addr(7), client);
    let transport = world.run_until(connect).unwrap();
    world.run_until_idle().unwrap();
    (a, b, transport)
}

#[test]
fn jitter_delays_within_its_bounds_and_not_always_alike() {
    let link = Link::new().latency(10 * MS).jitter(5 * MS);
    let mut world = World::builder().link(link).build();
    let (one, other) = peers(&mut world);
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = world.elapsed();
        one.send(b"x").unwrap();
        assert!(world.run_until_true(|| other.waiting() > 0).unwrap());
        other.take();
        times.push(world.elapsed() - start);
    }
    times.sort();
    assert!(times[0] >= 10 * MS && times[49] <= 15 * MS, "{times:?}");
    assert!(times[49] - times[0] > MS, "{times:?}");
}

#[test]
fn a_bandwidth_is_that_of_a_direction_and_shared_by_its_connections() {
    let mut world = World::new();
    let log = Log::new();
    let (a, b, transport) = hosts(&mut world, &log);
    let slow = Link::new().bandwidth(1000);
    world.network().set_link(&a, &b, slow);
    let other = Log::new();
    let served = other.clone();
    let factory = move || Recorder::new(&served);
    b.handle().create_server(b.addr(8), factory).unwrap();
    let second = a
        .handle()
        .create_connection(b.addr(8), Recorder::new(&Log::new()));
    let second = world.run_until(second).unwrap();
    let start = world.elapsed();
    transport.write(&[1; 500]).unwrap();
    second.write(&[1; 500]).unwrap();
    assert!(
        world
            .run_until_true(|| log.data_len() + other.data_len() == 1000)
            .unwrap()
    );
    assert_eq!(world.elapsed() - start, SECOND);
}

#[test]
fn a_sender_is_refused_exactly_when_both_buffers_are_full() {
    let link = Link::new().send_buffer(100).receive_buffer(50);
    let mut world = World::builder().link(link).build();
    let (one, other) = peers(&mut world);
    assert_eq!(one.send(&[0; 1000]).unwrap(), 100);
    assert_eq!(one.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    world.run_until_idle().unwrap();
    assert_eq!(other.waiting(), 50);
    assert_eq!(one.send(&[0; 1000]).unwrap(), 50);
    world.run_until_idle().unwrap();
    assert_eq!(one.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut some = [0; 10];
    assert_eq!(other.read(&mut some).unwrap(), 10);
    world.run_until_idle().unwrap();
    assert_eq!(one.send(&[0; 1000]).unwrap(), 10);
    assert!(!one.is_delivered());
    while !other.take().is_empty() {
        world.run_until_idle().unwrap();
    }
    assert!(one.is_delivered());
}

#[test]
fn a_loop_hears_of_room_and_sends_on() {
    let link = Link::new().send_buffer(100).receive_buffer(50);
    let mut world = World::builder().link(link).build();
    let a = world.add_host("a").unwrap();
    let listener = world.network().listen(0).unwrap();
    let connect = a
        .handle()
        .create_connection(listener.addr(), Recorder::new(&Log::new()));
    let transport = world.run_until(connect).unwrap();
    let peer = listener.accept().unwrap();
    transport.write(&pattern(0, 2000)).unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(transport.write_buffer_size(), 2000 - 150);
    let mut got = Vec::new();
    while got.len() < 2000 {
        assert!(peer.waiting() > 0, "{} came", got.len());
        got.extend(peer.take());
        world.run_until_idle().unwrap();
    }
    assert_eq!(got, pattern(0, 2000));
    assert_eq!(transport.write_buffer_size(), 0);
}

#[test]
fn bytes_of_a_connection_keep_their_order_whatever_is_reordered_or_stalled() {
    let faults = Faults::none()
        .with(Fault::Reorder, 0.5)
        .with(Fault::Stall, 0.3);
    for seed in 0..20 {
        let link = Link::new().jitter(20 * MS);
        let builder = World::builder().seed(seed).link(link);
        let mut world = builder.faults(faults.clone()).build();
        let (one, other) = peers(&mut world);
        for n in 0..50 {
            one.send(&[n]).unwrap();
            world.advance(MS).unwrap();
        }
        one.send_eof().unwrap();
        world.run_until_idle().unwrap();
        assert_eq!(other.take(), (0..50).collect::<Vec<u8>>(), "seed {seed}");
        assert!(other.is_ended());
    }
}

#[test]
fn what_a_partition_held_comes_before_what_was_sent_later() {
    let mut world = World::builder().link(Link::new().latency(10 * MS)).build();
    let log = Log::new();
    let (a, b, transport) = hosts(&mut world, &log);
    let (one, other) = (a.clone(), b.clone());
    world.network().partition(&a, &b);
    world
        .network()
        .after(15 * MS, move |network| network.heal(&one, &other));
    transport.write(b"first").unwrap();
    world.advance(5 * MS).unwrap();
    transport.write(b"second").unwrap();
    world.advance(10 * MS - MS / 2).unwrap();
    assert_eq!(log.data(), b"", "parted");
    world.run_until_idle().unwrap();
    assert_eq!(log.data(), b"firstsecond");
}

#[test]
fn a_connect_knocks_again_until_the_partition_has_ended() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let protocol = || Recorder::new(&Log::new());
    b.handle().create_server(b.addr(7), protocol).unwrap();
    world.network().partition(&a, &b);
    let (one, other) = (a.clone(), b.clone());
    world
        .network()
        .after(5 * SECOND / 2, move |network| network.heal(&one, &other));
    let connect = a.handle().create_connection(b.addr(7), protocol());
    world.run_until(connect).unwrap();
    assert_eq!(world.elapsed(), 3 * SECOND, "after one second and two more");
}

#[test]
fn a_connect_that_nobody_answers_fails_after_127_seconds() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    world.network().partition(&a, &b);
    for to in [b.addr(7), "10.200.0.1:7".parse().unwrap()] {
        let start = world.elapsed();
        let options = ConnectOptions::new(to).timeout(1000 * SECOND);
        let connect = a
            .handle()
            .create_connection(options, Recorder::new(&Log::new()));
        let error = world.run_until(connect).unwrap_err();
        assert!(error.to_string().contains("timed out"), "{error}");
        assert_eq!(world.elapsed() - start, Faults::CONNECT_TIMEOUT, "{to}");
    }
}

#[test]
fn an_answer_that_a_partition_holds_does_not_keep_a_connect_forever() {
    let mut world = World::builder().link(Link::new().latency(10 * MS)).build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let server = Log::new();
    let log = server.clone();
    let protocol = move || Recorder::new(&log);
    b.handle().create_server(b.addr(7), protocol).unwrap();
    let (one, other) = (a.clone(), b.clone());
    world
        .network()
        .after(15 * MS, move |network| network.partition(&one, &other));
    let options = ConnectOptions::new(b.addr(7)).timeout(1000 * SECOND);
    let connect = a
        .handle()
        .create_connection(options, Recorder::new(&Log::new()));
    let error = world.run_until(connect).unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    world.network().heal_all();
    world.run_until_idle().unwrap();
    assert!(server.closed().is_reset(), "{:?}", server.closed());
}

#[test]
fn a_full_backlog_lets_a_connect_wait_and_knock_again() {
    let mut world = World::new();
    let b = world.add_host("b").unwrap();
    let options = tidegate::ListenOptions::new(b.addr(7)).backlog(1);
    let protocol = || Recorder::new(&Log::new());
    b.handle().create_server(options, protocol).unwrap();
    world.network().limit_descriptors(&b, Some(1));
    let dial = |_| world.network().dial(b.addr(7)).unwrap();
    let peers: Vec<_> = (0..3).map(dial).collect();
    world.advance(SECOND / 2).unwrap();
    let connected = |peers: &[Peer]| {
        let connected = peers.iter().filter(|peer| peer.connected().unwrap());
        connected.count()
    };
    assert_eq!(connected(&peers), 2, "one more than the backlog says");
    world.network().limit_descriptors(&b, None);
    world.advance(10 * SECOND).unwrap();
    assert_eq!(connected(&peers), 3);
    assert_eq!(b.handle().stats().connections, 3);
}

#[test]
fn a_stall_holds_what_is_sent_until_it_is_over() {
    let mut world = World::new();
    let log = Log::new();
    let (a, b, transport) = hosts(&mut world, &log);
    world.network().stall(&a, &b, SECOND);
    transport.write(b"late").unwrap();
    world.advance(SECOND - MS).unwrap();
    assert_eq!(log.data(), b"");
    world.advance(MS).unwrap();
    assert_eq!(log.data(), b"late");
}

#[test]
fn connections_between_two_hosts_are_reset_at_both_ends() {
    let mut world = World::new();
    let log = Log::new();
    let (a, b, transport) = hosts(&mut world, &log);
    assert_eq!(world.network().reset_connections(&b, &a), 1);
    assert_eq!(world.network().reset_connections(&b, &a), 0, "no more");
    world.run_until_idle().unwrap();
    assert!(log.closed().is_reset());
    assert!(transport.closed().unwrap().is_reset());
    assert_eq!(world.network().sockets(), 0);
}

#[test]
fn a_host_that_ends_resets_or_ends_its_connections_and_refuses_new_ones() {
    let mut world = World::new();
    let log = Log::new();
    let (a, b, transport) = hosts(&mut world, &log);
    world.end_host(&b);
    world.end_host(&b);
    world.run_until_idle().unwrap();
    transport.write(b"anybody?").ok();
    world.run_until_idle().unwrap();
    assert!(transport.is_closing(), "{transport:?}");
    let connect = a
        .handle()
        .create_connection(b.addr(7), Recorder::new(&Log::new()));
    let error = world.run_until(connect).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(
        (world.network().listeners(), world.network().sockets()),
        (0, 0)
    );
}

#[test]
fn a_closed_end_sends_the_rest_by_itself() {
    let link = Link::new().send_buffer(1000).receive_buffer(10);
    let mut world = World::builder().link(link).build();
    let (one, other) = peers(&mut world);
    assert_eq!(one.send(&pattern(0, 900)).unwrap(), 900);
    drop(one);
    let mut got = Vec::new();
    while !other.is_ended() {
        world.run_until_idle().unwrap();
        got.extend(other.take());
    }
    assert_eq!(got, pattern(0, 900));
    drop(other);
    world.run_until_idle().unwrap();
    assert_eq!(world.network().sockets(), 0);
}

#[test]
fn a_reset_of_connections_is_also_one_of_those_that_are_still_being_made() {
    // The knock is on its way after 5 ms, the reply to it after 15.
    for after in [5, 15] {
        let mut world = World::builder().link(Link::new().latency(10 * MS)).build();
        let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
        let (server, client) = (Log::new(), Log::new());
        let log = server.clone();
        let protocol = move || Recorder::new(&log);
        b.handle().create_server(b.addr(7), protocol).unwrap();
        let recorder = Recorder::new(&client);
        let connect = a.handle().create_connection(b.addr(7), recorder);
        world.advance(after * MS).unwrap();
        assert_eq!(world.network().reset_connections(&a, &b), 1, "{after}");
        let error = world.run_until(connect).unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(world.elapsed() <= 15 * MS, "{:?}", world.elapsed());
        world.run_until_idle().unwrap();
        assert!(client.words().is_empty(), "{:?}", client.words());
        assert!(server.words().is_empty() || server.closed().is_reset());
        assert_eq!(world.network().sockets(), 0);
        assert_eq!(a.handle().stats().connecting, 0);
    }
}

#[test]
fn what_was_to_happen_to_something_that_is_gone_lets_no_time_pass() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let nowhere = "10.200.0.1:7".parse().unwrap();
    drop(world.network().dial(nowhere).unwrap());
    world.run_until_idle().unwrap();
    assert_eq!(
        world.elapsed(),
        Duration::ZERO,
        "a connect that was given up"
    );

    world.network().force(Fault::SlowJob, 1);
    drop(host.handle().run_in_executor(|| ()));
    world.run_until_idle().unwrap();
    assert_eq!(world.elapsed(), Duration::ZERO, "a job without a taker");

    let protocol = || Recorder::new(&Log::new());
    let server = host.handle().create_server(host.addr(7), protocol).unwrap();
    world.network().force(Fault::AcceptAgain, 1);
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.pump().unwrap();
    assert_eq!(world.fault_counts().times(Fault::AcceptAgain), 1);
    server.close();
    drop(peer);
    world.run_until_idle().unwrap();
    assert_eq!(world.elapsed(), Duration::ZERO, "a listener that is closed");

    let listener = world.network().listen(0).unwrap();
    let connect = host
        .handle()
        .create_connection(listener.addr(), Recorder::new(&Log::new()));
    let transport = world.run_until(connect).unwrap();
    let peer = listener.accept().unwrap();
    world.network().force(Fault::ReadAgain, 1);
    peer.send(b"x").unwrap();
    world.pump().unwrap();
    assert_eq!(world.fault_counts().times(Fault::ReadAgain), 1);
    transport.abort();
    world.run_until_idle().unwrap();
    assert_eq!(world.elapsed(), Duration::ZERO, "a socket that is closed");
    // The rest happens.
    let peer = world.network().dial(nowhere).unwrap();
    world.run_until_idle().unwrap();
    assert!(peer.connected().is_err());
    assert_eq!(world.elapsed(), Faults::CONNECT_TIMEOUT);
}
