//! Writes that the cap refused, and ends that are a cut because of them.
//!
//! A refused write is in no counter: all bytes that were taken may be sent, and the peer still
//! misses some. So a connection that ends then, and not by a close, is [cut](Conn::is_cut).

use super::Transport;
use super::conn::{Conn, Extra};
use super::state::State;
use crate::event_loop::Deferred;
use crate::panics::caught;
use crate::{BoxError, CloseReason, Closed, WriteError};
use std::error::Error;

impl Transport {
    /// The refusal of the last write, as long as it may still be made good.
    pub(super) fn open_refusal(&self) -> Option<WriteError> {
        let conn = self.conn();
        let is_open = conn.was_refused() && !conn.is(State::ENDING);
        is_open.then_some(WriteError::BufferFull { transport: conn.id })
    }

    /// A callback failed with this error. If that is a refusal of this very connection, the refused
    /// bytes are missing, also when later ones were taken.
    pub(super) fn note_refusal_in(&self, error: &(dyn Error + 'static)) {
        let own = |refusal: &WriteError| matches!(refusal, WriteError::BufferFull { transport } if *transport == self.id());
        // The source of an error is code of the user.
        if caught(|| WriteError::of(error).is_some_and(own)) == Ok(true) {
            self.conn().note_refusal();
        }
    }

    /// Ends the connection as an error of a callback does, but reports nothing.
    pub(super) fn fail_with(&self, error: BoxError) {
        let conn = self.conn();
        let reason = if conn.is(State::ENDED | State::LOST_CALLED) {
            CloseReason::Callback(error.into())
        } else if let Some(reason) = self.fault_of(Ok(error)) {
            conn.queue_gathered();
            self.offer_once();
            self.end(reason.clone());
            reason
        } else {
            return;
        };
        conn.core().defer_drop(Deferred::Value(Box::new(reason)));
    }
}

impl Conn {
    /// Notes that the peer misses bytes, unless a later write is taken.
    pub(super) fn note_refusal(&self) {
        self.with_extra(|extra| extra.refused_at = self.written.get());
    }

    /// Whether the last write was refused at the cap.
    fn was_refused(&self) -> bool {
        let written = self.written.get();
        let refused_at = |extra: &Extra| extra.refused_at;
        written > 0 && self.extra.with(|extra| extra.as_deref().map(refused_at)) == Some(written)
    }

    /// Whether the peer misses bytes that it would not miss by itself.
    pub(super) fn is_cut(&self, closed: &Closed) -> bool {
        closed.unsent() > 0 || (!closed.is_clean() && self.was_refused())
    }
}
