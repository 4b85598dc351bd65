//! Which peers a server accepts, and when: pauses, and refusals.

use log::{Level, LevelFilter};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use support::logs::{keep_log, logged};
use support::{
    Kind, Log, Peer, Recorder, Served, TempDir, answer_of, assert_refused, drive, each_kind,
    failures, settle, tick,
};
use tidegate::{Address, CloseReason, EventLoop, ListenOptions, LoopClosed, Server};

each_kind!(a_paused_server_accepts_nobody_and_serves_the_backlog_when_it_resumes);
fn a_paused_server_accepts_nobody_and_serves_the_backlog_when_it_resumes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let [mut before] = served.connect(&mut event_loop);
    settle(&mut event_loop);
    for round in 1..=2 {
        served.server.pause_accepting();
        let mut waiting: [Peer; 3] = std::array::from_fn(|_| Peer::connect(&served.address()));
        waiting.iter_mut().for_each(|peer| peer.send(b"early"));
        let accepts = event_loop.handle().stats().accepts;
        settle(&mut event_loop);
        assert_eq!(event_loop.handle().stats().accepts, accepts, "no attempt");
        assert!(!served.server.is_accepting() && served.server.is_serving());
        // Connections stay.
        before.send(b"on");
        before.expect(&mut event_loop, 2 * round);
        served.server.resume_accepting();
        assert!(served.server.is_accepting());
        // No further connect comes, so no further event.
        for peer in &mut waiting {
            peer.expect(&mut event_loop, 5);
            peer.close();
        }
        drive(&mut event_loop, "the others to end", || {
            served.server.connection_count() == 1
        });
    }
}

each_kind!(what_came_before_a_pause_and_during_it_is_served_in_one_go_afterwards);
fn what_came_before_a_pause_and_during_it_is_served_in_one_go_afterwards(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let own: Rc<RefCell<Option<Server>>> = Rc::default();
    let (held, calls) = (own.clone(), Rc::new(Cell::new(0)));
    let counted = calls.clone();
    // Pauses in the middle of a tick's share, and of what is left over of it.
    let server = event_loop
        .handle()
        .create_server(kind.somewhere(&dir), move || {
            counted.set(counted.get() + 1);
            if [3, 70].contains(&counted.get()) {
                held.borrow().as_ref().unwrap().pause_accepting();
            }
            Recorder::echo(&Log::new())
        });
    let server = server.unwrap();
    own.replace(Some(server.clone()));
    let peers: Vec<_> = (0..150)
        .map(|_| Peer::connect(&server.local_addrs()[0]))
        .collect();
    for stop in [3, 70] {
        drive(&mut event_loop, "a pause", || !server.is_accepting());
        settle(&mut event_loop);
        assert_eq!(calls.get(), stop);
        server.resume_accepting();
        assert_eq!(calls.get(), stop, "no factory runs within a call");
    }
    drive(&mut event_loop, "the rest", || calls.get() == peers.len());
    own.take();
}

#[test]
fn pausing_and_resuming_are_idempotent_and_cost_no_system_call() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    for _ in 0..3 {
        served.server.resume_accepting();
        assert!(served.server.is_accepting());
    }
    for _ in 0..3 {
        served.server.pause_accepting();
        served.server.pause_accepting();
        assert!(!served.server.is_accepting());
        served.server.resume_accepting();
        served.server.resume_accepting();
        assert!(served.server.is_accepting());
    }
    tick(&mut event_loop);
    let mut after = event_loop.handle().stats();
    after.polls = before.polls;
    assert_eq!(after, before, "nothing came, so nobody asked for it");
    let _ = served.connect::<1>(&mut event_loop);
}

#[test]
fn a_server_that_does_not_listen_yet_is_paused_when_it_does_and_a_closed_one_never_is() {
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").start_serving(false);
    let served = Served::echo(event_loop.handle(), options);
    assert!(!served.server.is_accepting());
    served.server.pause_accepting();
    assert_refused(&served.address());
    served.server.start_serving().unwrap();
    assert!(served.server.is_serving() && !served.server.is_accepting());
    let mut peer = Peer::connect(&served.address());
    settle(&mut event_loop);
    assert_eq!(served.accepted(), 0);
    served.server.resume_accepting();
    drive(&mut event_loop, "accepted", || served.accepted() == 1);
    served.server.close();
    for _ in 0..2 {
        served.server.pause_accepting();
        served.server.resume_accepting();
        assert!(!served.server.is_accepting());
    }
    peer.send(b"still");
    peer.expect(&mut event_loop, 5);
}

