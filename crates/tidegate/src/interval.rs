//! Timers that repeat: their deadlines, and the closure of one that belongs to the loop.

use crate::Handle;
use crate::callback::Run;
use crate::event_loop::Core;
use crate::timers::TimerId;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The resolution of the kernel's poll. A shorter period would keep the loop from its sleep.
const MIN_PERIOD: Duration = Duration::from_millis(1);

/// The deadlines of a timer that repeats, and the timer of the next one.
pub(crate) struct Interval {
    period: Duration,
    next: Cell<Option<Instant>>,
    /// None once it was cancelled.
    timer: Cell<Option<TimerId>>,
}

impl Interval {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            period: period.max(MIN_PERIOD),
            next: Cell::new(None),
            timer: Cell::new(None),
        }
    }

    pub(crate) fn start(&self, core: &Core, run: Rc<dyn Run>) -> TimerId {
        self.next.set(core.clock().checked_add(self.period));
        self.arm(core, run)
    }

    /// Starts the timer of the first deadline that is not over.
    pub(crate) fn start_next(&self, core: &Core, run: Rc<dyn Run>) -> TimerId {
        let next = self.next.get();
        self.next
            .set(next.and_then(|last| following(last, self.period, core.clock())));
        self.arm(core, run)
    }

    /// Starts the timer of the same deadline again.
    pub(crate) fn arm(&self, core: &Core, run: Rc<dyn Run>) -> TimerId {
        let timer = core.start_timer(self.next.get(), run);
        self.timer.set(Some(timer));
        timer
    }

    pub(crate) fn timer(&self) -> Option<TimerId> {
        self.timer.get()
    }

    /// Returns the timer, for the caller to cancel.
    pub(crate) fn stop(&self) -> Option<TimerId> {
        self.timer.take()
    }

    pub(crate) fn reset(&self, core: &Core, deadline: Option<Instant>) -> bool {
        let timer = self.timer.get();
        let pending = timer.is_some_and(|timer| core.reset_timer(timer, deadline));
        if pending {
            self.next.set(deadline);
        }
        pending
    }
}

/// The first of the deadlines after `last` that is later than `now`.
fn following(last: Instant, period: Duration, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(last);
    if late < period {
        return last.checked_add(period);
    }
    let over = late.as_nanos() % period.as_nanos();
    let wait = u64::try_from(period.as_nanos() - over).ok()?;
    now.checked_add(Duration::from_nanos(wait))
}

/// A closure that runs at each deadline of an interval.
pub(crate) struct Every<F> {
    interval: Interval,
    /// Borrowed while it runs.
    call: RefCell<Option<F>>,
}

impl<F: FnMut(&Handle) + 'static> Every<F> {
    pub(crate) fn new(period: Duration, call: F) -> Rc<Self> {
        Rc::new(Self {
            interval: Interval::new(period),
            call: RefCell::new(Some(call)),
        })
    }

    pub(crate) fn start(self: Rc<Self>, core: &Core) {
        self.interval.start(core, self.clone());
    }
}

impl<F: FnMut(&Handle) + 'static> Run for Every<F> {
    fn run(self: Rc<Self>, handle: &Handle) {
        let core = handle.core();
        self.interval.start_next(core, self.clone());
        if let Some(call) = self.call.borrow_mut().as_mut() {
            core.guard("call_every", || call(handle));
        }
        if self.interval.timer().is_none() || core.is_closed() {
            core.defer_drop_call(&*self);
        }
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        let call = self.call.try_borrow_mut().ok()?.take()?;
        Some(Box::new(call))
    }

    fn interval(&self) -> Option<&Interval> {
        Some(&self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_that_are_over_are_skipped_and_the_others_keep_their_places() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (now, next) in [
            (5, 20),
            (10, 20),
            (19, 20),
            (20, 30),
            (21, 30),
            (1000, 1010),
        ] {
            let found = following(at(10), Duration::from_millis(10), at(now));
            assert_eq!(found, Some(at(next)), "at {now} ms");
        }
        let found = following(start, Duration::MAX, at(1));
        assert_eq!(found, start.checked_add(Duration::MAX));
    }
}
