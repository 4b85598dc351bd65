//! What is on its way between two ends: segments, ends of streams, resets.

use super::end::{EndId, Fin, Phase};
use super::state::{Happening, HostId, State};
use crate::faults::{Fault, Faults};
use std::time::Duration;
use tidegate::driver::Readiness;

/// The most that arrives at once, as with segmentation offload.
const SEGMENT: usize = 64 * 1024;

impl State {
    /// Sends what the receiver has room for, and the end of the stream after the last of it.
    pub(super) fn transmit(&mut self, id: EndId) {
        loop {
            let Some(end) = self.end(id) else { return };
            let Some(peer) = end.peer else { return };
            if end.phase != Phase::Open {
                return;
            }
            let (unsent, in_flight, fin) = (end.outgoing.len(), end.in_flight, end.fin);
            if unsent == 0 {
                if fin == Fin::Wanted {
                    end.fin = Fin::Sent;
                    let fin = Happening::Fin { from: id, to: peer };
                    self.put_on_wire(id, 0, fin);
                }
                return;
            }
            // Nobody is there any more: what is sent will be answered with a reset.
            let window = self.end(peer).map_or(SEGMENT, |peer| {
                peer.receive_buffer
                    .saturating_sub(peer.incoming.len() + in_flight)
            });
            let len = unsent.min(window).min(SEGMENT);
            if len == 0 {
                return;
            }
            let Some(end) = self.end(id) else { return };
            let bytes: Vec<u8> = end.outgoing.drain(..len).collect();
            end.in_flight += len;
            let segment = Happening::Segment {
                from: id,
                to: peer,
                bytes,
            };
            self.put_on_wire(id, len, segment);
        }
    }

    /// Has something arrive after everything that was sent before it on this connection.
    pub(super) fn put_on_wire(&mut self, from: EndId, len: usize, what: Happening) {
        let Some(end) = self.end(from) else { return };
        let (host, peer_host, last) = (end.host, end.peer_host, end.last);
        let at = self.arrival(host, peer_host, len);
        let key = if self.dice.strikes(Fault::Reorder) {
            self.dice.any()
        } else {
            0
        };
        let order = (at, key).max(last);
        if let Some(end) = self.end(from) {
            end.last = order;
        }
        self.schedule_with(order.0, order.1, what);
    }

    /// When something that is sent now arrives.
    pub(super) fn arrival(&mut self, from: HostId, to: HostId, len: usize) -> Duration {
        let now = self.now();
        let wire = self.wire(from, to);
        let departure = wire.busy_until.max(now) + wire.link.time_for(len);
        wire.busy_until = departure;
        let (latency, jitter) = (wire.link.latency, wire.link.jitter);
        let mut at = departure + latency + self.dice.within(Duration::ZERO, jitter);
        if len > 0 && self.dice.strikes(Fault::Stall) {
            at += self.dice.within(Duration::ZERO, Faults::STALL);
        }
        at
    }

    /// Something has come to the other side of a wire.
    pub(super) fn arrive(&mut self, what: Happening) {
        let path = match &what {
            Happening::Segment { from, .. }
            | Happening::Fin { from, .. }
            | Happening::Welcome { from, .. } => {
                self.end(*from).map(|end| (end.host, end.peer_host))
            }
            Happening::Reset { to } | Happening::Refusal { to, .. } => {
                self.end(*to).map(|end| (end.peer_host, end.host))
            }
            _ => None,
        };
        if let Some((from, to)) = path
            && self.wire(from, to).cut
        {
            self.wire(from, to).held.push_back(what);
            return;
        }
        match what {
            Happening::Segment { from, to, bytes } => self.segment_arrived(from, to, &bytes),
            Happening::Fin { from, to } => self.fin_arrived(from, to),
            Happening::Reset { to } => self.reset_arrived(to, libc::ECONNRESET),
            Happening::Knock { from, tries } => self.knock(from, tries),
            Happening::Welcome { from, to } => self.welcomed(from, to),
            Happening::Refusal { to, errno } => self.reset_arrived(to, errno),
            _ => {}
        }
    }

    fn segment_arrived(&mut self, sender: EndId, to: EndId, bytes: &[u8]) {
        let open = self
            .end(to)
            .is_some_and(|end| !end.orphan && end.phase == Phase::Open);
        if !open {
            // It was closed, or knows of a reset: the sender is told by one.
            self.reset_back(sender);
            if self.end(to).is_some_and(|end| end.orphan) {
                self.remove_end(to);
            }
            return;
        }
        if self.dice.strikes(Fault::Reset) {
            self.reset_back(sender);
            self.reset_arrived(to, libc::ECONNRESET);
            return;
        }
        let Some(end) = self.end(to) else { return };
        end.incoming.extend(bytes);
        let len = bytes.len();
        self.note(("arrive", to.0 as u64, len as u64), &[], || {
            format!("{to} has {len} more")
        });
        self.tell(to, Readiness::new().with_readable());
        self.acknowledged(sender, len);
        self.transmit(sender);
    }

    /// An answer to the sender that nobody takes what it sends.
    pub(super) fn reset_back(&mut self, sender: EndId) {
        let Some(end) = self.end(sender) else { return };
        let (host, peer_host) = (end.host, end.peer_host);
        let at = self.arrival(peer_host, host, 0);
        self.schedule(at, Happening::Reset { to: sender });
    }

    fn fin_arrived(&mut self, sender: EndId, to: EndId) {
        // The stream of the sender has ended and arrived: an orphan has nothing left to do.
        if let Some(end) = self.end(sender) {
            end.fin = Fin::Arrived;
            if end.orphan {
                self.remove_end(sender);
            }
        }
        let Some(end) = self.end(to) else { return };
        end.fin_received = true;
        self.note(("fin", to.0 as u64, 0), &[], || {
            format!("{to} end of stream")
        });
        self.tell(to, Readiness::new().with_read_to_end());
    }

    pub(super) fn reset_arrived(&mut self, to: EndId, errno: i32) {
        let Some(end) = self.end(to) else { return };
        if end.orphan {
            self.remove_end(to);
            return;
        }
        if end.phase == Phase::Dead {
            return;
        }
        end.phase = Phase::Dead;
        end.error = Some(errno);
        end.outgoing = Default::default();
        self.note(("reset", to.0 as u64, 0), &[], || {
            format!("{to} is reset ({errno})")
        });
        if self.dice.strikes(Fault::ResetDiscards)
            && let Some(end) = self.end(to)
        {
            end.incoming.clear();
        }
        let all = Readiness::new()
            .with_read_to_end()
            .with_writable()
            .with_failed();
        self.tell(to, all);
    }

    /// Tells the peer, after what is on the way already, and ends at once.
    pub(super) fn send_reset(&mut self, from: EndId) {
        if let Some(peer) = self.end(from).and_then(|end| end.peer) {
            self.put_on_wire(from, 0, Happening::Reset { to: peer });
        }
        let Some(end) = self.end(from) else { return };
        if end.orphan {
            self.remove_end(from);
        } else {
            self.reset_arrived(from, libc::ECONNRESET);
        }
    }
}