#[test]
fn a_server_closed_in_its_pause_ends_without_its_backlog() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    served.server.pause_accepting();
    let mut lost = Peer::connect(&served.address());
    settle(&mut event_loop);
    served.server.close();
    lost.expect_end(&mut event_loop);
    assert_eq!(lost.saw_error(), Some(io::ErrorKind::ConnectionReset));
    event_loop.run_until(served.server.wait_closed()).unwrap();
    assert_eq!(served.accepted(), 0);
}

/// Peers that were refused: the first has sent something, the second has not.
fn assert_turned_away(event_loop: &mut EventLoop, kind: Kind, peers: &mut [Peer; 2]) {
    peers[0].send(b"hello?");
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.expect_end(event_loop);
        assert_eq!(peer.received(), b"");
        match kind {
            Kind::Tcp => assert_eq!(peer.saw_error(), Some(io::ErrorKind::ConnectionReset)),
            // The kernel resets for what was not read.
            Kind::Unix => assert!(peer.saw_eof() || n == 0),
        }
    }
}

each_kind!(accept_if_refuses_a_peer_before_the_factory_and_counts_it);
fn accept_if_refuses_a_peer_before_the_factory_and_counts_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let (open, asked) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
    let (admits, counted) = (open.clone(), asked.clone());
    let options = ListenOptions::new(kind.somewhere(&dir)).accept_if(move |peer: &Address| {
        counted.set(counted.get() + 1);
        let inet = peer.as_inet().map(|addr| addr.ip().is_loopback());
        assert_eq!(inet, (kind == Kind::Tcp).then_some(true));
        admits.get()
    });
    let served = Served::echo(event_loop.handle(), options);
    let mut refused = [(); 2].map(|()| Peer::connect(&served.address()));
    assert_turned_away(&mut event_loop, kind, &mut refused);
    assert_eq!((served.accepted(), asked.get()), (0, 2));
    assert_eq!(served.server.refused_count(), 2);
    open.set(true);
    let _ = served.connect::<1>(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.refused, stats.connections), (2, 1));
    assert_eq!(served.server.refused_count(), 2);
    assert!(told.borrow().is_empty(), "a refusal is no failure");
}

each_kind!(a_factory_with_the_address_makes_the_protocol_for_it_or_refuses);
fn a_factory_with_the_address_makes_the_protocol_for_it_or_refuses(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let dir = TempDir::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let peers = seen.clone();
    let factory = move |peer: &Address| {
        peers.borrow_mut().push(peer.clone());
        let own = peer.clone();
        (peers.borrow().len() > 2).then(|| {
            Recorder::echo(&Log::new()).on_made(move |transport| {
                assert_eq!(*transport.peer_addr(), own);
                Ok(())
            })
        })
    };
    let at = kind.somewhere(&dir);
    let server = event_loop.handle().create_server_with(at, factory);
    let server = server.unwrap();
    let address = &server.local_addrs()[0];
    let mut refused = [(); 2].map(|()| Peer::connect(address));
    assert_turned_away(&mut event_loop, kind, &mut refused);
    assert_eq!(server.refused_count(), 2);
    let mut admitted = Peer::connect(address);
    let own = admitted.as_sock().local_addr().unwrap();
    admitted.send(b"hello");
    admitted.expect(&mut event_loop, 5);
    let own = own.as_socket().map_or(Address::Unnamed, Address::Inet);
    assert_eq!(seen.borrow()[2], own);
    assert!(told.borrow().is_empty(), "{told:?}");
}

