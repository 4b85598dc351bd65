//! The layers of a connection: everything about them that is not bytes.
//!
//! A [`LayeredSocket`] takes the place of the connection's socket, so bytes go their usual way.
//! This file puts layers on and opens them. [`lend`] is how their code runs: with the socket out of
//! its cell. [`bytes`] is a read or a write through layers, [`ending`] how they end, and what is
//! left of them after the end of the connection.

mod bytes;
mod ending;
mod lend;
mod timing;

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::LoopClosed;
use crate::callback::Run;
use crate::completion::{Completer, Completion};
use crate::connect::ConnectId;
use crate::driver::Socket;
use crate::event_loop::Deferred;
use crate::layer::{Layer, LayeredSocket};
use crate::timers::TimerId;
use ending::{Kept, NotedEnd};
use std::fmt;
use std::io;
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A layer that is to be put on a connection, and the time in which it must open.
pub(crate) struct NewLayer {
    layer: Box<dyn Layer>,
    limit: Duration,
}

impl NewLayer {
    /// Asks the layer for its limit, which is code of the user's.
    pub(crate) fn new(layer: impl Layer) -> Self {
        Self {
            limit: layer.open_limit(),
            layer: Box::new(layer),
        }
    }

    /// Returns an error for a layer that could never open.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.limit.is_zero() {
            let message = "the open_limit of a layer is zero: no layer opens in no time";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    /// Returns the layer as a value that the loop is to drop.
    pub(crate) fn into_deferred(self) -> Deferred {
        Deferred::Value(self.layer)
    }
}

impl fmt::Debug for NewLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewLayer")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// The state of a connection with layers, beside its socket.
#[derive(Default)]
pub(super) struct Layers {
    /// The layers that are not open, from the wire up.
    opening: Vec<Opening>,
    /// The timer of the layers' own, and its deadline.
    timer: Option<(Instant, TimerId)>,
    /// The number of bytes that the kernel had taken when this was last looked at.
    taken: u64,
    /// The number of bytes that the kernel had given and taken at the last look for idle connections.
    looked_at: u64,
    /// The output in the account of the loop, while `OUTPUT_COUNTED` is set.
    pub(super) counted: usize,
    /// There while `END_NOTED` is set.
    noted: Option<NotedEnd>,
    /// The connect that waits for `connection_made`.
    connect: Option<ConnectId>,
    /// Callbacks that wait for `connection_made`.
    early: Vec<Rc<dyn Run>>,
    /// There since a layer has left, or the connection has ended.
    kept: Option<Rc<Kept>>,
}

/// A layer on its way to being open.
struct Opening {
    /// Of [`Transport::push_layer`].
    completer: Option<Completer<()>>,
    /// `None` when the limit lies beyond what the clock can say.
    limit: Option<TimerId>,
}

impl Transport {
    /// Puts the layers of a new connection on its socket, from the wire up. The first one gets the bytes
    /// that were received before.
    pub(crate) fn begin_layered(&self, layers: Vec<NewLayer>, mut unread: Vec<u8>) {
        for layer in layers {
            self.put_on(layer, mem::take(&mut unread), None);
        }
    }

    pub(crate) fn push(&self, new: NewLayer, unread: &[u8]) -> Completion<()> {
        let conn = self.conn();
        if let Err(refusal) = self.check_push(&new) {
            conn.core().defer_drop(new.into_deferred());
            return Completion::ready(&conn.handle, Err(refusal));
        }
        #[cfg(feature = "splice")]
        self.unpipe();
        let mut input = unread.to_vec();
        conn.take_unread(&mut input);
        let (completer, completion) = Completion::pair(&conn.handle);
        self.put_on(new, input, Some(completer));
        self.touch();
        completion
    }

