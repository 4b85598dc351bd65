//! Closures that wait for the loop, and the handles that cancel them.

use crate::event_loop::{AtEnd, Core, Deferred};
use crate::timers::TimerId;
use crate::{Handle, TransportId};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

/// A call that waits in the loop. A panic of user code stays inside.
pub(crate) trait Run {
    fn run(self: Rc<Self>, handle: &Handle);
    /// Takes out the closure, for the caller to drop; `None` when it ran or was taken, or when it holds
    /// nothing whose drop is code.
    fn take(&self) -> Option<Box<dyn Any>>;
    /// Called when the timer got another deadline; for repeating timers alone.
    fn deadline_moved(&self, deadline: Option<Instant>) {
        let _ = deadline;
    }
}

/// A closure that runs once, at most.
pub(crate) struct Once<F> {
    context: &'static str,
    call: RefCell<Option<F>>,
}

impl<F: FnOnce(&Handle) + 'static> Once<F> {
    pub(crate) fn new(context: &'static str, call: F) -> Rc<Self> {
        Rc::new(Self {
            context,
            call: RefCell::new(Some(call)),
        })
    }
}

impl<F: FnOnce(&Handle) + 'static> Run for Once<F> {
    fn run(self: Rc<Self>, handle: &Handle) {
        let call = self.call.take();
        if let Some(call) = call {
            handle.core().guard(self.context, || call(handle));
        }
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        let call = self.call.take()?;
        if !mem::needs_drop::<F>() {
            return None;
        }
        Some(Box::new(call))
    }
}

/// Cancels a callback that has not run yet, or moves its deadline. Dropping it does nothing.
#[derive(Clone)]
pub struct CallbackHandle {
    core: Weak<Core>,
    run: Weak<dyn Run>,
    timer: Option<TimerId>,
    owner: Option<TransportId>,
}

impl CallbackHandle {
    pub(crate) fn new(core: &Rc<Core>, run: &Rc<dyn Run>, timer: Option<TimerId>) -> Self {
        Self {
            core: Rc::downgrade(core),
            run: Rc::downgrade(run),
            timer,
            owner: None,
        }
    }

    pub(crate) fn owned_by(mut self, transport: TransportId) -> Self {
        self.owner = Some(transport);
        self
    }

    /// Cancels the callback: it will not run, and it is dropped before the loop next sleeps.
    /// Does nothing when it has run or was cancelled.
    pub fn cancel(&self) {
        let (Some(core), Some(run)) = (self.core.upgrade(), self.run.upgrade()) else {
            return;
        };
        if let Some(timer) = self.timer {
            core.cancel_timer(timer);
            if let Some(owner) = self.owner {
                core.forget_timer_of(owner, timer);
            }
        }
        core.defer_drop_call(&*run);
    }

    /// Moves the deadline: the callback runs when `delay` is over, counted from this call.
    ///
    /// Returns whether there was a deadline to move. There is none after the callback has run or
    /// was cancelled, and none for [`call_soon`](Handle::call_soon). Nothing is allocated, and the
    /// closure stays as it is: an idle timeout is moved at each read for less than the price of
    /// a new timer. A delay beyond the range of the clock never ends.
    ///
    /// The next run of [`call_every`](Handle::call_every) moves, and later ones are a period apart
    /// from it. That may be done within the callback too.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{CallbackHandle, Protocol, Result, Transport};
    ///
    /// const IDLE: Duration = Duration::from_secs(60);
    ///
    /// #[derive(Default)]
    /// struct Session {
    ///     idle: Option<CallbackHandle>,
    /// }
    ///
    /// impl Protocol for Session {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result {
    ///         self.idle = Some(transport.call_later(IDLE, |_: &mut Self, transport| {
    ///             transport.close();
    ///             Ok(())
    ///         }));
    ///         Ok(())
    ///     }
    ///
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
    ///         if let Some(idle) = &self.idle {
    ///             idle.reset(IDLE);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[doc(alias = "reschedule")]
    pub fn reset(&self, delay: Duration) -> bool {
        let core = self.core.upgrade();
        core.is_some_and(|core| self.move_to(&core, core.clock().checked_add(delay)))
    }

    /// Moves the deadline to `time`, as [`reset`](Self::reset) does.
    ///
    /// A time that is past is due in the next tick, or in this one when its timers have not run yet.
    pub fn reset_at(&self, time: Instant) -> bool {
        let core = self.core.upgrade();
        core.is_some_and(|core| self.move_to(&core, Some(time)))
    }

    fn move_to(&self, core: &Core, deadline: Option<Instant>) -> bool {
        let Some(timer) = self.timer else {
            return false;
        };
        let moved = core.reset_timer(timer, deadline);
        if moved
            && timer.repeats()
            && let Some(run) = self.run.upgrade()
        {
            run.deadline_moved(deadline);
        }
        moved
    }
}

impl fmt::Debug for CallbackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackHandle")
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

/// A callback that can be scheduled again and again: at most once a tick, without allocating.
///
/// Made by [`Handle::callback`]. Clones schedule the same callback. Dropping it does not cancel a
/// scheduled run.
#[derive(Clone)]
pub struct Callback(Rc<Repeated>);

type RepeatedCall = Box<dyn FnMut(&Handle)>;

struct Repeated {
    core: Weak<Core>,
    scheduled: Cell<bool>,
    call: RefCell<Option<RepeatedCall>>,
}

impl Callback {
    pub(crate) fn new(core: &Rc<Core>, call: RepeatedCall) -> Self {
        let shared = Rc::new(Repeated {
            core: Rc::downgrade(core),
            scheduled: Cell::new(false),
            call: RefCell::new(Some(call)),
        });
        if core.is_closed() {
            shared.end(core);
        }
        let at_end: Weak<Repeated> = Rc::downgrade(&shared);
        core.at_end(at_end);
        Self(shared)
    }

    /// Runs the callback in this tick of the loop or the next.
    ///
    /// A second call before that does nothing. A call from within the callback itself means the next
    /// tick. When the loop is gone this does nothing.
    pub fn schedule(&self) {
        if self.0.scheduled.replace(true) {
            return;
        }
        if let Some(core) = self.0.core.upgrade() {
            core.push_ready(self.0.clone());
        }
    }
}

impl Run for Repeated {
    fn run(self: Rc<Self>, handle: &Handle) {
        self.scheduled.set(false);
        let taken = self.call.take();
        let Some(mut call) = taken else { return };
        handle.core().guard("a callback", || call(handle));
        if handle.core().is_closed() {
            handle.core().defer_drop(Deferred::Value(Box::new(call)));
        } else {
            self.call.replace(Some(call));
            if Rc::strong_count(&self) == 1 {
                // It cannot be scheduled again, and dropping it is user code.
                handle.core().drop_value(self.call.take());
            }
        }
    }

    fn take(&self) -> Option<Box<dyn Any>> {
        let call = self.call.take()?;
        Some(Box::new(call))
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.holder_dropped();
        }
    }
}

impl AtEnd for Repeated {
    fn end(&self, core: &Core) {
        core.defer_drop_call(self);
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("scheduled", &self.0.scheduled.get())
            .finish_non_exhaustive()
    }
}
