//! Servers on several loops: which one gets the next connection, the maximum of all loops, and the end.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use tidegate::{
    CloseReason, Closed, EventLoop, Handle, ListenOptions, PanicPolicy, Protocol, Result, Transport,
};
use tidegate_service::{Spread, Workers, WorkersServer};

pub(super) const SPREADS: [Spread; 3] = [
    Spread::LeastConnections,
    Spread::RoundRobin,
    Spread::ReusePort,
];

pub(super) const BOUND: Duration = Duration::from_secs(30);

/// Waits until `done` says so; fails with `state` when it never does.
#[track_caller]
pub(super) fn until<S: std::fmt::Debug>(
    what: &str,
    state: impl Fn() -> S,
    done: impl Fn(&S) -> bool,
) {
    let start = Instant::now();
    loop {
        let now = state();
        if done(&now) {
            return;
        }
        assert!(
            start.elapsed() < BOUND,
            "waited in vain for: {what}; {now:?}"
        );
        thread::yield_now();
    }
}

/// Replies to each byte: `p` panics, `n` tells the name of the thread, `s` how many bytes its loop has had,
/// `x` changes the protocol; others come back.
pub(super) struct Server {
    bytes: Rc<Cell<usize>>,
}

impl Protocol for Server {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.write(b"!")?;
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        for byte in data {
            self.bytes.set(self.bytes.get() + 1);
            match byte {
                b'p' => panic!("panicking on purpose"),
                b'n' => writeln!(transport, "{}", thread::current().name().unwrap())?,
                b's' => writeln!(transport, "{}", self.bytes.get())?,
                b'x' => {
                    transport.set_protocol(Other, b"")?;
                    writeln!(transport, "other")?
                }
                byte => transport.write(&[*byte])?,
            };
        }
        Ok(())
    }
}

struct Other;

impl Protocol for Other {}

pub(super) fn factory(_: &Handle) -> impl FnMut() -> Server + use<> {
    let bytes = Rc::new(Cell::new(0));
    move || Server {
        bytes: bytes.clone(),
    }
}

pub(super) fn serve(
    workers: &Workers,
    spread: Spread,
    options: impl Fn(ListenOptions) -> ListenOptions + Send + Sync + 'static,
) -> (WorkersServer, SocketAddr) {
    let server = workers.create_server("127.0.0.1:0", options, spread, factory);
    let server = server.unwrap();
    let addr = server.local_addrs()[0].as_inet().unwrap();
    (server, addr)
}

pub(super) fn workers(number: usize) -> Workers {
    Workers::start(number, "web", EventLoop::builder).unwrap()
}

/// A peer whose connection has its protocol.
pub(super) fn served(addr: SocketAddr) -> TcpStream {
    let mut peer = dial(addr);
    expect(&mut peer, b"!");
    peer
}

pub(super) fn dial(addr: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(BOUND)).unwrap();
    peer
}

