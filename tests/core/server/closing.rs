//! How servers end: `close`, `close_clients`, `abort_clients`, `wait_closed`. `server_shutdown` has
//! the rest.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use support::{
    Kind, Log, Peer, Recorder, Seen, Served, TempDir, answer_of, assert_refused, drive, each_kind,
    pattern, settle,
};
use tidegate::{EventLoop, OnPause, Server};

each_kind!(close_stops_listening_and_keeps_the_connections);
fn close_stops_listening_and_keeps_the_connections(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let [mut peer] = served.connect(&mut event_loop);
    for _ in 0..2 {
        served.server.close();
        assert!(!served.server.is_serving());
        assert_eq!(event_loop.handle().stats().listeners, 0);
        assert_refused(&served.address());
    }
    let again = served.server.start_serving().unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::NotConnected);
    peer.send(b"still here");
    peer.expect(&mut event_loop, 10);
    assert_eq!(served.server.connection_count(), 1);
    assert_eq!(served.server.local_addrs(), [served.address()]);
}

#[test]
fn closing_a_server_drops_its_factory_from_the_loop() {
    for start in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let held = Rc::new(());
        let in_factory = held.clone();
        let options = tidegate::ListenOptions::new("127.0.0.1:0").start_serving(start);
        let factory = move || {
            drop(in_factory.clone());
            Recorder::new(&Log::new())
        };
        let server = event_loop.handle().create_server(options, factory).unwrap();
        server.close();
        assert_eq!(
            Rc::strong_count(&held),
            2,
            "user values do not drop in calls"
        );
        settle(&mut event_loop);
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

each_kind!(close_clients_sends_what_is_buffered_and_goes_on_listening);
fn close_clients_sends_what_is_buffered_and_goes_on_listening(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let [mut first, mut second] = served.connect(&mut event_loop);
    let total = 12 << 20;
    served.transport(0).write(&pattern(0, total)).unwrap();
    assert!(served.transport(0).write_buffer_size() > 0);
    served.server.close_clients();
    assert_eq!(served.server.connection_count(), 2, "never within the call");
    second.expect_end(&mut event_loop);
    first.expect_end(&mut event_loop);
    assert!(first.received() == pattern(0, total));
    for n in 0..2 {
        assert!(served.log(n).closed().is_clean());
        assert_eq!(served.log(n).reason(), "local-close");
    }
    assert!(served.server.is_serving());
    let _ = served.connect::<1>(&mut event_loop);
}

each_kind!(abort_clients_drops_what_is_buffered_and_goes_on_listening);
fn abort_clients_drops_what_is_buffered_and_goes_on_listening(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let _peers = served.connect::<2>(&mut event_loop);
    served.transport(0).write(&vec![0; 12 << 20]).unwrap();
    served.server.abort_clients();
    assert!(!served.log(0).is_lost(), "never within the call");
    settle(&mut event_loop);
    for n in 0..2 {
        assert_eq!(served.log(n).reason(), "local-abort");
    }
    assert!(served.log(0).closed().unsent() > 0);
    assert_eq!(served.server.connection_count(), 0);
    let _ = served.connect::<1>(&mut event_loop);
}

each_kind!(abort_clients_ends_what_lingers_at_once);
fn abort_clients_ends_what_lingers_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let other = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let [_peer] = served.connect(&mut event_loop);
    let [_stays] = other.connect(&mut event_loop);
    served.server.close_clients();
    other.server.close_clients();
    settle(&mut event_loop);
    assert!(served.log(0).is_lost());
    assert_eq!(event_loop.handle().stats().lingering, 2);
    served.server.abort_clients();
    assert_eq!(event_loop.handle().stats().lingering, 1, "the other's");
    other.server.abort_clients();
    let stats = event_loop.handle().stats();
    assert_eq!((stats.lingering, stats.timers), (0, 0));
}

each_kind!(wait_closed_waits_for_close_and_for_the_last_connection);
fn wait_closed_waits_for_close_and_for_the_last_connection(kind: Kind) {
    for close_first in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let done = answer_of(served.server.wait_closed());
        settle(&mut event_loop);
        assert!(done.borrow().is_none(), "without clients, but serving");
        let [mut one, mut two] = served.connect(&mut event_loop);
        if close_first {
            served.server.close();
        }
        one.close();
        drive(&mut event_loop, "lost", || served.log(0).is_lost());
        settle(&mut event_loop);
        assert!(done.borrow().is_none(), "one is left");
        two.close();
        drive(&mut event_loop, "lost", || served.log(1).is_lost());
        settle(&mut event_loop);
        assert_eq!(done.borrow().is_some(), close_first);
        served.server.close();
        drive(&mut event_loop, "wait_closed", || done.borrow().is_some());
        event_loop.run_until(served.server.wait_closed()).unwrap();
        assert_eq!(event_loop.handle().stats().completions, 0);
    }
}

