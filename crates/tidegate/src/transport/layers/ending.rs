//! How layers end: our side of the stream, the connection, and what is left of them.

use super::super::Transport;
use super::super::conn::Conn;
use super::super::state::State;
use crate::driver::Socket;
use crate::event_loop::{AtEnd, Core, Deferred, Failure};
use crate::layer::{Layer, LayerIo, LayeredSocket, TakenOff};
use crate::{CloseReason, Closed, Handle};
use std::cell::RefCell;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::{Rc, Weak};

/// The end of a connection that code of one of its layers has asked for.
pub(super) struct NotedEnd {
    reason: CloseReason,
    resets: bool,
}

impl Transport {
    /// Ends our side of the stream in all layers, from the top down.
    pub(in super::super) fn end_layers(&self) {
        let conn = self.conn();
        let Some(result) = conn.lend(|layered| layered.end()) else {
            return;
        };
        match result {
            Ok(()) => conn.set(State::LAYERS_ENDED),
            Err(error) => {
                // Until the kernel has room, or a layer takes more.
                conn.clear(State::WRITABLE);
                self.send_failed(error);
            }
        }
    }

    /// Notes that code of a layer ends the connection, which waits until that code has returned.
    pub(in super::super) fn note_end(&self, reason: CloseReason, resets: bool) {
        let conn = self.conn();
        conn.with_layers(|layers| match &mut layers.noted {
            Some(noted) => noted.resets |= resets,
            none => *none = Some(NotedEnd { reason, resets }),
        });
        conn.set(State::END_NOTED);
        self.touch();
    }

    pub(in super::super) fn end_noted(&self) {
        let conn = self.conn();
        conn.clear(State::END_NOTED);
        match conn.if_layers(|layers| layers.noted.take()).flatten() {
            Some(noted) if noted.resets => self.reset_for(noted.reason),
            Some(noted) => self.end(noted.reason),
            None => {}
        }
    }

    /// Ends the connection if the error that it has met is the panic of a layer.
    pub(in super::super) fn end_by_panic(&self) -> bool {
        let conn = self.conn();
        let panicked = conn.layered(|layered| layered.take_panic());
        let Some(Some(payload)) = panicked else {
            return false;
        };
        let reason = conn.core().park_panic(payload);
        self.note_failure(&reason);
        self.end(reason.clone());
        let failure = Failure::new("a layer", reason)
            .of_transport(self)
            .of_protocol(self.protocol_name());
        conn.handle.report(failure);
        true
    }

    /// The connection has ended: fails what waited for its layers, and tells of a connection that was
    /// not made.
    pub(in super::super) fn layers_are_gone(&self, closed: &Closed) {
        let conn = self.conn();
        let core = conn.core();
        let waiting = conn.if_layers(|layers| {
            let opening = mem::take(&mut layers.opening);
            let early = mem::take(&mut layers.early);
            (opening, early, layers.connect.take())
        });
        let Some((opening, early, connect)) = waiting else {
            return;
        };
        // `connection_lost` may have started one, with `with_layer`. Those of the layers that were opening
        // were cancelled before it, and none is pushed on a connection that has ended.
        self.cancel_layer_timers();
        for run in early {
            core.defer_drop_call(&*run);
        }
        for opening in opening {
            if let Some(completer) = opening.completer {
                completer.complete(Err(io::Error::from(closed.clone())));
            }
        }
        if let Some(connecting) = connect.and_then(|id| core.connecting(id)) {
            connecting.handshake_failed(closed);
        }
        if conn.is(State::CONNECTING)
            && let Some(server) = &conn.server
        {
            server.log_unmade(&conn.peer, closed);
        }
    }

