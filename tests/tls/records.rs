//! Records and messages of the handshake in a stream that is open, in pieces of every size.

use super::{assert_echoes, client_of, lost_by, serve};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use support::{Authority, Peer, Served, TlsPeer, drive, text};
use tidegate::EventLoop;
use tidegate_tls::rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
use tidegate_tls::rustls::version::TLS12;
use tidegate_tls::rustls::{
    Connection, ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved, ProtocolVersion,
    SupportedCipherSuite,
};

#[test]
fn a_key_update_of_the_peer_in_mid_stream_loses_nothing_either_way() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut peer = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    let sent = text(0, 300_000);
    for part in sent.chunks(30_000) {
        peer.tls.refresh_traffic_keys().unwrap();
        peer.send(part);
    }
    peer.expect(&mut event_loop, sent.len());
    assert!(peer.received() == sent && served.log(0).data() == sent);
}

#[test]
fn data_goes_out_between_two_parts_of_a_message_of_the_peer() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let mut server = authority.server();
    // Each ticket takes several records.
    server.max_fragment_size = Some(64);
    let options = |to: tidegate::ConnectOptions| {
        use tidegate_tls::prelude::*;
        to.tls_as(Arc::new(authority.client()), "localhost")
    };
    let (connecting, peer) = super::Connecting::new(&mut event_loop, options, |it| it);
    let mut peer = TlsPeer::server(peer, &Arc::new(server));
    // All of the handshake, but not the tickets behind it.
    peer.until(&mut event_loop, "the connect", |peer| {
        if peer.tls.protocol_version().is_some() && !peer.tls.wants_write() {
            peer.hold_output(true);
        }
        connecting.is_decided()
    });
    let transport = connecting.transport();
    let mut tickets = Vec::new();
    drive(&mut event_loop, "the tickets", || {
        tickets.extend(peer.take_output());
        !tickets.is_empty()
    });
    let mut expected = Vec::new();
    for part in tickets.chunks(50) {
        peer.wire().send(part);
        let before = event_loop.handle().stats().reads;
        drive(&mut event_loop, "a part of a ticket", || {
            transport.handle().stats().reads > before
        });
        transport.write(b"data").unwrap();
        expected.extend(b"data");
        peer.expect(&mut event_loop, expected.len());
    }
    assert!(peer.received() == expected);
    assert_eq!(connecting.log.words(), ["made"]);
}

#[test]
fn a_handshake_and_data_arrive_one_byte_at_a_time() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut peer = TlsPeer::client(
        Peer::connect(&served.address()),
        &Arc::new(authority.client()),
    );
    peer.hold_output(true);
    peer.tls.writer().write_all(b"ping").unwrap();
    let mut pending = Vec::new();
    peer.until(&mut event_loop, "the echo", |peer| {
        pending.extend(peer.take_output());
        if !pending.is_empty() {
            peer.wire().send(&[pending.remove(0)]);
        }
        peer.received() == b"ping"
    });
    assert_eq!(served.log(0).words(), ["made", "data"]);
}

#[test]
fn records_of_any_size_carry_megabytes_both_ways_at_once() {
    for fragment in [32, 1000, 1 << 14] {
        let mut event_loop = EventLoop::new().unwrap();
        let authority = Authority::new();
        let (mut server, mut client) = (authority.server(), authority.client());
        server.max_fragment_size = Some(fragment);
        client.max_fragment_size = Some(fragment.max(100));
        let len = if fragment == 32 { 200_000 } else { 4_000_000 };
        let served = serve(&event_loop, server);
        let mut peer = client_of(&mut event_loop, &served, &Arc::new(client));
        let sent = text(0, len);
        peer.send(&sent);
        peer.expect(&mut event_loop, len);
        assert!(peer.received() == sent);
        peer.close_notify();
        drive(&mut event_loop, "lost", || served.log(0).is_lost());
        assert!(served.log(0).closed().is_clean());
    }
}

