//! The timers of a connection's layers: the limits of those that are opening, and one for all that the
//! layers themselves have started.
//!
//! They are in [`Layers`], not in the set of timers that end with the connection: almost every
//! connection with layers would have that set for its limits alone.

use super::super::Transport;
use super::super::conn::Conn;
use super::super::state::State;
use super::Layers;
use crate::timers::TimerId;
use crate::{CloseReason, TimeoutKind};
use std::time::Instant;

impl Layers {
    fn take_timer(&mut self) -> Option<TimerId> {
        let own = self.timer.take().map(|(_, timer)| timer);
        own.or_else(|| {
            self.opening
                .iter_mut()
                .find_map(|opening| opening.limit.take())
        })
    }
}

impl Transport {
    /// The connection ends: so do all timers of its layers.
    pub(in super::super) fn cancel_layer_timers(&self) {
        let conn = self.conn();
        while let Some(timer) = conn.if_layers(Layers::take_timer).flatten() {
            conn.core().cancel_timer(timer);
        }
    }

    fn open_limit_reached(&self) {
        if self.conn().is(State::OPENING) {
            self.end(CloseReason::Timeout(TimeoutKind::Handshake));
        }
    }

    fn layer_timer_fired(&self) {
        let conn = self.conn();
        conn.if_layers(|layers| layers.timer = None);
        conn.clear(State::LAYER_TIMED);
        let now = conn.core().clock();
        conn.lend(|layered| layered.timer(now));
        if conn.is(State::OPENING) {
            conn.set(State::OPEN_DUE);
        }
        self.settle();
    }
}

impl Conn {
    /// Starts the timer that ends the connection if a layer is not open by then.
    pub(super) fn limit_opening(&self, deadline: Instant) -> TimerId {
        self.start_timer(deadline, Transport::open_limit_reached)
    }

    /// Starts the timer of the layers' own, in place of the one that runs.
    pub(super) fn set_layer_timer(&self, deadline: Option<Instant>) {
        let running = self.if_layers(|layers| layers.timer).flatten();
        if running.map(|(deadline, _)| deadline) == deadline {
            return;
        }
        if let Some((_, timer)) = running {
            self.core().cancel_timer(timer);
        }
        let timer = deadline.map(|deadline| {
            let timer = self.start_timer(deadline, Transport::layer_timer_fired);
            (deadline, timer)
        });
        self.with_layers(|layers| layers.timer = timer);
        if timer.is_some() {
            self.set(State::LAYER_TIMED);
        } else {
            self.clear(State::LAYER_TIMED);
        }
    }

    fn start_timer(&self, deadline: Instant, call: fn(&Transport)) -> TimerId {
        let id = self.id;
        self.core().at(Some(deadline), move |handle| {
            if let Some(transport) = handle.transport(id) {
                call(&transport);
            }
        })
    }
}
