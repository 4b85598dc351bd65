//! The provider of the cryptography: that of the configuration, which is kept, and of the helpers.

use super::{client_of, serve, server_of};
use std::fs;
use std::sync::Arc;
use support::{Authority, TempDir};
use tidegate::EventLoop;
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::crypto::CryptoProvider;
use tidegate_tls::rustls::crypto::ring::{self, cipher_suite, kx_group};
use tidegate_tls::rustls::{CipherSuite, ClientConfig, ServerConfig, SupportedCipherSuite};
use tidegate_tls::{client_config_from_pem, server_config_from_pem};

/// The least preferred of ring's, by version.
const RARE: [(SupportedCipherSuite, CipherSuite); 2] = [
    (
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// Has one suite and one group.
fn rare(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        kx_groups: vec![kx_group::SECP384R1],
        ..ring::default_provider()
    })
}

#[test]
fn that_of_a_configuration_is_the_one_of_its_handshakes() {
    let authority = Authority::new();
    let identity = authority.certify(&["localhost"]);
    for (suite, expected) in RARE {
        let server = ServerConfig::builder_with_provider(rare(suite))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.private_key())
            .unwrap();
        let client = ClientConfig::builder_with_provider(rare(suite))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        let mut event_loop = EventLoop::new().unwrap();

        // The other end would take any.
        let served = serve(&event_loop, server);
        let peer = client_of(&mut event_loop, &served, &Arc::new(authority.client()));
        let group = peer.tls.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), kx_group::SECP384R1.name());
        let info = served.transport(0).tls().unwrap();
        assert_eq!(info.cipher_suite, Some(expected));

        let others = Arc::new(authority.server());
        let (_, transport, peer) = server_of(&mut event_loop, client, &others, |it| it);
        let group = peer.tls.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), kx_group::SECP384R1.name());
        let info = transport.tls().unwrap();
        assert_eq!(info.cipher_suite, Some(expected));
    }
    assert!(CryptoProvider::get_default().is_none());
}

/// The crate's own tests do this with other features.
#[test]
fn that_of_the_helpers_is_ring_when_its_feature_is_on() {
    let (authority, dir) = (Authority::new(), TempDir::new());
    let identity = authority.certify(&["localhost"]);
    let [cert, key, roots] = [
        ("cert.pem", identity.certificate_pem().to_owned()),
        ("key.pem", identity.key_pem()),
        ("roots.pem", authority.pem()),
    ]
    .map(|(name, text)| {
        let path = dir.path(name);
        fs::write(&path, text).unwrap();
        path
    });
    let expected = format!("{:?}", ring::default_provider());
    let server = server_config_from_pem(cert, key).unwrap();
    assert_eq!(format!("{:?}", server.crypto_provider()), expected);
    let client = client_config_from_pem(roots).unwrap();
    assert_eq!(format!("{:?}", client.crypto_provider()), expected);
    assert!(expected.contains("Ring"), "{expected}");
}
