//! Connections over which no byte comes or goes.
//!
//! A look every [`step`](IdleLimit::step) of the limit counts, for each connection, the looks since
//! a byte has moved. A message costs nothing for it: a connection knows the ticks in which it read
//! and sent last. A look leaves its count in place of the tick of the last read, as a tick that lies
//! that far before the look. So the next look compares ticks of one step with each other, and no
//! limit is too long for ticks of 32 bits.
//!
//! The looks of a server's connections are one sweep of the server (`server/idle.rs`). A connection
//! that we have opened has a timer of its own.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::{CloseReason, TimeoutKind};
use std::time::Duration;

/// The maximum time between two looks: ticks of a step must not be more than half of all numbers, and
/// no loop makes 18 million ticks in a second.
const LONGEST_STEP: Duration = Duration::from_secs(60);

/// The minimum time between two looks: each one visits all connections of the loop, and a poll waits
/// for no less (epoll_wait(2) counts milliseconds).
const SHORTEST_STEP: Duration = Duration::from_millis(1);

/// The minimum number of looks in a limit, which bounds how late a connection ends: at most one step
/// after the limit.
const LEAST_LOOKS: u32 = 4;

/// A distance of ticks that is safe to compare with. The tick of the last byte sent is kept within it.
const FAR: u32 = 1 << 30;

/// A limit in steps: no byte has moved within it when none has in `looks` looks, each at least a
/// `step` after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdleLimit {
    pub(crate) step: Duration,
    looks: u32,
}

impl IdleLimit {
    pub(crate) fn of(limit: Duration) -> Self {
        // More would be two thousand years.
        let minutes = u32::try_from(limit.as_secs() / LONGEST_STEP.as_secs()).unwrap_or(FAR);
        let looks = minutes.saturating_add(1).clamp(LEAST_LOOKS, FAR);
        // Rounded up: all steps together are no less than the limit.
        let step = limit / looks + Duration::from_nanos(1);
        if step < SHORTEST_STEP {
            // Less than four of them.
            let looks = limit.as_nanos().div_ceil(SHORTEST_STEP.as_nanos());
            return Self {
                step: SHORTEST_STEP,
                looks: looks as u32,
            };
        }
        Self {
            step: step.min(LONGEST_STEP),
            looks,
        }
    }
}

/// Two looks in a row, by their ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) last: u32,
    pub(crate) now: u32,
}

impl Looks {
    /// Whether a tick is that of the last look, or one after it.
    fn since_last(self, tick: u32) -> bool {
        tick.wrapping_sub(self.last).cast_signed() >= 0
    }

    /// Returns a tick, or in place of one that lies far back a later one that is still before the last
    /// look.
    fn near(self, tick: u32) -> u32 {
        if !self.since_last(tick) && self.last.wrapping_sub(tick) > FAR {
            self.last.wrapping_sub(FAR)
        } else {
            tick
        }
    }

    /// Returns the number of looks without a byte that this one makes. `read` is what the last look has
    /// left, or the tick of a read since.
    fn count(self, read: u32, sent: bool) -> u32 {
        if sent || self.since_last(read) {
            0
        } else {
            self.last.wrapping_sub(read)
        }
    }

    /// Returns what is left in place of the tick of the last read.
    fn note(self, count: u32) -> u32 {
        self.now.wrapping_sub(1).wrapping_sub(count)
    }
}

impl Transport {
    /// Ends the connection, which we have opened, when no byte comes or goes for `limit`.
    pub(crate) fn limit_idleness(&self, limit: Duration) {
        let tick = self.core().tick();
        self.look_later(IdleLimit::of(limit), tick);
    }

    fn look_later(&self, limit: IdleLimit, last: u32) {
        let deadline = self.core().clock() + limit.step;
        self.timer_at(deadline, move |transport| {
            let looks = Looks {
                last,
                now: transport.core().tick(),
            };
            if transport.is_idle_in(limit, looks) {
                transport.end_if_idle(looks);
            }
            if !transport.conn().is(State::ENDED | State::LOST_CALLED) {
                transport.look_later(limit, looks.now);
            }
        });
    }

