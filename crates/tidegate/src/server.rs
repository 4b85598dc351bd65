//! Servers: listeners, a factory of protocols, and the connections that came of them.

use crate::accept::Listener;
use crate::completion::{Completer, Completion};
use crate::driver;
use crate::event_loop::{AtEnd, Core, Failure, Grave, Source};
use crate::flow::Watermarks;
use crate::listen::{ListenOptions, refused};
use crate::timers::TimerId;
use crate::transport::{NewConnection, Transport};
use crate::{Address, CloseReason, Closed, Handle, LoopClosed, Protocol, TransportId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

type Bound = (Vec<driver::Listener>, Vec<Address>, Watermarks);

type Factory = Box<dyn FnMut() -> Box<dyn Protocol>>;

/// A listening server. Dropping it does nothing: the loop keeps serving until
/// [`close`](Server::close). Clones name the same server.
#[derive(Clone)]
pub struct Server(Rc<ServerState>);

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
    Serving(Vec<TransportId>),
    Closed,
}

#[derive(Default)]
struct Shutdown {
    under_way: bool,
    timers: Vec<TimerId>,
    waiters: Vec<Completer<ShutdownReport>>,
    report: ShutdownReport,
}

/// What a [`Server::shutdown`] came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that ended within the grace.
    pub closed: usize,
    /// Connections that were cut at its end.
    pub aborted: usize,
    /// Bytes written to these connections that the kernel never got.
    pub unsent: u64,
}

impl Server {
    pub(crate) fn create(
        handle: &Handle,
        mut options: ListenOptions,
        factory: Factory,
    ) -> io::Result<Self> {
        let core = handle.core();
        let (bound, addrs, marks) = match Self::bind(core, &mut options) {
            Ok(bound) => bound,
            Err(error) => {
                core.bury(Grave::Value(Box::new(factory)));
                return Err(error);
            }
        };
        let server = Self(Rc::new(ServerState {
            handle: handle.clone(),
            addrs,
            backlog: options.backlog,
            marks,
            stage: RefCell::new(Stage::Bound(bound)),
            factory: RefCell::new(Some(factory)),
            connections: Cell::new(0),
            lingering: Cell::new(0),
            waiters: RefCell::default(),
            shutdown: RefCell::default(),
        }));
        let at_end: Weak<ServerState> = Rc::downgrade(&server.0);
        core.at_end(at_end);
        if options.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }

    fn bind(core: &Core, options: &mut ListenOptions) -> io::Result<Bound> {
        if core.is_closed() {
            return Err(LoopClosed.into());
        }
        let marks = options.write_limits.resolve()?;
        let bound = options.bind(core)?;
        let addrs = bound.iter().map(driver::Listener::local_addr);
        let addrs = addrs.collect::<io::Result<_>>()?;
        Ok((bound, addrs, marks))
    }

    /// The addresses that it listens on, with the port that was taken for port 0.
    pub fn local_addrs(&self) -> &[Address] {
        &self.0.addrs
    }

    /// The loop that drives it.
    #[doc(alias = "get_loop")]
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Whether it accepts connections.
    pub fn is_serving(&self) -> bool {
        matches!(*self.0.stage.borrow(), Stage::Serving(_))
    }

    /// Begins to listen, if it does not yet.
    ///
    /// # Errors
    ///
    /// Those of the system; [`NotConnected`](io::ErrorKind::NotConnected) when the server was
    /// closed; [`LoopClosed`].
    pub fn start_serving(&self) -> io::Result<()> {
        let state = &self.0;
        if state.handle.core().is_closed() {
            return Err(LoopClosed.into());
        }
        let bound = match &mut *state.stage.borrow_mut() {
            Stage::Serving(_) => return Ok(()),
            Stage::Bound(bound) => mem::take(bound),
            Stage::Closed => {
                return Err(io::Error::new(
                    io::ErrorKind::NotConnected,
                    "the server was closed: create another one",
                ));
            }
        };
        let mut ids = Vec::new();
        let mut failed = None;
        for (listener, addr) in bound.into_iter().zip(&state.addrs) {
            match Listener::start(state, listener, state.backlog) {
                Ok(id) => ids.push(id),
                Err(error) => {
                    failed = Some(refused(addr, &error));
                    break;
                }
            }
        }
        *state.stage.borrow_mut() = Stage::Serving(ids);
        match failed {
            None => Ok(()),
            Some(error) => {
                self.close();
                Err(error)
            }
        }
    }

    /// Stops listening. Connections stay. A socket file is removed if it is still ours.
    pub fn close(&self) {
        self.0.close();
    }

    /// [`close`](Transport::close)s every connection.
    pub fn close_clients(&self) {
        for transport in self.0.clients() {
            transport.close();
        }
    }

    /// [`abort`](Transport::abort)s every connection, and ends at once what lingers after a
    /// graceful close.
    pub fn abort_clients(&self) {
        self.0.cut(CloseReason::LocalAbort);
    }

    /// Connections whose `connection_lost` has not come yet.
    pub fn connection_count(&self) -> usize {
        self.0.connections.get()
    }

