//! Transmission between two ends: segments, ends of streams, resets; the arrival of datagrams too.
//!
//! A sender hears of an arrival, and of room at the receiver, at once and not after a latency. A wire
//! carries the contents of streams, and the steps of a connect.

use super::agenda::{Event, Order};
use super::datagram::Datagram;
use super::endpoint::{EndpointId, Fin, Phase};
use super::port::PortId;
use super::state::{END_OF_TIME, HostId, State};
use crate::faults::{Fault, Faults};
use std::net::SocketAddr;
use std::time::Duration;
use tidegate::driver::Readiness;

/// Maximum number of bytes that arrive at once, as with segmentation offload.
const SEGMENT: usize = 64 * 1024;

/// An arrival over a wire.
pub(super) enum Arrival {
    Segment {
        from: EndpointId,
        to: EndpointId,
        bytes: Vec<u8>,
    },
    Fin {
        from: EndpointId,
        to: EndpointId,
    },
    Reset {
        to: EndpointId,
    },
    /// A connect knocks; before that it did so `tries` times.
    Knock {
        from: EndpointId,
        tries: u32,
    },
    /// It is let in.
    Welcome {
        from: EndpointId,
        to: EndpointId,
    },
    /// There is no listener to let it in.
    Refusal {
        to: EndpointId,
    },
    Datagram(Datagram),
    /// Nothing receives datagrams there.
    Unreachable {
        sender: PortId,
        at: SocketAddr,
    },
}

impl State {
    /// Sends the bytes that the receiver has room for, and the EOF after the last of them.
    pub(super) fn transmit(&mut self, id: EndpointId) {
        loop {
            let Some(endpoint) = self.endpoint(id) else {
                return;
            };
            let Some(peer) = endpoint.peer else { return };
            if endpoint.phase != Phase::Open {
                return;
            }
            let (unsent, in_flight, fin) =
                (endpoint.outgoing.len(), endpoint.in_flight, endpoint.fin);
            if unsent == 0 {
                if fin == Fin::Wanted {
                    endpoint.fin = Fin::Sent;
                    let fin = Arrival::Fin { from: id, to: peer };
                    self.put_on_wire(id, 0, fin);
                }
                return;
            }
            // The receiver is gone: the reply to sent bytes will be a reset.
            let window = self.endpoint(peer).map_or(SEGMENT, |peer| {
                peer.receive_buffer
                    .saturating_sub(peer.incoming.len() + in_flight)
            });
            let len = unsent.min(window).min(SEGMENT);
            if len == 0 {
                return;
            }
            let Some(endpoint) = self.endpoint(id) else {
                return;
            };
            let bytes: Vec<u8> = endpoint.outgoing.drain(..len).collect();
            endpoint.in_flight += len;
            let segment = Arrival::Segment {
                from: id,
                to: peer,
                bytes,
            };
            self.put_on_wire(id, len, segment);
        }
    }

    /// Has something arrive after everything that was sent before it on this connection.
    pub(super) fn put_on_wire(&mut self, from: EndpointId, len: usize, what: Arrival) {
        let Some(endpoint) = self.endpoint(from) else {
            return;
        };
        let (path, last) = ((endpoint.host, endpoint.peer_host), endpoint.last);
        let at = self.arrival(path, len);
        let key = if self.dice.strikes(Fault::Reorder) {
            self.dice.any()
        } else {
            0
        };
        let (at, key) = (at, key).max(last);
        if let Some(endpoint) = self.endpoint(from) {
            endpoint.last = (at, key);
        }
        self.schedule_with(at, key, Event::Arrival { path, what });
    }

    /// Sends something that keeps no order with a stream.
    pub(super) fn send_apart(&mut self, path: (HostId, HostId), what: Arrival) {
        let at = self.arrival(path, 0);
        self.schedule(at, Event::Arrival { path, what });
    }

    /// When something that is sent now arrives.
    fn arrival(&mut self, path: (HostId, HostId), len: usize) -> Duration {
        let departure = self.departure(path, len);
        let mut at = departure.saturating_add(self.delay(path)).min(END_OF_TIME);
        if len > 0 && self.dice.strikes(Fault::Stall) {
            at += self.dice.within(Duration::ZERO, Faults::STALL);
        }
        at
    }

    /// When something that is sent now is on the wire.
    pub(super) fn departure(&mut self, (from, to): (HostId, HostId), len: usize) -> Duration {
        let now = self.now();
        let wire = self.wire(from, to);
        let departure = wire.busy_until.max(now);
        let departure = departure.saturating_add(wire.link.time_for(len));
        wire.busy_until = departure;
        departure
    }

    /// The time that something is on the wire.
    pub(super) fn delay(&mut self, (from, to): (HostId, HostId)) -> Duration {
        let link = &self.wire(from, to).link;
        let (latency, jitter) = (link.latency, link.jitter);
        latency.saturating_add(self.dice.within(Duration::ZERO, jitter))
    }

