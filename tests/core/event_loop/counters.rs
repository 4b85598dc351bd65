//! The counters of the loop.

use std::cell::RefCell;
use std::rc::Rc;
use support::{BOUND, Kind, Log, Peer, Recorder, Scene, TempDir, drive, each_kind, settle};
use tidegate::{EventLoop, WriteLimits};

each_kind!(the_counters_count_what_happened);
fn the_counters_count_what_happened(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("s").display()),
    };
    let log = Log::new();
    let echo = log.clone();
    let server = handle.create_server(at, move || Recorder::echo(&echo));
    let mut peer = Peer::connect(&server.unwrap().local_addrs()[0]);
    drive(&mut event_loop, "the accept", || log.words() == ["made"]);
    settle(&mut event_loop);
    let before = handle.stats();
    assert_eq!((before.listeners, before.connections), (1, 1));
    // One told of the connection, one that there is no other.
    assert_eq!(before.accepts, 2);
    assert_eq!(before.registrations, 2, "one for each socket");

    peer.send(b"hello");
    peer.expect(&mut event_loop, 5);
    let after = handle.stats();
    assert_eq!(after.bytes_received - before.bytes_received, 5);
    assert_eq!(after.bytes_sent - before.bytes_sent, 5);
    assert_eq!(after.reads - before.reads, 1);
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.registrations, before.registrations);
    assert!(after.events > before.events);
    assert!(after.polls > before.polls);
    // The factory, connection_made; then data_received.
    assert_eq!((before.callbacks, after.callbacks), (2, 3));

    let (completer, completion) = handle.completion::<()>();
    let timer = handle.call_later(BOUND, |_| {});
    let now = handle.stats();
    assert_eq!((now.timers, now.completions), (1, 1));
    timer.cancel();
    drop((completer, completion));
    let now = handle.stats();
    assert_eq!((now.timers, now.completions), (0, 0));
    assert_eq!(now.stale_events, 0);
}

each_kind!(the_counters_tell_the_stages_of_a_connection);
fn the_counters_tell_the_stages_of_a_connection(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let connect = handle.create_connection(&address, Recorder::new(&Log::new()));
    assert_eq!(handle.stats().connecting, 1);
    let transport = event_loop.run_until(connect).unwrap();
    let mut peer = Peer::new(listener.accept().unwrap().0);
    let now = handle.stats();
    assert_eq!((now.connecting, now.connections), (0, 1));
    assert_eq!(now.registrations, 1, "none when the connect had won");

    transport
        .set_write_limits(WriteLimits::new().with_high(1000))
        .unwrap();
    while !transport.write(&[0; 100_000]).unwrap().is_paused() {}
    settle(&mut event_loop);
    let now = handle.stats();
    assert_eq!((now.pauses, now.resumes), (1, 0));
    let total = transport.written();
    peer.expect(&mut event_loop, total as usize);
    settle(&mut event_loop);
    let now = handle.stats();
    assert_eq!((now.pauses, now.resumes), (1, 1));
    assert_eq!(now.bytes_sent, total);

    transport.close();
    settle(&mut event_loop);
    let now = handle.stats();
    assert_eq!((now.connections, now.lingering), (0, 1));
    peer.close();
    drive(&mut event_loop, "the end", || handle.stats().lingering == 0);
    assert_eq!(handle.stats().timers, 0);
}

#[test]
fn an_event_for_a_connect_that_was_given_up_is_counted_as_stale() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    // Both connects are decided in one poll; whichever comes first gives up the other.
    let (listener, address) = Kind::Tcp.listen(&TempDir::new());
    let other = Rc::new(RefCell::new(Vec::new()));
    for _ in 0..2 {
        let pending = other.clone();
        let protocol = Recorder::new(&Log::new()).on_made(move |_| {
            pending.borrow_mut().clear();
            Ok(())
        });
        let connect = handle.create_connection(&address, protocol);
        other.borrow_mut().push(connect);
    }
    let accepted = [listener.accept().unwrap(), listener.accept().unwrap()];
    settle(&mut event_loop);
    assert_eq!(handle.stats().stale_events, 1);
    drop(accepted);
    let (_transport, _peer) = Scene::of(Kind::Tcp)
        .connected()
        .on(&mut event_loop, Recorder::new(&Log::new()));
    assert_eq!(handle.stats().stale_events, 1);
}
