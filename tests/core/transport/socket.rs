//! Options of the kernel: those that have a name here, and any other through the descriptor.

use socket2::SockRef;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, Served, TempDir, adopted, assert_serves, drive,
    each_kind, never_paused, settle, stall, tick,
};
use tidegate::{
    CloseReason, Closed, ConnectOptions, EventLoop, Keepalive, ListenOptions, Transport,
    WriteLimits,
};
use tidegate_testkit::World;

const SECOND: Duration = Duration::from_secs(1);

/// Less than the system would choose by itself.
const SMALL: u32 = 20_000;

fn keepalive() -> Keepalive {
    Keepalive::new()
        .with_time(SECOND * 100)
        .with_interval(SECOND * 20)
        .with_retries(5)
}

/// Keepalive and user timeout, as the kernel has them for a TCP connection.
type TcpOptions = (bool, [Duration; 2], u32, Option<Duration>);

fn tcp_options(transport: &Transport) -> TcpOptions {
    let read = |fd: &SockRef<'_>| -> io::Result<TcpOptions> {
        let times = [fd.tcp_keepalive_time()?, fd.tcp_keepalive_interval()?];
        let retries = fd.tcp_keepalive_retries()?;
        Ok((fd.keepalive()?, times, retries, fd.tcp_user_timeout()?))
    };
    transport.with_fd(|fd| read(&SockRef::from(&fd))).unwrap()
}

fn buffers(transport: &Transport) -> [usize; 2] {
    let read = |fd: SockRef<'_>| Ok([fd.send_buffer_size()?, fd.recv_buffer_size()?]);
    transport.with_fd(|fd| read(SockRef::from(&fd))).unwrap()
}

/// Linux doubles what it is told (socket(7)).
const DOUBLED: [usize; 2] = [2 * SMALL as usize; 2];

#[track_caller]
fn assert_set(kind: Kind, transport: &Transport) {
    if kind == Kind::Tcp {
        let expected = (true, [SECOND * 100, SECOND * 20], 5, Some(SECOND * 7));
        assert_eq!(tcp_options(transport), expected);
    }
    assert_eq!(buffers(transport), DOUBLED);
}

fn what_is_set_on_a_transport_is_set_on_its_socket(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).set();
    transport.set_keepalive(Some(keepalive())).unwrap();
    transport.set_user_timeout(Some(SECOND * 7)).unwrap();
    transport.set_send_buffer_size(SMALL).unwrap();
    transport.set_recv_buffer_size(SMALL).unwrap();
    assert_set(kind, &transport);

    transport.set_keepalive(None).unwrap();
    transport.set_user_timeout(None).unwrap();
    if kind == Kind::Tcp {
        let (on, _, _, limit) = tcp_options(&transport);
        assert_eq!((on, limit), (false, None));
    }
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
}
each_kind!(what_is_set_on_a_transport_is_set_on_its_socket);

#[test]
fn times_below_the_systems_unit_are_rounded_up() {
    let (_event_loop, _log, transport, _peer) = Scene::of(Kind::Tcp).set();
    let short = Duration::from_nanos(1);
    let keepalive = Keepalive::new().with_time(short).with_interval(short * 2);
    transport.set_keepalive(Some(keepalive)).unwrap();
    for (given, set) in [(Duration::ZERO, 1), (short, 1), (SECOND + short, 1001)] {
        transport.set_user_timeout(Some(given)).unwrap();
        let (_, times, _, limit) = tcp_options(&transport);
        assert_eq!(times, [SECOND; 2]);
        assert_eq!(limit, Some(Duration::from_millis(set)));
    }
}

#[test]
fn an_option_out_of_range_is_refused_wherever_it_is_set() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
    let bad = Keepalive::new().with_retries(1000);
    let refused = transport.set_keepalive(Some(bad)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let refused = transport.set_user_timeout(Some(Duration::MAX)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);

    let options = ListenOptions::new("127.0.0.1:0").keepalive(bad);
    let refused = event_loop
        .handle()
        .create_server(options, || Recorder::new(&Log::new()))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let text = refused.to_string();
    let expected = "cannot listen on 127.0.0.1:0: SO_KEEPALIVE: Invalid argument";
    assert!(text.starts_with(expected), "{text}");

    let options = ConnectOptions::new("127.0.0.1:1").keepalive(bad);
    let other = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&other));
    let refused = event_loop.run_until(connect).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("SO_KEEPALIVE"), "{refused}");
    assert!(!log.is_lost());
}

