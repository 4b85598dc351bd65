//! The limits on the time for which no byte moves in a relay.
//!
//! There is one timer for both sides. A byte that is received notes the time and leaves the timer
//! where it is; when the timer fires, it is started again from the last byte. For bytes that the
//! kernel takes later, on its own, no callback comes: a look at the tick in which a transport sent
//! last finds them. So the end comes once the limit is over, and never after twice the limit.

use super::link::{Link, Side};
use crate::timers::TimerId;
use crate::{CloseReason, Handle, TimeoutKind, Transport};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Limits {
    pub(super) idle: Cell<Option<Duration>>,
    pub(super) half_closed: Cell<Option<Duration>>,
    /// The last byte that is known of. `None` while nothing is timed.
    progress: Cell<Option<Progress>>,
    timer: Cell<Option<TimerId>>,
}

#[derive(Clone, Copy)]
struct Progress {
    at: Instant,
    tick: u32,
    /// By both sides until then.
    sent: u64,
}

impl Limits {
    fn are_set(&self) -> bool {
        self.idle.get().is_some() || self.half_closed.get().is_some()
    }

    /// Stops the timer.
    pub(super) fn stop(&self, handle: &Handle) {
        self.progress.set(None);
        self.stop_timer(handle);
    }

    fn stop_timer(&self, handle: &Handle) {
        if let Some(timer) = self.timer.take() {
            handle.core().cancel_timer(timer);
        }
    }
}

impl Link {
    fn note(&self, handle: &Handle) {
        let core = handle.core();
        self.limits.progress.set(Some(Progress {
            at: core.clock(),
            tick: core.tick(),
            sent: self.sent(),
        }));
    }

    fn sent(&self) -> u64 {
        let transports = Side::BOTH
            .into_iter()
            .filter_map(|side| self.end(side).transport.get());
        transports.map(Transport::sent).sum()
    }

    /// Begins to time the relay, both of whose sides stand.
    pub(super) fn start_limits(self: &Rc<Self>, handle: &Handle) {
        if self.limits.are_set() {
            self.note(handle);
            self.start_timer(handle);
        }
    }

    /// A byte came.
    #[inline]
    pub(super) fn note_progress(&self, handle: &Handle) {
        if self.limits.progress.get().is_some() {
            self.note(handle);
        }
    }

    /// A direction has ended, which brings the other limit into force.
    pub(super) fn note_half_closed(self: &Rc<Self>, handle: &Handle) {
        if self.limits.progress.get().is_some() && self.limits.half_closed.get().is_some() {
            self.note(handle);
            self.start_timer(handle);
        }
    }

    /// Returns the limit that is over first.
    fn limit(&self) -> Option<(Duration, TimeoutKind)> {
        let half_closed = Side::BOTH
            .into_iter()
            .any(|side| self.end(side).has_ended());
        let half_closed = self.limits.half_closed.get().filter(|_| half_closed);
        match (self.limits.idle.get(), half_closed) {
            (Some(idle), Some(limit)) if idle < limit => Some((idle, TimeoutKind::Idle)),
            (_, Some(limit)) => Some((limit, TimeoutKind::HalfClosed)),
            (idle, None) => idle.map(|limit| (limit, TimeoutKind::Idle)),
        }
    }

    /// Starts the timer, or another in its place. None for a limit beyond what the clock can say.
    fn start_timer(self: &Rc<Self>, handle: &Handle) {
        self.limits.stop_timer(handle);
        let deadline = self.limits.progress.get().zip(self.limit());
        let deadline = deadline.and_then(|(progress, (limit, _))| progress.at.checked_add(limit));
        if deadline.is_some() {
            let look = self.later(Self::look);
            self.limits
                .timer
                .set(Some(handle.core().at(deadline, look)));
        }
    }

    /// The timer fired.
    fn look(self: &Rc<Self>, handle: &Handle) {
        self.limits.timer.set(None);
        let Some((limit, kind)) = self.limit() else {
            return;
        };
        if self.is_idle_for(limit, handle) {
            self.time_out(kind);
        } else {
            self.start_timer(handle);
        }
    }

    fn is_idle_for(&self, limit: Duration, handle: &Handle) -> bool {
        let now = handle.core().clock();
        let is_over = |limits: &Limits| {
            let progress = limits.progress.get();
            progress.is_none_or(|it| now.saturating_duration_since(it.at) >= limit)
        };
        if !is_over(&self.limits) {
            return false;
        }
        // A kernel reports room only when there is much of it, but takes bytes before.
        for side in Side::BOTH {
            self.open(side).inspect(|it| it.offer_again());
        }
        if self.has_sent_since() {
            self.note(handle);
        }
        is_over(&self.limits)
    }

    /// Returns whether a kernel has taken bytes in a tick after the last byte came.
    fn has_sent_since(&self) -> bool {
        let Some(last) = self.limits.progress.get() else {
            return false;
        };
        let later = |tick: u32| tick.wrapping_sub(last.tick).cast_signed() > 0;
        let open = Side::BOTH.into_iter().filter_map(|side| self.open(side));
        self.sent() != last.sent && open.map(Transport::last_sent_tick).any(later)
    }

    /// Returns the transport of a side that is still the relay's.
    fn open(&self, side: Side) -> Option<&Transport> {
        let end = self.end(side);
        end.transport.get().filter(|_| !end.is_over())
    }

    /// Resets both: neither peer may take it for the end of the other's stream.
    fn time_out(&self, kind: TimeoutKind) {
        for side in Side::BOTH {
            if let Some(transport) = self.open(side) {
                transport.reset_for(CloseReason::Timeout(kind));
            }
        }
    }
}
