//! How servers end: `close`, `close_clients`, `abort_clients`, `wait_closed`, `shutdown`.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tests::{Kind, Log, Peer, Recorder, Seen, Served, TempDir, drive, pattern, settle};
use tidegate::{Address, Completion, EventLoop, OnPause, Server, ShutdownReport};

const LONG: Duration = Duration::from_secs(3600);

/// What a completion has answered so far.
fn answer_of<T: 'static>(completion: Completion<T>) -> Rc<RefCell<Option<T>>> {
    let slot = Rc::new(RefCell::new(None));
    let answer = slot.clone();
    completion.then(move |_, result| {
        answer.replace(Some(result.unwrap()));
    });
    slot
}

fn report(answer: &RefCell<Option<ShutdownReport>>) -> (usize, usize, u64) {
    let report = answer.borrow().expect("the shutdown has ended");
    (report.closed, report.aborted, report.unsent)
}

fn assert_refused(address: &Address) {
    let result = match address {
        Address::Inet(addr) => TcpStream::connect(addr).map(drop),
        Address::Unix(path) => UnixStream::connect(path).map(drop),
        Address::Unnamed => unreachable!("servers have addresses"),
    };
    let gone = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    assert!(gone.contains(&result.unwrap_err().kind()));
}

/// Connects peers and waits until the server has them.
fn peers<const N: usize>(event_loop: &mut EventLoop, served: &Served) -> [Peer; N] {
    let before = served.accepted();
    let peers = std::array::from_fn(|_| Peer::connect(&served.address()));
    drive(event_loop, "the server to accept", || {
        served.accepted() == before + N
    });
    peers
}

#[test]
fn close_stops_listening_and_keeps_the_connections() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let [mut peer] = peers(&mut event_loop, &served);
        for _ in 0..2 {
            served.server.close();
            assert!(!served.server.is_serving());
            assert_eq!(event_loop.handle().snapshot().listeners, 0);
            assert_refused(&served.address());
        }
        let again = served.server.start_serving().unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::NotConnected);
        peer.send(b"still here");
        peer.expect(&mut event_loop, 10);
        assert_eq!(served.server.connection_count(), 1);
        assert_eq!(served.server.local_addrs(), [served.address()]);
    }
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

#[test]
fn close_clients_sends_what_is_buffered_and_goes_on_listening() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let [mut first, mut second] = peers(&mut event_loop, &served);
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
        let _ = peers::<1>(&mut event_loop, &served);
    }
}

#[test]
fn abort_clients_drops_what_is_buffered_and_goes_on_listening() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let _peers = peers::<2>(&mut event_loop, &served);
        served.transport(0).write(&vec![0; 12 << 20]).unwrap();
        served.server.abort_clients();
        assert!(!served.log(0).is_lost(), "never within the call");
        settle(&mut event_loop);
        for n in 0..2 {
            assert_eq!(served.log(n).reason(), "local-abort");
        }
        assert!(served.log(0).closed().unsent() > 0);
        assert_eq!(served.server.connection_count(), 0);
        let _ = peers::<1>(&mut event_loop, &served);
    }
}

#[test]
fn abort_clients_ends_what_lingers_at_once() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let other = Served::echo(event_loop.handle(), "127.0.0.1:0");
        let [_peer] = peers(&mut event_loop, &served);
        let [_stays] = peers(&mut event_loop, &other);
        served.server.close_clients();
        other.server.close_clients();
        settle(&mut event_loop);
        assert!(served.log(0).is_lost());
        assert_eq!(event_loop.handle().snapshot().lingering, 2);
        served.server.abort_clients();
        assert_eq!(event_loop.handle().snapshot().lingering, 1, "the other's");
        other.server.abort_clients();
        let snapshot = event_loop.handle().snapshot();
        assert_eq!((snapshot.lingering, snapshot.timers), (0, 0));
    }
}

#[test]
fn wait_closed_waits_for_close_and_for_the_last_connection() {
    for kind in Kind::ALL {
        for close_first in [true, false] {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = TempDir::new();
            let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
            let done = answer_of(served.server.wait_closed());
            settle(&mut event_loop);
            assert!(done.borrow().is_none(), "without clients, but serving");
            let [mut one, mut two] = peers(&mut event_loop, &served);
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
            assert_eq!(event_loop.handle().snapshot().completions, 0);
        }
    }
}

#[test]
fn wait_closed_comes_after_connection_lost_and_to_everyone_who_waits() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let _peers = peers::<2>(&mut event_loop, &served);
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

#[test]
fn a_shutdown_without_connections_ends_at_once() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let result = event_loop.run_until(served.server.shutdown(LONG)).unwrap();
        assert_eq!(result, ShutdownReport::default());
        assert_refused(&served.address());
        assert_eq!(event_loop.handle().snapshot().timers, 0);
        assert!(!served.server.is_serving());
        // Once more, on a server that is closed already; Duration::MAX does not overflow.
        let again = served.server.shutdown(Duration::MAX);
        assert_eq!(
            event_loop.run_until(again).unwrap(),
            ShutdownReport::default()
        );
    }
}

#[test]
fn a_shutdown_gives_polite_peers_all_their_bytes_and_counts_them_as_closed() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let mut all = peers::<3>(&mut event_loop, &served);
        let total = 8 << 20;
        for n in 0..3 {
            served
                .transport(n)
                .write(&pattern(n as u64, total))
                .unwrap();
        }
        let answer = answer_of(served.server.shutdown(LONG));
        assert!(!served.server.is_serving());
        drive(&mut event_loop, "the shutdown", || {
            for peer in &mut all {
                peer.read_available();
                if peer.saw_eof() {
                    peer.close();
                }
            }
            answer.borrow().is_some()
        });
        assert_eq!(report(&answer), (3, 0, 0));
        for (n, peer) in all.iter().enumerate() {
            assert!(peer.received() == pattern(n as u64, total));
            assert_eq!(served.log(n).reason(), "local-close");
        }
        let snapshot = event_loop.handle().snapshot();
        assert_eq!((snapshot.timers, snapshot.lingering), (0, 0));
    }
}

