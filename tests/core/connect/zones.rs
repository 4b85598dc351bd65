//! Zones of IPv6 addresses (RFC 4007), on both sides. The loopback interface stands for all.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use support::{Log, Recorder, Seen, Served, drive, has_ipv6, settle};
use tidegate::{Address, ConnectOptions, EventLoop};

fn loopback_index() -> u32 {
    let index = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
    index.trim().parse().unwrap()
}

fn create_server(event_loop: &EventLoop, at: &str) -> io::Result<()> {
    let factory = || -> Recorder { panic!("no server") };
    event_loop.handle().create_server(at, factory).map(drop)
}

#[test]
fn a_zone_is_the_name_or_the_number_of_an_interface() {
    let mut event_loop = EventLoop::new().unwrap();
    let index = loopback_index();
    let expected = SocketAddrV6::new("fe80::7".parse().unwrap(), 80, 0, index);
    for host in [
        "fe80::7%lo".to_owned(),
        "[fe80::7%lo]".to_owned(),
        format!("fe80::7%{index}"),
    ] {
        let found = event_loop.handle().resolve(&host, 80);
        assert_eq!(event_loop.handle().stats().jobs, 0, "nothing to wait for");
        let found = event_loop.run_until(found).unwrap();
        assert_eq!(found, [SocketAddr::V6(expected)]);
    }
    let printed = Address::from(SocketAddr::V6(expected)).to_string();
    assert_eq!(printed, format!("[fe80::7%{index}]:80"));
    assert_eq!(printed.parse(), Ok(SocketAddr::V6(expected)));
}

#[test]
fn servers_and_clients_take_a_zone_by_the_name_of_its_interface() {
    let mut event_loop = EventLoop::new().unwrap();
    if !has_ipv6() {
        println!("no IPv6 here");
        return;
    }
    let served = Served::echo(event_loop.handle(), "[::1%lo]:0");
    let port = served.address().as_inet().unwrap().port();
    let log = Log::new();
    let to = format!("[::1%lo]:{port}");
    let connecting = event_loop
        .handle()
        .create_connection(to, Recorder::new(&log));
    let transport = event_loop.run_until(connecting).unwrap();
    let peer = transport.peer_addr().as_inet().unwrap();
    assert!(matches!(peer, SocketAddr::V6(peer) if peer.scope_id() == loopback_index()));
    transport.write(b"ping").unwrap();
    drive(&mut event_loop, "the echo", || {
        log.has(&Seen::Data(b"ping".to_vec()))
    });
}

#[test]
fn an_interface_that_does_not_exist_is_not_found_and_named() {
    let mut event_loop = EventLoop::new().unwrap();
    for zone in ["no-such-if", "a-name-that-is-too-long-for-an-interface"] {
        let text = format!("[fe80::1%{zone}]:80");
        let log = Log::new();
        let connecting = event_loop
            .handle()
            .create_connection(text.as_str(), Recorder::new(&log));
        let resolving = event_loop.handle().resolve(&format!("fe80::1%{zone}"), 80);
        let errors = [
            create_server(&event_loop, &text).unwrap_err(),
            event_loop.run_until(connecting).map(drop).unwrap_err(),
            event_loop.run_until(resolving).map(drop).unwrap_err(),
        ];
        for error in &errors {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(zone), "{error}");
        }
        for error in &errors[..2] {
            assert!(error.to_string().contains(&text), "{error}");
        }
        settle(&mut event_loop);
        let stats = event_loop.handle().stats();
        assert_eq!(
            (stats.listeners, stats.connecting, log.dropped()),
            (0, 0, 1)
        );
    }
}

#[test]
fn a_link_local_address_without_a_zone_is_told_to_have_one() {
    let mut event_loop = EventLoop::new().unwrap();
    if !has_ipv6() {
        println!("no IPv6 here");
        return;
    }
    let create = |options: ConnectOptions| {
        event_loop
            .handle()
            .create_connection(options, Recorder::new(&Log::new()))
    };
    let to = create("[fe80::1]:80".into());
    let from = ConnectOptions::new("[::1]:80").local_addr("[fe80::1]:0".parse().unwrap());
    let from = create(from);
    let errors = [
        create_server(&event_loop, "[fe80::1]:80").unwrap_err(),
        event_loop.run_until(to).map(drop).unwrap_err(),
        event_loop.run_until(from).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("network interface") && text.contains("[fe80::1%eth0]:"),
            "{text}"
        );
    }
}
