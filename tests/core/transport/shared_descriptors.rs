//! Sockets of which a copy is open elsewhere (`try_clone`, a fork): closing ours neither ends the
//! connection nor takes it out of epoll(7), so both are done before.

use std::io::{ErrorKind, Result};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, Served, TempDir, assert_serves, drive, each_kind,
    never_paused, pattern, settle, stall,
};
use tidegate::{EventLoop, Handle, ListenOptions, Transport};

/// An adopted connection, the test's copy of its descriptor, and the peer.
struct Shared {
    event_loop: EventLoop,
    log: Log,
    transport: Transport,
    copy: OwnedFd,
    peer: Peer,
}

fn adopt(handle: &Handle, kind: Kind, fd: OwnedFd, recorder: Recorder) -> Result<Transport> {
    match kind {
        Kind::Tcp => handle.adopt(TcpStream::from(fd), recorder),
        Kind::Unix => handle.adopt(UnixStream::from(fd), recorder),
    }
}

fn shared_with(kind: Kind, make: impl FnOnce(Recorder) -> Recorder) -> Shared {
    let event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (ours, peer) = kind.pair(|_| {});
    let copy = ours.as_fd().try_clone_to_owned().unwrap();
    let recorder = make(Recorder::new(&log));
    let transport = adopt(event_loop.handle(), kind, ours.into(), recorder).unwrap();
    Shared {
        event_loop,
        log,
        transport,
        copy,
        peer,
    }
}

fn shared(kind: Kind) -> Shared {
    shared_with(kind, |recorder| recorder)
}

impl Shared {
    #[track_caller]
    fn expect_lost(&mut self) {
        drive(&mut self.event_loop, "lost", || self.log.is_lost());
    }

    /// The peer sends to the socket that the copy keeps open: the loop is told nothing of it.
    #[track_caller]
    fn expect_no_stale_events(&mut self) {
        for _ in 0..3 {
            // Refused where the connection was shut down.
            let _ = self.peer.try_write(b"to the copy");
            settle(&mut self.event_loop);
        }
        let stats = self.event_loop.handle().stats();
        assert_eq!((stats.stale_events, stats.connections), (0, 0), "{stats:?}");
    }

    /// The copy becomes a connection of the loop's, under the number that the first one had; a TCP
    /// connection may have ended for good.
    #[track_caller]
    fn expect_the_copy_to_be_adoptable(&mut self, kind: Kind) {
        let again = self.copy.try_clone().unwrap();
        let log = Log::new();
        let recorder = Recorder::new(&log);
        match adopt(self.event_loop.handle(), kind, again, recorder) {
            Ok(transport) => transport.abort(),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}"),
        }
        drive(&mut self.event_loop, "the copy to end", || log.is_lost());
        assert_eq!(log.words()[0], "made");
    }
}

fn the_peer_of_an_aborted_adopted_stream_sees_the_end_though_a_copy_is_open(kind: Kind) {
    let mut shared = shared(kind);
    settle(&mut shared.event_loop);
    shared.transport.abort();
    shared.expect_lost();
    shared.peer.expect_end(&mut shared.event_loop);
    assert!(shared.peer.saw_eof());
    shared.expect_the_copy_to_be_adoptable(kind);
    shared.expect_no_stale_events();
}
each_kind!(the_peer_of_an_aborted_adopted_stream_sees_the_end_though_a_copy_is_open);

fn the_peer_of_a_closed_adopted_stream_gets_every_byte_and_the_end_though_a_copy_is_open(
    kind: Kind,
) {
    let mut shared = shared(kind);
    stall(&mut shared.event_loop, never_paused(&shared.transport), MIB);
    shared.transport.close();
    let written = shared.transport.written() as usize;
    shared.peer.expect(&mut shared.event_loop, written);
    shared.peer.expect_end(&mut shared.event_loop);
    assert!(shared.peer.saw_eof());
    // The lingering ends with the peer's side.
    shared.peer.shutdown_write();
    let handle = shared.event_loop.handle().clone();
    drive(&mut shared.event_loop, "the end of lingering", || {
        handle.stats().lingering == 0
    });
    shared.expect_the_copy_to_be_adoptable(kind);
    shared.expect_no_stale_events();
}
each_kind!(the_peer_of_a_closed_adopted_stream_gets_every_byte_and_the_end_though_a_copy_is_open);

