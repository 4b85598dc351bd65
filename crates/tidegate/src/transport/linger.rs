//! The linger of a gracefully closed connection whose peer may still be sending.
//!
//! The kernel sends a reset for bytes that arrive at, or wait in, a closed socket, and a reset destroys
//! bytes that the peer has not read yet: our last ones (RFC 9293, 3.6.1 and 3.10.7.1; RFC 1122,
//! 4.2.2.13). So the write side is shut down first and input is discarded until the peer's EOF, an error,
//! or a deadline. The protocol knows nothing of it any more.
//!
//! At the limit in bytes discarding stops, and the deadline alone ends the linger: closing at once
//! would destroy the last bytes, while a full receive buffer costs nobody a processor.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::driver::{Readiness, Socket, SocketOption};
use crate::event_loop::{Core, LoopStats, Slot, Source, add};
use crate::server::{PeerKey, ServerState};
use crate::timers::TimerId;
use crate::{Closed, TransportId};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::Duration;

/// Maximum time of a linger, unless set: a peer that reads has our last bytes after some round
/// trips, and a peer that does not must not hold a descriptor for long.
const DEFAULT_TIME: Duration = Duration::from_secs(1);

/// Maximum number of bytes that a linger discards, unless set: more than the kernels of both ends hold
/// at Linux's defaults (tcp(7): 32 MiB of tcp_rmem and 4 MiB of tcp_wmem), so all that was under way.
const DEFAULT_BYTES: u64 = 64 * 1024 * 1024;

/// The limits of the time after a [`close`](Transport::close) in which the peer's input is discarded,
/// so that our last bytes arrive.
///
/// A kernel resets a TCP connection that is closed while input waits or still comes (tcp(7); RFC
/// 1122, 4.2.2.13). A reset destroys bytes that the peer has not read yet, such as an early reply to a
/// request whose body it is still sending. So the loop ends our side of the stream, keeps the bare
/// socket, and discards input until the peer's EOF, an error, or the limit in time.
///
/// * At the limit in time (1 s unless set) the socket is closed. [`Duration::ZERO`] closes it at
///   once, as close(2) does.
/// * At the limit in bytes (64 MiB unless set) the loop stops discarding. The peer's writes then
///   block, and it still has the rest of the time to read.
/// * Nothing lingers after an abort, an error or an end with unsent bytes, nor when the peer's EOF was
///   read before the close. The failure of a [`Layer`](crate::Layer) lingers: its last words go out.
/// * `connection_lost` waits for no linger; [`Server::shutdown`](crate::Server::shutdown) does.
///
/// It is not SO_LINGER (socket(7)), which makes close(2) wait for our own bytes.
///
/// ```
/// use std::time::Duration;
/// use tidegate::LingerLimits;
///
/// let limits = LingerLimits::new().with_time(Duration::from_secs(5));
/// assert_eq!(limits.bytes(), 64 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "limits do nothing until they are set"]
pub struct LingerLimits {
    time: Duration,
    bytes: u64,
}

impl Default for LingerLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl LingerLimits {
    /// Returns the defaults: 1 s, 64 MiB.
    pub fn new() -> Self {
        Self {
            time: DEFAULT_TIME,
            bytes: DEFAULT_BYTES,
        }
    }

