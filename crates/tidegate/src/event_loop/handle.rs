//! The handle to the loop, for callbacks and for setup.

use super::core::Core;
use super::counters::LoopStats;
use super::deferred::Deferred;
use super::failure::Failure;
use super::remote::RemoteHandle;
use crate::TransportId;
use crate::callback::{Callback, CallbackHandle, Once, Run};
use crate::completion::{Completer, Completion};
use crate::repeating::{Every, Next};
use crate::transport::Transport;
use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

thread_local! {
    static CURRENT: RefCell<Option<Weak<Core>>> = const { RefCell::new(None) };
}

/// A handle to an event loop, for its own thread.
///
/// Clones name the same loop; dropping one does nothing. Every method may be called from any user code, at
/// any time. After the loop was dropped, methods that need it fail, and closures are dropped without
/// having run.
///
/// A handle that outlives its loop holds two descriptors of it, for epoll(7) and eventfd(2), and so
/// does everything with a handle, such as a [`Transport`]. A [`RemoteHandle`] holds the second one.
#[derive(Clone)]
pub struct Handle(Rc<Core>); // For other threads: `Handle::remote`.

impl Handle {
    pub(crate) fn new(core: Rc<Core>) -> Self {
        Self(core)
    }

    #[inline]
    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.0
    }
}

/// # Callbacks and the time
impl Handle {
    /// Runs `call` in this tick of the loop or the next, after earlier calls.
    ///
    /// Within a tick the loop polls first, so callbacks that schedule callbacks starve no connection.
    ///
    /// ```
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// event_loop.handle().call_soon(|handle| {
    ///     println!("in the loop");
    ///     handle.stop();
    /// });
    /// event_loop.run_forever()?;
    /// # Ok(()) }
    /// ```
    pub fn call_soon(&self, call: impl FnOnce(&Self) + 'static) -> CallbackHandle {
        let run: Rc<dyn Run> = Once::new("call_soon", call);
        let handle = CallbackHandle::new(&self.0, &run, None);
        self.0.push_ready(run);
        handle
    }

    /// Runs `call` when `delay` is over, never earlier.
    ///
    /// Calls that are due at the same time run in the order in which they were scheduled. A delay beyond
    /// the range of the clock never ends.
    ///
    /// The clock is that of [`Instant`]. On Linux it stands still while the machine is suspended
    /// (CLOCK_MONOTONIC, clock_gettime(2)): timers come late by that time.
    pub fn call_later(
        &self,
        delay: Duration,
        call: impl FnOnce(&Self) + 'static,
    ) -> CallbackHandle {
        self.timed(self.0.clock().checked_add(delay), call)
    }

    /// Runs `call` at a time, as [`call_later`](Handle::call_later) does.
    pub fn call_at(&self, time: Instant, call: impl FnOnce(&Self) + 'static) -> CallbackHandle {
        self.timed(Some(time), call)
    }

    fn timed(
        &self,
        deadline: Option<Instant>,
        call: impl FnOnce(&Self) + 'static,
    ) -> CallbackHandle {
        let run: Rc<dyn Run> = Once::new("call_later", call);
        if self.0.is_closed() {
            self.0.defer_drop_call(&*run);
            return CallbackHandle::new(&self.0, &run, None);
        }
        let timer = self.0.start_timer(deadline, run.clone());
        CallbackHandle::new(&self.0, &run, Some(timer))
    }

    /// Runs `call` again and again: first when `period` is over, then a period later each time,
    /// until the handle [cancels](CallbackHandle::cancel) it or the loop ends.
    ///
    /// The times do not drift: they are those of this call and multiples of `period` after it,
    /// however late a run comes and however long it takes. A time that was missed is skipped, as
    /// with tokio's `MissedTickBehavior::Skip`: after a long run there is one at the next multiple.
    /// A panic of `call` is reported, and the next run comes all the same.
    ///
    /// A period below 1 ms, the resolution of epoll_wait(2), counts as 1 ms. One beyond the range of the
    /// clock never ends.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// let mut left = 3;
    /// event_loop.handle().call_every(Duration::from_millis(2), move |handle| {
    ///     left -= 1;
    ///     if left == 0 {
    ///         handle.stop();
    ///     }
    /// });
    /// event_loop.run_forever()?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "interval")]
    pub fn call_every(
        &self,
        period: Duration,
        mut call: impl FnMut(&Self) + 'static,
    ) -> CallbackHandle {
        let every = Every::new(&self.0, period, None, move |handle: &Self| {
            handle.0.guard("call_every", || call(handle));
            Next::Again
        });
        let run: Rc<dyn Run> = every.clone();
        if self.0.is_closed() {
            self.0.defer_drop_call(&*run);
            return CallbackHandle::new(&self.0, &run, None);
        }
        let timer = every.start(&self.0);
        CallbackHandle::new(&self.0, &run, Some(timer))
    }