#[test]
fn refusals_are_logged_at_debug_ten_a_second() {
    keep_log(LevelFilter::Debug);
    let mut event_loop = EventLoop::new().unwrap();
    let options = ListenOptions::new("127.0.0.1:0").accept_if(|_| false);
    let served = Served::echo(event_loop.handle(), options);
    let peers: Vec<_> = (0..40).map(|_| Peer::connect(&served.address())).collect();
    drive(&mut event_loop, "refusals", || {
        served.server.refused_count() == peers.len() as u64
    });
    let lines = logged();
    let of_peers = lines.iter().filter(|line| line.text.starts_with("refused"));
    let of_peers: Vec<_> = of_peers.collect();
    // Twice ten when a second has passed in the middle.
    assert!([10, 20].contains(&of_peers.len()), "{lines:#?}");
    for line in of_peers {
        assert_eq!(line.level, Level::Debug);
        assert_eq!(line.target, "tidegate::server");
        let addr = line.text.trim_start_matches("refused ");
        addr.parse::<SocketAddr>().unwrap();
    }
}

#[test]
fn a_panic_of_accept_if_or_the_factory_ends_one_connection_and_is_no_refusal() {
    for in_filter in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let first = Rc::new(Cell::new(true));
        let (one, other) = (first.clone(), first);
        let options = ListenOptions::new("127.0.0.1:0").accept_if(move |_| {
            assert!(!in_filter || !one.replace(false), "on purpose");
            true
        });
        let server = event_loop.handle().create_server_with(options, move |_| {
            assert!(in_filter || !other.replace(false), "on purpose");
            Some(Recorder::echo(&Log::new()))
        });
        let server = server.unwrap();
        let address = &server.local_addrs()[0];
        Peer::connect(address).expect_end(&mut event_loop);
        support::assert_serves(&mut event_loop, address);
        assert_eq!(server.refused_count(), 0);
        let told = told.borrow();
        assert_eq!(told.len(), 1, "{told:?}");
        let text = told[0].to_string();
        let name = if in_filter { "accept_if" } else { "factory" };
        assert!(text.contains(name) && text.contains("on purpose"), "{text}");
        assert!(matches!(told[0].reason(), CloseReason::Panic(_)));
    }
}

#[test]
fn a_factory_may_close_the_server_and_refuse_at_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let own: Rc<RefCell<Option<Server>>> = Rc::default();
    let held = own.clone();
    let server = event_loop
        .handle()
        .create_server_with("127.0.0.1:0", move |_| {
            held.borrow().as_ref().unwrap().close();
            None::<Recorder>
        });
    let server = server.unwrap();
    own.replace(Some(server.clone()));
    let done = answer_of(server.wait_closed());
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "wait_closed", || done.borrow().is_some());
    assert_eq!(server.refused_count(), 1);
    own.take();
}

#[test]
fn accept_if_and_the_factory_are_dropped_by_the_loop_also_when_nothing_can_be_bound() {
    for address in ["127.0.0.1:0", "nonsense"] {
        let mut event_loop = EventLoop::new().unwrap();
        let held = Rc::new(());
        let (in_filter, in_factory) = (held.clone(), held.clone());
        let options =
            ListenOptions::new(address).accept_if(move |_| Rc::strong_count(&in_filter) > 0);
        let server = event_loop.handle().create_server_with(options, move |_| {
            drop(in_factory.clone());
            Some(Recorder::new(&Log::new()))
        });
        match &server {
            Ok(server) => server.close(),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidInput),
        }
        assert_eq!(
            Rc::strong_count(&held),
            3,
            "user values do not drop in calls"
        );
        settle(&mut event_loop);
        assert_eq!(Rc::strong_count(&held), 1);
    }
}

#[test]
fn a_server_whose_loop_is_gone_can_still_be_asked_everything() {
    let event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let _waits = TcpStream::connect(served.address().as_inet().unwrap()).unwrap();
    drop(event_loop);
    served.server.pause_accepting();
    served.server.resume_accepting();
    assert!(!served.server.is_accepting());
    assert_eq!(served.server.refused_count(), 0);
    drop(served.server.finish_accepting());
    let error = served.server.start_serving().unwrap_err();
    assert!(
        error
            .get_ref()
            .is_some_and(|error| error.is::<LoopClosed>())
    );
}
