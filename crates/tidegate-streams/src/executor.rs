//! The tasks of one loop, and how they are woken.
//!
//! A task is run by the loop, from a callback of its own that takes what was ready when it began:
//! what becomes ready meanwhile waits for the next turn, after the loop has polled. So a task that
//! is always ready starves nobody. Only a task that waits for what a connection receives is run at
//! once, by that connection's callback.
//!
//! Wakers go everywhere. One that wakes on the loop's thread puts its task on the list of this
//! thread's executor; one on another thread leaves it in the [`Inbox`], from which the loop takes
//! it. A task may be run and dropped on its own thread only (async-task panics elsewhere): what
//! comes when the loop is gone waits in the inbox until this thread makes another executor or
//! ends, and what comes even later is leaked.

use crate::read_buffer::Spare;
use async_task::Runnable;
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, ThreadId};
use tidegate::{Callback, Handle, RemoteHandle};

/// Lists that were longer once are given back when they are empty.
const KEPT: usize = 1024;

/// Who need not wait does so nevertheless once in so many calls, so that a task that always finds
/// room lets the loop go on.
const WAITS_PER_TURN: u32 = 64;

thread_local! {
    /// So many times the task that runs had no need to wait since it has begun to run.
    static WAITS: Cell<u32> = const { Cell::new(0) };

    static LOCAL: RefCell<Local> = const {
        RefCell::new(Local { executors: Vec::new(), left: Vec::new() })
    };
}

/// Counts what need not wait, and says when the task should let the loop go on nevertheless.
#[inline]
pub(crate) fn is_turn_over() -> bool {
    let waits = WAITS.get() + 1;
    WAITS.set(waits % WAITS_PER_TURN);
    waits == WAITS_PER_TURN
}

fn run(task: Runnable) {
    WAITS.set(0);
    task.run();
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
            drop(inbox.end());
        }
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

    /// Gives the task back when its executor is not of this thread, or gone.
    fn push_here(&self, task: Runnable) -> Result<(), Runnable> {
        let mut task = Some(task);
        // It fails when the thread is ending.
        let closed = LOCAL.try_with(|local| {
            let local = local.borrow();
            let mut known = local.executors.iter();
            let executor = known.find(|known| known.number == self.executor)?;
            if executor.closed.get() {
                return Some(executor.clone());
            }
            executor.push(task.take()?);
            None
        });
        match (closed.ok().flatten(), task) {
            (Some(executor), Some(task)) => executor.discard(task),
            (None, Some(task)) => return Err(task),
            (_, None) => {}
        }
        Ok(())
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
    /// Within [`Executor::run_woken_by`]: the first task that was woken goes to `next`.
    attending: Cell<bool>,
    next: Cell<Option<Runnable>>,
    closed: Cell<bool>,
    /// Of the readers of this loop.
    spare_buffers: Rc<Spare>,
    /// Tasks of the loop that ended are being dropped.
    discarding: Cell<bool>,
}

/// Names an active task.
pub(crate) type TaskKey = usize;

impl Executor {
    /// The executor of a loop, made when first asked for; `None` when the loop is gone.
    pub(crate) fn of(handle: &Handle) -> Option<Rc<Self>> {
        match Self::find(|known| known.handle == *handle)? {
            Some(known) if known.closed.get() => None,
            Some(known) => Some(known),
            None => Self::make(handle),
        }
    }

