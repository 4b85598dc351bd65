//! The tasks of one loop, and how they are woken.
//!
//! A task is run by the loop, from a callback of its own that takes what was ready when it began:
//! what becomes ready meanwhile waits for the next tick, after the loop has polled. So a task that
//! is always ready starves nobody. Only a task that waits for what a connection receives is run at
//! once, by that connection's callback.
//!
//! Wakers go everywhere, tasks stay on their thread: a waker knows its task by its place in the
//! executor. On the loop's thread it puts the task on the list of what is ready; on another one it
//! leaves itself in the [`Inbox`], from which the loop takes it. Tasks end with their loop, at the
//! latest: a waker that is left then wakes nobody.

use crate::read_buffer::Spare;
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use tidegate::{Callback, Handle, RemoteHandle};

/// The number of places up to which a list or a table of tasks never shrinks. A longer queue is cut
/// down when it is empty, a larger table when less than an eighth of it is used.
pub(crate) const KEPT: usize = 1024;

/// A task whose calls never have to wait yields once per this many calls, so that it cannot starve
/// the loop.
const CALLS_PER_YIELD: u32 = 64;

thread_local! {
    /// The number of calls until the running task yields.
    static CALLS_LEFT: Cell<u32> = const { Cell::new(CALLS_PER_YIELD) };

    /// The executors of this thread, until their loops end.
    static LOCAL: RefCell<Vec<Rc<Executor>>> = const { RefCell::new(Vec::new()) };
}

/// Counts a call that need not wait, and returns whether the running task has to yield.
#[inline]
pub(crate) fn must_yield() -> bool {
    let left = CALLS_LEFT.get() - 1;
    CALLS_LEFT.set(left);
    if left == 0 {
        CALLS_LEFT.set(CALLS_PER_YIELD);
    }
    left == 0
}

/// A task, as its executor and its wakers know it.
pub(crate) struct Task<W: ?Sized = dyn Work> {
    waker: Waker,
    /// The state that `waker` is made of.
    shared: Arc<TaskWaker>,
    pub(crate) work: W,
}

/// The work of a task.
pub(crate) trait Work {
    /// Runs it until it waits; returns whether it has ended. Does nothing when it had ended before.
    fn run(&self, context: &mut Context<'_>, handle: &Handle) -> bool;

    /// Drops what is left of it: its loop has ended.
    fn cut(&self);

    /// Returns what it is called in the log.
    fn name(&self) -> String;
}

impl<W: ?Sized> Task<W> {
    pub(crate) fn wake(&self) {
        self.shared.wake_by_ref();
    }

    pub(crate) fn is_woken_by(&self, waker: &Waker) -> bool {
        self.waker.will_wake(waker)
    }
}

/// The state that the wakers of a task share.
struct TaskWaker {
    /// The place of the task; another one may have it when this one has ended. Of its own thread:
    /// atomic only because wakers go everywhere.
    place: AtomicUsize,
    /// Since it was woken, until it runs; also when it has ended, so that it costs no more.
    woken: AtomicBool,
    inbox: Arc<Inbox>,
}

impl TaskWaker {
    #[inline]
    fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_here = Executor::with(&self.inbox, |executor| executor.wake(self));
        if is_here.is_none() {
            self.inbox.leave(self.clone());
        }
    }
}

/// Wakers that other threads have left.
struct Inbox {
    remote: RemoteHandle,
    /// `None` when the loop has ended.
    woken: Mutex<Option<Vec<Arc<TaskWaker>>>>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Arc<TaskWaker>>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From any thread.
    fn leave(self: &Arc<Self>, waker: Arc<TaskWaker>) {
        let mut woken = self.lock();
        let Some(waiting) = woken.as_mut() else {
            return;
        };
        let first = waiting.is_empty();
        waiting.push(waker);
        drop(woken);
        if first {
            let inbox = self.clone();
            // Refused when the loop is gone, and its tasks with it.
            let _ = self.remote.call_soon_threadsafe(move |_| {
                Executor::with(&inbox, Executor::take_woken);
            });
        }
    }

    fn take(&self) -> Vec<Arc<TaskWaker>> {
        self.lock().as_mut().map(mem::take).unwrap_or_default()
    }

