//! What is on its way between two ends: segments, ends of streams, resets.
//!
//! A sender hears of an arrival, and of room at the receiver, at once and not after a latency;
//! on a wire are only what a stream carries, and the steps of a connect.

use super::end::{EndId, Fin, Phase};
use super::state::{END_OF_TIME, Happening, HostId, Order, State};
use crate::faults::{Fault, Faults};
use std::time::Duration;
use tidegate::driver::Readiness;

/// The most that arrives at once, as with segmentation offload.
const SEGMENT: usize = 64 * 1024;

/// What comes over a wire.
pub(super) enum Arrival {
    Segment {
        from: EndId,
        to: EndId,
        bytes: Vec<u8>,
    },
    Fin {
        from: EndId,
        to: EndId,
    },
    Reset {
        to: EndId,
    },
    /// A connect knocks; before that it did so `tries` times.
    Knock {
        from: EndId,
        tries: u32,
    },
    /// It is let in.
    Welcome {
        from: EndId,
        to: EndId,
    },
    /// Nobody is there to let it in.
    Refusal {
        to: EndId,
    },
}

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
                    let fin = Arrival::Fin { from: id, to: peer };
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
            let segment = Arrival::Segment {
                from: id,
                to: peer,
                bytes,
            };
            self.put_on_wire(id, len, segment);
        }
    }

    /// Has something arrive after everything that was sent before it on this connection.
    pub(super) fn put_on_wire(&mut self, from: EndId, len: usize, what: Arrival) {
        let Some(end) = self.end(from) else { return };
        let (path, last) = ((end.host, end.peer_host), end.last);
        let at = self.arrival(path, len);
        let key = if self.dice.strikes(Fault::Reorder) {
            self.dice.any()
        } else {
            0
        };
        let (at, key) = (at, key).max(last);
        if let Some(end) = self.end(from) {
            end.last = (at, key);
        }
        self.schedule_with(at, key, Happening::Arrival { path, what });
    }

    /// Sends something that keeps no order with a stream.
    pub(super) fn send_apart(&mut self, path: (HostId, HostId), what: Arrival) {
        let at = self.arrival(path, 0);
        self.schedule(at, Happening::Arrival { path, what });
    }

    /// When something that is sent now arrives.
    fn arrival(&mut self, (from, to): (HostId, HostId), len: usize) -> Duration {
        let now = self.now();
        let wire = self.wire(from, to);
        let departure = wire.busy_until.max(now);
        let departure = departure.saturating_add(wire.link.time_for(len));
        wire.busy_until = departure;
        let (latency, jitter) = (wire.link.latency, wire.link.jitter);
        let delay = latency.saturating_add(self.dice.within(Duration::ZERO, jitter));
        let mut at = departure.saturating_add(delay).min(END_OF_TIME);
        if len > 0 && self.dice.strikes(Fault::Stall) {
            at += self.dice.within(Duration::ZERO, Faults::STALL);
        }
        at
    }

    /// Something has come to the other side of a wire.
    pub(super) fn arrive(&mut self, order: Order, path: (HostId, HostId), what: Arrival) {
        let wire = self.wire(path.0, path.1);
        match what {
            // Lost: it is the one thing that a host repeats by its own clock.
            Arrival::Knock { from, tries } if wire.cut => self.knock_again(from, tries),
            what if wire.cut => {
                let welcomed = match what {
                    Arrival::Welcome { to, .. } => Some(to),
                    _ => None,
                };
                wire.held.push((order, what));
                if let Some(connecting) = welcomed {
                    let at = self.now() + Faults::CONNECT_TIMEOUT;
                    self.schedule(at, Happening::TimedOut(connecting));
                }
            }
            Arrival::Segment { from, to, bytes } => self.segment_arrived(from, to, &bytes),
            Arrival::Fin { from, to } => self.fin_arrived(from, to),
            Arrival::Reset { to } => self.reset_arrived(to),
            Arrival::Knock { from, tries } => self.knock(from, tries),
            Arrival::Welcome { from, to } => self.welcomed(from, to),
            Arrival::Refusal { to } => self.fail(to, libc::ECONNREFUSED),
        }
    }

    fn segment_arrived(&mut self, sender: EndId, to: EndId, bytes: &[u8]) {
        let open = self
            .end(to)
            .is_some_and(|end| !end.orphan && end.phase == Phase::Open);
        if !open {
            // It was closed, or knows of a reset: the sender is told by one.
            self.answer_with_reset(sender);
            if self.end(to).is_some_and(|end| end.orphan) {
                self.remove_end(to);
            }
            return;
        }
        if self.dice.strikes(Fault::Reset) {
            self.answer_with_reset(sender);
            self.reset_arrived(to);
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

    /// Nobody takes what it sends.
    pub(super) fn answer_with_reset(&mut self, sender: EndId) {
        if let Some(end) = self.end(sender) {
            let back = (end.peer_host, end.host);
            self.send_apart(back, Arrival::Reset { to: sender });
        }
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
        if end.phase != Phase::Open {
            return;
        }
        end.fin_received = true;
        self.note(("fin", to.0 as u64, 0), &[], || {
            format!("{to} end of stream")
        });
        self.tell(to, Readiness::new().with_read_to_end());
    }

    /// A reset comes too late for what is over (RFC 9293, 3.10.7.4), and is EPIPE, as on Linux,
    /// where the peer's stream had ended and the own had not; a connect is refused by it.
    pub(super) fn reset_arrived(&mut self, to: EndId) {
        let Some(end) = self.end(to) else { return };
        if end.is_over() || end.phase == Phase::Dead {
            return;
        }
        let sends = matches!(end.fin, Fin::Open | Fin::Wanted);
        let errno = match end.phase {
            Phase::Connecting => libc::ECONNREFUSED,
            _ if end.fin_received && sends => libc::EPIPE,
            _ => libc::ECONNRESET,
        };
        // Where the stream had ended, what it brought would be lost without a word.
        if !end.incoming.is_empty()
            && !end.fin_received
            && self.dice.strikes(Fault::ResetDiscards)
            && let Some(end) = self.end(to)
        {
            end.incoming.clear();
        }
        self.fail(to, errno);
    }

    /// The connection, or the attempt at one, is over for this end.
    pub(super) fn fail(&mut self, id: EndId, errno: i32) {
        let Some(end) = self.end(id) else { return };
        if end.orphan {
            self.remove_end(id);
            return;
        }
        if end.phase == Phase::Dead {
            return;
        }
        end.phase = Phase::Dead;
        end.error = Some(errno);
        end.outgoing.clear();
        self.note(("fail", id.0 as u64, errno as u64), &[], || {
            format!("{id} has failed ({errno})")
        });
        let all = Readiness::new()
            .with_read_to_end()
            .with_writable()
            .with_failed();
        self.tell(id, all);
    }

    /// Resets a connection that nobody holds any more, after what is on the way already.
    pub(super) fn send_reset(&mut self, from: EndId) {
        if let Some(peer) = self.end(from).and_then(|end| end.peer) {
            self.put_on_wire(from, 0, Arrival::Reset { to: peer });
        }
        self.remove_end(from);
    }
}
