//! The tasks of one loop, and how they are woken.
//!
//! A task is run by the loop, from a callback of its own that takes what was ready when it began:
//! what becomes ready meanwhile waits for the next turn, after the loop has polled. So a task that
//! is always ready starves nobody.
//!
//! Wakers go everywhere. One that wakes on the loop's thread puts its task on the list of this
//! thread's executor; one on another thread leaves it in the [`Inbox`], from which the loop takes
//! it. A task may be run and dropped on its own thread only (async-task panics elsewhere): what
//! comes when the loop is gone waits in the inbox until this thread makes another executor or
//! ends, and what comes even later is leaked.

use async_task::Runnable;
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, ThreadId};
use tidegate::{Callback, Handle, RemoteHandle};

thread_local! {
    static LOCAL: RefCell<Local> = const {
        RefCell::new(Local { executors: Vec::new(), left: Vec::new() })
    };
}

/// Executors that were made, in all threads.
static MADE: AtomicU64 = AtomicU64::new(0);

/// The executors of a thread.
struct Local {
    /// Until their loops end.
    executors: Vec<Rc<Executor>>,
    /// The inboxes of loops that are gone, while a task or a waker knows them.
    left: Vec<Arc<Inbox>>,
}

impl Drop for Local {
    fn drop(&mut self) {
        for inbox in mem::take(&mut self.left) {
            discard(inbox.end());
        }
    }
}

/// Drops tasks on their own thread. Drops of the user's may panic.
fn discard(tasks: Vec<Runnable>) {
    for task in tasks {
        mem::forget(catch_unwind(AssertUnwindSafe(|| drop(task))));
    }
}

/// What wakers on other threads have left.
struct Inbox {
    executor: u64,
    thread: ThreadId,
    remote: RemoteHandle,
    /// `None` when the thread has ended.
    tasks: Mutex<Option<Vec<Runnable>>>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Runnable>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From any thread.
    fn schedule(&self, task: Runnable) {
        let Err(task) = self.push_here(task) else {
            return;
        };
        if thread::current().id() == self.thread {
            // Its loop is gone.
            drop(task);
            return;
        }
        let mut tasks = self.lock();
        let Some(waiting) = tasks.as_mut() else {
            drop(tasks);
            mem::forget(task);
            return;
        };
        let first = waiting.is_empty();
        waiting.push(task);
        drop(tasks);
        if first {
            let executor = self.executor;
            // Refused when the loop is gone; the tasks wait here for their thread.
            let _ = self.remote.call_soon_threadsafe(move |_| {
                if let Some(executor) = Executor::of_this_thread(executor) {
                    executor.take_woken();
                }
            });
        }
    }

    /// Gives the task back when its executor is not of this thread.
    fn push_here(&self, task: Runnable) -> Result<(), Runnable> {
        let mut task = Some(task);
        // It fails when the thread is ending.
        let _ = LOCAL.try_with(|local| {
            let local = local.borrow();
            let mut known = local.executors.iter();
            if let Some(executor) = known.find(|known| known.number == self.executor)
                && let Some(task) = task.take()
            {
                executor.push(task);
            }
        });
        task.map_or(Ok(()), Err)
    }

    fn take(&self) -> Vec<Runnable> {
        self.lock().as_mut().map(mem::take).unwrap_or_default()
    }

    fn end(&self) -> Vec<Runnable> {
        self.lock().take().unwrap_or_default()
    }
}

/// A task that has not ended.
struct Active {
    waker: Waker,
    aborted: bool,
}

pub(crate) struct Executor {
    number: u64,
    handle: Handle,
    inbox: Arc<Inbox>,
    ready: RefCell<VecDeque<Runnable>>,
    active: RefCell<Slab<Active>>,
    /// How many of them are aborted.
    aborted: Cell<usize>,
    callback: OnceCell<Callback>,
    /// What becomes ready now is run before [`Executor::run_woken_by`] returns.
    attending: Cell<bool>,
    closed: Cell<bool>,
}

/// Names an active task.
pub(crate) type TaskKey = usize;

impl Executor {
    /// The executor of a loop, made when first asked for; `None` when the loop is gone.
    pub(crate) fn of(handle: &Handle) -> Option<Rc<Self>> {
        let known = LOCAL.with(|local| {
            let local = local.borrow();
            let mut known = local.executors.iter();
            known.find(|known| known.handle == *handle).cloned()
        });
        known.or_else(|| Self::make(handle))
    }

    fn make(handle: &Handle) -> Option<Rc<Self>> {
        let left = LOCAL.with(|local| {
            let left = &mut local.borrow_mut().left;
            // One that only we know gets no task any more.
            left.retain(|inbox| Arc::strong_count(inbox) > 1);
            left.clone()
        });
        left.iter().for_each(|inbox| discard(inbox.take()));
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let executor = Rc::new(Self {
            number,
            handle: handle.clone(),
            inbox: Arc::new(Inbox {
                executor: number,
                thread: thread::current().id(),
                remote: handle.remote(),
                tasks: Mutex::new(Some(Vec::new())),
            }),
            ready: RefCell::default(),
            active: RefCell::default(),
            aborted: Cell::new(0),
            callback: OnceCell::new(),
            attending: Cell::new(false),
            closed: Cell::new(false),
        });
        LOCAL.with(|local| local.borrow_mut().executors.push(executor.clone()));
        // The loop drops its callbacks when it ends, and at once when it is gone.
        let end = EndsWithLoop(executor.clone());
        let callback = handle.callback(move |_| end.0.run());
        if executor.closed.get() {
            return None;
        }
        executor.callback.get_or_init(|| callback);
        Some(executor)
    }

