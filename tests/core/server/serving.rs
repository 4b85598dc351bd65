//! Servers: what they listen on, what they accept, how long they serve. How they are closed is in
//! `closing.rs`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use support::{
    Kind, Log, Peer, Recorder, Seen, Served, TempDir, assert_serves, drive, each_kind, settle,
};
use tidegate::{
    Address, CloseReason, EventLoop, ListenOptions, LoopClosed, Server, Transport, WriteLimits,
};

/// A plain, blocking attempt to connect.
fn try_connect(address: &Address) -> io::Result<()> {
    match address {
        Address::Inet(addr) => TcpStream::connect(addr).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
        _ => unreachable!("servers have addresses"),
    }
}

#[test]
fn a_server_listens_on_every_form_of_address_and_says_where() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = |name: &str| dir.path(name);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let tcp_listener = TcpListener::bind(loopback).unwrap();
    let tcp_addr = tcp_listener.local_addr().unwrap();
    let unix_listener = UnixListener::bind(path("std")).unwrap();
    let forms: Vec<(ListenOptions, Option<Address>)> = vec![
        ("127.0.0.1:0".into(), None),
        ("127.0.0.1:0".to_owned().into(), None),
        (loopback.into(), None),
        (Address::Inet(loopback).into(), None),
        (
            format!("unix:{}", path("a b").display()).into(),
            Some(Address::Unix(path("a b"))),
        ),
        (
            (&Address::Unix(path("c"))).into(),
            Some(Address::Unix(path("c"))),
        ),
        (tcp_listener.into(), Some(tcp_addr.into())),
        (unix_listener.into(), Some(Address::Unix(path("std")))),
    ];
    for (options, expected) in forms {
        let served = Served::echo(event_loop.handle(), options);
        assert_eq!(served.server.local_addrs().len(), 1);
        let address = served.address();
        match expected {
            Some(expected) => assert_eq!(address, expected),
            None => {
                let addr = address.as_inet().unwrap();
                assert_eq!(addr.ip(), loopback.ip());
                assert_ne!(addr.port(), 0, "the port that was taken for port 0");
            }
        }
        assert!(served.server.is_serving());
        drop(assert_serves(&mut event_loop, &address));
        served.server.close();
    }
    settle(&mut event_loop);
}

#[test]
fn a_server_listens_on_ipv6_where_the_machine_has_it() {
    let mut event_loop = EventLoop::new().unwrap();
    match TcpListener::bind("[::1]:0") {
        Ok(_) => {
            let served = Served::echo(event_loop.handle(), "[::1]:0");
            assert!(served.address().as_inet().unwrap().is_ipv6());
            assert_serves(&mut event_loop, &served.address());
        }
        Err(without) => {
            let created = event_loop
                .handle()
                .create_server("[::1]:0", || Recorder::new(&Log::new()));
            assert_eq!(created.unwrap_err().kind(), without.kind());
        }
    }
}

each_kind!(a_server_that_was_not_started_refuses_until_it_is);
fn a_server_that_was_not_started_refuses_until_it_is(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    assert!(!served.server.is_serving());
    assert_eq!(event_loop.handle().stats().listeners, 0);
    let refused = try_connect(&served.address()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    for _ in 0..2 {
        served.server.start_serving().unwrap();
        assert!(served.server.is_serving());
        assert_eq!(event_loop.handle().stats().listeners, 1);
    }
    assert_serves(&mut event_loop, &served.address());
}

#[test]
fn the_backlog_of_a_std_listener_is_accepted_once_the_server_starts() {
    let mut event_loop = EventLoop::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ListenOptions::new(listener).start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    peer.send(b"early");
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 0);
    served.server.start_serving().unwrap();
    peer.expect(&mut event_loop, 5);
}

each_kind!(the_options_of_a_server_reach_its_connections);
fn the_options_of_a_server_reach_its_connections(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let limits = WriteLimits::new().with_high(1000).with_cap(2000);
    let options = ListenOptions::new(kind.somewhere(&dir)).write_limits(limits);
    let served = Served::echo(event_loop.handle(), options);
    assert_serves(&mut event_loop, &served.address());
    let given = served.transport(0).write_limits();
    assert_eq!(
        (given.low(), given.high(), given.cap()),
        (limits.low(), 1000, 2000)
    );
}

#[test]
fn the_backlog_bounds_how_many_wait_in_the_kernel() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let refused_after = |backlog| {
        let options =
            ListenOptions::new(format!("unix:{}", dir.path("s").display())).backlog(backlog);
        let served = Served::echo(event_loop.handle(), options);
        let addr = socket2::SockAddr::unix(dir.path("s")).unwrap();
        let mut waiting = Vec::new();
        // Nobody accepts: no tick of the loop is run.
        let error = loop {
            let socket =
                socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&addr) {
                Ok(()) => waiting.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        served.server.close();
        waiting.len()
    };
    // The kernel rounds, but a larger backlog holds as many more.
    assert_eq!(refused_after(10), refused_after(0) + 10);
}

