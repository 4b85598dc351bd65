//! The view of the peer.

use super::{Model, ours};
use std::time::Duration;
use tidegate::{Closed, Transport};

impl Model {
    /// Whether all that both sides wrote has arrived, and the peer's end of stream.
    pub(crate) fn is_through(&self) -> bool {
        let peer = self.peer.as_ref().map_or(0, |peer| peer.received().len());
        peer as u64 == self.written
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
        let new = &peer.received()[self.peer_checked..];
        let same = new == ours(self.peer_checked as u64, new.len());
        self.expect(same, "the peer gets what was written, in order");
        self.peer_checked = peer.received().len();
        let got = self.peer_checked as u64;
        self.expect(got <= self.sent, "the peer gets no more than was sent");
        if peer.saw_eof() && !self.peer_failed {
            self.expect(got == self.sent, "the peer's eof comes after all bytes");
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
        !(hard || late || self.peer_gone)
    }

    /// After the end: the peer has read all there was.
    pub(crate) fn check_peer_end(&mut self) {
        let clean = self.closed.as_ref().is_some_and(Closed::is_clean);
        if let Some(peer) = &self.peer
            && clean
            && self.is_gentle()
        {
            let all = peer.received().len() as u64 == self.written && peer.saw_eof();
            self.expect(all, "after a clean end the peer has it all");
        }
    }
}
