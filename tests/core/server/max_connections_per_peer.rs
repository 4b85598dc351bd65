//! The maximum number of connections of one peer: further ones are accepted and refused.

use log::LevelFilter;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use support::logs::{keep_log, logged};
use support::{Kind, Log, Peer, Recorder, Served, TempDir, drive, each_kind, settle};
use tidegate::{ConnectOptions, EventLoop, LingerLimits, ListenOptions};

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