each_kind!(a_connection_knows_both_ends_and_that_it_was_accepted);
fn a_connection_knows_both_ends_and_that_it_was_accepted(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let peer = assert_serves(&mut event_loop, &served.address());
    let transport = served.transport(0);
    assert!(transport.is_accepted());
    assert_eq!(*transport.local_addr(), served.address());
    let expected = match kind {
        Kind::Tcp => peer
            .as_sock()
            .local_addr()
            .unwrap()
            .as_socket()
            .unwrap()
            .into(),
        Kind::Unix => Address::Unnamed,
    };
    assert_eq!(*transport.peer_addr(), expected);
    let found = event_loop.handle().transport(transport.id());
    assert_eq!(found.unwrap().id(), transport.id());
}

each_kind!(connections_are_counted_from_before_made_until_after_lost);
fn connections_are_counted_from_before_made_until_after_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let own: Rc<RefCell<Option<Server>>> = Rc::default();
    let counts: Rc<RefCell<Vec<usize>>> = Rc::default();
    let count = {
        let (own, counts) = (own.clone(), counts.clone());
        Rc::new(move || {
            let server = own.borrow().clone().unwrap();
            counts.borrow_mut().push(server.connection_count());
        })
    };
    let log = Log::new();
    let recorded = log.clone();
    let server = event_loop
        .handle()
        .create_server(kind.somewhere(&dir), move || {
            let (made, lost) = (count.clone(), count.clone());
            Recorder::new(&recorded)
                .on_made(move |_| {
                    made();
                    Ok(())
                })
                .on_lost(move |_, _| lost())
        })
        .unwrap();
    own.replace(Some(server.clone()));
    assert_eq!(server.connection_count(), 0);
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    drive(&mut event_loop, "made", || log.has(&Seen::Made));
    assert_eq!(server.connection_count(), 1);
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(server.connection_count(), 0);
    assert_eq!(*counts.borrow(), [1, 1]);
    own.take();
}

each_kind!(a_dropped_server_serves_on);
fn a_dropped_server_serves_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let log = Log::new();
    let recorded = log.clone();
    let server = event_loop
        .handle()
        .create_server(kind.somewhere(&dir), move || Recorder::echo(&recorded))
        .unwrap();
    let address = server.local_addrs()[0].clone();
    drop(server.clone());
    drop(server);
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().listeners, 1);
    let mut peer = assert_serves(&mut event_loop, &address);
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
}

each_kind!(a_factory_that_panics_costs_one_connection_and_is_reported);
fn a_factory_that_panics_costs_one_connection_and_is_reported(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let failures: Rc<RefCell<Vec<String>>> = Rc::default();
    let told = failures.clone();
    event_loop.handle().set_error_handler(move |_, failure| {
        let CloseReason::Panic(message) = failure.reason() else {
            panic!("{failure} is no panic");
        };
        told.borrow_mut()
            .push(format!("{}: {message}", failure.context()));
    });
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let served = Served::new(event_loop.handle(), kind.somewhere(&dir), move |recorder| {
        counted.set(counted.get() + 1);
        assert!(counted.get() != 2, "the second one fails");
        recorder.on_data(|transport, data| {
            transport.write(data)?;
            Ok(())
        })
    });
    let address = served.address();
    let mut before = assert_serves(&mut event_loop, &address);
    let mut unlucky = Peer::connect(&address);
    unlucky.expect_end(&mut event_loop);
    assert!(unlucky.received().is_empty());
    assert_eq!(
        *failures.borrow(),
        ["a server's factory: the second one fails"]
    );
    assert_eq!(served.server.connection_count(), 1);
    let _after = assert_serves(&mut event_loop, &address);
    before.send(b"still");
    before.expect(&mut event_loop, 9);
    assert_eq!(served.server.connection_count(), 2);
}

each_kind!(a_peer_that_resets_before_it_is_accepted_disturbs_nobody);
fn a_peer_that_resets_before_it_is_accepted_disturbs_nobody(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let mut gone: Vec<_> = (0..5).map(|_| Peer::connect(&served.address())).collect();
    let mut stays = Peer::connect(&served.address());
    gone.iter_mut().for_each(Peer::reset);
    stays.send(b"here");
    stays.expect(&mut event_loop, 4);
    drive(&mut event_loop, "the others to be gone", || {
        served.server.connection_count() == 1
    });
}

#[test]
fn two_servers_of_one_loop_share_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let tcp = Served::echo(event_loop.handle(), Kind::Tcp.somewhere(&dir));
    let unix = Served::echo(event_loop.handle(), Kind::Unix.somewhere(&dir));
    let mut tcp_peer = assert_serves(&mut event_loop, &tcp.address());
    let mut unix_peer = assert_serves(&mut event_loop, &unix.address());
    tcp.server.abort_clients();
    tcp.server.close();
    tcp_peer.expect_end(&mut event_loop);
    assert_eq!((tcp.accepted(), unix.accepted()), (1, 1));
    assert_eq!(tcp.log(0).reason(), "local-abort");
    unix_peer.send(b"more");
    unix_peer.expect(&mut event_loop, 8);
    assert!(unix.server.is_serving());
    assert_eq!(unix.server.connection_count(), 1);
}

