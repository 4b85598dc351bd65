//! The result of a handshake.

use rustls::{CipherSuite, HandshakeKind, ProtocolVersion};

/// Tells what the two ends of a TLS connection have agreed on; see
/// [`TransportTls::tls`](crate::TransportTls::tls). The certificates are in
/// [`peer_certificates`](crate::TransportTls::peer_certificates).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The application protocol (ALPN, RFC 7301), such as `b"h2"`. `None` when the configuration of
    /// one end names none.
    pub alpn: Option<Vec<u8>>,
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// The cipher suite.
    pub cipher_suite: Option<CipherSuite>,
    /// Whether the handshake was a full one or resumed an earlier session.
    pub handshake: Option<HandshakeKind>,
    /// The name that the client asked for (SNI, RFC 6066). Only a server is told it.
    pub server_name: Option<String>,
}
