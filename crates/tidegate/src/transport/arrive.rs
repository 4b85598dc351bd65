//! How a connection that has no loop arrives in one.

use super::Transport;
use super::conn::Conn;
use super::layers::NewLayer;
use super::start::NewConnection;
use super::state::State;
use crate::detached::{Parts, Progress};
use crate::event_loop::{Core, Deferred};
use crate::flow::Watermarks;
use crate::server::ServerState;
use crate::{AttachError, Bytes, Detached, Handle, LoopClosed, Protocol};
use std::io;
use std::mem;
use std::rc::Rc;

/// The loop's part in a connection that arrives.
pub(crate) struct Arrival {
    pub(crate) protocol: Box<dyn Protocol>,
    /// From the wire up.
    pub(crate) layers: Vec<NewLayer>,
    /// Of a connection that has none of its own.
    pub(crate) marks: Watermarks,
    pub(crate) server: Option<Rc<ServerState>>,
}

impl Transport {
    /// Has the loop drive a connection, or returns it with the reason why not.
    pub(crate) fn arrive(
        handle: &Handle,
        mut detached: Detached,
        arrival: Arrival,
    ) -> Result<Self, AttachError> {
        let parts = detached.parts();
        let core = handle.core();
        let prepared = if core.is_closed() {
            Err(LoopClosed.into())
        } else if parts.progress.eof_asked && !arrival.layers.is_empty() {
            Err(without_layers())
        } else {
            parts.take_socket()
        };
        let socket = match prepared {
            Ok(socket) => socket,
            Err(error) => {
                core.defer_drop(Deferred::Protocol(arrival.protocol));
                core.defer_drop_layers(arrival.layers);
                return Err(AttachError::new(error, detached));
            }
        };
        let connection = NewConnection {
            socket,
            peer: parts.peer.clone(),
            protocol: arrival.protocol,
            accepted: parts.accepted,
            marks: parts.settings.marks.unwrap_or(arrival.marks),
            server: arrival.server,
        };
        match Self::start(handle, connection) {
            Ok(transport) => {
                transport.unpack(detached.parts(), arrival.layers);
                transport.touch();
                Ok(transport)
            }
            Err(refused) => {
                if let Some(socket) = refused.socket {
                    detached.parts().put_back(socket);
                }
                core.defer_drop_layers(arrival.layers);
                Err(AttachError::new(refused.error, detached))
            }
        }
    }
}

impl Transport {
    /// Takes over what came along.
    fn unpack(&self, parts: &mut Parts, layers: Vec<NewLayer>) {
        let conn = self.conn();
        let before = self.core().account.used();
        conn.go_on_from(&parts.progress);
        conn.with_settings(parts);
        conn.queue_all(mem::take(&mut parts.unsent));
        let unread = mem::take(&mut parts.unread);
        if !layers.is_empty() {
            self.begin_layered(layers, unread);
        } else if !unread.is_empty() {
            conn.with_extra(|extra| extra.unread.come_next(unread));
            conn.set(State::UNREAD);
        }
        self.note_queued(before);
    }
}

impl Core {
    /// Leaves layers that were not put on a connection to the loop.
    pub(crate) fn defer_drop_layers(&self, layers: Vec<NewLayer>) {
        for layer in layers {
            self.defer_drop(layer.into_deferred());
        }
    }
}

impl Conn {
    fn queue_all(&self, unsent: Vec<Bytes>) {
        if unsent.is_empty() {
            return;
        }
        let mut queue = self.core().take_buffer();
        unsent
            .into_iter()
            .for_each(|bytes| queue.push_shared(bytes));
        self.core().account.add(queue.len());
        self.queue.with(|place| *place = Some(queue));
        self.set(State::QUEUED);
    }

    fn go_on_from(&self, progress: &Progress) {
        self.written.set(progress.written);
        self.sent.set(progress.sent);
        self.received.set(progress.received);
        if progress.refused_at > 0 {
            self.with_extra(|extra| extra.refused_at = progress.refused_at);
        }
        if progress.eof_asked {
            self.set(State::EOF_ASKED);
        }
        if progress.eof_sent {
            self.set(State::EOF_SENT);
        }
    }

    fn with_settings(&self, parts: &Parts) {
        if let Some(limits) = parts.settings.linger {
            self.with_extra(|extra| extra.linger = Some(limits));
        }
        if let Some(limit) = parts.settings.write_timeout {
            self.keep_write_timeout(limit);
        }
    }
}

fn without_layers() -> io::Error {
    let message = "our side of the stream has ended: a layer cannot open any more";
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
