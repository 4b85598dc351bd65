//! Connecting, and taking over connected streams.

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{Domain, Socket, Type};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{
    BOUND, Kind, Log, Peer, Recorder, Scene, Seen, Served, TempDir, drive, each_kind, settle,
};
use tidegate::{
    Address, Completion, ConnectOptions, EventLoop, LoopClosed, Transport, WriteLimits,
};

each_kind!(a_connection_knows_both_ends_and_that_we_opened_it);
fn a_connection_knows_both_ends_and_that_we_opened_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address);
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::echo(&log));
    let transport = event_loop.run_until(connecting).unwrap();
    let (accepted, from) = listener.accept().unwrap();
    assert!(!transport.is_accepted());
    assert_eq!(*transport.peer_addr(), address);
    let own = match kind {
        Kind::Tcp => from.as_socket().unwrap().into(),
        Kind::Unix => Address::Unnamed,
    };
    assert_eq!(*transport.local_addr(), own);
    let found = event_loop.handle().transport(transport.id()).unwrap();
    assert_eq!(found.id(), transport.id());
    let mut peer = Peer::new(accepted);
    peer.send(b"both ways");
    peer.expect(&mut event_loop, 9);
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(event_loop.handle().transport(transport.id()).is_none());
    // Addresses that were known stay known.
    assert_eq!(*transport.peer_addr(), address);
    assert_eq!(*transport.local_addr(), own);
}

#[test]
fn every_form_of_address_connects() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let tcp = Served::echo(event_loop.handle(), Kind::Tcp.somewhere(&dir)).address();
    let unix = Served::echo(event_loop.handle(), Kind::Unix.somewhere(&dir)).address();
    let forms: Vec<ConnectOptions> = vec![
        tcp.to_string().into(),
        tcp.to_string().as_str().into(),
        tcp.as_inet().unwrap().into(),
        (&tcp).into(),
        tcp.into(),
        unix.to_string().into(),
        unix.into(),
    ];
    for options in forms {
        let log = Log::new();
        let connecting = event_loop
            .handle()
            .create_connection(options, Recorder::new(&log));
        let transport = event_loop.run_until(connecting).unwrap();
        transport.write(b"ping").unwrap();
        drive(&mut event_loop, "the echo", || log.data() == b"ping");
        transport.close();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

each_kind!(the_answer_comes_after_connection_made_and_from_the_loop);
fn the_answer_comes_after_connection_made_and_from_the_loop(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let log = Log::new();
    let answered = log.clone();
    event_loop
        .handle()
        .create_connection(&address, Recorder::new(&log))
        .then(move |_, result| {
            result.unwrap();
            answered.note("answered");
        });
    assert!(log.seen().is_empty(), "not within the call");
    drive(&mut event_loop, "the answer", || {
        log.words() == ["made", "answered"]
    });
}

/// The error of a connect that must fail, after which nothing of it is left.
fn failing(options: ConnectOptions) -> io::Error {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log))
        .within(BOUND);
    let error = event_loop.run_until(connecting).unwrap_err();
    settle(&mut event_loop);
    assert!(log.seen().is_empty(), "{:?}", log.seen());
    assert_eq!(log.dropped(), 1, "the protocol was dropped");
    let stats = event_loop.handle().stats();
    let left = (
        stats.connecting,
        stats.connections,
        stats.timers,
        stats.completions,
    );
    assert_eq!(left, (0, 0, 0, 0));
    error
}

