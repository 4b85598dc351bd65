//! How a connection ends: closing (sends the rest first), write failed (reading may go on), ended,
//! lost. `Closed` is fixed in one place.

use super::Transport;
use super::conn::{CallbackFailure, Conn};
use super::state::State;
use crate::event_loop::Failure;
use crate::{BoxError, CloseReason, Closed, TimeoutKind, WriteError};
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

impl Transport {
    /// Begins a close: sends the buffered bytes, then ends.
    pub(super) fn begin_close(&self) {
        let conn = self.conn();
        if conn.is(State::ENDED | State::LOST_CALLED | State::CLOSING) {
            return;
        }
        if conn.is(State::WRITE_FAILED) {
            conn.set(State::ENDED);
        } else {
            conn.set(State::CLOSING);
            self.drop_unread();
            if conn.is(State::LAYERED) {
                // Layers that wait for a word are fed again: nobody wants the bytes before it.
                conn.set(State::READABLE);
            }
            if conn.is(State::EOF_DELIVERED) {
                conn.set(State::EOF_BEFORE_CLOSE);
            }
        }
        self.touch();
    }

    /// Of several deadlines the earliest holds.
    pub(super) fn close_by(&self, limit: Duration) {
        self.begin_close();
        let conn = self.conn();
        let Some(deadline) = conn.core().clock().checked_add(limit) else {
            return;
        };
        if conn.is(State::ENDED | State::LOST_CALLED) {
            return;
        }
        let earlier = conn.with_extra(|extra| extra.close_deadline);
        if let Some((earlier, timer)) = earlier {
            if earlier <= deadline {
                return;
            }
            self.forget_timer(timer);
            conn.core().cancel_timer(timer);
        }
        let timer = self.timer_at(deadline, |transport| {
            // Bytes written since the last tick were not offered yet.
            transport.settle();
            transport.end(CloseReason::Timeout(TimeoutKind::Close));
        });
        conn.with_extra(|extra| extra.close_deadline = Some((deadline, timer)));
    }

    /// A close waits for the kernel: begins the close timeout, if there is one, and it does not run yet.
    pub(super) fn time_close(&self) {
        let conn = self.conn();
        let Some(limit) = conn.close_timeout() else {
            return;
        };
        if !conn.with_extra(|extra| mem::replace(&mut extra.close_timed, true)) {
            self.close_by(limit);
        }
    }

    /// Ends it now; buffered bytes are lost.
    pub(crate) fn end(&self, reason: CloseReason) {
        let conn = self.conn();
        if conn.is(State::ENDED | State::LOST_CALLED) {
            return;
        }
        if conn.is(State::IN_LAYER) {
            self.note_end(reason, false);
            return;
        }
        self.fix_closed(reason);
        conn.drop_buffered();
        conn.set(State::ENDED);
        self.touch();
    }

    /// Ends it as [`reset`](Transport::reset) does, with a reason of the caller's.
    pub(crate) fn reset_for(&self, reason: CloseReason) {
        let conn = self.conn();
        if conn.is(State::LOST_CALLED) {
            return;
        }
        if conn.is(State::IN_LAYER) {
            self.note_end(reason, true);
            return;
        }
        if !conn.is(State::ENDED) {
            // The peer will lose what the kernel has, so a close under way is none any more.
            conn.clear(State::CLOSING);
            self.end(reason);
        }
        if !conn.closed().is_some_and(|closed| closed.is_clean()) {
            conn.set(State::RESET);
        }
    }

    /// Ends it because the loop ends.
    pub(crate) fn shut_down(&self) {
        self.end(CloseReason::Shutdown);
        self.settle();
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.conn().is(State::LOST_CALLED)
    }

    /// The kernel refused bytes for good, or an error was found while nothing was read. Writing ends; bytes
    /// that the kernel still holds can be read.
    pub(super) fn write_failed(&self, error: io::Error) {
        let conn = self.conn();
        if conn.is(State::LAYERED) && self.end_by_panic() {
            return;
        }
        let reason = CloseReason::Io(Arc::new(error));
        if conn.is(State::CLOSING | State::EOF_SEEN) {
            self.end(reason);
            return;
        }
        let closed = self.fix_closed(reason);
        conn.drop_buffered();
        conn.clear(State::PAUSED | State::PAUSE_TOLD | State::PAUSE_MISSED | State::HELD);
        conn.set(State::WRITE_FAILED | State::READABLE | State::READ_TO_END);
        self.touch();
        self.fail_waiters(&closed);
        if let Some(run) = conn.with_extra(|extra| extra.write_failed.take()) {
            conn.core().push_ready(run);
        }
    }

