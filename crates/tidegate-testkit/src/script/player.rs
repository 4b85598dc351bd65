//! Plays a script: does each step, and compares the result with the expectation.

use super::mismatch::Mismatch;
use super::step::Step;
use crate::log::Log;
use crate::scripted_peer::{ScriptedPeer, Waited, within};
use crate::world::{StepLimitExceeded, World};
use std::time::Duration;

const NOTHING: &str = "nothing more";

/// Plays one script on one connection.
pub(super) struct Player {
    pub(super) peer: ScriptedPeer,
    pub(super) world: World,
    pub(super) log: Log,
    pub(super) patience: Duration,
    /// The number of received bytes that were expected.
    pub(super) used: usize,
    pub(super) sent: u64,
}

impl Player {
    pub(super) fn play(&mut self, steps: &[Step]) -> Result<Duration, Mismatch> {
        for (n, step) in steps.iter().enumerate() {
            match self.step(step) {
                Ok(Ok(())) => {}
                Ok(Err(seen)) => return Err(Mismatch::at_step(n + 1, step, step.expected(), seen)),
                Err(busy) => {
                    let expected = step.expected();
                    return Err(Mismatch::at_step(n + 1, step, expected, busy.to_string()));
                }
            }
        }
        let elapsed = self.world.elapsed();
        match self.end() {
            Ok(Ok(())) => Ok(elapsed),
            Ok(Err(seen)) => Err(Mismatch::at_end(steps.len(), NOTHING, seen)),
            Err(busy) => Err(Mismatch::at_end(steps.len(), NOTHING, busy.to_string())),
        }
    }

    /// Does a step. An `Err` within is a text of what came.
    fn step(&mut self, step: &Step) -> Result<Result<(), String>, StepLimitExceeded> {
        let (world, peer) = (&mut self.world, &mut self.peer);
        match step {
            Step::Send(data) => return self.send(data),
            Step::SendAhead(data) => return self.put(data),
            Step::SendBytewise(data) => {
                for byte in data.chunks(1) {
                    if let Err(seen) = self.send(byte)? {
                        return Ok(Err(seen));
                    }
                }
            }
            Step::Wait(time) => {
                let until = world.elapsed().saturating_add(*time);
                peer.listen(world, *time, |_| false)?;
                // Listening ends with the connection, waiting does not.
                let left = until.saturating_sub(world.elapsed());
                world.advance(left)?;
            }
            Step::SendEof => peer.send_eof(world)?,
            Step::Reset => peer.reset(world)?,
            Step::Expect(data) => return self.expect(data),
            Step::ExpectNothing(time) => {
                let before = peer.received().len();
                if before == self.used {
                    peer.listen(world, *time, |peer| peer.received().len() > before)?;
                    let left = self.left_over();
                    if left.is_empty() && !self.peer.is_over() {
                        return Ok(Ok(()));
                    }
                }
                return Ok(Err(self.what_came()));
            }
            Step::ExpectEof => return self.expect_end(|peer| peer.is_ended()),
            Step::ExpectReset => return self.expect_end(|peer| peer.is_reset()),
            Step::ExpectClosed => {
                let lost = self.log.clone();
                within(world, self.patience, || lost.is_lost())?;
                peer.take(world);
                if !self.left_over().is_empty() {
                    return Ok(Err(self.what_came()));
                }
                if !self.log.is_lost() {
                    return Ok(Err("the connection is still there".into()));
                }
            }
        }
        Ok(Ok(()))
    }

    fn send(&mut self, data: &[u8]) -> Result<Result<(), String>, StepLimitExceeded> {
        let before = self.sent;
        if let Err(seen) = self.put(data)? {
            return Ok(Err(seen));
        }
        let (log, sent) = (self.log.clone(), self.sent);
        let is_done = || read(&log) >= sent || log.is_lost();
        // It may have to be rid of its reply first.
        self.peer.attend(&mut self.world, self.patience, is_done)?;
        let came = read(&self.log);
        if came >= sent {
            return Ok(Ok(()));
        }
        let read = came.saturating_sub(before);
        let end = if self.log.is_lost() || self.peer.is_over() {
            self.end_text()
        } else {
            "nobody read on"
        };
        Ok(Err(format!("{end} after {read} bytes of it were read")))
    }

    /// Sends, whether it is read or not.
    fn put(&mut self, data: &[u8]) -> Result<Result<(), String>, StepLimitExceeded> {
        if let Some(end) = self.peer.said_end() {
            return Ok(Err(format!("the script itself had {end} before")));
        }
        let (world, peer) = (&mut self.world, &mut self.peer);
        let sent = peer.send(world, data, true, self.patience)?;
        peer.take(world);
        self.sent += sent as u64;
        Ok(if sent == data.len() {
            Ok(())
        } else if peer.is_over() {
            Err(format!("{} after {sent} bytes of it", self.end_text()))
        } else {
            Err(format!("nobody read on after {sent} bytes of it"))
        })
    }

    fn expect(&mut self, data: &[u8]) -> Result<Result<(), String>, StepLimitExceeded> {
        let (world, peer) = (&mut self.world, &mut self.peer);
        let from = self.used;
        peer.listen(world, self.patience, |peer| {
            let come = &peer.received()[from..];
            come.len() >= data.len() || !data.starts_with(come)
        })?;
        Ok(if peer.received()[from..].starts_with(data) {
            self.used += data.len();
            Ok(())
        } else {
            Err(self.what_came())
        })
    }

    fn expect_end(
        &mut self,
        is_it: fn(&ScriptedPeer) -> bool,
    ) -> Result<Result<(), String>, StepLimitExceeded> {
        let (world, peer) = (&mut self.world, &mut self.peer);
        let before = self.used;
        let waited = peer.listen(world, self.patience, |peer| peer.received().len() > before)?;
        let fits = waited == Waited::Done && self.left_over().is_empty() && is_it(&self.peer);
        Ok(if fits { Ok(()) } else { Err(self.what_came()) })
    }

    fn end(&mut self) -> Result<Result<(), String>, StepLimitExceeded> {
        self.world.pump()?;
        self.peer.take(&self.world);
        if !self.left_over().is_empty() {
            return Ok(Err(self.what_came()));
        }
        self.peer.leave(&mut self.world)?;
        // The reaction of the protocol belongs to the record.
        let log = self.log.clone();
        within(&mut self.world, self.patience, || log.is_lost())?;
        Ok(Ok(()))
    }

    fn left_over(&self) -> &[u8] {
        &self.peer.received()[self.used..]
    }

    fn end_text(&self) -> &'static str {
        if self.peer.is_reset() {
            "a reset"
        } else if self.peer.is_ended() {
            "the end of the stream"
        } else {
            "nothing more"
        }
    }

    fn what_came(&self) -> String {
        let left = self.left_over();
        let end = self.end_text();
        match (left.is_empty(), self.peer.is_over()) {
            (true, false) => "nothing".into(),
            (true, true) => end.into(),
            (false, false) => crate::dialogue::Escaped(left).to_string(),
            (false, true) => format!("{}, then {end}", crate::dialogue::Escaped(left)),
        }
    }
}

/// Returns the number of bytes that the loop has read for a protocol.
fn read(log: &Log) -> u64 {
    let transport = log.transport();
    transport.map_or(0, |transport| transport.stats().received)
}
