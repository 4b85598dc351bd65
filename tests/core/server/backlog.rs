//! The backlog of a server that stops listening. That of a thousand connections is in
//! `server_backlog`.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Log, Peer, Recorder, TempDir, answer_of, assert_refused, drive, each_kind, failures,
    settle,
};
use tidegate::{Completion, EventLoop, ListenOptions, LoopClosed, Server, ShutdownReport};

const LONG: Duration = Duration::from_secs(3600);

/// More than are accepted in a tick.
const WAITING: usize = 150;

/// Counts connections, and greets their peers in `connection_made`.
fn greeter(made: &Rc<Cell<usize>>) -> Recorder {
    let made = made.clone();
    Recorder::echo(&Log::new()).on_made(move |transport| {
        made.set(made.get() + 1);
        transport.write(b"hello")?;
        Ok(())
    })
}

/// A server of greeters, and the number of its connections so far.
fn greeting_server(
    event_loop: &EventLoop,
    options: impl Into<ListenOptions>,
) -> (Server, Rc<Cell<usize>>) {
    let made = Rc::new(Cell::new(0));
    let counted = made.clone();
    let factory = move || greeter(&counted);
    let server = event_loop.handle().create_server(options, factory);
    (server.unwrap(), made)
}

/// Peers in the backlog; every other one has sent something.
fn waiting(server: &Server, n: usize) -> Vec<Peer> {
    let connect = |n| {
        let mut peer = Peer::connect(&server.local_addrs()[0]);
        if n % 2 == 0 {
            peer.send(b"a request");
        }
        peer
    };
    (0..n).map(connect).collect()
}

fn assert_greeted(event_loop: &mut EventLoop, peers: &mut [Peer]) {
    for peer in peers {
        peer.expect_end(event_loop);
        assert_eq!(peer.received(), b"hello", "{:?}", peer.saw_error());
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        peer.close();
    }
}

fn numbers(report: ShutdownReport) -> (usize, usize, u64, usize) {
    let ShutdownReport {
        closed,
        aborted,
        unsent,
        from_backlog,
        ..
    } = report;
    (closed, aborted, unsent, from_backlog)
}

each_kind!(a_shutdown_serves_the_backlog_first_and_counts_it);
fn a_shutdown_serves_the_backlog_first_and_counts_it(kind: Kind) {
    for (paused, grace) in [(false, LONG), (true, LONG), (false, Duration::MAX)] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (server, made) = greeting_server(&event_loop, kind.somewhere(&dir));
        let mut established = waiting(&server, 1);
        established[0].expect(&mut event_loop, 5);
        if paused {
            server.pause_accepting();
        }
        let mut late = waiting(&server, WAITING);
        let answer = answer_of(server.shutdown(grace));
        // At once: the address is free.
        assert!(!server.is_serving());
        assert_eq!(event_loop.handle().stats().listeners, 0);
        assert_refused(&server.local_addrs()[0]);
        assert_eq!(made.get(), 1, "no factory runs within a call");
        assert_eq!(server.connection_count(), WAITING + 1);
        established[0].expect_end(&mut event_loop);
        established[0].close();
        assert_greeted(&mut event_loop, &mut late);
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        let report = numbers(answer.borrow().unwrap());
        assert_eq!(report, (WAITING + 1, 0, 0, WAITING));
        assert_eq!(made.get(), WAITING + 1);
        let stats = event_loop.handle().stats();
        assert_eq!(
            (stats.connections, stats.lingering, stats.timers),
            (0, 0, 0)
        );
    }
}

each_kind!(a_shutdown_with_no_grace_serves_the_backlog_too);
fn a_shutdown_with_no_grace_serves_the_backlog_too(kind: Kind) {
    for in_callback in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (server, _) = greeting_server(&event_loop, kind.somewhere(&dir));
        server.pause_accepting();
        let mut late = waiting(&server, WAITING);
        let report = Rc::new(Cell::new(None));
        let (told, own) = (report.clone(), server.clone());
        let shut_down = move |_: &_| {
            let shutdown = own.shutdown(Duration::ZERO);
            shutdown.then(move |_, result| told.set(result.ok()));
        };
        if in_callback {
            event_loop.handle().call_soon(shut_down);
        } else {
            shut_down(event_loop.handle());
        }
        drive(&mut event_loop, "the shutdown", || report.get().is_some());
        let report = numbers(report.get().unwrap());
        assert_eq!(report, (WAITING, 0, 0, WAITING));
        for peer in &mut late {
            peer.expect_end(&mut event_loop);
            assert_eq!(peer.received(), b"hello", "{:?}", peer.saw_error());
        }
    }
}

