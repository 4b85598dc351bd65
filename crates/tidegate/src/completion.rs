//! The answer to what takes time, for callbacks and for async code alike.

use crate::callback::{OnTransport, Once, Run};
use crate::closed::Closed;
use crate::connect::ConnectId;
use crate::driver::JobId;
use crate::event_loop::{AtEnd, Core, Failure, Grave};
use crate::timers::TimerId;
use crate::transport::Transport;
use crate::{CloseReason, Handle, LoopClosed, Protocol, Result};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// An answer that comes later. Async code awaits it, as a future of an `io::Result<T>`; callback
/// code hands it a closure, with [`then`](Completion::then) or [`then_on`](Completion::then_on).
///
/// Whoever drops one waits no longer. A connect, the resolving of a name, and a job that has not
/// begun are then given up too, and a connection that was made and that nobody took is closed. What
/// a `flush`, a `drain` or a `wait_closed` waits for takes its course.
///
/// # Errors
///
/// Beside those of the operation: [`TimedOut`](io::ErrorKind::TimedOut) after
/// [`within`](Completion::within), [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the
/// [`Completer`] was dropped without an answer, and
/// [`LoopClosed`] inside an `io::Error` when the loop was dropped.
#[must_use = "dropping a completion cancels the waiting; `detach` lets it go on"]
pub struct Completion<T: 'static> {
    handle: Handle,
    state: State<T>,
}

enum State<T> {
    Known(io::Result<T>),
    Waiting(Rc<Shared<T>>),
    Taken,
}

/// An answer on its way to a closure, which may be dropped without having run: what a connect
/// brought is then closed.
struct Delivery<T> {
    answer: io::Result<T>,
    untaken: Option<fn(T)>,
}

impl<T> Delivery<T> {
    fn take(mut self) -> io::Result<T> {
        self.untaken = None;
        mem::replace(&mut self.answer, Err(io::ErrorKind::Other.into()))
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if let Some(untaken) = self.untaken
            && let Ok(value) = mem::replace(&mut self.answer, Err(io::ErrorKind::Other.into()))
        {
            untaken(value);
        }
    }
}

/// What dropping a [`Completion`] gives up beside the waiting.
struct OnDrop<T> {
    work: Work,
    /// What to do with an answer that nobody takes.
    untaken: Option<fn(T)>,
}

/// Work that is for one completion alone.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Connect(ConnectId),
    Job(JobId),
}

struct Shared<T> {
    handle: Handle,
    slot: RefCell<Slot<T>>,
    /// Of [`Completion::within`].
    limit: Cell<Option<(Instant, TimerId)>>,
    on_drop: Cell<Option<OnDrop<T>>>,
}

type Push<T> = Box<dyn FnOnce(&Handle, io::Result<T>)>;

enum Slot<T> {
    Waiting(Option<Waker>),
    /// Puts what follows on the loop's list; runs no user code itself.
    Then(Push<T>),
    Answered(io::Result<T>),
    Done,
}

impl<T: 'static> Completion<T> {
    /// An answer that is known already; nothing is allocated.
    pub(crate) fn known(handle: &Handle, answer: io::Result<T>) -> Self {
        Self {
            handle: handle.clone(),
            state: State::Known(answer),
        }
    }

    pub(crate) fn pair(handle: &Handle) -> (Completer<T>, Self) {
        let core = handle.core();
        let open = !core.is_closed();
        let slot = if open {
            core.waiting(1);
            Slot::Waiting(None)
        } else {
            Slot::Answered(Err(LoopClosed.into()))
        };
        let shared = Rc::new(Shared {
            handle: handle.clone(),
            slot: RefCell::new(slot),
            limit: Cell::new(None),
            on_drop: Cell::new(None),
        });
        if open {
            let at_end: Weak<Shared<T>> = Rc::downgrade(&shared);
            core.at_end(at_end);
        }
        let completion = Self {
            handle: handle.clone(),
            state: State::Waiting(shared.clone()),
        };
        (Completer(Some(shared)), completion)
    }

    /// Runs `call` with the answer, from the loop, never inside this call.
    ///
    /// When the loop is dropped first, `call` is dropped without having run.
    pub fn then(self, call: impl FnOnce(&Handle, io::Result<T>) + 'static) {
        self.schedule(|answer| {
            Once::new("then", move |handle: &Handle| call(handle, answer.take()))
        });
    }

    /// Runs `call` with the answer as a callback of `transport`'s protocol, if that is still a
    /// `P` then. When the connection has ended first, `call` is dropped without having run, and a
    /// connection that was the answer is closed.
    pub fn then_on<P: Protocol>(
        self,
        transport: &Transport,
        call: impl FnOnce(&mut P, &Transport, io::Result<T>) -> Result + 'static,
    ) {
        let transport = transport.clone();
        self.schedule(move |answer| {
            OnTransport::new(
                &transport,
                "then_on",
                move |this: &mut P, transport: &Transport| call(this, transport, answer.take()),
            )
        });
    }

    /// Lets it go on without waiting for it. An error goes to the
    /// [error handler](Handle::set_error_handler), unless it is the end of a connection, which
    /// `connection_lost` tells.
    pub fn detach(self) {
        self.schedule(|answer| {
            Once::new("detach", move |handle: &Handle| {
                if let Err(error) = answer.take()
                    && Closed::of(&error).is_none()
                {
                    let reason = CloseReason::Io(Arc::new(error));
                    handle
                        .core()
                        .report(Failure::new("a detached completion", reason));
                }
            })
        });
    }

    /// Fails with [`TimedOut`](io::ErrorKind::TimedOut) when no answer has come within `limit`;
    /// what dropping the completion would cancel is then cancelled. Of several limits the
    /// earliest holds.
    pub fn within(self, limit: Duration) -> Self {
        if let State::Waiting(shared) = &self.state {
            shared.expire_within(limit);
        }
        self
    }

    fn schedule<R: Run + 'static>(mut self, make: impl FnOnce(Delivery<T>) -> Rc<R> + 'static) {
        let untaken = match &self.state {
            State::Waiting(shared) => shared.untaken(),
            _ => None,
        };
        let push = move |handle: &Handle, answer| {
            let run = make(Delivery { answer, untaken });
            handle.core().push_ready(run);
        };
        match mem::replace(&mut self.state, State::Taken) {
            State::Known(answer) => push(&self.handle, answer),
            State::Waiting(shared) => shared.then(Box::new(push)),
            State::Taken => push(&self.handle, Err(taken_already())),
        }
    }

    /// Whether the answer is there; cheaper than to try to take it.
    pub(crate) fn is_known(&self) -> bool {
        match &self.state {
            State::Waiting(shared) => !matches!(*shared.slot.borrow(), Slot::Waiting(_)),
            State::Known(_) | State::Taken => true,
        }
    }

    /// The answer, if it is there.
    pub(crate) fn take(&mut self) -> Option<io::Result<T>> {
        match mem::replace(&mut self.state, State::Taken) {
            State::Known(answer) => Some(answer),
            State::Waiting(shared) => {
                let answer = shared.take_answer();
                if answer.is_none() {
                    self.state = State::Waiting(shared);
                }
                answer
            }
            State::Taken => Some(Err(taken_already())),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes dropping it cancel the work, or give up what that brought.
    pub(crate) fn on_drop(&self, work: Work, untaken: Option<fn(T)>) {
        if let State::Waiting(shared) = &self.state {
            shared.on_drop.set(Some(OnDrop { work, untaken }));
        }
    }
}

impl<T> Unpin for Completion<T> {}

/// Cancel safe: an answer stays until a poll takes it.
impl<T: 'static> Future for Completion<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.take() {
            return Poll::Ready(answer);
        }
        if let State::Waiting(shared) = &self.state {
            shared.set_waker(context.waker());
        }
        // Cloning the waker ran code of its owner, which may have answered.
        match self.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

