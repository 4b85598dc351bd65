//! The maximum number of connections of a server: peers above it wait in the backlog.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, Served, TempDir, drive, each_kind, settle, tick};
use tidegate::{EventLoop, ListenOptions, Server};

const MOST: usize = 2;

fn limited(kind: Kind, dir: &TempDir, most: usize) -> ListenOptions {
    ListenOptions::new(kind.somewhere(dir)).max_connections(most)
}

fn connect(server: &Server, at: usize) -> Peer {
    Peer::connect(&server.local_addrs()[at])
}

each_kind!(at_the_maximum_no_accept_is_made_and_an_end_lets_the_next_peer_in);
fn at_the_maximum_no_accept_is_made_and_an_end_lets_the_next_peer_in(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), limited(kind, &dir, MOST));
    let mut peers: Vec<_> = (0..6).map(|_| connect(&served.server, 0)).collect();
    peers.iter_mut().for_each(|peer| peer.send(b"hello"));
    for ended in 0..peers.len() {
        let accepted = peers.len().min(ended + MOST);
        drive(&mut event_loop, "room to be used", || {
            served.accepted() == accepted
        });
        settle(&mut event_loop);
        assert_eq!(served.accepted(), accepted, "{ended} have ended");
        let left = peers.len() - ended;
        assert_eq!(served.server.connection_count(), left.min(MOST));
        if left > MOST {
            let accepts = event_loop.handle().stats().accepts;
            assert_eq!(accepts, accepted as u64, "none found the backlog empty");
        }
        peers[ended].expect(&mut event_loop, 5);
        peers[ended].close();
        let log = served.log(ended);
        drive(&mut event_loop, "the end", || log.is_lost());
    }
    assert_eq!(served.server.refused_count(), 0);
    assert!(served.server.is_accepting());
}

each_kind!(a_server_at_its_maximum_sleeps_while_peers_wait);
fn a_server_at_its_maximum_sleeps_while_peers_wait(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), limited(kind, &dir, 1));
    let _in: [Peer; 1] = served.connect(&mut event_loop);
    let _waiting: [Peer; 3] = std::array::from_fn(|_| connect(&served.server, 0));
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    // This timer is the only thing that wakes the loop.
    let woken = Rc::new(Cell::new(false));
    let wake = woken.clone();
    event_loop
        .handle()
        .call_later(Duration::from_millis(50), move |_| wake.set(true));
    while !woken.get() {
        event_loop.run_once(None).unwrap();
    }
    let after = event_loop.handle().stats();
    assert!(after.polls - before.polls <= 3, "{after:#?}");
    assert_eq!(after.accepts, before.accepts);
    assert_eq!(served.accepted(), 1);
}

each_kind!(no_connection_is_made_above_the_maximum_when_all_end_at_once);
fn no_connection_is_made_above_the_maximum_when_all_end_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let own: Rc<RefCell<Option<Server>>> = Rc::default();
    let (made, highest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (held, count, seen) = (own.clone(), made.clone(), highest.clone());
    let server = event_loop
        .handle()
        .create_server(limited(kind, &dir, 3), move || {
            let (held, count, seen) = (held.clone(), count.clone(), seen.clone());
            Recorder::new(&Log::new()).on_made(move |transport| {
                let server = held.borrow();
                let now = server.as_ref().unwrap().connection_count();
                seen.set(seen.get().max(now));
                count.set(count.get() + 1);
                // Some end in the call that made them, some in a later tick.
                if count.get() % 4 == 0 {
                    transport.abort();
                } else {
                    let made = transport.clone();
                    transport.handle().call_soon(move |_| made.close());
                }
                Ok(())
            })
        })
        .unwrap();
    own.replace(Some(server.clone()));
    let mut peers: Vec<_> = (0..150).map(|_| connect(&server, 0)).collect();
    for peer in &mut peers {
        peer.expect_end(&mut event_loop);
        peer.close();
    }
    assert_eq!(made.get(), peers.len());
    assert!((1..=3).contains(&highest.get()), "{}", highest.get());
    own.take();
}

each_kind!(a_socket_that_lingers_counts_until_it_is_closed);
fn a_socket_that_lingers_counts_until_it_is_closed(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let limits = tidegate::LingerLimits::new().with_time(Duration::MAX);
    let options = limited(kind, &dir, 1).linger_limits(limits);
    let served = Served::echo(event_loop.handle(), options);
    let [mut first] = served.connect(&mut event_loop);
    let _second = connect(&served.server, 0);
    served.transport(0).close();
    let log = served.log(0);
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.lingering, served.server.connection_count()), (1, 0));
    assert_eq!((served.accepted(), stats.accepts), (1, 1));
    first.close();
    drive(&mut event_loop, "the second", || served.accepted() == 2);
}

#[test]
fn of_several_addresses_with_waiting_peers_each_has_its_turn() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new(["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]);
    let served = Served::echo(event_loop.handle(), options.max_connections(1));
    let _peers: Vec<_> = (0..12).map(|n| connect(&served.server, n % 3)).collect();
    let mut turns = vec![];
    for n in 0..12 {
        drive(&mut event_loop, "the next", || served.accepted() > n);
        settle(&mut event_loop);
        assert_eq!(served.accepted(), n + 1);
        turns.push(served.transport(n).local_addr().clone());
        served.transport(n).abort();
        tick(&mut event_loop);
    }
    for (n, addr) in served.server.local_addrs().iter().enumerate() {
        let early = turns[..6].iter().filter(|turn| **turn == *addr).count();
        assert!((1..=3).contains(&early), "address {n}: {turns:?}");
    }
}

#[test]
fn the_maximum_is_of_one_server_and_of_its_pauses_too() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = || ListenOptions::new("127.0.0.1:0").max_connections(1);
    let served = Served::echo(event_loop.handle(), options());
    let other = Served::echo(event_loop.handle(), options());
    let [_first] = served.connect(&mut event_loop);
    let [_others] = other.connect(&mut event_loop);
    let mut second = connect(&served.server, 0);
    second.send(b"early");
    // Resuming does not lift the maximum, and room does not lift a pause.
    served.server.pause_accepting();
    served.server.resume_accepting();
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 1);
    served.server.pause_accepting();
    served.transport(0).abort();
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 1);
    served.server.resume_accepting();
    second.expect(&mut event_loop, 5);
}

#[test]
fn a_maximum_of_zero_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").max_connections(0);
    let handle = event_loop.handle();
    let created = handle.create_server(options, || Recorder::new(&Log::new()));
    let error = created.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("max_connections"), "{error}");
}