    /// Something has come to the other side of a wire.
    pub(super) fn arrive(&mut self, order: Order, path: (HostId, HostId), what: Arrival) {
        let wire = self.wire(path.0, path.1);
        match what {
            // Lost: it is the one thing that a host repeats by its own clock.
            Arrival::Knock { from, tries } if wire.cut => self.knock_again(from, tries),
            Arrival::Datagram(datagram) if wire.cut => self.lose(&datagram),
            Arrival::Unreachable { .. } if wire.cut => {}
            what if wire.cut => {
                let welcomed = match what {
                    Arrival::Welcome { to, .. } => Some(to),
                    _ => None,
                };
                wire.held.push((order, what));
                if let Some(connecting) = welcomed {
                    let at = self.now() + Faults::CONNECT_TIMEOUT;
                    self.schedule(at, Event::TimedOut(connecting));
                }
            }
            Arrival::Segment { from, to, bytes } => self.segment_arrived(from, to, &bytes),
            Arrival::Fin { from, to } => self.fin_arrived(from, to),
            Arrival::Reset { to } => self.reset_arrived(to),
            Arrival::Knock { from, tries } => self.knock(from, tries),
            Arrival::Welcome { from, to } => self.welcomed(from, to),
            Arrival::Refusal { to } => self.fail(to, libc::ECONNREFUSED),
            Arrival::Datagram(datagram) => self.datagram_arrived(path, datagram),
            Arrival::Unreachable { sender, at } => self.unreachable_arrived(sender, at),
        }
    }

    fn segment_arrived(&mut self, sender: EndpointId, to: EndpointId, bytes: &[u8]) {
        let open = self
            .endpoint(to)
            .is_some_and(|endpoint| !endpoint.orphan && endpoint.phase == Phase::Open);
        if !open {
            // It was closed, or knows of a reset: the sender is told by one.
            self.answer_with_reset(sender);
            if self.endpoint(to).is_some_and(|endpoint| endpoint.orphan) {
                self.remove_endpoint(to);
            }
            return;
        }
        if self.dice.strikes(Fault::Reset) {
            self.answer_with_reset(sender);
            self.reset_arrived(to);
            return;
        }
        let Some(endpoint) = self.endpoint(to) else {
            return;
        };
        endpoint.incoming.extend(bytes);
        let len = bytes.len();
        self.note(("arrive", to.0 as u64, len as u64), &[], || {
            format!("{to} has {len} more")
        });
        self.tell(to, Readiness::new().with_readable());
        self.acknowledged(sender, len);
        self.transmit(sender);
    }

    /// Resets a sender whose receiver is gone.
    pub(super) fn answer_with_reset(&mut self, sender: EndpointId) {
        if let Some(endpoint) = self.endpoint(sender) {
            let back = (endpoint.peer_host, endpoint.host);
            self.send_apart(back, Arrival::Reset { to: sender });
        }
    }

    fn fin_arrived(&mut self, sender: EndpointId, to: EndpointId) {
        // The stream of the sender has ended and arrived: an orphan has nothing left to do.
        if let Some(endpoint) = self.endpoint(sender) {
            endpoint.fin = Fin::Arrived;
            if endpoint.orphan {
                self.remove_endpoint(sender);
            }
        }
        let Some(endpoint) = self.endpoint(to) else {
            return;
        };
        if endpoint.phase != Phase::Open {
            return;
        }
        endpoint.fin_received = true;
        self.note(("fin", to.0 as u64, 0), &[], || {
            format!("{to} end of stream")
        });
        self.tell(to, Readiness::new().with_read_to_end());
    }

    /// Handles a reset. It comes too late for a connection that is over (RFC 9293, 3.10.7.4). It is EPIPE,
    /// as on Linux, where the peer's stream had ended and the own had not; a connect is refused by it.
    pub(super) fn reset_arrived(&mut self, to: EndpointId) {
        let Some(endpoint) = self.endpoint(to) else {
            return;
        };
        if endpoint.is_over() || endpoint.phase == Phase::Dead {
            return;
        }
        let sends = matches!(endpoint.fin, Fin::Open | Fin::Wanted);
        let errno = match endpoint.phase {
            Phase::Connecting => libc::ECONNREFUSED,
            _ if endpoint.fin_received && sends => libc::EPIPE,
            _ => libc::ECONNRESET,
        };
        // Where the stream had ended, its bytes would be lost without a word.
        if !endpoint.incoming.is_empty()
            && !endpoint.fin_received
            && self.dice.strikes(Fault::ResetDiscards)
            && let Some(endpoint) = self.endpoint(to)
        {
            endpoint.incoming.clear();
        }
        self.fail(to, errno);
    }

    /// The connection, or the attempt at one, is over for this end.
    pub(super) fn fail(&mut self, id: EndpointId, errno: i32) {
        let Some(endpoint) = self.endpoint(id) else {
            return;
        };
        if endpoint.orphan {
            self.remove_endpoint(id);
            return;
        }
        if endpoint.phase == Phase::Dead {
            return;
        }
        endpoint.phase = Phase::Dead;
        endpoint.error = Some(errno);
        endpoint.outgoing.clear();
        self.note(("fail", id.0 as u64, errno as u64), &[], || {
            format!("{id} has failed ({errno})")
        });
        let all = Readiness::new()
            .with_read_to_end()
            .with_writable()
            .with_failed();
        self.tell(id, all);
    }

    /// Resets a connection that has no holder any more, after the segments on the way.
    pub(super) fn send_reset(&mut self, from: EndpointId) {
        if let Some(peer) = self.endpoint(from).and_then(|endpoint| endpoint.peer) {
            self.put_on_wire(from, 0, Arrival::Reset { to: peer });
        }
        self.remove_endpoint(from);
    }
}
