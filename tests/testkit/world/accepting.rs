//! Servers of a simulated world that pause accepting, refuse peers, and end with a backlog.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder};
use tidegate::{Address, ListenOptions, Server, ShutdownReport};
use tidegate_streams::{StreamReader, StreamWriter, start_server_on};
use tidegate_testkit::{Fault, Host, Peer, World};

const GRACE: Duration = Duration::from_secs(5);

/// More than are accepted in a tick.
const WAITING: usize = 100;

/// A server that greets each peer in `connection_made`.
fn greeting_server(host: &Host, options: impl Into<ListenOptions>) -> Server {
    let factory = || {
        Recorder::echo(&Log::new()).on_made(|transport| {
            transport.write(b"hello")?;
            Ok(())
        })
    };
    host.handle().create_server(options, factory).unwrap()
}

/// Peers that have connected; nothing else has happened since.
fn dial(world: &mut World, host: &Host, n: usize) -> Vec<Peer> {
    let dial = |_| world.network().dial(host.addr(7)).unwrap();
    let peers: Vec<_> = (0..n).map(dial).collect();
    world.run_until_idle().unwrap();
    peers
}

#[test]
fn a_paused_server_leaves_connects_to_the_backlog_and_serves_them_later() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let server = greeting_server(&host, host.addr(7));
    server.pause_accepting();
    let peers = dial(&mut world, &host, WAITING);
    for peer in &peers {
        assert!(peer.connected().unwrap() && peer.take().is_empty());
    }
    assert_eq!(
        (host.handle().stats().accepts, server.connection_count()),
        (0, 0)
    );
    server.resume_accepting();
    world.run_until_idle().unwrap();
    assert!(peers.iter().all(|peer| peer.take() == b"hello"));
}

#[test]
fn a_refused_peer_is_reset_and_the_next_one_served() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let refused: Rc<RefCell<Vec<Address>>> = Rc::default();
    let seen = refused.clone();
    let options = ListenOptions::new(host.addr(7)).accept_if(move |peer| {
        seen.borrow_mut().push(peer.clone());
        seen.borrow().len() > 1
    });
    let server = greeting_server(&host, options);
    let peers = dial(&mut world, &host, 2);
    assert!(peers[0].is_reset() && peers[0].take().is_empty());
    assert_eq!(peers[1].take(), b"hello");
    assert_eq!(server.refused_count(), 1);
    let local = peers[0].local_addr().map(Address::Inet);
    assert_eq!(Some(refused.borrow()[0].clone()), local);
    assert_eq!(world.network().descriptors(&host), 2);
}

#[test]
fn a_shutdown_serves_the_backlog_and_a_close_resets_it() {
    for shut_down in [true, false] {
        let mut world = World::new();
        let host = world.add_host("host").unwrap();
        let server = greeting_server(&host, host.addr(7));
        server.pause_accepting();
        let peers = dial(&mut world, &host, WAITING);
        if !shut_down {
            server.close();
            world.run_until_idle().unwrap();
            assert!(peers.iter().all(Peer::is_reset));
            continue;
        }
        let report = world.run_until(server.shutdown(GRACE)).unwrap();
        assert_eq!((report.closed, report.aborted), (WAITING, 0));
        assert_eq!(report.from_backlog, WAITING);
        world.run_until_idle().unwrap();
        for peer in &peers {
            assert_eq!(peer.take(), b"hello");
            assert!(peer.is_ended() && !peer.is_reset());
        }
    }
}

#[test]
fn handlers_serve_the_backlog_within_the_grace() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let handler = async |mut reader: StreamReader, writer: StreamWriter| {
        let line = reader.read_line().await?;
        writer.write_all(&line).await?;
        Ok(())
    };
    let server = start_server_on(host.handle(), host.addr(7), handler).unwrap();
    server.pause_accepting();
    let peers = dial(&mut world, &host, 3);
    let report: Rc<Cell<Option<ShutdownReport>>> = Rc::default();
    let told = report.clone();
    let shutdown = server.shutdown(GRACE);
    shutdown.then(move |_, result| told.set(result.ok()));
    world.advance(GRACE / 2).unwrap();
    // Of those that wait for their handler, the last says nothing within the grace.
    for peer in &peers[..2] {
        peer.send(b"late\n").unwrap();
    }
    world.run_until_idle().unwrap();
    let report = report.get().unwrap();
    assert_eq!((report.closed, report.aborted), (2, 1));
    assert_eq!(report.from_backlog, 3);
    assert!(peers[..2].iter().all(|peer| peer.take() == b"late\n"));
    assert!(peers[2].take().is_empty());
    assert!(world.elapsed() >= GRACE);
}

#[test]
fn a_connection_of_the_backlog_that_was_aborted_does_not_end_the_taking() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let server = greeting_server(&host, host.addr(7));
    server.pause_accepting();
    let peers = dial(&mut world, &host, 3);
    world.network().force(Fault::AcceptAborted, 1);
    world.network().force(Fault::Interrupted, 1);
    let report = world.run_until(server.shutdown(GRACE)).unwrap();
    assert_eq!((report.closed, report.from_backlog), (2, 2));
    world.run_until_idle().unwrap();
    let greeted = peers.iter().filter(|peer| peer.take() == b"hello");
    assert_eq!(greeted.count(), 2);
    assert_eq!(world.network().descriptors(&host), 0);
}
