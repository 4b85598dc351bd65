//! Tasks: futures that the loop runs beside each other.

use crate::executor::{Executor, Task, Work};
use crate::label::{Label, Named, Unnamed};
use std::any::{Any, type_name};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tidegate::{CloseReason, Handle};

/// Runs a future as a task of the loop that is running on this thread.
///
/// The task begins in this tick of the loop or the next, never within this call. It goes on when the
/// handle is dropped. At the end of the loop it is dropped where it waits.
///
/// # Errors
///
/// Of the handle: a [`JoinError`] when the task panicked or was aborted, when its loop ended before it,
/// and when no loop is running here ([`JoinError::is_no_loop`]). In the last case the future is dropped.
#[doc(alias = "create_task")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match Handle::current() {
        Some(handle) => spawn_on(&handle, future),
        None => JoinHandle(State::Failed(Kind::NoLoop)),
    }
}

/// Spawns as [`spawn`] does, on a loop of this thread that need not be running yet.
///
/// So async code and callback protocols share one loop. Its tasks run whenever the loop does.
///
/// # Errors
///
/// As [`spawn`], with the loop of `handle`: one that is gone runs nothing.
///
/// ```
/// use tidegate::EventLoop;
///
/// # fn main() -> std::io::Result<()> {
/// let mut event_loop = EventLoop::new()?;
/// let handle = event_loop.handle().clone();
/// let (completer, completion) = handle.completion();
/// tidegate_streams::spawn_on(&handle, async move { completer.complete(Ok(6 * 7)) });
/// assert_eq!(event_loop.run_until(completion)?, 42);
/// # Ok(()) }
/// ```
pub fn spawn_on<F>(handle: &Handle, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_with(handle, Unnamed, future, |_, _, ended| ended)
}

/// Spawns as [`spawn`] does, and gives the task a name, as asyncio's `create_task(name=..)` does.
///
/// The name is in the [`Failure`](tidegate::Failure) of a panic that nobody joins, and in the log of
/// [slow callbacks](tidegate::EventLoopBuilder::slow_callback). Several tasks may have one name.
///
/// # Errors
///
/// As [`spawn`].
///
/// ```
/// # fn main() -> std::io::Result<()> { tidegate_streams::block_on(async {
/// let task = tidegate_streams::spawn_named("sums", async { 1 + 2 });
/// assert_eq!(task.await.unwrap(), 3);
/// # }) }
/// ```
#[doc(alias = "create_task")]
#[doc(alias = "set_name")]
pub fn spawn_named<F>(name: impl Into<Arc<str>>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match Handle::current() {
        Some(handle) => spawn_named_on(&handle, name, future),
        None => JoinHandle(State::Failed(Kind::NoLoop)),
    }
}

/// Spawns as [`spawn_on`] does, and gives the task a name; see [`spawn_named`].
///
/// # Errors
///
/// As [`spawn_on`].
pub fn spawn_named_on<F>(
    handle: &Handle,
    name: impl Into<Arc<str>>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_with(handle, Named(name.into()), future, |_, _, ended| ended)
}

/// As [`spawn_on`], with a label, and with a last step, which a task that is dropped does not come
/// to.
pub(crate) fn spawn_with<F, L, T>(
    handle: &Handle,
    label: L,
    future: F,
    finish: impl FnOnce(&L, &Handle, Result<F::Output, JoinError>) -> Result<T, JoinError> + 'static,
) -> JoinHandle<T>
where
    F: Future + 'static,
    L: Label,
    T: 'static,
{
    let Some(executor) = Executor::of(handle) else {
        return JoinHandle(State::Failed(Kind::NoLoop));
    };
    let task = executor.start(Spawned {
        label,
        future: Cell::new(Some(Box::pin(future))),
        finish: Cell::new(Some(finish)),
        output: Cell::new(None),
        joiner: Cell::new(None),
        aborted: Cell::new(false),
        ended: Cell::new(false),
        joined: Cell::new(true),
    });
    JoinHandle(State::Task(task))
}

/// The work of a task: a future and a last step, and then what came of them.
struct Spawned<F, L, Finish, T> {
    label: L,
    /// In a box, so that no pin goes through this. Not here while it is polled, nor after the end.
    future: Cell<Option<Pin<Box<F>>>>,
    finish: Cell<Option<Finish>>,
    /// From the end on, until it is joined.
    output: Cell<Option<Output<T>>>,
    /// The waker of the task that awaits the join handle.
    joiner: Cell<Option<Waker>>,
    aborted: Cell<bool>,
    ended: Cell<bool>,
    /// It has a join handle.
    joined: Cell<bool>,
}

