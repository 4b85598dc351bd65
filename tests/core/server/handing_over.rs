//! Servers that give away what they accept, and servers that take what others have accepted.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use support::{
    Hooked, Kind, Log, MIB, Peer, Recorder, Scene, TempDir, drive, each_kind, failures, settle,
};
use tidegate::{
    Detached, EventLoop, Handle, ListenOptions, Protocol, Result, Server, ShutdownReport,
    Transport, WriteLimits,
};

type Given = Rc<RefCell<Vec<Detached>>>;

/// A server that keeps what it accepts without a protocol.
fn giving(event_loop: &EventLoop, options: ListenOptions) -> (Server, Given) {
    let given = Given::default();
    let into = given.clone();
    let server = event_loop
        .handle()
        .accept_with(options, move |_, detached| {
            into.borrow_mut().push(detached);
        });
    (server.unwrap(), given)
}

fn nowhere(event_loop: &EventLoop, log: &Log) -> Server {
    let log = log.clone();
    let factory = move || Recorder::echo(&log);
    let server = event_loop
        .handle()
        .create_server(ListenOptions::nowhere(), factory);
    server.unwrap()
}

fn connect(kind: Kind, dir: &TempDir, event_loop: &EventLoop) -> (Server, Given, Peer) {
    let (server, given) = giving(event_loop, ListenOptions::new(kind.somewhere(dir).as_str()));
    let peer = Peer::connect(&server.local_addrs()[0]);
    (server, given, peer)
}

each_kind!(what_one_loop_accepts_a_server_of_another_serves);
fn what_one_loop_accepts_a_server_of_another_serves(kind: Kind) {
    let dir = TempDir::new();
    let mut accepting = EventLoop::new().unwrap();
    let (server, given, mut peer) = connect(kind, &dir, &accepting);
    peer.send(b"hello");
    drive(&mut accepting, "the accept", || given.borrow().len() == 1);
    assert_eq!(server.connection_count(), 0);
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let keeping = nowhere(&event_loop, &log);
    assert_eq!(keeping.local_addrs(), []);
    assert!(keeping.is_serving());
    keeping.attach(given.take().remove(0)).unwrap();
    assert_eq!(keeping.connection_count(), 1);
    assert_eq!(log.seen(), [], "connection_made comes from the loop");
    peer.expect(&mut event_loop, 5);
    assert_eq!(peer.received(), b"hello");
    let report = event_loop.run_until(keeping.shutdown(Duration::from_secs(5)));
    peer.expect_end(&mut event_loop);
    let ShutdownReport {
        closed,
        aborted,
        unsent,
        ..
    } = report.unwrap();
    assert_eq!((closed, aborted, unsent), (1, 0, 0));
}

each_kind!(a_connection_that_leaves_its_loop_is_in_no_count_of_its_server);
fn a_connection_that_leaves_its_loop_is_in_no_count_of_its_server(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let made: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let into = made.clone();
    let factory = move || {
        let into = into.clone();
        Recorder::new(&Log::new()).on_made(move |transport| {
            into.borrow_mut().push(transport.clone());
            Ok(())
        })
    };
    let options = ListenOptions::new(kind.somewhere(&dir).as_str()).max_connections(1);
    let server = event_loop.handle().create_server(options, factory).unwrap();
    let _peers = [(); 2].map(|()| Peer::connect(&server.local_addrs()[0]));
    drive(&mut event_loop, "the first", || made.borrow().len() == 1);
    let first = made.borrow()[0].clone();
    let detached = event_loop.run_until(first.detach()).unwrap();
    drive(&mut event_loop, "the second has its place", || {
        made.borrow().len() == 2
    });
    assert_eq!(server.connection_count(), 1);
    let report = event_loop
        .run_until(server.shutdown(Duration::from_secs(5)))
        .unwrap();
    assert_eq!((report.closed, report.aborted), (1, 0));
    drop(detached);
}

