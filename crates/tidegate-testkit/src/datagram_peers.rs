//! The peers of an endpoint of datagrams, which a script or a check moves: they send, wait and receive in the
//! world's time, and keep a record of the dialogue.

use crate::dialogue::{Dialogue, Said};
use crate::network::DatagramPeer;
use crate::scripted_peer::{Waited, within};
use crate::world::{StepLimitExceeded, World};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct DatagramPeers {
    peers: Vec<One>,
    dialogue: Dialogue,
}

#[derive(Debug)]
struct One {
    addr: SocketAddr,
    /// `None` while it is away.
    socket: Option<DatagramPeer>,
    received: Vec<Vec<u8>>,
}

impl DatagramPeers {
    pub(crate) fn new(world: &World, count: usize) -> io::Result<Self> {
        let one = |_| {
            let socket = world.network().bind_datagrams(0)?;
            Ok(One {
                addr: socket.addr(),
                socket: Some(socket),
                received: Vec::new(),
            })
        };
        Ok(Self {
            peers: (0..count).map(one).collect::<io::Result<_>>()?,
            dialogue: Dialogue::default(),
        })
    }

    pub(crate) fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }

    pub(crate) fn addr(&self, peer: usize) -> SocketAddr {
        self.peers[peer].addr
    }

    /// Returns all datagrams that a peer has taken.
    pub(crate) fn received(&self, peer: usize) -> &[Vec<u8>] {
        &self.peers[peer].received
    }

    /// Puts a datagram on its way. A peer that is away sends nothing.
    pub(crate) fn put(&mut self, world: &World, peer: usize, data: &[u8], to: SocketAddr) {
        let Some(socket) = &self.peers[peer].socket else {
            return;
        };
        if socket.send_to(data, to).is_ok() {
            let said = Said::SentDatagram(peer, data.to_vec());
            self.dialogue.add(world.elapsed(), said);
        }
    }

    /// Sends a datagram, and takes what comes for it at once: no timer fires meanwhile.
    pub(crate) fn send(
        &mut self,
        world: &mut World,
        peer: usize,
        data: &[u8],
        to: SocketAddr,
    ) -> Result<(), StepLimitExceeded> {
        self.put(world, peer, data, to);
        world.settle()?;
        self.take(world);
        Ok(())
    }

    /// Takes the datagrams that have arrived.
    pub(crate) fn take(&mut self, world: &World) {
        let now = world.elapsed();
        for (n, peer) in self.peers.iter_mut().enumerate() {
            while let Some((data, _)) = peer.socket.as_ref().and_then(DatagramPeer::take) {
                self.dialogue.add(now, Said::GotDatagram(n, data.clone()));
                peer.received.push(data);
            }
        }
    }

    /// Takes datagrams until `enough`, for `limit` at most.
    pub(crate) fn listen(
        &mut self,
        world: &mut World,
        limit: Duration,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<Waited, StepLimitExceeded> {
        let until = world.elapsed().saturating_add(limit);
        world.pump()?;
        loop {
            self.take(world);
            if enough(self) {
                return Ok(Waited::Done);
            }
            let left = until.saturating_sub(world.elapsed());
            if within(world, left, || self.has_news())? == Waited::TimeOut {
                world.pump()?;
                self.take(world);
                return Ok(Waited::TimeOut);
            }
        }
    }

    fn has_news(&self) -> bool {
        let sockets = self.peers.iter().filter_map(|peer| peer.socket.as_ref());
        sockets.into_iter().any(|socket| socket.waiting() > 0)
    }

    /// Closes the socket of a peer: what is sent to it is refused.
    pub(crate) fn leave(&mut self, world: &World, peer: usize) {
        if self.peers[peer].socket.take().is_some() {
            self.dialogue.add(world.elapsed(), Said::LeftAs(peer));
        }
    }

    /// Binds it to its address again.
    pub(crate) fn come_back(&mut self, world: &World, peer: usize) -> io::Result<()> {
        let peer = &mut self.peers[peer];
        if peer.socket.is_none() {
            peer.socket = Some(world.network().bind_datagrams(peer.addr.port())?);
        }
        Ok(())
    }
}
