//! A connect whose socket has the address that it connects to: on one machine both ends of a
//! simultaneous open (RFC 9293, 3.5) may be the same socket, which would receive what it sends.

use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use support::{Host, Log, Recorder, V6, has_ipv6, knows, settle, v4};
use tidegate::{ConnectError, ConnectOptions, EventLoop};
use tidegate_testkit::World;

/// A port that is bound so that the connect can bind it too, and that nobody listens at.
fn unheard(ip: std::net::IpAddr) -> (Socket, SocketAddr) {
    let any = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

#[test]
fn a_connect_that_reaches_itself_is_refused_and_leaves_nothing() {
    let ips = [Some(v4(1)), has_ipv6().then_some(V6)];
    for ip in ips.into_iter().flatten() {
        let (_bound, addr) = unheard(ip);
        // Named as it is, and as every address of the machine.
        let everywhere = match ip.is_ipv4() {
            true => SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), addr.port()),
            false => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), addr.port()),
        };
        for to in [addr, everywhere] {
            let mut event_loop = EventLoop::new().unwrap();
            let log = Log::new();
            let options = ConnectOptions::from(to).local_addr(addr);
            let connecting = event_loop
                .handle()
                .create_connection(options, Recorder::new(&log));
            let error = event_loop.run_until(connecting).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            let text = error.to_string();
            assert!(text.contains("connected to itself"), "{text}");
            assert!(text.contains(&addr.to_string()), "{text}");
            settle(&mut event_loop);
            let stats = event_loop.handle().stats();
            assert_eq!(
                (stats.connecting, stats.connections, stats.timers),
                (0, 0, 0)
            );
            assert_eq!((log.words().len(), log.dropped()), (0, 1));
        }
    }
}

#[test]
fn an_attempt_that_reaches_itself_makes_way_for_the_next_address() {
    let (_bound, itself) = unheard(v4(1));
    let good = Host::good(v4(2));
    let mut event_loop = EventLoop::builder()
        .resolver(knows([("many.test", vec![itself, good.addr()])]))
        .build()
        .unwrap();
    let log = Log::new();
    let options = ConnectOptions::new("many.test:80")
        .local_addr(itself)
        .happy_eyeballs_delay(Duration::MAX);
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let transport = event_loop.run_until(connecting).unwrap();
    assert_eq!(*transport.peer_addr(), good.address());
    assert_eq!(log.words(), ["made"]);
}

#[test]
fn in_the_simulated_world_it_is_refused_as_well() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let addr = host.addr(4000);
    let log = Log::new();
    let options = ConnectOptions::from(addr).local_addr(addr);
    let connecting = host
        .handle()
        .create_connection(options, Recorder::new(&log));
    let error = world.run_until(connecting).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    let error = ConnectError::of(&error).unwrap();
    assert_eq!(error.attempts().count(), 1);
}
