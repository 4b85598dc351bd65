//! Servers on several addresses, and how these are bound. Names are in `listen_names.rs`.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use support::{BOUND, Log, Peer, Recorder, Served, TempDir, assert_serves, drive, settle};
use tidegate::{Address, EventLoop, ListenOptions, WriteLimits};

/// A loopback address of the test's own, with a port that is free.
fn free(last: u8) -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 7, last));
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn at(dir: &TempDir, name: &str) -> String {
    format!("unix:{}", dir.path(name).display())
}

fn is_refused(address: &Address) -> bool {
    let error = match address {
        Address::Inet(addr) => TcpStream::connect(addr).map(drop).unwrap_err(),
        Address::Unix(path) => UnixStream::connect(path).map(drop).unwrap_err(),
        _ => unreachable!("servers have addresses"),
    };
    let refused = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    refused.contains(&error.kind())
}

/// Returns the error of creating a server, whose factory is then dropped without having been called.
#[track_caller]
fn refused(event_loop: &mut EventLoop, options: ListenOptions) -> io::Error {
    let factory = Rc::new(Cell::new(0));
    let held = factory.clone();
    let created = event_loop.handle().create_server(options, move || {
        held.set(held.get() + 1);
        Recorder::new(&Log::new())
    });
    let error = created.unwrap_err();
    settle(event_loop);
    assert_eq!(event_loop.handle().stats().listeners, 0);
    assert_eq!(Rc::strong_count(&factory), 1, "the factory was dropped");
    assert_eq!(factory.get(), 0);
    error
}

#[test]
fn a_server_serves_every_address_of_a_list_and_stops_on_all_of_them_together() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let [one, other] = [free(1), free(2)];
    let inet = Address::Inet;
    let std_tcp = TcpListener::bind((other.ip(), 0)).unwrap();
    let std_addr = inet(std_tcp.local_addr().unwrap());
    let std_unix = UnixListener::bind(dir.path("std")).unwrap();
    let unix = |name: &str| Address::Unix(dir.path(name));
    let lists: Vec<(ListenOptions, Vec<Address>)> = vec![
        ([one, other].into(), vec![inet(one), inet(other)]),
        (
            vec![at(&dir, "b"), one.to_string(), at(&dir, "a")].into(),
            vec![unix("b"), inet(one), unix("a")],
        ),
        (
            ListenOptions::new(other)
                .also(at(&dir, "c"))
                .also(inet(one)),
            vec![inet(other), unix("c"), inet(one)],
        ),
        (
            ListenOptions::new(std_tcp)
                .also([one.to_string()])
                .also(std_unix)
                .also((other.ip().to_string().as_str(), other.port())),
            vec![std_addr, inet(one), unix("std"), inet(other)],
        ),
    ];
    for (options, expected) in lists {
        let served = Served::echo(event_loop.handle(), options);
        assert_eq!(served.server.local_addrs(), expected);
        let listeners = event_loop.handle().stats().listeners;
        assert_eq!(listeners, expected.len());
        let mut peers = Vec::new();
        for address in &expected {
            peers.push(assert_serves(&mut event_loop, address));
        }
        assert_eq!(served.server.connection_count(), expected.len());
        served.server.close();
        assert_eq!(event_loop.handle().stats().listeners, 0);
        for address in &expected {
            assert!(is_refused(address), "{address}");
        }
        // The connections stay.
        for mut peer in peers {
            peer.send(b"pong");
            peer.expect(&mut event_loop, 8);
        }
    }
    for name in ["a", "b", "c"] {
        assert!(!dir.path(name).exists(), "{name}");
    }
}

#[test]
fn each_port_zero_of_a_list_takes_a_port_of_its_own() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new(("127.0.0.1", 0)).also(["127.0.0.1:0"; 2]);
    let served = Served::echo(event_loop.handle(), options);
    let addresses = served.server.local_addrs().to_vec();
    let mut ports: Vec<_> = addresses
        .iter()
        .map(|address| address.as_inet().unwrap().port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    assert_ne!(ports[0], 0);
    for address in addresses {
        assert_serves(&mut event_loop, &address);
    }
}

