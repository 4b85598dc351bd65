//! Two engines beside each other, with the bytes between them in segments of any size.

use super::*;
use crate::config::provider;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CipherSuite, HandshakeKind, RootCertStore, ServerConnection,
    SupportedProtocolVersion,
};
use std::io::{Read, Write};

/// Configurations of both ends, with a certificate for `localhost`.
fn configs(versions: &[&'static SupportedProtocolVersion]) -> (ClientConfig, ServerConfig) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = provider();
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (client, server)
}

/// Bytes for a peer.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    filled: usize,
}

impl Output for Wire {
    fn spare(&mut self, len: usize) -> &mut [u8] {
        self.bytes.resize(self.filled + len, 0);
        &mut self.bytes[self.filled..]
    }

    fn filled(&mut self, len: usize) {
        self.filled += len;
    }
}

impl Wire {
    /// Takes at most `len` bytes off the front.
    fn segment(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.filled);
        self.filled -= len;
        self.bytes.drain(..len).collect()
    }
}

/// An engine with its input, its output, and what has come out of it.
struct End {
    engine: Engine,
    input: Vec<u8>,
    out: Wire,
    received: Vec<u8>,
    events: Vec<Event>,
    failed: Option<io::Error>,
}

impl End {
    fn new(engine: Engine) -> Self {
        let mut end = Self {
            engine,
            input: Vec::new(),
            out: Wire::default(),
            received: Vec::new(),
            events: Vec::new(),
            failed: None,
        };
        end.receive(&[]);
        end
    }

    fn client(config: &Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().unwrap();
        Self::new(Engine::client(config.clone(), name).unwrap())
    }

    fn server(config: &ServerConfig) -> Self {
        let config = Arc::new(asked_name::noting(config));
        Self::new(Engine::server(config).unwrap())
    }

    fn receive(&mut self, segment: &[u8]) {
        if self.events.last() == Some(&Event::PeerClosed) || self.failed.is_some() {
            return;
        }
        self.input.extend(segment);
        loop {
            let plain = |data: &[u8]| self.received.extend(data);
            let (done, event) = self.engine.drive(&mut self.input, plain, &mut self.out);
            self.input.drain(..done);
            match event {
                Ok(Event::Blocked) => return,
                Ok(event) => {
                    assert!(event != Event::Opened || self.received.is_empty());
                    self.events.push(event);
                }
                Err(error) => self.failed = Some(error),
            }
            if self.events.last() == Some(&Event::PeerClosed) || self.failed.is_some() {
                return;
            }
        }
    }

    fn send(&mut self, data: &[u8]) -> usize {
        self.engine
            .encrypt(&mut self.input, data, &mut self.out)
            .unwrap()
    }

    fn close(&mut self) {
        self.engine.close(&mut self.input, &mut self.out).unwrap();
    }

    fn is_open(&self) -> bool {
        self.events.first() == Some(&Event::Opened)
    }

    /// The error of the library.
    fn error(&self) -> &Error {
        let error = self.failed.as_ref().expect("no failure");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        error.get_ref().unwrap().downcast_ref().unwrap()
    }
}

/// Moves everything that each end has for the other one.
fn exchange(a: &mut End, b: &mut End) {
    while a.out.filled + b.out.filled > 0 {
        b.receive(&a.out.segment(usize::MAX));
        a.receive(&b.out.segment(usize::MAX));
    }
}

fn opened(client: &Arc<ClientConfig>, server: &ServerConfig) -> (End, End) {
    let (mut client, mut server) = (End::client(client), End::server(server));
    exchange(&mut client, &mut server);
    assert!(client.is_open() && server.is_open());
    (client, server)
}

/// A server on the library's other API, for what an engine never does.
struct Peer(ServerConnection);

impl Peer {
    /// Sends what it has, and takes what the end has for it.
    fn exchange(&mut self, end: &mut End) {
        loop {
            let from_end = end.out.segment(usize::MAX);
            let mut rest = &from_end[..];
            while !rest.is_empty() {
                self.0.read_tls(&mut rest).unwrap();
                self.0.process_new_packets().unwrap();
            }
            let mut to_end = Vec::new();
            while self.0.wants_write() {
                self.0.write_tls(&mut to_end).unwrap();
            }
            end.receive(&to_end);
            if to_end.is_empty() && end.out.filled == 0 {
                return;
            }
        }
    }

