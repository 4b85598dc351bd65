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
    /// Ends the connection with [`TimeoutKind::Write`] when bytes are buffered here and the
    /// kernel takes none of them for `limit`; these bytes are then unsent, and the peer sees what
    /// it sees after [`abort`](Transport::abort). `None`, as it is from the start: never. asyncio
    /// has no such limit.
    ///
    /// Every single byte that the kernel takes starts the time anew: `limit` is not the time of a
    /// write or of a message. But kernels pass on late, and in steps of up to some hundred
    /// kilobytes, what room a peer makes by reading: choose a limit of many seconds, in which a
    /// slow peer that is welcome reads as much. Nothing is timed while nothing is buffered, so an
    /// idle connection is not cut. The limit holds after [`write_eof`](Transport::write_eof) and
    /// [`close`](Transport::close) too, while the rest is being sent; of it and the deadline of
    /// [`close_within`](Transport::close_within) the earlier one ends the connection. Before a
    /// connection is cut, what is buffered is offered to the kernel once more, so none is cut
    /// because the loop was busy with others.
    ///
    /// The kernel takes bytes until its own buffers are full, at this end and at the peer's:
    /// hundreds of kilobytes to some megabytes. A peer that stops reading is noticed when these
    /// are full and `limit` is over, and one that gets less than that is not noticed. Nor does
    /// this tell a peer that vanished from one that does not read. TCP has options that go by what
    /// the kernel itself holds, and see both (tcp(7)): TCP_USER_TIMEOUT, for bytes that the peer
    /// has not acknowledged or has no window for, and SO_KEEPALIVE, which finds a peer that
    /// vanished while nothing was under way.
    ///
    /// A change holds at once, also for bytes that the kernel refuses already: a new limit counts
    /// from the last byte that it took. Where there was no limit that is not known, and the time
    /// begins now. [`Duration::ZERO`] ends the connection in the first turn of the loop that finds
    /// the kernel full; [`Duration::MAX`] never does.
    ///
    /// After the end of the connection this does nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{Protocol, Result, Transport};
    ///
    /// struct Feed;
    ///
    /// impl Protocol for Feed {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result {
    ///         transport.set_write_timeout(Some(Duration::from_secs(30)));
    ///         Ok(())
    ///     }
    ///
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn set_write_timeout(&self, limit: Option<Duration>) {
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
        // Room may have come while this turn was busy; and a kernel reports room only when there
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
