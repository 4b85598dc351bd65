//! An end of a connection that a test holds in its own hand.

use super::Network;
use super::endpoint::{EndpointId, Fin, Phase};
use super::listener::ListenerId;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// One end of a connection without a loop: the test sends and takes bytes by hand, segment by segment.
/// Faults do not strike its calls, though they strike segments on the way.
///
/// Bytes that are not [taken](Self::take) stay in the receive buffer, and when it is full the sender is
/// refused: a peer that is left alone is a slow reader. Dropping it closes the connection as close(2)
/// does: with a reset when there is something untaken.
#[derive(Debug)]
pub struct Peer {
    network: Network,
    id: EndpointId,
}

impl Peer {
    pub(super) fn new(network: &Network, id: EndpointId) -> Self {
        let network = network.clone();
        Self { network, id }
    }

    /// Returns whether the connection stands.
    ///
    /// # Errors
    ///
    /// The connect's: refused, timed out.
    pub fn connected(&self) -> io::Result<bool> {
        self.network.with(|state| state.connected(self.id))
    }

    /// Puts bytes on the way, as one segment if they fit, and returns the number that the kernel took.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when it took none; a reset by the other side.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.network
            .with(|state| state.write(self.id, &[IoSlice::new(data)]))
    }

    /// Ends its own stream, after the sent bytes.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub fn send_eof(&self) -> io::Result<()> {
        self.network.with(|state| state.shutdown_write(self.id))
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.network.with(|state| state.reset_on_close(self.id));
    }

    /// Takes the bytes that have arrived.
    pub fn take(&self) -> Vec<u8> {
        self.network.with(|state| {
            let there = state
                .endpoint(self.id)
                .map_or(0, |endpoint| endpoint.incoming.len());
            let mut bytes = vec![0; there];
            let len = if there == 0 {
                0
            } else {
                state.read(self.id, &mut bytes).unwrap_or(0)
            };
            bytes.truncate(len);
            bytes
        })
    }

    /// Takes bytes as read(2) does: 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is there; once, the error of a reset.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.network.with(|state| state.read(self.id, buffer))
    }

    /// Returns the number of bytes that have arrived and were not taken.
    pub fn waiting(&self) -> usize {
        self.network.with(|state| {
            state
                .endpoint(self.id)
                .map_or(0, |endpoint| endpoint.incoming.len())
        })
    }

    /// Returns whether the other side has ended its stream. Bytes may still wait to be taken.
    pub fn is_ended(&self) -> bool {
        self.network.with(|state| {
            state
                .endpoint(self.id)
                .is_none_or(|endpoint| endpoint.fin_received)
        })
    }

    /// Returns whether the connection was reset.
    pub fn is_reset(&self) -> bool {
        self.network.with(|state| {
            state
                .endpoint(self.id)
                .is_none_or(|endpoint| endpoint.phase == Phase::Dead)
        })
    }

    /// Returns whether everything that was sent has arrived, the EOF too.
    pub fn is_delivered(&self) -> bool {
        self.network.with(|state| {
            state.endpoint(self.id).is_none_or(|endpoint| {
                let on_its_way = matches!(endpoint.fin, Fin::Wanted | Fin::Sent);
                endpoint.outgoing.is_empty() && endpoint.in_flight == 0 && !on_its_way
            })
        })
    }

    /// Returns whether the other side has read everything that was sent, or is gone.
    pub(crate) fn is_read(&self) -> bool {
        let is_empty = self.network.with(|state| {
            let other = state.endpoint(self.id).and_then(|endpoint| endpoint.peer);
            let other = other.and_then(|other| state.endpoint(other));
            other.is_none_or(|other| other.incoming.is_empty())
        });
        is_empty && self.is_delivered()
    }

    /// Returns its own address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.network
            .with(|state| state.endpoint(self.id).map(|endpoint| endpoint.local))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.network.with(|state| state.close(self.id));
    }
}

/// A listener whose connections a test takes by hand.
#[derive(Debug)]
pub struct PeerListener {
    network: Network,
    id: ListenerId,
    addr: SocketAddr,
}

impl PeerListener {
    pub(super) fn new(network: &Network, id: ListenerId, addr: SocketAddr) -> Self {
        let network = network.clone();
        Self { network, id, addr }
    }

    /// Returns the address to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes the next connection, if one has come.
    pub fn accept(&self) -> Option<Peer> {
        let accepted = self.network.with(|state| state.accept(self.id)).ok()?;
        Some(Peer::new(&self.network, accepted.0))
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        self.network.with(|state| state.close_listener(self.id));
    }
}
