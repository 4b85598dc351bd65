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
        let Some(limit) = limit else {
            conn.end_stall();
            conn.clear(State::WRITE_TIMED);
            return;
        };
        conn.set(State::WRITE_TIMED);
        let progress = conn.with_extra(|extra| {
            extra.write_timeout = limit;
            extra.stall.as_ref().map(|stall| stall.progress)
        });
        if let Some(progress) = progress {
            self.time_stall(progress);
        } else if conn.is(State::QUEUED) && !conn.is(State::WRITABLE) {
            self.time_stall(conn.core().clock());
        }
    }

    /// The kernel was offered bytes of a connection with a limit: it took `sent` of them, and
    /// refused the rest if so.
    pub(super) fn note_progress(&self, sent: usize, refused: bool) {
        let conn = self.conn();
        if conn.buffered() == 0 {
            conn.end_stall();
        } else if conn.with_extra(|extra| extra.stall.is_some()) {
            if sent > 0 {
                let now = conn.core().clock();
                conn.with_extra(|extra| {
                    if let Some(stall) = &mut extra.stall {
                        stall.progress = now;
                    }
                });
            }
        } else if refused {
            self.time_stall(conn.core().clock());
        }
    }

    /// Starts the timer, or another in its place.
    fn time_stall(&self, progress: Instant) {
        let conn = self.conn();
        conn.end_stall();
        let limit = conn.with_extra(|extra| extra.write_timeout);
        let timer = progress
            .checked_add(limit)
            .map(|due| self.timer_at(due, Self::stall_timer_fired));
        conn.with_extra(|extra| extra.stall = Some(Stall { progress, timer }));
    }

    fn stall_timer_fired(&self) {
        let conn = self.conn();
        let Some((progress, limit)) = conn.with_extra(|extra| {
            let stall = extra.stall.as_mut()?;
            stall.timer = None;
            Some((stall.progress, extra.write_timeout))
        }) else {
            return;
        };
        if conn.core().clock().saturating_duration_since(progress) < limit {
            self.time_stall(progress);
            return;
        }
        let sent = conn.sent.get();
        // Room may have come while this tick was busy; and a kernel reports room only when there
        // is much of it, but takes bytes before.
        conn.set(State::WRITABLE);
        self.offer_once();
        self.touch();
        let Some(progress) = conn.with_extra(|extra| Some(extra.stall.as_ref()?.progress)) else {
            return;
        };
        if conn.sent.get() > sent {
            self.time_stall(progress);
        } else {
            self.end(CloseReason::Timeout(TimeoutKind::Write));
        }
    }
}

impl Conn {
    /// Nothing is buffered any more, or nobody cares.
    pub(super) fn end_stall(&self) {
        if !self.is(State::WRITE_TIMED) {
            return;
        }
        let stall = self.with_extra(|extra| extra.stall.take());
        if let Some(timer) = stall.and_then(|stall| stall.timer) {
            self.with_extra(|extra| extra.timers.remove(&timer));
            self.core().cancel_timer(timer);
        }
    }
}
