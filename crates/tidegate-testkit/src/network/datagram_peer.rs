//! A socket of datagrams that a test holds in its own hand.

use super::Network;
use super::port::PortId;
use std::io;
use std::net::SocketAddr;
use tidegate::Address;
use tidegate::driver::Transmit;

/// A socket of datagrams without a loop: the test sends and takes datagrams by hand. Faults do not strike its
/// calls, though they strike datagrams on the way.
///
/// Datagrams that are not [taken](Self::take) stay in the receive buffer, and when that is full, later ones are
/// dropped. Dropping it closes the socket: datagrams to it are refused from then on.
///
/// ```
/// use tidegate_testkit::{DatagramRecorder, Log, World};
///
/// # fn main() -> tidegate::Result {
/// let mut world = World::new();
/// let host = world.add_host("host")?;
/// let echo = DatagramRecorder::echo(&Log::new());
/// host.handle().create_datagram_endpoint(host.addr(7), echo)?;
/// let peer = world.network().bind_datagrams(0)?;
/// peer.send_to(b"ping", host.addr(7))?;
/// world.pump()?;
/// assert_eq!(peer.take(), Some((b"ping".to_vec(), host.addr(7))));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DatagramPeer {
    network: Network,
    id: PortId,
    addr: SocketAddr,
}

impl DatagramPeer {
    pub(super) fn new(network: &Network, id: PortId, addr: SocketAddr) -> Self {
        let network = network.clone();
        Self { network, id, addr }
    }

    /// Returns its own address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Puts a datagram on the way.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) while a [bandwidth](super::Link::bandwidth) leaves no room; the
    /// kernel's for a datagram of more than 65,507 bytes and for an address that it cannot send to.
    pub fn send_to(&self, data: &[u8], to: SocketAddr) -> io::Result<()> {
        let transmit = Transmit {
            to: Some(&Address::Inet(to)),
            data,
            segment: data.len(),
            departure: None,
        };
        self.network
            .with(|state| state.send_datagrams(self.id, transmit))
    }

    /// Takes the next datagram that has arrived, and its sender.
    pub fn take(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let (from, data) = self
            .network
            .with(|state| state.port(self.id).ok()?.take_one())?;
        Some((data, from))
    }

    /// Returns the number of datagrams that have arrived and were not taken.
    pub fn waiting(&self) -> usize {
        self.network
            .with(|state| state.port(self.id).map_or(0, |port| port.inbox.len()))
    }
}

impl Drop for DatagramPeer {
    fn drop(&mut self) {
        self.network.with(|state| state.close_port(self.id));
    }
}
