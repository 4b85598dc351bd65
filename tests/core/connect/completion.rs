//! Connecting: the completion, its limits, and what is wrong with an address.

use socket2::Socket;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{BOUND, Kind, Log, Peer, Recorder, TempDir, adopted, drive, each_kind, settle};
use tidegate::{Address, ConnectOptions, EventLoop, Transport};

const MS: Duration = Duration::from_millis(1);

/// A listener whose backlog is full: a connect to it waits until one is accepted. Holds the
/// connection that fills it.
fn full(kind: Kind, dir: &TempDir) -> (Socket, Address, Peer) {
    let (listener, address) = kind.listen(dir);
    listener.listen(0).unwrap();
    let filler = Peer::connect(&address);
    (listener, address, filler)
}

fn assert_nothing_left(event_loop: &mut EventLoop) {
    settle(event_loop);
    let now = event_loop.handle().stats();
    assert_eq!(now.connecting + now.connections, 0);
    assert_eq!((now.timers, now.completions), (0, 0));
}

each_kind!(a_connection_that_nobody_took_is_closed);
fn a_connection_that_nobody_took_is_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(&address, Recorder::new(&log));
    drive(&mut event_loop, "the connection", || {
        log.words() == ["made"]
    });
    settle(&mut event_loop);
    assert!(!log.is_lost(), "closed though the completion holds it");
    drop(connect);
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect_end(&mut event_loop);
    drop(peer);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}

each_kind!(a_completion_that_is_dropped_within_connection_made_closes_the_connection);
fn a_completion_that_is_dropped_within_connection_made_closes_the_connection(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let slot = Rc::new(RefCell::new(None));
    let held = slot.clone();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_made(move |_| {
        held.take();
        Ok(())
    });
    let connect = event_loop.handle().create_connection(&address, protocol);
    slot.replace(Some(connect));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}

each_kind!(detach_and_then_take_the_connection);
fn detach_and_then_take_the_connection(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let logs = [Log::new(), Log::new()];
    let connect = |log| handle.create_connection(&address, Recorder::new(log));
    connect(&logs[0]).detach();
    connect(&logs[1]).then(|_, answer| drop(answer.unwrap()));
    drive(&mut event_loop, "both", || {
        logs.iter().all(|log| log.words() == ["made"])
    });
    settle(&mut event_loop);
    assert_eq!(handle.stats().connections, 2);
}

each_kind!(a_connection_whose_then_on_came_too_late_is_closed);
fn a_connection_whose_then_on_came_too_late_is_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    // A relay: a client comes, we connect for it, it has left by then.
    let (client, _peer) = adopted(&handle, kind, Recorder::new(&Log::new()));
    client.abort();
    settle(&mut event_loop);
    let log = Log::new();
    handle
        .create_connection(&address, Recorder::new(&log))
        .then_on(&client, |_: &mut Recorder, _, _| panic!("too late"));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");

    // In time, the closure has taken it.
    let (client, _peer) = adopted(&handle, kind, Recorder::new(&Log::new()));
    let log = Log::new();
    handle
        .create_connection(&address, Recorder::new(&log))
        .then_on(&client, |_: &mut Recorder, _, answer| {
            drop(answer?);
            Ok(())
        });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}