#[test]
fn a_refused_connect_names_the_address() {
    let dir = TempDir::new();
    // Bound, so that nobody else listens there, but not listening.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let tcp = bound.local_addr().unwrap().as_socket().unwrap();
    let stale = dir.path("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let cases = [
        (Address::Inet(tcp), io::ErrorKind::ConnectionRefused),
        (Address::Unix(stale), io::ErrorKind::ConnectionRefused),
        (Address::Unix(dir.path("missing")), io::ErrorKind::NotFound),
    ];
    for (address, kind) in cases {
        let error = failing((&address).into());
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

#[test]
fn bad_addresses_and_limits_fail_the_completion_with_invalid_input() {
    for text in [
        "",
        "8888",
        "127.0.0.1",
        "::1:80",
        "127.0.0.1:65536",
        "unix:",
    ] {
        let error = failing(text.into());
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text:?}");
    }
    let error = failing(Address::Unnamed.into());
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let limits = WriteLimits::new().with_cap(0);
    let error = failing(ConnectOptions::new("127.0.0.1:1").write_limits(limits));
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

each_kind!(the_write_limits_of_the_options_hold_from_connection_made_on);
fn the_write_limits_of_the_options_hold_from_connection_made_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let seen: Rc<Cell<Option<WriteLimits>>> = Rc::default();
    let in_made = seen.clone();
    let recorder = Recorder::new(&log).on_made(move |transport| {
        in_made.set(Some(transport.write_limits()));
        Ok(())
    });
    let limits = WriteLimits::new()
        .with_high(4000)
        .with_low(7)
        .with_cap(5000);
    let (_transport, _peer) = Scene::of(kind)
        .connected_with(move |options| options.write_limits(limits))
        .on(&mut event_loop, recorder);
    let given = seen.get().unwrap();
    assert_eq!((given.high(), given.low(), given.cap()), (4000, 7, 5000));
}

/// A TCP listener that never accepts and whose backlog is full: connects to it hang.
fn black_hole() -> (Socket, Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap();
    let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    first.connect(&addr).unwrap();
    (listener, vec![first], addr.as_socket().unwrap())
}

#[test]
fn a_connect_that_hangs_ends_with_its_timeout_and_not_before() {
    let (_listener, _filler, addr) = black_hole();
    let limit = Duration::from_millis(60);
    let begun = Instant::now();
    let error = failing(ConnectOptions::new(addr).timeout(limit));
    assert!(begun.elapsed() >= limit);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn dropping_the_completion_of_a_connect_cancels_it() {
    let (_listener, _filler, addr) = black_hole();
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let options = ConnectOptions::new(addr).timeout(Duration::from_secs(3600));
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.timers), (1, 1));
    drop(connecting);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connecting, stats.timers), (0, 0));
    settle(&mut event_loop);
    assert!(log.seen().is_empty());
    assert_eq!(log.dropped(), 1);
}

each_kind!(a_connect_in_time_takes_its_timeout_along);
fn a_connect_in_time_takes_its_timeout_along(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let limit = Duration::from_secs(3600);
    let (_transport, _peer) = Scene::of(kind)
        .connected_with(move |options| options.timeout(limit))
        .on(&mut event_loop, Recorder::new(&log));
    assert_eq!(event_loop.handle().stats().timers, 0);
}

#[test]
fn a_connect_on_a_loop_that_is_gone_fails() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (_listener, _filler, addr) = black_hole();
    let pending = handle.create_connection(addr, Recorder::new(&log));
    drop(event_loop);
    assert_eq!(log.dropped(), 1);
    assert_closed(pending);
    assert_closed(handle.create_connection(addr, Recorder::new(&log)));
    assert_eq!(log.dropped(), 2);
    let stream = UnixStream::pair().unwrap().0;
    let error = handle.adopt(stream, Recorder::new(&log)).unwrap_err();
    assert!(error.get_ref().unwrap().is::<LoopClosed>());
    assert!(log.seen().is_empty());
}

/// Polls a completion whose loop does not run any more.
fn assert_closed(mut completion: Completion<Transport>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = Future::poll(std::pin::Pin::new(&mut completion), &mut context);
    let std::task::Poll::Ready(Err(error)) = polled else {
        panic!("{polled:?}");
    };
    assert!(error.get_ref().unwrap().is::<LoopClosed>());
}

/// A second descriptor of the socket of this process that connects these two addresses. The
/// loop's own is out of reach; Linux can copy one by its number.
fn duplicate_of(local: &Address, peer: &Address) -> Socket {
    let (Some(SocketAddr::V4(local)), Some(SocketAddr::V4(peer))) =
        (local.as_inet(), peer.as_inet())
    else {
        panic!("{local} and {peer} are not both IPv4");
    };
    let hex = |addr: std::net::SocketAddrV4| {
        let ip = u32::from_ne_bytes(addr.ip().octets());
        format!("{ip:08X}:{:04X}", addr.port())
    };
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields[1] == hex(local) && fields[2] == hex(peer))
        .map(|fields| format!("socket:[{}]", fields[9]))
        .expect("the connection is in the kernel's table");
    let number = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok)
        .find(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| link.to_str() == Some(&inode))
        })
        .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
        .expect("its descriptor is ours");
    let own: Pid = getpid();
    let process = pidfd_open(own, PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty())
        .unwrap()
        .into()
}

#[test]
fn nodelay_is_on_from_the_start_and_can_be_switched() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(served.address(), Recorder::new(&log));
    let opened = event_loop.run_until(connecting).unwrap();
    drive(&mut event_loop, "accepted", || served.accepted() == 1);
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
    assert!(!stream.nodelay().unwrap(), "the system's default is off");
    let adopted_log = Log::new();
    let adopted = event_loop
        .handle()
        .adopt(stream, Recorder::new(&adopted_log))
        .unwrap();
    for transport in [&opened, &served.transport(0), &adopted] {
        let socket = duplicate_of(transport.local_addr(), transport.peer_addr());
        assert!(socket.tcp_nodelay().unwrap(), "{transport:?}");
        for on in [false, true, true] {
            transport.set_nodelay(on).unwrap();
            assert_eq!(socket.tcp_nodelay().unwrap(), on);
        }
    }
    opened.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    opened.set_nodelay(true).unwrap_err();
}

