//! Sending: into the queue, or to the kernel at once.

use super::DatagramTransport;
use super::Departure;
use super::endpoint::Endpoint;
use super::offer::Offered;
use super::options::WhenFull;
use crate::driver::Transmit;
use crate::event_loop::add;
use crate::flow::Flow;
use crate::transport::State;
use crate::{Address, WriteError};
use std::io;
use std::iter;
use std::net::SocketAddr;

impl DatagramTransport {
    /// Takes a datagram.
    pub(super) fn enqueue(&self, to: Option<&Address>, data: &[u8]) -> Result<Flow, WriteError> {
        let endpoint = self.endpoint();
        if endpoint.is(State::NO_WRITE | State::QUEUED | State::PAUSED) {
            return self.enqueue_behind(to, data);
        }
        let to = self.check_destination(to)?;
        let cost = endpoint.push_first(to, data);
        endpoint.count_taken(data.len());
        self.touch();
        if endpoint.marks.get().above_high(cost as u64) {
            self.offer();
            return Ok(self.flow());
        }
        Ok(Flow::Open)
    }

    /// As [`enqueue`](Self::enqueue), when others wait, a pause lasts, or nothing is taken any more.
    fn enqueue_behind(&self, to: Option<&Address>, data: &[u8]) -> Result<Flow, WriteError> {
        let endpoint = self.endpoint();
        if endpoint.is(State::NO_WRITE) {
            return Err(endpoint.refusal());
        }
        let to = self.check_destination(to)?;
        if endpoint.is(State::QUEUED) {
            self.make_room(1)?;
        }
        let cost = endpoint.push(to, data);
        endpoint.count_taken(data.len());
        if endpoint.marks.get().above_high(cost as u64) {
            self.offer();
        } else if endpoint.is(State::PAUSED) {
            // Older ones were dropped.
            self.update_flow();
        }
        self.touch();
        Ok(self.flow())
    }

    /// Takes datagrams of `segment` bytes each, all of them or none.
    pub(super) fn enqueue_run(
        &self,
        to: Option<&Address>,
        data: &[u8],
        segment: usize,
        departure: Departure,
    ) -> Result<Flow, WriteError> {
        let endpoint = self.endpoint();
        if endpoint.is(State::NO_WRITE) {
            return Err(endpoint.refusal());
        }
        let to = self.check_destination(to)?;
        let departure = self.check_departure(&departure)?;
        // `chunks` has no empty one.
        let segment = if segment == 0 { data.len() } else { segment };
        let (first, rest) = data.split_at(segment.min(data.len()));
        let rest = rest.chunks(segment.max(1));
        if endpoint.is(State::QUEUED) {
            self.make_room(1 + rest.len())?;
        }
        for datagram in iter::once(first).chain(rest) {
            endpoint.push_departing(to, departure, datagram);
            endpoint.count_taken(datagram.len());
        }
        if endpoint.marks.get().above_high(endpoint.cost() as u64) {
            self.offer();
        } else if endpoint.is(State::PAUSED) {
            self.update_flow();
        }
        self.touch();
        Ok(self.flow())
    }

