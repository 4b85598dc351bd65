//! Waiting for the kernel to have room again.

use super::DatagramTransport;
use super::endpoint::Endpoint;
use crate::Address;
use crate::event_loop::add;
use crate::transport::State;
use std::time::Duration;

/// The first pause before a socket is tried again that the kernel tells nothing of, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

impl DatagramTransport {
    /// The kernel has refused a datagram: waits until it has room.
    pub(super) fn wait_for_room(&self) {
        let endpoint = self.endpoint();
        endpoint.clear(State::WRITABLE);
        if endpoint.is_told_of_no_room() || !endpoint.watch_room(true) {
            self.retry_later();
        }
    }

    fn retry_later(&self) {
        let endpoint = self.endpoint();
        if endpoint.is(State::RETRYING) {
            return;
        }
        endpoint.set(State::RETRYING);
        let (first, longest) = RETRY;
        let sent = endpoint.numbers.sent.get();
        let delay = endpoint.with_extra(|extra| {
            let progress = extra.sent_at_refusal != sent;
            extra.sent_at_refusal = sent;
            extra.retry = match progress {
                true => first,
                false => (2 * extra.retry).clamp(first, longest),
            };
            extra.retry
        });
        let deadline = endpoint.core().clock() + delay;
        self.timer_at(deadline, move |transport| {
            let endpoint = transport.endpoint();
            endpoint.clear(State::RETRYING);
            endpoint.set(State::WRITABLE);
            transport.settle();
        });
    }

    /// An event has told of room.
    pub(super) fn note_room(&self) {
        let endpoint = self.endpoint();
        if endpoint.is(State::RETRYING) {
            // Its own refusals are the events.
            return;
        }
        endpoint.set(State::WRITABLE);
    }
}

impl Endpoint {
    /// Whether the kernel tells of no room: that of many receivers is not the socket's own. It even tells
    /// of room where there is none, after each refusal.
    fn is_told_of_no_room(&self) -> bool {
        self.remote.is_none() && !matches!(self.local, Address::Inet(_))
    }

    /// Stops the reports of room when nothing waits for it any more.
    pub(super) fn forget_room(&self) {
        let waits = self.is(State::QUEUED) || !self.is(State::WRITABLE);
        if !waits {
            self.watch_room(false);
        }
    }

    /// Asks the kernel to report room, or no more. It reports each datagram that leaves, so it is asked
    /// only while something waits. Returns whether it does as asked.
    fn watch_room(&self, on: bool) -> bool {
        if self.watches_room.get() == on {
            return true;
        }
        let core = self.core();
        let mut socket = self.socket.borrow_mut();
        let Some(socket) = socket.as_mut() else {
            return true;
        };
        add(&core.counters.registrations, 1);
        let token = self.id.token();
        let watched = core.with_driver(|driver| driver.as_dyn().watch_room(socket, token, on));
        if watched.is_ok() {
            self.watches_room.set(on);
        }
        watched.is_ok()
    }
}