fn all_set(options: ListenOptions) -> ListenOptions {
    options
        .keepalive(keepalive())
        .user_timeout(SECOND * 7)
        .send_buffer_size(SMALL)
        .recv_buffer_size(SMALL)
}

fn accepted_connections_have_the_options_of_their_listener(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let given: ListenOptions = match kind {
        Kind::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().into(),
        Kind::Unix => UnixListener::bind(dir.path("given")).unwrap().into(),
    };
    for options in [ListenOptions::new(kind.somewhere(&dir)), given] {
        let served = Served::echo(event_loop.handle(), all_set(options));
        let _peer = assert_serves(&mut event_loop, &served.address());
        assert_set(kind, &served.transport(0));
        served.server.close();
    }
}
each_kind!(accepted_connections_have_the_options_of_their_listener);

fn opened_connections_have_the_options_of_their_connect(kind: Kind) {
    let scene = Scene::of(kind).connected_with(|options| {
        options
            .keepalive(keepalive())
            .user_timeout(SECOND * 7)
            .send_buffer_size(1)
            .send_buffer_size(SMALL)
            .recv_buffer_size(SMALL)
    });
    let (_event_loop, _log, transport, _peer) = scene.set();
    assert_set(kind, &transport);
}
each_kind!(opened_connections_have_the_options_of_their_connect);

fn sockets_with_options_of_the_loops_own_are_never_deregistered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = all_set(kind.somewhere(&dir).into());
    let served = Served::echo(event_loop.handle(), options);
    let options = ConnectOptions::new(served.address()).keepalive(keepalive());
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&Log::new()));
    let transport = event_loop.run_until(connect).unwrap();
    drive(&mut event_loop, "accepted", || served.accepted() == 1);
    transport.abort();
    served.server.close();
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connections, stats.registrations), (0, 3));
}
each_kind!(sockets_with_options_of_the_loops_own_are_never_deregistered);

#[test]
fn a_peer_that_takes_nothing_for_the_user_timeout_ends_the_connection() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Tcp).set();
    transport.set_user_timeout(Some(SECOND / 2)).unwrap();
    stall(&mut event_loop, never_paused(&transport), MIB);
    drive(&mut event_loop, "the kernel to give up", || log.is_lost());
    let closed = log.closed();
    match closed.reason() {
        CloseReason::Io(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        _ => panic!("{closed}"),
    }
}

fn a_closure_with_the_descriptor_may_use_the_transport(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let written = transport.with_fd(|_| {
        transport.write(b"from within")?;
        transport.set_nodelay(false)?;
        transport.with_fd(|fd| SockRef::from(&fd).local_addr())?;
        transport.close();
        Ok(transport.written())
    });
    assert_eq!(written.unwrap(), 11);
    drive(&mut event_loop, "lost", || log.is_lost());
    peer.expect(&mut event_loop, 11);
}
each_kind!(a_closure_with_the_descriptor_may_use_the_transport);

fn an_error_of_the_closure_comes_back_and_changes_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    let error = transport.with_fd(|_| Err::<(), _>(io::Error::other("mine")));
    assert_eq!(error.unwrap_err().to_string(), "mine");
    peer.send(b"alive");
    drive(&mut event_loop, "bytes", || log.data() == b"alive");
}
each_kind!(an_error_of_the_closure_comes_back_and_changes_nothing);

fn after_the_end_there_is_neither_descriptor_nor_option(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let told = Rc::new(RefCell::new(Vec::new()));
    let errors = told.clone();
    let recorder = Recorder::new(&log).on_lost(move |transport, _| {
        let error = transport.with_fd(|_| Ok(())).unwrap_err();
        errors.borrow_mut().push(error);
    });
    let (transport, _peer) = adopted(event_loop.handle(), kind, recorder);
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    told.borrow_mut().extend([
        transport.with_fd(|_| Ok(())).unwrap_err(),
        transport.set_keepalive(None).unwrap_err(),
        transport.set_user_timeout(None).unwrap_err(),
        transport.set_send_buffer_size(1).unwrap_err(),
        transport.set_recv_buffer_size(1).unwrap_err(),
    ]);
    assert_eq!(told.borrow().len(), 6);
    for error in told.take() {
        assert!(Closed::of(&error).is_some(), "{error:?}");
    }
}
each_kind!(after_the_end_there_is_neither_descriptor_nor_option);