#[track_caller]
pub(super) fn expect(peer: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    peer.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

pub(super) fn line(peer: &mut TcpStream, ask: u8) -> String {
    peer.write_all(&[ask]).unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

#[test]
fn least_connections_and_round_robin_are_even_whatever_ends() {
    for spread in [Spread::LeastConnections, Spread::RoundRobin] {
        let workers = workers(4);
        let (server, addr) = serve(&workers, spread, |options| options);
        let peers: Vec<_> = (0..64).map(|_| served(addr)).collect();
        assert_eq!(server.connections(), [16; 4]);
        drop(peers);
        until(
            "all have ended",
            || server.connections(),
            |now| *now == [0; 4],
        );
        // The fewest, where three of the four loops keep theirs.
        let mut kept: Vec<_> = (0..4).map(|_| served(addr)).collect();
        let names: BTreeSet<_> = kept.iter_mut().map(|peer| line(peer, b'n')).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        if spread == Spread::LeastConnections {
            let gone = line(&mut kept[2], b'n');
            drop(kept.remove(2));
            until(
                "one has ended",
                || server.connections(),
                |now| now.iter().sum::<usize>() == 3,
            );
            let mut next = served(addr);
            assert_eq!(line(&mut next, b'n'), gone);
        }
        workers.shutdown(BOUND);
    }
}

#[test]
fn the_kernel_spreads_the_connections_of_loops_that_share_a_port() {
    let workers = workers(3);
    let (server, addr) = serve(&workers, Spread::ReusePort, |options| options);
    assert_eq!(server.local_addrs().len(), 1);
    let peers: Vec<_> = (0..64).map(|_| served(addr)).collect();
    let connections = server.connections();
    assert_eq!(connections.iter().sum::<usize>(), 64);
    assert!(
        connections.iter().all(|number| *number > 0),
        "{connections:?}"
    );
    drop(peers);
    workers.shutdown(BOUND);
}

#[test]
fn what_a_factory_shares_is_shared_by_the_connections_of_a_loop() {
    for spread in SPREADS {
        let workers = workers(2);
        let (_, addr) = serve(&workers, spread, |options| options);
        let mut totals = std::collections::BTreeMap::new();
        for _ in 0..16 {
            let mut peer = served(addr);
            let name = line(&mut peer, b'n');
            let bytes: usize = line(&mut peer, b's').parse().unwrap();
            let total = totals.entry(name).or_insert(0);
            *total += 2;
            assert_eq!(*total, bytes);
        }
        workers.shutdown(BOUND);
    }
}

#[test]
fn the_maximum_is_of_all_loops_and_the_next_one_is_served_when_one_has_ended() {
    for spread in SPREADS {
        let workers = workers(3);
        let (server, addr) = serve(&workers, spread, |options| options.max_connections(5));
        let mut peers: Vec<_> = (0..5).map(|_| served(addr)).collect();
        let mut waiting: Vec<_> = (0..6).map(|_| dial(addr)).collect();
        for peer in &waiting {
            peer.set_nonblocking(true).unwrap();
        }
        for _ in 0..6 {
            // Nobody is served beyond the maximum.
            let polls: u64 = workers.on_each(|handle| handle.stats().polls).iter().sum();
            assert!(polls < 1_000_000);
            assert_eq!(server.connections().iter().sum::<usize>(), 5);
            drop(peers.remove(0));
            let start = Instant::now();
            let next = loop {
                let mut byte = [0];
                let read = |peer: &TcpStream| matches!((&*peer).read(&mut byte), Ok(1));
                if let Some(next) = waiting.iter().position(read) {
                    break next;
                }
                assert!(start.elapsed() < BOUND, "{spread:?}: {server:?}");
                thread::yield_now();
            };
            peers.push(waiting.remove(next));
        }
        workers.shutdown(BOUND);
    }
}

#[test]
fn a_connection_counts_until_its_end_also_with_another_protocol() {
    let workers = workers(1);
    let (server, addr) = serve(&workers, Spread::default(), |options| options);
    let mut peer = served(addr);
    assert_eq!(line(&mut peer, b'x'), "other");
    workers.on_each(|_| ());
    assert_eq!(server.connections(), [1]);
    drop(peer);
    until("its end", || server.connections(), |now| *now == [0]);
    workers.shutdown(BOUND);
}

#[test]
fn a_shutdown_closes_the_connections_of_all_loops_and_sums_their_reports() {
    for spread in SPREADS {
        let workers = workers(3);
        let (_, addr) = serve(&workers, spread, |options| options);
        let mut peers: Vec<_> = (0..30).map(|_| served(addr)).collect();
        let closing = thread::spawn(move || {
            for peer in &mut peers {
                let mut rest = Vec::new();
                peer.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"");
            }
        });
        let (report, panicked) = workers.shutdown(BOUND);
        assert_eq!(
            (report.closed, report.aborted, report.unsent),
            (30, 0, 0),
            "{spread:?}"
        );
        assert_eq!(panicked, []);
        closing.join().unwrap();
        assert!(TcpStream::connect(addr).is_err());
    }
}

#[test]
fn a_shutdown_serves_the_backlog_also_above_the_maximum() {
    for spread in SPREADS {
        let workers = workers(2);
        let (_, addr) = serve(&workers, spread, |options| options.max_connections(1));
        let first = served(addr);
        let mut waiting: Vec<_> = (0..3).map(|_| dial(addr)).collect();
        let closing = thread::spawn(move || {
            let mut first = first;
            assert_eq!(first.read_to_end(&mut Vec::new()).unwrap(), 0);
            for peer in &mut waiting {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).unwrap();
                assert_eq!(all, b"!");
            }
        });
        let (report, _) = workers.shutdown(BOUND);
        assert_eq!((report.closed, report.aborted), (4, 0), "{spread:?}");
        closing.join().unwrap();
    }
}

