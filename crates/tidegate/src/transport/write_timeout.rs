//! The limit on the time for which the kernel may take nothing of what is buffered.
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

/// The limit, or none, in milliseconds: each connection has a place for it, of four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteTimeout(u32);

impl WriteTimeout {
    pub(super) const NONE: Self = Self(u32::MAX);
    /// Some 49 days and everything above, which never comes.
    const NEVER: u32 = u32::MAX - 1;

    /// Rounds up, so that a stall is never ended early.
    fn new(limit: Option<Duration>) -> Self {
        limit.map_or(Self::NONE, |limit| {
            let millis = limit.as_nanos().div_ceil(1_000_000);
            Self(
                u32::try_from(millis)
                    .unwrap_or(Self::NEVER)
                    .min(Self::NEVER),
            )
        })
    }

    fn limit(self) -> Option<Duration> {
        match self.0 {
            u32::MAX => None,
            Self::NEVER => Some(Duration::MAX),
            millis => Some(Duration::from_millis(millis.into())),
        }
    }
}

/// A time in which the kernel refuses bytes.
pub(super) struct Stall {
    /// When the kernel last took a byte, or the stall began.
    progress: Instant,
    /// `None` when the limit lies beyond what the clock can say.
    timer: Option<TimerId>,
}

impl Transport {
    /// Sets the limit, takes it away, or changes it for a stall that lasts.
    pub(super) fn limit_stalls(&self, limit: Option<Duration>) {
        let conn = self.conn();
        conn.write_timeout.set(WriteTimeout::new(limit));
        let Some(limit) = conn.write_timeout.get().limit() else {
            conn.end_stall();
            return;
        };
        if let Some(progress) = conn.stalled_since() {
            self.time_stall(progress, limit);
        } else if conn.is(State::QUEUED) && !conn.is(State::WRITABLE) {
            self.time_stall(conn.core().clock(), limit);
        }
    }

    /// The kernel was offered bytes, and took `sent` of them. It refused the rest if so, or a stall is
    /// timed.
    pub(super) fn time_progress(&self, sent: usize, refused: bool) {
        let conn = self.conn();
        if conn.is(State::STALL_TIMED) {
            if conn.buffered() == 0 {
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
            && conn.buffered() > 0
            && let Some(limit) = conn.write_timeout.get().limit()
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
        let limit = conn.write_timeout.get().limit();
        let (Some(progress), Some(limit)) = (conn.stalled_since(), limit) else {
            return;
        };
        if conn.core().clock().saturating_duration_since(progress) < limit {
            self.time_stall(progress, limit);
            return;
        }
        let sent = conn.sent.get();
        // Room may have come while this tick was busy; and a kernel reports room only when there
        // is much of it, but takes bytes before.
        conn.set(State::WRITABLE);
        self.offer_once();
        self.touch();
        let Some(progress) = conn.stalled_since() else {
            return;
        };
        if conn.sent.get() > sent {
            self.time_stall(progress, limit);
        } else {
            self.end(CloseReason::Timeout(TimeoutKind::Write));
        }
    }
}

impl Conn {
    /// The last progress of a stall that is timed.
    fn stalled_since(&self) -> Option<Instant> {
        if !self.is(State::STALL_TIMED) {
            return None;
        }
        self.with_extra(|extra| extra.stall.as_ref().map(|stall| stall.progress))
    }

    /// Nothing is buffered any more, or nobody cares.
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
    fn a_limit_is_kept_in_milliseconds_rounded_up_and_one_above_49_days_never_comes() {
        let longest = Duration::from_millis((u32::MAX - 2).into());
        let millis = Duration::from_millis;
        for (given, kept) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_nanos(1), millis(1)),
            (Duration::from_nanos(1_500_000_001), millis(1_501)),
            (longest, longest),
            (longest + Duration::from_nanos(1), Duration::MAX),
            (millis(u32::MAX.into()), Duration::MAX),
            (Duration::MAX, Duration::MAX),
        ] {
            assert_eq!(WriteTimeout::new(Some(given)).limit(), Some(kept));
        }
        assert_eq!(WriteTimeout::new(None), WriteTimeout::NONE);
        assert_eq!(WriteTimeout::NONE.limit(), None);
    }
}