fn a_socket_that_was_shown_is_ended_for_copies_of_it_too(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).connected().set();
    let copy = transport.with_fd(|fd| fd.try_clone_to_owned()).unwrap();
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    peer.expect_end(&mut event_loop);
    let _ = peer.try_write(b"to the copy");
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().stale_events, 0);
    drop(copy);
}
each_kind!(a_socket_that_was_shown_is_ended_for_copies_of_it_too);

/// A list that a closure with a socket fills: options may come from another thread.
type Shown<T> = Arc<Mutex<Vec<T>>>;

fn a_listening_socket_is_shown_before_it_is_bound(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let shown: Shown<_> = Arc::default();
    let seen = shown.clone();
    let options = ListenOptions::new(kind.somewhere(&dir))
        .send_buffer_size(SMALL)
        .on_socket(move |fd| {
            let socket = SockRef::from(&fd);
            let addr = socket.local_addr()?;
            let bound = addr.as_pathname().is_some()
                || addr.as_socket().is_some_and(|addr| addr.port() > 0);
            let entry = (bound, socket.is_listener()?, socket.send_buffer_size()?);
            seen.lock().unwrap().push(entry);
            Ok(())
        });
    let served = Served::echo(event_loop.handle(), options);
    assert_eq!(*shown.lock().unwrap(), [(false, false, DOUBLED[0])]);
    assert_serves(&mut event_loop, &served.address());
    assert_eq!(shown.lock().unwrap().len(), 1);
}
each_kind!(a_listening_socket_is_shown_before_it_is_bound);

fn a_connecting_socket_is_shown_before_it_connects_and_never_within_the_call(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let shown: Shown<_> = Arc::default();
    let seen = shown.clone();
    let options = ConnectOptions::new(&address).on_socket(move |fd| {
        let socket = SockRef::from(&fd);
        let connected = socket.peer_addr().is_ok();
        seen.lock().unwrap().push(connected);
        Ok(())
    });
    let log = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    assert!(shown.lock().unwrap().is_empty());
    event_loop.run_until(connect).unwrap();
    assert_eq!(*shown.lock().unwrap(), [false]);
}
each_kind!(a_connecting_socket_is_shown_before_it_connects_and_never_within_the_call);

type Refusal = fn() -> io::Result<()>;

const REFUSALS: [(Refusal, &str); 2] = [
    (|| Err(io::Error::other("not this one")), "not this one"),
    (|| panic!("never this one"), "never this one"),
];

fn an_error_or_a_panic_before_the_bind_fails_the_server(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    for (refuse, text) in REFUSALS {
        let options = ListenOptions::new(kind.somewhere(&dir)).on_socket(move |_| refuse());
        let refused = event_loop
            .handle()
            .create_server(options, || Recorder::new(&Log::new()))
            .unwrap_err();
        let refused = refused.to_string();
        assert!(refused.starts_with("cannot listen on "), "{refused}");
        assert!(refused.contains(text), "{refused}");
    }
    // Nothing is left of them.
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    assert_serves(&mut event_loop, &served.address());
    assert_eq!(event_loop.handle().stats().listeners, 1);
}
each_kind!(an_error_or_a_panic_before_the_bind_fails_the_server);