fn a_peer_that_ended_first_gets_the_answer_and_the_end_though_a_copy_is_open(kind: Kind) {
    let mut shared = shared_with(kind, |recorder| {
        recorder.on_data(|transport, data| {
            transport.write(data)?;
            Ok(())
        })
    });
    shared.peer.send(b"answer me");
    shared.peer.shutdown_write();
    shared.peer.expect_end(&mut shared.event_loop);
    assert!(shared.peer.saw_eof());
    assert_eq!(shared.peer.received(), b"answer me");
    shared.expect_lost();
    shared.expect_the_copy_to_be_adoptable(kind);
    shared.expect_no_stale_events();
}
each_kind!(a_peer_that_ended_first_gets_the_answer_and_the_end_though_a_copy_is_open);

fn the_peers_of_a_dropped_loop_see_the_end_though_a_copy_is_open(kind: Kind) {
    let mut shared = shared(kind);
    settle(&mut shared.event_loop);
    drop(shared.event_loop);
    let mut other = EventLoop::new().unwrap();
    shared.peer.expect_end(&mut other);
    assert!(shared.peer.saw_eof());
}
each_kind!(the_peers_of_a_dropped_loop_see_the_end_though_a_copy_is_open);

fn a_reset_adopted_stream_makes_no_stale_events_though_a_copy_is_open(kind: Kind) {
    let mut shared = shared(kind);
    settle(&mut shared.event_loop);
    shared.transport.reset();
    shared.expect_lost();
    shared.expect_the_copy_to_be_adoptable(kind);
    shared.expect_no_stale_events();
}
each_kind!(a_reset_adopted_stream_makes_no_stale_events_though_a_copy_is_open);

fn a_reset_behind_a_copy_reaches_the_peer_when_the_copy_is_closed(kind: Kind) {
    let mut shared = shared(kind);
    shared.transport.write(b"sent").unwrap();
    settle(&mut shared.event_loop);
    shared.transport.reset();
    shared.expect_lost();
    drop(shared.copy);
    shared.peer.expect_end(&mut shared.event_loop);
    match kind {
        Kind::Tcp => assert!(shared.peer.saw_error().is_some(), "{:?}", shared.peer),
        // It has none: the peer has seen an end already.
        Kind::Unix => assert!(shared.peer.is_ended()),
    }
}
each_kind!(a_reset_behind_a_copy_reaches_the_peer_when_the_copy_is_closed);

fn an_adopted_stream_without_a_copy_is_reset_without_an_end_before(kind: Kind) {
    for _ in 0..100 {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        transport.write(b"sent").unwrap();
        settle(&mut event_loop);
        transport.reset();
        drive(&mut event_loop, "lost", || log.is_lost());
        peer.expect_end(&mut event_loop);
        if kind == Kind::Tcp {
            let reset = Some(ErrorKind::ConnectionReset);
            assert_eq!(peer.saw_error(), reset, "{peer:?}");
        }
    }
}
each_kind!(an_adopted_stream_without_a_copy_is_reset_without_an_end_before);

/// A listener of the standard library and a copy of it, both of which make options.
fn listener(kind: Kind, dir: &TempDir) -> (ListenOptions, impl FnOnce() -> ListenOptions) {
    match kind {
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let copy = listener.try_clone().unwrap();
            let options: Box<dyn FnOnce() -> ListenOptions> = Box::new(|| copy.into());
            (listener.into(), options)
        }
        Kind::Unix => {
            let listener = UnixListener::bind(dir.path("listener")).unwrap();
            let copy = listener.try_clone().unwrap();
            let options: Box<dyn FnOnce() -> ListenOptions> = Box::new(|| copy.into());
            (listener.into(), options)
        }
    }
}

fn a_copy_of_a_closed_servers_listener_makes_the_next_server(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (first, copy) = listener(kind, &dir);
    let served = Served::echo(event_loop.handle(), first);
    let address = served.address();
    assert_serves(&mut event_loop, &address);
    served.server.close();
    settle(&mut event_loop);

    // It waits in the backlog that both have, and the loop is told nothing of it.
    let mut waiting = Peer::connect(&address);
    waiting.send(b"patience");
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.stale_events, stats.listeners), (0, 0), "{stats:?}");

    let _again = Served::echo(event_loop.handle(), copy());
    waiting.expect(&mut event_loop, 8);
    assert_serves(&mut event_loop, &address);
    assert_eq!(event_loop.handle().stats().stale_events, 0);
}
each_kind!(a_copy_of_a_closed_servers_listener_makes_the_next_server);

fn a_socket_of_the_loops_own_is_registered_once_and_never_deregistered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let mut peer = Peer::connect(&served.address());
    peer.send(&pattern(0, 100));
    peer.expect(&mut event_loop, 100);
    peer.close();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the end", || {
        handle.stats().connections == 0
    });
    let registrations = event_loop.handle().stats().registrations;
    assert_eq!(registrations, 2, "a listener and a connection");
    served.server.close();
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().registrations, registrations);
}
each_kind!(a_socket_of_the_loops_own_is_registered_once_and_never_deregistered);
