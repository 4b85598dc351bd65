//! The forms of an address, given sockets, files of Unix sockets, options.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use support::datagrams::{DatagramPeer, Datagrams, Heard, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{Address, DatagramOptions, EventLoop, Interface, LoopClosed};
use tidegate_testkit::{DatagramRecorder, Log};

#[test]
fn an_endpoint_binds_every_form_of_address_and_says_where() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let forms: Vec<DatagramOptions> = vec![
        "127.0.0.1:0".into(),
        "localhost:0".to_owned().into(),
        ("127.0.0.1", 0).into(),
        loopback.into(),
        (&Address::Inet(loopback)).into(),
        UdpSocket::bind(loopback).unwrap().into(),
    ];
    for options in forms {
        let transport = endpoint(&event_loop, options, &Heard::default());
        let addr = transport.local_addr().as_inet().unwrap();
        assert!(addr.ip().is_loopback() && addr.port() != 0, "{addr}");
    }
    let path = dir.path("a b");
    let text = format!("unix:{}", path.display());
    let unix = endpoint(&event_loop, text, &Heard::default());
    assert_eq!(unix.local_addr(), &Address::Unix(path));
}

#[test]
fn what_cannot_be_bound_says_so_and_drops_the_protocol() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cases: Vec<(DatagramOptions, ErrorKind, &str)> = vec![
        (
            taken.local_addr().unwrap().into(),
            ErrorKind::AddrInUse,
            "127.0.0.1",
        ),
        ("nonsense".into(), ErrorKind::InvalidInput, "no address"),
        (
            DatagramOptions::connected("localhost:1"),
            ErrorKind::InvalidInput,
            "resolve it first",
        ),
        (
            Address::Unix(dir.path("no/such/folder")).into(),
            ErrorKind::NotFound,
            "folder",
        ),
        (
            DatagramOptions::new("127.0.0.1:0").remote("[::1]:1"),
            ErrorKind::Unsupported,
            "datagrams",
        ),
    ];
    for (options, kind, part) in cases {
        let held = std::rc::Rc::new(());
        let inside = held.clone();
        let protocol = DatagramRecorder::new(&Log::new()).on_datagram(move |_, _, _| {
            let _ = &inside;
            Ok(())
        });
        let made = event_loop
            .handle()
            .create_datagram_endpoint(options, protocol);
        let error = made.unwrap_err();
        if kind != ErrorKind::Unsupported {
            assert_eq!(error.kind(), kind, "{error}");
        }
        assert!(error.to_string().contains(part), "{error}");
        settle(&mut event_loop);
        assert_eq!(std::rc::Rc::strong_count(&held), 1, "{error}");
    }
    assert_eq!(event_loop.handle().stats().datagram_endpoints, 0);
    let handle = event_loop.handle().clone();
    drop(event_loop);
    let late = handle.create_datagram_endpoint("127.0.0.1:0", Heard::default().protocol());
    assert!(late.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
}

#[test]
fn a_given_socket_keeps_its_address_and_its_peer() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let given = UdpSocket::bind("127.0.0.1:0").unwrap();
    given.connect(peer.address().as_inet().unwrap()).unwrap();
    let copy = given.try_clone().unwrap();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, given, &protocol);
    assert_eq!(transport.remote_addr(), Some(&peer.address()));
    transport.send(b"x").unwrap();
    drive(&mut event_loop, "it is sent", || {
        transport.stats().sent == 1
    });
    transport.close();
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    // A copy of the descriptor is the user's, and causes no event any more.
    peer.send_to(b"x", &Address::Inet(copy.local_addr().unwrap()));
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().stale_events, 0);
    let (one, two) = UnixDatagram::pair().unwrap();
    let unix = endpoint(&event_loop, one, &Heard::echo());
    assert_eq!(unix.remote_addr(), Some(&Address::Unnamed));
    two.send(b"pair").unwrap();
    drive(&mut event_loop, "an echo", || unix.stats().received == 1);
}

#[test]
fn the_file_of_a_dead_endpoint_gives_way_and_that_of_a_living_one_does_not() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = dir.path("a");
    let at = Address::Unix(path.clone());
    drop(UnixDatagram::bind(&path).unwrap());
    assert!(path.exists(), "a dead socket leaves its file");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, at.clone(), &protocol);
    let again = event_loop
        .handle()
        .create_datagram_endpoint(at.clone(), Heard::default().protocol());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    transport.close();
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    assert!(!path.exists(), "the file is removed at the end");
    let living = UnixDatagram::bind(&path).unwrap();
    let refused = event_loop
        .handle()
        .create_datagram_endpoint(at, Heard::default().protocol());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(living);
    assert!(path.exists(), "the file of another is not ours to remove");
}

