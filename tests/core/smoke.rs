//! The first byte.

use support::{Kind, Log, Peer, Recorder, Scene, adopted, drive, each_kind, pattern, settle};
use tidegate::{EventLoop, WriteLimits};

each_kind!(an_echo_server_echoes_and_ends_with_its_peer);
fn an_echo_server_echoes_and_ends_with_its_peer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
    peer.send(b"hello");
    peer.expect(&mut event_loop, 5);
    assert_eq!(peer.received(), b"hello");
    peer.shutdown_write();
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.reason(), "peer-eof");
    assert!(transport.closed().unwrap().is_clean());
    assert_eq!(log.dropped(), 1);
}

each_kind!(sixteen_mebibytes_come_back_from_a_bulk_echo);
fn sixteen_mebibytes_come_back_from_a_bulk_echo(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let server_log = Log::new();
    let log = server_log.clone();
    let dir = support::TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("s").display()),
    };
    let server = event_loop
        .handle()
        .create_server(at, move || Recorder::echo(&log))
        .unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    let total = 16 << 20;
    let data = pattern(0, total);
    let mut sent = 0;
    drive(&mut event_loop, "the echo", || {
        sent += peer.write(&data[sent..]);
        peer.read_available();
        peer.received().len() == total
    });
    assert!(peer.received() == data);
    peer.close();
    drive(&mut event_loop, "lost", || server_log.is_lost());
    server.close();
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!(stats.connections + stats.listeners + stats.lingering, 0);
}

each_kind!(a_client_that_floods_a_stalled_peer_pauses_and_resumes);
fn a_client_that_floods_a_stalled_peer_pauses_and_resumes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind)
        .connected()
        .on(&mut event_loop, Recorder::new(&log));
    transport
        .set_write_limits(WriteLimits::new().with_high(1000))
        .unwrap();
    let mut total = 0;
    while !transport
        .write(&pattern(total, 100_000))
        .unwrap()
        .is_paused()
    {
        total += 100_000;
    }
    total += 100_000;
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause"]);
    peer.expect(&mut event_loop, total as usize);
    assert_eq!(peer.received(), pattern(0, total as usize));
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "resume"]);
    transport.close();
    peer.expect_end(&mut event_loop);
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}
