//! Plays a script of datagrams: does each step, and compares the result with the expectation.

use super::step::{Act, Step};
use crate::Mismatch;
use crate::datagram_peers::DatagramPeers;
use crate::dialogue::Escaped;
use crate::log::Log;
use crate::scripted_peer::within;
use crate::world::{StepLimitExceeded, World};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::DatagramTransport;

const NOTHING: &str = "nothing more";

/// Plays one script with one endpoint.
pub(super) struct Player {
    pub(super) peers: DatagramPeers,
    pub(super) world: World,
    pub(super) log: Log,
    pub(super) endpoint: DatagramTransport,
    pub(super) at: SocketAddr,
    pub(super) patience: Duration,
    /// The number of datagrams that were expected, of each peer.
    pub(super) used: Vec<usize>,
}

impl Player {
    pub(super) fn play(&mut self, steps: &[Step]) -> Result<Duration, Mismatch> {
        // The first callback comes before the first step.
        if let Err(busy) = self.world.pump() {
            return Err(Mismatch::at_start("an endpoint", &io::Error::other(busy)));
        }
        for (n, step) in steps.iter().enumerate() {
            let seen = match self.step(step) {
                Ok(Ok(())) => continue,
                Ok(Err(seen)) => seen,
                Err(busy) => busy.to_string(),
            };
            return Err(Mismatch::at_step(n + 1, step, step.expected(), seen));
        }
        let elapsed = self.world.elapsed();
        let seen = match self.end() {
            Ok(Ok(())) => return Ok(elapsed),
            Ok(Err(seen)) => seen,
            Err(busy) => busy.to_string(),
        };
        Err(Mismatch::at_end(steps.len(), NOTHING, seen))
    }

    /// Does a step. An `Err` within is a text of what came.
    fn step(&mut self, step: &Step) -> Result<Result<(), String>, StepLimitExceeded> {
        let (world, peers, peer) = (&mut self.world, &mut self.peers, step.peer);
        let from = self.used[peer];
        match &step.act {
            Act::Send(data) => peers.send(world, peer, data, self.at)?,
            Act::Wait(time) => {
                world.advance(*time)?;
                peers.take(world);
            }
            Act::Leave => {
                peers.take(world);
                peers.leave(world, peer);
            }
            Act::Expect(data) => {
                let patience = self.patience;
                peers.listen(world, patience, |peers| peers.received(peer).len() > from)?;
                if peers.received(peer).get(from) != Some(data) {
                    return Ok(Err(self.what_came(peer)));
                }
                self.used[peer] += 1;
            }
            Act::ExpectNothing(time) => {
                peers.listen(world, *time, |peers| peers.received(peer).len() > from)?;
                if peers.received(peer).len() > from {
                    return Ok(Err(self.what_came(peer)));
                }
            }
            Act::ExpectClosed => {
                let log = self.log.clone();
                within(world, self.patience, || log.is_lost())?;
                peers.take(world);
                if !self.log.is_lost() {
                    return Ok(Err("the endpoint is still there".into()));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Nothing may be left over. Then the endpoint is closed, if it has not ended: what that does belongs to the
    /// record.
    fn end(&mut self) -> Result<Result<(), String>, StepLimitExceeded> {
        self.world.pump()?;
        self.peers.take(&self.world);
        for (peer, used) in self.used.iter().enumerate() {
            if self.peers.received(peer).len() > *used {
                return Ok(Err(format!("at peer {peer}: {}", self.what_came(peer))));
            }
        }
        self.endpoint.close();
        let log = self.log.clone();
        within(&mut self.world, self.patience, || log.is_lost())?;
        Ok(Ok(()))
    }

    fn what_came(&self, peer: usize) -> String {
        let left = &self.peers.received(peer)[self.used[peer]..];
        let texts: Vec<_> = left.iter().map(|data| Escaped(data).to_string()).collect();
        if texts.is_empty() {
            return "nothing".into();
        }
        texts.join(", ")
    }
}
