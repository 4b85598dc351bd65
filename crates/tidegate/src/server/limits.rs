//! The maximum numbers of connections of a server, and of each of its peers.
//!
//! A listener asks [`ServerState::is_full`] before each accept, so none is made above the maximum.
//! The end of a socket at the maximum is the only event that makes room, and has the next tick
//! accept: nothing polls for it.
//!
//! A peer above its own maximum must be accepted to be known, and would stand before others in the
//! backlog if it were not. So it is accepted and refused.

use super::ListenOptions;
use super::state::{ServerState, Stage};
use crate::Address;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

/// The network part of an IPv6 address: a site, often one machine, has all addresses of a /64
/// (RFC 6177; RFC 4291, 2.5.4).
const NETWORK_OF_V6: u128 = !0 << 64;

/// The limits of a server, which its connections need no memory for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    connections: Option<usize>,
    per_peer: Option<usize>,
}

impl Limits {
    pub(super) fn most_connections(&self) -> Option<usize> {
        self.connections
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.connections == Some(0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "max_connections of 0: a server must be able to accept",
            ));
        }
        if self.per_peer == Some(0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "max_connections_per_peer of 0: a server must be able to serve",
            ));
        }
        Ok(())
    }
}

/// An IPv4 address, or the /64 network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey(IpAddr);

impl PeerKey {
    /// Returns `None` for a peer without an IP address.
    fn of(peer: &Address) -> Option<Self> {
        Some(Self(match peer.as_inet()?.ip().to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK_OF_V6)),
            v4 => v4,
        }))
    }
}

/// The number of sockets of each peer that has any. Empty without a maximum for each peer.
#[derive(Debug, Default)]
pub(super) struct Peers(RefCell<HashMap<PeerKey, usize>>);

impl Peers {
    fn count(&self, peer: PeerKey) -> usize {
        self.0.borrow().get(&peer).copied().unwrap_or(0)
    }

    fn add(&self, peer: PeerKey) {
        *self.0.borrow_mut().entry(peer).or_default() += 1;
    }

    fn remove(&self, peer: PeerKey) {
        let mut peers = self.0.borrow_mut();
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
        // The memory of a burst goes back.
        if peers.capacity() > 8 * peers.len().max(128) {
            peers.shrink_to_fit();
        }
    }
}

/// # Limits
impl ListenOptions {
    /// Sets the maximum number of connections of the server, for all of its addresses together; no
    /// maximum unless set.
    ///
    /// At the maximum the server accepts nobody. Further peers connect with success and wait in
    /// the [backlog](Self::backlog), as in a [pause](crate::Server::pause_accepting). When a
    /// connection has ended, the server accepts again by itself. Of several addresses with waiting
    /// peers each has its turn.
    ///
    /// A socket that [lingers](crate::LingerLimits) counts as a connection until it is closed, and
    /// so does a connection whose [layers](Self::layer) are still opening.
    ///
    /// [`finish_accepting`](crate::Server::finish_accepting) and
    /// [`shutdown`](crate::Server::shutdown) take the whole backlog, also above the maximum.
    /// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) for 0.
    ///
    /// ```
    /// use tidegate::ListenOptions;
    ///
    /// let options = ListenOptions::new("127.0.0.1:8888").max_connections(10_000);
    /// # let _ = options;
    /// ```
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = Some(connections);
        self
    }

    /// Sets the maximum number of connections of one peer to the server: of an IPv4 address, or of
    /// all IPv6 addresses whose first 64 bits are the same. No maximum unless set.
    ///
    /// Further ones are accepted and refused, before [`accept_if`](Self::accept_if) and the factory
    /// are asked: in the backlog they would stand before others. They are reset as `accept_if`
    /// describes, and counted in [`Server::refused_count`](crate::Server::refused_count). They are
    /// not logged. A socket that [lingers](crate::LingerLimits) counts until it is closed.
    ///
    /// Behind a proxy it is useless, for all connections come from the proxy. So it is for peers
    /// that share an address by NAT, unless it is high. It has no effect on Unix sockets.
    /// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) for 0.
    ///
    /// ```
    /// use tidegate::ListenOptions;
    ///
    /// let options = ListenOptions::new("[::]:8888")
    ///     .v6only(false)
    ///     .max_connections(10_000)
    ///     .max_connections_per_peer(100);
    /// # let _ = options;
    /// ```
    pub fn max_connections_per_peer(mut self, connections: usize) -> Self {
        self.limits.per_peer = Some(connections);
        self
    }
}

impl ServerState {
    /// Returns whether the server has its maximum of sockets.
    pub(super) fn is_full(&self) -> bool {
        let most = self.limits.connections;
        most.is_some_and(|most| self.socket_count() >= most)
    }

    /// Returns the key of a peer, if there is a maximum for each.
    pub(super) fn key_of(&self, peer: &Address) -> Option<PeerKey> {
        self.limits.per_peer.and_then(|_| PeerKey::of(peer))
    }

    /// Returns whether a peer has its maximum of sockets.
    pub(super) fn has_enough(&self, peer: &Address) -> bool {
        let (Some(most), Some(key)) = (self.limits.per_peer, self.key_of(peer)) else {
            return false;
        };
        self.peers.count(key) >= most
    }

    pub(super) fn socket_of(&self, peer: Option<PeerKey>) {
        if let Some(key) = peer {
            self.peers.add(key);
        }
    }

    /// Takes a socket that is gone off the count of its peer, and has the listeners go on if it
    /// kept them from accepting.
    pub(super) fn socket_is_gone(&self, peer: Option<PeerKey>) {
        if let Some(key) = peer {
            self.peers.remove(key);
        }
        self.accept_if_room();
    }

    /// Has the listeners go on if this was the socket that kept them from accepting.
    fn accept_if_room(&self) {
        let Some(most) = self.limits.connections else {
            return;
        };
        if self.socket_count() + 1 != most {
            return;
        }
        let Stage::Serving(listeners) = &*self.stage.borrow() else {
            return;
        };
        let first = self.first.get() % listeners.len().max(1);
        self.first.set(first + 1);
        let (later, sooner) = listeners.split_at(first);
        for listener in sooner.iter().chain(later) {
            listener.accept_later(self.handle().core());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> Option<PeerKey> {
        let ip: IpAddr = ip.parse().unwrap();
        PeerKey::of(&Address::Inet((ip, 1).into()))
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_the_first_half_of_an_ipv6_address() {
        assert_eq!(
            key("2001:db8:0:1::1"),
            key("2001:db8:0:1:ffff:ffff:ffff:ffff")
        );
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.2.2"));
        assert_eq!(PeerKey::of(&Address::Unnamed), None);
    }

    #[test]
    fn a_peer_without_sockets_is_forgotten() {
        let peers = Peers::default();
        for n in 0..5_000_u16 {
            let peer = key(&format!("2001:db8:0:{n:x}::1")).unwrap();
            peers.add(peer);
            peers.add(peer);
            peers.remove(peer);
            assert_eq!(peers.count(peer), 1);
        }
        for n in 0..5_000_u16 {
            let peer = key(&format!("2001:db8:0:{n:x}::1")).unwrap();
            peers.remove(peer);
            assert_eq!(peers.count(peer), 0);
        }
        let peers = peers.0.borrow();
        assert!(peers.is_empty() && peers.capacity() <= 1_024);
    }
}
