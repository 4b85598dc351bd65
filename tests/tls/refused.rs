//! Peers that do not speak TLS, or not well: closed with an alert, the others served.

use super::{assert_echoes, client_of, serve};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use support::{Authority, Kind, Log, Peer, Recorder, Served, adopted, drive, failures};
use tidegate::{Closed, ConnectOptions, EventLoop, Layer, ListenOptions};
use tidegate_tls::Tls;
use tidegate_tls::prelude::*;

/// A record of this type with this payload.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1, len[0], len[1]], payload].concat()
}

/// A ClientHello of this version that knows nothing newer.
pub(super) fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session, two cipher suites, no compression.
    body.extend([0, 0, 4, 0x00, 0x2f, 0xc0, 0x13, 1, 0]);
    let len = u8::try_from(body.len()).unwrap();
    record(22, &[&[1, 0, 0, len], &body[..]].concat())
}

/// The description in an alert that is not encrypted and fatal.
fn alert_of(wire: &[u8]) -> Option<u8> {
    match wire {
        [21, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

#[test]
fn what_is_no_tls_gets_an_alert_and_no_connection_and_the_others_are_served() {
    const DECODE_ERROR: u8 = 50;
    const HANDSHAKE_FAILURE: u8 = 40;
    const UNEXPECTED_MESSAGE: u8 = 10;
    for (what, sent, description) in [
        ("garbage", vec![0xff; 100], DECODE_ERROR),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            DECODE_ERROR,
        ),
        (
            "a long record",
            record(22, &[0; (1 << 14) + 257]),
            UNEXPECTED_MESSAGE,
        ),
        (
            "a record without end",
            vec![22, 3, 1, 0xff, 0xff],
            DECODE_ERROR,
        ),
        (
            "a message without end",
            record(22, &[1, 0xff, 0xff, 0xff, 3, 3]),
            DECODE_ERROR,
        ),
        ("an empty message", record(22, &[1, 0, 0, 0]), DECODE_ERROR),
        ("data first", record(23, b"data"), UNEXPECTED_MESSAGE),
        ("TLS 1.0", hello(1), HANDSHAKE_FAILURE),
        ("TLS 1.1", hello(2), HANDSHAKE_FAILURE),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let authority = Authority::new();
        let served = serve(&event_loop, authority.server());
        let mut client = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
        let mut peer = Peer::connect(&served.address());
        peer.send(&sent);
        peer.expect_end(&mut event_loop);
        assert_eq!(
            alert_of(peer.received()),
            Some(description),
            "{what}: {peer:?}"
        );
        assert!(peer.saw_eof(), "{what}: {peer:?}");
        // No callback at all.
        assert_eq!(
            (served.log(1).words().len(), served.log(1).dropped()),
            (0, 1)
        );
        assert_eq!(served.accepted(), 1);
        assert_echoes(&mut event_loop, &mut client);
        drive(&mut event_loop, "the lingering socket to go", || {
            served.server.connection_count() == 1
        });
    }
}

#[test]
fn early_data_is_refused_with_an_error_that_names_the_setting() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let (mut server, mut client) = (authority.server(), authority.client());
    server.max_early_data_size = 1024;
    client.enable_early_data = true;
    let (server, client) = (Arc::new(server), Arc::new(client));

    let options = ListenOptions::new("127.0.0.1:0").tls(server.clone());
    let refused = event_loop
        .handle()
        .create_server(options, || Recorder::new(&Log::new()));
    says(&refused.unwrap_err(), "max_early_data_size");

    let to = ConnectOptions::new("127.0.0.1:1").tls(client.clone());
    says(&to.validate().unwrap_err(), "enable_early_data");

    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::echo(&log));
    let refused = event_loop.run_until(transport.start_tls_server(server.clone(), b""));
    says(&refused.unwrap_err(), "max_early_data_size");
    let refused = event_loop.run_until(transport.start_tls_client(client, "localhost", b""));
    says(&refused.unwrap_err(), "enable_early_data");
    peer.send(b"plain");
    peer.expect(&mut event_loop, 5);
    assert_eq!(peer.received(), b"plain");

    // A layer of one's own has no other way to say it than the end of the connection.
    let pushed = event_loop.run_until(transport.push_layer(Tls::server(server), b""));
    let error = pushed.unwrap_err();
    says(&error, "max_early_data_size");
    assert!(Closed::of(&error).is_some());
}

#[track_caller]
fn says(error: &io::Error, word: &str) {
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("early data") && text.contains(word), "{text}");
}

#[test]
fn a_handshake_has_60_s_unless_it_is_told_otherwise() {
    let authority = Authority::new();
    let server = Tls::server(Arc::new(authority.server()));
    assert_eq!(server.open_limit(), Duration::from_secs(60));
    let name = "localhost".try_into().unwrap();
    let client = Tls::client(Arc::new(authority.client()), name);
    assert_eq!(client.open_limit(), Duration::from_secs(60));
    let client = client.handshake_timeout(Duration::from_secs(7));
    assert_eq!(client.open_limit(), Duration::from_secs(7));
}

#[test]
fn a_handshake_without_time_is_refused() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let reports = failures(event_loop.handle());
    let config = Arc::new(authority.server());
    let server = move || Tls::server(config.clone()).handshake_timeout(Duration::ZERO);
    let pushed = server();
    let options = ListenOptions::new("127.0.0.1:0").layer(server);
    let served = Served::echo(event_loop.handle(), options);
    let mut peer = Peer::connect(&served.address());
    peer.expect_end(&mut event_loop);
    assert_eq!(reports.borrow().len(), 1);
    assert_eq!(served.log(0).dropped(), 1);

    let name = "localhost".try_into().unwrap();
    let client = Tls::client(Arc::new(authority.client()), name);
    let to = ConnectOptions::new(served.address()).layer(client.handshake_timeout(Duration::ZERO));
    assert_eq!(
        to.validate().unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );

    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
    let refused = event_loop.run_until(transport.push_layer(pushed, b""));
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(transport.closed().is_none());
}

#[test]
fn two_hundred_half_handshakes_hold_up_nobody_and_end_when_their_time_is_over() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let config = Arc::new(authority.server());
    let patience = Duration::from_millis(300);
    let options = ListenOptions::new("127.0.0.1:0")
        .layer(move || Tls::server(config.clone()).handshake_timeout(patience));
    let served = Served::echo(event_loop.handle(), options);
    let half = &hello(3)[..20];
    let mut peers: Vec<Peer> = (0..200)
        .map(|n| {
            let mut peer = Peer::connect(&served.address());
            // Every other one says nothing at all.
            peer.send(&half[..half.len() * (n % 2)]);
            peer
        })
        .collect();
    drive(&mut event_loop, "all connections", || {
        served.server.connection_count() == 200
    });
    let mut client = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    assert_echoes(&mut event_loop, &mut client);
    drive(&mut event_loop, "their end", || {
        served.server.connection_count() == 1
    });
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.expect_end(&mut event_loop);
        let log = served.log(n);
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
    }
    assert_echoes(&mut event_loop, &mut client);
}
