//! A peer that a script or a check moves: it sends, waits and receives in the world's time, and
//! keeps a record of the dialogue.

use crate::dialogue::{Dialogue, Said};
use crate::network::Peer;
use crate::world::{StepLimitExceeded, World};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The condition became true.
    Done,
    /// The time was over.
    TimeOut,
}

#[derive(Debug)]
pub(crate) struct ScriptedPeer {
    /// `None` from a reset or the departure on.
    peer: Option<Peer>,
    dialogue: Dialogue,
    /// All bytes that were taken.
    received: Vec<u8>,
    is_ended: bool,
    is_reset: bool,
    said_eof: bool,
    said_reset: bool,
}

impl ScriptedPeer {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer: Some(peer),
            dialogue: Dialogue::default(),
            received: Vec::new(),
            is_ended: false,
            is_reset: false,
            said_eof: false,
            said_reset: false,
        }
    }

    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    pub(crate) fn dialogue(&self) -> &Dialogue {
        &self.dialogue
    }

    /// Returns whether the other side has ended its stream, and all of it was taken.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Returns whether the other side reset the connection, not having ended its stream.
    pub(crate) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_ended || self.is_reset || self.peer.is_none()
    }

    /// Returns how it ended its own stream, if it has.
    pub(crate) fn said_end(&self) -> Option<&'static str> {
        if self.said_reset {
            Some("reset the connection")
        } else {
            self.said_eof.then_some("ended the stream")
        }
    }

    /// Takes the bytes that have arrived, and the news of an end.
    pub(crate) fn take(&mut self, world: &World) {
        let Some(peer) = &self.peer else { return };
        let now = world.elapsed();
        let data = peer.take();
        if !data.is_empty() {
            self.received.extend_from_slice(&data);
            self.dialogue.add(now, Said::Got(data));
        }
        if self.is_over() || peer.waiting() > 0 {
            return;
        }
        if peer.is_ended() {
            self.is_ended = true;
            self.dialogue.add(now, Said::GotEof);
        } else if peer.is_reset() {
            self.is_reset = true;
            self.dialogue.add(now, Said::GotReset);
        }
    }

    /// Sends all of `data`, taking when `takes`; in any case when it could not go on otherwise. Returns the
    /// number of sent bytes: fewer when the connection is over, or when they are not read for `patience`.
    pub(crate) fn send(
        &mut self,
        world: &mut World,
        data: &[u8],
        takes: bool,
        patience: Duration,
    ) -> Result<usize, StepLimitExceeded> {
        let mut sent = 0;
        let mut stuck = 0;
        while sent < data.len() && stuck < 3 {
            let Some(peer) = &self.peer else { break };
            match peer.send(&data[sent..]) {
                Ok(len) => {
                    let piece = data[sent..sent + len].to_vec();
                    self.dialogue.add(world.elapsed(), Said::Sent(piece));
                    sent += len;
                    stuck = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stuck += 1,
                Err(_) => break,
            }
            world.pump()?;
            if takes || stuck > 0 {
                self.take(world);
                world.pump()?;
            }
            if stuck > 1 {
                self.wait(world, patience, |peer| {
                    peer.waiting() > 0 || peer.is_delivered() || peer.is_reset()
                })?;
            }
        }
        Ok(sent)
    }

    /// Takes what has arrived, again and again, for as long as the other side does not read what was sent
    /// and has bytes on the way.
    pub(crate) fn take_until_read(&mut self, world: &mut World) -> Result<(), StepLimitExceeded> {
        let is_stalled = |peer: &Peer| peer.waiting() > 0 && !peer.is_read();
        while self.peer.as_ref().is_some_and(is_stalled) {
            self.take(world);
            world.pump()?;
        }
        Ok(())
    }

    pub(crate) fn send_eof(&mut self, world: &mut World) -> Result<(), StepLimitExceeded> {
        if let Some(peer) = &self.peer
            && !self.said_eof
            && peer.send_eof().is_ok()
        {
            self.said_eof = true;
            self.dialogue.add(world.elapsed(), Said::SentEof);
        }
        world.pump()
    }

    pub(crate) fn reset(&mut self, world: &mut World) -> Result<(), StepLimitExceeded> {
        if let Some(peer) = self.peer.take() {
            self.said_reset = true;
            self.dialogue.add(world.elapsed(), Said::SentReset);
            peer.reset();
        }
        world.pump()
    }

    /// Closes the socket, as a process does that ends.
    pub(crate) fn leave(&mut self, world: &mut World) -> Result<(), StepLimitExceeded> {
        if let Some(peer) = self.peer.take() {
            if !self.is_over() && !self.said_eof {
                self.dialogue.add(world.elapsed(), Said::Left);
            }
            drop(peer);
        }
        world.pump()
    }

    /// Runs the world until `done`, for `limit` at most.
    pub(crate) fn wait(
        &self,
        world: &mut World,
        limit: Duration,
        done: impl Fn(&Peer) -> bool,
    ) -> Result<Waited, StepLimitExceeded> {
        let Some(peer) = &self.peer else {
            world.advance(limit)?;
            return Ok(Waited::TimeOut);
        };
        within(world, limit, || done(peer))
    }

    /// Takes bytes until `enough`, or the connection is over, or `limit` has passed.
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
            if enough(self) || self.is_over() {
                return Ok(Waited::Done);
            }
            let left = until.saturating_sub(world.elapsed());
            let waited = self.wait(world, left, |peer| {
                peer.waiting() > 0 || peer.is_ended() || peer.is_reset()
            })?;
            if waited == Waited::TimeOut {
                // Bytes that came with the last moment.
                world.pump()?;
                self.take(world);
                return Ok(Waited::TimeOut);
            }
        }
    }

    /// Takes bytes until `done`, for `limit` at most, the end of the connection or not.
    pub(crate) fn attend(
        &mut self,
        world: &mut World,
        limit: Duration,
        done: impl Fn() -> bool,
    ) -> Result<(), StepLimitExceeded> {
        let until = world.elapsed().saturating_add(limit);
        let mut waited = Waited::Done;
        loop {
            world.pump()?;
            self.take(world);
            if done() || waited == Waited::TimeOut {
                return Ok(());
            }
            let left = until.saturating_sub(world.elapsed());
            let peer = self.peer.as_ref().filter(|_| !self.is_over());
            let has_news = || {
                peer.is_some_and(|peer| peer.waiting() > 0 || peer.is_ended() || peer.is_reset())
            };
            waited = within(world, left, || done() || has_news())?;
        }
    }
}

/// Runs the world until `done`, for `limit` at most.
pub(crate) fn within(
    world: &mut World,
    limit: Duration,
    done: impl Fn() -> bool,
) -> Result<Waited, StepLimitExceeded> {
    world.pump()?;
    let is_over = Rc::new(Cell::new(limit.is_zero()));
    if !limit.is_zero() && !done() {
        let is_over = is_over.clone();
        world.network().after(limit, move |_| is_over.set(true));
    }
    world.run_until_true(|| is_over.get() || done())?;
    Ok(if done() {
        Waited::Done
    } else {
        Waited::TimeOut
    })
}
