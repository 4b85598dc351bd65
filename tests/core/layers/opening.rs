//! L1 to L6: how layers open, and what a connection is until then.

use support::seal::{Said, Seal, end_of_seal, hello, sealed, unsealed};
use support::{Kind, Log, Peer, Recorder, Scene, Served, TempDir, drive, each_kind, pattern};
use tidegate::{ConnectOptions, EventLoop, ListenOptions};

fn said(peer: &mut Peer) -> Vec<Said> {
    peer.read_available();
    unsealed(peer.received())
}

/// Runs the loop until the peer has this from it, and nothing else.
#[track_caller]
fn expect_said(event_loop: &mut EventLoop, peer: &mut Peer, expected: &[Said]) {
    let mut last = Vec::new();
    drive(event_loop, &format!("{expected:?} at the peer"), || {
        last = said(peer);
        last == expected
    });
}

fn a_server_is_made_when_its_layer_is_open(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let options = ListenOptions::new(kind.somewhere(&dir)).layer(Seal::server);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    drive(&mut event_loop, "the connection", || {
        served.server.connection_count() == 1
    });
    assert_eq!(served.accepted(), 0);
    peer.send(&hello());
    drive(&mut event_loop, "connection_made", || {
        served.accepted() == 1
    });
    peer.send(&sealed(b"hello"));
    let reply = [Said::Hello, Said::Data(b"hello".to_vec())];
    expect_said(&mut event_loop, &mut peer, &reply);
    peer.send(&end_of_seal());
    drive(&mut event_loop, "the end", || served.log(0).is_lost());
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    let all = [Said::Hello, Said::Data(b"hello".to_vec()), Said::End];
    assert_eq!(said(&mut peer), all);
    assert_eq!(served.log(0).words(), ["made", "data", "eof", "lost"]);
    assert_eq!(served.log(0).reason(), "peer-eof");
}
each_kind!(a_server_is_made_when_its_layer_is_open);

fn a_connect_completes_when_its_layer_is_open(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    let log = Log::new();
    let options = ConnectOptions::new(&address).layer(Seal::client());
    let recorder = Recorder::new(&log);
    let completion = event_loop.handle().create_connection(options, recorder);
    let mut peer = Peer::new(listener.accept().unwrap().0);
    expect_said(&mut event_loop, &mut peer, &[Said::Hello]);
    assert!(!completion.is_ready());
    assert_eq!(log.words(), [""; 0]);
    peer.send(&hello());
    let transport = event_loop.run_until(completion).unwrap();
    assert_eq!(log.words(), ["made"]);
    let data = pattern(0, 300_000);
    transport.write(&data).unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    let all = [Said::Hello, Said::Data(data), Said::End];
    assert_eq!(said(&mut peer), all);
    assert_eq!((transport.sent(), transport.written()), (300_000, 300_000));
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}
each_kind!(a_connect_completes_when_its_layer_is_open);

fn a_pushed_layer_opens_behind_what_was_written(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    transport.write(b"plain").unwrap();
    let pushed = transport.push_layer(Seal::server(), b"");
    transport.write(b"secret").unwrap();
    peer.expect(&mut event_loop, 5);
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    peer.send(&sealed(b"reply"));
    drive(&mut event_loop, "the reply", || log.data() == b"reply");
    peer.read_available();
    assert_eq!(&peer.received()[..5], b"plain");
    let behind = [Said::Hello, Said::Data(b"secret".to_vec())];
    assert_eq!(unsealed(&peer.received()[5..]), behind);
}
each_kind!(a_pushed_layer_opens_behind_what_was_written);
