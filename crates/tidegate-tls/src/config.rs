//! Configurations of one line: certificates from PEM files, and the system's roots.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Returns a configuration for a server with the certificate and the private key of two files in PEM
/// (RFC 7468), which may be one.
///
/// The certificate comes first in its file, behind it those that lead to a root. Clients are asked for
/// no certificate. The sessions of the last 256 clients can be resumed. For anything else build a
/// [`ServerConfig`], or change the fields of this one, such as
/// [`alpn_protocols`](ServerConfig::alpn_protocols).
///
/// # Errors
///
/// They name the file. The kind is that of reading a file that cannot be read, such as
/// [`NotFound`](io::ErrorKind::NotFound), and [`InvalidData`](io::ErrorKind::InvalidData) when a file
/// has no certificate or no key, something else in the place of one, or a key that does not belong to
/// the certificate.
pub fn server_config_from_pem(
    cert_path: impl AsRef<Path>,
    key_path: impl AsRef<Path>,
) -> io::Result<ServerConfig> {
    let (cert_path, key_path) = (cert_path.as_ref(), key_path.as_ref());
    let chain = certificates(cert_path)?;
    let key = private_key(key_path)?;
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(invalid_data)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            let (certificate, key) = (cert_path.display(), key_path.display());
            invalid_data(match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    format!("the key in {key} does not belong to the certificate in {certificate}")
                }
                Error::InvalidCertificate(error) => {
                    format!("the certificate in {certificate} cannot be used: {error:?}")
                }
                error => format!("the key in {key} cannot be used: {error}"),
            })
        })
}

/// Returns a configuration for clients that trust the root certificates of a file in PEM (RFC 7468),
/// and no others.
///
/// The client shows no certificate. For anything else build a [`ClientConfig`], or change the fields of
/// this one, such as [`alpn_protocols`](ClientConfig::alpn_protocols).
///
/// # Errors
///
/// They name the file. The kind is that of reading a file that cannot be read, such as
/// [`NotFound`](io::ErrorKind::NotFound), and [`InvalidData`](io::ErrorKind::InvalidData) when it has no
/// certificate, or one that cannot be read.
pub fn client_config_from_pem(roots_path: impl AsRef<Path>) -> io::Result<ClientConfig> {
    let path = roots_path.as_ref();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| {
            let path = path.display();
            invalid_data(format!("a certificate in {path} cannot be used: {error}"))
        })?;
    }
    trusting(roots)
}

/// Returns a configuration for clients that trust the root certificates of the system.
///
/// They are read from files, anew at each call: make one configuration for the whole program. The crate
/// [`rustls-native-certs`](https://docs.rs/rustls-native-certs) says where they are; the environment
/// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name other places.
///
/// # Errors
///
/// [`NotFound`](io::ErrorKind::NotFound) when the system has none that can be read, with the reasons.
#[cfg(feature = "native-roots")]
#[cfg_attr(docsrs, doc(cfg(feature = "native-roots")))]
pub fn client_config() -> io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores of systems have certificates that are too old to be understood.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let mut message = "the system has no root certificates that can be read".to_owned();
        for error in found.errors {
            message += &format!("; {error}");
        }
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> io::Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(invalid_data)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The one that a feature names. With both it is ring, which needs no more than a compiler for C.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "ring")]
    use rustls::crypto::ring as chosen;

    #[cfg(not(feature = "ring"))]
    use rustls::crypto::aws_lc_rs as chosen;

    Arc::new(chosen::default_provider())
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path, "certificates")?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(missing(path, "certificate")),
        found => found.map_err(|error| malformed(path, &error)),
    }
}

fn private_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    let text = read(path, "the private key")?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        _ if is_encrypted(&text) => {
            let path = path.display();
            invalid_data(format!(
                "the private key in {path} is encrypted: decrypt it first"
            ))
        }
        pem::Error::NoItemsFound => missing(path, "private key"),
        error => malformed(path, &error),
    })
}

/// RFC 7468, section 11, and the form of OpenSSL before it.
fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path, what: &str) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let message = format!("cannot read {what} from {}: {error}", path.display());
        io::Error::new(error.kind(), message)
    })
}

fn missing(path: &Path, what: &str) -> io::Error {
    invalid_data(format!("{} holds no {what} in PEM", path.display()))
}

fn malformed(path: &Path, error: &pem::Error) -> io::Error {
    invalid_data(format!("{} is no valid PEM: {error}", path.display()))
}

fn invalid_data(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
