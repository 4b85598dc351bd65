//! Work for other threads: the user's jobs, and names to be resolved. This is the loop's side of it, the
//! closures that wait for results; the threads are the driver's.

use crate::callback::Once;
use crate::completion::{Completion, Work};
use crate::driver::{JobId, JobStart};
use crate::event_loop::{Core, Deferred};
use crate::log::guarded;
use crate::panics::caught;
use crate::{Handle, LoopClosed};
use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;

/// A closure for the result of a job.
type Answer<T> = Box<dyn FnOnce(&Handle, io::Result<T>)>;

/// The jobs whose results are still to come.
#[derive(Default)]
pub(crate) struct Jobs {
    started: u64,
    /// Each holds an [`Answer`].
    waiting: BTreeMap<JobId, Box<dyn Any>>,
}

impl Jobs {
    fn insert<T: 'static>(&mut self, answer: Answer<T>) -> JobId {
        let id = JobId(self.started);
        self.started += 1;
        self.waiting.insert(id, Box::new(answer));
        id
    }

    fn take<T: 'static>(&mut self, id: JobId) -> Option<Answer<T>> {
        let answer = self.waiting.remove(&id)?.downcast().ok()?;
        Some(*answer)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// The error of a job that panicked, inside an [`io::Error`]: [`JobPanicked::of`] finds it.
#[derive(Debug, Clone)]
pub struct JobPanicked {
    message: Arc<str>,
}

impl JobPanicked {
    /// Returns the `JobPanicked` in the error of a completion, if its job panicked.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the message of the panic.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for JobPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a job panicked: {}", self.message)
    }
}

impl Error for JobPanicked {}

/// # Blocking work
impl Handle {
    /// Runs `job`, which may block, on a thread of a small pool, and completes with its result.
    ///
    /// The threads are named `tidegate-job-0` and so on. Each is started when it is first needed, and
    /// their number is [limited](crate::EventLoopBuilder::executor_threads): a job may have to wait for
    /// one. Names to connect to are resolved on the same threads, so jobs that hold them all for long
    /// hold up such connects too. Work without an end needs a thread of its own, and a
    /// [`RemoteHandle`](crate::RemoteHandle).
    ///
    /// Dropping the completion cancels a job that has not begun. A job that has begun runs to its end,
    /// and its result is dropped. An `Err` that `job` returns is no error of the completion, and
    /// [`detach`](Completion::detach) drops it unseen.
    ///
    /// # Errors
    ///
    /// Of the completion: [`JobPanicked`]; the system's, when no thread could be started;
    /// [`LoopClosed`].
    ///
    /// ```
    /// # use tidegate::EventLoop;
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// let reading = event_loop
    ///     .handle()
    ///     .run_in_executor(|| std::fs::read_to_string("Cargo.toml"));
    /// let text = event_loop.run_until(reading)??;
    /// assert!(text.contains("tidegate"));
    /// # Ok(()) }
    /// ```
    pub fn run_in_executor<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Completion<T> {
        let core = self.core();
        if core.is_closed() {
            core.defer_drop(Deferred::Value(Box::new(job)));
            return Completion::ready(self, Err(LoopClosed.into()));
        }
        let (completer, completion) = Completion::pair(self);
        let id = self.start_job(
            move || Ok(job()),
            move |_, result| completer.complete(result),
        );
        completion.on_drop(Work::Job(id), None);
        completion
    }
}

impl Handle {
    /// `answer` runs on the loop; within this call when the job cannot even begin.
    pub(crate) fn start_job<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
        answer: impl FnOnce(&Handle, io::Result<T>) + 'static,
    ) -> JobId {
        let core = self.core();
        let answer: Answer<T> = Box::new(answer);
        let id = core.jobs.borrow_mut().insert(answer);
        let remote = self.remote();
        let job = Box::new(move || {
            let result = caught(job)
                .unwrap_or_else(|message| Err(io::Error::other(JobPanicked { message })));
            // Refused when the loop is gone, and with it the wait.
            let _ = remote.call_soon_threadsafe(move |handle| {
                let answer = handle.core().jobs.borrow_mut().take(id);
                if let Some(answer) = answer {
                    answer(handle, result);
                }
            });
        });
        match core.with_driver(|driver| driver.as_dyn().start_job(id, job)) {
            JobStart::Taken => {}
            JobStart::Inline(job) => {
                core.push_ready(Once::new("a job", move |handle: &Handle| {
                    if handle.core().is_awaited(id) {
                        job();
                    }
                }));
            }
            JobStart::Refused(job, error) => {
                core.defer_drop(Deferred::Value(Box::new(job)));
                let answer = core.jobs.borrow_mut().take::<T>(id);
                if let Some(answer) = answer {
                    answer(self, Err(error));
                }
            }
        }
        id
    }
}

impl Core {
    fn is_awaited(&self, id: JobId) -> bool {
        self.jobs.borrow().waiting.contains_key(&id)
    }

    /// Cancels a job whose result is not awaited any more.
    pub(crate) fn cancel_job(&self, id: JobId) {
        let answer = self.jobs.borrow_mut().waiting.remove(&id);
        drop(answer);
        let job = self.with_driver(|driver| driver.as_dyn().cancel_job(id));
        if let Some(job) = job {
            self.defer_drop(Deferred::Value(Box::new(job)));
        }
    }

    /// The end of the loop: drops the jobs that have not begun.
    pub(crate) fn close_jobs(&self) {
        let waiting = mem::take(&mut self.jobs.borrow_mut().waiting);
        drop(waiting);
        let unbegun = self.with_driver(|driver| driver.as_dyn().close_jobs());
        for job in unbegun {
            self.drop_value(job);
        }
    }

    /// Waits a bounded time for the jobs that run. Comes last: a job may wait for a channel whose
    /// other end something of the loop's held.
    pub(crate) fn wait_for_jobs(&self) {
        let left = self.with_driver(|driver| driver.as_dyn().wait_for_jobs());
        if left > 0 {
            guarded(|| {
                log::warn!(target: "tidegate::loop", "jobs left behind still running: {left}");
            });
        }
    }
}
