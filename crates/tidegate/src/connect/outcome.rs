//! How a connect ends: with a connection, with one whose layers open first, or with an error.

use super::attempt::Attempt;
use super::{Client, ConnectError, Connecting};
use crate::completion::Completer;
use crate::driver::{Readiness, Socket};
use crate::event_loop::{Core, Deferred, Slot};
use crate::timers::TimerId;
use crate::transport::{NewConnection, NewLayer, Transport};
use crate::{Address, CloseReason, Closed, LoopClosed, Protocol};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

impl Connecting {
    pub(super) fn establish(
        self: &Rc<Self>,
        winner: &Attempt,
        mut socket: Socket,
        readiness: Readiness,
        buffer: &mut [u8],
    ) {
        self.running
            .borrow_mut()
            .retain(|running| running.id() != winner.id());
        self.stop_race();
        let Some(protocol) = self.take_protocol() else {
            winner.close();
            return;
        };
        socket.set_nodelay_at_start(winner.address());
        let connection = NewConnection {
            socket,
            peer: winner.address().clone(),
            protocol,
            accepted: false,
            marks: self.marks,
            server: None,
        };
        let transport = Transport::new(&self.handle, winner.id(), connection);
        if let Some(limits) = self.linger {
            transport.set_linger_limits(limits);
        }
        transport.limit_by(&self.timeouts);
        let next = Slot::Connection(transport.clone());
        let before = self.core().registry.borrow_mut().replace(winner.id(), next);
        drop(before);
        let layers = self.layers.take();
        if layers.is_empty() {
            let client = self.tear_down();
            transport.settle();
            if let Some(client) = client {
                answer(client.completer, &transport);
            }
        } else {
            transport.made_for(self.id);
            transport.begin_layered(layers, Vec::new());
            self.opening.replace(Some(transport.clone()));
            transport.settle();
        }
        if !transport.is_lost() {
            transport.on_event(readiness, buffer);
        }
    }

    fn take_protocol(&self) -> Option<Box<dyn Protocol>> {
        self.client.borrow_mut().as_mut()?.protocol.take()
    }

    /// All layers are open, and `connection_made` has returned.
    pub(crate) fn opened(&self, transport: &Transport) {
        drop(self.opening.take());
        if let Some(client) = self.tear_down() {
            answer(client.completer, transport);
        }
    }

    /// The connection has ended before its layers were open.
    pub(crate) fn handshake_failed(&self, closed: &Closed) {
        drop(self.opening.take());
        let cause = match closed.reason() {
            CloseReason::Io(error) => error.clone(),
            _ => Arc::new(closed.clone().into()),
        };
        let error = ConnectError::of_layers(self.target.clone(), cause, self.tried.take());
        self.fail_with(error.into());
    }

    pub(super) fn stop_timer(&self, timer: &Cell<Option<TimerId>>) {
        if let Some(timer) = timer.take() {
            self.core().cancel_timer(timer);
        }
    }

    /// Stops looking for a socket.
    fn stop_race(&self) {
        self.stop_timer(&self.next_move);
        if let Some(job) = self.resolving.take() {
            self.core().cancel_job(job);
        }
        let running = self.running.take();
        for attempt in running {
            attempt.close();
        }
        self.socket_options.borrow_mut().retire(self.core());
    }

    /// Stops everything that is under way for the connect. Returns its client, the first time.
    fn tear_down(&self) -> Option<Client> {
        self.stop_timer(&self.timeout);
        self.stop_race();
        drop_layers(self.core(), self.layers.take());
        if let Some(transport) = self.opening.take() {
            transport.abort();
        }
        let gone = self.core().connects.borrow_mut().under_way.remove(&self.id);
        drop(gone);
        self.client.take()
    }

    /// Fails the connect. `cause` is the error of the whole; `None` when every address has its own reason.
    pub(super) fn fail(&self, cause: Option<io::Error>) {
        let reason = |(address, reason): (Address, Option<io::Error>)| {
            let error =
                reason.unwrap_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "no reply yet"));
            (address, error)
        };
        let attempts = self.tried.take().into_iter().map(reason).collect();
        let error = ConnectError::new(self.target.clone(), cause, attempts);
        self.fail_with(error.into());
    }

    /// Ends the connect because its completion was dropped or timed out.
    pub(crate) fn cancel(&self) {
        // An error without a waiter.
        self.fail_with(io::ErrorKind::BrokenPipe.into());
    }

    /// Ends the connect because the loop ends.
    pub(crate) fn end(&self) {
        self.fail_with(LoopClosed.into());
    }

    /// Tears the connect down, and fails its completion.
    fn fail_with(&self, error: io::Error) {
        if let Some(client) = self.tear_down() {
            if let Some(protocol) = client.protocol {
                self.core().defer_drop(Deferred::Protocol(protocol));
            }
            client.completer.complete(Err(error));
        }
    }
}

/// Leaves layers of the user's that were not put on a connection to the loop.
pub(super) fn drop_layers(core: &Core, layers: Vec<NewLayer>) {
    for layer in layers {
        core.defer_drop(layer.into_deferred());
    }
}

/// `connection_made` has returned.
fn answer(completer: Completer<Transport>, transport: &Transport) {
    if completer.is_cancelled() {
        transport.close();
    }
    completer.complete(match transport.failure() {
        Some(reason) => {
            let unsent = transport.closed().map_or(0, |closed| closed.unsent());
            Err(Closed::new(transport.id(), reason, unsent).into())
        }
        None => Ok(transport.clone()),
    });
}
