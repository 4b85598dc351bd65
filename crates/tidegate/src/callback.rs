//! Closures that wait for the loop, and the handles that cancel them.

use crate::event_loop::{AtEnd, Core, Deferred};
use crate::timers::TimerId;
use crate::{Handle, TransportId};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

/// Something that the loop runs once its turn has come. A panic of user code stays inside.
pub(crate) trait Run {
    fn run(self: Rc<Self>, handle: &Handle);
    /// Takes out what was to run, for the caller to drop; `None` when it ran or was taken.
    fn take(&self) -> Option<Box<dyn Any>>;
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
        Some(Box::new(call))
    }
}

/// Cancels a callback that has not run yet. Dropping it does nothing.
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
            if let Some(transport) = self.owner.and_then(|id| core.transport(id)) {
                transport.forget_timer(timer);
            }
        }
        core.defer_drop_call(&*run);
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
/// Made by [`Handle::callback`]. Clones schedule the same callback. Dropping it does not cancel
/// what is scheduled.
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

    /// Runs the callback in this tick of the loop or the next. Scheduling what is scheduled does
    /// nothing; scheduling from within the callback itself means the next tick. When the loop is
    /// gone this does nothing.
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
                // Nobody can schedule it again, and dropping it is user code.
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