#[test]
fn an_address_that_is_named_twice_is_bound_once_in_its_first_place() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let [one, other] = [free(6), free(7)];
    let unix = Address::Unix(dir.path("s"));
    let options = ListenOptions::new([one, other, one])
        .also([unix.clone(), unix.clone()])
        .also(one.to_string())
        .also((other.ip().to_string().as_str(), other.port()));
    let served = Served::echo(event_loop.handle(), options);
    let expected = [one.into(), other.into(), unix];
    assert_eq!(served.server.local_addrs(), expected);
    for address in &expected {
        assert_serves(&mut event_loop, address);
    }
    // Another server is another matter.
    let mut elsewhere = EventLoop::new().unwrap();
    let again = refused(&mut elsewhere, [free(8), one].into());
    assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_server_has_the_settings_of_its_own_options_not_those_of_what_was_added() {
    let mut event_loop = EventLoop::new().unwrap();
    let limits = WriteLimits::new().with_high(1).with_low(2);
    let added = ListenOptions::new("127.0.0.1:0")
        .start_serving(false)
        .write_limits(limits);
    let options = ListenOptions::new("127.0.0.1:0").also(added);
    let served = Served::echo(event_loop.handle(), options);
    assert!(served.server.is_serving());
    for address in served.server.local_addrs().to_vec() {
        assert_serves(&mut event_loop, &address);
    }
}

#[test]
fn when_one_address_fails_it_is_named_and_none_stays_bound() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let first = free(3);
    let std = TcpListener::bind("127.0.0.1:0").unwrap();
    let std_addr = std.local_addr().unwrap();
    let busy = TcpListener::bind(free(4)).unwrap();
    let busy_addr = busy.local_addr().unwrap();
    let busy_path = UnixListener::bind(dir.path("busy")).unwrap();
    let in_use = [busy_addr.to_string(), at(&dir, "busy")];
    for bad in &in_use {
        let options = ListenOptions::new(first)
            .also(at(&dir, "ours"))
            .also(bad.as_str())
            .also("127.0.0.1:0");
        let error = refused(&mut event_loop, options);
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(bad), "{error}");
    }
    let invalid = ListenOptions::new(first)
        .also(at(&dir, "ours"))
        .also(std)
        .also("127.0.0.1:99999");
    let error = refused(&mut event_loop, invalid);
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("127.0.0.1:99999"), "{error}");
    assert!(!dir.path("ours").exists());
    assert!(is_refused(&std_addr.into()), "it was given away");
    TcpListener::bind(first).unwrap();
    drop((busy, busy_path));
    let again = ListenOptions::new(first).also(in_use);
    let served = Served::echo(event_loop.handle(), again);
    for address in served.server.local_addrs().to_vec() {
        assert_serves(&mut event_loop, &address);
    }
}

#[test]
fn a_server_fails_with_the_error_that_it_was_given_before_it_binds() {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let given = io::Error::new(io::ErrorKind::Unsupported, "not like this");
    let options = ListenOptions::new(at(&dir, "given.sock").as_str()).fail_with(given);
    let error = refused(&mut event_loop, options);
    assert_eq!(
        (error.kind(), error.to_string()),
        (io::ErrorKind::Unsupported, "not like this".into())
    );
    assert!(!dir.path("given.sock").exists());
}

#[test]
fn an_empty_list_is_invalid() {
    let mut event_loop = EventLoop::new().unwrap();
    let empty: [ListenOptions; 3] = [
        Vec::<String>::new().into(),
        <[SocketAddr; 0]>::default().into(),
        ListenOptions::new(Vec::<&str>::new()).also(Vec::<&str>::new()),
    ];
    for options in empty {
        let error = refused(&mut event_loop, options);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("at least one address"),
            "{error}"
        );
    }
}

#[test]
fn a_server_not_started_listens_on_none_of_its_addresses_until_it_is() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(["127.0.0.1:0", "127.0.0.2:0"])
        .also(at(&dir, "s"))
        .start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    let addresses = served.server.local_addrs().to_vec();
    assert_eq!(addresses.len(), 3);
    for address in &addresses {
        assert!(is_refused(address), "{address}");
    }
    served.server.start_serving().unwrap();
    for address in &addresses {
        assert_serves(&mut event_loop, address);
    }
}

