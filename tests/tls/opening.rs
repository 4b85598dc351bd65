//! Handshakes that fail or take their time, and what comes with their last bytes.

use super::{Connecting, VERSIONS, alert, cause, lost_by, tls_error};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;
use support::{Authority, Peer, Served, TlsPeer, drive, settle};
use tidegate::{ConnectOptions, EventLoop, ListenOptions};
use tidegate_tls::Tls;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::AlertDescription;
use tidegate_tls::rustls::version::{TLS12, TLS13};

fn as_localhost(authority: &Authority) -> impl FnOnce(ConnectOptions) -> ConnectOptions {
    let config = Arc::new(authority.client());
    move |to| to.tls_as(config, "localhost")
}

#[test]
fn a_client_without_a_certificate_learns_that_one_is_required() {
    let authority = Authority::new();
    let required = alert(AlertDescription::CertificateRequired);

    let server = Arc::new(authority.server_that_asks(&[&TLS12]));
    let mut event_loop = EventLoop::new().unwrap();
    let (connecting, peer) = Connecting::new(&mut event_loop, as_localhost(&authority), |it| it);
    let mut peer = TlsPeer::server(peer, &server);
    peer.until(&mut event_loop, "the failure", |peer| {
        if peer.error().is_some() {
            peer.wire().close();
        }
        connecting.is_decided()
    });
    assert_eq!(cause(&connecting.error()), required);

    // In TLS 1.3 the client is done before the server has looked.
    let server = Arc::new(authority.server_that_asks(&[&TLS13]));
    let (connecting, peer) =
        Connecting::new(&mut event_loop, as_localhost(&authority), |recorder| {
            recorder.on_made(|transport| {
                transport.write(b"too early")?;
                Ok(())
            })
        });
    let mut peer = TlsPeer::server(peer, &server);
    let log = connecting.log.clone();
    peer.until(&mut event_loop, "the end", |peer| {
        if peer.error().is_some() {
            peer.wire().close();
        }
        log.is_lost()
    });
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(lost_by(&log), (ErrorKind::InvalidData, Some(required)));
}

#[test]
fn a_server_makes_no_connection_with_a_client_that_shows_no_certificate() {
    let authority = Authority::new();
    for versions in VERSIONS {
        let mut event_loop = EventLoop::new().unwrap();
        let served = super::serve(&event_loop, authority.server_that_asks(versions));
        let mut peer = TlsPeer::client(
            Peer::connect(&served.address()),
            &Arc::new(authority.client()),
        );
        peer.until(&mut event_loop, "the alert", |peer| peer.error().is_some());
        assert_eq!(
            peer.error(),
            Some(&alert(AlertDescription::CertificateRequired))
        );
        drive(&mut event_loop, "its end", || {
            served.server.connection_count() == 0
        });
        assert_eq!(
            (served.log(0).words().len(), served.log(0).dropped()),
            (0, 1)
        );
    }
}

#[test]
fn a_connect_without_a_protocol_in_common_fails_at_both_ends() {
    let authority = Authority::new();
    let (mut server, mut client) = (authority.server(), authority.client());
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut event_loop = EventLoop::new().unwrap();
    let served = super::serve(&event_loop, server);
    let to = ConnectOptions::new(served.address()).tls_as(Arc::new(client), "localhost");
    let connecting = Connecting::to(&event_loop, to, |it| it);
    drive(&mut event_loop, "the failure", || connecting.is_decided());
    let none = AlertDescription::NoApplicationProtocol;
    assert_eq!(cause(&connecting.error()), alert(none));
    assert_eq!(served.accepted(), 0);
}

#[test]
fn a_connect_fails_by_what_the_peer_did_in_the_handshake() {
    for (what, act, kind) in [
        (
            "left",
            (|peer| peer.shutdown_write()) as fn(&mut Peer),
            ErrorKind::UnexpectedEof,
        ),
        ("reset", Peer::reset, ErrorKind::ConnectionReset),
        (
            "no TLS",
            |peer| peer.send(b"220 mail.test ESMTP\r\n"),
            ErrorKind::InvalidData,
        ),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let authority = Authority::new();
        let (connecting, mut peer) =
            Connecting::new(&mut event_loop, as_localhost(&authority), |it| it);
        peer.expect(&mut event_loop, 1);
        act(&mut peer);
        drive(&mut event_loop, "the failure", || connecting.is_decided());
        assert_eq!(connecting.error().kind(), kind, "{what}");
        peer.close();
        settle(&mut event_loop);
        let left = event_loop.handle().stats();
        assert_eq!(
            (left.connections, left.timers, left.connecting),
            (0, 0, 0),
            "{what}"
        );
    }
}

