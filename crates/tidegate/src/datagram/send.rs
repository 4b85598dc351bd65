//! Sending: into the queue, and from it to the kernel.

use super::endpoint::Endpoint;
use super::options::WhenFull;
use super::{DatagramError, DatagramTransport};
use crate::driver::Transmit;
use crate::event_loop::add;
use crate::flow::{Crossing, Flow};
use crate::transport::State;
use crate::write_buffer::MAX_OFFER;
use crate::{Address, WriteError};
use std::io;

/// The minimum number of bytes that one system call counts for in an endpoint's budget of a tick.
const LEAST_COST: usize = MAX_OFFER / 256;

/// The maximum number of errors that wait for the protocol.
const MAX_ERRORS: usize = 64;

/// The outcome of one system call.
enum Offered {
    Sent,
    /// The kernel has no room.
    Refused,
    Failed(io::Error),
}

impl DatagramTransport {
    /// Takes a datagram.
    pub(super) fn enqueue(&self, to: Option<&Address>, data: &[u8]) -> Result<Flow, WriteError> {
        let endpoint = self.endpoint();
        if endpoint.is(State::NO_WRITE) {
            return Err(endpoint.refusal());
        }
        let to = self.check_destination(to)?;
        if endpoint.is(State::QUEUED) {
            self.make_room()?;
        }
        let segments = usize::from(endpoint.segments.get());
        let below = endpoint.singly_from.get() as usize;
        let cost = endpoint.queue.with(|queue| {
            let queue = queue.get_or_insert_with(|| endpoint.core().take_datagrams());
            queue.push(to, data, segments, below);
            queue.cost()
        });
        endpoint.set(State::QUEUED);
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

    /// Checks that there is a place to send to. A destination that is the remote address is none.
    fn check_destination<'a>(
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

    /// Acts as set when the queue is at its cap.
    fn make_room(&self) -> Result<(), WriteError> {
        let endpoint = self.endpoint();
        let marks = endpoint.marks.get();
        if !marks.at_cap(endpoint.cost() as u64) {
            return Ok(());
        }
        self.offer();
        match endpoint.when_full {
            WhenFull::Refuse if marks.at_cap(endpoint.cost() as u64) => {
                add(&endpoint.numbers.refused, 1);
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
        let (offered, earlier) = endpoint.transmit(Transmit {
            to,
            data,
            segment: data.len(),
        });
        self.note_earlier(earlier);
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

    /// Offers the queue to the kernel, as far as this tick's budget goes, until the kernel refuses or
    /// nothing is left.
    pub(super) fn offer(&self) {
        let endpoint = self.endpoint();
        while endpoint.is(State::QUEUED)
            && endpoint.state.get().is_offerable()
            && endpoint.budget() > 0
        {
            self.offer_front();
        }
        self.update_flow();
    }

    /// Makes one system call.
    fn offer_front(&self) {
        let endpoint = self.endpoint();
        let singly = endpoint.singly.get();
        let segments = match singly {
            0 => usize::from(endpoint.segments.get()),
            _ => 1,
        };
        let offered = endpoint.queue.with(|queue| {
            let front = queue.as_deref()?.front(segments)?;
            let (offered, earlier) = endpoint.transmit(Transmit {
                to: front.to,
                data: front.data,
                segment: front.segment,
            });
            let failed_to = match offered {
                Offered::Failed(_) => front.to.cloned(),
                _ => None,
            };
            let (count, len) = (front.count, front.data.len());
            Some((offered, earlier, count, len, front.segment, failed_to))
        });
        let Some((offered, earlier, count, len, segment, to)) = offered else {
            endpoint.clear(State::QUEUED);
            return;
        };
        self.note_earlier(earlier);
        match offered {
            Offered::Sent => {
                if count == 1 && len as u32 == endpoint.too_long_run.take() {
                    // It was the length of the run, not the destination.
                    let limit = endpoint.singly_from.get().min(len as u32);
                    endpoint.singly_from.set(limit);
                }
                endpoint.count_sent(count, len);
                endpoint.remove(count);
            }
            Offered::Refused => self.wait_for_room(),
            Offered::Failed(error) if count > 1 => {
                // Each gets a verdict of its own.
                endpoint.singly.set(count as u16);
                match error.raw_os_error() {
                    Some(libc::EMSGSIZE | libc::EINVAL) => {
                        endpoint.too_long_run.set(segment as u32);
                    }
                    Some(libc::EIO) => endpoint.segments.set(1),
                    _ => {}
                }
            }
            Offered::Failed(error) => {
                add(&endpoint.numbers.failed, 1);
                endpoint.remove(1);
                let to = to.or_else(|| endpoint.remote.clone());
                self.note_error(DatagramError::new(error, to, Some(len)));
            }
        }
    }

    /// Keeps an error for the protocol. From a close on errors are only counted.
    pub(super) fn note_error(&self, error: DatagramError) {
        let endpoint = self.endpoint();
        let kept = !endpoint.is(State::ENDING)
            && endpoint.with_extra(|extra| {
                let room = extra.errors.len() < MAX_ERRORS;
                if room {
                    extra.errors.push_back(error);
                }
                room
            });
        if !kept {
            add(&endpoint.numbers.errors_left_out, 1);
        }
        self.touch();
    }

    /// The kernel told of an earlier datagram in place of sending one.
    fn note_earlier(&self, error: Option<io::Error>) {
        if let Some(error) = error {
            let to = self.endpoint().remote.clone();
            self.note_error(DatagramError::new(error, to, None));
        }
    }

    pub(super) fn update_flow(&self) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDED) {
            return;
        }
        let paused = endpoint.is(State::PAUSED);
        match endpoint
            .marks
            .get()
            .crossing(paused, endpoint.cost() as u64)
        {
            Crossing::None => {}
            Crossing::Pause => {
                endpoint.state.set(endpoint.state.get().paused());
                add(&endpoint.core().counters.pauses, 1);
            }
            Crossing::Resume => {
                endpoint.state.set(endpoint.state.get().resumed());
                add(&endpoint.core().counters.resumes, 1);
            }
        }
    }
}

impl Endpoint {
    /// Whether a datagram would be the next to go, and the kernel is not known to refuse it.
    pub(super) fn takes_now(&self) -> bool {
        !self.is(State::QUEUED) && self.state.get().is_offerable() && self.budget() > 0
    }

    /// Makes one system call; another one when the first told of an earlier datagram. The kernel keeps an
    /// error of a connected socket for the next call, and does not send that call's datagram (SO_ERROR,
    /// socket(7)).
    fn transmit(&self, transmit: Transmit<'_>) -> (Offered, Option<io::Error>) {
        match self.call_to_send(transmit) {
            Offered::Failed(earlier) if self.keeps_errors() => {
                let again = self.call_to_send(transmit);
                let same = match &again {
                    Offered::Failed(error) => error.raw_os_error() == earlier.raw_os_error(),
                    _ => false,
                };
                (again, (!same).then_some(earlier))
            }
            other => (other, None),
        }
    }

    /// Whether the kernel keeps the error of a datagram for a later call: it does for UDP.
    fn keeps_errors(&self) -> bool {
        matches!(self.remote, Some(Address::Inet(_)))
    }

    fn call_to_send(&self, transmit: Transmit<'_>) -> Offered {
        add(&self.core().counters.writes, 1);
        self.spend(transmit.data.len().max(LEAST_COST));
        let mut socket = self.socket.borrow_mut();
        let sent = match socket.as_mut() {
            Some(socket) => socket.send(transmit),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match sent {
            Ok(()) => Offered::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Offered::Refused,
            Err(error) => Offered::Failed(error),
        }
    }

    fn count_taken(&self, len: usize) {
        add(&self.numbers.taken, 1);
        add(&self.numbers.taken_bytes, len);
    }

    fn count_sent(&self, count: usize, len: usize) {
        add(&self.numbers.sent, count);
        add(&self.numbers.sent_bytes, len);
        add(&self.core().counters.bytes_sent, len);
    }

    /// Removes datagrams that have gone from the front of the queue.
    fn remove(&self, count: usize) {
        let empty = self.queue.with(|queue| match queue {
            Some(queue) => {
                queue.pop(count);
                queue.is_empty()
            }
            None => true,
        });
        let singly = self.singly.get();
        self.singly.set(singly.saturating_sub(count as u16));
        if empty {
            self.drop_queue();
        }
    }

    /// Gives the memory of an emptied queue back to the loop.
    pub(super) fn drop_queue(&self) {
        self.clear(State::QUEUED);
        self.singly.set(0);
        if let Some(mut queue) = self.queue.take() {
            queue.clear();
            self.core().give_datagrams(queue);
        }
    }
}