#[test]
fn wait_closed_comes_after_connection_lost_and_to_everyone_who_waits() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let _peers = served.connect::<2>(&mut event_loop);
    let (log, others) = (served.log(1), served.log(0));
    drop(served.server.wait_closed());
    let lost = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (log, others, lost) = (log.clone(), others.clone(), lost.clone());
        served.server.wait_closed().then(move |_, result| {
            result.unwrap();
            assert!(log.is_lost() && others.is_lost());
            lost.set(lost.get() + 1);
        });
    }
    served.server.close();
    served.server.abort_clients();
    drive(&mut event_loop, "all answers", || lost.get() == 3);
}

/// A server that a closure can close although it is made for that server.
fn closing_server(
    event_loop: &EventLoop,
    at: String,
    log: &Log,
    make: impl Fn(Recorder, Rc<dyn Fn()>) -> Recorder + 'static,
) -> Server {
    let own: Rc<RefCell<Option<Server>>> = Rc::default();
    let held = own.clone();
    let log = log.clone();
    let server = event_loop
        .handle()
        .create_server(at, move || {
            let held = held.clone();
            let close: Rc<dyn Fn()> = Rc::new(move || {
                let server = held.borrow().clone().unwrap();
                server.close();
                assert!(!server.is_serving());
            });
            make(Recorder::new(&log), close)
        })
        .unwrap();
    own.replace(Some(server.clone()));
    server
}

each_kind!(a_server_closed_by_the_callback_of_its_first_connection_takes_no_second_one);
fn a_server_closed_by_the_callback_of_its_first_connection_takes_no_second_one(kind: Kind) {
    for in_made in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let log = Log::new();
        let server = closing_server(
            &event_loop,
            kind.somewhere(&dir),
            &log,
            move |recorder, close| {
                let again = close.clone();
                recorder
                    .on_made(move |_| {
                        if in_made {
                            close();
                        }
                        Ok(())
                    })
                    .on_data(move |transport, data| {
                        again();
                        transport.write(data)?;
                        Ok(())
                    })
            },
        );
        let address = &server.local_addrs()[0];
        let done = answer_of(server.wait_closed());
        let mut first = Peer::connect(address);
        if in_made {
            // These are in the backlog when the first one is accepted.
            let mut rest: Vec<_> = (0..3).map(|_| Peer::connect(address)).collect();
            for peer in &mut rest {
                peer.expect_end(&mut event_loop);
            }
        }
        first.send(b"on");
        first.expect(&mut event_loop, 2);
        assert_refused(address);
        assert_eq!(log.count(&Seen::Made), 1);
        assert_eq!(server.connection_count(), 1);
        settle(&mut event_loop);
        assert!(done.borrow().is_none());
        first.close();
        drive(&mut event_loop, "wait_closed", || done.borrow().is_some());
    }
}

each_kind!(a_server_closed_by_its_own_factory_ends_without_that_connection);
fn a_server_closed_by_its_own_factory_ends_without_that_connection(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let log = Log::new();
    let server = closing_server(
        &event_loop,
        kind.somewhere(&dir),
        &log,
        |recorder, close| {
            close();
            recorder
        },
    );
    let address = &server.local_addrs()[0];
    let mut waiting = [Peer::connect(address), Peer::connect(address)];
    let done = answer_of(server.wait_closed());
    for peer in &mut waiting {
        peer.expect_end(&mut event_loop);
    }
    drive(&mut event_loop, "wait_closed", || done.borrow().is_some());
    assert_eq!(server.connection_count(), 0);
    assert!(log.seen().is_empty());
    assert_eq!(log.dropped(), 1, "the factory was called once");
    assert_eq!(event_loop.handle().stats().listeners, 0);
}

each_kind!(clients_may_be_closed_and_aborted_from_a_callback_of_one_of_them);
fn clients_may_be_closed_and_aborted_from_a_callback_of_one_of_them(kind: Kind) {
    for abort in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let own: Rc<RefCell<Option<Server>>> = Rc::default();
        let held = own.clone();
        let served = Served::new(event_loop.handle(), kind.somewhere(&dir), move |recorder| {
            let held = held.clone();
            recorder
                .on_pause(|_| Ok(OnPause::KeepReading))
                .on_data(move |transport, data| {
                    transport.write(data)?;
                    let server = held.borrow().clone().unwrap();
                    if abort {
                        server.abort_clients();
                    } else {
                        server.close_clients();
                    }
                    assert_eq!(server.connection_count(), 3);
                    Ok(())
                })
        });
        own.replace(Some(served.server.clone()));
        let mut all = served.connect::<3>(&mut event_loop);
        all[1].send(b"last");
        for peer in &mut all {
            peer.expect_end(&mut event_loop);
        }
        let expected: &[u8] = if abort { b"" } else { b"last" };
        assert_eq!(all[1].received(), expected);
        assert_eq!(served.server.connection_count(), 0);
        for n in 0..3 {
            let word = if abort { "local-abort" } else { "local-close" };
            assert_eq!(served.log(n).reason(), word);
        }
        own.take();
    }
}