impl<F, L, Finish, T> Work for Spawned<F, L, Finish, T>
where
    F: Future,
    L: Label,
    Finish: FnOnce(&L, &Handle, Result<F::Output, JoinError>) -> Result<T, JoinError>,
{
    fn run(&self, context: &mut Context<'_>, handle: &Handle) -> bool {
        let Some(mut future) = self.future.take() else {
            return false;
        };
        let ended = if self.aborted.get() {
            let dropped = discard(future).map_err(JoinError::panicked);
            dropped.and(Err(JoinError(Kind::Cancelled)))
        } else {
            let value = match catching(|| future.as_mut().poll(context)) {
                Ok(Poll::Pending) => {
                    self.future.set(Some(future));
                    return false;
                }
                Ok(Poll::Ready(value)) => Ok(value),
                Err(panic) => Err(panic),
            };
            discard_with(future, value).map_err(JoinError::panicked)
        };
        let finish = self.finish.take();
        let handle = handle.clone();
        self.end(finish.map(|finish| Output {
            result: finish(&self.label, &handle, ended),
            handle,
        }));
        true
    }

    fn cut(&self) {
        let left = (self.future.take(), self.finish.take());
        // The loop is gone, or the task was cut with it.
        catching(|| drop(left)).unwrap_or_else(|panic| log_panic("dropping a task", panic));
        self.end(None);
    }

    fn name(&self) -> String {
        self.label.name(type_name::<F>())
    }
}

impl<F, L: Label, Finish, T> Spawned<F, L, Finish, T> {
    fn end(&self, output: Option<Output<T>>) {
        self.ended.set(true);
        if self.joined.get() {
            self.output.set(output);
        } else {
            self.discard(output);
        }
        if let Some(joiner) = self.joiner.take() {
            // It is of somebody else: its panic is no business of this task, nor of its loop.
            catching(|| joiner.wake()).unwrap_or_else(|panic| log_panic("a waker", panic));
        }
    }

    /// Drops an output that nobody joins, and reports a panic.
    fn discard(&self, output: Option<Output<T>>) {
        let Some(Output { result, handle }) = output else {
            return;
        };
        let mut reason = result.as_ref().err().and_then(JoinError::panic_reason);
        if let Err(panic) = catching(|| drop(result)) {
            reason.get_or_insert_with(|| panic.reason());
            panic.discard();
        }
        if let Some(reason) = reason {
            handle.report(self.label.failure(reason));
        }
    }
}

/// Drops a future whose poll came to this. A panic goes no further, in the drop neither.
fn discard_with<F, V>(future: Pin<Box<F>>, value: Result<V, Panic>) -> Result<V, Panic> {
    match (value, discard(future)) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(value), Err(panic)) => {
            catching(|| drop(value)).unwrap_or_else(Panic::discard);
            Err(panic)
        }
        (Err(first), dropped) => {
            dropped.unwrap_or_else(Panic::discard);
            Err(first)
        }
    }
}

fn discard<F>(future: Pin<Box<F>>) -> Result<(), Panic> {
    catching(|| drop(future))
}

/// Where nobody else could be told.
fn log_panic(what: &str, panic: Panic) {
    // The logger is user code too, and so is a payload.
    let said = catching(|| {
        log::error!(target: "tidegate::streams", "{what}: {}", panic.message());
    });
    said.unwrap_or_else(Panic::discard);
    panic.discard();
}

/// Calls user code, and keeps its panic.
pub(crate) fn catching<T>(call: impl FnOnce() -> T) -> Result<T, Panic> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Panic(Mutex::new(payload)))
}

/// The end of a task.
struct Output<T> {
    result: Result<T, JoinError>,
    handle: Handle,
}

/// The result of a task that was [spawned](spawn), as a future: its value, or a [`JoinError`].
///
/// Dropping it lets the task go on. A panic of a task whose handle was dropped goes to the
/// [error handler](Handle::set_error_handler).
///
/// # Cancel safety
///
/// The result stays until a poll takes it: `&mut handle` may be awaited, dropped, and awaited again.
#[doc(alias = "Task")]
pub struct JoinHandle<T>(State<T>);

enum State<T> {
    Task(Rc<dyn Join<T>>),
    Failed(Kind),
}

