//! The event loop: its tick, and what is shared between it and its handles.

mod account;
mod builder;
mod core;
mod counters;
mod deferred;
mod failure;
mod handle;
mod holders;
mod registry;
mod remote;
mod source;
mod spare;
#[cfg(feature = "splice")]
mod spare_pipes;
mod todo;
mod user_code;

use crate::TransportId;
use crate::callback::Once;
use crate::completion::Completion;
use crate::driver::{Events, Readiness, Token, WAKE};
use crate::memory::trim;
use handle::Entered;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;
use todo::Todo;

pub(crate) use self::core::{Core, MAX_GATHERED, TickTime};
pub(crate) use crate::panics::PanicPayload;
pub(crate) use counters::add;
pub(crate) use deferred::Deferred;
pub(crate) use holders::AtEnd;
pub(crate) use registry::Slot;
pub(crate) use source::Source;

pub use builder::EventLoopBuilder;
pub use counters::LoopStats;
pub use failure::{Failure, PanicPolicy};
pub use handle::Handle;
pub use remote::{LoopClosed, RemoteHandle};

/// One read buffer serves every connection of the loop. It starts at a page: the kernel copies
/// large blocks much slower into memory that does not.
#[repr(C, align(4096))]
struct ReadBuffer([u8; READ_BUFFER]);

const READ_BUFFER: usize = 128 * 1024;

/// An event loop. It and everything it drives live on one thread; many cores are many loops.
///
/// # A tick
///
/// 1. Poll the operating system, until an event or the next timer. The poll does not wait when anything
///    below is left to do.
/// 2. I/O callbacks: the events of this poll, then the reads and accepts that an earlier tick
///    left over.
/// 3. Due timers.
/// 4. Ready callbacks, calls from other threads among them; those that they schedule have to wait
///    for the next tick.
/// 5. One flush of the transports that were written to, or otherwise touched, from outside their
///    own callbacks.
///
/// Reads, accepts and writes of one source are bounded in a tick, so none starves another.
///
/// # The end
///
/// Dropping the loop ends every connection ([`CloseReason::Shutdown`](crate::CloseReason)),
/// fails every completion and drops every closure uncalled. It waits for no bytes: see
/// [`Server::shutdown`](crate::Server::shutdown). [Jobs](Handle::run_in_executor) that run have the
/// [`executor_grace`](EventLoopBuilder::executor_grace) to end; their results are dropped.
pub struct EventLoop {
    core: Rc<Core>,
    handle: Handle,
    buffer: Box<ReadBuffer>,
    events: Events,
    /// Empty between ticks; kept for their memory.
    leftover: Vec<TransportId>,
    dirty: Vec<TransportId>,
}

impl EventLoop {
    /// Makes a loop with the default settings.
    ///
    /// # Errors
    ///
    /// Those of the system: it may be out of descriptors.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// Returns a builder, for other settings.
    pub fn builder() -> EventLoopBuilder {
        EventLoopBuilder::default()
    }

