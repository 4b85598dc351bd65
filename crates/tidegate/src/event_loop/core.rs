//! The state that the loop, its handles and its transports share. Borrows in here end before any code of
//! the user runs.

use super::account::Account;
use super::counters::{Counters, LoopStats, add};
use super::deferred::Deferred;
use super::failure::{Failure, PanicPolicy};
use super::holders::Holders;
use super::registry::{Registry, Slot};
use super::remote::Inbox;
use super::source::Source;
use super::spare::Spare;
use super::todo::{Todo, TodoCell};
use crate::callback::{Once, Run};
use crate::completion::Work;
use crate::connect::{ConnectId, Connecting, Connects};
use crate::driver::{AnyDriver, Datagrams, Listener, Socket};
use crate::jobs::Jobs;
use crate::log::LogLimit;
use crate::memory::trim_queue;
use crate::panics::{PanicPayload, discard};
use crate::relay::Routes;
use crate::resolve::Resolver;
use crate::timers::{TimerId, Timers};
use crate::transport::Transport;
use crate::write_buffer::MAX_OFFER;
use crate::{DatagramTransport, Handle, TransportId};
use std::any::TypeId;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of bytes of small writes that are gathered while a callback runs. Sending them
/// costs a transport no more of its budget than any system call does.
pub(crate) const MAX_GATHERED: usize = MAX_OFFER / 16;

pub(super) type ErrorHandler = Box<dyn FnMut(&Handle, &Failure)>;

/// The time of the running tick, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TickTime {
    NoTick,
    Unread,
    Read(Instant),
}

pub(crate) struct Core {
    pub(super) this: Weak<Core>,
    driver: RefCell<AnyDriver>,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) connects: RefCell<Connects>,
    pub(crate) routes: RefCell<Routes>,
    timers: RefCell<Timers<Rc<dyn Run>>>,
    ready: RefCell<VecDeque<Rc<dyn Run>>>,
    /// Transports to settle before the loop can sleep.
    dirty: RefCell<Vec<TransportId>>,
    /// Sources with reads or accepts left over.
    leftover: RefCell<Vec<TransportId>>,
    pub(super) deferred: RefCell<Vec<Deferred>>,
    pub(super) holders: Holders,
    completions: Cell<usize>,
    pub(crate) jobs: RefCell<Jobs>,
    /// Gone when the loop is.
    resolver: RefCell<Option<Resolver>>,
    pub(crate) inbox: Arc<Inbox>,
    pub(super) error_handler: RefCell<Option<ErrorHandler>>,
    pub(super) failure_log: RefCell<LogLimit>,

    /// Small writes of the callback that is running. It does not grow.
    pub(crate) gather: RefCell<Vec<u8>>,
    /// Of the read that has just failed.
    pub(crate) read_error: Cell<Option<io::Error>>,
    /// The callback of a read that is running, if another than `data_received`. Set for the log of slow
    /// callbacks, or when it has failed.
    pub(crate) read_callback: Cell<Option<&'static str>>,
    /// The endpoint whose `batch_received` is running, and the type of its protocol.
    pub(crate) batch_of: Cell<Option<(TransportId, TypeId)>>,
    pub(super) spare: Spare,

    /// The source of this loop's signals, while there is one.
    #[cfg(feature = "signal")]
    pub(crate) signals: RefCell<Option<Rc<crate::signal::SignalSource>>>,

    pub(crate) account: Account,
    pub(crate) counters: Counters,
    tick: Cell<u32>,
    now: Cell<TickTime>,
    pub(super) todo: TodoCell,
    /// Memory and clock of layered sockets; there since the first one.
    layers: OnceCell<Rc<crate::layer::Shared>>,
    closed: Cell<bool>,
    /// Everything of the user's was dropped; later values are dropped at once.
    pub(super) gone: Cell<bool>,
    pub(super) panic_policy: PanicPolicy,
    pub(super) parked_panic: Cell<Option<PanicPayload>>,
    pub(super) slow_callback: Option<Duration>,
    /// When the callback that is running began, with `slow_callback`.
    pub(super) callback_began: Cell<Option<Instant>>,
}