/// Linux lets a port be bound twice as long as nobody listens on it.
#[test]
fn an_address_taken_before_the_server_started_is_named_and_the_server_closed() {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let contested = free(5);
    let log = Log::new();
    let create = |options: ListenOptions| {
        let log = log.clone();
        let factory = move || Recorder::new(&log);
        let options = options.start_serving(false);
        event_loop.handle().create_server(options, factory).unwrap()
    };
    let late = ListenOptions::new("127.0.0.1:0")
        .also(contested)
        .also(at(&dir, "s"));
    let (late, first) = (create(late), create(contested.into()));
    let others = late.local_addrs().to_vec();
    first.start_serving().unwrap();
    let error = late.start_serving().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(
        error.to_string().contains(&contested.to_string()),
        "{error}"
    );
    assert!(!late.is_serving());
    assert!(is_refused(&others[0]));
    assert!(!dir.path("s").exists());
    assert_eq!(event_loop.handle().stats().listeners, 1);
    assert_eq!(
        late.start_serving().unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    first.close();
    TcpListener::bind(contested).unwrap();
}

#[test]
fn several_loops_share_a_port_when_all_of_them_say_so() {
    const CLIENTS: usize = 200;
    let mut event_loop = EventLoop::new().unwrap();
    let ours = Served::echo(
        event_loop.handle(),
        ListenOptions::new("127.0.0.1:0").reuse_port(true),
    );
    let addr = ours.address().as_inet().unwrap();
    let theirs = Arc::new(AtomicUsize::new(0));
    let accepted = theirs.clone();
    let (ready, is_ready) = mpsc::channel();
    let other = thread::spawn(move || {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let alone = handle.create_server(addr, || Recorder::new(&Log::new()));
        assert_eq!(alone.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let shared = ListenOptions::new(addr).reuse_port(true);
        let factory = move || {
            accepted.fetch_add(1, Ordering::SeqCst);
            Recorder::echo(&Log::new())
        };
        handle.create_server(shared, factory).unwrap();
        ready.send(handle.remote()).unwrap();
        event_loop.run_forever().unwrap();
    });
    let remote = is_ready.recv_timeout(BOUND).unwrap();
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| Peer::connect(&addr.into())).collect();
    for peer in &mut peers {
        peer.send(b"ping");
        peer.expect(&mut event_loop, 4);
    }
    drive(&mut event_loop, "every client", || {
        ours.accepted() + theirs.load(Ordering::SeqCst) == CLIENTS
    });
    assert_ne!(ours.accepted(), 0);
    assert_ne!(ours.accepted(), CLIENTS);
    remote.stop();
    other.join().unwrap();
}

#[test]
fn a_port_that_one_server_does_not_share_is_nobody_elses() {
    let mut event_loop = EventLoop::new().unwrap();
    let alone = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let shared = ListenOptions::new(alone.address()).reuse_port(true);
    let created = event_loop
        .handle()
        .create_server(shared, || Recorder::new(&Log::new()));
    assert_eq!(created.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_serves(&mut event_loop, &alone.address());
    // On a Unix socket it means nothing, as SO_REUSEADDR does.
    let dir = TempDir::new();
    let unix = ListenOptions::new(at(&dir, "s")).reuse_port(true);
    let unix = Served::echo(event_loop.handle(), unix);
    assert_serves(&mut event_loop, &unix.address());
}

/// An IPv4 loopback address written as an IPv6 one (RFC 4291, section 2.5.5.2).
#[test]
fn an_ipv6_address_takes_ipv4_connections_only_when_told_to() {
    let mut event_loop = EventLoop::new().unwrap();
    if TcpListener::bind("[::1]:0").is_err() {
        println!("no IPv6 here");
        return;
    }
    let mapped = "[::ffff:127.0.0.1]:0";
    refused(&mut event_loop, mapped.into());
    refused(&mut event_loop, ListenOptions::new(mapped).v6only(true));
    let both = ListenOptions::new(mapped).v6only(false);
    let served = Served::echo(event_loop.handle(), both);
    let port = served.address().as_inet().unwrap().port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    assert_serves(&mut event_loop, &addr.into());
    let peer = served.transport(0).peer_addr().as_inet().unwrap();
    assert!(peer.is_ipv6(), "{peer}");
    // For IPv4 it says nothing.
    let four = ListenOptions::new("127.0.0.1:0").v6only(false);
    let four = Served::echo(event_loop.handle(), four);
    assert_serves(&mut event_loop, &four.address());
}