/// A task, as its join handle sees it.
trait Join<T> {
    fn is_ended(&self) -> bool;
    fn abort(&self);
    fn poll_join(&self, context: &mut Context<'_>) -> Poll<Result<T, JoinError>>;
    /// Nobody will join it.
    fn detach(&self);
}

impl<F, L: Label, Finish, T> Join<T> for Task<Spawned<F, L, Finish, T>> {
    fn is_ended(&self) -> bool {
        self.work.ended.get()
    }

    fn abort(&self) {
        if !self.work.ended.get() && !self.work.aborted.replace(true) {
            self.wake();
        }
    }

    fn poll_join(&self, context: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        if !self.work.ended.get() {
            self.work.joiner.set(Some(context.waker().clone()));
            return Poll::Pending;
        }
        let output = self.work.output.take();
        let result = output.map(|output| output.result);
        // A task that was dropped by the end of its loop has no output.
        Poll::Ready(result.unwrap_or(Err(JoinError(Kind::Cancelled))))
    }

    fn detach(&self) {
        self.work.joined.set(false);
        let joiner = self.work.joiner.take();
        drop(joiner);
        self.work.discard(self.work.output.take());
    }
}

impl<T> JoinHandle<T> {
    /// Ends the task at the next point where it waits. Does nothing to a task that has ended.
    ///
    /// The loop drops its future, soon, and joining it fails with [`JoinError::is_cancelled`].
    #[doc(alias = "cancel")]
    pub fn abort(&self) {
        if let State::Task(task) = &self.0 {
            task.abort();
        }
    }

    /// Returns whether the task has ended, in any way.
    #[doc(alias = "done")]
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            State::Task(task) => task.is_ended(),
            State::Failed(_) => true,
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match &mut self.0 {
            State::Task(task) => ready!(task.poll_join(context)),
            State::Failed(kind) => Err(JoinError(mem::replace(kind, Kind::Taken))),
        };
        self.0 = State::Failed(Kind::Taken);
        Poll::Ready(result)
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let State::Task(task) = &self.0 {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

/// The error of joining a task that has no result.
#[doc(alias = "CancelledError")]
pub struct JoinError(Kind);

enum Kind {
    Cancelled,
    Panicked(Panic),
    NoLoop,
    Taken,
}

/// The maximum number of payloads that one panic may bring about, each by the drop of the one
/// before. One is usual; a chain of this length is a program's mistake.
const MAX_DROPS: usize = 64;

/// The payload of a panic; in a mutex, so that the error may be shared between threads.
pub(crate) struct Panic(Mutex<Box<dyn Any + Send>>);

impl Panic {
    /// Drops the payload. A panic of that drop has a payload too, which is dropped in turn; after
    /// [`MAX_DROPS`] of them the last one leaks.
    fn discard(mut self) {
        for _ in 0..MAX_DROPS {
            match catching(|| drop(self)) {
                Ok(()) => return,
                Err(next) => self = next,
            }
        }
        mem::forget(self);
    }

    pub(crate) fn reason(&self) -> CloseReason {
        CloseReason::Panic(self.message().into())
    }

    fn message(&self) -> String {
        let payload = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = payload.downcast_ref::<&str>() {
            (*text).to_owned()
        } else if let Some(text) = payload.downcast_ref::<String>() {
            text.clone()
        } else {
            "a panic without a message".to_owned()
        }
    }
}

impl JoinError {
    fn panicked(panic: Panic) -> Self {
        Self(Kind::Panicked(panic))
    }

    pub(crate) fn panic_reason(&self) -> Option<CloseReason> {
        match &self.0 {
            Kind::Panicked(panic) => Some(panic.reason()),
            _ => None,
        }
    }

    /// Returns whether the task was [aborted](JoinHandle::abort), or dropped at the end of its loop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Kind::Cancelled)
    }

    /// Returns whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0, Kind::Panicked(_))
    }

    /// Returns whether there was no loop to run the task.
    pub fn is_no_loop(&self) -> bool {
        matches!(self.0, Kind::NoLoop)
    }

    /// Returns the payload of the panic, for [`std::panic::resume_unwind`].
    ///
    /// # Errors
    ///
    /// The error itself, when the task did not panic.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, Self> {
        match self.0 {
            Kind::Panicked(panic) => {
                Ok(panic.0.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            kind => Err(Self(kind)),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Cancelled => f.write_str("the task was cancelled"),
            Kind::Panicked(panic) => write!(f, "the task panicked: {}", panic.message()),
            Kind::NoLoop => f.write_str("no event loop is running on this thread"),
            Kind::Taken => f.write_str("the task was joined already"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        Self::other(error)
    }
}