#[test]
fn a_shutdown_cuts_who_does_not_read_at_the_end_of_the_grace_and_counts_what_is_lost() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let [mut polite, _stalled] = peers(&mut event_loop, &served);
        served.transport(1).write(&vec![0; 12 << 20]).unwrap();
        let buffered = served.transport(1).write_buffer_size() as u64;
        assert!(buffered > 0);
        let grace = Duration::from_millis(60);
        let begun = Instant::now();
        let answer = answer_of(served.server.shutdown(grace));
        polite.expect_end(&mut event_loop);
        polite.close();
        drive(&mut event_loop, "the polite one", || {
            served.log(0).is_lost()
        });
        if begun.elapsed() < grace {
            assert!(answer.borrow().is_none());
        }
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        assert!(begun.elapsed() >= grace);
        assert_eq!(served.log(1).reason(), "shutdown");
        let unsent = served.log(1).closed().unsent();
        assert!(unsent > 0 && unsent <= buffered);
        assert_eq!(report(&answer), (1, 1, unsent));
    }
}

#[test]
fn a_shutdown_waits_for_what_lingers_but_not_past_the_grace() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        for cut in [true, false] {
            let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
            let [mut peer] = peers(&mut event_loop, &served);
            let grace = if cut { Duration::from_millis(50) } else { LONG };
            let begun = Instant::now();
            let answer = answer_of(served.server.shutdown(grace));
            // It has its end of stream, and keeps its own side open.
            peer.expect_end(&mut event_loop);
            assert!(peer.saw_eof() && served.log(0).is_lost());
            if cut {
                drive(&mut event_loop, "the grace", || answer.borrow().is_some());
                // Without the cut the socket would wait a second for the peer.
                assert!(begun.elapsed() < Duration::from_millis(900));
            } else {
                settle(&mut event_loop);
                assert!(answer.borrow().is_none(), "it lingers");
                assert_eq!(event_loop.handle().snapshot().lingering, 1);
                peer.close();
                drive(&mut event_loop, "the peer's end", || {
                    answer.borrow().is_some()
                });
            }
            assert_eq!(report(&answer), (1, 0, 0));
            let snapshot = event_loop.handle().snapshot();
            assert_eq!((snapshot.lingering, snapshot.timers), (0, 0));
        }
    }
}

#[test]
fn of_several_shutdowns_the_shortest_grace_holds_and_all_get_the_report() {
    for shortest_first in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
        let _stalled = peers::<1>(&mut event_loop, &served);
        served.transport(0).write(&vec![0; 12 << 20]).unwrap();
        let short = Duration::from_millis(30);
        let graces = if shortest_first {
            [short, LONG, LONG]
        } else {
            [LONG, LONG, short]
        };
        let answers = graces.map(|grace| answer_of(served.server.shutdown(grace)));
        drive(&mut event_loop, "all shutdowns", || {
            answers.iter().all(|answer| answer.borrow().is_some())
        });
        let unsent = served.log(0).closed().unsent();
        for answer in &answers {
            assert_eq!(report(answer), (0, 1, unsent));
        }
        assert_eq!(event_loop.handle().snapshot().timers, 0);
    }
}

#[test]
fn a_shutdown_goes_on_when_nobody_waits_for_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let _stalled = peers::<1>(&mut event_loop, &served);
    served.transport(0).write(&vec![0; 12 << 20]).unwrap();
    drop(served.server.shutdown(Duration::from_millis(20)));
    drive(&mut event_loop, "lost", || served.log(0).is_lost());
    assert_eq!(served.log(0).reason(), "shutdown");
    event_loop.run_until(served.server.wait_closed()).unwrap();
}

#[test]
fn a_shutdown_with_no_grace_cuts_what_the_kernel_does_not_take_now() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let _peers = peers::<2>(&mut event_loop, &served);
        served.transport(0).write(&vec![0; 12 << 20]).unwrap();
        let answer = answer_of(served.server.shutdown(Duration::ZERO));
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        let (closed, aborted, unsent) = report(&answer);
        assert_eq!(closed + aborted, 2);
        assert_eq!(served.log(0).reason(), "shutdown");
        assert_eq!(unsent, served.log(0).closed().unsent());
    }
}

#[test]
fn a_shutdown_with_no_grace_loses_nothing_that_the_kernel_takes_now() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let [mut peer] = peers(&mut event_loop, &served);
        // Or the first event of the connection would offer it.
        settle(&mut event_loop);
        served.transport(0).write(b"goodbye").unwrap();
        let answer = answer_of(served.server.shutdown(Duration::ZERO));
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        assert_eq!(report(&answer), (1, 0, 0));
        peer.expect(&mut event_loop, 7);
    }
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

#[test]
fn a_server_closed_by_the_callback_of_its_first_connection_takes_no_second_one() {
    for kind in Kind::ALL {
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
}

#[test]
fn a_server_closed_by_its_own_factory_ends_without_that_connection() {
    for kind in Kind::ALL {
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
        assert_eq!(event_loop.handle().snapshot().listeners, 0);
    }
}

#[test]
fn clients_may_be_closed_and_aborted_from_a_callback_of_one_of_them() {
    for kind in Kind::ALL {
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
            let mut all = peers::<3>(&mut event_loop, &served);
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
}
