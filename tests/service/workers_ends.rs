//! Loops, threads and closures of workers that fail or end, and connections that leave them: nobody waits for
//! them, and nothing counts on them.

use crate::workers::{BOUND, SPREADS, dial, expect, factory, line, serve, served, until, workers};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use support::{Hooked, TempDir};
use tidegate::{
    EventLoop, EventLoopBuilder, Handle, ListenOptions, PanicPolicy, Protocol, Result, Transport,
};
use tidegate_service::{Spread, Workers};

/// Runs `call` on a thread, and fails when it takes too long.
#[track_caller]
fn within<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, result) = mpsc::channel();
    thread::spawn(move || told.send(call()));
    result
        .recv_timeout(BOUND)
        .expect("it is waited for in vain")
}

fn panic_on(thread: &str) {
    let own = thread::current();
    assert!(own.name() != Some(thread), "panicking on purpose");
}

fn propagating() -> EventLoopBuilder {
    EventLoop::builder().panic_policy(PanicPolicy::Propagate)
}

/// Ends the worker of this number, to which the next connection comes.
fn end_worker(workers: &Workers, addr: SocketAddr, number: usize) {
    let mut victim = served(addr);
    assert_eq!(line(&mut victim, b'n'), format!("web-{number}"));
    victim.write_all(b"p").unwrap();
    let panicked = workers.wait().unwrap_err();
    assert_eq!(panicked.thread(), format!("web-{number}"));
}

#[test]
fn a_closure_that_panics_on_one_loop_fails_the_server_and_says_so() {
    for spread in SPREADS {
        let workers = workers(2);
        let same = |options: ListenOptions| options;
        let make = |handle: &Handle| {
            panic_on("web-1");
            factory(handle)
        };
        let made = workers.create_server("127.0.0.1:0", same, spread, make);
        let threads = match spread {
            Spread::ReusePort => &["web-1"][..],
            _ => &["web-1", "web-accept"],
        };
        let changed = threads.iter().map(|thread| {
            let change = |options| {
                panic_on(thread);
                options
            };
            workers.create_server("127.0.0.1:0", change, spread, factory)
        });
        for failed in [made].into_iter().chain(changed) {
            let error = failed.unwrap_err();
            assert!(
                error.to_string().contains("panicking on purpose"),
                "{error}"
            );
        }
        assert_eq!(workers.on_each(|handle| handle.stats().listeners), [0, 0]);
        let (_, addr) = serve(&workers, spread, same);
        (0..4).for_each(|_| drop(served(addr)));
        assert_eq!(workers.shutdown(BOUND).1, []);
    }
}

#[test]
fn an_accepting_loop_that_cannot_be_made_is_no_thread_that_has_ended() {
    let made = AtomicUsize::new(0);
    let make = move || {
        let before = made.fetch_add(1, Ordering::SeqCst);
        assert!(before != 2, "panicking on purpose");
        EventLoop::builder()
    };
    let workers = Workers::start(2, "web", make).unwrap();
    let failed = workers.create_server("127.0.0.1:0", |at| at, Spread::default(), factory);
    let error = failed.unwrap_err();
    assert!(
        error.to_string().contains("panicking on purpose"),
        "{error}"
    );
    let (_, addr) = serve(&workers, Spread::default(), |at| at);
    (0..4).for_each(|_| drop(served(addr)));
    assert_eq!(workers.shutdown(BOUND).1, []);
}

#[test]
fn a_wait_ends_when_all_loops_have_ended_although_others_accept() {
    let ended = within(|| {
        let workers = workers(2);
        let (_, addr) = serve(&workers, Spread::default(), |at| at);
        let mut peer = served(addr);
        workers
            .remotes()
            .iter()
            .for_each(tidegate::RemoteHandle::stop);
        let ended = workers.wait();
        assert_eq!(peer.read(&mut [0; 8]).unwrap_or(0), 0);
        (ended, workers.shutdown(BOUND).1)
    });
    assert_eq!(ended, (Ok(()), vec![]));
}

#[test]
fn a_panic_whose_payload_panics_when_it_is_dropped_ends_a_wait_too() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("dropped on purpose");
        }
    }
    struct Bad;
    impl Protocol for Bad {
        fn connection_made(&mut self, _: &Transport) -> Result {
            panic_any(Payload)
        }
    }
    let panicked = within(|| {
        let workers = Workers::start(2, "web", propagating).unwrap();
        let server = workers.create_server("127.0.0.1:0", |at| at, Spread::RoundRobin, |_| || Bad);
        let addr = server.unwrap().local_addrs()[0].as_inet().unwrap();
        let _peer = dial(addr);
        let panicked = workers.wait().unwrap_err();
        assert_eq!(workers.shutdown(BOUND).1, std::slice::from_ref(&panicked));
        panicked
    });
    assert_eq!(panicked.thread(), "web-0");
}

#[test]
fn a_worker_that_has_ended_gets_nothing_of_a_new_server() {
    let workers = Workers::start(3, "web", propagating).unwrap();
    let (_, addr) = serve(&workers, Spread::RoundRobin, |at| at);
    end_worker(&workers, addr, 0);
    for spread in SPREADS {
        let (server, addr) = serve(&workers, spread, |at| at);
        let _peers: Vec<_> = (0..8).map(|_| served(addr)).collect();
        let connections = server.connections();
        assert_eq!(connections.iter().sum::<usize>(), 8, "{spread:?}");
        assert_eq!(connections[0], 0, "{spread:?}");
    }
    workers.shutdown(BOUND);
}

