//! Names, addresses and ports in a simulated world.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use support::{Log, Recorder};
use tidegate::{Handle, ListenOptions, Server};
use tidegate_testkit::{Host, World};

fn serve(handle: &Handle, at: impl Into<ListenOptions>) -> std::io::Result<Server> {
    handle.create_server(at, || Recorder::echo(&Log::new()))
}

fn port(server: &Server) -> u16 {
    server.local_addrs()[0].as_inet().unwrap().port()
}

/// Returns whether a host can connect there.
fn answers(world: &mut World, from: &Host, to: SocketAddr) -> bool {
    let connect = from
        .handle()
        .create_connection(to, Recorder::new(&Log::new()));
    world.run_until(connect).is_ok()
}

#[test]
fn names_are_those_of_hosts_or_were_set_and_ipv6_addresses_come_first() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let mut ask = |name: &str| world.run_until(a.handle().resolve(name, 9));
    let both = [SocketAddr::new(b.ipv6(), 9), SocketAddr::new(b.ip(), 9)];
    assert_eq!(ask("b").unwrap(), both);
    assert_eq!(ask("B").unwrap(), both, "whatever the case");
    let local: [SocketAddr; 2] = [
        (Ipv6Addr::LOCALHOST, 9).into(),
        (Ipv4Addr::LOCALHOST, 9).into(),
    ];
    assert_eq!(ask("localhost").unwrap(), local);
    assert_eq!(ask("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    world.network().set_name("nobody", &[b.ip()]);
    let found = world.run_until(a.handle().resolve("nobody", 9)).unwrap();
    assert_eq!(found, [b.addr(9)]);
}

#[test]
fn localhost_is_each_host_for_itself() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let local: SocketAddr = (Ipv4Addr::LOCALHOST, 7).into();
    serve(a.handle(), local).unwrap();
    assert!(answers(&mut world, &a, local));
    assert!(!answers(&mut world, &b, local));
    assert!(
        !answers(&mut world, &b, a.addr(7)),
        "it listens inside only"
    );
    let anything: SocketAddr = (Ipv4Addr::UNSPECIFIED, 7).into();
    assert!(answers(&mut world, &a, anything), "as Linux connects to it");
}

#[test]
fn a_port_of_zero_is_a_free_one_and_a_taken_one_is_refused_until_it_is_closed() {
    let mut world = World::new();
    let a = world.add_host("a").unwrap();
    let one = serve(a.handle(), a.addr(0)).unwrap();
    let other = serve(a.handle(), a.addr(0)).unwrap();
    assert_ne!(port(&one), port(&other));
    let again = serve(a.handle(), a.addr(port(&one))).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AddrInUse);
    let before = world.network().descriptors(&a);
    one.close();
    world.run_until_idle().unwrap();
    assert_eq!(world.network().descriptors(&a), before - 1);
    serve(a.handle(), a.addr(port(&one))).unwrap();
    let elsewhere = serve(a.handle(), "10.99.0.1:80").unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_wildcard_hears_every_address_of_its_host_and_takes_the_port_at_all() {
    let mut world = World::new();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    serve(a.handle(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7))).unwrap();
    assert!(answers(&mut world, &b, a.addr(7)));
    assert!(!answers(&mut world, &b, SocketAddr::new(a.ipv6(), 7)));
    let taken = serve(a.handle(), a.addr(7)).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let only = ListenOptions::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7))).v6only(true);
    serve(a.handle(), only).unwrap();
    assert!(answers(&mut world, &b, SocketAddr::new(a.ipv6(), 7)));
    let only = ListenOptions::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8))).v6only(true);
    serve(a.handle(), only).unwrap();
    assert!(!answers(&mut world, &b, a.addr(8)));
    let every = ListenOptions::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9))).v6only(false);
    serve(a.handle(), every).unwrap();
    assert!(answers(&mut world, &b, a.addr(9)));
}

#[test]
fn servers_that_share_a_port_all_get_some_of_its_connections() {
    let mut world = World::new();
    let a = world.add_host("a").unwrap();
    let shared = || ListenOptions::new(a.addr(7)).reuse_port(true);
    let servers = [0, 1].map(|_| serve(a.handle(), shared()).unwrap());
    let dial = |_| world.network().dial(a.addr(7)).unwrap();
    let peers: Vec<_> = (0..50).map(dial).collect();
    world.run_until_idle().unwrap();
    let counts = servers.map(|server| server.connection_count());
    assert_eq!(counts[0] + counts[1], peers.len());
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}

#[test]
fn a_name_that_the_world_knows_is_refused_to_a_second_host() {
    let mut world = World::new();
    let host = world.add_host("a.test").unwrap();
    for taken in ["a.test", "A.Test", "localhost", "LOCALHOST", "peer"] {
        let error = world.add_host(taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{taken}");
        assert!(error.to_string().contains(taken), "{error}");
    }
    let other = world.add_host("b.test").unwrap();
    assert_ne!(host.ip(), other.ip());
    let found = world
        .run_until(other.handle().resolve("a.test", 1))
        .unwrap();
    assert!(found.contains(&host.addr(1)), "{found:?}");
}
