//! The result of work that takes time, for callbacks and for async code alike.
//!
//! [`shared`] is the state between a completion and its [`completer`], [`delivery`] a result on its way
//! to a closure, [`map`] a completion of another type that a result comes from.

mod completer;
mod delivery;
mod map;
mod shared;

use crate::callback::{Once, Run};
use crate::closed::Closed;
use crate::event_loop::Failure;
use crate::{CloseReason, Handle};
use map::Mapped;
use shared::{Push, Shared};
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use completer::Completer;
pub(crate) use delivery::Delivery;
pub(crate) use shared::Work;

/// A result that comes later.
///
/// Async code awaits it, as a future of an `io::Result<T>`. Callback code hands it a closure, with
/// [`then`](Completion::then) or [`then_on`](Completion::then_on). A program waits for it with
/// [`EventLoop::run_until`](crate::EventLoop::run_until).
///
/// Dropping a completion stops the wait. It also cancels a pending connect, name lookup or
/// unstarted job, and closes a connection that was never taken. It does not affect `flush`,
/// `drain` or `wait_closed`.
///
/// ```
/// use tidegate::{EventLoop, Result};
///
/// # fn main() -> Result {
/// let mut event_loop = EventLoop::new()?;
/// let handle = event_loop.handle().clone();
///
/// // A closure gets the result, from the loop.
/// handle.run_in_executor(|| 6 * 7).then(|handle, result| {
///     println!("{result:?}");
///     handle.stop();
/// });
/// event_loop.run_forever()?;
///
/// // Or the loop runs until the result is there.
/// assert_eq!(event_loop.run_until(handle.run_in_executor(|| 6 * 7))?, 42);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Beside those of the operation: [`TimedOut`](io::ErrorKind::TimedOut) after
/// [`within`](Completion::within), [`BrokenPipe`](io::ErrorKind::BrokenPipe) when the
/// [`Completer`] was dropped without a result, and [`LoopClosed`](crate::LoopClosed) inside an
/// `io::Error` when the loop was dropped.
#[must_use = "dropping a completion cancels the waiting; `detach` lets it go on"]
pub struct Completion<T: 'static> {
    handle: Handle,
    state: State<T>,
}

enum State<T: 'static> {
    Ready(io::Result<T>),
    Waiting(Rc<Shared<T>>),
    Mapped(Box<Mapped<T>>),
    Taken,
}

