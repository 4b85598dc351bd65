//! Lowers the limit on descriptors of the process, and counts them.
//!
//! A process that runs out of descriptors while others connect, and the descriptors that are left
//! of a loop.

use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::logs::{keep_log, logged};
use support::{Kind, Log, Peer, Recorder, Served, TempDir, adopted, descriptors, drive, settle};
use tidegate::{Address, EventLoop};

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// Allows no descriptor beyond those that are open.
fn exhaust() -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    // The lowest free number is the next that anybody would get.
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    let limit = Rlimit {
        current: Some(next as u64),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(File::open("/dev/null").is_err(), "nothing is left");
    before
}

/// Sockets made while that is still possible; connecting them needs no further descriptor.
fn unconnected(kind: Kind) -> Socket {
    let domain = match kind {
        Kind::Tcp => Domain::IPV4,
        Kind::Unix => Domain::UNIX,
    };
    Socket::new(domain, Type::STREAM, None).unwrap()
}

fn connect(socket: Socket, address: &Address) -> Peer {
    let addr = match address {
        Address::Inet(addr) => SockAddr::from(*addr),
        Address::Unix(path) => SockAddr::unix(path).unwrap(),
        _ => unreachable!("servers have addresses"),
    };
    socket.connect(&addr).unwrap();
    Peer::new(socket)
}

#[test]
fn without_descriptors_connections_go_on_and_the_backlog_is_served_later() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in Kind::ALL {
        println!("{kind:?}");
        keep_log(LevelFilter::Info);
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let address = served.address();
        let mut established = Peer::connect(&address);
        drive(&mut event_loop, "accepted", || served.accepted() == 1);
        let sockets: Vec<_> = (0..5).map(|_| unconnected(kind)).collect();
        let reserve: Vec<_> = (0..8).map(|_| File::open("/dev/null").unwrap()).collect();
        settle(&mut event_loop);
        let before = exhaust();

        let mut waiting: Vec<_> = sockets
            .into_iter()
            .map(|socket| connect(socket, &address))
            .collect();
        for peer in &mut waiting {
            peer.send(b"me too");
        }
        let over = Rc::new(Cell::new(false));
        let end = over.clone();
        let starved_for = Duration::from_millis(600);
        event_loop
            .handle()
            .call_later(starved_for, move |_| end.set(true));
        let begun = event_loop.handle().stats();
        let mut rounds: usize = 0;
        while !over.get() {
            // One exchange a tick: the established connection is served all the while.
            if established.received().len() == rounds && rounds < 20 {
                established.send(b"!");
                rounds += 1;
            }
            event_loop.run_once(None).unwrap();
            established.read_available();
        }
        let ended = event_loop.handle().stats();
        assert_eq!(established.received().len(), 20);
        assert_eq!(served.accepted(), 1);
        // 20 exchanges, the end, and a few tries.
        let polls = ended.polls - begun.polls;
        assert!(polls < 60, "{polls} ticks in {starved_for:?}");
        let accepts = ended.accepts - begun.accepts;
        assert!((2..30).contains(&accepts), "{accepts} tries");
        let lines = logged();
        assert_eq!(lines.len(), 1, "one line an episode: {lines:?}");

        // No new connect: only the descriptors are new.
        drop(reserve);
        for peer in &mut waiting {
            peer.expect(&mut event_loop, 6);
        }
        assert_eq!(served.accepted(), 6);
        setrlimit(Resource::Nofile, before).unwrap();
        settle(&mut event_loop);
        assert_eq!(event_loop.handle().stats().timers, 0);
        let lines = logged();
        assert!(lines.len() <= 1, "beside the first: {lines:?}");

        // A second episode is told of again.
        let socket = unconnected(kind);
        let before = exhaust();
        let mut late = connect(socket, &address);
        drive(&mut event_loop, "a second line", || !logged().is_empty());
        setrlimit(Resource::Nofile, before).unwrap();
        late.send(b"late");
        late.expect(&mut event_loop, 4);
    }
}

#[test]
fn of_a_dropped_loop_its_handles_keep_two_descriptors_and_a_remote_handle_one() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = descriptors();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (remote, log) = (handle.remote(), Log::new());
    let dir = TempDir::new();
    let served = Served::echo(&handle, Kind::Unix.somewhere(&dir));
    let (transport, peer) = adopted(&handle, Kind::Tcp, Recorder::new(&log));
    drive(&mut event_loop, "made", || log.words() == ["made"]);
    drop((event_loop, peer));
    assert_eq!(descriptors(), before + 2, "a handle, a server, a transport");
    drop((handle, served));
    assert_eq!(descriptors(), before + 2, "a transport");
    drop(transport);
    assert_eq!(descriptors(), before + 1, "a remote handle");
    drop(remote);
    assert_eq!(descriptors(), before);
}