    fn with_core(core: Rc<Core>) -> Self {
        Self {
            handle: Handle::new(core.clone()),
            buffer: Box::new(ReadBuffer([0; READ_BUFFER])),
            events: core.with_driver(|driver| driver.events()),
            core,
            leftover: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Returns the handle to this loop.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs until [`Handle::stop`].
    ///
    /// # Errors
    ///
    /// Those of polling the system, which do not happen to a healthy process.
    pub fn run_forever(&mut self) -> io::Result<()> {
        let _entered = Entered::new(&self.core);
        loop {
            self.tick(None)?;
            if self.core.take_stop() {
                return Ok(());
            }
        }
    }

    /// Runs until the completion completes, and returns its result.
    ///
    /// # Errors
    ///
    /// The completion's; an error that says so when the loop was stopped first;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a completion of another loop.
    #[doc(alias = "run_until_complete")]
    pub fn run_until<T: 'static>(&mut self, mut completion: Completion<T>) -> io::Result<T> {
        if !Rc::ptr_eq(completion.handle().core(), &self.core) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the completion belongs to another event loop",
            ));
        }
        let _entered = Entered::new(&self.core);
        loop {
            if completion.is_ready()
                && let Some(answer) = completion.take()
            {
                return answer;
            }
            self.tick(None)?;
            if self.core.take_stop() {
                return completion.take().unwrap_or_else(|| {
                    Err(io::Error::other(
                        "the event loop was stopped before the completion had its result",
                    ))
                });
            }
        }
    }

    /// Runs until the completion completes, for `limit` at the most. At the limit the completion is
    /// dropped, which cancels its work as [`Completion`] says; the loop can be run again.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// let (_completer, completion) = event_loop.handle().completion::<()>();
    /// let error = event_loop.run_until_within(completion, Duration::from_millis(5)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) at the limit; those of [`run_until`](Self::run_until).
    #[doc(alias = "wait_for")]
    pub fn run_until_within<T: 'static>(
        &mut self,
        completion: Completion<T>,
        limit: Duration,
    ) -> io::Result<T> {
        self.run_until(completion.within(limit))
    }

    /// Runs one tick, waiting at most for `timeout` for something to do; `None` waits as long as
    /// it takes.
    ///
    /// # Errors
    ///
    /// Those of polling the system.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let _entered = Entered::new(&self.core);
        self.tick(timeout)?;
        self.core.take_stop();
        Ok(())
    }

    /// Returns the time that the next tick would wait: none when there is work, `None` when only an event
    /// can wake it. For a driver of several loops in one world.
    #[cfg(feature = "unstable-driver")]
    #[doc(hidden)]
    pub fn poll_timeout(&self) -> Option<Duration> {
        poll_timeout(&self.core, None)
    }

    #[inline]
    fn tick(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let core = &*self.core;
        // 1.
        core.begin_tick();
        let timeout = poll_timeout(core, wait);
        core.with_driver(|driver| driver.poll(&mut self.events, timeout))?;
        core.set_tick_time(TickTime::Unread);
        // 2.
        self.run_io();
        // 3., 4., 5.
        if self.core.todo.any(Todo::AFTER_IO) {
            self.run_rest();
        }
        self.core.set_tick_time(TickTime::NoTick);
        if self.core.todo.any(Todo::PANIC)
            && let Some(payload) = self.core.take_panic()
        {
            resume_unwind(payload);
        }
        Ok(())
    }

    #[inline(always)]
    fn run_io(&mut self) {
        let core = &self.core;
        let buffer = &mut self.buffer.0[..];
        let leftover = core.todo.any(Todo::LEFTOVER);
        if leftover {
            core.swap_leftover(&mut self.leftover);
        }
        for (token, readiness) in self.events.iter() {
            add(&core.counters.events, 1);
            match core.connection(TransportId::from_token(token)) {
                Some(transport) => transport.on_event(readiness, buffer),
                None => on_other_event(core, token, readiness, buffer),
            }
        }
        if leftover {
            self.run_leftover();
        }
    }

    fn run_leftover(&mut self) {
        let core = &self.core;
        let buffer = &mut self.buffer.0[..];
        for id in self.leftover.drain(..) {
            if let Some(slot) = core.slot(id) {
                slot.on_leftover(core, buffer);
            }
        }
        trim(&mut self.leftover);
    }

    /// Runs the phases after the I/O callbacks.
    fn run_rest(&mut self) {
        let core = &self.core;
        // 3.
        if core.next_deadline().is_some() {
            let now = core.clock();
            let started = core.timers_started();
            while let Some(run) = core.pop_due(now, started) {
                run.run(&self.handle);
            }
        }
        // 4.
        if core.todo.take(Todo::WOKEN) {
            for call in core.inbox.take() {
                core.push_ready(Once::new("call_soon_threadsafe", call));
            }
        }
        for _ in 0..core.ready_len() {
            if let Some(run) = core.pop_ready() {
                run.run(&self.handle);
            }
        }
        // 5.
        core.swap_dirty(&mut self.dirty);
        for id in self.dirty.drain(..) {
            match core.connection(id) {
                Some(transport) => transport.settle_dirty(),
                None => {
                    if let Some(source) = core.other(id) {
                        source.on_dirty(core);
                    }
                }
            }
        }
        trim(&mut self.dirty);
        core.drop_deferred();
    }
}

/// An event of anything but a connection.
#[cold]
fn on_other_event(core: &Core, token: Token, readiness: Readiness, buffer: &mut [u8]) {
    if token == WAKE {
        core.todo.set(Todo::WOKEN);
        return;
    }
    match core.other(TransportId::from_token(token)) {
        Some(source) => source.on_event(core, readiness, buffer),
        None => add(&core.counters.stale_events, 1),
    }
}

#[inline(always)]
fn poll_timeout(core: &Core, wait: Option<Duration>) -> Option<Duration> {
    if core.todo.any(Todo::NOW) {
        return Some(Duration::ZERO);
    }
    let Some(deadline) = core.next_deadline() else {
        return wait;
    };
    let until = deadline.saturating_duration_since(core.clock());
    Some(wait.map_or(until, |wait| wait.min(until)))
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let core = self.core.clone();
        let _entered = Entered::new(&core);
        core.close();
        let connects = core.connects.borrow().all();
        for connecting in connects {
            connecting.end();
        }
        core.begin_end();
        let ids = core.registry.borrow().ids();
        let (first, rest): (Vec<_>, Vec<_>) = ids
            .into_iter()
            .partition(|id| core.other(*id).is_some_and(|source| source.ends_first()));
        for id in first.into_iter().chain(rest) {
            if let Some(slot) = core.slot(id) {
                slot.end(&core);
            }
        }
        core.drop_user_values();
        let rest = core.registry.take();
        drop(rest);
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventLoop").field(&self.core).finish()
    }
}
