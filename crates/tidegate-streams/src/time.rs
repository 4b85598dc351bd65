//! Waiting: for a duration, with a time limit, for the next tick.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tidegate::{CallbackHandle, Handle};

/// Waits for `duration` from this call, never less. Dropping it cancels its timer.
///
/// It may be made before its loop runs. Awaited where no loop is running, nothing could ever end it: it
/// then logs that, and waits.
pub fn sleep(duration: Duration) -> Sleep {
    let mut sleep = Sleep::new();
    match Handle::current() {
        Some(handle) => sleep.timer = Some(handle.call_later(duration, sleep.rings())),
        None => sleep.deadline = Instant::now().checked_add(duration),
    }
    sleep
}

/// Waits until `time`, or until the next tick when that is past. Otherwise as [`sleep`].
pub fn sleep_until(time: Instant) -> Sleep {
    let mut sleep = Sleep::new();
    sleep.deadline = Some(time);
    sleep.start();
    sleep
}

/// The future of [`sleep`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    alarm: Rc<Alarm>,
    /// For the timer that is not there yet. `None` is beyond what the clock can say.
    deadline: Option<Instant>,
    timer: Option<CallbackHandle>,
}

#[derive(Default)]
struct Alarm {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Sleep {
    fn new() -> Self {
        Self {
            alarm: Rc::default(),
            deadline: None,
            timer: None,
        }
    }

    /// Starts the timer, where a loop is running.
    fn start(&mut self) {
        if self.timer.is_none()
            && let Some(handle) = Handle::current()
        {
            let rings = self.rings();
            self.timer = Some(match self.deadline {
                Some(deadline) => handle.call_at(deadline, rings),
                None => handle.call_later(Duration::MAX, rings),
            });
        }
    }

    fn rings(&self) -> impl FnOnce(&Handle) + 'static {
        let alarm = self.alarm.clone();
        move |_| {
            alarm.rung.set(true);
            let waker = alarm.waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.alarm.rung.get() {
            return Poll::Ready(());
        }
        let before = self.alarm.waker.replace(Some(context.waker().clone()));
        drop(before);
        self.start();
        if self.timer.is_none() {
            log::error!(target: "tidegate::streams", "a sleep outside of an event loop never ends");
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.cancel();
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("over", &self.alarm.rung.get())
            .finish_non_exhaustive()
    }
}

/// Waits for a future for `limit` at the most, then drops it. One that is ready is taken, whatever
/// the time is.
///
/// The time is counted from the first poll in which the future has to wait. One that is ready in its
/// first poll costs no timer.
///
/// A dropped [`JoinHandle`](crate::JoinHandle) lets its task go on, so give it as `&mut handle`, and
/// [abort](crate::JoinHandle::abort) the task when the time was over.
///
/// # Errors
///
/// [`Elapsed`] when the time was over first, or when no loop is running that could tell.
///
/// # Cancel safety
///
/// Dropping it drops the future, whose own documentation tells the effect.
///
/// ```
/// use std::time::Duration;
/// use tidegate_streams::{block_on, spawn, timeout};
///
/// # fn main() -> std::io::Result<()> {
/// let text = block_on(async {
///     let mut task = spawn(std::future::pending::<()>());
///     if timeout(Duration::from_millis(10), &mut task).await.is_err() {
///         task.abort();
///     }
///     task.await.unwrap_err().to_string()
/// })?;
/// assert_eq!(text, "the task was cancelled");
/// # Ok(()) }
/// ```
#[doc(alias = "wait_for")]
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut timer) = (pin!(future), None);
    poll_fn(|context| poll_within(context, future.as_mut(), &mut timer, || sleep(limit))).await
}

/// Waits for a future, at most until then; otherwise as [`timeout`].
///
/// # Errors
///
/// [`Elapsed`] when the time was over first.
///
/// # Cancel safety
///
/// As [`timeout`].
#[doc(alias = "timeout")]
pub async fn timeout_at<F: Future>(time: Instant, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut timer) = (pin!(future), None);
    poll_fn(|context| poll_within(context, future.as_mut(), &mut timer, || sleep_until(time))).await
}

#[inline]
fn poll_within<F: Future>(
    context: &mut Context<'_>,
    future: Pin<&mut F>,
    timer: &mut Option<Sleep>,
    start: impl FnOnce() -> Sleep,
) -> Poll<Result<F::Output, Elapsed>> {
    match future.poll(context) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => {
            let timer = timer.get_or_insert_with(start);
            poll_elapsed(context, timer).map(Err)
        }
    }
}

/// The future has to wait.
fn poll_elapsed(context: &mut Context<'_>, timer: &mut Sleep) -> Poll<Elapsed> {
    timer.start();
    if timer.timer.is_none() {
        return Poll::Ready(Elapsed { no_loop: true });
    }
    let elapsed = Elapsed { no_loop: false };
    Pin::new(timer).poll(context).map(|()| elapsed)
}

/// The time of a [`timeout`] was over.
#[doc(alias = "TimeoutError")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed {
    no_loop: bool,
}

impl Elapsed {
    /// Returns whether no loop was running, rather than the time over.
    pub fn is_no_loop(&self) -> bool {
        self.no_loop
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.no_loop {
            true => "no event loop is running on this thread",
            false => "the time was over first",
        })
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(error: Elapsed) -> Self {
        match error.no_loop {
            true => Self::other(error),
            false => Self::new(io::ErrorKind::TimedOut, error),
        }
    }
}

/// Yields to the loop and other tasks; continues later in this tick or in the next.
/// asyncio's `sleep(0)`.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