    fn make(handle: &Handle) -> Option<Rc<Self>> {
        let left = LOCAL.try_with(|local| {
            let left = &mut local.borrow_mut().left;
            // One that only we know gets no task any more.
            left.retain(|inbox| Arc::strong_count(inbox) > 1);
            left.clone()
        });
        let left: Vec<_> = left.ok()?.iter().flat_map(|inbox| inbox.take()).collect();
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
            next: Cell::new(None),
            closed: Cell::new(false),
            spare_buffers: Rc::default(),
            discarding: Cell::new(false),
        });
        let known = executor.clone();
        LOCAL
            .try_with(|local| local.borrow_mut().executors.push(known))
            .ok()?;
        // The loop drops its callbacks when it ends, and at once when it is gone.
        let end = EndsWithLoop(executor.clone());
        let callback = handle.callback(move |_| end.0.run());
        if executor.closed.get() {
            return None;
        }
        executor.callback.get_or_init(|| callback);
        // Last: what these drop may spawn here.
        drop(left);
        Some(executor)
    }

    fn of_this_thread(number: u64) -> Option<Rc<Self>> {
        Self::find(|known| known.number == number).flatten()
    }

    /// Among those of this thread; `None` when the thread is ending.
    fn find(is_it: impl Fn(&Self) -> bool) -> Option<Option<Rc<Self>>> {
        let found = LOCAL.try_with(|local| {
            let local = local.borrow();
            local.executors.iter().find(|known| is_it(known)).cloned()
        });
        found.ok()
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn spare_buffers(&self) -> Rc<Spare> {
        self.spare_buffers.clone()
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
        let mut active = self.active.borrow_mut();
        let gone = active.try_remove(key);
        if active.is_empty() && active.capacity() > KEPT {
            *active = Slab::new();
        }
        drop(active);
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

    #[inline]
    fn push(&self, task: Runnable) {
        if self.attending.get() {
            match self.next.take() {
                None => self.next.set(Some(task)),
                Some(first) => {
                    self.next.set(Some(first));
                    self.push_ready(task);
                }
            }
        } else if self.closed.get() {
            self.discard(task);
        } else {
            self.push_ready(task);
        }
    }

    fn push_ready(&self, task: Runnable) {
        let mut ready = self.ready.borrow_mut();
        ready.push_back(task);
        // Whoever put the one before has scheduled us.
        if ready.len() == 1 {
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
        woken.into_iter().for_each(|task| self.push(task));
    }

    /// Drops a task of a loop that ended. That may wake others, which wait for their turn: a long
    /// chain of tasks that join each other must not fill the stack.
    fn discard(&self, task: Runnable) {
        self.ready.borrow_mut().push_back(task);
        if self.discarding.replace(true) {
            return;
        }
        loop {
            let task = self.ready.borrow_mut().pop_front();
            match task {
                Some(task) => drop(task),
                None => break,
            }
        }
        self.discarding.set(false);
    }

    /// Runs the task that a call wakes right after it, and not later in the turn. Done within a
    /// callback of a connection, this has its task write as the callback itself would: what it
    /// writes is gathered and sent when the callback returns. It saves more than half of what a
    /// message costs beyond the same callback protocol. What was ready before stays for its turn, or
    /// it would run once for each connection that has data.
    pub(crate) fn run_woken_by(&self, call: impl FnOnce()) {
        if self.attending.replace(true) {
            call();
            return;
        }
        let attention = Attention(self);
        call();
        // What is woken from here on waits for its turn.
        self.attending.set(false);
        if let Some(task) = self.next.take() {
            run(task);
        }
        drop(attention);
    }

    /// Runs what is ready now.
    fn run(&self) {
        let rest = Rest(self);
        let now_ready = self.ready.borrow().len();
        for _ in 0..now_ready {
            let task = self.ready.borrow_mut().pop_front();
            match task {
                Some(task) => run(task),
                None => break,
            }
        }
        drop(rest);
    }

    /// Drops every task; later ones are refused.
    fn close(&self) {
        if self.closed.replace(true) {
            return;
        }
        let ready = self.ready.take();
        ready.into_iter().for_each(|task| self.discard(task));
        loop {
            // These are dropped by being scheduled; but one that another thread is waking just now
            // is on its way into the inbox.
            self.take_woken();
            let waiting: Vec<Waker> = {
                let active = self.active.borrow();
                active
                    .iter()
                    .map(|(_, active)| active.waker.clone())
                    .collect()
            };
            let before = waiting.len();
            waiting.into_iter().for_each(Waker::wake);
            if self.active.borrow().len() >= before {
                break;
            }
        }
    }

    /// The loop has ended. Until here the executor takes what it wakes.
    fn end(&self) {
        self.take_woken();
        let gone = LOCAL.try_with(|local| {
            let mut local = local.borrow_mut();
            local.left.push(self.inbox.clone());
            let mut known = local.executors.iter();
            let place = known.position(|known| known.number == self.number);
            place.map(|place| local.executors.swap_remove(place))
        });
        if gone.is_err() {
            drop(self.inbox.end());
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

/// Nothing in here panics, as far as we know; if it does, the others must not be left waiting.
struct Rest<'a>(&'a Executor);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        let mut ready = self.0.ready.borrow_mut();
        if !ready.is_empty() {
            drop(ready);
            self.0.schedule();
        } else if ready.capacity() > KEPT {
            *ready = VecDeque::new();
        }
    }
}

/// A call that panics must not keep the task that it woke.
struct Attention<'a>(&'a Executor);

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        self.0.attending.set(false);
        if let Some(task) = self.0.next.take() {
            self.0.push(task);
        }
    }
}

struct EndsWithLoop(Rc<Executor>);

impl Drop for EndsWithLoop {
    fn drop(&mut self) {
        self.0.close();
        self.0.end();
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