    fn close(&self) {
        let left = self.lock().take();
        drop(left);
    }
}

pub(crate) struct Executor {
    handle: Handle,
    inbox: Arc<Inbox>,
    /// Those that have not ended.
    tasks: RefCell<Slab<Rc<Task>>>,
    ready: RefCell<VecDeque<Rc<Task>>>,
    callback: OnceCell<Callback>,
    /// The place of the task that runs, or has run last.
    running: Cell<usize>,
    closed: Cell<bool>,
    /// Slow callbacks are logged, and so are slow tasks.
    is_timed: bool,
    /// Of the readers of this loop.
    spare_buffers: Rc<Spare>,
}

impl Executor {
    /// The executor of a loop, made when first asked for; `None` when the loop is gone.
    pub(crate) fn of(handle: &Handle) -> Option<Rc<Self>> {
        let known = LOCAL.try_with(|local| {
            let local = local.borrow();
            let mut known = local.iter();
            known.find(|known| known.handle == *handle).cloned()
        });
        // It fails when the thread is ending.
        match known.ok()? {
            Some(known) if known.closed.get() => None,
            Some(known) => Some(known),
            None => Self::make(handle),
        }
    }

    fn make(handle: &Handle) -> Option<Rc<Self>> {
        let executor = Rc::new(Self {
            handle: handle.clone(),
            inbox: Arc::new(Inbox {
                remote: handle.remote(),
                woken: Mutex::new(Some(Vec::new())),
            }),
            tasks: RefCell::default(),
            ready: RefCell::default(),
            callback: OnceCell::new(),
            running: Cell::new(0),
            closed: Cell::new(false),
            is_timed: handle.slow_callback().is_some(),
            spare_buffers: Rc::default(),
        });
        let known = executor.clone();
        LOCAL
            .try_with(|local| local.borrow_mut().push(known))
            .ok()?;
        // The loop drops its callbacks when it ends, and at once when it is gone.
        let end = EndsWithLoop(executor.clone());
        let callback = handle.callback(move |_| end.0.run());
        if executor.closed.get() {
            return None;
        }
        executor.callback.get_or_init(|| callback);
        Some(executor)
    }

    /// Calls with the executor that an inbox is of, if it is of this thread. The call runs no code
    /// of users.
    #[inline]
    fn with(inbox: &Arc<Inbox>, call: impl FnOnce(&Self)) -> Option<()> {
        let found = LOCAL.try_with(|local| {
            let local = local.borrow();
            let mut known = local.iter();
            known
                .find(|known| Arc::ptr_eq(&known.inbox, inbox))
                .map(|known| call(known))
        });
        found.ok().flatten()
    }

    pub(crate) fn spare_buffers(&self) -> Rc<Spare> {
        self.spare_buffers.clone()
    }

