//! The place of a connection's protocol: its change, and calls of user code with it.

use super::Transport;
use super::conn::Next;
use super::state::State;
use crate::event_loop::Deferred;
use crate::protocol::Internal;
use crate::{CloseReason, Closed, Protocol, Result, protocol};
use std::any::type_name;
use std::error::Error;
use std::fmt;

/// The error of [`Transport::with_protocol`] when it does not call its closure.
///
/// The [error handler](crate::Handle::set_error_handler) gets an `OtherType` too: for a callback
/// of a connection whose protocol turns out to be of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WithProtocolError {
    /// The protocol is in use: the call came from one of its own callbacks, or from within another
    /// `with_protocol`.
    InCallback,
    /// The connection has ended, up to and including `connection_lost`, or it leaves its loop.
    Ended,
    /// The protocol is of another type, and none of the expected one is found by
    /// [`Protocol::inner`] and [`Protocol::user`].
    #[non_exhaustive]
    OtherType {
        /// The name of the type that the caller expected.
        expected: &'static str,
        /// The name of the type of the connection's protocol.
        found: &'static str,
    },
}

impl WithProtocolError {
    pub(super) fn other_type<P: 'static>(found: &dyn Protocol) -> Self {
        Self::of_names(type_name::<P>(), found.__type_name(Internal))
    }

    pub(crate) fn of_names(expected: &'static str, found: &'static str) -> Self {
        Self::OtherType { expected, found }
    }
}

impl fmt::Display for WithProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCallback => f.write_str("the protocol is in use by one of its callbacks"),
            Self::Ended => f.write_str("the connection has ended"),
            Self::OtherType { expected, found } => write!(
                f,
                "the protocol is a {found}, not a {expected}, and finds none by `Protocol::inner` or \
                 `Protocol::user`"
            ),
        }
    }
}

impl Error for WithProtocolError {}

impl Transport {
    /// Notes the protocol of `set_protocol`; [`switch`](Self::switch) puts it in its place.
    pub(super) fn replace_protocol(
        &self,
        protocol: Box<dyn Protocol>,
        unread: &[u8],
    ) -> Result<(), Closed> {
        let conn = self.conn();
        if conn.is(State::LOST_CALLED) {
            self.core().defer_drop(Deferred::Protocol(protocol));
            return Err(conn
                .closed()
                .unwrap_or_else(|| Closed::new(conn.id, CloseReason::LocalClose, 0)));
        }
        let in_callback = conn.is(State::RUNNING);
        let replaced = conn.with_extra(|extra| match &mut extra.next {
            Some(next) if in_callback && next.in_callback => {
                let own = next.own;
                next.unread.splice(own..own, unread.iter().copied());
                next.own += unread.len();
                Some(std::mem::replace(&mut next.protocol, protocol))
            }
            next => {
                let replaced = next.take();
                let own = unread.len();
                let mut unread = unread.to_vec();
                if let Some(replaced) = &replaced {
                    // Without this call it would have been switched to: our bytes go before its own.
                    unread.extend_from_slice(&replaced.unread);
                }
                *next = Some(Next {
                    protocol,
                    unread,
                    own,
                    in_callback,
                });
                Some(replaced?.protocol)
            }
        });
        if let Some(replaced) = replaced {
            self.core().defer_drop(Deferred::Protocol(replaced));
        }
        conn.with_extra(|extra| extra.switches += 1);
        conn.set(State::SWITCH);
        self.touch();
        Ok(())
    }

    /// Puts the protocol that `set_protocol` brought in its place, and takes the connection out of the loop
    /// if `detach` asked for that.
    pub(super) fn switch(&self) {
        let conn = self.conn();
        conn.clear(State::SWITCH);
        let (next, detaching) =
            conn.with_extra(|extra| (extra.next.take(), extra.detaching.take()));
        if let Some(next) = next {
            self.put_in_place(next);
        }
        if let Some(detaching) = detaching {
            self.leave_loop(detaching);
        }
    }

    fn put_in_place(&self, next: Next) {
        let conn = self.conn();
        conn.clear(State::PAUSE_TOLD);
        if !conn.is_write_only() {
            conn.clear(State::EOF_TOLD | State::KEPT_OPEN);
        }
        if !conn.is(State::PAUSED) {
            conn.clear(State::HELD);
        }
        let unread = self.with_leftover(next.unread);
        conn.with_extra(|extra| {
            extra.unread.come_next(unread);
            if !extra.unread.rest().is_empty() {
                conn.set(State::UNREAD);
            }
        });
        let old = conn.protocol.replace(Some(next.protocol));
        if let Some(old) = old {
            conn.core().defer_drop(Deferred::Protocol(old));
        }
    }

    /// The number of calls of [`set_protocol`](Transport::set_protocol): tells an old protocol,
    /// which lives on for a moment, that there is a new one.
    pub(crate) fn switches(&self) -> u64 {
        let extra = &self.conn().extra;
        extra.with(|extra| extra.as_ref().map_or(0, |extra| extra.switches))
    }

    pub(super) fn call_with_protocol<P: 'static, R>(
        &self,
        call: impl FnOnce(&mut P, &Self) -> R,
    ) -> Result<R, WithProtocolError> {
        let conn = self.conn();
        if conn.is(State::LOST_CALLED) {
            return Err(WithProtocolError::Ended);
        }
        if conn.is(State::RUNNING) {
            return Err(WithProtocolError::InCallback);
        }
        // Before `connection_made` the one in place is the one that will get it.
        if conn.is(State::SWITCH) && !conn.is(State::CONNECTING) && !self.is_borrowed() {
            if self.is_detaching() {
                return Err(WithProtocolError::Ended);
            }
            self.switch();
            self.touch();
        }
        let Ok(mut slot) = conn.protocol.try_borrow_mut() else {
            return Err(WithProtocolError::InCallback);
        };
        let Some(protocol) = slot.as_deref_mut() else {
            return Err(WithProtocolError::Ended);
        };
        let result = match protocol::find::<P>(protocol) {
            Some(found) => call(found, self),
            None => return Err(WithProtocolError::other_type::<P>(protocol)),
        };
        drop(slot);
        if self.core().is_closed() {
            // The loop was dropped meanwhile, and could not tell a protocol that was in use.
            self.settle();
        }
        Ok(result)
    }

    /// Whether `with_protocol` is on the stack: somebody runs the loop from within it.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.conn().protocol.try_borrow_mut().is_err()
    }

    pub(crate) fn protocol_name(&self) -> Option<&'static str> {
        let slot = self.conn().protocol.try_borrow().ok()?;
        slot.as_ref()
            .map(|protocol| (**protocol).__type_name(Internal))
    }
}
