//! One socket on its way to one address.

use super::Connecting;
use crate::driver::{Readiness, Socket};
use crate::event_loop::{Core, LoopStats, Slot, Source, add};
use crate::timers::TimerId;
use crate::{Address, TransportId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// The time between two connects while the backlog of a Unix listener is full: connect(2) fails with
/// EAGAIN, and no event announces room.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

pub(crate) struct Attempt {
    id: TransportId,
    address: Address,
    connecting: Rc<Connecting>,
    socket: RefCell<Option<Socket>>,
    retry: Cell<Option<TimerId>>,
}

impl Attempt {
    pub(super) fn start(connecting: &Rc<Connecting>, address: Address) -> io::Result<Rc<Self>> {
        let core = connecting.core();
        if let Some(guide) = connecting.guide() {
            guide.check(core, &address)?;
        }
        let mut registry = core.registry.borrow_mut();
        let attempt = registry.insert(Slot::other, |id| {
            Rc::new(Self {
                id,
                address,
                connecting: connecting.clone(),
                socket: RefCell::new(None),
                retry: Cell::new(None),
            })
        });
        drop(registry);
        match attempt.connect() {
            Ok(()) => Ok(attempt),
            Err(error) => {
                attempt.close();
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> TransportId {
        self.id
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    fn core(&self) -> &Rc<Core> {
        self.connecting.core()
    }

    fn connect(self: &Rc<Self>) -> io::Result<()> {
        let core = self.core();
        let from = self.connecting.local_addr();
        let prepared = self.connecting.prepare(&self.address)?;
        let connected = core.with_driver(|driver| {
            let mut socket = driver.connect(&self.address, from, prepared)?;
            driver.as_dyn().register(&mut socket, self.id.token())?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => {
                add(&core.counters.registrations, 1);
                if let Some(guide) = self.connecting.guide()
                    && let Ok(from) = socket.local_addr()
                {
                    guide.begun(core, &from, &self.address);
                }
                self.socket.replace(Some(socket));
                Ok(())
            }
            Err(error) if is_full_backlog(&error, &self.address) => {
                self.retry_later();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn retry_later(self: &Rc<Self>) {
        let attempt = Rc::downgrade(self);
        let timer = self.core().after(BACKLOG_RETRY, move |_| {
            if let Some(attempt) = attempt.upgrade() {
                attempt.retry.set(None);
                if let Err(error) = attempt.connect() {
                    attempt.connecting.attempt_failed(&attempt, error);
                }
            }
        });
        self.retry.set(Some(timer));
    }

    /// Closes the socket, and forgets the attempt.
    pub(super) fn close(&self) {
        let core = self.core();
        if let Some(timer) = self.retry.take() {
            core.cancel_timer(timer);
        }
        let socket = self.socket.take();
        if let Some(socket) = socket {
            core.close_stream(socket);
        }
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
    }
}

impl Source for Attempt {
    fn on_event(self: Rc<Self>, _: &Core, readiness: Readiness, buffer: &mut [u8]) {
        if !readiness.is_writable() && !readiness.is_failed() {
            return;
        }
        let connected = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.connected(),
            None => return,
        };
        match connected {
            Ok(true) => {
                if let Some(socket) = self.socket.take() {
                    self.connecting.establish(&self, socket, readiness, buffer);
                }
            }
            Ok(false) => {}
            Err(error) => self.connecting.attempt_failed(&self, error),
        }
    }

    /// An attempt ends with its connect.
    fn end(self: Rc<Self>, _: &Core) {
        self.connecting.end();
    }

    /// Connects are counted, not their attempts.
    fn count(&self, _: &mut LoopStats) {}
}

/// Without the connect, which holds its attempts.
impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn is_full_backlog(error: &io::Error, address: &Address) -> bool {
    error.kind() == io::ErrorKind::WouldBlock && address.as_unix().is_some()
}