#[test]
fn a_port_in_use_is_named_in_the_error() {
    let event_loop = EventLoop::new().unwrap();
    let first = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let log = Log::new();
    let recorded = log.clone();
    let second = event_loop
        .handle()
        .create_server(first.address(), move || Recorder::new(&recorded));
    let error = second.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(&first.address().to_string()),
        "{error}"
    );
    assert_eq!(event_loop.handle().stats().listeners, 1);
}

#[test]
fn a_port_can_be_listened_on_again_while_old_connections_wait_out_their_time() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let mut peer = assert_serves(&mut event_loop, &served.address());
    // The end that closes first is the one that the kernel keeps in TIME-WAIT.
    served.server.close_clients();
    peer.expect_end(&mut event_loop);
    peer.close();
    settle(&mut event_loop);
    served.server.close();
    let again = Served::echo(event_loop.handle(), served.address());
    assert_serves(&mut event_loop, &again.address());
}

each_kind!(bad_addresses_and_limits_are_invalid_input_and_leave_nothing_behind);
fn bad_addresses_and_limits_are_invalid_input_and_leave_nothing_behind(kind: Kind) {
    let event_loop = EventLoop::new().unwrap();
    let factory = || -> Recorder { panic!("the factory is not called") };
    let create = |options: ListenOptions| event_loop.handle().create_server(options, factory);
    for text in [
        "",
        "8888",
        "127.0.0.1",
        "::1:80",
        "127.0.0.1:65536",
        "unix:",
    ] {
        let error = create(text.into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text:?}");
    }
    let error = create(Address::Unnamed.into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let limits = WriteLimits::new().with_high(10).with_low(11);
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).write_limits(limits);
    let error = create(options).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert!(!dir.path("server.sock").exists());
    assert_eq!(event_loop.handle().stats().listeners, 0);
}

each_kind!(the_end_of_the_loop_closes_a_server_and_lets_go_of_its_factory);
fn the_end_of_the_loop_closes_a_server_and_lets_go_of_its_factory(kind: Kind) {
    for start in [true, false] {
        let event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        // The factory knows its own server, as one does that closes it after the first peer.
        let own: Rc<RefCell<Option<Server>>> = Rc::default();
        let held = own.clone();
        let factory = move || -> Recorder {
            drop(held.take());
            panic!("nobody connects")
        };
        let options = ListenOptions::new(kind.somewhere(&dir)).start_serving(start);
        let server = event_loop.handle().create_server(options, factory).unwrap();
        own.replace(Some(server.clone()));
        let handle = event_loop.handle().clone();
        let address = server.local_addrs()[0].clone();
        drop(event_loop);
        assert_eq!(Rc::strong_count(&own), 1, "the factory was dropped");
        assert!(!server.is_serving());
        let error = server.start_serving().unwrap_err();
        assert_eq!(error.kind(), io::Error::from(LoopClosed).kind());
        assert!(error.get_ref().is_some_and(|e| e.is::<LoopClosed>()));
        let refused = try_connect(&address).unwrap_err();
        let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        assert!(gone.contains(&refused.kind()), "{refused}");
        server.close();
        server.close_clients();
        server.abort_clients();
        drop((server.wait_closed(), server.shutdown(Default::default())));
        let late = handle.create_server(kind.somewhere(&dir), || Recorder::new(&Log::new()));
        assert!(late.unwrap_err().get_ref().unwrap().is::<LoopClosed>());
    }
}

each_kind!(every_connection_gets_its_own_protocol_and_its_own_end);
fn every_connection_gets_its_own_protocol_and_its_own_end(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let mut peers: Vec<Peer> = (0..20)
        .map(|_| assert_serves(&mut event_loop, &served.address()))
        .collect();
    let ids: Vec<_> = (0..20).map(|n| served.transport(n).id()).collect();
    assert!((0..20).all(|n| !ids[..n].contains(&ids[n])));
    for n in [3, 19, 0] {
        peers[n].close();
    }
    drive(&mut event_loop, "three to leave", || {
        served.server.connection_count() == 17
    });
    let lost: Vec<_> = (0..20).filter(|n| served.log(*n).is_lost()).collect();
    assert_eq!(lost, [0, 3, 19]);
    served
        .transport(7)
        .write(b"!")
        .map(|_| ())
        .unwrap_or_else(|error| panic!("{error}"));
    peers[7].expect(&mut event_loop, 5);
    let ended = |transport: &Transport| transport.closed().is_some();
    assert!(ended(&served.transport(3)) && !ended(&served.transport(4)));
}