each_kind!(a_pause_within_the_handing_over_accepts_no_further_connection);
fn a_pause_within_the_handing_over_accepts_no_further_connection(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let given = Given::default();
    let server: Rc<RefCell<Option<Server>>> = Rc::default();
    let (into, own) = (given.clone(), server.clone());
    let options = ListenOptions::new(kind.somewhere(&dir).as_str());
    let made = event_loop
        .handle()
        .accept_with(options, move |_, detached| {
            into.borrow_mut().push(detached);
            own.borrow().as_ref().unwrap().pause_accepting();
        });
    let made = made.unwrap();
    server.replace(Some(made.clone()));
    let _peers = [(); 3].map(|()| Peer::connect(&made.local_addrs()[0]));
    for accepted in 1..=3 {
        drive(&mut event_loop, "one more", || {
            given.borrow().len() == accepted
        });
        settle(&mut event_loop);
        assert_eq!(given.borrow().len(), accepted);
        made.resume_accepting();
    }
    server.take();
}

each_kind!(the_backlog_is_given_away_at_the_end);
fn the_backlog_is_given_away_at_the_end(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let (server, given, _peer) = connect(kind, &dir, &event_loop);
    let _second = Peer::connect(&server.local_addrs()[0]);
    assert_eq!(event_loop.run_until(server.finish_accepting()).unwrap(), 2);
    assert_eq!(given.borrow().len(), 2);
    let report = event_loop
        .run_until(server.shutdown(Duration::ZERO))
        .unwrap();
    assert_eq!((report.closed, report.aborted), (0, 0));
}

each_kind!(refused_peers_are_given_to_nobody_and_panics_are_reported);
fn refused_peers_are_given_to_nobody_and_panics_are_reported(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    let options = ListenOptions::new(kind.somewhere(&dir).as_str()).accept_if(move |_| {
        count.set(count.get() + 1);
        count.get() > 1
    });
    let server = event_loop
        .handle()
        .accept_with(options, |_, _| panic!("panicking on purpose"));
    let server = server.unwrap();
    for _ in 0..2 {
        let mut peer = Peer::connect(&server.local_addrs()[0]);
        peer.expect_end(&mut event_loop);
    }
    assert_eq!((asked.get(), server.refused_count()), (2, 1));
    assert_eq!(told.borrow().len(), 1);
    assert!(server.is_accepting());
}

each_kind!(a_server_that_cannot_take_a_connection_gives_it_back);
fn a_server_that_cannot_take_a_connection_gives_it_back(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let (accepting, given, mut peer) = connect(kind, &dir, &event_loop);
    drive(&mut event_loop, "the accept", || given.borrow().len() == 1);
    let detached = given.take().remove(0);

    let closed = nowhere(&event_loop, &Log::new());
    closed.close();
    let error = closed.attach(detached).unwrap_err();
    assert_eq!(error.error().kind(), io::ErrorKind::NotConnected);

    let error = accepting.attach(error.into_detached()).unwrap_err();
    assert_eq!(error.error().kind(), io::ErrorKind::InvalidInput);

    let own: Rc<RefCell<Option<(Server, Detached)>>> = Rc::default();
    let kept = own.clone();
    let factory = move || {
        if let Some((server, detached)) = kept.take() {
            let error = server.attach(detached).unwrap_err();
            assert_eq!(error.error().kind(), io::ErrorKind::ResourceBusy);
            kept.replace(Some((server, error.into_detached())));
        }
        Recorder::echo(&Log::new())
    };
    let handle = event_loop.handle();
    let busy = handle
        .create_server(ListenOptions::nowhere(), factory)
        .unwrap();
    let (_other_end, other) = std::os::unix::net::UnixStream::pair().unwrap();
    own.replace(Some((busy.clone(), error.into_detached())));
    busy.attach(Detached::of(other).unwrap()).unwrap();
    let (_, detached) = own.take().unwrap();

    busy.attach(detached).unwrap();
    peer.send(b"after all");
    peer.expect(&mut event_loop, 9);
}

