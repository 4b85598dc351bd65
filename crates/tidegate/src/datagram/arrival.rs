//! How datagrams arrived, as the control messages of the kernel tell it.

use super::DatagramTransport;
use std::net::IpAddr;

/// The marks of a datagram's IP header that tell of congestion (ECN, RFC 3168).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "two bits of a header")]
pub enum Ecn {
    /// The sender does not heed marks: routers drop in place of marking (Not-ECT).
    NotCapable = 0,
    /// The sender heeds marks: ECT(1), which is also the mark of L4S (RFC 9331).
    Capable1 = 1,
    /// The sender heeds marks: ECT(0).
    Capable0 = 2,
    /// A router was congested (CE).
    Congested = 3,
}

impl Ecn {
    /// Returns the two bits of the header, as protocols such as QUIC know them.
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// Returns the marks in a traffic class, of which they are the lower two bits.
    pub(crate) fn of_traffic_class(class: u8) -> Self {
        match class & 3 {
            0 => Self::NotCapable,
            1 => Self::Capable1,
            2 => Self::Capable0,
            _ => Self::Congested,
        }
    }
}

/// How a datagram arrived; see [`DatagramTransport::arrival`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct Arrival {
    /// The congestion marks; with [`receive_ecn`](crate::DatagramOptions::receive_ecn).
    pub ecn: Option<Ecn>,
    /// The IP address that the datagram was sent to: one of this machine's, or that of a group; with
    /// [`receive_destination`](crate::DatagramOptions::receive_destination). An address of IPv4 has the form
    /// of the sender's: `::ffff:192.0.2.1` on an endpoint of IPv6.
    pub destination: Option<IpAddr>,
}

/// # Arrival
impl DatagramTransport {
    /// Returns how the last received datagram arrived: in `datagram_received`, the one that the protocol is
    /// called with.
    ///
    /// A fact is there when the options asked for it, and `None` otherwise, as on a simulated network. It is
    /// no argument of `datagram_received`: endpoints that do not ask pay nothing, and a protocol around another
    /// one has nothing to pass on.
    pub fn arrival(&self) -> Arrival {
        let socket = self.endpoint().socket.borrow();
        let arrival = socket.as_ref().map(crate::driver::Datagrams::arrival);
        arrival.unwrap_or_default()
    }
}
