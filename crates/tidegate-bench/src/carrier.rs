//! The carriers of messages between a client and a server.

/// The layer below the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the programs match on all of them")]
pub enum Carrier {
    /// A connection of TCP, where a message is a part of a stream.
    Tcp,
    /// TLS 1.3 on TCP.
    Tls,
    /// UDP, where a message is a datagram.
    Udp,
}