#[test]
fn a_panic_ends_its_connection_and_no_worker() {
    let workers = workers(2);
    let (_, addr) = serve(&workers, Spread::RoundRobin, |options| options);
    let mut peers: Vec<_> = (0..4).map(|_| served(addr)).collect();
    peers[0].write_all(b"p").unwrap();
    assert_eq!(peers[0].read(&mut [0; 8]).unwrap_or(0), 0);
    for peer in &mut peers[1..] {
        peer.write_all(b"a").unwrap();
        expect(peer, b"a");
    }
    let (report, panicked) = workers.shutdown(BOUND);
    assert_eq!((report.closed, panicked.len()), (3, 0));
}

#[test]
fn a_panic_that_is_propagated_ends_its_worker_and_the_others_serve_on() {
    let make = || EventLoop::builder().panic_policy(PanicPolicy::Propagate);
    let workers = Workers::start(2, "web", make).unwrap();
    let (server, addr) = serve(&workers, Spread::RoundRobin, |options| options);
    let mut victim = served(addr);
    assert_eq!(line(&mut victim, b'n'), "web-0");
    let mut other = served(addr);
    victim.write_all(b"p").unwrap();
    let panicked = workers.wait().unwrap_err();
    assert_eq!(panicked.thread(), "web-0");
    assert_eq!(panicked.message(), "panicking on purpose");
    other.write_all(b"a").unwrap();
    expect(&mut other, b"a");
    // The first connection for the worker that is gone is lost; then there is one worker.
    assert_eq!(dial(addr).read(&mut [0; 8]).unwrap_or(0), 0);
    for _ in 0..4 {
        let mut peer = served(addr);
        assert_eq!(line(&mut peer, b'n'), "web-1");
    }
    until(
        "places of the worker that is gone",
        || server.connections(),
        |now| now[0] == 0,
    );
    assert_eq!(workers.on_each(|_| ()).len(), 1);
    let (_, ended) = workers.shutdown(BOUND);
    assert_eq!(ended, [panicked]);
}

#[test]
fn a_worker_that_ends_takes_its_connections_along_and_the_others_serve_on() {
    for spread in SPREADS {
        let workers = workers(2);
        let (server, addr) = serve(&workers, spread, |options| options);
        let mut peers = [Vec::new(), Vec::new()];
        while peers.iter().any(Vec::is_empty) {
            let mut peer = served(addr);
            let worker = usize::from(line(&mut peer, b'n') == "web-1");
            peers[worker].push(peer);
        }
        workers.remotes()[0].stop();
        let [gone, stay] = &mut peers;
        for peer in gone {
            assert_eq!(peer.read(&mut [0; 8]).unwrap_or(0), 0, "{spread:?}");
        }
        until("its end", || workers.on_each(|_| ()).len(), |now| *now == 1);
        for peer in stay {
            assert_eq!(line(peer, b'n'), "web-1");
        }
        // Those that were on their way to it are lost, and none after them.
        let begun = Instant::now();
        let mut in_a_row = 0;
        while in_a_row < 8 {
            assert!(begun.elapsed() < BOUND, "{spread:?}: {server:?}");
            let is_served = dial(addr).read_exact(&mut [0]).is_ok();
            in_a_row = if is_served { in_a_row + 1 } else { 0 };
        }
        until(
            "no places there",
            || server.connections(),
            |now| now[0] == 0,
        );
        assert_eq!(workers.shutdown(BOUND).1, []);
    }
}