    /// Takes the layers off a socket, and keeps them for [`with_layer`](Transport::with_layer). Returns
    /// the bare socket, and whether it lingers: after a graceful end, and after the failure of a
    /// layer, whose last words are on their way to the peer. Those that the kernel had no room for are
    /// returned too; `None` is in their place when the peer will miss some.
    pub(in super::super) fn take_layers_off(
        &self,
        stack: Socket,
        graceful: bool,
        closed: &Closed,
    ) -> (Socket, bool, Option<Vec<u8>>) {
        let conn = self.conn();
        let layered = match stack.into_foreign::<LayeredSocket>() {
            Ok(layered) => layered,
            Err(bare) => return (bare, false, Some(Vec::new())),
        };
        let graceful = graceful && !conn.is(State::CONNECTING | State::WRITE_FAILED);
        let failed = layered.has_failed()
            && matches!(closed.reason(), CloseReason::Io(_) | CloseReason::Panic(_));
        let rest = if failed {
            layered.last_words()
        } else {
            Some(Vec::new())
        };
        let has_rest = rest.as_ref().is_some_and(|rest| !rest.is_empty());
        let waits = !layered.below_has_ended() || has_rest;
        let (bare, layers) = layered.into_parts();
        conn.keep(layers);
        (bare, (graceful || failed) && waits, rest)
    }

    pub(crate) fn call_with_layer<L: Layer, R>(
        &self,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R,
    ) -> Option<R> {
        let conn = self.conn();
        let mut call = Some(call);
        let called = conn.lend_aside(|layered| {
            catch_unwind(AssertUnwindSafe(|| {
                layered.with_layer(|layer, io| call.take().map(|call| call(layer, io)))
            }))
        });
        if let Some((called, is_nothing)) = called {
            if conn.is(State::OPENING) {
                conn.set(State::OPEN_DUE);
            }
            if !is_nothing {
                self.touch();
            }
            if conn.core().is_closed() {
                // The loop was dropped meanwhile, and could not tell a protocol that was in use.
                self.settle();
            }
            match called {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                Err(payload) => resume_unwind(payload),
            }
        } else if conn.is(State::IN_LAYER) {
            return None;
        }
        let kept = conn.if_layers(|layers| layers.kept.clone())??;
        kept.call(call?)
    }
}

impl Conn {
    /// Keeps layers that came off the socket for [`with_layer`](Transport::with_layer).
    pub(super) fn keep(&self, layers: TakenOff) {
        let kept = self.with_layers(|layers| {
            let kept = layers.kept.get_or_insert_with(|| Kept::new(&self.handle));
            kept.clone()
        });
        kept.add(layers);
    }
}

/// The layers that have left a connection, and those of one that has ended. Dropped by the loop, like
/// protocols.
pub(super) struct Kept {
    handle: Handle,
    /// Those that came off last are the first. Taken out while one of them runs.
    layers: RefCell<Option<TakenOff>>,
}

impl Kept {
    fn new(handle: &Handle) -> Rc<Self> {
        let kept = Rc::new(Self {
            handle: handle.clone(),
            layers: RefCell::default(),
        });
        let at_end: Weak<Self> = Rc::downgrade(&kept);
        handle.core().at_end(at_end);
        kept
    }

    fn add(&self, layers: TakenOff) {
        let before = self.layers.replace(Some(layers));
        self.put_back(before);
    }

    /// Puts layers behind those that came off since.
    fn put_back(&self, layers: Option<TakenOff>) {
        let all = match (self.layers.take(), layers) {
            (Some(mut later), Some(layers)) => {
                later.append(layers);
                Some(later)
            }
            (later, layers) => later.or(layers),
        };
        self.layers.replace(all);
        if self.handle.core().is_gone() {
            // The loop has let go of its layers already.
            self.let_go();
        }
    }

    fn call<L: Layer, R>(&self, call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> R) -> Option<R> {
        let mut lent = LentKept(self, self.layers.take());
        lent.1.as_mut()?.with_layer(call)
    }

    fn let_go(&self) {
        let layers = self.layers.take();
        if let Some(layers) = layers {
            let core = self.handle.core();
            core.defer_drop(Deferred::Layers(layers));
        }
    }
}

impl AtEnd for Kept {
    fn end(&self, _: &Core) {
        self.let_go();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.let_go();
        self.handle.core().holder_dropped();
    }
}

/// The layers out of their place. Dropping it puts them back.
struct LentKept<'k>(&'k Kept, Option<TakenOff>);

impl Drop for LentKept<'_> {
    fn drop(&mut self) {
        self.0.put_back(self.1.take());
    }
}