each_kind!(a_factory_that_refuses_resets_the_connection_and_counts_it);
fn a_factory_that_refuses_resets_the_connection_and_counts_it(kind: Kind) {
    let dir = TempDir::new();
    let mut event_loop = EventLoop::new().unwrap();
    let (_accepting, given, mut peer) = connect(kind, &dir, &event_loop);
    drive(&mut event_loop, "the accept", || given.borrow().len() == 1);
    let handle = event_loop.handle();
    let server = handle.create_server_with(ListenOptions::nowhere(), |_| None::<Recorder>);
    let server = server.unwrap();
    server.attach(given.take().remove(0)).unwrap();
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.saw_eof(), !peer.is_tcp());
    assert_eq!((server.refused_count(), server.connection_count()), (1, 0));
}

each_kind!(options_of_the_keeping_server_hold_and_its_layers_get_what_was_unread);
fn options_of_the_keeping_server_hold_and_its_layers_get_what_was_unread(kind: Kind) {
    let dir = TempDir::new();
    let mut first = EventLoop::new().unwrap();
    let read: Rc<RefCell<Option<Transport>>> = Rc::default();
    let into = read.clone();
    let options = ListenOptions::new(kind.somewhere(&dir).as_str());
    let server = first.handle().create_server(options, move || {
        let into = into.clone();
        Recorder::new(&Log::new()).on_data(move |transport, data| {
            transport.write(b"plain, ")?;
            transport.unread(&data[1..]);
            transport.pause_reading();
            into.replace(Some(transport.clone()));
            Ok(())
        })
    });
    let server = server.unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"|through ");
    drive(&mut first, "the head", || read.borrow().is_some());
    let transport = read.take().unwrap();
    let detached = first.run_until(transport.detach()).unwrap();
    assert_eq!(detached.unread(), b"through ");

    let mut second = EventLoop::new().unwrap();
    let (calls, log) = (Rc::new(Cell::new(0)), Log::new());
    let (count, recorded) = (calls.clone(), log.clone());
    let options = ListenOptions::nowhere()
        .write_limits(WriteLimits::new().with_high(12_345))
        .layer(move || {
            let count = count.clone();
            Hooked::new(move |_, _| {
                count.set(count.get() + 1);
                Ok(())
            })
        });
    let handle = second.handle();
    let server = handle
        .create_server(options, move || Recorder::echo(&recorded))
        .unwrap();
    server.attach(detached).unwrap();
    peer.send(b"a layer");
    peer.expect(&mut second, 22);
    assert_eq!(peer.received(), b"plain, through a layer");
    assert!(calls.get() > 0);
}

each_kind!(unsent_bytes_go_past_the_layers_of_the_keeping_server);
fn unsent_bytes_go_past_the_layers_of_the_keeping_server(kind: Kind) {
    let (mut first, _, transport, mut peer) = Scene::of(kind).stalled(MIB).set();
    let written = transport.written() as usize;
    let detached = first.run_until(transport.detach()).unwrap();
    let mut second = EventLoop::new().unwrap();
    let sends = Rc::new(Cell::new(0));
    let count = sends.clone();
    let options = ListenOptions::nowhere().layer(move || {
        let count = count.clone();
        Hooked::new(move |method, io| {
            match method {
                "start" => io.send(b"hello of the layer, "),
                "send" => count.set(count.get() + 1),
                _ => {}
            }
            Ok(())
        })
    });
    let handle = second.handle();
    let server = handle
        .create_server(options, || Recorder::echo(&Log::new()))
        .unwrap();
    server.attach(detached).unwrap();
    peer.send(b"through it");
    peer.expect(&mut second, written + 30);
    let (old, new) = peer.received().split_at(written);
    assert_eq!(new, b"hello of the layer, through it");
    assert!(!old.windows(5).any(|five| five == b"hello"));
    assert_eq!(sends.get(), 1);
}