    fn received(&mut self) -> Vec<u8> {
        let mut data = vec![0; 1000];
        let len = self.0.reader().read(&mut data).unwrap_or(0);
        data.truncate(len);
        data
    }
}

#[test]
fn what_follows_the_handshake_in_its_segment_comes_after_opened() {
    for tickets in [0, 2] {
        let (client, mut server) = configs(&[&TLS13]);
        server.send_tls13_tickets = tickets;
        let (mut client, mut server) = (End::client(&Arc::new(client)), End::server(&server));
        server.receive(&client.out.segment(usize::MAX));
        client.receive(&server.out.segment(usize::MAX));
        client.send(b"data");
        client.close();
        server.receive(&client.out.segment(usize::MAX));
        assert_eq!(server.events, [Event::Opened, Event::PeerClosed]);
        assert_eq!(server.received, b"data");
    }
}

#[test]
fn an_error_comes_after_the_data_before_it_and_after_opened_and_the_peer_is_told() {
    let (client, server) = configs(&[&TLS13]);
    let (mut client, mut server) = (End::client(&Arc::new(client)), End::server(&server));
    server.receive(&client.out.segment(usize::MAX));
    client.receive(&server.out.segment(usize::MAX));
    client.send(b"data");
    let mut segment = client.out.segment(usize::MAX);
    client.send(b"changed on the way");
    segment.extend(client.out.segment(usize::MAX));
    *segment.last_mut().unwrap() ^= 1;
    server.receive(&segment);
    assert_eq!(server.events, [Event::Opened]);
    assert_eq!(server.received, b"data");
    assert_eq!(server.error(), &Error::DecryptError);
    client.receive(&server.out.segment(usize::MAX));
    let alert = Error::AlertReceived(AlertDescription::BadRecordMac);
    assert_eq!(client.error(), &alert);
}

#[test]
fn after_an_error_nothing_is_made_but_the_error() {
    let (_, server) = configs(&[&TLS13]);
    let mut server = End::server(&server);
    server.receive(b"GET / HTTP/1.1\r\n");
    assert!(matches!(server.error(), Error::InvalidMessage(_)));
    let alert = server.out.segment(usize::MAX);
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 50], "decode_error");
    for _ in 0..2 {
        let (done, event) = server
            .engine
            .drive(&mut server.input, |_| {}, &mut server.out);
        assert_eq!((done, event.is_err()), (0, true));
        let sent = server
            .engine
            .encrypt(&mut server.input, b"data", &mut server.out);
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = error.get_ref().and_then(|inner| inner.downcast_ref());
        assert!(matches!(error, Some(Error::InvalidMessage(_))), "{error:?}");
        assert!(
            server
                .engine
                .close(&mut server.input, &mut server.out)
                .is_err()
        );
    }
    assert_eq!(server.out.filled, 0);
}

#[test]
fn data_may_be_sent_between_two_parts_of_a_handshake_message() {
    let (client, mut server) = configs(&[&TLS13]);
    server.max_fragment_size = Some(64);
    let (mut client, mut server) = (End::client(&Arc::new(client)), End::server(&server));
    server.receive(&client.out.segment(usize::MAX));
    client.receive(&server.out.segment(usize::MAX));
    server.receive(&client.out.segment(usize::MAX));
    let tickets = server.out.segment(usize::MAX);
    for part in tickets.chunks(50) {
        client.receive(part);
        client.send(b"data");
    }
    exchange(&mut client, &mut server);
    assert_eq!(server.received, b"data".repeat(tickets.len().div_ceil(50)));
}

