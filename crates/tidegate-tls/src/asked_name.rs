//! The name that a client asks a server for (SNI, RFC 6066, section 3).
//!
//! The library shows it to the resolver of certificates only, in every handshake, and runs that
//! within the call that was given the client's bytes. So a resolver around the configured one notes
//! the name for its thread, and the caller takes it from there.

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Returns the name that the last handshake of this thread asked for, once.
pub(crate) fn take() -> Option<Box<str>> {
    ASKED.take()
}

/// Returns a configuration like this one that notes the names. Both have the same sessions, tickets
/// and certificates.
pub(crate) fn noting(config: &ServerConfig) -> ServerConfig {
    let mut config = config.clone();
    config.cert_resolver = Arc::new(Noting(config.cert_resolver));
    config
}

#[derive(Debug)]
struct Noting(Arc<dyn ResolvesServerCert>);

impl ResolvesServerCert for Noting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(Into::into);
        let certificate = self.0.resolve(hello);
        ASKED.set(name);
        certificate
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}
