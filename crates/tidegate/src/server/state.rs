//! The state of a server between its calls: the listeners, the factory, and the number of its
//! connections.

use super::accepting::Factory;
use super::backlog::Backlog;
use super::bind::refused;
use super::idle::Idle;
use super::limits::{Limits, PeerKey, Peers};
use super::listener::Listener;
use super::shutdown::{Shutdown, ShutdownReport};
use crate::completion::{Completer, Completion};
use crate::driver;
use crate::event_loop::{AtEnd, Core, Deferred};
use crate::flow::Watermarks;
use crate::log::LogLimit;
use crate::timeouts::Timeouts;
use crate::transport::Transport;
use crate::{Address, CloseReason, Closed, Handle, LingerLimits, LoopClosed};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

/// The listeners of a server, and the limits of its connections.
pub(super) struct Bound {
    pub(super) listeners: Vec<driver::Listener>,
    pub(super) addrs: Vec<Address>,
    pub(super) marks: Watermarks,
    pub(super) linger: LingerLimits,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
}

pub(crate) struct ServerState {
    handle: Handle,
    addrs: Vec<Address>,
    backlog_limit: u32,
    marks: Watermarks,
    linger: LingerLimits,
    pub(super) limits: Limits,
    timeouts: Timeouts,
    pub(super) idle: Idle,
    pub(super) stage: RefCell<Stage>,
    /// Taken out while it runs.
    pub(super) factory: RefCell<Option<Factory>>,
    /// The factory makes no protocols, but gives connections away.
    pub(super) gives_away: bool,
    /// A connection is being made.
    pub(super) making: Cell<bool>,
    pub(super) paused: Cell<bool>,
    pub(super) refused: Cell<u64>,
    pub(super) refusal_log: RefCell<LogLimit>,
    pub(super) unmade_log: RefCell<LogLimit>,
    pub(super) backlog: Backlog,
    /// Closed by taking the backlog.
    pub(super) finishing: Cell<bool>,
    connections: Cell<usize>,
    lingering: Cell<usize>,
    /// The listener that the next room is offered to first.
    pub(super) first: Cell<usize>,
    pub(super) peers: Peers,
    waiters: RefCell<Vec<Completer<()>>>,
    shutdown: RefCell<Shutdown>,
}

pub(super) enum Stage {
    /// Bound, not yet listening.
    Bound(Vec<driver::Listener>),
    Serving(Vec<Rc<Listener>>),
    Closed,
}