#[test]
fn an_alert_of_a_server_in_the_handshake_fails_the_connect_and_gets_none_in_return() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let (connecting, mut peer) =
        Connecting::new(&mut event_loop, as_localhost(&authority), |it| it);
    peer.expect(&mut event_loop, 5);
    let len = 5 + usize::from(u16::from_be_bytes([peer.received()[3], peer.received()[4]]));
    peer.expect(&mut event_loop, len);
    // Fatal, handshake_failure.
    peer.send(&[21, 3, 3, 0, 2, 2, 40]);
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received().len(), len, "{:?}", &peer.received()[len..]);
    drive(&mut event_loop, "the failure", || connecting.is_decided());
    let failed = alert(AlertDescription::HandshakeFailure);
    assert_eq!(cause(&connecting.error()), failed);
}

#[test]
fn a_connect_to_a_silent_server_fails_when_the_time_of_the_handshake_is_over() {
    let mut event_loop = EventLoop::new().unwrap();
    let config = Arc::new(Authority::new().client());
    let options = |to: ConnectOptions| {
        let tls = Tls::client(config, "localhost".try_into().unwrap());
        to.layer(tls.handshake_timeout(Duration::from_millis(50)))
    };
    let (connecting, _peer) = Connecting::new(&mut event_loop, options, |it| it);
    drive(&mut event_loop, "the failure", || connecting.is_decided());
    assert_eq!(connecting.error().kind(), ErrorKind::TimedOut);
}

/// A client that has done its part of the handshake, and holds its last flight back.
fn with_last_flight_held(
    event_loop: &mut EventLoop,
    served: &Served,
    authority: &Authority,
) -> TlsPeer {
    let peer = Peer::connect(&served.address());
    let mut peer = TlsPeer::client(peer, &Arc::new(authority.client()));
    peer.step();
    peer.hold_output(true);
    peer.until(event_loop, "the server's flight", |peer| {
        !peer.tls.is_handshaking()
    });
    peer
}

#[test]
fn data_and_the_end_in_the_segment_of_the_last_flight_come_after_connection_made() {
    for pauses in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let authority = Authority::new();
        let config = Arc::new(authority.server());
        let options = ListenOptions::new("127.0.0.1:0").tls(config);
        let served = Served::new(event_loop.handle(), options, move |recorder| {
            recorder.on_data(move |transport, _| {
                if pauses {
                    transport.pause_reading();
                }
                Ok(())
            })
        });
        let mut peer = with_last_flight_held(&mut event_loop, &served, &authority);
        peer.tls.writer().write_all(b"data").unwrap();
        peer.tls.send_close_notify();
        let last = peer.take_output();
        assert_eq!(served.accepted(), 0);
        peer.wire().send(&last);
        peer.wire().shutdown_write();
        let log = || served.log(0);
        drive(&mut event_loop, "data", || log().data() == b"data");
        settle(&mut event_loop);
        if pauses {
            assert_eq!(log().words(), ["made", "data"]);
            served.transport(0).resume_reading();
            drive(&mut event_loop, "lost", || log().is_lost());
        }
        assert_eq!(log().words(), ["made", "data", "eof", "lost"]);
        assert!(log().closed().is_clean());
    }
}

#[test]
fn an_error_right_behind_the_last_flight_comes_after_connection_made() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let mut config = authority.server();
    // Nothing is to be sent between the last message and the error.
    config.send_tls13_tickets = 0;
    let served = super::serve(&event_loop, config);
    let mut peer = with_last_flight_held(&mut event_loop, &served, &authority);
    let mut last = peer.take_output();
    last.extend(b"GET / HTTP/1.1\r\n");
    peer.wire().send(&last);
    peer.until(&mut event_loop, "the alert", |peer| peer.error().is_some());
    let log = served.log(0);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(lost_by(&log).0, ErrorKind::InvalidData);
}

#[test]
fn an_error_in_the_segment_of_the_last_flight_comes_after_the_data_before_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = super::serve(&event_loop, authority.server());
    let mut peer = with_last_flight_held(&mut event_loop, &served, &authority);
    peer.tls.writer().write_all(b"good").unwrap();
    let mut last = peer.take_output();
    last.extend(b"GET / HTTP/1.1\r\n");
    peer.wire().send(&last);
    peer.until(&mut event_loop, "the alert", |peer| peer.error().is_some());
    let log = served.log(0);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert_eq!(log.data(), b"good");
    let closed = log.closed();
    assert!(matches!(
        tls_error(&closed),
        tidegate_tls::rustls::Error::InvalidMessage(_)
    ));
}
