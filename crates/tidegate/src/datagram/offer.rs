//! Offering the queue to the kernel.

use super::endpoint::Endpoint;
use super::error::is_of_memory;
use super::queue::{Front, Queue};
use super::{DatagramError, DatagramTransport};
use crate::Address;
use crate::driver::{Datagrams, Transmit};
use crate::event_loop::add;
use crate::flow::Crossing;
use crate::transport::State;
use crate::write_buffer::MAX_OFFER;
use std::io;

/// The minimum number of bytes that one system call counts for in an endpoint's budget of a tick.
const LEAST_COST: usize = MAX_OFFER / 256;

/// The maximum number of errors that wait for the protocol.
const MAX_ERRORS: usize = 64;

/// The outcome of one system call.
pub(super) enum Offered {
    Sent,
    /// The kernel has no room.
    Refused,
    Failed(io::Error),
}

impl DatagramTransport {
    /// Offers the queue to the kernel, as far as this tick's budget goes, until the kernel refuses or
    /// nothing is left.
    pub(super) fn offer(&self) {
        let endpoint = self.endpoint();
        while endpoint.state.get().is_to_offer() {
            let budget = endpoint.budget();
            if budget == 0 {
                break;
            }
            if self.offer_front(budget) {
                break;
            }
        }
        if endpoint.is(State::QUEUED | State::PAUSED) {
            self.update_flow();
        }
    }

    /// Makes one system call. Returns whether the queue is empty now.
    #[inline(always)]
    fn offer_front(&self, budget: usize) -> bool {
        let endpoint = self.endpoint();
        let Some(queue) = endpoint.queue.take() else {
            endpoint.clear(State::QUEUED);
            return true;
        };
        let (count, to, len, result) = match queue.lone() {
            Some((to, data)) => (1, to, data.len(), endpoint.send_plain(to, data, budget)),
            None => {
                let Front { transmit, count } = queue.front(|| endpoint.at_once());
                let result = endpoint.call_to_send(transmit, budget);
                (count, transmit.to, transmit.data.len(), result)
            }
        };
        match result {
            Ok(()) => {
                endpoint.count_sent(count, len);
                endpoint.end_trial(to);
                endpoint.pop(queue, count)
            }
            Err(error) => {
                self.front_not_sent(queue, error);
                false
            }
        }
    }

    /// The datagrams at the front of the queue were not sent.
    #[cold]
    fn front_not_sent(&self, queue: Box<Queue>, error: io::Error) {
        let endpoint = self.endpoint();
        let front = queue.front(|| endpoint.at_once());
        let (count, len, segment) = (
            front.count,
            front.transmit.data.len(),
            front.transmit.segment,
        );
        match self.outcome_of(error, front.transmit) {
            Offered::Sent => {
                endpoint.count_sent(count, len);
                endpoint.end_trial(front.transmit.to);
                endpoint.pop(queue, count);
            }
            Offered::Refused => {
                endpoint.queue.put(queue);
                self.wait_for_room();
            }
            Offered::Failed(error) if count > 1 => {
                endpoint.queue.put(queue);
                // Each gets a verdict of its own.
                endpoint.runs.refused(count, segment, &error);
            }
            Offered::Failed(error) => {
                add(&endpoint.numbers.failed, 1);
                let to = front.transmit.to.or(endpoint.remote.as_ref()).cloned();
                endpoint.runs.forget_trial();
                endpoint.pop(queue, 1);
                self.note_error(DatagramError::new(error, to, Some(len)));
            }
        }
    }

    /// Sends what is no part of the queue.
    pub(super) fn transmit(&self, transmit: Transmit<'_>) -> Offered {
        let endpoint = self.endpoint();
        match endpoint.call_to_send(transmit, endpoint.budget()) {
            Ok(()) => Offered::Sent,
            Err(error) => self.outcome_of(error, transmit),
        }
    }

