//! The settings of a connection: its write limits, and the options of its socket.

use super::Transport;
use crate::driver::SocketOption;
use crate::flow::WriteLimits;
use std::io;

impl Transport {
    /// Sets the watermarks and the cap. They hold at once: a pause or a resume that this causes
    /// is delivered.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) unless `low <= high <= cap` and `cap > 0`;
    /// nothing changes then.
    pub fn set_write_limits(&self, limits: WriteLimits) -> io::Result<()> {
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

    /// The limits in force.
    pub fn write_limits(&self) -> WriteLimits {
        self.conn().marks.get().limits()
    }

    /// Bounds the bytes that wait unsent in the kernel (TCP_NOTSENT_LOWAT), so that little stands
    /// before what is written next; `None` is the system's default. Costs throughput on bulk
    /// transfers.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) on Unix sockets and where the system has no
    /// such option; the [`Closed`](crate::Closed) of an ended connection.
    pub fn set_unsent_low_water(&self, bytes: Option<u32>) -> io::Result<()> {
        self.set_option(SocketOption::UnsentLowWater(bytes.unwrap_or(0)))
    }

    /// Sets TCP_NODELAY, which is on from the start, as in asyncio. No effect on Unix sockets.
    ///
    /// # Errors
    ///
    /// Those of the system; the [`Closed`](crate::Closed) of an ended connection.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_option(SocketOption::NoDelay(on))
    }

    fn set_option(&self, option: SocketOption) -> io::Result<()> {
        if let Some(closed) = self.closed() {
            return Err(closed.into());
        }
        match self.conn().socket.borrow_mut().as_mut() {
            Some(socket) => socket.set_option(option),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