/// A client of TLS 1.2 that encrypts what no library would.
struct Forger {
    peer: Peer,
    cipher: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    #[track_caller]
    fn new(event_loop: &mut EventLoop, served: &Served, authority: &Authority) -> Self {
        let mut config = authority.client_of(&[&TLS12]);
        config.enable_secret_extraction = true;
        let client = client_of(event_loop, served, &Arc::new(config));
        let (peer, Connection::Client(session)) = client.into_parts() else {
            panic!("no client")
        };
        let Some(SupportedCipherSuite::Tls12(suite)) = session.negotiated_cipher_suite() else {
            panic!("not TLS 1.2")
        };
        let secrets = session.dangerous_extract_secrets().unwrap();
        let (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("another suite")
        };
        let (fixed, explicit) = iv.as_ref().split_at(4);
        Self {
            peer,
            cipher: suite.aead_alg.encrypter(key, fixed, explicit),
            sequence,
        }
    }

    fn send(&mut self, typ: ContentType, payload: &[u8]) {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: payload.into(),
        };
        let record = self.cipher.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        self.peer.send(&record.encode());
    }

    /// The content types of the records that came since `before` bytes.
    fn records(&mut self, before: usize) -> Vec<u8> {
        self.peer.read_available();
        let mut rest = &self.peer.received()[before..];
        let mut types = Vec::new();
        while let [typ, _, _, high, low, ..] = rest {
            types.push(*typ);
            rest = &rest[5 + usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        types
    }
}

#[test]
fn a_renegotiation_is_refused_with_an_alert_and_a_peer_that_insists_loses_the_connection() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut other = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    let mut forger = Forger::new(&mut event_loop, &served, &authority);
    let before = forger.peer.received().len();
    let hello = &super::refused::hello(3)[5..];
    forger.send(ContentType::Handshake, hello);
    drive(&mut event_loop, "the alert", || {
        forger.records(before) == [21]
    });
    forger.send(ContentType::ApplicationData, b"ping");
    drive(&mut event_loop, "the echo", || {
        forger.records(before) == [21, 23]
    });
    for _ in 0..2 {
        forger.send(ContentType::Handshake, hello);
    }
    forger.peer.expect_end(&mut event_loop);
    let log = served.log(1);
    drive(&mut event_loop, "lost", || log.is_lost());
    let error = Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests);
    assert_eq!(lost_by(&log), (ErrorKind::InvalidData, Some(error)));
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert_echoes(&mut event_loop, &mut other);
}

#[test]
fn an_error_of_which_the_library_tells_the_peer_nothing_sends_nothing_in_the_clear() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut forger = Forger::new(&mut event_loop, &served, &authority);
    let before = forger.peer.received().len();
    for _ in 0..40 {
        forger.send(ContentType::ApplicationData, b"");
    }
    forger.peer.expect_end(&mut event_loop);
    assert_eq!(forger.records(before), []);
    let log = served.log(0);
    drive(&mut event_loop, "lost", || log.is_lost());
    let error = Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
    assert_eq!(lost_by(&log), (ErrorKind::InvalidData, Some(error)));
}

#[test]
fn a_record_that_holds_too_much_ends_the_connection_with_an_alert() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut other = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    let mut forger = Forger::new(&mut event_loop, &served, &authority);
    let before = forger.peer.received().len();
    forger.send(ContentType::ApplicationData, b"good");
    forger.send(ContentType::ApplicationData, &[0; (1 << 14) + 257]);
    forger.peer.expect_end(&mut event_loop);
    assert_eq!(forger.records(before).last(), Some(&21));
    let log = served.log(1);
    drive(&mut event_loop, "lost", || log.is_lost());
    let error = Error::PeerSentOversizedRecord;
    assert_eq!(lost_by(&log), (ErrorKind::InvalidData, Some(error)));
    assert_eq!(log.data(), b"good");
    assert_echoes(&mut event_loop, &mut other);
}
