//! The process at the other end of a Unix socket.

use rustix::process::{getegid, geteuid};
use std::io::ErrorKind;
use support::{Kind, Log, Recorder, Scene, Served, TempDir, drive};
use tidegate::{Closed, EventLoop, PeerCredentials, Transport};
use tidegate_testkit::World;

#[track_caller]
fn assert_ours(credentials: PeerCredentials) {
    assert_eq!(credentials.pid, Some(std::process::id() as i32));
    assert_eq!(credentials.uid, geteuid().as_raw());
    assert_eq!(credentials.gid, getegid().as_raw());
}

fn credentials(transport: &Transport) -> std::io::Result<PeerCredentials> {
    transport.peer_credentials()
}

#[test]
fn the_peer_of_a_unix_socket_is_known_on_either_side() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), Kind::Unix.somewhere(&dir));
    let connect = event_loop
        .handle()
        .create_connection(served.address(), Recorder::new(&Log::new()));
    let transport = event_loop.run_until(connect).unwrap();
    drive(&mut event_loop, "accepted", || served.accepted() == 1);
    let (_event_loop, _log, adopted, _peer) = Scene::of(Kind::Unix).set();
    for transport in [transport, served.transport(0), adopted] {
        assert_ours(credentials(&transport).unwrap());
    }
}

#[test]
fn the_peer_of_a_tcp_connection_is_not_known() {
    let (_event_loop, _log, transport, _peer) = Scene::of(Kind::Tcp).set();
    let error = credentials(&transport).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("Unix sockets"), "{error}");
}

#[test]
fn the_peer_of_a_simulated_connection_is_not_known() {
    let mut world = World::new();
    let server_host = world.add_host("server").unwrap();
    let host = world.add_host("client").unwrap();
    let served = Served::echo(server_host.handle(), server_host.addr(7));
    let connect = host
        .handle()
        .create_connection(server_host.addr(7), Recorder::new(&Log::new()));
    let transport = world.run_until(connect).unwrap();
    for transport in [transport, served.transport(0)] {
        let error = credentials(&transport).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn the_peer_of_an_ended_connection_is_not_known_any_more() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Unix).set();
    transport.abort();
    for _ in 0..2 {
        let error = credentials(&transport).unwrap_err();
        assert!(Closed::of(&error).is_some(), "{error:?}");
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}
