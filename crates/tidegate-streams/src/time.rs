//! Waiting: for a time, at most for a time, for the next turn.

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

/// Waits for so long, counted from this call, and never shorter. Dropping it cancels its timer.
///
/// Where no loop is running nothing could ever end it; it then says so in the log and waits for
/// ever.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::new(|handle, call| handle.call_later(duration, call))
}

/// Waits until then; until the loop's next turn when that is over. Otherwise as [`sleep`].
pub fn sleep_until(time: Instant) -> Sleep {
    Sleep::new(|handle, call| handle.call_at(time, call))
}

/// The future of [`sleep`].
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    alarm: Rc<Alarm>,
    timer: Option<CallbackHandle>,
}

#[derive(Default)]
struct Alarm {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Sleep {
    fn new(start: impl FnOnce(&Handle, Box<dyn FnOnce(&Handle)>) -> CallbackHandle) -> Self {
        let alarm: Rc<Alarm> = Rc::default();
        let timer = Handle::current().map(|handle| {
            let alarm = alarm.clone();
            start(
                &handle,
                Box::new(move |_| {
                    alarm.rung.set(true);
                    let waker = alarm.waker.take();
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }),
            )
        });
        if timer.is_none() {
            log::error!(
                target: "tidegate::streams",
                "a sleep outside of an event loop never ends"
            );
        }
        Self { alarm, timer }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.alarm.rung.get() {
            return Poll::Ready(());
        }
        let before = self.alarm.waker.replace(Some(context.waker().clone()));
        drop(before);
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

/// Waits for a future, at most for so long, counted from the first poll; then the future is dropped.
/// One that is ready is taken, whatever the time is.
///
/// A dropped [`JoinHandle`](crate::JoinHandle) lets its task go on, so give it as `&mut handle`, and
/// [abort](crate::JoinHandle::abort) the task when the time was over.
///
/// # Errors
///
/// [`Elapsed`] when the time was over first.
///
/// # Cancel safety
///
/// Dropping it drops the future; what that means is the future's own affair.
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
    before(sleep(limit), future).await
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
    before(sleep_until(time), future).await
}

async fn before<F: Future>(sleep: Sleep, future: F) -> Result<F::Output, Elapsed> {
    let (mut sleep, mut future) = (pin!(sleep), pin!(future));
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        sleep.as_mut().poll(context).map(|()| Err(Elapsed(())))
    })
    .await
}

/// The time of a [`timeout`] was over.
#[doc(alias = "TimeoutError")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over first")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(error: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, error)
    }
}

/// Lets the loop and other tasks go on; continues later in this turn of the loop or in the next.
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
