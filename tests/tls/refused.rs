//! Peers that do not speak TLS, or not well: closed with an alert, the others served.

use super::{VERSIONS, assert_echoes, client_of, serve};
use std::sync::Arc;
use support::{Authority, Peer, drive, settle};
use tidegate::EventLoop;

/// A record of this type with this payload.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1, len[0], len[1]], payload].concat()
}

/// A ClientHello of this version that knows nothing newer.
fn hello(minor: u8) -> Vec<u8> {
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
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), DECODE_ERROR),
        ("a long record", record(22, &[0; (1 << 14) + 257]), UNEXPECTED_MESSAGE),
        ("a record without end", vec![22, 3, 1, 0xff, 0xff], DECODE_ERROR),
        ("a message without end", record(22, &[1, 0xff, 0xff, 0xff, 3, 3]), DECODE_ERROR),
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
        assert_eq!(alert_of(peer.received()), Some(description), "{what}: {peer:?}");
        assert!(peer.saw_eof(), "{what}: {peer:?}");
        // No callback at all.
        assert_eq!((served.log(1).words().len(), served.log(1).dropped()), (0, 1));
        assert_eq!(served.accepted(), 1);
        assert_echoes(&mut event_loop, &mut client);
        drive(&mut event_loop, "the lingering socket to go", || {
            served.server.connection_count() == 1
        });
    }
}