each_kind!(dropping_the_completion_cancels_the_connect);
fn dropping_the_completion_cancels_the_connect(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let (listener, address, _filler) = full(kind, &dir);
    let log = Log::new();
    for ticks in 0..3 {
        let connect = handle.create_connection(&address, Recorder::new(&log));
        assert_eq!(handle.stats().connecting, 1);
        for _ in 0..ticks {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        drop(connect);
        assert_eq!(handle.stats().connecting, 0);
        assert_nothing_left(&mut event_loop);
        assert_eq!(log.dropped(), ticks + 1);
    }
    assert_eq!(log.words(), [""; 0]);
    drop(listener);
}

each_kind!(a_connect_that_takes_too_long_has_timed_out);
fn a_connect_that_takes_too_long_has_timed_out(kind: Kind) {
    type Limited = fn(ConnectOptions, &EventLoop, Recorder) -> tidegate::Completion<Transport>;
    let limited: [(&str, Limited); 2] = [
        ("no connection within", |options, event_loop, protocol| {
            event_loop
                .handle()
                .create_connection(options.timeout(20 * MS), protocol)
        }),
        ("no result within", |options, event_loop, protocol| {
            event_loop
                .handle()
                .create_connection(options, protocol)
                .within(20 * MS)
        }),
    ];
    for (says, connect) in limited {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (_listener, address, _filler) = full(kind, &dir);
        let log = Log::new();
        let start = std::time::Instant::now();
        let connect = connect(
            ConnectOptions::new(&address),
            &event_loop,
            Recorder::new(&log),
        );
        let error = event_loop.run_until(connect).unwrap_err();
        assert!(start.elapsed() >= 20 * MS);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_nothing_left(&mut event_loop);
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
        let polls = event_loop.handle().stats().polls;
        assert!(polls < 40, "{polls} polls to wait 20 ms");
    }
}

each_kind!(a_timeout_that_was_not_needed_stops);
fn a_timeout_that_was_not_needed_stops(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let options = ConnectOptions::new(&address).timeout(BOUND);
    let log = Log::new();
    let connect = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    assert_eq!(event_loop.handle().stats().timers, 1);
    let transport = event_loop.run_until(connect).unwrap();
    assert_eq!(event_loop.handle().stats().timers, 0);
    assert_eq!(transport.peer_addr(), &address);
}

#[test]
fn a_refused_connect_names_the_address() {
    let dir = TempDir::new();
    let (listener, refused) = Kind::Tcp.listen(&dir);
    drop(listener);
    let (listener, stale) = Kind::Unix.listen(&dir);
    drop(listener);
    let absent = Address::Unix(dir.path("absent"));
    for (address, kind) in [
        (refused, io::ErrorKind::ConnectionRefused),
        (stale, io::ErrorKind::ConnectionRefused),
        (absent, io::ErrorKind::NotFound),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let connect = event_loop
            .handle()
            .create_connection(&address, Recorder::new(&log));
        let error = event_loop.run_until(connect).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_nothing_left(&mut event_loop);
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
    }
}

#[test]
fn what_is_no_address_is_said_by_the_completion() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    for (text, says) in [
        ("localhost:99999", "no port above"),
        ("127.0.0.1", "no address"),
        ("unix:", "empty"),
    ] {
        let log = Log::new();
        let connect = handle.create_connection(text, Recorder::new(&log));
        let error = event_loop.run_until(connect).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
        assert_nothing_left(&mut event_loop);
        assert_eq!(log.dropped(), 1);
        let listen = handle.create_server(text, || Recorder::new(&Log::new()));
        let error = listen.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    }
    let connect = handle.create_connection(Address::Unnamed, Recorder::new(&Log::new()));
    assert!(event_loop.run_until(connect).is_err());
}

each_kind!(a_connect_to_a_full_backlog_waits_for_room);
fn a_connect_to_a_full_backlog_waits_for_room(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let (listener, address, filler) = full(kind, &dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address).timeout(BOUND);
    let connect = handle.create_connection(options, Recorder::new(&log));
    // Longer than one retry takes.
    let (never, late) = handle.completion::<()>();
    assert!(event_loop.run_until(late.within(30 * MS)).is_err());
    assert_eq!(handle.stats().connecting, 1);
    assert_eq!(log.words(), [""; 0]);

    let (first, _) = listener.accept().unwrap();
    let transport = event_loop.run_until(connect).unwrap();
    let mut peer = Peer::new(listener.accept().unwrap().0);
    transport.write(b"made it").unwrap();
    peer.expect(&mut event_loop, 7);
    drop((first, filler, never));
}
