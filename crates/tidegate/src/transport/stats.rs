//! The numbers of a connection, and its line for logs.

use super::Transport;
use std::fmt;

/// Numbers of one connection; see [`Transport::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportStats {
    /// Bytes received from the kernel.
    pub received: u64,
    /// Bytes that writes have taken.
    pub written: u64,
    /// Bytes that the kernel has taken.
    pub sent: u64,
    /// Bytes that wait for the kernel.
    pub write_buffer_size: usize,
    /// Crossings of the high-water mark.
    pub pauses: u32,
}

impl TransportStats {
    pub(super) fn of(transport: &Transport) -> Self {
        let conn = transport.conn();
        Self {
            received: conn.received.get(),
            written: conn.written.get(),
            sent: conn.sent.get(),
            write_buffer_size: conn.waiting_bytes(),
            pauses: conn.pauses.get(),
        }
    }
}

/// One line for logs; never what was written.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conn = self.conn();
        let socket = format!("{:?}", conn.socket.try_borrow());
        write!(
            f,
            "Transport {} peer={} flow={:?} buffered={} state={:?} {socket}",
            conn.id,
            conn.peer,
            conn.flow(),
            conn.waiting_bytes(),
            conn.state.get(),
        )
    }
}
