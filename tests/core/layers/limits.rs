//! The times of layers, and what is left when one is over.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Calls, Seal, hello, sealed};
use support::{
    Hooked, Kind, Log, Peer, Recorder, SHORT, Scene, Served, TempDir, drive, each_kind, failures,
    no_limits, settle, stall, strict_loop,
};
use tidegate::{CloseReason, Closed, ConnectOptions, EventLoop, ListenOptions, TimeoutKind};
use tidegate_testkit::{Link, World};

const LIMIT: Duration = Duration::from_secs(7);
const INSTANT: Duration = Duration::from_nanos(1);

#[track_caller]
fn assert_nothing_left(event_loop: &EventLoop) {
    let stats = event_loop.handle().stats();
    let left = (
        stats.connections,
        stats.connecting,
        stats.lingering,
        stats.timers,
        stats.completions,
    );
    assert_eq!(left, (0, 0, 0, 0, 0), "{stats:#?}");
}

/// A server with a layer, and a peer that has connected and says nothing.
struct Silent {
    event_loop: EventLoop,
    served: Served,
    calls: Calls,
    protocols: Log,
    peer: Peer,
    _dir: TempDir,
}

impl Silent {
    fn new(kind: Kind) -> Self {
        let mut event_loop = strict_loop();
        let dir = TempDir::new();
        let calls = Calls::default();
        let noted = calls.clone();
        let options =
            ListenOptions::new(kind.somewhere(&dir)).layer(move || Seal::server().noted_in(&noted));
        let served = Served::echo(event_loop.handle(), options);
        let peer = Peer::connect(&served.address());
        drive(&mut event_loop, "the connection", || {
            served.server.connection_count() == 1 && *calls.borrow() == ["start"]
        });
        let protocols = served.log(0);
        Self {
            event_loop,
            served,
            calls,
            protocols,
            peer,
            _dir: dir,
        }
    }

    /// Nothing was called, and nothing is left.
    #[track_caller]
    fn assert_gone(&mut self) {
        let server = &self.served.server;
        drive(&mut self.event_loop, "the end", || {
            server.connection_count() == 0
        });
        settle(&mut self.event_loop);
        assert_eq!(self.protocols.words(), [""; 0]);
        assert_eq!(self.protocols.dropped(), 1);
        assert_eq!(*self.calls.borrow(), ["start", "drop"]);
        assert_nothing_left(&self.event_loop);
        self.peer.expect_end(&mut self.event_loop);
    }
}

#[test]
fn the_limit_counts_from_the_push_to_the_nanosecond_also_for_a_silent_client() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let log = Log::new();
    let made = log.clone();
    let options = ListenOptions::new(host.addr(7)).layer(|| Seal::server().limit(LIMIT));
    let server = host
        .handle()
        .create_server(options, move || Recorder::new(&made))
        .unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    assert_eq!(server.connection_count(), 1);
    world.advance(LIMIT - INSTANT).unwrap();
    // Half a hello makes no difference.
    peer.send(&hello()[..3]).unwrap();
    world.settle().unwrap();
    assert_eq!(server.connection_count(), 1);
    world.advance(INSTANT).unwrap();
    assert_eq!(server.connection_count(), 0);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    assert_eq!(host.handle().stats().timers, 0);
}

#[test]
fn a_layer_that_is_open_has_no_limit_any_more() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let log = Log::new();
    let made = log.clone();
    let options = ListenOptions::new(host.addr(7)).layer(|| Seal::server().limit(LIMIT));
    host.handle()
        .create_server(options, move || Recorder::new(&made))
        .unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.settle().unwrap();
    peer.send(&hello()).unwrap();
    world.settle().unwrap();
    assert_eq!(log.words(), ["made"]);
    assert_eq!(host.handle().stats().timers, 0);
    world.advance(2 * LIMIT).unwrap();
    assert_eq!(log.words(), ["made"]);
}

