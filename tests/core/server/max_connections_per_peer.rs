//! The maximum number of connections of one peer: further ones are accepted and refused.

use log::LevelFilter;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use support::logs::{keep_log, logged};
use support::seal::{Seal, hello};
use support::{Kind, Log, Peer, Recorder, Served, TempDir, drive, each_kind, settle};
use tidegate::{ConnectOptions, EventLoop, LingerLimits, ListenOptions};
use tidegate_testkit::World;

const MOST: usize = 2;

#[track_caller]
fn expect_refusal(event_loop: &mut EventLoop, peer: &mut Peer) {
    peer.expect_end(event_loop);
    assert_eq!(peer.received(), b"");
    assert_eq!(peer.saw_error(), Some(io::ErrorKind::ConnectionReset));
}

each_kind!(above_the_maximum_of_its_peer_a_connection_is_refused_on_tcp_alone);
fn above_the_maximum_of_its_peer_a_connection_is_refused_on_tcp_alone(kind: Kind) {
    keep_log(LevelFilter::Debug);
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).max_connections_per_peer(MOST);
    let served = Served::echo(event_loop.handle(), options);
    let [mut first, _second] = served.connect(&mut event_loop);
    if kind == Kind::Unix {
        let _more = served.connect::<3>(&mut event_loop);
        assert_eq!(served.server.refused_count(), 0);
        return;
    }
    for refused in 1..=3 {
        let mut third = Peer::connect(&served.address());
        expect_refusal(&mut event_loop, &mut third);
        assert_eq!(served.server.refused_count(), refused);
    }
    assert_eq!(event_loop.handle().stats().refused, 3);
    assert_eq!(served.accepted(), MOST, "no factory was called for them");
    let lines = logged();
    assert!(
        lines.iter().all(|line| line.target != "tidegate::server"),
        "{lines:?}"
    );
    first.close();
    drive(&mut event_loop, "room", || {
        served.server.connection_count() == 1
    });
    let _third = served.connect::<1>(&mut event_loop);
}

#[test]
fn the_connections_of_one_peer_do_not_count_for_another() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").max_connections_per_peer(MOST);
    let served = Served::echo(event_loop.handle(), options);
    let _full = served.connect::<MOST>(&mut event_loop);
    let mut refused = Peer::connect(&served.address());
    expect_refusal(&mut event_loop, &mut refused);
    let from = SocketAddr::new(IpAddr::from([127, 0, 0, 9]), 0);
    for n in 1..=MOST {
        let options = ConnectOptions::new(served.address()).local_addr(from);
        let connecting = event_loop
            .handle()
            .create_connection(options, Recorder::new(&Log::new()));
        event_loop.run_until(connecting).unwrap();
        drive(&mut event_loop, "the other peer", || {
            served.accepted() == MOST + n
        });
    }
    assert_eq!(served.server.refused_count(), 1);
}

#[test]
fn a_socket_of_a_peer_counts_while_it_lingers() {
    let mut event_loop = EventLoop::new().unwrap();
    let limits = LingerLimits::new().with_time(Duration::MAX);
    let options = ListenOptions::new("127.0.0.1:0").linger_limits(limits);
    let served = Served::echo(event_loop.handle(), options.max_connections_per_peer(1));
    let [mut first] = served.connect(&mut event_loop);
    served.transport(0).close();
    let log = served.log(0);
    drive(&mut event_loop, "lost", || log.is_lost());
    let mut second = Peer::connect(&served.address());
    expect_refusal(&mut event_loop, &mut second);
    first.close();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the end of the linger", || {
        handle.stats().lingering == 0
    });
    let _third = served.connect::<1>(&mut event_loop);
    settle(&mut event_loop);
    assert_eq!(served.server.refused_count(), 1);
}

/// By the addresses of the simulated world, for a machine has but one of a network.
#[test]
fn all_ipv6_addresses_of_a_network_are_one_peer_and_ipv4_addresses_are_not() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let clients = ["one", "two", "three"].map(|name| world.add_host(name).unwrap());
    let port = |ip| SocketAddr::new(ip, 7);
    let options = ListenOptions::new([port(host.ip()), port(host.ipv6())]);
    let served = Served::echo(host.handle(), options.max_connections_per_peer(MOST));
    for (ip, taken) in [(host.ip(), 3 * MOST), (host.ipv6(), MOST)] {
        let before = (
            served.server.connection_count(),
            served.server.refused_count(),
        );
        let mut logs = Vec::new();
        for client in &clients {
            for _ in 0..MOST {
                let log = Log::new();
                let connect = client
                    .handle()
                    .create_connection(port(ip), Recorder::new(&log));
                // A refusal may come before the connect has completed.
                let _ = world.run_until(connect);
                logs.push(log);
            }
        }
        world.settle().unwrap();
        let count = served.server.connection_count() - before.0;
        let refused = served.server.refused_count() - before.1;
        assert_eq!((count, refused as usize), (taken, 3 * MOST - taken), "{ip}");
    }
}

/// The ways in which a connection of a peer ends, the peer's own and the server's.
#[test]
fn whatever_ends_a_connection_makes_room_for_its_peer() {
    type End = fn(&mut EventLoop, &Served, &mut Peer);
    let ends: [(&str, End); 8] = [
        ("the peer closes", |_, _, peer| peer.close()),
        ("the peer resets", |_, _, peer| peer.reset()),
        ("close", |_, served, peer| {
            served.transport(served.accepted() - 1).close();
            peer.close();
        }),
        ("abort", |_, served, _| {
            served.transport(served.accepted() - 1).abort();
        }),
        ("reset", |_, served, _| {
            served.transport(served.accepted() - 1).reset();
        }),
        ("an error of a callback", |_, served, _| {
            let transport = served.transport(served.accepted() - 1);
            transport.call_soon(|_: &mut Recorder, _| Err("a fault".into()));
        }),
        ("a panic", |_, served, _| {
            let transport = served.transport(served.accepted() - 1);
            transport.call_soon(|_: &mut Recorder, _| panic!("a fault"));
        }),
        (
            "half a handshake, and the peer is gone",
            |event_loop, _, peer| {
                peer.send(&hello()[..4]);
                settle(event_loop);
                peer.close();
            },
        ),
    ];
    for (name, end) in ends {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.handle().set_error_handler(|_, _| {});
        let handshake = name.starts_with("half");
        let mut options = ListenOptions::new("127.0.0.1:0").max_connections_per_peer(1);
        if handshake {
            options = options.layer(Seal::server);
        }
        let served = Served::echo(event_loop.handle(), options);
        for n in 0..5 {
            let mut peer = Peer::connect(&served.address());
            let server = served.server.clone();
            let ready = || match handshake {
                true => server.connection_count() == 1,
                false => served.accepted() == n + 1,
            };
            drive(&mut event_loop, name, ready);
            let mut refused = Peer::connect(&served.address());
            expect_refusal(&mut event_loop, &mut refused);
            end(&mut event_loop, &served, &mut peer);
            let handle = event_loop.handle().clone();
            drive(&mut event_loop, name, || {
                server.connection_count() + handle.stats().lingering == 0
            });
        }
        assert_eq!(served.server.refused_count(), 5, "{name}");
        assert_eq!(event_loop.handle().stats().timers, 0, "{name}");
    }
}

#[test]
fn a_maximum_of_zero_for_each_peer_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").max_connections_per_peer(0);
    let handle = event_loop.handle();
    let created = handle.create_server(options, || Recorder::new(&Log::new()));
    let error = created.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("per_peer"), "{error}");
}