    fn of_this_thread(number: u64) -> Option<Rc<Self>> {
        let found = LOCAL.try_with(|local| {
            let local = local.borrow();
            let mut known = local.executors.iter();
            known.find(|known| known.number == number).cloned()
        });
        found.ok().flatten()
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What schedules a task of this executor, from any thread.
    pub(crate) fn scheduler(&self) -> impl Fn(Runnable) + Send + Sync + 'static {
        let inbox = self.inbox.clone();
        move |task| inbox.schedule(task)
    }

    /// Notes a task that begins.
    pub(crate) fn enter(&self) -> TaskKey {
        self.active.borrow_mut().insert(Active {
            waker: Waker::noop().clone(),
            aborted: false,
        })
    }

    pub(crate) fn start(&self, key: TaskKey, task: Runnable) {
        if let Some(active) = self.active.borrow_mut().get_mut(key) {
            active.waker = task.waker();
        }
        self.push(task);
    }

    /// The task has ended, or was dropped.
    pub(crate) fn leave(&self, key: TaskKey) {
        let gone = self.active.borrow_mut().try_remove(key);
        if gone.as_ref().is_some_and(|gone| gone.aborted) {
            self.aborted.set(self.aborted.get() - 1);
        }
        drop(gone);
    }

    pub(crate) fn abort(&self, key: TaskKey) {
        let waker = match self.active.borrow_mut().get_mut(key) {
            Some(active) if !active.aborted => {
                active.aborted = true;
                self.aborted.set(self.aborted.get() + 1);
                active.waker.clone()
            }
            _ => return,
        };
        waker.wake();
    }

    pub(crate) fn is_aborted(&self, key: TaskKey) -> bool {
        self.aborted.get() > 0
            && self
                .active
                .borrow()
                .get(key)
                .is_none_or(|active| active.aborted)
    }

    fn push(&self, task: Runnable) {
        if self.closed.get() {
            drop(task);
            return;
        }
        let mut ready = self.ready.borrow_mut();
        ready.push_back(task);
        // Whoever put the one before has scheduled us.
        if ready.len() == 1 && !self.attending.get() {
            drop(ready);
            self.schedule();
        }
    }

    fn schedule(&self) {
        if let Some(callback) = self.callback.get() {
            callback.schedule();
        }
    }

    fn take_woken(&self) {
        let woken = self.inbox.take();
        self.ready.borrow_mut().extend(woken);
        self.schedule();
    }

    /// Runs what a call wakes right after it, and not later in the turn. Done within a callback of
    /// a connection, this has its task write as the callback itself would: what it writes is
    /// gathered and sent when the callback returns. It saves more than half of what a message costs
    /// beyond the same callback protocol.
    pub(crate) fn run_woken_by(&self, call: impl FnOnce()) {
        if self.attending.replace(true) {
            call();
            return;
        }
        let rest = Rest(self);
        call();
        self.run_ready();
        drop(rest);
    }

    /// Runs what is ready now.
    fn run(&self) {
        let rest = Rest(self);
        self.run_ready();
        drop(rest);
    }

    fn run_ready(&self) {
        let now_ready = self.ready.borrow().len();
        for _ in 0..now_ready {
            let task = self.ready.borrow_mut().pop_front();
            match task {
                Some(task) => task.run(),
                None => break,
            };
        }
    }

    /// The loop ends: every task is dropped.
    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let gone = LOCAL.try_with(|local| {
            let mut local = local.borrow_mut();
            local.left.push(self.inbox.clone());
            let place = local
                .executors
                .iter()
                .position(|known| known.number == self.number);
            place.map(|place| local.executors.swap_remove(place))
        });
        let ready = self.ready.take();
        discard(ready.into());
        discard(self.inbox.take());
        // A task that is scheduled now is dropped by that.
        loop {
            let waiting: Vec<Waker> = {
                let active = self.active.borrow();
                active
                    .iter()
                    .map(|(_, active)| active.waker.clone())
                    .collect()
            };
            let before = waiting.len();
            for waker in waiting {
                mem::forget(catch_unwind(AssertUnwindSafe(|| waker.wake())));
            }
            if self.active.borrow().len() >= before {
                break;
            }
        }
        drop(gone);
    }
}

/// Drops the tasks of a loop; later ones are refused.
pub(crate) fn close(handle: &Handle) {
    if let Some(executor) = Executor::of(handle) {
        executor.close();
    }
}

/// A drop of the user's that panics must not leave the others waiting.
struct Rest<'a>(&'a Executor);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.attending.set(false);
        if !self.0.ready.borrow().is_empty() {
            self.0.schedule();
        }
    }
}

struct EndsWithLoop(Rc<Executor>);

impl Drop for EndsWithLoop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("tasks", &self.active.borrow().len())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}
