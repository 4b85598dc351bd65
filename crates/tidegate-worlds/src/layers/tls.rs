//! TLS in a world's time, with a certificate whose signatures have one length.

use std::sync::Arc;
use std::time::Duration;
use tidegate_testkit::Clock;
use tidegate_tls::rustls::crypto::ring::default_provider;
use tidegate_tls::rustls::pki_types::pem::PemObject;
use tidegate_tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tidegate_tls::rustls::time_provider::TimeProvider;
use tidegate_tls::rustls::version::{TLS12, TLS13};
use tidegate_tls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name in the certificate.
pub(super) const NAME: &str = "localhost";

/// A private key (Ed25519) and its certificate, both for these worlds only.
const PEM: &[u8] = include_bytes!("localhost.pem");

/// When a world begins: 2030, in which the certificate is valid.
const START: Duration = Duration::from_secs(1_893_456_000);

/// The world's clock, for the age of sessions.
#[derive(Debug)]
struct WorldTime(Clock);

impl TimeProvider for WorldTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(START + self.0.elapsed()))
    }
}

/// Makes configurations of both ends, for one version or the other. Sessions are resumed.
pub(super) fn configs(clock: &Clock, rng: &mut fastrand::Rng) -> (ClientConfig, ServerConfig) {
    try_configs(clock, rng)
        .unwrap_or_else(|error| panic!("the certificate in the sources: {error}"))
}

fn try_configs(
    clock: &Clock,
    rng: &mut fastrand::Rng,
) -> Result<(ClientConfig, ServerConfig), Box<dyn std::error::Error>> {
    let certificate = CertificateDer::from_pem_slice(PEM)?;
    let key = PrivateKeyDer::from_pem_slice(PEM)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let version = if rng.u32(..4) == 0 { &TLS12 } else { &TLS13 };
    let provider = Arc::new(default_provider());
    let time = || Arc::new(WorldTime(clock.clone()));
    let client = ClientConfig::builder_with_details(provider.clone(), time())
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_details(provider, time())
        .with_protocol_versions(&[version])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((client, server))
}
