//! Connections over which no byte comes or goes.
//!
//! A look every [`step`](IdleLimit::step) of the limit counts, for each connection, the looks in a row
//! without a byte. The count lies in the connection's word of flags, and so does the flag that a read
//! clears. A send leaves its mark in the budget of its tick. So a limit costs a connection no memory, and
//! a message no instruction.
//!
//! The looks of a server's connections are one sweep of the server (`server/idle.rs`). A connection
//! that we have opened has a timer of its own.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::{CloseReason, TimeoutKind};
use std::time::Duration;

/// The minimum time between two looks: each one visits all connections of the loop, and a poll waits
/// for no less (epoll_wait(2) counts milliseconds).
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// The number of looks in a limit, which bounds how late a connection ends: at most one step after the
/// limit. Fewer when the steps are the shortest.
const LOOKS: u8 = 4;

/// A limit in steps: no byte has moved within it when none has in `looks` looks, each at least a
/// `step` after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdleLimit {
    pub(crate) step: Duration,
    looks: u8,
}

impl IdleLimit {
    pub(crate) fn of(limit: Duration) -> Self {
        let shortest = limit.as_nanos().div_ceil(SHORTEST_STEP.as_nanos());
        let looks = u8::try_from(shortest).map_or(LOOKS, |looks| looks.clamp(1, LOOKS));
        // Rounded up: all steps together are no less than the limit.
        let step = (limit / u32::from(looks)).saturating_add(Duration::from_nanos(1));
        Self {
            step: step.max(SHORTEST_STEP),
            looks,
        }
    }
}

impl Transport {
    /// Ends the connection, which we have opened, when no byte comes or goes for `limit`.
    pub(crate) fn limit_idleness(&self, limit: Duration) {
        self.look_later(IdleLimit::of(limit));
    }

    fn look_later(&self, limit: IdleLimit) {
        let Some(next) = self.core().clock().checked_add(limit.step) else {
            return;
        };
        self.timer_at(next, move |transport| {
            if transport.is_idle_in(limit) {
                transport.end_if_idle();
            }
            if !transport.conn().is(State::ENDED | State::LOST_CALLED) {
                transport.look_later(limit);
            }
        });
    }

    /// A look: returns whether no byte has moved for the limit. Calls no code of the user's.
    pub(crate) fn is_idle_in(&self, limit: IdleLimit) -> bool {
        let conn = self.conn();
        let moved = !conn.is(State::SILENT)
            | conn.has_sent_since_look()
            | conn.progress_of_layers()
            | conn.waits_for_us();
        let silent_looks = if moved {
            0
        } else {
            conn.state.get().silent_looks() + 1
        };
        conn.note_silence(silent_looks.min(limit.looks));
        silent_looks >= limit.looks
    }

    /// Ends a connection that is idle, unless the kernel takes some of its bytes after all.
    pub(crate) fn end_if_idle(&self) {
        let conn = self.conn();
        let taken = conn.taken_by_kernel();
        if conn.is(State::QUEUED | State::OUTPUT) {
            // A kernel reports room only when there is much of it, but takes bytes before.
            conn.set(State::WRITABLE);
            self.flush_queue();
            self.touch();
        }
        if conn.taken_by_kernel() > taken {
            conn.note_silence(0);
        } else {
            self.end(CloseReason::Timeout(TimeoutKind::Idle));
        }
    }
}

impl Conn {
    /// The next byte that comes clears the flag.
    fn note_silence(&self, looks: u8) {
        self.state.set(self.state.get().silent_for(looks));
    }

    /// Returns whether the peer can do nothing: reading is held back, and all that was written is sent.
    fn waits_for_us(&self) -> bool {
        self.is(State::READ_HOLD) && !self.is(State::QUEUED | State::OUTPUT)
    }

    /// Returns whether the kernel has given or taken bytes since the last look that layers keep to
    /// themselves, as those of a handshake.
    fn progress_of_layers(&self) -> bool {
        self.is(State::LAYERED) && self.progress_since_look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_looks_of_a_limit_take_no_less_than_the_limit_and_at_most_a_quarter_more() {
        let limits = [
            Duration::from_nanos(1),
            Duration::from_micros(2_500),
            Duration::from_millis(3),
            Duration::from_millis(4),
            Duration::from_millis(10),
            Duration::from_secs(60),
            Duration::from_millis(3_600_500),
            Duration::from_secs(365 * 86_400),
        ];
        for limit in limits {
            let IdleLimit { step, looks } = IdleLimit::of(limit);
            let looks = u32::from(looks);
            assert!(step * looks >= limit, "{limit:?}");
            assert!(step >= SHORTEST_STEP, "{limit:?}");
            let late = (limit / 4).max(2 * SHORTEST_STEP);
            let latest = limit + late + looks * Duration::from_nanos(2);
            assert!(step * (looks + 1) <= latest, "{limit:?}");
        }
        assert_eq!(IdleLimit::of(Duration::MAX).looks, LOOKS);
    }
}