#[test]
fn nodelay_of_a_unix_socket_does_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = Scene::of(Kind::Unix)
        .connected()
        .on(&mut event_loop, Recorder::new(&log));
    transport.set_nodelay(true).unwrap();
    transport.set_nodelay(false).unwrap();
}

#[test]
fn an_adopted_stream_is_driven_like_an_accepted_one() {
    let mut event_loop = EventLoop::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    // Both are blocking, as std makes them.
    let tcp_log = Log::new();
    let tcp_stream = TcpStream::connect(addr).unwrap();
    let own = tcp_stream.local_addr().unwrap();
    let tcp = event_loop
        .handle()
        .adopt(tcp_stream, Recorder::echo(&tcp_log))
        .unwrap();
    let unix_log = Log::new();
    let unix = event_loop
        .handle()
        .adopt(ours, Recorder::echo(&unix_log))
        .unwrap();
    assert!(tcp_log.seen().is_empty() && unix_log.seen().is_empty());
    assert_eq!(*tcp.peer_addr(), Address::Inet(addr));
    assert_eq!(*tcp.local_addr(), Address::Inet(own));
    assert_eq!(*unix.peer_addr(), Address::Unnamed);
    let mut peers = [
        Peer::new(listener.accept().unwrap().0.into()),
        Peer::new(theirs.into()),
    ];
    for (transport, log) in [(&tcp, &tcp_log), (&unix, &unix_log)] {
        assert!(transport.is_accepted());
        drive(&mut event_loop, "made", || log.has(&Seen::Made));
    }
    for peer in &mut peers {
        peer.send(b"echo");
        peer.expect(&mut event_loop, 4);
        peer.shutdown_write();
        peer.expect_end(&mut event_loop);
    }
    for log in [&tcp_log, &unix_log] {
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    }
}

each_kind!(what_waits_in_an_adopted_stream_is_read_without_a_new_byte);
fn what_waits_in_an_adopted_stream_is_read_without_a_new_byte(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let mut peer = Peer::connect(&address);
    peer.send(b"early");
    peer.shutdown_write();
    let fd = OwnedFd::from(listener.accept().unwrap().0);
    let log = Log::new();
    let recorder = Recorder::echo(&log);
    match kind {
        Kind::Tcp => event_loop.handle().adopt(TcpStream::from(fd), recorder),
        Kind::Unix => event_loop.handle().adopt(UnixStream::from(fd), recorder),
    }
    .unwrap();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"early");
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

#[test]
fn an_unconnected_socket_is_not_adopted() {
    let mut event_loop = EventLoop::new().unwrap();
    for (domain, tcp) in [(Domain::IPV4, true), (Domain::UNIX, false)] {
        let fd = OwnedFd::from(Socket::new(domain, Type::STREAM, None).unwrap());
        let log = Log::new();
        let recorder = Recorder::new(&log);
        let adopted = if tcp {
            event_loop.handle().adopt(TcpStream::from(fd), recorder)
        } else {
            event_loop.handle().adopt(UnixStream::from(fd), recorder)
        };
        assert_eq!(adopted.unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(log.dropped(), 0, "never within the call");
        drive(&mut event_loop, "the drop", || log.dropped() == 1);
        assert!(log.seen().is_empty());
    }
    assert_eq!(event_loop.handle().stats().connections, 0);
}

each_kind!(a_connect_and_an_adoption_may_be_asked_for_in_callbacks);
fn a_connect_and_an_adoption_may_be_asked_for_in_callbacks(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let address = served.address();
    let (outer, inner, pair) = (Log::new(), Log::new(), Log::new());
    let transports: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let recorder = {
        let (address, inner, pair) = (address.clone(), inner.clone(), pair.clone());
        let transports = transports.clone();
        Recorder::new(&outer).on_made(move |transport| {
            let handle = transport.handle();
            let transports = transports.clone();
            handle
                .create_connection(&address, Recorder::new(&inner))
                .then(move |_, result| transports.borrow_mut().push(result.unwrap()));
            let (ours, theirs) = UnixStream::pair()?;
            handle.adopt(ours, Recorder::echo(&pair))?;
            drop(theirs);
            Ok(())
        })
    };
    let connecting = event_loop.handle().create_connection(&address, recorder);
    let transport = event_loop.run_until(connecting).unwrap();
    drive(&mut event_loop, "both", || {
        transports.borrow().len() == 1 && pair.is_lost()
    });
    assert_ne!(transports.borrow()[0].id(), transport.id());
    assert_eq!(served.accepted(), 2);
    assert_eq!(inner.words(), ["made"]);
    assert_eq!(pair.words(), ["made", "eof", "lost"]);
}
