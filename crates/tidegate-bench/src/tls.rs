//! TLS of the load generator and of the servers under test.
//!
//! All servers have one certificate, which is kept in `peers/tls` with its key: it is of use for
//! nothing else. The client offers one cipher suite and one key exchange, so that all servers do
//! the same work.

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use serde::Deserialize;
use std::sync::Arc;

const CERTIFICATE: &[u8] = include_bytes!("../peers/tls/certificate.pem");
const KEY: &[u8] = include_bytes!("../peers/tls/key.pem");
/// The name in the certificate.
const NAME: &str = "localhost";

/// The handshakes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "there is no third kind")]
pub enum Handshake {
    /// All of them full.
    Full,
    /// Full once, and resumed from then on.
    Resumed,
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE).expect("it is a certificate")
}

/// Returns the configuration of a server in Rust: the defaults of rustls.
pub fn server_config() -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("it is a key");
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key);
    Arc::new(config.expect("the key is the certificate's"))
}

/// Returns the configuration of a client: TLS 1.3, with the first cipher suite (AES-256-GCM) and
/// the first key exchange (X25519) of rustls.
pub fn client_config(handshake: Handshake) -> Arc<ClientConfig> {
    let mut provider: CryptoProvider = ring::default_provider();
    provider.cipher_suites.truncate(1);
    provider.kx_groups.truncate(1);
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("it can be trusted");
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&TLS13])
        .expect("the suite is one of TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    if handshake == Handshake::Full {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// Returns the client's side of a connection that is about to begin.
pub(crate) fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(NAME).expect("it is a name");
    ClientConnection::new(Arc::clone(config), name).expect("the configuration is complete")
}
