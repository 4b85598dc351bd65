//! The accept path: from a listener's readiness to connections.

use super::backlog::Accepted;
use super::state::ServerState;
use crate::driver::{self, Readiness};
use crate::event_loop::{Core, LoopStats, Slot, Source, add};
use crate::log::guarded;
use crate::timers::TimerId;
use crate::{Address, TransportId};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Maximum number of connections that are accepted from one listener in a tick.
pub(super) const ACCEPTS_PER_TICK: usize = 64;

/// The time for which a listener rests when the system is out of descriptors or memory. mio reports
/// readiness once for each change, so nothing but this timer would ever ask again.
const REST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Listener {
    id: TransportId,
    /// Taken out to close it.
    socket: RefCell<Option<driver::Listener>>,
    server: Rc<ServerState>,
    /// Since an event, until the kernel said that nothing waits.
    ready: Cell<bool>,
    /// On the list of what the next tick goes on with.
    owed: Cell<bool>,
    /// Resting until this fires.
    rest: Cell<Option<TimerId>>,
    /// Since the first refusal, until the backlog was served.
    starved: Cell<bool>,
}

impl Listener {
    pub(super) fn start(
        server: &Rc<ServerState>,
        socket: driver::Listener,
        backlog: u32,
    ) -> io::Result<Rc<Self>> {
        let core = server.handle().core();
        let listener = core.registry.borrow_mut().insert(Slot::other, |id| {
            Rc::new(Self {
                id,
                socket: RefCell::new(Some(socket)),
                server: server.clone(),
                ready: Cell::new(false),
                owed: Cell::new(false),
                rest: Cell::new(None),
                starved: Cell::new(false),
            })
        });
        add(&core.counters.registrations, 1);
        let result = match listener.socket.borrow_mut().as_mut() {
            Some(socket) => core.with_driver(|driver| {
                let token = listener.id.token();
                driver.as_dyn().listen(socket, backlog, token)
            }),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if result.is_err() {
            let gone = core.registry.borrow_mut().remove(listener.id);
            drop(gone);
        }
        result.map(|()| listener)
    }

    /// Accepts waiting connections, as many as one listener gets in a tick.
    fn accept(self: &Rc<Self>, core: &Core) {
        self.owed.set(false);
        for _ in 0..ACCEPTS_PER_TICK {
            if self.server.is_paused() || self.server.is_full() || self.is_closed() {
                return;
            }
            match self.take(core) {
                Ok(Some((socket, peer))) => {
                    self.server.accepted(socket, peer);
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.set(false);
                    if self.starved.replace(false) {
                        let addr = self.addr();
                        guarded(|| {
                            log::info!(target: "tidegate::server", "{addr}: accepting again");
                        });
                    }
                    return;
                }
                Err(error) => {
                    self.rest(core, &error);
                    return;
                }
            }
        }
        if !self.owed.replace(true) {
            core.push_leftover(self.id);
        }
    }

    /// Takes one connection from the kernel; `None` for one that has failed already.
    pub(super) fn take(&self, core: &Core) -> io::Result<Option<Accepted>> {
        add(&core.counters.accepts, 1);
        let accepted = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.accept(),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        match accepted {
            Err(error) if is_of_the_connection(&error) => Ok(None),
            accepted => accepted.map(Some),
        }
    }

    /// Has the next tick accept connections that came while accepting was paused, or the server was full.
    /// Nothing else would: an event is reported once.
    pub(super) fn accept_later(&self, core: &Core) {
        let waits = self.ready.get() && self.rest.get().is_none();
        if waits && !self.owed.replace(true) {
            core.push_leftover(self.id);
        }
    }

    fn is_closed(&self) -> bool {
        self.socket.borrow().is_none()
    }

    /// Returns its address, for the log.
    pub(super) fn addr(&self) -> Address {
        let socket = self.socket.borrow();
        let addr = socket.as_ref().and_then(|socket| socket.local_addr().ok());
        addr.unwrap_or(Address::Unnamed)
    }

    /// The system is out of something: the connections wait in the backlog meanwhile.
    fn rest(self: &Rc<Self>, core: &Core, error: &io::Error) {
        if !self.starved.replace(true) {
            let addr = self.addr();
            guarded(|| {
                log::warn!(
                    target: "tidegate::server",
                    "{addr}: cannot accept, trying again every {REST:?}: {error}"
                );
            });
        }
        let listener = Rc::downgrade(self);
        let timer = core.after(REST, move |handle| {
            if let Some(listener) = listener.upgrade() {
                listener.rest.set(None);
                listener.accept(handle.core());
            }
        });
        self.rest.set(Some(timer));
    }

    /// Closes the descriptor, and lets go of the slot.
    pub(super) fn close(&self, core: &Core) {
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        if let Some(timer) = self.rest.take() {
            core.cancel_timer(timer);
        }
        let socket = self.socket.take();
        if let Some(socket) = socket {
            core.close_listener(socket);
        }
    }
}

impl Source for Listener {
    fn on_event(self: Rc<Self>, core: &Core, _: Readiness, _: &mut [u8]) {
        self.ready.set(true);
        // Accepts that are owed come in this tick as well, and one source gets one share of it.
        if self.rest.get().is_none() && !self.owed.get() {
            self.accept(core);
        }
    }

    fn on_leftover(self: Rc<Self>, core: &Core, _: &mut [u8]) {
        self.accept(core);
    }

    /// A listener ends with its server.
    fn end(self: Rc<Self>, _: &Core) {
        self.server.close();
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.listeners += 1;
    }
}

/// Returns whether an error of accept(2) belongs to the connection that it would have returned: the next
/// one may be fine.
fn is_of_the_connection(error: &io::Error) -> bool {
    let of_the_network = [
        libc::ECONNABORTED,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
        libc::EPERM,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| of_the_network.contains(&code))
        || error.kind() == io::ErrorKind::ConnectionAborted
}