#[test]
fn when_every_worker_has_ended_nobody_is_accepted() {
    let workers = Workers::start(2, "web", propagating).unwrap();
    let (server, addr) = serve(&workers, Spread::RoundRobin, |at| at);
    end_worker(&workers, addr, 0);
    end_worker(&workers, addr, 1);
    // Those that find out are lost.
    until(
        "a connect is refused",
        || {
            TcpStream::connect(addr)
                .map(drop)
                .map_err(|error| error.kind())
        },
        |now| *now == Err(ErrorKind::ConnectionRefused),
    );
    assert_eq!(server.connections(), [0, 0]);
    for spread in SPREADS {
        let error = workers.create_server("127.0.0.1:0", |at| at, spread, factory);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NotConnected);
    }
    assert_eq!(workers.wait(), Ok(()));
    assert_eq!(workers.shutdown(BOUND).1.len(), 2);
}

#[test]
fn connections_of_a_server_that_cannot_listen_everywhere_are_ended() {
    let dir = TempDir::new();
    let path = dir.path("socket");
    let at = format!("unix:{}", path.display());
    let peer: Arc<Mutex<Option<UnixStream>>> = Arc::default();
    let into = peer.clone();
    let asked = AtomicUsize::new(0);
    let options = move |options: ListenOptions| {
        let last = thread::current().name() == Some("web-1");
        if !last || asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return options;
        }
        // The first loop listens by now, and the second is to.
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.set_read_timeout(Some(BOUND)).unwrap();
        peer.read_exact(&mut [0]).unwrap();
        into.lock().unwrap().replace(peer);
        options.fail_with(io::Error::other("failing on purpose"))
    };
    let workers = workers(2);
    let failed = workers.create_server(at, options, Spread::ReusePort, factory);
    assert!(failed.unwrap_err().to_string().contains("on purpose"));
    let mut peer = peer.lock().unwrap().take().unwrap();
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    workers.shutdown(BOUND);
}

#[test]
fn a_name_that_no_thread_can_have_is_an_error() {
    let refused = Workers::start(1, "web\0", EventLoop::builder);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_connection_that_gets_no_protocol_gives_its_place_back() {
    /// Panics, the first time.
    fn panic_once(calls: &AtomicUsize) {
        let before = calls.fetch_add(1, Ordering::SeqCst);
        assert!(before > 0, "panicking on purpose");
    }
    for spread in SPREADS {
        let workers = workers(1);
        let (made, layered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let make = move |handle: &Handle| {
            let (made, mut next) = (made.clone(), factory(handle));
            move || {
                panic_once(&made);
                next()
            }
        };
        let options = move |options: ListenOptions| {
            let layered = layered.clone();
            options.max_connections(1).layer(move || {
                panic_once(&layered);
                Hooked::new(|_, _| Ok(()))
            })
        };
        let server = workers.create_server("127.0.0.1:0", options, spread, make);
        let server = server.unwrap();
        let addr = server.local_addrs()[0].as_inet().unwrap();
        // The factory panics, then the layer does; each connection was the only one that may be.
        for _ in 0..2 {
            assert_eq!(dial(addr).read(&mut [0; 8]).unwrap_or(0), 0);
        }
        drop(served(addr));
        until("the place", || server.connections(), |now| *now == [0]);
        workers.shutdown(BOUND);
    }
}

#[test]
fn a_connection_that_leaves_its_loop_gives_its_place_back_and_is_in_no_report() {
    /// Leaves with the first bytes.
    struct Leaves;
    impl Protocol for Leaves {
        fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
            transport.detach().then(|handle, detached| {
                handle.attach(detached.unwrap(), Stays).unwrap();
            });
            Ok(())
        }
    }
    struct Stays;
    impl Protocol for Stays {
        fn connection_made(&mut self, transport: &Transport) -> Result {
            transport.write(b"!")?;
            Ok(())
        }
    }
    for spread in SPREADS {
        let workers = workers(1);
        let options = |options: ListenOptions| options.max_connections(1);
        let server = workers.create_server("127.0.0.1:0", options, spread, |_| || Leaves);
        let server = server.unwrap();
        let addr = server.local_addrs()[0].as_inet().unwrap();
        let mut peers = [dial(addr), dial(addr)];
        for peer in &mut peers {
            peer.write_all(b"go").unwrap();
            expect(peer, b"!");
        }
        assert_eq!(server.connections(), [0]);
        let (report, _) = workers.shutdown(BOUND);
        assert_eq!((report.closed, report.aborted), (0, 0), "{spread:?}");
    }
}

#[test]
fn workers_that_are_dropped_serve_on() {
    for spread in SPREADS {
        let workers = workers(2);
        let (server, addr) = serve(&workers, spread, |at| at);
        let remotes = workers.remotes();
        drop(workers);
        let mut peers: Vec<_> = (0..4).map(|_| served(addr)).collect();
        assert_eq!(server.connections().iter().sum::<usize>(), 4);
        remotes.iter().for_each(tidegate::RemoteHandle::stop);
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0; 8]).unwrap_or(0), 0);
        }
    }
}

#[test]
fn a_server_listens_at_once_and_its_options_add_no_address() {
    for spread in SPREADS {
        let workers = workers(2);
        let (_, addr) = serve(&workers, spread, |options| options.start_serving(false));
        drop(served(addr));
        let also = |options: ListenOptions| options.also("127.0.0.1:0");
        let refused = workers.create_server("127.0.0.1:0", also, spread, factory);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        let listeners: u64 = workers
            .on_each(|handle| handle.stats().listeners as u64)
            .iter()
            .sum();
        assert_eq!(listeners, if spread == Spread::ReusePort { 2 } else { 0 });
        workers.shutdown(BOUND);
    }
}