    /// Sets the limit in time. [`Duration::ZERO`] never lingers, [`Duration::MAX`] has no limit.
    pub fn with_time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets the limit in bytes of discarded input. 0 discards none, [`u64::MAX`] is no limit.
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Returns the limit in time.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the limit in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[derive(Debug)]
struct Lingering {
    id: TransportId,
    socket: RefCell<Option<Socket>>,
    timer: Cell<Option<TimerId>>,
    /// The tick that discarded last.
    tick: Cell<u32>,
    /// The number of bytes that may still be discarded.
    left: Cell<u64>,
    /// To be sent before our side of the stream is shut down: the last words of a failed layer.
    rest: RefCell<Vec<u8>>,
    /// The peer has ended its side while some of these waited.
    ended: Cell<bool>,
    /// There if the server has a maximum for each peer.
    peer: Option<PeerKey>,
    server: Option<Rc<ServerState>>,
}

impl Conn {
    /// The limits of the connection itself, else those of its server.
    pub(super) fn linger_limits(&self) -> LingerLimits {
        let own = if self.has_extra() {
            self.with_extra(|extra| extra.linger)
        } else {
            None
        };
        let of_server = || self.server.as_ref().map(|server| server.linger_limits());
        own.or_else(of_server).unwrap_or_default()
    }
}

impl Transport {
    /// Closes the descriptor, or leaves it to linger. Where bytes are missing an EOF would look
    /// complete, so the peer gets a reset in its place.
    pub(super) fn release_socket(&self, graceful: bool, closed: &Closed) {
        let conn = self.conn();
        let core = conn.core();
        let socket = conn.socket.take();
        let limits = conn.linger_limits();
        let mut lingers = graceful && !conn.is(State::EOF_SEEN | State::WRITE_FAILED);
        let mut rest = Some(Vec::new());
        if let Some(mut socket) = socket {
            if conn.is(State::LAYERED) {
                (socket, lingers, rest) = self.take_layers_off(socket, graceful, closed);
            }
            let missing = conn.is(State::RESET) || conn.is_cut(closed);
            match rest.filter(|_| !missing) {
                None => reset_on_close(&mut socket),
                Some(rest)
                    if lingers
                        && socket.lingers()
                        && !core.is_closed()
                        && !limits.time.is_zero()
                        && (!rest.is_empty()
                            || conn.is(State::EOF_SENT)
                            || socket.shutdown_write().is_ok()) =>
                {
                    Lingering::begin(self, socket, limits, rest);
                    return;
                }
                Some(rest) if !rest.is_empty() => reset_on_close(&mut socket),
                Some(_) => {}
            }
            core.close_stream(socket);
        }
        let gone = core.registry.borrow_mut().remove(conn.id);
        drop(gone);
    }
}

/// Bytes are missing: the peer must not take the end of the connection for that of the stream.
fn reset_on_close(socket: &mut Socket) {
    // It fails on a socket that was reset already.
    let _ = socket.set_option(SocketOption::ResetOnClose);
}

impl Lingering {
    fn begin(transport: &Transport, socket: Socket, limits: LingerLimits, rest: Vec<u8>) {
        let conn = transport.conn();
        let core = conn.core();
        let id = conn.id;
        let peer = conn.server.as_ref();
        let peer = peer.and_then(|server| server.linger_begins(&conn.peer));
        let lingering = Rc::new(Self {
            id,
            peer,
            socket: RefCell::new(Some(socket)),
            timer: Cell::new(None),
            tick: Cell::new(core.tick().wrapping_sub(1)),
            left: Cell::new(limits.bytes),
            rest: RefCell::new(rest),
            ended: Cell::new(false),
            server: conn.server.clone(),
        });
        let expiring = Rc::downgrade(&lingering);
        let timer = core.after(limits.time, move |handle| {
            if let Some(lingering) = expiring.upgrade() {
                lingering.timer.set(None);
                lingering.expire(handle.core());
            }
        });
        lingering.timer.set(Some(timer));
        let before = core
            .registry
            .borrow_mut()
            .replace(id, Slot::other(lingering));
        drop(before);
        core.push_leftover(id);
    }

    /// Sends what waits, and shuts down our side of the stream behind it.
    fn send_rest(&self, core: &Core) {
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            return;
        }
        let mut socket = self.socket.borrow_mut();
        let Some(stream) = socket.as_mut() else {
            return;
        };
        while !rest.is_empty() {
            add(&core.counters.writes, 1);
            match stream.write(&[IoSlice::new(&rest)]) {
                Ok(sent) => drop(rest.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        let over = !rest.is_empty() || self.ended.get() || stream.shutdown_write().is_err();
        drop((rest, socket));
        if over {
            self.close(core);
        }
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

    /// Returns whether there may be more to discard.
    fn read_once(&self, core: &Core, buffer: &mut [u8]) -> bool {
        let left = self.left.get();
        let len = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        if len == 0 {
            return false;
        }
        let result = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.read(&mut buffer[..len]),
            None => return false,
        };
        add(&core.counters.reads, 1);
        match result {
            Ok(0) => {
                self.ended.set(true);
                if self.rest.borrow().is_empty() {
                    self.close(core);
                }
                false
            }
            Ok(n) => {
                add(&core.counters.bytes_received, n);
                self.left.set(left - n as u64);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.close(core);
                false
            }
        }
    }

    /// Nothing is read any more, so a read would not find an error.
    fn look_for_error(&self, core: &Core) {
        let error = match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.take_error(),
            None => return,
        };
        if !matches!(error, Ok(None)) {
            self.close(core);
        }
    }

    /// The time is up. Waiting input is read once more, so that closing does not reset for it.
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
            server.linger_ends(self.peer);
        }
    }
}

impl Source for Lingering {
    fn on_event(self: Rc<Self>, core: &Core, readiness: Readiness, buffer: &mut [u8]) {
        self.send_rest(core);
        if readiness.is_failed() && self.left.get() == 0 {
            self.look_for_error(core);
        } else if readiness.is_readable() {
            self.discard(core, buffer);
        }
    }

    fn on_leftover(self: Rc<Self>, core: &Core, buffer: &mut [u8]) {
        self.send_rest(core);
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