fn the_timeout_of_a_connect_covers_its_layers(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let calls = Calls::default();
    let options = ConnectOptions::new(&address)
        .layer(Seal::client().noted_in(&calls))
        .timeout(SHORT);
    let completion = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("layers"), "{error}");
    peer.expect_end(&mut event_loop);
    settle(&mut event_loop);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    assert_eq!(*calls.borrow(), ["start", "drop"]);
    assert_nothing_left(&event_loop);
}
each_kind!(the_timeout_of_a_connect_covers_its_layers);

#[test]
fn a_limit_of_zero_is_invalid_wherever_it_is_given() {
    let mut event_loop = strict_loop();
    let calls = Calls::default();
    let zero = || Seal::client().limit(Duration::ZERO).noted_in(&calls);
    let options = ConnectOptions::new("127.0.0.1:9").layer(zero());
    assert_eq!(
        options.validate().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let log = Log::new();
    let completion = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    settle(&mut event_loop);
    assert_eq!((*calls.borrow()).clone(), ["drop"]);
    assert_eq!(log.dropped(), 1);

    let told = failures(event_loop.handle());
    let options = ListenOptions::new("127.0.0.1:0").layer(|| Seal::server().limit(Duration::ZERO));
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    peer.expect_end(&mut event_loop);
    assert_eq!(served.server.connection_count(), 0);
    let told = told.borrow();
    assert_eq!(told[0].context(), "a server's layer");
    assert!(told[0].peer().is_some());
    assert!(told[0].to_string().contains("open_limit"), "{}", told[0]);
}

fn a_connect_that_is_dropped_in_a_handshake_leaves_nothing(kind: Kind) {
    let mut event_loop = strict_loop();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let calls = Calls::default();
    let options = ConnectOptions::new(&address).layer(Seal::client().noted_in(&calls));
    let completion = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&mut event_loop, hello().len());
    drop(completion);
    peer.expect_end(&mut event_loop);
    settle(&mut event_loop);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    assert_eq!(*calls.borrow(), ["start", "drop"]);
    assert_nothing_left(&event_loop);
}
each_kind!(a_connect_that_is_dropped_in_a_handshake_leaves_nothing);

fn a_server_that_ends_its_clients_in_a_handshake_leaves_nothing(kind: Kind) {
    let mut silent = Silent::new(kind);
    silent.served.server.close_clients();
    silent.assert_gone();
    let mut silent = Silent::new(kind);
    silent.served.server.abort_clients();
    silent.assert_gone();
}
each_kind!(a_server_that_ends_its_clients_in_a_handshake_leaves_nothing);

fn a_shutdown_waits_for_no_handshake(kind: Kind) {
    let mut silent = Silent::new(kind);
    let shutdown = silent.served.server.shutdown(support::BOUND);
    let report = silent.event_loop.run_until(shutdown).unwrap();
    assert_eq!((report.closed, report.aborted, report.unsent), (1, 0, 0));
    silent.assert_gone();
}
each_kind!(a_shutdown_waits_for_no_handshake);

fn the_end_of_the_loop_in_a_handshake_leaves_nothing(kind: Kind) {
    let Silent {
        mut event_loop,
        calls,
        protocols,
        served,
        _dir,
        ..
    } = Silent::new(kind);
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address).layer(Seal::client().noted_in(&calls));
    let completion = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log));
    let mut peer = Peer::new(listener.accept().unwrap().0);
    peer.expect(&mut event_loop, hello().len());
    drop(event_loop);
    for log in [&protocols, &log] {
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
    }
    let calls = calls.borrow();
    assert_eq!(*calls, ["start", "start", "drop", "drop"]);
    assert!(completion.is_ready());
    assert_eq!(served.server.connection_count(), 0);
}
each_kind!(the_end_of_the_loop_in_a_handshake_leaves_nothing);

