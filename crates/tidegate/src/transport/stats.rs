//! What a connection tells of itself: numbers, and one line for logs.

use super::Transport;
use std::fmt;

impl Transport {
    /// Numbers of this connection so far.
    pub fn stats(&self) -> TransportStats {
        let conn = self.conn();
        TransportStats {
            received: conn.received.get(),
            written: conn.written.get(),
            sent: conn.sent.get(),
            write_buffer_size: self.write_buffer_size(),
            pauses: conn.pauses.get(),
        }
    }
}

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

/// One line for logs; never what was written.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conn = self.conn();
        write!(
            f,
            "Transport {} peer={} flow={:?} buffered={} state={:?}",
            conn.id,
            conn.peer,
            conn.flow(),
            self.write_buffer_size(),
            conn.state.get(),
        )
    }
}
