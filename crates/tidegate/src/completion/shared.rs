//! The state that a completion and its completer share: the wait, its limit, and the result.

use super::Delivery;
use crate::callback::Once;
use crate::connect::ConnectId;
use crate::driver::JobId;
use crate::event_loop::{AtEnd, Core, Deferred};
use crate::timers::TimerId;
use crate::{Handle, LoopClosed};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// The work that dropping a [`Completion`](super::Completion) cancels beside the wait.
struct OnDrop<T> {
    work: Work,
    /// Called with a value that is not taken.
    untaken: Option<fn(T)>,
}

/// Work that is for one completion alone.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Connect(ConnectId),
    Job(JobId),
    /// A wait for signals, by its key.
    #[cfg(feature = "signal")]
    Signal(u64),
}

pub(super) struct Shared<T: 'static> {
    handle: Handle,
    slot: RefCell<Slot<T>>,
    /// Of [`Completion::within`](super::Completion::within).
    limit: Cell<Option<(Instant, TimerId)>>,
    on_drop: Cell<Option<OnDrop<T>>>,
}

/// Puts the closure on the loop's list; runs no user code itself.
pub(super) type Push<T> = Box<dyn FnOnce(&Handle, Delivery<T>)>;

enum Slot<T> {
    Waiting(Option<Waker>),
    Then(Push<T>),
    Answered(io::Result<T>),
    Done,
}

impl<T: 'static> Shared<T> {
    pub(super) fn new(handle: &Handle) -> Rc<Self> {
        let core = handle.core();
        let open = !core.is_closed();
        let slot = if open {
            core.waiting(1);
            Slot::Waiting(None)
        } else {
            Slot::Answered(Err(LoopClosed.into()))
        };
        let shared = Rc::new(Self {
            handle: handle.clone(),
            slot: RefCell::new(slot),
            limit: Cell::new(None),
            on_drop: Cell::new(None),
        });
        if open {
            let at_end: Weak<Self> = Rc::downgrade(&shared);
            core.at_end(at_end);
        }
        shared
    }

    /// Completes it. The first result counts; later ones are dropped.
    pub(super) fn answer(&self, answer: io::Result<T>) {
        let waiting = mem::replace(&mut *self.slot.borrow_mut(), Slot::Done);
        match waiting {
            Slot::Waiting(waker) => {
                self.settled();
                self.slot.replace(Slot::Answered(answer));
                if let Some(waker) = waker {
                    self.handle.core().wake(waker);
                }
            }
            Slot::Then(push) => {
                self.settled();
                self.push(push, answer);
            }
            known => {
                self.slot.replace(known);
            }
        }
    }

    /// Notes that it waits no longer.
    fn settled(&self) {
        let core = self.handle.core();
        core.waiting(-1);
        if let Some((_, timer)) = self.limit.take() {
            core.cancel_timer(timer);
        }
    }

    pub(super) fn then(&self, push: Push<T>) {
        let before = mem::replace(&mut *self.slot.borrow_mut(), Slot::Done);
        match before {
            Slot::Answered(answer) => self.push(push, answer),
            Slot::Waiting(waker) => {
                self.slot.replace(Slot::Then(push));
                drop(waker);
            }
            Slot::Then(_) | Slot::Done => {}
        }
    }

    fn push(&self, push: Push<T>, answer: io::Result<T>) {
        push(&self.handle, Delivery::new(answer, self.untaken()));
    }

    /// Returns whether the wait is over, or the result is there.
    pub(super) fn is_settled(&self) -> bool {
        matches!(*self.slot.borrow(), Slot::Done | Slot::Answered(_))
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.slot.borrow(), Slot::Waiting(_))
    }

    pub(super) fn cancel_with(&self, work: Work, untaken: Option<fn(T)>) {
        self.on_drop.set(Some(OnDrop { work, untaken }));
    }

    pub(super) fn take_answer(&self) -> Option<io::Result<T>> {
        let mut slot = self.slot.borrow_mut();
        match mem::replace(&mut *slot, Slot::Done) {
            Slot::Answered(answer) => Some(answer),
            waiting => {
                *slot = waiting;
                None
            }
        }
    }

    pub(super) fn set_waker(&self, waker: &Waker) {
        if let Slot::Waiting(Some(known)) = &*self.slot.borrow()
            && known.will_wake(waker)
        {
            return;
        }
        // Cloning and dropping a waker run code of its owner: not while the slot is borrowed.
        let mut waker = Some(waker.clone());
        if let Slot::Waiting(slot) = &mut *self.slot.borrow_mut() {
            mem::swap(slot, &mut waker);
        }
        drop(waker);
    }

    /// The completion was dropped.
    pub(super) fn give_up(&self) {
        let left = mem::replace(&mut *self.slot.borrow_mut(), Slot::Done);
        match left {
            Slot::Waiting(waker) => {
                self.settled();
                self.cancel_work();
                drop(waker);
            }
            Slot::Answered(Ok(value)) => match self.untaken() {
                Some(untaken) => untaken(value),
                None => drop(value),
            },
            _ => {}
        }
    }

    fn untaken(&self) -> Option<fn(T)> {
        let on_drop = self.on_drop.take()?;
        let untaken = on_drop.untaken;
        self.on_drop.set(Some(on_drop));
        untaken
    }

    fn cancel_work(&self) {
        if let Some(on_drop) = self.on_drop.take() {
            self.handle.core().cancel(on_drop.work);
        }
    }

    pub(super) fn expire_within(self: &Rc<Self>, limit: Duration) {
        if !self.is_waiting() {
            return;
        }
        let core = self.handle.core();
        let Some(deadline) = core.clock().checked_add(limit) else {
            return;
        };
        if let Some((earlier, timer)) = self.limit.get() {
            if earlier <= deadline {
                return;
            }
            core.cancel_timer(timer);
        }
        let shared = Rc::downgrade(self);
        let timer = core.start_timer(
            Some(deadline),
            Once::new("within", move |_: &Handle| {
                if let Some(shared) = shared.upgrade() {
                    shared.limit.take();
                    let message = format!("no result within {limit:?}");
                    // First: the cancelled work drops its completer, which completes it too.
                    shared.answer(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
                    shared.cancel_work();
                }
            }),
        );
        self.limit.set(Some((deadline, timer)));
    }

    pub(super) fn describe(&self) -> &'static str {
        match &*self.slot.borrow() {
            Slot::Waiting(_) | Slot::Then(_) => "waiting",
            Slot::Answered(_) => "answered",
            Slot::Done => "done",
        }
    }
}

impl<T: 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        self.handle.core().holder_dropped();
    }
}

impl<T: 'static> AtEnd for Shared<T> {
    fn end(&self, core: &Core) {
        let is_then = matches!(*self.slot.borrow(), Slot::Then(_));
        if !is_then {
            self.answer(Err(LoopClosed.into()));
            return;
        }
        if let Slot::Then(push) = self.slot.replace(Slot::Done) {
            self.settled();
            core.defer_drop(Deferred::Value(Box::new(push) as Box<dyn Any>));
        }
    }
}
