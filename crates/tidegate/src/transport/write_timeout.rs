//! The limit on the time for which the kernel takes none of the buffered bytes.
//!
//! A stall begins when the kernel refuses bytes and ends when none are buffered any more;
//! [`record_sent`](super::flush) tells of both. While it lasts there is one timer. Progress notes the
//! time and leaves the timer where it is, so it costs no more than reading the clock; when the
//! timer fires, it starts itself again from the last progress. So none is due too late.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::timers::TimerId;
use crate::{CloseReason, TimeoutKind};
use std::time::{Duration, Instant};

/// The limit of a connection, or none, or that of its server, in the four bytes that each connection
/// has to spare: whole milliseconds, up to 49 days. Another limit is in `Extra`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteTimeout(u32);

impl WriteTimeout {
    /// The server's, if there is a server and it has one.
    pub(super) const OF_SERVER: Self = Self(u32::MAX);
    const NONE: Self = Self(u32::MAX - 1);
    const IN_EXTRA: Self = Self(u32::MAX - 2);

    fn of(limit: Duration) -> Self {
        let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let short = Self(millis);
        if short.millis() == Some(limit) {
            short
        } else {
            Self::IN_EXTRA
        }
    }

    fn millis(self) -> Option<Duration> {
        let own = self.0 < Self::IN_EXTRA.0;
        own.then(|| Duration::from_millis(self.0.into()))
    }
}

/// A time in which the kernel refuses bytes.
pub(super) struct Stall {
    /// When the kernel last took a byte, or the stall began.
    progress: Instant,
    /// `None` when the limit lies beyond the range of the clock.
    timer: Option<TimerId>,
}

impl Transport {
    /// Sets the limit, takes it away, or changes it for a stall that lasts.
    pub(super) fn limit_stalls(&self, limit: Option<Duration>) {
        let conn = self.conn();
        conn.keep_write_timeout(limit);
        let Some(limit) = limit else {
            conn.end_stall();
            return;
        };
        if let Some(progress) = conn.stalled_since() {
            self.time_stall(progress, limit);
        } else if conn.is(State::QUEUED | State::OUTPUT) && !conn.is(State::WRITABLE) {
            self.time_stall(conn.core().clock(), limit);
        }
    }

    /// The kernel was offered bytes, and took `sent` of them, in which those count that layers made.
    /// It refused the rest if so, or a stall is timed.
    pub(super) fn time_progress(&self, sent: usize, refused: bool) {
        let conn = self.conn();
        if conn.is(State::STALL_TIMED) {
            if !conn.waits_for_kernel() {
                conn.end_stall();
            } else if sent > 0 {
                let now = conn.core().clock();
                conn.with_extra(|extra| {
                    if let Some(stall) = &mut extra.stall {
                        stall.progress = now;
                    }
                });
            }
        } else if refused
            && conn.waits_for_kernel()
            && let Some(limit) = conn.write_timeout()
        {
            self.time_stall(conn.core().clock(), limit);
        }
    }

    /// Starts the timer, or another in its place.
    fn time_stall(&self, progress: Instant, limit: Duration) {
        let conn = self.conn();
        conn.end_stall();
        let timer = progress
            .checked_add(limit)
            .map(|due| self.timer_at(due, Self::stall_timer_fired));
        conn.with_extra(|extra| extra.stall = Some(Stall { progress, timer }));
        conn.set(State::STALL_TIMED);
    }

    fn stall_timer_fired(&self) {
        let conn = self.conn();
        conn.with_extra(|extra| {
            if let Some(stall) = &mut extra.stall {
                stall.timer = None;
            }
        });
        let (Some(progress), Some(limit)) = (conn.stalled_since(), conn.write_timeout()) else {
            return;
        };
        if conn.core().clock().saturating_duration_since(progress) < limit {
            self.time_stall(progress, limit);
            return;
        }
        let taken = conn.taken_by_kernel();
        self.offer_again();
        let Some(progress) = conn.stalled_since() else {
            return;
        };
        if conn.taken_by_kernel() > taken {
            self.time_stall(progress, limit);
        } else {
            self.end(CloseReason::Timeout(TimeoutKind::Write));
        }
    }
}

impl Conn {
    pub(super) fn keep_write_timeout(&self, limit: Option<Duration>) {
        let kept = limit.map_or(WriteTimeout::NONE, WriteTimeout::of);
        self.write_timeout.set(kept);
        if kept == WriteTimeout::IN_EXTRA {
            self.with_extra(|extra| extra.write_timeout = limit);
        }
    }

    fn write_timeout(&self) -> Option<Duration> {
        match self.write_timeout.get() {
            WriteTimeout::OF_SERVER => self.server.as_ref()?.timeouts().write,
            WriteTimeout::IN_EXTRA => self.with_extra(|extra| extra.write_timeout),
            short => short.millis(),
        }
    }

    /// Returns the limit, or that there is none, if that was set on the connection itself.
    pub(super) fn own_write_timeout(&self) -> Option<Option<Duration>> {
        let own = self.write_timeout.get() != WriteTimeout::OF_SERVER;
        own.then(|| self.write_timeout())
    }

    /// The number of bytes that the kernel has taken, in which those count that layers made.
    pub(super) fn taken_by_kernel(&self) -> u64 {
        self.layered(|layered| layered.taken())
            .unwrap_or_else(|| self.sent.get())
    }

    /// Whether there are bytes that the kernel has not taken: buffered ones, or output of layers.
    fn waits_for_kernel(&self) -> bool {
        self.buffered() > 0 || self.is(State::OUTPUT)
    }

    /// The last progress of a stall that is timed.
    fn stalled_since(&self) -> Option<Instant> {
        if !self.is(State::STALL_TIMED) {
            return None;
        }
        self.with_extra(|extra| extra.stall.as_ref().map(|stall| stall.progress))
    }

    /// Ends the stall: nothing is buffered any more, or there is no limit.
    pub(super) fn end_stall(&self) {
        if !self.is(State::STALL_TIMED) {
            return;
        }
        self.clear(State::STALL_TIMED);
        let stall = self.with_extra(|extra| extra.stall.take());
        if let Some(timer) = stall.and_then(|stall| stall.timer) {
            self.with_extra(|extra| extra.timers.remove(&timer));
            self.core().cancel_timer(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_kept_beside_the_rest_is_exact_and_any_other_is_kept_elsewhere() {
        let longest = Duration::from_millis(u64::from(u32::MAX) - 3);
        let short = [Duration::ZERO, Duration::from_millis(1), longest];
        for limit in short {
            assert_eq!(WriteTimeout::of(limit).millis(), Some(limit));
        }
        let others = [
            Duration::from_nanos(1),
            Duration::from_nanos(1_500_000_001),
            longest + Duration::from_millis(1),
            longest + Duration::from_millis(2),
            longest + Duration::from_millis(3),
            longest + Duration::from_millis(4),
            Duration::MAX,
        ];
        for limit in others {
            assert_eq!(WriteTimeout::of(limit), WriteTimeout::IN_EXTRA);
        }
        assert_eq!(WriteTimeout::NONE.millis(), None);
        assert_eq!(WriteTimeout::OF_SERVER.millis(), None);
    }
}