#[test]
fn a_datagram_to_a_group_reaches_its_members_and_none_after_they_left() {
    let mut event_loop = EventLoop::new().unwrap();
    let group = Ipv4Addr::new(239, 255, 77, 1);
    let on = Interface::Address(Ipv4Addr::LOCALHOST);
    let protocol = Heard::default();
    let member = endpoint(&event_loop, "0.0.0.0:0", &protocol);
    member.join_multicast(group.into(), on).unwrap();
    let sender = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    sender.set_multicast_interface(on).unwrap();
    sender.set_multicast_loop(true).unwrap();
    sender.set_multicast_hops(0).unwrap();
    let port = member.local_addr().as_inet().unwrap().port();
    let to = SocketAddr::from((group, port));
    sender.send_to(b"to all", &to).unwrap();
    drive(&mut event_loop, "a datagram to the group", || {
        !protocol.datagrams().is_empty()
    });
    member.leave_multicast(group.into(), on).unwrap();
    sender.send_to(b"to none", &to).unwrap();
    sender
        .send_to(b"to one", &SocketAddr::from(([127, 0, 0, 1], port)))
        .unwrap();
    drive(&mut event_loop, "a later datagram", || {
        protocol.datagrams().len() == 2
    });
    assert_eq!(protocol.datagrams(), [&b"to all"[..], b"to one"]);
}

#[test]
fn options_are_set_and_those_of_udp_refused_on_a_unix_socket() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    for wire in Datagrams::each() {
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &Heard::default());
        let set = [
            transport.set_hops(7),
            transport.set_traffic_class(0x20),
            transport.set_broadcast(wire != Datagrams::V6),
            transport.set_multicast_hops(3),
            transport.set_multicast_loop(false),
            transport.set_multicast_interface(Interface::Any),
        ];
        for result in set {
            match wire {
                Datagrams::Unix => {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
                }
                _ => result.unwrap(),
            }
        }
        transport.abort();
        assert!(transport.set_hops(1).is_err(), "it has ended");
    }
}

#[test]
fn an_address_is_shared_only_by_endpoints_that_all_ask_for_it() {
    type Sharing = fn(DatagramOptions, bool) -> DatagramOptions;
    let ways: [Sharing; 2] = [DatagramOptions::reuse_address, DatagramOptions::reuse_port];
    for shares in ways {
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            let event_loop = EventLoop::new().unwrap();
            let options = shares("127.0.0.1:0".into(), first);
            let one = endpoint(&event_loop, options, &Heard::default());
            let options = shares(one.local_addr().into(), second);
            let made = event_loop
                .handle()
                .create_datagram_endpoint(options, Heard::default().protocol());
            assert_eq!(made.is_ok(), first && second, "{first} {second}");
        }
    }
}

#[test]
fn an_ipv6_endpoint_hears_ipv4_only_if_it_is_asked_to() {
    if !support::has_ipv6() {
        return;
    }
    for v6only in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let protocol = Heard::echo();
        let options = DatagramOptions::new("[::]:0").v6only(v6only);
        let transport = endpoint(&event_loop, options, &protocol);
        let port = transport.local_addr().as_inet().unwrap().port();
        let other = event_loop
            .handle()
            .create_datagram_endpoint(("0.0.0.0", port), Heard::default().protocol());
        assert_eq!(other.is_ok(), v6only, "the port of IPv4 is free or not");
        if v6only {
            continue;
        }
        let peer = DatagramPeer::new(Datagrams::V4, &TempDir::new(), "b");
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        peer.send_to(b"four", &Address::Inet(to));
        drive(&mut event_loop, "an echo", || transport.stats().sent == 1);
        assert_eq!(peer.receive(), b"four");
    }
}

#[test]
fn options_of_an_endpoint_of_both_families_hold_for_both() {
    if !support::has_ipv6() {
        return;
    }
    let event_loop = EventLoop::new().unwrap();
    let given = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
    given.set_only_v6(false).unwrap();
    let any: SocketAddr = "[::]:0".parse().unwrap();
    given.bind(&any.into()).unwrap();
    let copy = given.try_clone().unwrap();
    let transport = endpoint(&event_loop, UdpSocket::from(given), &Heard::default());
    transport.set_hops(7).unwrap();
    transport.set_traffic_class(0x20).unwrap();
    transport.set_multicast_hops(3).unwrap();
    transport.set_multicast_loop(false).unwrap();
    let v4 = (copy.ttl_v4().unwrap(), copy.tos_v4().unwrap());
    let v6 = (copy.unicast_hops_v6().unwrap(), copy.tclass_v6().unwrap());
    assert_eq!((v4, v6), ((7, 0x20), (7, 0x20)));
    let v4 = (
        copy.multicast_ttl_v4().unwrap(),
        copy.multicast_loop_v4().unwrap(),
    );
    let v6 = (
        copy.multicast_hops_v6().unwrap(),
        copy.multicast_loop_v6().unwrap(),
    );
    assert_eq!((v4, v6), ((3, false), (3, false)));
    let at = Ipv4Addr::LOCALHOST;
    let set = transport.set_multicast_interface(Interface::Address(at));
    set.unwrap();
    assert_eq!(copy.multicast_if_v4().unwrap(), at);
    transport
        .set_multicast_interface(Interface::Index(1))
        .unwrap();
    assert_eq!(copy.multicast_if_v6().unwrap(), 1);
    transport.set_multicast_interface(Interface::Any).unwrap();
    assert_eq!(
        (
            copy.multicast_if_v4().unwrap(),
            copy.multicast_if_v6().unwrap()
        ),
        (Ipv4Addr::UNSPECIFIED, 0)
    );
}