each_kind!(finish_accepting_serves_the_backlog_and_leaves_the_connections_open);
fn finish_accepting_serves_the_backlog_and_leaves_the_connections_open(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (server, made) = greeting_server(&event_loop, kind.somewhere(&dir));
    let mut late = waiting(&server, WAITING);
    let number = answer_of(server.finish_accepting());
    let again = answer_of(server.finish_accepting());
    assert_refused(&server.local_addrs()[0]);
    // Without effect: the server is closed already.
    server.close();
    server.pause_accepting();
    drive(&mut event_loop, "all to be served", || {
        number.borrow().is_some()
    });
    assert_eq!(*number.borrow(), Some(WAITING));
    assert_eq!(*again.borrow(), Some(WAITING));
    assert_eq!(made.get(), WAITING);
    for (n, peer) in late.iter_mut().enumerate() {
        let sent = if n % 2 == 0 { 9 } else { 0 };
        peer.send(b"more");
        peer.expect(&mut event_loop, 5 + sent + 4);
    }
    let afterwards = event_loop.run_until(server.finish_accepting());
    assert_eq!(afterwards.unwrap(), WAITING);
    let done = answer_of(server.wait_closed());
    drop(late);
    drive(&mut event_loop, "wait_closed", || done.borrow().is_some());
}

each_kind!(close_leaves_the_backlog_to_the_kernel);
fn close_leaves_the_backlog_to_the_kernel(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (server, made) = greeting_server(&event_loop, kind.somewhere(&dir));
    let mut late = waiting(&server, 2);
    server.close();
    for peer in &mut late {
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"");
        let reset = peer.saw_error() == Some(io::ErrorKind::ConnectionReset);
        assert!(reset || kind == Kind::Unix);
    }
    assert_eq!(event_loop.run_until(server.finish_accepting()).unwrap(), 0);
    assert_eq!(made.get(), 0);
}

#[test]
fn the_backlog_of_every_address_is_served() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options =
        ListenOptions::new(["127.0.0.1:0", "127.0.0.1:0"]).also(Kind::Unix.somewhere(&dir));
    let (server, _) = greeting_server(&event_loop, options);
    let mut late: Vec<_> = server.local_addrs().iter().map(Peer::connect).collect();
    let answer = answer_of(server.shutdown(LONG));
    assert_greeted(&mut event_loop, &mut late);
    drive(&mut event_loop, "the shutdown", || {
        answer.borrow().is_some()
    });
    assert_eq!(numbers(answer.borrow().unwrap()), (3, 0, 0, 3));
}

#[test]
fn a_server_that_never_listened_has_no_backlog() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").start_serving(false);
    let (server, _) = greeting_server(&event_loop, options);
    assert_eq!(event_loop.run_until(server.finish_accepting()).unwrap(), 0);
    let report = event_loop.run_until(server.shutdown(LONG)).unwrap();
    assert_eq!(report, ShutdownReport::default());
}

#[test]
fn refused_and_failed_peers_of_the_backlog_are_not_in_the_report() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let calls = Cell::new(0);
    let server = event_loop
        .handle()
        .create_server_with("127.0.0.1:0", move |_| {
            calls.set(calls.get() + 1);
            assert!(calls.get() != 2, "on purpose");
            // It ends within its `connection_made`, the last of all.
            let fails = calls.get() == 4;
            (calls.get() != 1).then(|| {
                Recorder::new(&Log::new()).on_made(move |transport| {
                    transport.write(b"hello")?;
                    if fails {
                        return Err("on purpose".into());
                    }
                    Ok(())
                })
            })
        });
    let server = server.unwrap();
    let mut late: Vec<_> = (0..4)
        .map(|_| Peer::connect(&server.local_addrs()[0]))
        .collect();
    let number = answer_of(server.finish_accepting());
    let answer = answer_of(server.shutdown(LONG));
    drive(&mut event_loop, "the shutdown", || {
        late.iter_mut().for_each(Peer::read_available);
        for peer in &mut late {
            if peer.saw_eof() {
                peer.close();
            }
        }
        answer.borrow().is_some()
    });
    assert_eq!(numbers(answer.borrow().unwrap()), (2, 0, 0, 2));
    assert_eq!(*number.borrow(), Some(2));
    assert_eq!(server.refused_count(), 1);
    assert_eq!(told.borrow().len(), 2);
    let greeted = late.iter().filter(|peer| peer.received() == b"hello");
    assert_eq!(greeted.count(), 2);
}

