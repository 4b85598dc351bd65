//! Changing the settings of a connection: its write limits, and the options of its socket.

use super::Transport;
use crate::driver::SocketOption;
use crate::flow::WriteLimits;
use std::io;
use std::os::fd::OwnedFd;

impl Transport {
    pub(super) fn change_write_limits(&self, limits: WriteLimits) -> io::Result<()> {
        let marks = limits.resolve()?;
        let conn = self.conn();
        conn.marks.set(marks);
        conn.queue_gathered();
        if marks.above_high(conn.buffered()) {
            self.offer_once();
        }
        self.update_flow();
        self.touch();
        self.answer_waiters();
        Ok(())
    }

    pub(super) fn set_option(&self, option: SocketOption) -> io::Result<()> {
        if let Some(closed) = self.closed() {
            return Err(closed.into());
        }
        match self.conn().socket.borrow_mut().as_mut() {
            Some(socket) => socket.set_option(option),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// A copy, because code of the user's is to see it: nothing may be borrowed then.
    pub(super) fn copy_descriptor(&self) -> io::Result<OwnedFd> {
        if let Some(closed) = self.closed() {
            return Err(closed.into());
        }
        match self.conn().socket.borrow_mut().as_mut() {
            Some(socket) => socket.copy_descriptor(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