fn an_end_in_a_handshake_drops_the_protocol_that_was_to_take_the_place_too(kind: Kind) {
    for drops_loop in [false, true] {
        let mut event_loop = strict_loop();
        let logs = [Log::new(), Log::new()];
        let (transport, _peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&logs[0]));
        transport.push_layer(Seal::server(), b"").detach();
        let next = Recorder::new(&logs[1]);
        transport.set_protocol(next, b"unread").unwrap();
        settle(&mut event_loop);
        if drops_loop {
            drop(event_loop);
        } else {
            transport.abort();
            settle(&mut event_loop);
        }
        for log in logs {
            assert_eq!((log.words().len(), log.dropped()), (0, 1), "{transport:?}");
        }
    }
}
each_kind!(an_end_in_a_handshake_drops_the_protocol_that_was_to_take_the_place_too);

fn a_peer_that_takes_nothing_is_cut_by_the_write_timeout(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().limits(no_limits()).set();
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    stall(&mut event_loop, &transport, 300_000);
    transport.set_write_timeout(Some(SHORT));
    drive(&mut event_loop, "the end", || log.is_lost());
    let closed = log.closed();
    assert_eq!(*closed.reason(), CloseReason::Timeout(TimeoutKind::Write));
    assert!(closed.unsent() > 0);
    assert_eq!(closed.unsent() + transport.sent(), transport.written());
}
each_kind!(a_peer_that_takes_nothing_is_cut_by_the_write_timeout);

fn a_deadline_of_close_counts_the_bytes_that_stay(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(kind).strict().limits(no_limits()).set();
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    stall(&mut event_loop, &transport, 300_000);
    transport.close_within(SHORT);
    let closed: Closed = event_loop.run_until(transport.wait_closed()).unwrap();
    assert_eq!(*closed.reason(), CloseReason::Timeout(TimeoutKind::Close));
    assert_eq!(closed.unsent() + transport.sent(), transport.written());
    assert!(log.is_lost());
}
each_kind!(a_deadline_of_close_counts_the_bytes_that_stay);

/// The kernel takes a record of 1,027 bytes in parts, none of which is a byte of the protocol's.
#[test]
fn progress_is_a_byte_of_the_wire_not_of_the_protocol() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let link = Link::new().send_buffer(1).receive_buffer(99);
    world.network().set_link_to_peers(&host, link);
    let listener = world.network().listen(7).unwrap();
    let log = Log::new();
    let connect = host
        .handle()
        .create_connection(listener.addr(), Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    let peer = listener.accept().unwrap();
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello()).unwrap();
    world.settle().unwrap();
    world.run_until(pushed).unwrap();
    peer.take();
    world.settle().unwrap();
    transport.set_write_timeout(Some(LIMIT));
    transport.write(&[1; 1000]).unwrap();
    world.settle().unwrap();
    for _ in 0..5 {
        assert_eq!(transport.sent(), 0);
        world.advance(LIMIT - INSTANT).unwrap();
        assert_eq!(log.words(), ["made"]);
        let mut one = [0; 1];
        assert_eq!(peer.read(&mut one).unwrap(), 1);
        world.settle().unwrap();
    }
    world.advance(LIMIT - INSTANT).unwrap();
    assert_eq!(log.words(), ["made"]);
    world.advance(INSTANT).unwrap();
    assert_eq!(log.words(), ["made", "lost"]);
    let closed = log.closed();
    assert_eq!(*closed.reason(), CloseReason::Timeout(TimeoutKind::Write));
    assert_eq!((closed.unsent(), transport.sent()), (1000, 0));
}

/// Output of the layer's own is timed too, while it ends its stream.
#[test]
fn the_end_of_a_layer_that_the_kernel_does_not_take_is_timed() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let link = Link::new().send_buffer(1).receive_buffer(30);
    world.network().set_link_to_peers(&host, link);
    let listener = world.network().listen(7).unwrap();
    let log = Log::new();
    let connect = host
        .handle()
        .create_connection(listener.addr(), Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    let layer = Hooked::on("end", |io| {
        io.send(&[0; 100]);
        Ok(())
    });
    world.run_until(transport.push_layer(layer, b"")).unwrap();
    transport.set_write_timeout(Some(LIMIT));
    transport.close();
    world.advance(LIMIT - INSTANT).unwrap();
    assert_eq!(log.words(), ["made"]);
    world.advance(INSTANT).unwrap();
    assert_eq!(log.words(), ["made", "lost"]);
}