impl ServerState {
    pub(super) fn new(handle: &Handle, bound: Bound, backlog: u32, factory: Factory) -> Rc<Self> {
        Rc::new(Self {
            handle: handle.clone(),
            addrs: bound.addrs,
            backlog_limit: backlog,
            marks: bound.marks,
            linger: bound.linger,
            limits: bound.limits,
            timeouts: bound.timeouts,
            idle: Idle::new(bound.timeouts.idle),
            stage: RefCell::new(Stage::Bound(bound.listeners)),
            gives_away: factory.gives_away(),
            factory: RefCell::new(Some(factory)),
            making: Cell::new(false),
            paused: Cell::new(false),
            refused: Cell::new(0),
            refusal_log: RefCell::default(),
            unmade_log: RefCell::default(),
            backlog: Backlog::default(),
            finishing: Cell::new(false),
            connections: Cell::new(0),
            lingering: Cell::new(0),
            first: Cell::new(0),
            peers: Peers::default(),
            waiters: RefCell::default(),
            shutdown: RefCell::default(),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn addrs(&self) -> &[Address] {
        &self.addrs
    }

    pub(super) fn marks(&self) -> Watermarks {
        self.marks
    }

    pub(super) fn backlog_limit(&self) -> u32 {
        self.backlog_limit
    }

    pub(super) fn connection_count(&self) -> usize {
        self.connections.get() + self.backlog.len()
    }

    /// The number of sockets of the server: those that linger have no connection any more.
    pub(super) fn socket_count(&self) -> usize {
        self.connection_count() + self.lingering.get()
    }

    // Listening.

    pub(super) fn is_serving(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Serving(_))
    }

    pub(super) fn start_serving(self: &Rc<Self>) -> io::Result<()> {
        if self.handle.core().is_closed() {
            return Err(LoopClosed.into());
        }
        let bound = match &mut *self.stage.borrow_mut() {
            Stage::Serving(_) => return Ok(()),
            Stage::Bound(bound) => mem::take(bound),
            Stage::Closed => {
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "the server was closed: create another one",
                ));
            }
        };
        let mut listeners = Vec::new();
        let mut failed = None;
        for (listener, addr) in bound.into_iter().zip(&self.addrs) {
            match Listener::start(self, listener, self.backlog_limit) {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    failed = Some(refused(addr, &error));
                    break;
                }
            }
        }
        *self.stage.borrow_mut() = Stage::Serving(listeners);
        match failed {
            None => Ok(()),
            Some(error) => {
                self.close();
                Err(error)
            }
        }
    }

    pub(super) fn close(&self) {
        if self.stop_listening(|_| {}) {
            self.release_factory();
            self.check_done();
        }
    }

    /// Closes each listener, after `last` had it. Returns `false` when that was done before.
    pub(super) fn stop_listening(&self, mut last: impl FnMut(&Listener)) -> bool {
        let core = self.handle.core();
        // Dropping a listener can log: the stage must not be borrowed then.
        let before = self.stage.replace(Stage::Closed);
        match before {
            Stage::Closed => return false,
            // Closed by being dropped.
            Stage::Bound(listeners) => drop(listeners),
            Stage::Serving(listeners) => {
                for listener in listeners {
                    last(&listener);
                    listener.close(core);
                }
            }
        }
        true
    }

    // The factory.

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Closed)
    }

    /// Returns whether the server was closed without regard to connections that are being made.
    pub(super) fn was_closed(&self) -> bool {
        self.is_closed() && !self.finishing.get()
    }

    pub(super) fn is_done_with_factory(&self) -> bool {
        self.is_closed() && self.backlog.is_empty()
    }

    pub(super) fn release_factory(&self) {
        if self.is_done_with_factory()
            && let Some(factory) = self.factory.take()
        {
            let core = self.handle.core();
            core.defer_drop(Deferred::Value(Box::new(factory)));
        }
    }

    // Connections.

    fn clients(self: &Rc<Self>) -> Vec<Transport> {
        let registry = self.handle.core().registry.borrow();
        let own = registry.connections();
        own.filter(|transport| transport.belongs_to(self))
            .cloned()
            .collect()
    }

    pub(super) fn close_clients(self: &Rc<Self>) {
        for transport in self.clients() {
            transport.close();
        }
    }

    /// Ends everything that this server has accepted.
    pub(super) fn cut(self: &Rc<Self>, reason: CloseReason) {
        let lost = self.backlog.reset();
        self.shutdown.borrow_mut().count_never_begun(lost);
        for transport in self.clients() {
            transport.end(reason.clone());
        }
        let core = self.handle.core();
        let lingering: Vec<_> = core
            .registry
            .borrow()
            .others()
            .filter(|source| source.is_left_by(self))
            .cloned()
            .collect();
        for source in lingering {
            source.end(core);
        }
        self.check_done();
    }

    pub(super) fn connection_begins(self: &Rc<Self>, peer: &Address) {
        self.socket_of(self.key_of(peer));
        if self.connections.replace(self.connections.get() + 1) == 0 {
            self.start_sweeps();
        }
    }

    pub(super) fn connection_never_began(&self, peer: &Address) {
        self.count_down();
        self.socket_is_gone(self.key_of(peer));
    }

    pub(crate) fn connection_ended(&self, closed: &Closed, peer: &Address) {
        self.count_down();
        self.shutdown.borrow_mut().count(closed);
        self.socket_is_gone(self.key_of(peer));
        self.check_done();
    }

    fn count_down(&self) {
        self.connections.set(self.connections.get() - 1);
        if !self.has_begun() {
            self.stop_sweeps();
        }
    }

    /// Whether a connection has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.connections.get() > 0
    }

    /// The timeouts of connections that have none of their own.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn linger_limits(&self) -> LingerLimits {
        self.linger
    }

    /// Returns the argument of the [`linger_ends`](Self::linger_ends) to come.
    pub(crate) fn linger_begins(&self, peer: &Address) -> Option<PeerKey> {
        self.lingering.set(self.lingering.get() + 1);
        let key = self.key_of(peer);
        self.socket_of(key);
        key
    }

    pub(crate) fn linger_ends(&self, peer: Option<PeerKey>) {
        self.lingering.set(self.lingering.get() - 1);
        self.socket_is_gone(peer);
        self.check_done();
    }

    // The end.

    fn is_done(&self) -> bool {
        self.connection_count() == 0 && self.is_closed() && !self.making.get()
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.borrow().is_under_way()
    }

    pub(super) fn count_from_backlog(&self) {
        self.shutdown.borrow_mut().count_from_backlog();
    }

    pub(super) fn check_done(&self) {
        if !self.is_done() {
            return;
        }
        for waiting in self.waiters.take() {
            waiting.complete(Ok(()));
        }
        if self.lingering.get() == 0 && self.shutdown.borrow().is_under_way() {
            let shutdown = self.shutdown.take();
            shutdown.conclude(self.handle.core());
        }
    }

    pub(super) fn wait_closed(&self) -> Completion<()> {
        if self.is_done() {
            return Completion::ready(&self.handle, Ok(()));
        }
        let (completer, completion) = Completion::pair(&self.handle);
        let mut waiters = self.waiters.borrow_mut();
        waiters.retain(|waiting| !waiting.is_cancelled());
        waiters.push(completer);
        completion
    }

    pub(super) fn shut_down(self: &Rc<Self>, grace: Duration) -> Completion<ShutdownReport> {
        drop(self.finish_accepting());
        let (completer, completion) = Completion::pair(&self.handle);
        let server = Rc::downgrade(self);
        let timer = self.handle.core().after(grace, move |_| {
            if let Some(server) = server.upgrade() {
                server.serve_backlog();
                // Bytes written since the last tick were not offered yet.
                for transport in server.clients() {
                    transport.settle();
                }
                server.cut(CloseReason::Shutdown);
            }
        });
        self.shutdown.borrow_mut().begin(timer, completer);
        self.close_clients();
        self.check_done();
        completion
    }
}

/// The registry does not know a server that was never started, and its factory may hold the server itself.
impl AtEnd for ServerState {
    fn end(&self, _: &Core) {
        self.close();
    }
}

impl Drop for ServerState {
    fn drop(&mut self) {
        self.handle.core().holder_dropped();
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}
