//! How a connection leaves its loop without ending: at the place of a change of its protocol.
//!
//! Everything that is left over goes into a [`Detached`], which [`arrive`](super::arrive) puts into a loop.
//! Values that name the connection by its id, such as timers, find it no more.

use super::Transport;
use super::conn::Conn;
use super::state::State;
use crate::completion::{Completer, Completion};
use crate::detached::{Parts, Progress, Settings};
use crate::event_loop::add;
use crate::{Bytes, CloseReason, Closed, Detached};
use std::io;
use std::mem;

/// # Another loop
impl Transport {
    /// Takes the connection out of its loop, once the running callback has returned. Completes with the
    /// connection, which may go to another thread.
    ///
    /// Nothing is lost, nothing comes twice, and the peer sees nothing of it. Bytes that are buffered, given
    /// [back](Transport::unread) or [left over](crate::Protocol::leftover) go along:
    /// [`Handle::attach`](crate::Handle::attach) says what else does. Writes are taken until the
    /// callback has returned.
    ///
    /// The protocol is not called again, but for its `leftover`, and the loop drops it. It gets no
    /// `connection_lost`. Later writes, and what waits for this transport, see
    /// [`CloseReason::Detached`]. [`Server`](crate::Server)s do not count the connection any more.
    ///
    /// A call before `connection_made` takes effect behind that. One in `eof_received` needs
    /// [`KeepOpen`](crate::OnEof::KeepOpen) as the result, for a connection that closes stays.
    ///
    /// Dropping the completion before it is complete leaves the connection where it is. A completion that is dropped
    /// with the connection closes it. So does [`then_on`](Completion::then_on) of the same transport: by then that has
    /// left.
    ///
    #[doc = include_str!("../../docs/transport/detach.md")]
    ///
    /// # Errors
    ///
    /// Of the completion; the connection then stays what it is:
    ///
    /// * The [`Closed`] of a connection that is ending or has ended.
    /// * [`Unsupported`](io::ErrorKind::Unsupported): the connection has a [layer](crate::Layer), which
    ///   stays with its loop. Detach it before a layer is put on: the loop that keeps the connection
    ///   [puts it on](crate::ListenOptions::layer).
    /// * `Unsupported` as well for a [pipe](crate::PipeEnd).
    /// * [`ResourceBusy`](io::ErrorKind::ResourceBusy): an earlier call waits already.
    pub fn detach(&self) -> Completion<Detached> {
        let conn = self.conn();
        if let Err(error) = self.check_detach() {
            return Completion::ready(&conn.handle, Err(error));
        }
        let (completer, completion) = Completion::pair(&conn.handle);
        conn.with_extra(|extra| extra.detaching = Some(completer));
        conn.set(State::SWITCH);
        self.touch();
        completion
    }
}

impl Conn {
    /// In any world a pipe is the one that never lingers.
    fn is_pipe(&self) -> bool {
        let socket = self.socket.borrow();
        socket.as_ref().is_some_and(|socket| !socket.lingers())
    }
}

