//! A small pool of threads for jobs that block. A thread is started when a job finds none idle, up
//! to a limit, and stays.

use crate::driver::{Job, JobId, JobStart};
use crate::panics::discard;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) struct ExecutorPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    limit: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a job, or the end has come.
    work: Condvar,
    /// A job has ended after the end had come.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Not begun; ids grow, so the first came first.
    queue: BTreeMap<JobId, Job>,
    idle: usize,
    /// The threads that run a job.
    busy: BTreeSet<usize>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, thread: usize) {
        while let Some(job) = self.next(thread) {
            // A job's own panic is its result. This is one of dropping a result that came too late.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                discard(payload);
            }
            let mut state = self.lock();
            state.busy.remove(&thread);
            if state.closed {
                self.ended.notify_all();
            }
        }
    }

    /// Waits for a job; `None` at the end.
    fn next(&self, thread: usize) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.queue.pop_first() {
                state.busy.insert(thread);
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl ExecutorPool {
    /// Starts no thread yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            shared: Arc::default(),
            threads: Vec::new(),
            limit,
        }
    }

    pub(crate) fn start(&mut self, id: JobId, job: Job) -> JobStart {
        let mut state = self.shared.lock();
        state.queue.insert(id, job);
        let spare = state.idle >= state.queue.len();
        drop(state);
        if !spare
            && self.threads.len() < self.limit
            && let Err(error) = self.add_thread()
            && self.threads.is_empty()
        {
            let job = self.shared.lock().queue.remove(&id);
            return match job {
                Some(job) => JobStart::Refused(job, error),
                None => JobStart::Taken,
            };
        }
        self.shared.work.notify_one();
        JobStart::Taken
    }

    fn add_thread(&mut self) -> std::io::Result<()> {
        let number = self.threads.len();
        let shared = self.shared.clone();
        // Linux shows fifteen characters of a thread's name.
        let thread = thread::Builder::new()
            .name(format!("tidegate-job-{number}"))
            .spawn(move || shared.run(number))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Takes back a job that has not begun.
    pub(crate) fn cancel(&mut self, id: JobId) -> Option<Job> {
        self.shared.lock().queue.remove(&id)
    }

    /// Takes back all jobs that have not begun; none begins any more.
    pub(crate) fn close(&mut self) -> Vec<Job> {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.work.notify_all();
        mem::take(&mut state.queue).into_values().collect()
    }

    /// Once closed: waits at most for `grace` for the jobs that run, and returns the number of those that
    /// it leaves behind.
    pub(crate) fn wait(&mut self, grace: Duration) -> usize {
        let deadline = Instant::now().checked_add(grace);
        let mut state = self.shared.lock();
        while !state.busy.is_empty() {
            // A grace beyond what the clock can say has no end.
            let left = deadline.map_or(Duration::from_secs(3600), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            let waited = self.shared.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let busy = state.busy.clone();
        drop(state);
        for (number, thread) in self.threads.drain(..).enumerate() {
            if !busy.contains(&number) {
                // Its jobs keep their panics.
                let _ = thread.join();
            }
        }
        busy.len()
    }
}

impl fmt::Debug for ExecutorPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorPool")
            .field("threads", &self.threads.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, Receiver, Sender};

    const BOUND: Duration = Duration::from_secs(20);
    const ENDLESS: Duration = Duration::MAX;

    struct Jobs {
        pool: ExecutorPool,
        next: u64,
        told: (Sender<String>, Receiver<String>),
    }

    impl Jobs {
        fn new(limit: usize) -> Self {
            Self {
                pool: ExecutorPool::new(limit),
                next: 0,
                told: mpsc::channel(),
            }
        }

        fn start(&mut self, job: impl FnOnce(&Sender<String>) + Send + 'static) -> JobId {
            let id = JobId(self.next);
            self.next += 1;
            let told = self.told.0.clone();
            let start = self.pool.start(id, Box::new(move || job(&told)));
            assert!(matches!(start, JobStart::Taken));
            id
        }

        /// A job that tells its thread's name when it begins, and ends when the sender does.
        fn start_blocked(&mut self) -> (JobId, Sender<()>) {
            let (release, released) = mpsc::channel();
            let id = self.start(move |told| {
                let name = thread::current().name().unwrap_or_default().to_owned();
                told.send(name).unwrap();
                let _ = released.recv();
            });
            (id, release)
        }

        fn told(&self) -> String {
            self.told.1.recv_timeout(BOUND).unwrap()
        }
    }

    #[test]
    fn threads_are_started_when_a_job_finds_none_idle_and_up_to_the_limit() {
        let mut jobs = Jobs::new(2);
        assert_eq!(jobs.pool.threads.len(), 0);
        let first = jobs.start_blocked();
        assert_eq!(jobs.told(), "tidegate-job-0");
        let second = jobs.start_blocked();
        assert_eq!(jobs.told(), "tidegate-job-1");
        jobs.start(|told| told.send("third".into()).unwrap());
        assert_eq!(jobs.pool.threads.len(), 2);
        assert_eq!(jobs.pool.shared.lock().queue.len(), 1);
        drop(first);
        assert_eq!(jobs.told(), "third");
        drop(second);
        assert_eq!(jobs.pool.close().len(), 0);
        assert_eq!(jobs.pool.wait(ENDLESS), 0);
    }

    #[test]
    fn an_idle_thread_is_used_again() {
        let mut jobs = Jobs::new(8);
        for _ in 0..100 {
            jobs.start(|told| told.send("done".into()).unwrap());
            assert_eq!(jobs.told(), "done");
            // It told before it was idle again.
            let start = Instant::now();
            while jobs.pool.shared.lock().idle == 0 {
                assert!(start.elapsed() < BOUND);
                thread::yield_now();
            }
        }
        assert_eq!(jobs.pool.threads.len(), 1);
    }

    #[test]
    fn a_job_is_taken_back_until_it_begins() {
        let mut jobs = Jobs::new(1);
        let (running, release) = jobs.start_blocked();
        jobs.told();
        let waiting = jobs.start(|told| told.send("cancelled".into()).unwrap());
        jobs.start(|told| told.send("next".into()).unwrap());
        assert!(jobs.pool.cancel(waiting).is_some());
        assert!(jobs.pool.cancel(waiting).is_none());
        assert!(jobs.pool.cancel(running).is_none());
        drop(release);
        assert_eq!(jobs.told(), "next");
    }

    #[test]
    fn jobs_run_in_the_order_of_their_start() {
        let mut jobs = Jobs::new(1);
        let (_, release) = jobs.start_blocked();
        jobs.told();
        for number in 0..50 {
            jobs.start(move |told| told.send(number.to_string()).unwrap());
        }
        drop(release);
        for number in 0..50 {
            assert_eq!(jobs.told(), number.to_string());
        }
    }

    #[test]
    fn the_end_gives_back_what_has_not_begun_and_leaves_what_runs_too_long() {
        let mut jobs = Jobs::new(2);
        let (_, release) = jobs.start_blocked();
        jobs.told();
        let (_, quick) = jobs.start_blocked();
        jobs.told();
        jobs.start(|told| told.send("never".into()).unwrap());
        drop(quick);
        // The quick one may take the waiting one before the end comes.
        assert!(jobs.pool.close().len() <= 1);
        let start = Instant::now();
        assert_eq!(jobs.pool.wait(Duration::from_millis(30)), 1);
        assert!(start.elapsed() >= Duration::from_millis(30));
        drop(release);
    }

    #[test]
    fn a_panic_costs_no_thread() {
        let mut jobs = Jobs::new(1);
        for _ in 0..3 {
            jobs.start(|_| panic!("in a job"));
        }
        jobs.start(|told| told.send("alive".into()).unwrap());
        assert_eq!(jobs.told(), "alive");
        assert_eq!(jobs.pool.threads.len(), 1);
        jobs.pool.close();
        assert_eq!(jobs.pool.wait(ENDLESS), 0);
    }
}
