//! How datagrams arrived, as the control messages of the kernel tell it.

use super::{DatagramTransport, Ecn};
use std::net::IpAddr;

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