fn taken_already() -> io::Error {
    io::Error::other("the answer was taken already")
}

impl<T: 'static> Drop for Completion<T> {
    fn drop(&mut self) {
        if let State::Waiting(shared) = mem::replace(&mut self.state, State::Taken) {
            shared.give_up();
        }
    }
}

impl<T: 'static> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Known(_) => "answered",
            State::Waiting(shared) => shared.describe(),
            State::Taken => "taken",
        };
        f.debug_struct("Completion")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> Shared<T> {
    /// The first answer counts; later ones are dropped.
    fn answer(&self, answer: io::Result<T>) {
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
                push(&self.handle, answer);
            }
            known => {
                self.slot.replace(known);
            }
        }
    }

    /// It waits no longer.
    fn settled(&self) {
        let core = self.handle.core();
        core.waiting(-1);
        if let Some((_, timer)) = self.limit.take() {
            core.cancel_timer(timer);
        }
    }

    fn then(&self, push: Push<T>) {
        let before = mem::replace(&mut *self.slot.borrow_mut(), Slot::Done);
        match before {
            Slot::Answered(answer) => push(&self.handle, answer),
            Slot::Waiting(waker) => {
                self.slot.replace(Slot::Then(push));
                drop(waker);
            }
            Slot::Then(_) | Slot::Done => {}
        }
    }

    fn take_answer(&self) -> Option<io::Result<T>> {
        let mut slot = self.slot.borrow_mut();
        match mem::replace(&mut *slot, Slot::Done) {
            Slot::Answered(answer) => Some(answer),
            waiting => {
                *slot = waiting;
                None
            }
        }
    }

    fn set_waker(&self, waker: &Waker) {
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
    fn give_up(&self) {
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

    fn expire_within(self: &Rc<Self>, limit: Duration) {
        if !matches!(*self.slot.borrow(), Slot::Waiting(_)) {
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
                    let message = format!("no answer within {limit:?}");
                    // First: the cancelled work drops its completer, which is an answer too.
                    shared.answer(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
                    shared.cancel_work();
                }
            }),
        );
        self.limit.set(Some((deadline, timer)));
    }

    fn describe(&self) -> &'static str {
        match &*self.slot.borrow() {
            Slot::Waiting(_) | Slot::Then(_) => "waiting",
            Slot::Answered(_) => "answered",
            Slot::Done => "done",
        }
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
            core.bury(Grave::Value(Box::new(push) as Box<dyn Any>));
        }
    }
}

/// The other end of a [`Completion`]: whoever holds it owes the answer.
///
/// Dropped without one, it fails the completion with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
pub struct Completer<T: 'static>(Option<Rc<Shared<T>>>);

impl<T: 'static> Completer<T> {
    /// Answers. Does nothing but drop `answer` when nobody waits any more.
    pub fn complete(mut self, answer: io::Result<T>) {
        if let Some(shared) = self.0.take() {
            shared.answer(answer);
        }
    }

    /// Whether nobody waits any more: the completion was dropped, timed out, or its loop ended.
    pub fn is_cancelled(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|shared| matches!(*shared.slot.borrow(), Slot::Done | Slot::Answered(_)))
    }
}

impl<T: 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            let message = "the completer was dropped without an answer";
            shared.answer(Err(io::Error::new(io::ErrorKind::BrokenPipe, message)));
        }
    }
}

impl<T: 'static> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
