//! What is left of a gracefully closed connection whose peer may still be sending.
//!
//! The kernel answers bytes that arrive at, or wait in, a closed socket with a reset, and a reset
//! destroys what the peer has not read yet: our last bytes (RFC 9293, 3.6.1 and 3.10.7.1; RFC
//! 1122, 4.2.2.13). So the write side is shut down first and input is discarded until the peer's
//! end of stream, an error, or a deadline. The protocol knows nothing of it any more.

use super::Transport;
use super::state::State;
use crate::TransportId;
use crate::driver::{Readiness, Socket};
use crate::event_loop::{Core, LoopStats, Slot, Source, add};
use crate::server::ServerState;
use crate::timers::TimerId;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// How long the peer has to end its stream.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Lingering {
    id: TransportId,
    socket: RefCell<Option<Socket>>,
    timer: Cell<Option<TimerId>>,
    /// The tick that discarded last.
    tick: Cell<u32>,
    server: Option<Rc<ServerState>>,
}

impl Transport {
    /// Closes the descriptor, or leaves it to linger.
    pub(super) fn release_socket(&self, graceful: bool) {
        let conn = self.conn();
        let core = conn.core();
        let socket = conn.socket.take();
        let stop = State::EOF_SEEN | State::WRITE_FAILED;
        if let Some(mut socket) = socket {
            if graceful
                && !conn.is(stop)
                && !core.is_closed()
                && (conn.is(State::EOF_SENT) || socket.shutdown_write().is_ok())
            {
                Lingering::begin(self, socket);
                return;
            }
            core.close_stream(socket);
        }
        let gone = core.registry.borrow_mut().remove(conn.id);
        drop(gone);
    }
}

impl Lingering {
    fn begin(transport: &Transport, socket: Socket) {
        let conn = transport.conn();
        let core = conn.core();
        let id = conn.id;
        let lingering = Rc::new(Self {
            id,
            socket: RefCell::new(Some(socket)),
            timer: Cell::new(None),
            tick: Cell::new(core.tick().wrapping_sub(1)),
            server: conn.server.clone(),
        });
        let expiring = Rc::downgrade(&lingering);
        let timer = core.after(LINGER, move |handle| {
            if let Some(lingering) = expiring.upgrade() {
                lingering.timer.set(None);
                lingering.expire(handle.core());
            }
        });
        lingering.timer.set(Some(timer));
        if let Some(server) = &lingering.server {
            server.lingering(1);
        }
        let before = core
            .registry
            .borrow_mut()
            .replace(id, Slot::other(lingering));
        drop(before);
        core.push_leftover(id);
    }

    /// Discards input, as much as one source may read in a tick. An event of the same tick, or a
    /// read that was owed to the connection, may have been faster.
    fn discard(&self, core: &Core, buffer: &mut [u8]) {
        if self.tick.replace(core.tick()) == core.tick() {
            return;
        }
        for _ in 0..super::read::READS_PER_TICK {
            if !self.read_once(core, buffer) {
                return;
            }
        }
        core.push_leftover(self.id);
    }

    /// Answers whether there may be more.
    fn read_once(&self, core: &Core, buffer: &mut [u8]) -> bool {
        let result = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.read(buffer),
            None => return false,
        };
        add(&core.counters.reads, 1);
        match result {
            Ok(0) => {
                self.close(core);
                false
            }
            Ok(n) => {
                add(&core.counters.bytes_received, n);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.close(core);
                false
            }
        }
    }

    /// The time is up. What is there is read once more, so that closing does not reset for it.
    fn expire(&self, core: &Core) {
        let mut buffer = vec![0; 64 * 1024];
        self.read_once(core, &mut buffer);
        self.close(core);
    }

    /// Closes the descriptor, and lets go of the slot.
    fn close(&self, core: &Core) {
        let Some(socket) = self.socket.take() else {
            return;
        };
        core.close_stream(socket);
        if let Some(timer) = self.timer.take() {
            core.cancel_timer(timer);
        }
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        if let Some(server) = &self.server {
            server.lingering(-1);
        }
    }
}

impl Source for Lingering {
    fn on_event(self: Rc<Self>, core: &Core, readiness: Readiness, buffer: &mut [u8]) {
        if readiness.is_readable() {
            self.discard(core, buffer);
        }
    }

    fn on_leftover(self: Rc<Self>, core: &Core, buffer: &mut [u8]) {
        self.discard(core, buffer);
    }

    fn end(self: Rc<Self>, core: &Core) {
        self.close(core);
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.lingering += 1;
    }

    fn is_left_by(&self, server: &Rc<ServerState>) -> bool {
        self.server
            .as_ref()
            .is_some_and(|own| Rc::ptr_eq(own, server))
    }
}