    fn check_push(&self, new: &NewLayer) -> io::Result<()> {
        let conn = self.conn();
        if conn.core().is_closed() {
            return Err(LoopClosed.into());
        }
        if let Some(closed) = conn.closed() {
            return Err(closed.into());
        }
        if conn.is(State::NO_WRITE) {
            return Err(conn.refusal().into());
        }
        if conn.is(State::EOF_SEEN) {
            let message = "the peer has ended its side of the stream: a layer cannot open any more";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        new.check()
    }

    fn put_on(&self, new: NewLayer, unread: Vec<u8>, completer: Option<Completer<()>>) {
        let conn = self.conn();
        let core = conn.core();
        let Some(below) = conn.socket.take() else {
            core.defer_drop(new.into_deferred());
            return;
        };
        let shared = core.layer_memory();
        let mut layered = LayeredSocket::new(below, new.layer, unread, conn.buffered(), shared);
        if !conn.is(State::ACCEPTED) {
            // As with the default `pause_writing`: of two ends one must read on.
            layered.never_refuse_input();
        }
        conn.socket.replace(Some(Socket::foreign(layered)));
        conn.set(State::LAYERED | State::OPENING | State::OPEN_DUE);
        conn.note_open();
        let deadline = core.clock().checked_add(new.limit);
        let limit = deadline.map(|deadline| conn.limit_opening(deadline));
        conn.with_layers(|layers| layers.opening.push(Opening { completer, limit }));
    }

    /// Goes on with opening, whatever stops the bytes of the protocol.
    pub(super) fn open_layers(&self) {
        let conn = self.conn();
        conn.clear(State::OPEN_DUE);
        let advanced = conn.lend(|layered| {
            let result = layered.advance();
            (result, layered.has_more(), layered.opening())
        });
        let Some((result, more, opening)) = advanced else {
            return;
        };
        if !more && !conn.is(State::READ_TO_END) {
            conn.clear(State::READABLE);
        }
        if result.is_ok() {
            conn.clear(State::OPENING | State::OPEN_DUE);
            // A write before that was taken only as far as the first byte for the layers.
            conn.set(State::WRITABLE);
        }
        self.complete_opened(opening);
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !more {
                    conn.clear(State::READABLE | State::READ_TO_END);
                }
                if conn.is(State::WRITE_FAILED) && !more {
                    self.read_failed(error);
                }
            }
            Err(error) => self.read_failed(error),
        }
    }

    /// All layers are open but for the last ones, `opening` in number.
    fn complete_opened(&self, opening: usize) {
        let conn = self.conn();
        let opened = conn.with_layers(|layers| {
            let opened = layers.opening.len().saturating_sub(opening);
            let behind = layers.opening.split_off(opened);
            mem::replace(&mut layers.opening, behind)
        });
        for opened in opened {
            if let Some(timer) = opened.limit {
                conn.core().cancel_timer(timer);
            }
            if let Some(completer) = opened.completer {
                completer.complete(Ok(()));
            }
        }
    }

    /// `connection_made` has returned: completes what waited for it.
    pub(super) fn made_with_layers(&self) {
        let conn = self.conn();
        let core = conn.core();
        let waiting =
            conn.if_layers(|layers| (layers.connect.take(), mem::take(&mut layers.early)));
        let Some((connect, early)) = waiting else {
            return;
        };
        for run in early {
            core.push_ready(run);
        }
        if let Some(connecting) = connect.and_then(|id| core.connecting(id)) {
            connecting.opened(self);
        }
    }

    /// Has the connect of this id complete when the connection is made, or fail when it is not.
    pub(crate) fn made_for(&self, connect: ConnectId) {
        self.conn()
            .with_layers(|layers| layers.connect = Some(connect));
    }

    /// Whether a connect waits for the layers of the connection to open.
    pub(crate) fn is_of_connect(&self) -> bool {
        let conn = self.conn();
        self.is_early() && conn.if_layers(|layers| layers.connect.is_some()) == Some(true)
    }

    /// Whether layers are opening before `connection_made`.
    pub(super) fn is_early(&self) -> bool {
        self.conn().is(State::CONNECTING) && self.conn().is(State::OPENING)
    }

    /// Keeps a callback for the time after `connection_made`, once.
    pub(crate) fn keep_early(&self, run: Rc<dyn Run>) {
        self.conn().with_layers(|layers| {
            if !layers.early.iter().any(|kept| Rc::ptr_eq(kept, &run)) {
                layers.early.push(run);
            }
        });
    }
}

impl Conn {
    pub(super) fn with_layers<R>(&self, call: impl FnOnce(&mut Layers) -> R) -> R {
        self.with_extra(|extra| call(extra.layers.get_or_insert_default()))
    }

    pub(super) fn if_layers<R>(&self, call: impl FnOnce(&mut Layers) -> R) -> Option<R> {
        self.extra
            .with(|extra| Some(call(extra.as_mut()?.layers.as_mut()?)))
    }

    /// Moves what is held for the protocol, and was not delivered, behind `input`.
    fn take_unread(&self, input: &mut Vec<u8>) {
        if !self.has_extra() {
            return;
        }
        let (next, unread) = self.with_extra(|extra| {
            let next = extra.next.as_mut();
            let next = next.map(|next| {
                next.own = 0;
                mem::take(&mut next.unread)
            });
            (next.unwrap_or_default(), mem::take(&mut extra.unread))
        });
        input.extend_from_slice(&next);
        input.extend_from_slice(unread.rest());
        self.clear(State::UNREAD);
    }
}
