//! The backlog of a server that stops listening: sockets that the kernel had accepted by then.
//!
//! They are taken from the kernel within the call, so that the listener can be closed at once: its
//! address is free, and the time in which another connect is lost is that of a system call. The
//! protocols are user code and come from the loop.

use super::accepting::reset;
use super::listener::{ACCEPTS_PER_TICK, Listener};
use super::state::ServerState;
use crate::completion::{Completer, Completion};
use crate::driver::{Readiness, Socket};
use crate::event_loop::{Core, LoopStats, Slot, Source};
use crate::log::guarded;
use crate::{Address, TransportId};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;

/// Minimum and maximum number of sockets that are taken from one listener. The minimum is the
/// longest backlog by default of Linux (somaxconn), for listeners that were given to us with one;
/// the maximum bounds the call while peers go on connecting.
const TAKEN: (usize, usize) = (4096, 65_535);

pub(super) type Accepted = (Socket, Address);

/// The sockets of a backlog until each has its protocol.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: RefCell<VecDeque<Accepted>>,
    /// The number of connections made of it.
    served: Cell<usize>,
    waiters: RefCell<Vec<Completer<usize>>>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self) -> Option<Accepted> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Resets the waiting sockets; returns their number.
    pub(super) fn reset(&self) -> usize {
        let waiting = mem::take(&mut *self.waiting.borrow_mut());
        let number = waiting.len();
        waiting.into_iter().for_each(|(socket, _)| reset(socket));
        number
    }
}

impl ServerState {
    pub(super) fn finish_accepting(self: &Rc<Self>) -> Completion<usize> {
        let core = self.handle().core();
        let most = (self.backlog_limit() as usize).clamp(TAKEN.0, TAKEN.1) + 1;
        let mut taken = VecDeque::new();
        let stopped = self.stop_listening(|listener| {
            if !core.is_closed() {
                take_all(listener, core, most, &mut taken);
            }
        });
        if stopped {
            self.finishing.set(true);
            if !taken.is_empty() {
                self.backlog.waiting.replace(taken);
                ServesBacklog::start(self, core);
            }
            self.release_factory();
            self.check_done();
        }
        if self.backlog.is_empty() {
            return Completion::ready(self.handle(), Ok(self.backlog.served.get()));
        }
        let (completer, completion) = Completion::pair(self.handle());
        self.backlog.waiters.borrow_mut().push(completer);
        completion
    }

    /// Makes the next connection of the backlog; returns whether there was one.
    fn serve_next(self: &Rc<Self>) -> bool {
        let Some((socket, peer)) = self.backlog.take() else {
            return false;
        };
        self.while_making(|| {
            if self.make_connection(socket, peer) {
                self.backlog.served.set(self.backlog.served.get() + 1);
                self.count_from_backlog();
            }
        });
        true
    }

    /// Makes the connections of the backlog that are left, whatever their number.
    pub(super) fn serve_backlog(self: &Rc<Self>) {
        while self.serve_next() {}
    }

    fn backlog_served(&self) {
        self.release_factory();
        let served = self.backlog.served.get();
        for waiting in self.backlog.waiters.take() {
            waiting.complete(Ok(served));
        }
        self.check_done();
    }
}

/// Takes the connections that wait to be accepted, `most` at the most.
fn take_all(listener: &Listener, core: &Core, most: usize, taken: &mut VecDeque<Accepted>) {
    for _ in 0..most {
        match listener.take(core) {
            Ok(Some(accepted)) => taken.push_back(accepted),
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(error) => {
                let addr = listener.addr();
                guarded(|| {
                    log::warn!(
                        target: "tidegate::server",
                        "{addr}: cannot accept the rest of the backlog, which is lost: {error}"
                    );
                });
                return;
            }
        }
    }
}

/// Comes back in each tick until the backlog is served. It has no socket of its own, and no
/// events.
#[derive(Debug)]
struct ServesBacklog {
    id: TransportId,
    server: Rc<ServerState>,
}

impl ServesBacklog {
    fn start(server: &Rc<ServerState>, core: &Core) {
        let source = core.registry.borrow_mut().insert(Slot::other, |id| {
            let server = server.clone();
            Rc::new(Self { id, server })
        });
        core.push_leftover(source.id);
    }

    fn leave(&self, core: &Core) {
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
    }
}

impl Source for ServesBacklog {
    fn on_event(self: Rc<Self>, _: &Core, _: Readiness, _: &mut [u8]) {}

    fn on_leftover(self: Rc<Self>, core: &Core, _: &mut [u8]) {
        for _ in 0..ACCEPTS_PER_TICK {
            if !self.server.serve_next() {
                break;
            }
        }
        if self.server.backlog.is_empty() {
            self.leave(core);
            self.server.backlog_served();
        } else {
            core.push_leftover(self.id);
        }
    }

    /// The loop fails the completions.
    fn end(self: Rc<Self>, core: &Core) {
        self.leave(core);
        self.server.backlog.reset();
        self.server.release_factory();
    }

    fn count(&self, stats: &mut LoopStats) {
        let waiting = self.server.backlog.len();
        stats.connections += waiting;
        if self.server.is_shutting_down() {
            stats.closing += waiting;
        }
    }
}