    /// Checks that datagrams can leave like that. `None` stands for as all others do.
    fn check_departure<'a>(
        &self,
        departure: &'a Departure,
    ) -> Result<Option<&'a Departure>, WriteError> {
        let endpoint = self.endpoint();
        let of_v6 = departure.source.is_some_and(|source| source.is_ipv6());
        let reason = match (departure.or_none(), &endpoint.local) {
            (None, _) => return Ok(None),
            (_, Address::Inet(local)) if local.is_ipv4() && of_v6 => {
                "an IPv4 endpoint cannot send from an IPv6 address"
            }
            (departure, Address::Inet(_)) => return Ok(departure),
            _ => "marks and sources are of UDP",
        };
        Err(WriteError::Destination {
            transport: endpoint.id,
            reason,
        })
    }

    /// Checks that there is a place to send to. A destination that is the remote address is none.
    #[inline]
    fn check_destination<'a>(
        &self,
        to: Option<&'a Address>,
    ) -> Result<Option<&'a Address>, WriteError> {
        let endpoint = self.endpoint();
        // As a rule.
        if let Some(Address::Inet(SocketAddr::V4(_))) = to
            && let Address::Inet(SocketAddr::V4(_)) = endpoint.local
            && endpoint.remote.is_none()
        {
            return Ok(to);
        }
        self.check_any_destination(to)
    }

    fn check_any_destination<'a>(
        &self,
        to: Option<&'a Address>,
    ) -> Result<Option<&'a Address>, WriteError> {
        let endpoint = self.endpoint();
        let refuse = |reason| {
            Err(WriteError::Destination {
                transport: endpoint.id,
                reason,
            })
        };
        match (to, &endpoint.remote) {
            (None, Some(_)) => Ok(None),
            (None, None) => refuse("the endpoint has no remote address: use send_to"),
            (Some(to), Some(remote)) if to == remote => Ok(None),
            (Some(_), Some(_)) => {
                refuse("the endpoint exchanges datagrams with its remote address alone")
            }
            (Some(to), None) => match (to, &endpoint.local) {
                (Address::Unnamed, _) => refuse("an unnamed Unix socket cannot be sent to"),
                (Address::Inet(inet), Address::Inet(local))
                    if inet.is_ipv6() && local.is_ipv4() =>
                {
                    refuse("an IPv4 endpoint cannot send to an IPv6 address")
                }
                (Address::Inet(_), Address::Inet(_)) | (Address::Unix(_), Address::Unix(_)) => {
                    Ok(Some(to))
                }
                (Address::Unix(_), Address::Unnamed) => Ok(Some(to)),
                _ => refuse("UDP sends to IP addresses, and a Unix socket to paths"),
            },
        }
    }

    /// Acts as set when the queue is at its cap, and `count` datagrams are sent.
    fn make_room(&self, count: usize) -> Result<(), WriteError> {
        let endpoint = self.endpoint();
        let marks = endpoint.marks.get();
        if !marks.at_cap(endpoint.cost() as u64) {
            return Ok(());
        }
        self.offer();
        match endpoint.when_full {
            WhenFull::Refuse if marks.at_cap(endpoint.cost() as u64) => {
                add(&endpoint.numbers.refused, count);
                Err(WriteError::BufferFull {
                    transport: endpoint.id,
                })
            }
            WhenFull::Refuse => Ok(()),
            WhenFull::DropOldest => {
                while endpoint.is(State::QUEUED) && marks.at_cap(endpoint.cost() as u64) {
                    add(&endpoint.numbers.dropped, 1);
                    endpoint.remove(1);
                }
                Ok(())
            }
        }
    }

    /// Sends one datagram now, past no other.
    pub(super) fn send_now(&self, to: Option<&Address>, data: &[u8]) -> io::Result<()> {
        let endpoint = self.endpoint();
        if endpoint.is(State::NO_WRITE) {
            return Err(endpoint.refusal().into());
        }
        let to = self.check_destination(to)?;
        self.offer();
        if !endpoint.takes_now() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offered = self.transmit(Transmit {
            to,
            data,
            segment: data.len(),
            departure: None,
        });
        match offered {
            Offered::Sent => {
                endpoint.count_taken(data.len());
                endpoint.count_sent(1, data.len());
                Ok(())
            }
            Offered::Refused => {
                self.wait_for_room();
                Err(io::ErrorKind::WouldBlock.into())
            }
            Offered::Failed(error) => {
                endpoint.count_taken(data.len());
                add(&endpoint.numbers.failed, 1);
                Err(error)
            }
        }
    }
}

impl Endpoint {
    /// Puts a datagram behind the others. Returns the number that is compared with the watermarks.
    fn push(&self, to: Option<&Address>, data: &[u8]) -> usize {
        let Some(mut queue) = self.queue.take() else {
            return self.push_first(to, data);
        };
        let segments = usize::from(self.segments);
        let cost = queue.push(to, data, segments, self.run_limit(to, data.len()));
        self.queue.put(queue);
        cost
    }

    /// Puts a datagram that leaves in a way of its own, if `departure` has one, behind the others.
    fn push_departing(&self, to: Option<&Address>, departure: Option<&Departure>, data: &[u8]) {
        let mut queue = match self.queue.take() {
            Some(queue) => queue,
            None => self.core().take_datagrams(),
        };
        let (segments, limit) = (usize::from(self.segments), self.run_limit(to, data.len()));
        queue.push_departing(to, departure, data, segments, limit);
        self.queue.put(queue);
        self.set(State::QUEUED);
    }

    /// As [`push`](Self::push), with none before it.
    #[inline(always)]
    fn push_first(&self, to: Option<&Address>, data: &[u8]) -> usize {
        let mut queue = self.core().take_datagrams();
        let cost = queue.push_first(to, data);
        self.queue.put(queue);
        self.set(State::QUEUED);
        cost
    }

    fn count_taken(&self, len: usize) {
        add(&self.numbers.taken, 1);
        add(&self.numbers.taken_bytes, len);
    }
}