#[test]
fn options_of_connections_hold_on_each_loop_and_those_of_accepting_where_it_is_accepted() {
    struct Idle;
    impl Protocol for Idle {
        fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
            assert!(
                matches!(closed.reason(), CloseReason::Timeout(_)),
                "{closed}"
            );
        }
    }
    for spread in SPREADS {
        let workers = workers(2);
        let options = |options: ListenOptions| {
            let mut asked = 0;
            options
                .idle_timeout(Duration::from_millis(20))
                .accept_if(move |_| {
                    asked += 1;
                    asked > 1
                })
        };
        let server = workers.create_server("127.0.0.1:0", options, spread, |_| || Idle);
        let server = server.unwrap();
        let addr = server.local_addrs()[0].as_inet().unwrap();
        for _ in 0..8 {
            assert_eq!(dial(addr).read(&mut [0; 8]).unwrap_or(0), 0);
        }
        let refused: u64 = workers
            .on_each(|handle| handle.stats().refused)
            .iter()
            .sum();
        // With `ReusePort` each loop asks.
        match spread {
            Spread::ReusePort => assert!((1..=2).contains(&refused), "{refused}"),
            _ => assert_eq!(refused, 0, "the thread that accepts has refused"),
        }
        workers.shutdown(BOUND);
    }
}

#[test]
fn a_server_that_cannot_listen_leaves_nothing_behind() {
    let workers = workers(2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for spread in SPREADS {
        let refused = workers.create_server(addr, |options| options, spread, factory);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let options = |options: ListenOptions| options.max_connections(0);
        let refused = workers.create_server("127.0.0.1:0", options, spread, factory);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    let listeners = workers.on_each(|handle| handle.stats().listeners);
    assert_eq!(listeners, [0, 0]);
    assert_eq!(workers.shutdown(BOUND).0.closed, 0);
    let none = Workers::start(0, "web", EventLoop::builder);
    assert_eq!(none.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_given_listener_is_served_by_all_loops() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let workers = workers(2);
    let server = workers.create_server(listener, |options| options, Spread::default(), factory);
    let server = server.unwrap();
    let _peers: Vec<_> = (0..4).map(|_| served(addr)).collect();
    assert_eq!(server.connections(), [2, 2]);
    workers.shutdown(BOUND);
}

#[test]
fn a_callback_that_holds_one_worker_keeps_nobody_from_being_accepted() {
    /// Holds its thread until it is unparked.
    struct Slow;
    impl Protocol for Slow {
        fn connection_made(&mut self, transport: &Transport) -> Result {
            transport.write(b"!")?;
            Ok(())
        }
        fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
            thread::park();
            transport.write(b"free")?;
            Ok(())
        }
    }
    let workers = workers(2);
    let threads = workers.on_each(|_| thread::current());
    let spread = Spread::LeastConnections;
    let server = workers.create_server("127.0.0.1:0", |options| options, spread, |_| || Slow);
    let addr = server.unwrap().local_addrs()[0].as_inet().unwrap();
    let mut held = served(addr);
    held.write_all(b"hold").unwrap();
    // Every second one is for the loop that is free.
    let others = [served(addr), dial(addr), served(addr)];
    threads.iter().for_each(thread::Thread::unpark);
    expect(&mut held, b"free");
    drop(others);
    workers.shutdown(BOUND);
}