    /// Asks for an error that reading would not find because it is stopped.
    pub(super) fn look_for_error(&self) {
        let conn = self.conn();
        if conn.is(State::WRITE_FAILED | State::ENDED | State::LOST_CALLED) {
            return;
        }
        let error = match conn.socket.borrow_mut().as_mut() {
            Some(socket) => socket.take_error(),
            None => return,
        };
        match error {
            Ok(Some(error)) | Err(error) => self.write_failed(error),
            Ok(None) => {}
        }
    }

    /// A callback returned an error or panicked, and what it wrote was not sent yet. If it counts
    /// as the reason of the end, it does so whatever sending the rest meets.
    pub(super) fn note_failure(&self, reason: &CloseReason) {
        let conn = self.conn();
        if conn.is(State::LOST_CALLED) {
            return;
        }
        let ends = !conn.is(State::CLOSING) || conn.owes_peer();
        conn.with_extra(|extra| {
            extra.failure.get_or_insert_with(|| CallbackFailure {
                reason: reason.clone(),
                ends,
            });
        });
    }

    /// Ends the connection of a failed callback, whose gathered writes were sent or queued.
    pub(super) fn callback_failed(&self, context: &'static str, reason: CloseReason) {
        let conn = self.conn();
        if !conn.is(State::LOST_CALLED) {
            self.offer_once();
            self.end(reason.clone());
        }
        let failure = Failure::new(context, reason)
            .of_transport(self)
            .of_protocol(self.protocol_name());
        conn.core().report(failure);
    }

    /// The first failure of a callback, which after `close` may not be the reason of the end.
    pub(crate) fn failure(&self) -> Option<CloseReason> {
        self.conn()
            .extra
            .with(|extra| Some(extra.as_ref()?.failure.as_ref()?.reason.clone()))
    }

    /// Whether an error only says that this connection is ending, which it is.
    pub(super) fn is_own_ending(&self, error: &BoxError) -> bool {
        self.conn().is(State::ENDING) && WriteError::tells_of_end(error, self.id())
    }

    /// The one place that decides how the connection ended. The first call counts.
    pub(super) fn fix_closed(&self, reason: CloseReason) -> Closed {
        let conn = self.conn();
        if let Some(closed) = conn.closed() {
            return closed;
        }
        if conn.is(State::LAYERED) {
            conn.count_untold();
            conn.uncount_output();
        }
        let unsent = conn.buffered();
        let failure = conn.with_extra(|extra| extra.failure.clone());
        let reason = if let Some(failure) = failure.filter(|failure| failure.ends) {
            failure.reason
        } else if !conn.is(State::CLOSING) || conn.owes_peer() {
            reason
        } else if conn.is(State::EOF_BEFORE_CLOSE) {
            CloseReason::PeerEof
        } else {
            CloseReason::LocalClose
        };
        let closed = Closed::new(conn.id, reason, unsent);
        conn.with_extra(|extra| extra.closed = Some(closed.clone()));
        closed
    }

    /// Tells the protocol and lets go of everything.
    pub(super) fn finish(&self) {
        let conn = self.conn();
        let core = conn.core();
        let graceful = !conn.is(State::ENDED);
        let closed = self.fix_closed(CloseReason::LocalClose);
        let made = !conn.is(State::CONNECTING);
        conn.set(State::LOST_CALLED);
        for timer in conn.with_extra(|extra| mem::take(&mut extra.timers)) {
            core.cancel_timer(timer);
        }
        if conn.is(State::LAYERED) {
            self.cancel_layer_timers();
        }
        if made {
            self.call("connection_lost", |protocol, transport| {
                protocol.connection_lost(transport, &closed);
                Ok(())
            });
        }
        let protocol = conn.protocol.take();
        core.drop_value(protocol);
        // It is there still when the connection was not made.
        let next = conn.with_extra(|extra| extra.next.take());
        core.drop_value(next);
        self.refuse_detach(&closed);
        let watch = conn.with_extra(|extra| extra.write_failed.take());
        core.drop_value(watch);
        self.release_socket(graceful, &closed);
        self.drop_unread();
        self.fail_waiters(&closed);
        self.answer_closes(&closed);
        if conn.has_extra() {
            self.layers_are_gone(&closed);
        }
        if let Some(server) = &conn.server {
            server.connection_ended(&closed, &conn.peer);
        }
    }
}

impl Conn {
    /// The timeout of the connection itself, else that of its server.
    fn close_timeout(&self) -> Option<Duration> {
        match &self.server {
            Some(server) => server.timeouts().close,
            None if self.has_extra() => self.with_extra(|extra| extra.close_timeout),
            None => None,
        }
    }
}
