//! How a connection begins: a socket and a protocol become a transport under the loop.

use super::Transport;
use super::box_cell::BoxCell;
use super::conn::Conn;
use super::state::State;
use super::write_timeout::WriteTimeout;
use crate::driver::Socket;
use crate::event_loop::{Deferred, Slot, add};
use crate::flow::Watermarks;
use crate::pipe::Way;
use crate::server::ServerState;
use crate::write_buffer::MAX_OFFER;
use crate::{Address, Handle, Protocol, TransportId};
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::rc::Rc;

/// The parts of a connection that is to be.
pub(crate) struct NewConnection {
    pub(crate) socket: Socket,
    pub(crate) peer: Address,
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) accepted: bool,
    pub(crate) marks: Watermarks,
    pub(crate) server: Option<Rc<ServerState>>,
}

/// The driver refused to watch a socket.
pub(crate) struct NotStarted {
    pub(crate) error: io::Error,
    pub(super) socket: Option<Socket>,
}

impl Transport {
    pub(crate) fn new(handle: &Handle, id: TransportId, new: NewConnection) -> Self {
        let side = if new.accepted {
            State::ACCEPTED
        } else {
            State::EMPTY
        };
        let tick = handle.core().tick();
        Self(Rc::new(Conn {
            state: Cell::new(side | State::CONNECTING | State::WRITABLE),
            pauses: Cell::new(0),
            id,
            written: Cell::new(0),
            sent: Cell::new(0),
            received: Cell::new(0),
            marks: Cell::new(new.marks),
            write_timeout: Cell::new(WriteTimeout::OF_SERVER),
            resume_tick: Cell::new(0),
            read_tick: Cell::new(tick),
            budget: Cell::new((tick, MAX_OFFER as u32)),
            handle: handle.clone(),
            protocol: RefCell::new(Some(new.protocol)),
            socket: RefCell::new(Some(new.socket)),
            queue: BoxCell::default(),
            extra: BoxCell::default(),
            peer: new.peer,
            local: OnceCell::new(),
            server: new.server,
        }))
    }

    /// Registers a new connection with the loop. The error has the socket still.
    pub(crate) fn start(handle: &Handle, new: NewConnection) -> Result<Self, NotStarted> {
        let core = handle.core();
        let mut registry = core.registry.borrow_mut();
        let transport = registry.insert(Slot::Connection, |id| Self::new(handle, id, new));
        drop(registry);
        if let Err(error) = transport.register() {
            let gone = core.registry.borrow_mut().remove(transport.id());
            drop(gone);
            if let Some(protocol) = transport.conn().protocol.take() {
                core.defer_drop(Deferred::Protocol(protocol));
            }
            let socket = transport.conn().socket.take();
            return Err(NotStarted { error, socket });
        }
        Ok(transport)
    }

    /// Takes away one direction of a connection that has just started, as if it had ended.
    pub(crate) fn make_one_way(&self, way: Way) {
        self.conn().set(match way {
            Way::Read => State::EOF_ASKED | State::EOF_SENT,
            Way::Write => State::EOF_SEEN | State::EOF_TOLD | State::KEPT_OPEN,
        });
    }

    /// Tells the kernel to report events of it; once in its life.
    pub(crate) fn register(&self) -> io::Result<()> {
        let core = self.core();
        add(&core.counters.registrations, 1);
        match self.conn().socket.borrow_mut().as_mut() {
            Some(socket) => {
                core.with_driver(|driver| driver.as_dyn().register(socket, self.id().token()))
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn belongs_to(&self, server: &Rc<ServerState>) -> bool {
        self.conn()
            .server
            .as_ref()
            .is_some_and(|own| Rc::ptr_eq(own, server))
    }
}