each_kind!(write_limits_of_the_keeping_server_hold_for_connections_without_a_loop_before);
fn write_limits_of_the_keeping_server_hold_for_connections_without_a_loop_before(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let limits: Rc<RefCell<Vec<usize>>> = Rc::default();
    let into = limits.clone();
    let options = ListenOptions::nowhere().write_limits(WriteLimits::new().with_high(12_345));
    let handle = event_loop.handle();
    let server = handle.create_server(options, move || {
        let into = into.clone();
        Recorder::new(&Log::new()).on_made(move |transport| {
            into.borrow_mut().push(transport.write_limits().high());
            Ok(())
        })
    });
    let server = server.unwrap();
    let (_other_end, new) = std::os::unix::net::UnixStream::pair().unwrap();
    server.attach(Detached::of(new).unwrap()).unwrap();
    let scene = Scene::of(kind).limits(WriteLimits::new().with_high(777));
    let (transport, _peer) = scene.on(&mut event_loop, Recorder::new(&Log::new()));
    let moved = event_loop.run_until(transport.detach()).unwrap();
    server.attach(moved).unwrap();
    drive(&mut event_loop, "both", || limits.borrow().len() == 2);
    assert_eq!(*limits.borrow(), [12_345, 777]);
}

#[test]
fn a_peer_has_its_maximum_on_the_server_where_the_connection_is() {
    let mut event_loop = EventLoop::new().unwrap();
    let made: Rc<RefCell<Vec<Transport>>> = Rc::default();
    let [first, second] = [(); 2].map(|()| {
        let into = made.clone();
        let options = ListenOptions::nowhere().max_connections_per_peer(1);
        let factory = move || {
            let into = into.clone();
            Recorder::new(&Log::new()).on_made(move |transport| {
                into.borrow_mut().push(transport.clone());
                Ok(())
            })
        };
        event_loop.handle().create_server(options, factory).unwrap()
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peers = Vec::new();
    let mut accept = || {
        peers.push(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        Detached::of(listener.accept().unwrap().0).unwrap()
    };
    first.attach(accept()).unwrap();
    first.attach(accept()).unwrap();
    assert_eq!((first.connection_count(), first.refused_count()), (1, 1));
    drive(&mut event_loop, "the first", || made.borrow().len() == 1);
    let transport = made.borrow()[0].clone();
    let moved = event_loop.run_until(transport.detach()).unwrap();
    second.attach(moved).unwrap();
    second.attach(accept()).unwrap();
    assert_eq!((second.connection_count(), second.refused_count()), (1, 1));
    first.attach(accept()).unwrap();
    assert_eq!((first.connection_count(), first.refused_count()), (1, 1));
}

/// Replies with its name, and with that of its thread.
struct Named(&'static str);

impl Protocol for Named {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        writeln!(transport, "{} {:?}", self.0, thread::current().name())?;
        Ok(())
    }
}

each_kind!(what_one_thread_accepts_another_serves);
fn what_one_thread_accepts_another_serves(kind: Kind) {
    let dir = TempDir::new();
    let mut accepting = EventLoop::new().unwrap();
    let (address, remote) = {
        let (send, receive) = std::sync::mpsc::channel();
        let worker = thread::Builder::new().name("worker".into()).spawn(move || {
            let mut event_loop = EventLoop::new().unwrap();
            send.send(event_loop.handle().remote()).unwrap();
            event_loop.run_forever().unwrap();
        });
        drop(worker.unwrap());
        (kind.somewhere(&dir), receive.recv().unwrap())
    };
    let to = remote.clone();
    let server = accepting
        .handle()
        .accept_with(address.as_str(), move |_, detached| {
            let attach = move |handle: &Handle| {
                handle.attach(detached, Named("on")).unwrap();
            };
            to.call_soon_threadsafe(attach).unwrap();
        });
    let server = server.unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"?");
    let expected = "on Some(\"worker\")\n";
    peer.expect(&mut accepting, expected.len());
    assert_eq!(peer.received(), expected.as_bytes());
    remote.stop();
}