impl Core {
    pub(crate) fn new(
        driver: AnyDriver,
        panic_policy: PanicPolicy,
        slow_callback: Option<Duration>,
        resolver: Resolver,
        write_budget: Option<usize>,
    ) -> Rc<Self> {
        let inbox = Arc::new(Inbox::new(driver.waker()));
        Rc::new_cyclic(|this| Self {
            this: this.clone(),
            driver: RefCell::new(driver),
            registry: RefCell::default(),
            connects: RefCell::default(),
            routes: RefCell::default(),
            timers: RefCell::new(Timers::new()),
            ready: RefCell::default(),
            dirty: RefCell::default(),
            leftover: RefCell::default(),
            deferred: RefCell::default(),
            holders: Holders::default(),
            completions: Cell::new(0),
            jobs: RefCell::default(),
            resolver: RefCell::new(Some(resolver)),
            inbox,
            error_handler: RefCell::default(),
            failure_log: RefCell::default(),
            gather: RefCell::new(Vec::with_capacity(MAX_GATHERED)),
            read_error: Cell::new(None),
            read_callback: Cell::new(None),
            batch_of: Cell::new(None),
            spare: Spare::default(),
            #[cfg(feature = "signal")]
            signals: RefCell::default(),
            account: Account::new(write_budget),
            counters: Counters::default(),
            tick: Cell::new(0),
            now: Cell::new(TickTime::NoTick),
            todo: TodoCell::default(),
            layers: OnceCell::new(),
            closed: Cell::new(false),
            gone: Cell::new(false),
            panic_policy,
            parked_panic: Cell::new(None),
            slow_callback,
            callback_began: Cell::new(None),
        })
    }

    /// Access to the operating system, for calls that run no user code.
    pub(crate) fn with_driver<R>(&self, call: impl FnOnce(&mut AnyDriver) -> R) -> R {
        call(&mut self.driver.borrow_mut())
    }

    /// Closes a stream that the driver knows. Its peer sees the end, and the loop no further event,
    /// also when a copy of the descriptor stays open elsewhere.
    pub(crate) fn close_stream(&self, socket: Socket) {
        let deregistered = self.driver.borrow().retire_stream(&socket);
        add(&self.counters.registrations, usize::from(deregistered));
        drop(socket);
    }

    /// Closes a socket of datagrams that the driver knows. A copy of the descriptor stays as it is.
    pub(crate) fn close_datagrams(&self, socket: Datagrams) {
        let deregistered = self.driver.borrow().retire_datagrams(&socket);
        add(&self.counters.registrations, usize::from(deregistered));
        // This may log, which is code of the user's.
        drop(socket);
    }

    /// Closes a listener that the driver knows, as [`close_stream`](Core::close_stream) does. The
    /// copy goes on listening.
    pub(crate) fn close_listener(&self, listener: Listener) {
        let deregistered = self.driver.borrow().retire_listener(&listener);
        add(&self.counters.registrations, usize::from(deregistered));
        // This may log, which is code of the user's.
        drop(listener);
    }

    // Time.

    /// The clock, read afresh.
    pub(crate) fn clock(&self) -> Instant {
        self.driver.borrow().now()
    }

    /// The time of this tick, read when first asked for. Between ticks, the clock.
    pub(crate) fn now(&self) -> Instant {
        match self.now.get() {
            TickTime::Read(now) => now,
            TickTime::Unread => {
                let now = self.clock();
                self.now.set(TickTime::Read(now));
                now
            }
            TickTime::NoTick => self.clock(),
        }
    }

    pub(crate) fn set_tick_time(&self, time: TickTime) {
        self.now.set(time);
    }

    pub(crate) fn tick(&self) -> u32 {
        self.tick.get()
    }

    pub(crate) fn begin_tick(&self) {
        self.tick.set(self.tick.get().wrapping_add(1));
        add(&self.counters.polls, 1);
    }

    // Timers. `None` is a deadline beyond the range of the clock: it never comes.