impl<T: 'static> Completion<T> {
    /// Returns a completion of the loop of `handle` that has its result already. Nothing is
    /// allocated.
    ///
    /// For a function that returns a completion and need not wait, or that fails at once.
    pub fn ready(handle: &Handle, answer: io::Result<T>) -> Self {
        Self {
            handle: handle.clone(),
            state: State::Ready(answer),
        }
    }

    pub(crate) fn pair(handle: &Handle) -> (Completer<T>, Self) {
        let shared = Shared::new(handle);
        let completion = Self {
            handle: handle.clone(),
            state: State::Waiting(shared.clone()),
        };
        (Completer::new(shared), completion)
    }

    /// Runs `call` with the result, from the loop, never inside this call.
    ///
    /// When the loop is dropped first, `call` is dropped without having run.
    pub fn then(self, call: impl FnOnce(&Handle, io::Result<T>) + 'static) {
        self.schedule(|answer| {
            Once::new("then", move |handle: &Handle| call(handle, answer.take()))
        });
    }

    /// Lets the work go on without waiting for it. An error goes to the
    /// [error handler](Handle::set_error_handler), unless it is the end of a connection, which
    /// `connection_lost` reports.
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

    /// Fails with [`TimedOut`](io::ErrorKind::TimedOut) when the result has not come within `limit`.
    ///
    /// That cancels everything that dropping the completion would cancel. Of several limits the earliest
    /// holds.
    pub fn within(self, limit: Duration) -> Self {
        self.expire_within(limit);
        self
    }

    /// Returns a completion whose value goes through `call`; an error stays as it is.
    ///
    /// Dropping the new completion cancels everything that dropping this one would cancel, and `call`
    /// then never runs. `call` runs when the value is taken: inside the poll that returns it, or on the
    /// loop, just before the closure of [`then`](Completion::then). A connection that `call` gets
    /// counts as taken.
    ///
    /// # Errors
    ///
    /// Of the new completion: those of this one. `call` is then dropped.
    ///
    /// ```
    /// use tidegate::{Completion, EventLoop, Result};
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let (completer, completion) = event_loop.handle().completion();
    /// let length = completion.map(|text: String| text.len());
    /// completer.complete(Ok("seven".to_owned()));
    /// assert_eq!(event_loop.run_until(length)?, 5);
    /// # Ok(()) }
    /// ```
    pub fn map<U: 'static>(self, call: impl FnOnce(T) -> U + 'static) -> Completion<U> {
        Completion {
            handle: self.handle.clone(),
            state: State::Mapped(Box::new(Mapped::new(self, call))),
        }
    }

    /// Returns whether the next poll does not wait: the result is there, or was taken already.
    pub fn is_ready(&self) -> bool {
        match &self.state {
            State::Waiting(shared) => !shared.is_waiting(),
            State::Mapped(mapped) => mapped.is_ready(),
            State::Ready(_) | State::Taken => true,
        }
    }

    /// Has the loop run the closure of `make`, once the result is there.
    pub(crate) fn schedule<R: Run + 'static>(
        self,
        make: impl FnOnce(Delivery<T>) -> Rc<R> + 'static,
    ) {
        self.deliver(move |handle, delivery| handle.core().push_ready(make(delivery)));
    }

    /// Calls `push` with the result, as soon as it is there.
    fn deliver(mut self, push: impl FnOnce(&Handle, Delivery<T>) + 'static) {
        match mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => push(&self.handle, Delivery::new(answer, None)),
            State::Waiting(shared) => shared.then(Box::new(push)),
            State::Mapped(mapped) => mapped.deliver(Box::new(push) as Push<T>),
            State::Taken => push(&self.handle, Delivery::new(Err(taken_already()), None)),
        }
    }

    /// Takes the result, if it is there.
    pub(crate) fn take(&mut self) -> Option<io::Result<T>> {
        match mem::replace(&mut self.state, State::Taken) {
            State::Ready(answer) => Some(answer),
            State::Waiting(shared) => {
                let answer = shared.take_answer();
                if answer.is_none() {
                    self.state = State::Waiting(shared);
                }
                answer
            }
            State::Mapped(mut mapped) => {
                let answer = mapped.take();
                if answer.is_none() {
                    self.state = State::Mapped(mapped);
                }
                answer
            }
            State::Taken => Some(Err(taken_already())),
        }
    }

    fn set_waker(&self, waker: &Waker) {
        match &self.state {
            State::Waiting(shared) => shared.set_waker(waker),
            State::Mapped(mapped) => mapped.set_waker(waker),
            State::Ready(_) | State::Taken => {}
        }
    }

    fn expire_within(&self, limit: Duration) {
        match &self.state {
            State::Waiting(shared) => shared.expire_within(limit),
            State::Mapped(mapped) => mapped.expire_within(limit),
            State::Ready(_) | State::Taken => {}
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes dropping it cancel the work, or release a value that the work brought.
    pub(crate) fn on_drop(&self, work: Work, untaken: Option<fn(T)>) {
        if let State::Waiting(shared) = &self.state {
            shared.cancel_with(work, untaken);
        }
    }
}

impl<T> Unpin for Completion<T> {}

/// Cancel safe: a result stays until a poll takes it.
impl<T: 'static> Future for Completion<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.take() {
            return Poll::Ready(answer);
        }
        self.set_waker(context.waker());
        // Cloning the waker ran code of its owner, which may have completed it.
        match self.take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

fn taken_already() -> io::Error {
    io::Error::other("the result was taken already")
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
            State::Waiting(shared) => shared.describe(),
            State::Taken => "taken",
            State::Ready(_) | State::Mapped(_) if self.is_ready() => "answered",
            State::Ready(_) | State::Mapped(_) => "waiting",
        };
        f.debug_struct("Completion")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
