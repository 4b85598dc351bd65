//! The result of a handshake, and how both ends are told of it.

use super::{VERSIONS, assert_echoes, client_of, serve, server_of};
use std::rc::Rc;
use std::sync::Arc;
use support::{Authority, Served, drive};
use tidegate::{ConnectOptions, EventLoop, ListenOptions, Protocol};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::server::{ClientHello, ResolvesServerCert};
use tidegate_tls::rustls::sign::CertifiedKey;
use tidegate_tls::rustls::{CipherSuite, HandshakeKind, ProtocolVersion};
use tidegate_tls::{Tls, TlsInfo};

#[track_caller]
fn told(transport: &tidegate::Transport) -> TlsInfo {
    transport.tls().expect("the handshake is done")
}

#[test]
fn both_ends_are_told_the_protocol_the_version_the_suite_and_the_name() {
    let authority = Authority::new();
    for (versions, version, suite) in [
        (
            VERSIONS[0],
            ProtocolVersion::TLSv1_2,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            VERSIONS[1],
            ProtocolVersion::TLSv1_3,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        ),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let mut server = authority.server_of(versions);
        let mut client = authority.client_of(versions);
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        client.alpn_protocols = vec![b"http/1.1".to_vec()];

        let served = serve(&event_loop, server.clone());
        client_of(&mut event_loop, &served, &Arc::new(client.clone()));
        let info = told(&served.transport(0));
        assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(info.version, Some(version));
        assert_eq!(info.cipher_suite, Some(suite));
        assert_eq!(info.handshake, Some(HandshakeKind::Full));
        assert_eq!(info.server_name.as_deref(), Some("localhost"));
        assert_eq!(served.transport(0).peer_certificates(), []);

        let (_, transport, _) = server_of(&mut event_loop, client, &Arc::new(server), |it| it);
        let info = told(&transport);
        assert_eq!(info.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(
            (info.version, info.cipher_suite),
            (Some(version), Some(suite))
        );
        assert_eq!(info.server_name, None);
        assert_eq!(transport.peer_certificates().len(), 1);
    }
}

#[test]
fn what_was_negotiated_is_told_after_the_end_too_and_without_tls_there_is_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut client = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
    client.close_notify();
    drive(&mut event_loop, "lost", || served.log(0).is_lost());
    assert_eq!(
        told(&served.transport(0)).version,
        Some(ProtocolVersion::TLSv1_3)
    );

    let plain = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let [_peer] = plain.connect(&mut event_loop);
    assert!(plain.transport(0).tls().is_none());
    assert_eq!(plain.transport(0).peer_certificates(), []);
}

#[test]
fn a_client_that_asks_for_no_name_is_served_and_the_server_is_told_none() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let served = serve(&event_loop, authority.server());
    let mut client = authority.client();
    client.enable_sni = false;
    let mut client = client_of(&mut event_loop, &served, &Arc::new(client));
    assert_echoes(&mut event_loop, &mut client);
    assert_eq!(told(&served.transport(0)).server_name, None);
}

#[test]
fn a_server_that_asks_for_certificates_is_told_that_of_its_client() {
    let authority = Authority::new();
    let identity = authority.certify(&["client.test"]);
    for versions in VERSIONS {
        let mut event_loop = EventLoop::new().unwrap();
        let served = serve(&event_loop, authority.server_that_asks(versions));
        let client = Arc::new(authority.client_with(&identity, versions));
        // The second session is resumed.
        for n in 0..2 {
            let mut client = client_of(&mut event_loop, &served, &client);
            assert_echoes(&mut event_loop, &mut client);
            assert_eq!(served.transport(n).peer_certificates(), identity.chain());
        }
    }
}

#[test]
fn a_client_that_uses_its_configuration_again_resumes_its_session() {
    let authority = Authority::new();
    for versions in VERSIONS {
        let mut event_loop = EventLoop::new().unwrap();
        let served = serve(&event_loop, authority.server_of(versions));
        let client = Arc::new(authority.client_of(versions));
        for (n, kind) in [HandshakeKind::Full, HandshakeKind::Resumed]
            .into_iter()
            .enumerate()
        {
            let mut client = client_of(&mut event_loop, &served, &client);
            assert_echoes(&mut event_loop, &mut client);
            let info = told(&served.transport(n));
            assert_eq!(info.handshake, Some(kind));
            assert_eq!(info.server_name.as_deref(), Some("localhost"));
        }

        // The same with connects of the loop.
        let client = Arc::new(authority.client_of(versions));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let to = ConnectOptions::new(served.address()).tls_as(client.clone(), "localhost");
            let log = support::Log::new();
            let recorder = support::Recorder::new(&log).on_made(|transport| {
                transport.write(b"ping")?;
                Ok(())
            });
            let connecting = event_loop.handle().create_connection(to, recorder);
            let transport = event_loop.run_until(connecting).unwrap();
            // Tickets of TLS 1.3 come before the reply.
            drive(&mut event_loop, "the reply", || log.data() == b"ping");
            assert_eq!(told(&transport).handshake, Some(kind));
            transport.close();
        }
    }
}

#[test]
fn certificates_may_change_while_a_server_serves() {
    let mut event_loop = EventLoop::new().unwrap();
    let (before, after) = (Authority::new(), Authority::new());
    let current = Rc::new(std::cell::RefCell::new(Arc::new(before.server())));
    let shown = current.clone();
    let options =
        ListenOptions::new("127.0.0.1:0").layer(move || Tls::server(shown.borrow().clone()));
    let served = Served::echo(event_loop.handle(), options);
    let mut old = client_of(&mut event_loop, &served, &Arc::new(before.client()));
    current.replace(Arc::new(after.server()));
    let mut new = client_of(&mut event_loop, &served, &Arc::new(after.client()));
    assert_echoes(&mut event_loop, &mut new);
    assert_echoes(&mut event_loop, &mut old);
}

/// Has a certificate for each of two names.
#[derive(Debug)]
struct TwoNames([Arc<CertifiedKey>; 2]);

impl ResolvesServerCert for TwoNames {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let [one, two] = &self.0;
        match hello.server_name()? {
            "localhost" => Some(one.clone()),
            "two.test" => Some(two.clone()),
            _ => None,
        }
    }
}

#[test]
fn a_resolver_of_certificates_is_asked_and_the_name_is_told_all_the_same() {
    let mut event_loop = EventLoop::new().unwrap();
    let authority = Authority::new();
    let certified = |name: &str| {
        let identity = authority.certify(&[name]);
        let provider = tidegate_tls::rustls::crypto::ring::default_provider();
        let key = provider
            .key_provider
            .load_private_key(identity.private_key());
        Arc::new(CertifiedKey::new(identity.chain(), key.unwrap()))
    };
    let mut config = authority.server();
    config.cert_resolver = Arc::new(TwoNames([certified("localhost"), certified("two.test")]));
    let served = serve(&event_loop, config);
    let client = Arc::new(authority.client());
    for (n, name) in ["two.test", "localhost"].into_iter().enumerate() {
        let to = ConnectOptions::new(served.address()).tls_as(client.clone(), name);
        let connecting = event_loop.handle().create_connection(to, Nothing);
        event_loop.run_until(connecting).unwrap();
        drive(&mut event_loop, "connection_made", || served.accepted() > n);
        let told = told(&served.transport(n)).server_name;
        assert_eq!(told.as_deref(), Some(name));
    }
}

struct Nothing;

impl Protocol for Nothing {
    fn data_received(&mut self, _: &tidegate::Transport, _: &[u8]) -> tidegate::Result {
        Ok(())
    }
}