#[test]
fn a_key_update_of_the_peer_is_replied_to() {
    let (client, server) = configs(&[&TLS13]);
    let mut peer = Peer(ServerConnection::new(Arc::new(server)).unwrap());
    let mut client = End::client(&Arc::new(client));
    peer.exchange(&mut client);
    for _ in 0..3 {
        peer.0.refresh_traffic_keys().unwrap();
        peer.0.writer().write_all(b"under new keys,").unwrap();
        peer.exchange(&mut client);
        let before = client.out.filled;
        client.send(b"so are these");
        assert_eq!(
            client.out.filled - before,
            (5 + 5 + 1 + 16) + (5 + 12 + 1 + 16)
        );
        peer.exchange(&mut client);
        assert_eq!(peer.received(), b"so are these");
    }
    assert_eq!(client.received, b"under new keys,".repeat(3));
}

#[test]
fn a_full_and_a_resumed_handshake_tell_what_was_negotiated() {
    for (version, suite) in [
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (&TLS13, CipherSuite::TLS13_AES_256_GCM_SHA384),
    ] {
        let (mut client, mut server) = configs(&[version]);
        client.alpn_protocols = vec![b"b".to_vec(), b"a".to_vec()];
        server.alpn_protocols = vec![b"a".to_vec()];
        let client = Arc::new(client);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (client, server) = opened(&client, &server);
            for (end, name, certificates) in [(client, None, 1), (server, Some("localhost"), 0)] {
                let info = end.engine.info().unwrap();
                assert_eq!(info.alpn.as_deref(), Some(&b"a"[..]));
                assert_eq!(info.version, Some(version.version));
                assert_eq!(info.cipher_suite, Some(suite));
                assert_eq!(info.handshake, Some(kind));
                assert_eq!(info.server_name.as_deref(), name);
                assert_eq!(end.engine.peer_certificates().len(), certificates);
            }
        }
    }
}

#[test]
fn nothing_is_told_before_the_handshake_is_done() {
    let (client, server) = configs(&[&TLS13]);
    let (client, mut server) = (End::client(&Arc::new(client)), End::server(&server));
    server.receive(&{ client }.out.segment(usize::MAX));
    assert!(server.engine.info().is_none());
    assert!(server.engine.peer_certificates().is_empty());
}

fn any_version() -> impl Strategy<Value = &'static SupportedProtocolVersion> {
    prop_oneof![Just(&TLS12), Just(&TLS13)]
}

/// One step: which end receives, at most how many bytes, and how many the other end sends before.
fn step() -> impl Strategy<Value = (bool, usize, usize)> {
    let segment = prop_oneof![Just(1), 1..100_usize, 1..20_000_usize];
    let data = prop_oneof![4 => Just(0), 2 => 1..50_usize, 1 => 1..40_000_usize];
    (any::<bool>(), segment, data)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn what_is_sent_arrives_in_any_segments(
        version in any_version(),
        fragment in proptest::option::of(32..200_usize),
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let (client, mut server) = configs(&[version]);
        server.max_fragment_size = fragment;
        let mut ends = [End::client(&Arc::new(client)), End::server(&server)];
        let mut sent = [Vec::new(), Vec::new()];
        for (to_server, segment, data) in steps.iter().cycle().take(2000) {
            let (from, to) = if *to_server { (0, 1) } else { (1, 0) };
            let data: Vec<u8> = (0..*data).map(|n| (n * 7) as u8).collect();
            if sent[from].len() < 100_000 {
                let taken = ends[from].send(&data);
                prop_assert_eq!(taken, if ends[from].is_open() { data.len() } else { 0 });
                sent[from].extend(&data[..taken]);
            }
            let segment = ends[from].out.segment(*segment);
            ends[to].receive(&segment);
        }
        let [client, server] = &mut ends;
        exchange(client, server);
        client.close();
        exchange(client, server);
        sent[1].extend(b"still open");
        server.send(b"still open");
        server.close();
        exchange(client, server);
        prop_assert!(server.received == sent[0]);
        prop_assert!(client.received == sent[1]);
        prop_assert_eq!(&client.events, &[Event::Opened, Event::PeerClosed]);
        prop_assert_eq!(&server.events, &[Event::Opened, Event::PeerClosed]);
        prop_assert!(client.failed.is_none() && server.failed.is_none());
    }
}