    pub(crate) fn start_timer(&self, deadline: Option<Instant>, run: Rc<dyn Run>) -> TimerId {
        self.todo.set(Todo::TIMERS);
        self.timers.borrow_mut().insert(deadline, run)
    }

    /// As [`start_timer`](Core::start_timer); it waits without a deadline when it has fired, until
    /// it is reset or cancelled.
    pub(crate) fn start_repeating_timer(
        &self,
        deadline: Option<Instant>,
        run: Rc<dyn Run>,
    ) -> TimerId {
        self.todo.set(Todo::TIMERS);
        self.timers.borrow_mut().insert_repeating(deadline, run)
    }

    /// Moves a deadline; returns whether the timer is there.
    pub(crate) fn reset_timer(&self, id: TimerId, deadline: Option<Instant>) -> bool {
        self.timers.borrow_mut().reset(id, deadline)
    }

    /// A timer of the library's own.
    pub(crate) fn after(&self, delay: Duration, call: impl FnOnce(&Handle) + 'static) -> TimerId {
        self.at(self.clock().checked_add(delay), call)
    }

    /// As [`after`](Core::after), at a time.
    pub(crate) fn at(
        &self,
        deadline: Option<Instant>,
        call: impl FnOnce(&Handle) + 'static,
    ) -> TimerId {
        self.start_timer(deadline, Once::new("a timer", call))
    }

    pub(crate) fn cancel_timer(&self, id: TimerId) {
        let run = self.timers.borrow_mut().cancel(id);
        if let Some(run) = run {
            self.defer_drop_call(&*run);
        }
    }