    /// Returns the outcome of a call that has failed. Makes it again when it was interrupted, and once more
    /// when it told of an earlier datagram: the kernel keeps an error of a connected socket for the next
    /// call, and does not send that call's datagram (SO_ERROR, socket(7)).
    #[cold]
    fn outcome_of(&self, mut error: io::Error, transmit: Transmit<'_>) -> Offered {
        let endpoint = self.endpoint();
        let mut earlier: Option<io::Error> = None;
        let outcome = loop {
            match error.kind() {
                io::ErrorKind::WouldBlock => break Offered::Refused,
                io::ErrorKind::Interrupted => {}
                _ if earlier.is_none() && endpoint.keeps_errors() && !is_of_memory(&error) => {
                    earlier = Some(error);
                }
                _ => break Offered::Failed(error),
            }
            match endpoint.call_to_send(transmit, endpoint.budget()) {
                Ok(()) => break Offered::Sent,
                Err(next) => error = next,
            }
        };
        let Some(earlier) = earlier else {
            return outcome;
        };
        let same = match &outcome {
            Offered::Failed(error) => error.raw_os_error() == earlier.raw_os_error(),
            _ => false,
        };
        if !same {
            self.note_error(DatagramError::new(earlier, endpoint.remote.clone(), None));
        }
        outcome
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

    #[inline(never)]
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

    /// Whether the kernel keeps the error of a datagram for a later call: it does for UDP.
    fn keeps_errors(&self) -> bool {
        matches!(self.remote, Some(Address::Inet(_)))
    }

    /// Returns the maximum number of datagrams of the next call.
    fn at_once(&self) -> usize {
        match self.runs.goes_singly() {
            true => 1,
            false => usize::from(self.segments),
        }
    }

    /// Makes one system call. `budget`: what is left of it in this tick.
    fn call_to_send(&self, transmit: Transmit<'_>, budget: usize) -> io::Result<()> {
        if transmit.is_plain() {
            return self.send_plain(transmit.to, transmit.data, budget);
        }
        self.spend(transmit.data.len(), budget);
        self.send_by_socket(transmit)
    }

    /// As [`call_to_send`](Self::call_to_send), of one datagram that leaves as all others do.
    #[inline(always)]
    fn send_plain(&self, to: Option<&Address>, data: &[u8], budget: usize) -> io::Result<()> {
        self.spend(data.len(), budget);
        if let Some(Address::Inet(to)) = to
            && let Some(udp) = Datagrams::udp(&self.socket.borrow())
        {
            return udp.send_to(data, to).map(|_| ());
        }
        self.send_by_socket(Transmit {
            to,
            data,
            segment: data.len(),
            departure: None,
        })
    }

    fn send_by_socket(&self, transmit: Transmit<'_>) -> io::Result<()> {
        match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.send(transmit),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Counts a system call with `len` bytes.
    #[inline(always)]
    fn spend(&self, len: usize, budget: usize) {
        let core = self.core();
        add(&core.counters.writes, 1);
        let left = budget.saturating_sub(len.max(LEAST_COST));
        self.budget.set((core.tick(), left as u32));
    }

    pub(super) fn count_sent(&self, count: usize, len: usize) {
        add(&self.numbers.sent, count);
        add(&self.numbers.sent_bytes, len);
        add(&self.core().counters.bytes_sent, len);
    }

    /// Removes datagrams that wait no more from the front of the queue.
    pub(super) fn remove(&self, count: usize) {
        self.runs.forget_trial();
        if let Some(queue) = self.queue.take() {
            self.pop(queue, count);
        }
    }

    /// As [`remove`](Self::remove), of the queue that is out of its place. Returns whether it is empty now.
    #[inline(always)]
    fn pop(&self, mut queue: Box<Queue>, count: usize) -> bool {
        if count < queue.len() {
            queue.pop(count);
            self.runs.gone(count);
            self.queue.put(queue);
            return false;
        }
        self.clear(State::QUEUED);
        self.runs.queue_is_empty();
        self.give_back(queue);
        true
    }

    /// Gives the memory of the queue back to the loop.
    #[inline(always)]
    fn give_back(&self, mut queue: Box<Queue>) {
        queue.clear();
        self.core().give_datagrams(queue);
    }

    /// Drops what is queued.
    pub(super) fn drop_queue(&self) {
        self.clear(State::QUEUED);
        self.runs.queue_is_empty();
        if let Some(queue) = self.queue.take() {
            self.give_back(queue);
        }
    }
}