    /// Completes when the server is closed and has no connections left.
    pub fn wait_closed(&self) -> Completion<()> {
        let state = &self.0;
        if state.is_done() {
            return Completion::ready(&state.handle, Ok(()));
        }
        let (completer, completion) = Completion::pair(&state.handle);
        let mut waiters = state.waiters.borrow_mut();
        waiters.retain(|waiting| !waiting.is_cancelled());
        waiters.push(completer);
        completion
    }

    /// Stops listening, closes every connection gracefully, and ends with
    /// [`CloseReason::Shutdown`] those that are left when `grace` is over. Completes when all
    /// have ended, what lingers after a graceful close included, so that the process may exit
    /// then without a peer losing its last bytes. Of several calls the shortest grace holds.
    ///
    /// A connection that is cut looks to its peer as after [`abort`](Transport::abort). Ended from
    /// another thread, which may be one that waits for a signal:
    ///
    /// ```
    /// use std::{thread, time::Duration};
    /// # use tidegate::{EventLoop, Protocol, Result, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    /// #         transport.write(data)?;
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let server = event_loop.handle().create_server("127.0.0.1:0", || Echo)?;
    /// let remote = event_loop.handle().remote();
    /// thread::spawn(move || remote.stop());
    /// event_loop.run_forever()?;
    /// let report = event_loop.run_until(server.shutdown(Duration::from_secs(5)))?;
    /// assert_eq!((report.aborted, report.unsent), (0, 0));
    /// # Ok(()) }
    /// ```
    pub fn shutdown(&self, grace: Duration) -> Completion<ShutdownReport> {
        let state = &self.0;
        state.close();
        let (completer, completion) = Completion::pair(&state.handle);
        let server = Rc::downgrade(state);
        let timer = state.handle.core().after(grace, move |_| {
            if let Some(server) = server.upgrade() {
                // What was written since the last turn was not offered yet.
                for transport in server.clients() {
                    transport.settle();
                }
                server.cut(CloseReason::Shutdown);
            }
        });
        {
            let mut shutdown = state.shutdown.borrow_mut();
            shutdown.under_way = true;
            shutdown.timers.push(timer);
            shutdown.waiters.push(completer);
        }
        self.close_clients();
        state.check_done();
        completion
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.0.addrs)
            .field("serving", &self.is_serving())
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}

impl ServerState {
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn clients(self: &Rc<Self>) -> Vec<Transport> {
        let registry = self.handle.core().registry.borrow();
        let own = registry.iter().filter_map(|source| match source {
            Source::Connection(transport) if transport.belongs_to(self) => Some(transport.clone()),
            _ => None,
        });
        own.collect()
    }

    /// Ends everything that this server has accepted.
    fn cut(self: &Rc<Self>, reason: CloseReason) {
        for transport in self.clients() {
            transport.end(reason.clone());
        }
        let core = self.handle.core();
        let lingering: Vec<_> = core
            .registry
            .borrow()
            .iter()
            .filter_map(|source| match source {
                Source::Lingering(socket) if socket.belongs_to(self) => Some(socket.clone()),
                _ => None,
            })
            .collect();
        for socket in lingering {
            socket.end(core);
        }
    }

    pub(crate) fn close(&self) {
        let core = self.handle.core();
        // Dropping a listener can log: the stage must not be borrowed then.
        let before = self.stage.replace(Stage::Closed);
        match before {
            Stage::Closed => return,
            // Closed by being dropped.
            Stage::Bound(listeners) => drop(listeners),
            Stage::Serving(ids) => {
                for id in ids {
                    let listener = core.registry.borrow_mut().remove(id);
                    if let Some(Source::Listener(listener)) = listener {
                        listener.close(core);
                    }
                }
            }
        }
        if let Some(factory) = self.factory.take() {
            core.bury(Grave::Value(Box::new(factory)));
        }
        self.check_done();
    }

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
        if self.lingering.get() == 0 && self.shutdown.borrow().under_way {
            let shutdown = self.shutdown.take();
            for timer in shutdown.timers {
                self.handle.core().cancel_timer(timer);
            }
            for waiting in shutdown.waiters {
                waiting.complete(Ok(shutdown.report));
            }
        }
    }

    /// Makes a connection of an accepted socket.
    pub(crate) fn accepted(self: &Rc<Self>, mut socket: driver::Socket, peer: Address) {
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
            core.bury(Grave::Value(Box::new(factory)));
            if let Some(protocol) = protocol {
                core.bury(Grave::Protocol(protocol));
            }
            return None;
        }
        self.factory.replace(Some(factory));
        protocol
    }

    pub(crate) fn connection_ended(&self, closed: &Closed) {
        self.connections.set(self.connections.get() - 1);
        {
            let mut shutdown = self.shutdown.borrow_mut();
            if shutdown.under_way {
                let report = &mut shutdown.report;
                report.unsent += closed.unsent();
                if matches!(closed.reason(), CloseReason::Shutdown) {
                    report.aborted += 1;
                } else {
                    report.closed += 1;
                }
            }
        }
        self.check_done();
    }

    pub(crate) fn lingering(&self, change: isize) {
        let now = self.lingering.get().wrapping_add_signed(change);
        self.lingering.set(now);
        if change < 0 {
            self.check_done();
        }
    }
}

/// One that was never started is known to nobody else, and its factory may hold the server itself.
impl AtEnd for ServerState {
    fn end(&self, _: &Core) {
        self.close();
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}
