//! Connections that move between the loops of a simulated world.

use std::io;
use std::thread;
use support::{Log, Recorder};
use tidegate::EventLoop;
use tidegate_testkit::World;

#[test]
fn a_connection_moves_between_the_loops_of_a_world() {
    let mut world = World::new();
    let [first, second] = ["first", "second"].map(|name| world.add_host(name).unwrap());
    let given = std::rc::Rc::new(std::cell::RefCell::new(None));
    let into = given.clone();
    let accept = move |_: &tidegate::Handle, detached| {
        into.replace(Some(detached));
    };
    first.handle().accept_with(first.addr(7), accept).unwrap();
    let peer = world.network().dial(first.addr(7)).unwrap();
    world.run_until_idle().unwrap();
    peer.send(b"one, ").unwrap();
    let log = Log::new();
    let transport = second
        .handle()
        .attach(given.take().unwrap(), Recorder::echo(&log))
        .unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(peer.take(), b"one, ");
    let detached = world.run_until(transport.detach()).unwrap();
    peer.send(b"two").unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(log.data(), b"one, ");
    let log = Log::new();
    first
        .handle()
        .attach(detached, Recorder::echo(&log))
        .unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(peer.take(), b"two");
}

#[test]
fn a_simulated_connection_stays_on_its_thread_and_in_its_world() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let log = Log::new();
    let recorder = Recorder::echo(&log);
    let (transport, peer) = {
        let made = std::rc::Rc::new(std::cell::RefCell::new(None));
        let into = made.clone();
        let mut recorder = Some(recorder.on_made(move |transport| {
            into.replace(Some(transport.clone()));
            Ok(())
        }));
        let factory = move |_: &tidegate::Address| recorder.take();
        host.handle()
            .create_server_with(host.addr(7), factory)
            .unwrap();
        let peer = world.network().dial(host.addr(7)).unwrap();
        world.run_until_idle().unwrap();
        (made.take().unwrap(), peer)
    };
    let detached = world.run_until(transport.detach()).unwrap();
    let elsewhere = thread::spawn(move || {
        let event_loop = EventLoop::new().unwrap();
        let attached = event_loop
            .handle()
            .attach(detached, Recorder::echo(&Log::new()));
        let error = attached.unwrap_err();
        assert_eq!(error.error().kind(), io::ErrorKind::Unsupported);
        error.into_detached()
    });
    let detached = elsewhere.join().unwrap();
    let event_loop = EventLoop::new().unwrap();
    let attached = event_loop
        .handle()
        .attach(detached, Recorder::echo(&Log::new()));
    let error = attached.unwrap_err();
    assert_eq!(error.error().kind(), io::ErrorKind::InvalidInput);
    let log = Log::new();
    host.handle()
        .attach(error.into_detached(), Recorder::echo(&log))
        .unwrap();
    peer.send(b"back").unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(peer.take(), b"back");
}
