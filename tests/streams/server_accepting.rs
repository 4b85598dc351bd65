//! Servers of tasks that pause accepting, refuse peers, and end with a backlog.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Peer, TempDir, answer_of, assert_refused, drive, each_kind, failures, settle};
use tidegate::{EventLoop, ListenOptions, Result};
use tidegate_streams::{StreamReader, StreamServer, StreamWriter, start_server_on};

const LONG: Duration = Duration::from_secs(3600);

/// More than are accepted in a tick.
const WAITING: usize = 150;

/// A server that sends each line back, and the number of its handlers so far.
fn lines(
    event_loop: &EventLoop,
    options: impl Into<ListenOptions>,
) -> (StreamServer, Rc<Cell<usize>>) {
    let begun = Rc::new(Cell::new(0));
    let counted = begun.clone();
    let handler = async move |mut reader: StreamReader, writer: StreamWriter| -> Result {
        counted.set(counted.get() + 1);
        let line = reader.read_line().await?;
        writer.write_all(&line).await?;
        Ok(())
    };
    let server = start_server_on(event_loop.handle(), options, handler);
    (server.unwrap(), begun)
}

fn waiting(server: &StreamServer, n: usize) -> Vec<Peer> {
    let connect = |_| {
        let mut peer = Peer::connect(&server.local_addrs()[0]);
        peer.send(b"hello\n");
        peer
    };
    (0..n).map(connect).collect()
}

fn assert_served(event_loop: &mut EventLoop, peers: &mut [Peer]) {
    for peer in peers {
        peer.expect_end(event_loop);
        assert_eq!(peer.received(), b"hello\n", "{:?}", peer.saw_error());
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        peer.close();
    }
}

each_kind!(a_paused_server_starts_no_handler_until_it_resumes);
fn a_paused_server_starts_no_handler_until_it_resumes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (server, begun) = lines(&event_loop, kind.somewhere(&dir));
    assert!(server.is_accepting());
    server.pause_accepting();
    assert!(server.is_serving() && !server.is_accepting());
    let mut peers = waiting(&server, 3);
    settle(&mut event_loop);
    assert_eq!((server.connection_count(), begun.get()), (0, 0));
    server.resume_accepting();
    assert_served(&mut event_loop, &mut peers);
    assert_eq!(begun.get(), 3);
}

#[test]
fn accept_if_refuses_a_peer_before_a_handler_starts() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let turn = Cell::new(0);
    let options = ListenOptions::new("127.0.0.1:0").accept_if(move |peer| {
        turn.set(turn.get() + 1);
        peer.as_inet().is_some() && turn.get() % 2 == 0
    });
    let (server, begun) = lines(&event_loop, options);
    let mut peers = waiting(&server, 4);
    for peer in &mut peers {
        peer.expect_end(&mut event_loop);
    }
    let reset = |peer: &&Peer| peer.saw_error() == Some(io::ErrorKind::ConnectionReset);
    assert_eq!(peers.iter().filter(reset).count(), 2);
    let served = peers.iter().filter(|peer| peer.received() == b"hello\n");
    assert_eq!(served.count(), 2);
    assert_eq!((server.refused_count(), begun.get()), (2, 2));
    assert!(
        told.borrow().is_empty(),
        "a refusal is no failure: {told:?}"
    );
}

each_kind!(a_shutdown_serves_the_backlog_as_the_others);
fn a_shutdown_serves_the_backlog_as_the_others(kind: Kind) {
    for paused in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let dir = TempDir::new();
        let (server, begun) = lines(&event_loop, kind.somewhere(&dir));
        if paused {
            server.pause_accepting();
        }
        let mut late = waiting(&server, WAITING);
        let answer = answer_of(server.shutdown(LONG));
        assert!(!server.is_serving());
        assert_refused(&server.local_addrs()[0]);
        assert_eq!(begun.get(), 0, "no handler runs within a call");
        assert_served(&mut event_loop, &mut late);
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        let report = answer.borrow().unwrap();
        assert_eq!((report.closed, report.aborted), (WAITING, 0));
        assert_eq!((report.unsent, report.from_backlog), (0, WAITING));
        // Of those that overlap, each has the same report.
        let again = event_loop.run_until(server.shutdown(LONG)).unwrap();
        assert_eq!(again, report);
        assert_eq!(begun.get(), WAITING);
        assert!(told.borrow().is_empty(), "{told:?}");
    }
}

each_kind!(handlers_of_the_backlog_that_outlast_the_grace_are_cut_and_counted_as_aborted);
fn handlers_of_the_backlog_that_outlast_the_grace_are_cut_and_counted_as_aborted(kind: Kind) {
    for grace in [Duration::ZERO, Duration::from_millis(20)] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let begun = Rc::new(Cell::new(0));
        let counted = begun.clone();
        let handler = async move |_reader, _writer| -> Result {
            counted.set(counted.get() + 1);
            pending::<()>().await;
            Ok(())
        };
        let at = kind.somewhere(&dir);
        let server = start_server_on(event_loop.handle(), at, handler).unwrap();
        let late = waiting(&server, WAITING);
        let answer = answer_of(server.shutdown(grace));
        drive(&mut event_loop, "the shutdown", || {
            answer.borrow().is_some()
        });
        let report = answer.borrow().unwrap();
        assert_eq!((report.closed, report.aborted), (0, WAITING));
        assert_eq!(report.from_backlog, WAITING);
        assert_eq!(server.connection_count(), 0);
        drop(late);
    }
}

#[test]
fn finish_accepting_gives_each_of_the_backlog_its_handler() {
    let mut event_loop = EventLoop::new().unwrap();
    let (server, begun) = lines(&event_loop, "127.0.0.1:0");
    let mut late = waiting(&server, WAITING);
    let number = event_loop.run_until(server.finish_accepting()).unwrap();
    assert_eq!(number, WAITING);
    assert!(!server.is_serving());
    assert_served(&mut event_loop, &mut late);
    assert_eq!(begun.get(), WAITING);
}
