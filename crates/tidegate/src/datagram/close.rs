//! How an endpoint ends.

use super::DatagramTransport;
use crate::transport::State;
use crate::{CloseReason, Closed, TimeoutKind};
use std::mem;
use std::time::Duration;

impl DatagramTransport {
    /// Begins a close: the queue is sent, then the endpoint ends.
    pub(super) fn begin_close(&self) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDED | State::LOST_CALLED | State::CLOSING) {
            return;
        }
        endpoint.set(State::CLOSING);
        self.drop_undelivered();
        self.touch();
    }

    /// Of several deadlines the earliest holds.
    pub(super) fn close_by(&self, limit: Duration) {
        self.begin_close();
        let endpoint = self.endpoint();
        let Some(deadline) = endpoint.core().clock().checked_add(limit) else {
            return;
        };
        if endpoint.is(State::ENDED | State::LOST_CALLED) {
            return;
        }
        let earlier = endpoint.with_extra(|extra| extra.close_deadline);
        if let Some((earlier, timer)) = earlier {
            if earlier <= deadline {
                return;
            }
            endpoint.with_extra(|extra| extra.timers.remove(&timer));
            endpoint.core().cancel_timer(timer);
        }
        let timer = self.timer_at(deadline, |transport| {
            transport.settle();
            transport.end(CloseReason::Timeout(TimeoutKind::Close));
            transport.settle();
        });
        endpoint.with_extra(|extra| extra.close_deadline = Some((deadline, timer)));
    }

    /// Ends it now; queued datagrams are dropped.
    pub(super) fn end(&self, reason: CloseReason) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDED | State::LOST_CALLED) {
            return;
        }
        self.fix_closed(reason);
        let dropped = endpoint.queued() as u64;
        let gone = endpoint.gone();
        endpoint.with_extra(|extra| extra.gone_at_end = Some(gone));
        let before = endpoint.numbers.dropped.get();
        endpoint.numbers.dropped.set(before + dropped);
        endpoint.drop_queue();
        endpoint.set(State::ENDED);
        self.drop_undelivered();
        self.touch();
    }

    /// Drops what was received and not delivered.
    fn drop_undelivered(&self) {
        let endpoint = self.endpoint();
        if endpoint.extra.is_some() {
            endpoint.with_extra(|extra| {
                extra.kept = None;
                let errors = mem::take(&mut extra.errors).len() as u64;
                let left_out = endpoint.numbers.errors_left_out.get();
                endpoint.numbers.errors_left_out.set(left_out + errors);
            });
        }
        endpoint.clear(State::UNREAD);
    }

    /// The one place that decides how the endpoint ended. The first call counts.
    fn fix_closed(&self, reason: CloseReason) -> Closed {
        let endpoint = self.endpoint();
        if let Some(closed) = endpoint.closed() {
            return closed;
        }
        let unsent = endpoint.numbers.taken_bytes.get() - endpoint.numbers.sent_bytes.get();
        let closed = Closed::new(endpoint.id, reason, unsent);
        endpoint.with_extra(|extra| extra.closed = Some(closed.clone()));
        closed
    }

    /// Tells the protocol and lets go of everything.
    pub(super) fn finish(&self) {
        let endpoint = self.endpoint();
        let core = endpoint.core();
        let closed = self.fix_closed(CloseReason::LocalClose);
        let made = !endpoint.is(State::CONNECTING);
        endpoint.set(State::LOST_CALLED);
        for timer in endpoint.with_extra(|extra| mem::take(&mut extra.timers)) {
            core.cancel_timer(timer);
        }
        if made {
            self.call("connection_lost", |protocol, transport| {
                protocol.connection_lost(transport, &closed);
                Ok(())
            });
        }
        let protocol = endpoint.protocol.take();
        core.drop_value(protocol);
        if let Some(socket) = endpoint.socket.take() {
            core.close_datagrams(socket);
        }
        let gone = core.registry.borrow_mut().remove(endpoint.id);
        drop(gone);
        self.end_waiters(&closed);
    }
}