    /// A look: returns whether no byte has moved for the limit. Calls no code of the user's.
    pub(crate) fn is_idle_in(&self, limit: IdleLimit, looks: Looks) -> bool {
        let conn = self.conn();
        let sent = conn.has_sent_since(looks);
        let count = looks.count(conn.read_tick.get(), sent);
        conn.read_tick.set(looks.note(count));
        count >= limit.looks
    }

    /// Ends a connection that is idle, unless the kernel takes some of its bytes after all.
    pub(crate) fn end_if_idle(&self, looks: Looks) {
        let conn = self.conn();
        let taken = conn.taken_by_kernel();
        if conn.is(State::QUEUED | State::OUTPUT) {
            // A kernel reports room only when there is much of it, but takes bytes before.
            conn.set(State::WRITABLE);
            self.flush_queue();
            self.touch();
        }
        if conn.taken_by_kernel() > taken {
            conn.read_tick.set(looks.note(0));
        } else {
            self.end(CloseReason::Timeout(TimeoutKind::Idle));
        }
    }
}

impl Conn {
    /// Whether the kernel has taken bytes since the last look.
    fn has_sent_since(&self, looks: Looks) -> bool {
        let (tick, left) = self.budget.get();
        self.budget.set((looks.near(tick), left));
        // Bytes that layers send by themselves are in no budget.
        looks.since_last(tick) | (self.is(State::LAYERED) && self.progress_since_look())
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
            Duration::from_secs(240),
            Duration::from_secs(241),
            Duration::from_millis(3_600_500),
            Duration::from_secs(86_400),
            Duration::from_secs(365 * 86_400),
        ];
        for limit in limits {
            let IdleLimit { step, looks } = IdleLimit::of(limit);
            assert!(step * looks >= limit, "{limit:?}");
            assert!((SHORTEST_STEP..=LONGEST_STEP).contains(&step), "{limit:?}");
            let late = (limit / 4).max(2 * SHORTEST_STEP);
            let latest = limit + late + looks * Duration::from_nanos(2);
            assert!(step * (looks + 1) <= latest, "{limit:?}");
        }
        assert_eq!(IdleLimit::of(Duration::MAX).looks, FAR);
    }

    #[test]
    fn however_many_ticks_ago_bytes_were_sent_they_are_not_taken_for_new_ones() {
        let mut last = 7_u32;
        let mut sent = last;
        for _ in 0..64 {
            let now = last.wrapping_add(FAR - 1);
            let looks = Looks { last, now };
            assert_eq!(looks.since_last(sent), last == 7);
            sent = looks.near(sent);
            last = now;
        }
        let looks = Looks { last, now: last };
        for recent in [last, last.wrapping_add(9), last.wrapping_sub(FAR)] {
            assert_eq!(looks.near(recent), recent);
        }
    }

    #[test]
    fn a_byte_begins_the_count_anew_and_every_look_without_one_adds_to_it() {
        // Also where the numbers of ticks begin anew.
        for start in [0, 1, u32::MAX - 10, u32::MAX / 2] {
            let mut read = start;
            let mut last = start;
            for look in 0..100_u32 {
                let now = last.wrapping_add(1 + look * 1_000_000);
                let looks = Looks { last, now };
                // The birth counts as a byte.
                let count = looks.count(read, false);
                assert_eq!(count, look, "{start}");
                read = looks.note(count);
                last = now;
            }
            let now = last.wrapping_add(7);
            assert_eq!(Looks { last, now }.count(read, true), 0);
            assert_eq!(Looks { last, now }.count(last, false), 0);
            assert_eq!(Looks { last, now }.count(now, false), 0);
            assert_eq!(Looks { last, now }.count(last.wrapping_sub(1), false), 1);
        }
    }
}