#[test]
fn a_layers_timer_is_in_the_loops_time() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let listener = world.network().listen(7).unwrap();
    let log = Log::new();
    let connect = host
        .handle()
        .create_connection(listener.addr(), Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    let peer = listener.accept().unwrap();
    let fired = Rc::new(Cell::new(0));
    let counted = fired.clone();
    let began = host.handle().now();
    let layer = Hooked::new(move |method, io| {
        match method {
            // The first is replaced.
            "start" => {
                io.wake_after(Duration::from_secs(1));
                io.wake_after(LIMIT);
            }
            "timer" => {
                counted.set(counted.get() + 1);
                assert_eq!(io.now() - began, LIMIT * counted.get());
                io.send(b"tick");
                io.wake_after(LIMIT);
            }
            _ => {}
        }
        Ok(())
    });
    world.run_until(transport.push_layer(layer, b"")).unwrap();
    world.advance(LIMIT - INSTANT).unwrap();
    assert_eq!(fired.get(), 0);
    world.advance(INSTANT).unwrap();
    assert_eq!(fired.get(), 1);
    world.advance(LIMIT).unwrap();
    assert_eq!((fired.get(), peer.take()), (2, b"ticktick".to_vec()));
    assert_eq!(host.handle().stats().timers, 1);
    transport.abort();
    world.settle().unwrap();
    assert_eq!(host.handle().stats().timers, 0);
    world.advance(LIMIT).unwrap();
    assert_eq!(fired.get(), 2);
}

/// A layer that takes nothing until its timer fires, in both ways of sending.
#[test]
fn a_layer_that_takes_nothing_now_is_asked_again_when_its_timer_has_fired() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let listener = world.network().listen(7).unwrap();
    let log = Log::new();
    let connect = host
        .handle()
        .create_connection(listener.addr(), Recorder::new(&log));
    let transport = world.run_until(connect).unwrap();
    let peer = listener.accept().unwrap();
    let takes = Rc::new(Cell::new(0));
    let more = takes.clone();
    let layer = Hooked::new(move |method, io| {
        match method {
            "start" => io.wake_after(LIMIT),
            "timer" => {
                more.set(4);
                io.wake_after(LIMIT);
            }
            _ => {}
        }
        Ok(())
    })
    .taking(&takes);
    world.run_until(transport.push_layer(layer, b"")).unwrap();
    transport.write(b"abcdefghij").unwrap();
    transport.close();
    let mut got = Vec::new();
    for expected in [&b""[..], b"abcd", b"abcdefgh", b"abcdefghij"] {
        world.settle().unwrap();
        got.extend(peer.take());
        assert_eq!(got, expected);
        world.advance(LIMIT).unwrap();
    }
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(log.closed().is_clean());
    let polls = host.handle().stats().polls;
    assert!(polls < 100, "{polls}");
}

#[test]
fn of_two_hundred_half_handshakes_none_holds_up_another() {
    let mut event_loop = strict_loop();
    let options = ListenOptions::new("127.0.0.1:0").layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let half: Vec<_> = (0..200)
        .map(|n| {
            let mut peer = Peer::connect(&served.address());
            peer.send(&hello()[..n % hello().len()]);
            peer
        })
        .collect();
    let mut peer = Peer::connect(&served.address());
    peer.send(&[hello(), sealed(b"served")].concat());
    let all = [hello(), sealed(b"served")].concat();
    peer.expect(&mut event_loop, all.len());
    assert_eq!(peer.received(), all);
    drive(&mut event_loop, "the others", || {
        served.server.connection_count() == 201
    });
    assert_eq!(served.accepted(), 1);
    drop(half);
    drive(&mut event_loop, "their ends", || {
        served.server.connection_count() == 1
    });
}
