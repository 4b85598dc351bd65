//! The steps that are owed to an endpoint: its callbacks, its queue and its end, one after the other.
//!
//! [`State::next`] names the next step, as for connections; errors of datagrams come before. A callback is never
//! made from within a call of the user.

use super::endpoint::Endpoint;
use super::{DatagramProtocol, DatagramTransport};
use crate::event_loop::{Deferred, Failure, add};
use crate::protocol::Internal;
use crate::transport::{State, Step};
use crate::{BoxError, CloseReason, OnPause, Result, WriteError};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The maximum number of steps in one settling: a protocol whose callbacks always cause another one must
/// not hold the loop.
const STEPS_PER_SETTLE: usize = 128;

impl Endpoint {
    /// Whether nothing is owed: no step, no error of a datagram, no waiter, no word about room.
    #[inline]
    fn is_at_rest(&self) -> bool {
        let busy = State::OWED | State::TO_READ | State::AWAITED;
        let has_errors = || {
            self.extra.with(|extra| match extra {
                Some(extra) => !extra.errors.is_empty(),
                None => false,
            })
        };
        !self.is(busy) && !self.watches_room.get() && !has_errors()
    }
}

impl DatagramTransport {
    /// Calls the protocol. Returns `None` when the callback returned no value.
    #[inline(always)]
    pub(super) fn call<R>(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn DatagramProtocol, &Self) -> Result<R>,
    ) -> Option<R> {
        let endpoint = self.endpoint();
        let core = &**endpoint.core();
        add(&core.counters.callbacks, 1);
        core.begin_callback();
        let mut slot = endpoint.protocol.try_borrow_mut().ok()?;
        let protocol = slot.as_deref_mut()?;
        endpoint.set(State::RUNNING);
        let outcome = catch_unwind(AssertUnwindSafe(|| callback(protocol, self)));
        drop(slot);
        endpoint.clear(State::RUNNING);
        core.end_callback(|| {
            let protocol = self.protocol_name().unwrap_or("a protocol");
            format!(
                "{context} of {protocol} on {} ({})",
                endpoint.id, endpoint.local
            )
        });
        match outcome {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => self.callback_failed(context, error),
            Err(payload) => {
                let reason = core.park_panic(payload);
                self.end(reason.clone());
                self.report(context, reason);
            }
        }
        None
    }

    /// An error of a callback ends nothing, but for the first.
    #[cold]
    fn callback_failed(&self, context: &'static str, error: BoxError) {
        if self.is_own_ending(&error) {
            self.core().defer_drop(Deferred::Value(Box::new(error)));
            return;
        }
        let reason = CloseReason::Callback(error.into());
        if self.endpoint().is(State::CONNECTING) {
            self.end(reason.clone());
        }
        self.report(context, reason);
    }

    fn report(&self, context: &'static str, reason: CloseReason) {
        let endpoint = self.endpoint();
        let failure = Failure::new(context, reason)
            .of_endpoint(endpoint.id, endpoint.remote.clone())
            .of_protocol(self.protocol_name());
        endpoint.core().report(failure);
    }

    pub(super) fn protocol_name(&self) -> Option<&'static str> {
        let slot = self.endpoint().protocol.try_borrow().ok()?;
        Some(slot.as_ref()?.__type_name(Internal))
    }

    /// Whether an error only says that this endpoint is ending, which it is.
    fn is_own_ending(&self, error: &BoxError) -> bool {
        self.endpoint().is(State::ENDING) && WriteError::tells_of_end(error, self.id())
    }

    /// Carries out the owed steps until nothing is owed. Only the loop calls this.
    #[inline]
    pub(super) fn settle(&self) {
        let endpoint = self.endpoint();
        if endpoint.state.get().owes_queue_alone() {
            self.offer();
        }
        if !endpoint.is_at_rest() {
            self.carry_out_steps();
        }
    }

    fn carry_out_steps(&self) {
        let endpoint = self.endpoint();
        if self.is_borrowed() {
            self.postpone();
            return;
        }
        for _ in 0..STEPS_PER_SETTLE {
            if self.deliver_error() {
                continue;
            }
            match endpoint.state.get().next(endpoint.spent()) {
                Step::Made => self.make(),
                Step::Finish => {
                    self.finish();
                    return;
                }
                Step::Flush => {
                    self.offer();
                    endpoint.forget_room();
                }
                Step::Pause => self.pause(),
                Step::Resume => self.resume(),
                Step::QueueRead => self.receive_later(),
                Step::Postpone => {
                    self.complete_waiters();
                    self.postpone();
                    return;
                }
                // The others are of connections: streams have layers, and an end in each direction.
                _ => {
                    endpoint.forget_room();
                    self.complete_waiters();
                    return;
                }
            }
        }
        self.postpone();
    }

    /// Delivers the next error of a datagram. Returns whether there was one.
    fn deliver_error(&self) -> bool {
        let endpoint = self.endpoint();
        if !endpoint.extra.is_some() || endpoint.is(State::CONNECTING | State::ENDING) {
            return false;
        }
        let Some(error) = endpoint.with_extra(|extra| extra.errors.pop_front()) else {
            return false;
        };
        self.call("error_received", |protocol, transport| {
            protocol.error_received(transport, &error)
        });
        true
    }

    pub(super) fn postpone(&self) {
        let endpoint = self.endpoint();
        if !endpoint.is(State::DIRTY) {
            endpoint.set(State::DIRTY);
            endpoint.core().push_dirty(endpoint.id);
        }
    }

    /// Something was changed from outside: the loop is to look before it sleeps. The loop does that
    /// anyway when a callback has returned.
    pub(super) fn touch(&self) {
        if !self.endpoint().is(State::RUNNING | State::LOST_CALLED) {
            self.postpone();
        }
    }

    fn make(&self) {
        self.call("connection_made", |protocol, transport| {
            protocol.connection_made(transport)
        });
        let endpoint = self.endpoint();
        endpoint.clear(State::CONNECTING);
    }

    fn pause(&self) {
        let endpoint = self.endpoint();
        endpoint.state.set(endpoint.state.get().telling_pause());
        let answer = self.call("pause_writing", |protocol, transport| {
            protocol.pause_writing(transport)
        });
        let stops_reading = answer == Some(OnPause::StopReading);
        endpoint
            .state
            .set(endpoint.state.get().pause_told(stops_reading));
    }

    fn resume(&self) {
        let endpoint = self.endpoint();
        endpoint.state.set(endpoint.state.get().telling_resume());
        endpoint.resume_tick.set(endpoint.core().tick());
        self.call("resume_writing", |protocol, transport| {
            protocol.resume_writing(transport)
        });
    }
}