fn an_error_or_a_panic_before_the_connect_fails_the_attempt(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    for (refuse, text) in REFUSALS {
        let log = Log::new();
        let options = ConnectOptions::new(&address).on_socket(move |_| refuse());
        let connect = event_loop
            .handle()
            .create_connection(options, Recorder::new(&log));
        let refused = event_loop.run_until(connect).unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
        settle(&mut event_loop);
        assert_eq!((log.dropped(), log.words().len()), (1, 0));
    }
    assert_eq!(event_loop.handle().stats().connecting, 0);
}
each_kind!(an_error_or_a_panic_before_the_connect_fails_the_attempt);

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn closures_with_sockets_are_dropped_by_the_loop_and_within_no_call() {
    let mut event_loop = EventLoop::new().unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let hook = || {
        let counted = Counted(drops.clone());
        move |_: std::os::fd::BorrowedFd<'_>| {
            let _ = &counted;
            Ok(())
        }
    };
    let handle = event_loop.handle().clone();
    let recorder = || Recorder::new(&Log::new());
    let bad = WriteLimits::new().with_cap(0);
    let good = ListenOptions::new("127.0.0.1:0").on_socket(hook());
    let server = handle.create_server(good, recorder).unwrap();
    let refused = ListenOptions::new("127.0.0.1:0").on_socket(hook());
    let refused = handle.create_server(refused.write_limits(bad), recorder);
    assert!(refused.is_err());
    let refused = ConnectOptions::new(&server.local_addrs()[0]).on_socket(hook());
    drop(handle.create_connection(refused.write_limits(bad), recorder()));
    let dropped = ConnectOptions::new(&server.local_addrs()[0]).on_socket(hook());
    drop(handle.create_connection(dropped, recorder()));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    tick(&mut event_loop);
    tick(&mut event_loop);
    assert_eq!(drops.load(Ordering::Relaxed), 4);

    let connected = ConnectOptions::new(&server.local_addrs()[0]).on_socket(hook());
    let connect = handle.create_connection(connected, recorder());
    event_loop.run_until(connect).unwrap();
    tick(&mut event_loop);
    assert_eq!(drops.load(Ordering::Relaxed), 5);
}

#[test]
fn a_connect_that_is_given_up_while_its_socket_is_shown_leaves_nothing() {
    // Reached by the closure, which a connect in another thread could have made.
    thread_local! {
        static CONNECT: RefCell<Option<tidegate::Completion<Transport>>> =
            const { RefCell::new(None) };
    }
    let mut event_loop = EventLoop::new().unwrap();
    let (_listener, address) = Kind::Tcp.listen(&TempDir::new());
    let shown: Shown<()> = Arc::default();
    let seen = shown.clone();
    let options = ConnectOptions::new(&address).on_socket(move |_| {
        seen.lock().unwrap().push(());
        drop(CONNECT.take());
        Ok(())
    });
    let log = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    CONNECT.set(Some(connect));
    drive(&mut event_loop, "the protocol to be dropped", || {
        log.dropped() == 1
    });
    settle(&mut event_loop);
    assert_eq!(shown.lock().unwrap().len(), 1);
    let stats = event_loop.handle().stats();
    assert_eq!(
        (stats.connecting, stats.connections, stats.timers),
        (0, 0, 0)
    );
    assert_eq!(log.words().len(), 0);
}

#[test]
fn a_simulated_network_takes_options_and_has_no_descriptors() {
    let mut world = World::new();
    let server_host = world.add_host("server").unwrap();
    let host = world.add_host("client").unwrap();
    let address = server_host.addr(7);
    let options = all_set(address.into()).on_socket(|_| panic!("there is no descriptor"));
    let served = Served::echo(server_host.handle(), options);
    let log = Log::new();
    let options = ConnectOptions::new(address)
        .keepalive(keepalive())
        .on_socket(|_| panic!("there is no descriptor"));
    let connect = host
        .handle()
        .create_connection(options, Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    for transport in [&transport, &served.transport(0)] {
        transport.set_keepalive(Some(keepalive())).unwrap();
        transport.set_user_timeout(Some(SECOND)).unwrap();
        transport.set_send_buffer_size(SMALL).unwrap();
        transport.set_recv_buffer_size(SMALL).unwrap();
        let error = transport.with_fd(|_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("has no descriptor"), "{error}");
    }
    transport.write(b"still served").unwrap();
    world.settle().unwrap();
    assert_eq!(log.data(), b"still served");
}

/// A small receive buffer narrows the window that the peer is offered from the first segment on.
#[test]
fn a_receive_buffer_that_is_set_before_listening_bounds_what_a_peer_can_send() {
    let mut event_loop = EventLoop::new().unwrap();
    let somewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut taken = Vec::new();
    for options in [
        ListenOptions::new(somewhere),
        ListenOptions::new(somewhere).recv_buffer_size(SMALL),
    ] {
        let served = Served::new(event_loop.handle(), options, |recorder| recorder);
        let mut peer = Peer::connect(&served.address());
        peer.as_sock().set_send_buffer_size(SMALL as usize).unwrap();
        drive(&mut event_loop, "accepted", || served.accepted() == 1);
        served.transport(0).pause_reading();
        taken.push(peer.fill(&mut event_loop));
    }
    assert!(taken[1] < taken[0], "{taken:?}");
}