impl Transport {
    fn check_detach(&self) -> io::Result<()> {
        self.check_movable()?;
        if self.is_detaching() {
            let message = "detach was called already";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        Ok(())
    }

    /// Returns why the connection stays, if it does.
    fn check_movable(&self) -> io::Result<()> {
        let conn = self.conn();
        if conn.is(State::ENDING) {
            return Err(conn.refusal().into());
        }
        if conn.is(State::LAYERED) {
            let message = "the connection has a layer, which stays with its loop: detach it before a layer \
                           is put on";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        if conn.is_pipe() {
            let message =
                "a pipe stays with its loop: connect it to the other one in the first place";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    /// Whether `detach` was called, and somebody waits for the connection.
    pub(super) fn is_detaching(&self) -> bool {
        let extra = &self.conn().extra;
        extra.with(|extra| {
            let detaching = extra.as_ref().and_then(|extra| extra.detaching.as_ref());
            detaching.is_some_and(|completer| !completer.is_cancelled())
        })
    }

    /// The connection has ended before it could leave, or has left for another call.
    pub(super) fn refuse_detach(&self, closed: &Closed) {
        if let Some(completer) = self.conn().take_detaching() {
            completer.complete(Err(closed.clone().into()));
        }
    }

    /// Takes the connection out of the loop.
    pub(super) fn leave_loop(&self, completer: Completer<Detached>) {
        if completer.is_cancelled() {
            return;
        }
        let left = self.check_movable().and_then(|()| self.take_out());
        completer.complete(left);
    }

    fn take_out(&self) -> io::Result<Detached> {
        let conn = self.conn();
        let core = conn.core();
        let left_over = self.with_leftover(Vec::new());
        conn.put_unread_in_front(left_over);
        #[cfg(feature = "splice")]
        self.unpipe();
        // That was code of the user's, which may have ended the connection, or put a layer on it. Nor does one
        // leave whose pipe could not be read.
        self.check_movable()?;
        self.deregister()?;
        let closed = self.fix_closed(CloseReason::Detached);
        conn.set(State::LOST_CALLED);
        let next = conn.with_extra(|extra| extra.next.take());
        if let Some(next) = next {
            conn.put_unread_in_front(next.unread);
            core.drop_value(next.protocol);
        }
        let parts = conn.pack();
        for timer in conn.with_extra(|extra| mem::take(&mut extra.timers)) {
            core.cancel_timer(timer);
        }
        let protocol = conn.protocol.take();
        core.drop_value(protocol);
        let watch = conn.with_extra(|extra| extra.write_failed.take());
        core.drop_value(watch);
        let gone = core.registry.borrow_mut().remove(conn.id);
        drop(gone);
        self.refuse_detach(&closed);
        self.fail_waiters(&closed);
        self.answer_closes(&closed);
        if let Some(server) = &conn.server {
            server.connection_ended(&closed, &conn.peer);
        }
        parts.map(Detached::from)
    }

    /// Has the kernel report no more events of it.
    fn deregister(&self) -> io::Result<()> {
        let conn = self.conn();
        let core = conn.core();
        add(&core.counters.registrations, 1);
        match conn.socket.borrow_mut().as_mut() {
            Some(socket) => core.with_driver(|driver| driver.as_dyn().deregister(socket)),
            None => Err(conn.refusal().into()),
        }
    }
}

impl Conn {
    fn take_detaching(&self) -> Option<Completer<Detached>> {
        self.extra
            .with(|extra| extra.as_mut().and_then(|extra| extra.detaching.take()))
    }

    fn put_unread_in_front(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.with_extra(|extra| extra.unread.come_next(bytes));
            self.set(State::UNREAD);
        }
    }

    /// Moves everything out that goes along.
    fn pack(&self) -> io::Result<Parts> {
        let settings = self.settings();
        self.end_stall();
        let Some(socket) = self.socket.take() else {
            return Err(self.refusal().into());
        };
        let mut parts = Parts::new(socket, self.peer.clone(), self.is(State::ACCEPTED));
        parts.settings = settings;
        parts.unsent = self.take_unsent();
        self.with_extra(|extra| {
            parts.unread = mem::take(&mut extra.unread).rest().to_vec();
            parts.progress.refused_at = extra.refused_at;
        });
        parts.progress = Progress {
            written: self.written.get(),
            sent: self.sent.get(),
            received: self.received.get(),
            eof_asked: self.is(State::EOF_ASKED),
            eof_sent: self.is(State::EOF_SENT),
            ..parts.progress
        };
        Ok(parts)
    }

    fn settings(&self) -> Settings {
        Settings {
            marks: Some(self.marks.get()),
            linger: self.with_extra(|extra| extra.linger),
            write_timeout: self.own_write_timeout(),
        }
    }

    fn take_unsent(&self) -> Vec<Bytes> {
        let Some(queue) = self.queue.take() else {
            return Vec::new();
        };
        self.core().account.take(queue.len());
        self.clear(State::QUEUED);
        queue.into_bytes()
    }
}
