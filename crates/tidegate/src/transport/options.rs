//! Changing the settings of a connection: its write limits, and the options of its socket.

use super::Transport;
use super::state::State;
use crate::driver::{Socket, SocketOption};
use crate::flow::WriteLimits;
use crate::timeouts::Timeouts;
use std::io;

impl Transport {
    pub(super) fn change_write_limits(&self, limits: WriteLimits) -> io::Result<()> {
        let marks = limits.resolve()?;
        let conn = self.conn();
        let before = conn.core().account.used();
        conn.marks.set(marks);
        conn.queue_gathered();
        if marks.above_high(conn.buffered()) {
            self.offer_once();
        }
        self.note_queued(before);
        self.touch();
        self.answer_waiters();
        Ok(())
    }

    /// Sets the timeouts of a connection that we have opened.
    pub(crate) fn limit_by(&self, timeouts: &Timeouts) {
        if let Some(limit) = timeouts.idle {
            self.limit_idleness(limit);
        }
        if let Some(limit) = timeouts.write {
            self.limit_stalls(Some(limit));
        }
        if let Some(limit) = timeouts.close {
            self.conn()
                .with_extra(|extra| extra.close_timeout = Some(limit));
        }
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> io::Result<()> {
        self.with_socket(|socket| socket.set_option(option))
    }

    /// Calls `call` with the socket, unless the connection has ended. It is borrowed meanwhile.
    pub(crate) fn with_socket<R>(
        &self,
        call: impl FnOnce(&mut Socket) -> io::Result<R>,
    ) -> io::Result<R> {
        if let Some(closed) = self.closed() {
            return Err(closed.into());
        }
        let conn = self.conn();
        if conn.is(State::LAYERED) {
            let busy = || {
                let message = "the connection is in use by code of one of its layers";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
            };
            return conn
                .layered(|layered| call(layered.bottom_mut()))
                .unwrap_or_else(busy);
        }
        match conn.socket.borrow_mut().as_mut() {
            Some(socket) => call(socket),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