    /// Makes a task and puts it at the end of the queue.
    pub(crate) fn start<W: Work + 'static>(&self, work: W) -> Rc<Task<W>> {
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.vacant_entry();
        let shared = Arc::new(TaskWaker {
            place: AtomicUsize::new(place.key()),
            woken: AtomicBool::new(true),
            inbox: self.inbox.clone(),
        });
        let task = Rc::new(Task {
            waker: shared.clone().into(),
            shared,
            work,
        });
        place.insert(task.clone());
        drop(tasks);
        self.push(task.clone());
        task
    }

    /// The task in this place has ended.
    #[cold]
    fn leave(&self, place: usize) {
        let mut tasks = self.tasks.borrow_mut();
        let gone = tasks.try_remove(place);
        if tasks.capacity() > KEPT && tasks.len() < tasks.capacity() / 8 {
            self.shrink(&mut tasks);
        }
        drop(tasks);
        drop(gone);
    }

    /// Gives back the memory of the tasks that have ended; the others move together.
    #[cold]
    fn shrink(&self, tasks: &mut Slab<Rc<Task>>) {
        let running = self.running.get();
        tasks.compact(|task, from, to| {
            task.shared.place.store(to, Ordering::Relaxed);
            if from == running {
                self.running.set(to);
            }
            true
        });
    }

    fn wake(&self, waker: &Arc<TaskWaker>) {
        let tasks = self.tasks.borrow();
        let known = tasks.get(waker.place());
        if let Some(task) = known.filter(|task| Arc::ptr_eq(&task.shared, waker)) {
            self.push(task.clone());
        }
    }

    fn push(&self, task: Rc<Task>) {
        let mut ready = self.ready.borrow_mut();
        ready.push_back(task);
        // Otherwise the push before has scheduled the callback.
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
        woken.iter().for_each(|waker| self.wake(waker));
    }

    /// Returns the running task, if this is its waker and not one that wraps it to poll a part of
    /// the task.
    pub(crate) fn task_of(&self, waker: &Waker) -> Option<Rc<Task>> {
        let tasks = self.tasks.borrow();
        let known = tasks.get(self.running.get());
        known.filter(|task| task.is_woken_by(waker)).cloned()
    }

    /// Runs a task that was not woken, now and not later in the tick.
    ///
    /// Within a callback of a connection the task writes as the callback itself would: its writes are
    /// gathered and sent when the callback returns. A task that was woken before stays in the queue,
    /// or it would run once for each connection that has data. The mark `woken` stays unset, so that
    /// a wake from another thread has the task run again.
    #[inline]
    pub(crate) fn run_at_once(&self, task: &Task) {
        if !task.shared.woken.load(Ordering::Relaxed) {
            self.run_task(task);
        }
    }

    /// Runs a task that was woken.
    #[inline]
    fn run_woken(&self, task: &Task) {
        // The task has to see the writes of a thread that has found it woken.
        task.shared.woken.swap(false, Ordering::AcqRel);
        self.run_task(task);
    }

    #[inline]
    fn run_task(&self, task: &Task) {
        CALLS_LEFT.set(CALLS_PER_YIELD);
        self.running.set(task.shared.place());
        let mut context = Context::from_waker(&task.waker);
        let ended = if self.is_timed {
            self.run_timed(task, &mut context)
        } else {
            task.work.run(&mut context, &self.handle)
        };
        if ended {
            task.shared.woken.store(true, Ordering::Release);
            self.leave(task.shared.place());
        }
    }

    /// Has the task's own name in the log, if it is slow.
    #[cold]
    fn run_timed(&self, task: &Task, context: &mut Context<'_>) -> bool {
        let run = || task.work.run(context, &self.handle);
        self.handle.timed_as(|| task.work.name(), run)
    }

    /// Runs what is ready now.
    fn run(&self) {
        let rest = Rest(self);
        let now_ready = self.ready.borrow().len();
        for _ in 0..now_ready {
            let task = self.ready.borrow_mut().pop_front();
            match task {
                Some(task) => self.run_woken(&task),
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
        drop(ready);
        // One after the other, so that a long chain of tasks that join each other does not fill the
        // stack.
        let tasks = self.tasks.take();
        tasks.iter().for_each(|(_, task)| task.work.cut());
    }

    /// The loop has ended.
    fn end(&self) {
        self.inbox.close();
        let gone = LOCAL.try_with(|local| {
            let mut local = local.borrow_mut();
            let mut known = local.iter();
            let place = known.position(|known| Arc::ptr_eq(&known.inbox, &self.inbox));
            place.map(|place| local.swap_remove(place))
        });
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
            ready.shrink_to(KEPT);
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
            .field("tasks", &self.tasks.borrow().len())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn_on;
    use std::future::poll_fn;
    use std::task::Poll;
    use std::thread;
    use tidegate::EventLoop;

    #[test]
    fn a_wake_up_that_the_end_of_the_loop_overtakes_is_dropped_with_its_task() {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let waker: Rc<Cell<Option<Waker>>> = Rc::default();
        let left = waker.clone();
        let task = spawn_on(&handle, async move {
            poll_fn(|context| {
                left.set(Some(context.waker().clone()));
                Poll::<()>::Pending
            })
            .await;
        });
        event_loop.run_once(None).unwrap();
        let inbox = Arc::downgrade(&Executor::of(&handle).unwrap().inbox);
        let waker = waker.take().unwrap();
        thread::spawn(move || waker.wake()).join().unwrap();
        drop((event_loop, handle, task));
        assert!(
            inbox.upgrade().is_none(),
            "the inbox and its waker keep each other"
        );
    }
}
