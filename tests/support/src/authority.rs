//! A certificate authority of a test's own, and configurations that trust it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tidegate_tls::rustls::client::ClientConfig;
use tidegate_tls::rustls::crypto::{CryptoProvider, ring};
use tidegate_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_tls::rustls::server::{ServerConfig, WebPkiClientVerifier};
use tidegate_tls::rustls::{ALL_VERSIONS, RootCertStore, SupportedProtocolVersion};

/// Makes certificates. All keys but those for OpenSSL are Ed25519, so that the handshakes of two runs have equal lengths.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes one that nobody else trusts.
    pub fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::default();
        // An issuer is found by its name.
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(ok(CertifiedIssuer::self_signed(params, key())))
    }

    /// Makes a certificate for these names and IP addresses.
    pub fn certify(&self, names: &[&str]) -> Identity {
        self.certify_key(names, key())
    }

    /// The same, with a key in a form that OpenSSL reads: it knows another one of Ed25519.
    pub fn certify_for_openssl(&self, names: &[&str]) -> Identity {
        self.certify_key(names, ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)))
    }

    fn certify_key(&self, names: &[&str], key: KeyPair) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = ok(ok(CertificateParams::new(names)).signed_by(&key, &self.0));
        Identity {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key,
        }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// Trust in its certificates, and in no others.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        ok(roots.add(self.0.as_ref().der().clone()));
        roots
    }

    /// A server with a certificate for `localhost`.
    pub fn server(&self) -> ServerConfig {
        self.server_of(ALL_VERSIONS)
    }

    /// The same, with these versions.
    pub fn server_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        self.certify(&["localhost"]).server(versions)
    }

    /// A server that takes no client without a certificate of this authority.
    pub fn server_that_asks(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let roots = Arc::new(self.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let identity = self.certify(&["localhost"]);
        let builder =
            ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions))
                .with_client_cert_verifier(ok(verifier));
        ok(builder.with_single_cert(identity.chain(), identity.private_key()))
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> ClientConfig {
        self.client_of(ALL_VERSIONS)
    }

    /// The same, with these versions.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ok(ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions))
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// A client with a certificate of its own.
    pub fn client_with(
        &self,
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let builder =
            ok(ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions))
                .with_root_certificates(self.roots());
        ok(builder.with_client_auth_cert(identity.chain(), identity.private_key()))
    }
}

/// A certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Identity {
    /// The certificate alone: its authority is the root.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The certificate, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        ok(PrivateKeyDer::try_from(self.key.serialize_der()))
    }

    /// The key, in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server with this certificate.
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let builder =
            ok(ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions))
                .with_no_client_auth();
        ok(builder.with_single_cert(self.chain(), self.private_key()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn key() -> KeyPair {
    ok(KeyPair::generate_for(&PKCS_ED25519))
}

#[track_caller]
fn ok<T, E: fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
