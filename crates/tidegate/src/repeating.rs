//! Callbacks that run again and again, a period apart.
//!
//! Their timer stays among the [timers](crate::timers) when it fires, so its id stays valid. It is reset
//! after the run.

use crate::Handle;
use crate::callback::Run;
use crate::event_loop::Core;
use crate::timers::TimerId;
use crate::transport::TransportId;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The shortest period: the resolution of epoll_wait(2)'s timeout. A shorter one would keep the loop
/// from sleeping.
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// The consequence of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next call, a period later.
    Again,
    /// The same call, in the next tick: its protocol was in use.
    Retry,
    /// The same call, when its connection is made.
    Early,
    /// Nothing: whatever it was for is gone.
    End,
}

/// The times of the calls: a period apart, counted from the first, whatever the calls themselves
/// take.
#[derive(Debug)]
struct Beat {
    period: Duration,
    /// Of the call that comes next, or that has come last. `None` is beyond what the clock can say.
    deadline: Cell<Option<Instant>>,
}

impl Beat {
    fn new(start: Instant, period: Duration) -> Self {
        let period = period.max(MIN_PERIOD);
        let first = start.checked_add(period);
        Self {
            period,
            deadline: Cell::new(first),
        }
    }

    /// Goes on to the first deadline after `now`; those before it were missed.
    fn advance(&self, now: Instant) -> Option<Instant> {
        let last = self.deadline.get()?;
        let next = match last.checked_add(self.period) {
            Some(next) if next <= now => {
                let late = now.saturating_duration_since(last).as_nanos();
                // Less than a period, which is less than what has passed since the loop began.
                let past = Duration::from_nanos((late % self.period.as_nanos()) as u64);
                now.checked_add(self.period - past)
            }
            next => next,
        };
        self.deadline.set(next);
        next
    }
}

/// A closure with its period and its timer, which stays until it is cancelled.
pub(crate) struct Every<F> {
    beat: Beat,
    timer: Cell<Option<TimerId>>,
    /// The connection that the timer dies with.
    owner: Option<TransportId>,
    /// Taken out while it runs.
    call: RefCell<Option<F>>,
    /// It was given another deadline since its last call began.
    moved: Cell<bool>,
    cancelled: Cell<bool>,
}

impl<F: FnMut(&Handle) -> Next + 'static> Every<F> {
    pub(crate) fn new(
        core: &Core,
        period: Duration,
        owner: Option<TransportId>,
        call: F,
    ) -> Rc<Self> {
        Rc::new(Self {
            beat: Beat::new(core.clock(), period),
            timer: Cell::new(None),
            owner,
            call: RefCell::new(Some(call)),
            moved: Cell::new(false),
            cancelled: Cell::new(false),
        })
    }

    pub(crate) fn start(self: &Rc<Self>, core: &Core) -> TimerId {
        let timer = core.start_repeating_timer(self.beat.deadline.get(), self.clone());
        self.timer.set(Some(timer));
        timer
    }

    /// Waits for the next deadline, unless the call has set another one.
    fn wait(&self, core: &Core) {
        if let Some(timer) = self.timer.get()
            && !self.moved.get()
        {
            let next = self.beat.advance(core.clock());
            core.reset_timer(timer, next);
        }
    }

    /// Whether its timer comes for it: it was given a later deadline while it waited to be called.
    fn is_moved_on(&self, core: &Core) -> bool {
        let deadline = self.beat.deadline.get();
        self.moved.get() && deadline.is_none_or(|deadline| deadline > core.now())
    }

    /// The connection that it is for calls it when it is made.
    fn keep_early(self: Rc<Self>, core: &Core) {
        if let Some(transport) = self.owner.and_then(|id| core.transport(id)) {
            transport.keep_early(self);
        }
    }

    fn end(&self, core: &Core) {
        let Some(timer) = self.timer.take() else {
            return;
        };
        core.cancel_timer(timer);
        if let Some(transport) = self.owner.and_then(|id| core.transport(id)) {
            transport.forget_timer(timer);
        }
    }
}

impl<F: FnMut(&Handle) -> Next + 'static> Run for Every<F> {
    fn run(self: Rc<Self>, handle: &Handle) {
        let core = handle.core();
        if self.is_moved_on(core) {
            return;
        }
        let taken = self.call.take();
        let Some(mut call) = taken else { return };
        self.moved.set(false);
        let next = call(handle);
        if next == Next::End {
            self.end(core);
        }
        if next == Next::End || self.cancelled.get() || core.is_closed() {
            core.drop_value(call);
            return;
        }
        self.call.replace(Some(call));
        match next {
            Next::Retry => core.push_ready(self),
            Next::Early => self.keep_early(core),
            _ => self.wait(core),
        }
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        self.cancelled.set(true);
        let call = self.call.take()?;
        Some(Box::new(call))
    }

    fn deadline_moved(&self, deadline: Option<Instant>) {
        self.moved.set(true);
        self.beat.deadline.set(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn deadlines_are_a_period_apart_however_late_the_calls_are() {
        let start = Instant::now();
        let beat = Beat::new(start, 10 * MS);
        assert_eq!(beat.deadline.get(), Some(start + 10 * MS));
        for (late, next) in [(0, 20), (9, 30), (0, 40)] {
            let now = beat.deadline.get().unwrap() + late * MS;
            assert_eq!(beat.advance(now), Some(start + next * MS));
        }
    }

    #[test]
    fn deadlines_that_were_missed_are_skipped() {
        let start = Instant::now();
        let beat = Beat::new(start, 10 * MS);
        // The one at 20 ms is missed, whether it is just now or long ago.
        assert_eq!(beat.advance(start + 20 * MS), Some(start + 30 * MS));
        assert_eq!(beat.advance(start + 76 * MS), Some(start + 80 * MS));
        assert_eq!(beat.advance(start + 79 * MS), Some(start + 90 * MS));
    }

    #[test]
    fn a_period_is_a_millisecond_at_least_and_may_be_longer_than_the_clock() {
        let start = Instant::now();
        let beat = Beat::new(start, Duration::ZERO);
        assert_eq!(beat.advance(start + MS), Some(start + 2 * MS));
        let beat = Beat::new(start, Duration::MAX);
        assert_eq!(beat.deadline.get(), None);
        assert_eq!(beat.advance(start + MS), None);
    }
}