    /// Makes a callback that can be scheduled any number of times.
    pub fn callback(&self, call: impl FnMut(&Self) + 'static) -> Callback {
        Callback::new(&self.0, Box::new(call))
    }

    /// Returns the time of this tick of the loop.
    ///
    /// The clock is read at the first call in a tick, and not again. A timer does not start from this time
    /// but from that of its creation.
    #[doc(alias = "time")]
    pub fn now(&self) -> Instant {
        self.0.now()
    }
}

/// # The loop
impl Handle {
    /// Returns the loop that is running on this thread.
    pub fn current() -> Option<Self> {
        let current = CURRENT.try_with(|current| {
            let current = current.borrow();
            current.as_ref().and_then(Weak::upgrade)
        });
        current.ok().flatten().map(Self)
    }

    /// Makes `run_forever` or `run_until` return at the end of the current tick. If the loop is not running,
    /// its next run stops after one tick.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Returns a handle for other threads.
    pub fn remote(&self) -> RemoteHandle {
        RemoteHandle::new(self.0.inbox.clone())
    }

    /// Makes both ends of a result that comes later.
    ///
    /// # Errors
    ///
    /// Of the completion: those that [`Completer::complete`] is given;
    /// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe) when the completer is dropped without a result;
    /// [`LoopClosed`](crate::LoopClosed).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// let (completer, completion) = event_loop.handle().completion();
    /// event_loop.handle().call_later(Duration::from_millis(1), move |_| completer.complete(Ok(42)));
    /// assert_eq!(event_loop.run_until(completion)?, 42);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "create_future")]
    pub fn completion<T: 'static>(&self) -> (Completer<T>, Completion<T>) {
        Completion::pair(self)
    }

    /// Returns the connection of this id, until its `connection_lost`.
    pub fn transport(&self, id: TransportId) -> Option<Transport> {
        self.0.transport(id)
    }

    /// Sets the handler of every error and panic of user code, and of errors of
    /// [detached](Completion::detach) work.
    ///
    /// It runs on the loop. Without one, failures are logged at `error`, ten lines a second at most.
    #[doc(alias = "set_exception_handler")]
    pub fn set_error_handler(&self, handler: impl FnMut(&Self, &Failure) + 'static) {
        if self.0.is_closed() {
            self.0.defer_drop(Deferred::Value(Box::new(handler)));
            return;
        }
        self.0.set_error_handler(Box::new(handler));
    }

    /// Reports a failure to the [error handler](Self::set_error_handler), or to the log.
    ///
    /// For libraries that run user code, such as an executor. The handler is called from the loop, not from
    /// this call. When the loop is gone, the failure is dropped.
    #[doc(alias = "call_exception_handler")]
    pub fn report(&self, failure: Failure) {
        let report = move |handle: &Self| handle.0.report(failure);
        self.0.push_ready(Once::new("a report", report));
    }

    /// Returns the time above which callbacks are logged as
    /// [slow](crate::EventLoopBuilder::slow_callback); `None` when they are not.
    pub fn slow_callback(&self) -> Option<Duration> {
        self.0.slow_callback
    }

    /// Calls `call`, and gives it a name of its own in the log of
    /// [slow callbacks](crate::EventLoopBuilder::slow_callback).
    ///
    /// For code that drives code of the user within a callback, such as an executor of tasks. The
    /// time of `call` does not count as that of the callback. `name` is only called for the log.
    #[inline]
    pub fn timed_as<R>(&self, name: impl FnOnce() -> String, call: impl FnOnce() -> R) -> R {
        self.0.timed(name, call)
    }

    /// Returns the loop's counters, and the numbers of the objects that it holds.
    pub fn stats(&self) -> LoopStats {
        self.0.stats()
    }
}

/// Handles are equal when they are to the same loop.
impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0).finish()
    }
}

/// Makes a loop the current one of its thread, until dropped. A loop that is itself a
/// thread-local value may be dropped when the variable for the current one is gone already: then
/// there is none.
pub(super) struct Entered(Option<Weak<Core>>);

impl Entered {
    pub(super) fn new(core: &Rc<Core>) -> Self {
        let entered = Rc::downgrade(core);
        Self(
            CURRENT
                .try_with(|current| current.replace(Some(entered)))
                .ok()
                .flatten(),
        )
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        // It fails when the thread is ending.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}