#[test]
fn a_backlog_of_refused_peers_alone_ends_the_shutdown_too() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").accept_if(|_| false);
    let (server, _) = greeting_server(&event_loop, options);
    let _late = waiting(&server, WAITING);
    let report = event_loop.run_until(server.shutdown(LONG)).unwrap();
    assert_eq!(report, ShutdownReport::default());
    assert_eq!(server.refused_count(), WAITING as u64);
}

#[test]
fn abort_clients_resets_what_of_the_backlog_has_no_protocol_yet() {
    let mut event_loop = EventLoop::new().unwrap();
    let (server, made) = greeting_server(&event_loop, "127.0.0.1:0");
    let mut late = waiting(&server, 3);
    let number = answer_of(server.finish_accepting());
    let answer = answer_of(server.shutdown(LONG));
    server.abort_clients();
    assert_eq!(server.connection_count(), 0);
    drive(&mut event_loop, "the shutdown", || {
        answer.borrow().is_some()
    });
    assert_eq!(numbers(answer.borrow().unwrap()), (3, 0, 0, 3));
    settle(&mut event_loop);
    assert_eq!(*number.borrow(), Some(0));
    for peer in &mut late {
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_error(), Some(io::ErrorKind::ConnectionReset));
    }
    assert_eq!(made.get(), 0);
}

#[test]
fn a_loop_that_ends_fails_the_wait_for_the_backlog_and_drops_its_sockets() {
    let event_loop = EventLoop::new().unwrap();
    let held = Rc::new(());
    let in_factory = held.clone();
    let server = event_loop.handle().create_server("127.0.0.1:0", move || {
        drop(in_factory.clone());
        Recorder::new(&Log::new())
    });
    let server = server.unwrap();
    let mut late = waiting(&server, 3);
    let waits = server.finish_accepting();
    drop(event_loop);
    assert_eq!(Rc::strong_count(&held), 1, "the factory is dropped");
    let error = now(waits).unwrap_err();
    assert!(
        error
            .get_ref()
            .is_some_and(|error| error.is::<LoopClosed>())
    );
    for peer in &mut late {
        peer.read_available();
        assert!(peer.is_ended());
    }
    assert_eq!(server.connection_count(), 0);
}

/// The result of a completion that is ready.
fn now<T>(completion: Completion<T>) -> io::Result<T> {
    let mut completion = Box::pin(completion);
    match support::poll_once(completion.as_mut()) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

each_kind!(a_shutdown_by_the_factory_or_the_first_callback_serves_that_connection_and_the_rest);
fn a_shutdown_by_the_factory_or_the_first_callback_serves_that_connection_and_the_rest(kind: Kind) {
    for (in_factory, in_backlog) in [(true, 0), (true, 2), (false, 0), (false, 2)] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let own: Rc<RefCell<Option<Server>>> = Rc::default();
        let report = Rc::new(Cell::new(None));
        let (held, told) = (own.clone(), report.clone());
        let server = event_loop
            .handle()
            .create_server(kind.somewhere(&dir), move || {
                let (held, told) = (held.clone(), told.clone());
                let shut_down = move || {
                    if let Some(server) = held.take() {
                        let (shutdown, told) = (server.shutdown(LONG), told.clone());
                        shutdown.then(move |_, result| told.set(result.ok()));
                    }
                };
                if in_factory {
                    shut_down();
                }
                Recorder::new(&Log::new()).on_made(move |transport| {
                    transport.write(b"hello")?;
                    shut_down();
                    Ok(())
                })
            });
        let server = server.unwrap();
        own.replace(Some(server.clone()));
        let mut peers = waiting(&server, 1 + in_backlog);
        assert_greeted(&mut event_loop, &mut peers);
        drive(&mut event_loop, "the shutdown", || report.get().is_some());
        let report = numbers(report.get().unwrap());
        assert_eq!(report, (1 + in_backlog, 0, 0, in_backlog));
        assert_eq!(server.connection_count(), 0);
    }
}
