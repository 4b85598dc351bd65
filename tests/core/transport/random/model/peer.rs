//! The view of the peer.

use super::{Model, ours, theirs};
use std::io;
use std::net::Shutdown;
use std::time::Duration;
use support::Peer;
use tidegate::{Closed, Transport};

impl Model {
    /// Whether all that both sides wrote has arrived, and the peer's end of stream.
    pub(crate) fn is_through(&self) -> bool {
        self.wire.received().len() as u64 == self.written
            && self.buffered() == 0
            && self.front.is_empty()
            && self.received == self.peer_sent
            && self.eof_told == self.peer_eof
    }

    pub(crate) fn peer_read(&mut self, transport: &Transport, most: usize) {
        let Some(mut peer) = self.peer.take().filter(|_| !self.peer_gone) else {
            return;
        };
        if most == usize::MAX {
            peer.read_available();
        } else {
            peer.read_some(most);
        }
        self.observe(transport);
        self.exchange(&mut peer);
        let new = &self.wire.received()[self.peer_checked..];
        let same = new == ours(self.peer_checked as u64, new.len());
        self.expect(same, "the peer gets what was written, in order");
        self.peer_checked = self.wire.received().len();
        let got = self.peer_checked as u64;
        let most = self
            .written
            .min(self.sent + self.wire.slack(self.closed.is_some()));
        self.expect(got <= most, "the peer gets no more than was sent");
        if self.wire.saw_an_end() {
            let ours = self.eof_asked || self.is_ended();
            let whole = ours && got == self.written;
            self.expect(whole, "no clean end of a cut stream");
        }
        if peer.saw_eof() && !self.peer_failed {
            let all = (self.sent..=most).contains(&got);
            self.expect(all, "the peer's eof comes after all bytes");
            let ours = self.eof_asked || self.is_ended();
            self.expect(ours, "the peer's eof comes from our end");
            let lost = self.closed.as_ref().map_or(0, Closed::unsent);
            let whole = lost == 0 || !peer.is_tcp();
            self.expect(whole, "a tcp peer sees no eof when bytes were lost");
        }
        if peer.saw_error().is_some() {
            let gentle = self.is_gentle();
            self.expect(!gentle, "a graceful close is no reset for the peer");
        }
        self.peer = Some(peer);
    }

    /// The connection has a peer.
    pub(crate) fn meet(&mut self, peer: Peer) -> io::Result<()> {
        if peer.is_tcp() {
            peer.as_sock().set_tcp_nodelay(true)?;
        }
        self.peer = Some(peer);
        Ok(())
    }

    /// The peer does its part of opening layers.
    pub(crate) fn shake_hands(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            peer.read_available();
            self.exchange(&mut peer);
            self.peer = Some(peer);
        }
    }

    /// The peer takes in what was read, and sends what it has to send.
    pub(crate) fn exchange(&mut self, peer: &mut Peer) {
        if let Err(error) = self.wire.feed(peer.received()) {
            self.expect(false, &format!("the peer understands us: {error}"));
        }
        self.pump(peer);
    }

    fn pump(&mut self, peer: &mut Peer) {
        if self.wire.is_shut || peer.is_closed() {
            return;
        }
        let ends = self.wire.put_out_end();
        if !self.wire.output.is_empty() {
            match peer.try_write(&self.wire.output) {
                Ok(sent) => drop(self.wire.output.drain(..sent)),
                Err(_) => {
                    self.wire.output.clear();
                    self.peer_write_failed();
                }
            }
        }
        if ends && self.wire.output.is_empty() {
            // It fails after a reset of ours.
            let _ = peer.as_sock().shutdown(Shutdown::Write);
            self.wire.is_shut = true;
        }
    }

    /// Sends what the peer has to send.
    pub(crate) fn pump_peer(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            self.pump(&mut peer);
            self.peer = Some(peer);
        }
    }

    pub(crate) fn peer_write(&mut self, len: usize) {
        if self.peer_gone || self.peer_eof {
            return;
        }
        self.pump_peer();
        let bytes = theirs(self.peer_sent, len);
        let Some(peer) = self.peer.as_mut().filter(|_| !bytes.is_empty()) else {
            return;
        };
        let sent = if self.wire.is_plain() {
            peer.try_write(bytes)
        } else if self.wire.output.is_empty() {
            self.wire.send(bytes);
            self.peer_sent += bytes.len();
            self.pump_peer();
            return self.note(format!("   -> {}", bytes.len()));
        } else {
            Ok(0)
        };
        match sent {
            Ok(sent) => {
                self.peer_sent += sent;
                self.note(format!("   -> {sent}"));
            }
            Err(_) => self.peer_write_failed(),
        }
    }

    pub(crate) fn peer_end(&mut self) {
        if !self.peer_gone && self.peer.is_some() {
            self.peer_eof = true;
            self.wire.end();
            self.pump_peer();
        }
    }

    /// A write of the peer failed.
    pub(crate) fn peer_write_failed(&mut self) {
        let gentle = self.is_gentle();
        self.expect(
            !gentle,
            "a peer can write until the end, and a while after a close",
        );
        self.peer_failed = true;
    }

    /// Returns whether we have done nothing that the peer resets. After a graceful close the loop
    /// waits for the peer for a second, not for ever.
    fn is_gentle(&self) -> bool {
        let hard = self.aborted || self.timed || self.callback_failed || self.shut_down;
        let late = self
            .lost
            .is_some_and(|lost| lost.elapsed() > Duration::from_millis(800));
        // A connection that was not made does not wait for the peer.
        !(hard || late || self.peer_gone || self.is_unmade())
    }

    /// After the end: the peer has read all there was.
    pub(crate) fn check_peer_end(&mut self) {
        let clean = self.closed.as_ref().is_some_and(Closed::is_clean);
        if let Some(peer) = &self.peer
            && clean
            && self.is_gentle()
        {
            let eof = peer.saw_eof();
            let all = self.wire.received().len() as u64 == self.written && eof;
            self.expect(all, "after a clean end the peer has it all");
            let ends = self.wire.saw_all_ends();
            self.expect(ends, "after a clean end the peer saw that of each layer");
        }
    }
}