    /// A timer that a connection or another source owns was cancelled.
    pub(crate) fn forget_timer_of(&self, owner: TransportId, timer: TimerId) {
        if let Some(transport) = self.transport(owner) {
            transport.forget_timer(timer);
        } else if let Some(source) = self.other(owner) {
            source.forget_timer(timer);
        }
    }

    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if self.todo.any(Todo::TIMERS) {
            self.first_deadline()
        } else {
            None
        }
    }

    fn first_deadline(&self) -> Option<Instant> {
        let timers = self.timers.borrow();
        if timers.len() == 0 {
            self.todo.clear(Todo::TIMERS);
        }
        timers.next_deadline()
    }

    pub(crate) fn timers_started(&self) -> u64 {
        self.timers.borrow().started()
    }

    pub(crate) fn pop_due(&self, now: Instant, started: u64) -> Option<Rc<dyn Run>> {
        self.timers.borrow_mut().pop_due(now, started)
    }

    // The lists of work.

    pub(crate) fn push_ready(&self, run: Rc<dyn Run>) {
        if self.is_closed() {
            self.defer_drop_call(&*run);
            return;
        }
        self.todo.set(Todo::READY);
        self.ready.borrow_mut().push_back(run);
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(crate) fn pop_ready(&self) -> Option<Rc<dyn Run>> {
        let mut ready = self.ready.borrow_mut();
        let next = ready.pop_front();
        if ready.is_empty() {
            self.todo.clear(Todo::READY);
            trim_queue(&mut ready);
        }
        next
    }

    pub(crate) fn push_dirty(&self, id: TransportId) {
        self.todo.set(Todo::DIRTY);
        self.dirty.borrow_mut().push(id);
    }

    pub(crate) fn push_leftover(&self, id: TransportId) {
        self.todo.set(Todo::LEFTOVER);
        self.leftover.borrow_mut().push(id);
    }

    /// Swaps the list for an empty one, so that later additions wait for the next tick.
    pub(crate) fn swap_dirty(&self, list: &mut Vec<TransportId>) {
        self.todo.clear(Todo::DIRTY);
        mem::swap(&mut *self.dirty.borrow_mut(), list);
    }

    pub(crate) fn swap_leftover(&self, list: &mut Vec<TransportId>) {
        self.todo.clear(Todo::LEFTOVER);
        mem::swap(&mut *self.leftover.borrow_mut(), list);
    }

    pub(crate) fn stop(&self) {
        self.todo.set(Todo::STOP);
    }

    pub(crate) fn take_stop(&self) -> bool {
        self.todo.take(Todo::STOP)
    }

    // Sources.

    pub(super) fn slot(&self, id: TransportId) -> Option<Slot> {
        self.registry.borrow().get(id)
    }

    pub(crate) fn other(&self, id: TransportId) -> Option<Rc<dyn Source>> {
        self.registry.borrow().other(id).cloned()
    }

    pub(crate) fn transport(&self, id: TransportId) -> Option<Transport> {
        self.connection(id).filter(|transport| !transport.is_lost())
    }

    /// Returns the connection, also one that has ended and was not released yet.
    pub(super) fn connection(&self, id: TransportId) -> Option<Transport> {
        self.registry.borrow().connection(id).cloned()
    }

    /// Cancels work whose result is not awaited any more.
    pub(crate) fn cancel(&self, work: Work) {
        match work {
            Work::Job(id) => self.cancel_job(id),
            Work::Connect(id) => {
                if let Some(connecting) = self.connecting(id) {
                    connecting.cancel();
                }
            }
            #[cfg(feature = "signal")]
            Work::Signal(key) => {
                let source = self.signals.borrow().clone();
                if let Some(source) = source {
                    source.remove(key);
                }
            }
        }
    }

    pub(crate) fn connecting(&self, id: ConnectId) -> Option<Rc<Connecting>> {
        self.connects.borrow().get(id)
    }

    /// Returns what layered sockets share: memory, and the clock.
    pub(crate) fn layer_memory(&self) -> Rc<crate::layer::Shared> {
        let shared = self.layers.get_or_init(|| {
            let (core, last) = (self.this.clone(), self.clock());
            crate::layer::Shared::new(move || core.upgrade().map_or(last, |core| core.now()))
        });
        shared.clone()
    }

    pub(crate) fn datagrams(&self, id: TransportId) -> Option<DatagramTransport> {
        self.other(id)?.as_datagrams()
    }

    // Completions, and names.

    pub(crate) fn waiting(&self, change: isize) {
        self.completions
            .set(self.completions.get().wrapping_add_signed(change));
    }

    pub(crate) fn resolver(&self) -> Resolver {
        self.resolver.borrow().clone().unwrap_or_default()
    }

    // The end.

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether the loop has dropped everything of the user's that it held.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    pub(crate) fn close(&self) {
        self.closed.set(true);
        #[cfg(feature = "splice")]
        self.close_spare_pipes();
    }

    /// Has sources begin what takes a while at the end.
    pub(crate) fn begin_end(&self) {
        for source in self.registry.borrow().others() {
            source.begin_end();
        }
    }

    /// Drops, uncalled, everything of the user's that the loop still holds.
    pub(crate) fn drop_user_values(&self) {
        self.end_holders();
        for call in self.inbox.close() {
            self.drop_value(call);
        }
        self.close_jobs();
        let resolver = self.resolver.take();
        self.drop_value(resolver);
        let ready = self.ready.take();
        for run in ready {
            self.drop_value(run.take());
        }
        let timers = self.timers.borrow_mut().take_all();
        for run in timers {
            self.drop_value(run.take());
        }
        let handler = self.error_handler.take();
        self.drop_value(handler);
        // Bounded: values that a drop discards are dropped in the next round, but a drop that always
        // discards something must not hold us.
        for _ in 0..64 {
            self.drop_deferred();
        }
        self.wait_for_jobs();
        if let Some(payload) = self.take_panic() {
            discard(payload);
        }
        self.gone.set(true);
    }

    pub(crate) fn stats(&self) -> LoopStats {
        let mut stats = self.counters.stats();
        self.registry.borrow().count(&mut stats);
        stats.connecting = self.connects.borrow().len();
        stats.timers = self.timers.borrow().len();
        #[cfg(feature = "splice")]
        {
            stats.timers -= self.timers_of_pipes();
        }
        stats.completions = self.completions.get();
        stats.jobs = self.jobs.borrow().len();
        stats.buffered = self.account.used();
        if cfg!(debug_assertions) {
            self.check_account();
        }
        stats
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("closed", &self.closed.get())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
