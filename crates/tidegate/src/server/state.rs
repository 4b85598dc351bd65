//! What a server is between its calls: the listeners, the factory, and how many connections of it
//! there are.

use super::listener::Listener;
use super::options::refused;
use super::shutdown::{Shutdown, ShutdownReport};
use crate::completion::{Completer, Completion};
use crate::driver;
use crate::event_loop::{AtEnd, Core, Deferred, Failure};
use crate::flow::Watermarks;
use crate::transport::{NewConnection, Transport};
use crate::{Address, CloseReason, Closed, Handle, LoopClosed, Protocol};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Factory = Box<dyn FnMut() -> Box<dyn Protocol>>;

/// What a server listens on, and the limits of what it accepts.
pub(super) struct Bound {
    pub(super) listeners: Vec<driver::Listener>,
    pub(super) addrs: Vec<Address>,
    pub(super) marks: Watermarks,
}

pub(crate) struct ServerState {
    handle: Handle,
    addrs: Vec<Address>,
    backlog: u32,
    marks: Watermarks,
    stage: RefCell<Stage>,
    /// Taken out while it runs.
    factory: RefCell<Option<Factory>>,
    connections: Cell<usize>,
    lingering: Cell<usize>,
    waiters: RefCell<Vec<Completer<()>>>,
    shutdown: RefCell<Shutdown>,
}

enum Stage {
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
            backlog,
            marks: bound.marks,
            stage: RefCell::new(Stage::Bound(bound.listeners)),
            factory: RefCell::new(Some(factory)),
            connections: Cell::new(0),
            lingering: Cell::new(0),
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

    pub(super) fn connection_count(&self) -> usize {
        self.connections.get()
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
            match Listener::start(self, listener, self.backlog) {
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
        let core = self.handle.core();
        // Dropping a listener can log: the stage must not be borrowed then.
        let before = self.stage.replace(Stage::Closed);
        match before {
            Stage::Closed => return,
            // Closed by being dropped.
            Stage::Bound(listeners) => drop(listeners),
            Stage::Serving(listeners) => {
                for listener in listeners {
                    listener.close(core);
                }
            }
        }
        if let Some(factory) = self.factory.take() {
            core.defer_drop(Deferred::Value(Box::new(factory)));
        }
        self.check_done();
    }

    // Accepting.

    /// Makes a connection of an accepted socket.
    pub(super) fn accepted(self: &Rc<Self>, mut socket: driver::Socket, peer: Address) {
        let core = self.handle.core();
        let Some(protocol) = self.make_protocol() else {
            return;
        };
        socket.set_nodelay_at_start(&peer);
        let connection = NewConnection {
            socket,
            peer,
            protocol,
            accepted: true,
            marks: self.marks,
            server: Some(self.clone()),
        };
        self.connections.set(self.connections.get() + 1);
        match Transport::start(&self.handle, connection) {
            Ok(transport) => transport.settle(),
            Err(error) => {
                self.connections.set(self.connections.get() - 1);
                let reason = CloseReason::Io(Arc::new(error));
                core.report(Failure::new("taking an accepted connection", reason));
                self.check_done();
            }
        }
    }

    /// `None` when the factory panicked or closed the server.
    fn make_protocol(&self) -> Option<Box<dyn Protocol>> {
        let core = self.handle.core();
        let taken = self.factory.take();
        let mut factory = taken?;
        let protocol = core.guard("a server's factory", &mut factory);
        if matches!(*self.stage.borrow(), Stage::Closed) {
            core.defer_drop(Deferred::Value(Box::new(factory)));
            if let Some(protocol) = protocol {
                core.defer_drop(Deferred::Protocol(protocol));
            }
            return None;
        }
        self.factory.replace(Some(factory));
        protocol
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
    }

    pub(crate) fn connection_ended(&self, closed: &Closed) {
        self.connections.set(self.connections.get() - 1);
        self.shutdown.borrow_mut().count(closed);
        self.check_done();
    }

    pub(crate) fn lingering(&self, change: isize) {
        let now = self.lingering.get().wrapping_add_signed(change);
        self.lingering.set(now);
        if change < 0 {
            self.check_done();
        }
    }

    // The end.

    fn is_done(&self) -> bool {
        self.connections.get() == 0 && matches!(*self.stage.borrow(), Stage::Closed)
    }

    fn check_done(&self) {
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
        self.close();
        let (completer, completion) = Completion::pair(&self.handle);
        let server = Rc::downgrade(self);
        let timer = self.handle.core().after(grace, move |_| {
            if let Some(server) = server.upgrade() {
                // What was written since the last tick was not offered yet.
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

/// One that was never started is known to nobody else, and its factory may hold the server itself.
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
