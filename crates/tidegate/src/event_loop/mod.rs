//! The event loop: its turn, and what is shared between it and its handles.

mod builder;
mod core;
mod counters;
mod failure;
mod handle;
mod registry;
mod remote;
mod todo;
mod user_code;

use crate::TransportId;
use crate::callback::Once;
use crate::completion::Completion;
use crate::driver::{Readiness, Token, WAKE};
use handle::Entered;
use std::fmt;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;
use todo::Todo;

pub(crate) use self::core::{AtEnd, Core, Grave, TurnTime};
pub(crate) use counters::add;
pub(crate) use failure::{PanicPayload, caught};
pub(crate) use registry::Source;

pub use builder::EventLoopBuilder;
pub use counters::Snapshot;
pub use failure::{Failure, PanicPolicy};
pub use handle::Handle;
pub use remote::{LoopClosed, RemoteHandle};

/// One read buffer serves every connection of the loop. It starts at a page: the kernel copies
/// large blocks much slower into memory that does not.
const READ_BUFFER: usize = 128 * 1024;
const PAGE: usize = 4096;

/// An event loop. It and everything it drives live on one thread; many cores are many loops.
///
/// # A turn
///
/// 1. Poll the operating system: until something happens or the next timer is due, not at all
///    when anything below is left to do.
/// 2. I/O callbacks: the events of this poll, then the reads and accepts that an earlier turn
///    left over.
/// 3. Due timers.
/// 4. Ready callbacks, calls from other threads among them; those that they schedule have to wait
///    for the next turn.
/// 5. One flush of the transports that were written to, or otherwise touched, from outside their
///    own callbacks.
///
/// Reads, accepts and writes of one source are bounded in a turn, so none starves another.
///
/// # The end
///
/// Dropping the loop ends every connection ([`CloseReason::Shutdown`](crate::CloseReason)),
/// fails every completion and drops every closure uncalled. No bytes are waited for: see
/// [`Server::shutdown`](crate::Server::shutdown). [Jobs](Handle::run_in_executor) that run have a
/// moment to end, see [`executor_grace`](EventLoopBuilder::executor_grace); their results are
/// dropped.
pub struct EventLoop {
    core: Rc<Core>,
    handle: Handle,
    /// Longer than [`READ_BUFFER`] by a page, to be aligned within.
    buffer: Vec<u8>,
    events: Vec<(Token, Readiness)>,
    /// Empty between turns; kept for their memory.
    leftover: Vec<TransportId>,
    dirty: Vec<TransportId>,
}

impl EventLoop {
    /// A loop with the default settings.
    ///
    /// # Errors
    ///
    /// Those of the system: it may be out of descriptors.
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// A loop with other settings.
    pub fn builder() -> EventLoopBuilder {
        EventLoopBuilder::default()
    }

    fn with_core(core: Rc<Core>) -> Self {
        Self {
            handle: Handle::new(core.clone()),
            core,
            buffer: vec![0; READ_BUFFER + PAGE],
            events: Vec::new(),
            leftover: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// The handle to this loop.
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
            self.turn(None)?;
            if self.core.take_stop() {
                return Ok(());
            }
        }
    }

    /// Runs until the completion is answered.
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
            if completion.is_known()
                && let Some(answer) = completion.take()
            {
                return answer;
            }
            self.turn(None)?;
            if self.core.take_stop() {
                return completion.take().unwrap_or_else(|| {
                    Err(io::Error::other(
                        "the event loop was stopped before the completion was answered",
                    ))
                });
            }
        }
    }

    /// Runs one turn, waiting at most for `timeout` for something to do; `None` waits as long as
    /// it takes.
    ///
    /// # Errors
    ///
    /// Those of polling the system.
    pub fn run_once(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let _entered = Entered::new(&self.core);
        self.turn(timeout)?;
        self.core.take_stop();
        Ok(())
    }

    /// How long the next turn would wait: nothing when there is work, `None` when only an event
    /// can wake it. For who runs several loops in one world.
    #[cfg(feature = "unstable-driver")]
    #[doc(hidden)]
    pub fn poll_timeout(&self) -> Option<Duration> {
        poll_timeout(&self.core, None)
    }

    #[inline]
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let core = self.core.clone();
        // 1.
        core.begin_tick();
        let timeout = poll_timeout(&core, wait);
        self.events.clear();
        core.with_driver(|driver| driver.poll(&mut self.events, timeout))?;
        core.set_turn_time(TurnTime::Unread);
        // 2.
        let woken = self.run_io(&core);
        // 3.
        self.run_timers(&core);
        // 4.
        if woken {
            for call in core.inbox.take() {
                core.push_ready(Once::new("call_soon_threadsafe", call));
            }
        }
        if core.todo.any(Todo::READY) {
            for _ in 0..core.ready_len() {
                if let Some(run) = core.pop_ready() {
                    run.run(&self.handle);
                }
            }
        }
        // 5.
        if core.todo.any(Todo::DIRTY) {
            core.swap_dirty(&mut self.dirty);
            for id in self.dirty.drain(..) {
                if let Some(Source::Connection(transport)) = core.source(id) {
                    transport.settle_dirty();
                }
            }
        }
        if core.todo.any(Todo::GRAVES) {
            core.empty_graveyard();
        }
        core.set_turn_time(TurnTime::NoTurn);
        if core.todo.any(Todo::PANIC)
            && let Some(payload) = core.take_panic()
        {
            resume_unwind(payload);
        }
        Ok(())
    }

    /// Answers whether another thread has left something.
    #[inline]
    fn run_io(&mut self, core: &Rc<Core>) -> bool {
        let aligned = self.buffer.as_ptr().align_offset(PAGE).min(PAGE);
        let buffer = &mut self.buffer[aligned..aligned + READ_BUFFER];
        let mut woken = false;
        let leftover = core.todo.any(Todo::LEFTOVER);
        if leftover {
            core.swap_leftover(&mut self.leftover);
        }
        add(&core.counters.events, self.events.len());
        for &(token, readiness) in &self.events {
            if token == WAKE {
                woken = true;
                continue;
            }
            match core.source(TransportId::from_token(token)) {
                Some(Source::Connection(transport)) => transport.on_event(readiness, buffer),
                Some(Source::Attempt(attempt)) => attempt.on_event(readiness, buffer),
                Some(Source::Listener(listener)) => listener.on_event(core),
                Some(Source::Lingering(socket)) => socket.on_event(core, readiness, buffer),
                None => add(&core.counters.stale_events, 1),
            }
        }
        if !leftover {
            return woken;
        }
        for id in self.leftover.drain(..) {
            match core.source(id) {
                Some(Source::Connection(transport)) => transport.read_leftover(buffer),
                Some(Source::Listener(listener)) => listener.accept(core),
                Some(Source::Lingering(socket)) => socket.discard(core, buffer),
                Some(Source::Attempt(_)) | None => {}
            }
        }
        woken
    }

    #[inline]
    fn run_timers(&self, core: &Rc<Core>) {
        if core.next_deadline().is_none() {
            return;
        }
        let now = core.clock();
        let created = core.timers_created();
        while let Some(run) = core.pop_due(now, created) {
            run.run(&self.handle);
        }
    }
}

#[inline]
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
        let ids = core.registry.borrow().ids();
        for id in ids {
            match core.source(id) {
                Some(Source::Connection(transport)) => transport.shut_down(),
                Some(Source::Listener(listener)) => listener.end(),
                Some(Source::Lingering(socket)) => socket.end(&core),
                // An attempt ends with its connect.
                Some(Source::Attempt(_)) | None => {}
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
