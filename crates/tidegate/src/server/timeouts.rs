//! The timeouts of accepted connections: the options. `crate::timeouts` keeps their values.

use super::ListenOptions;
use std::time::Duration;

/// # Timeouts
///
/// They hold for every accepted connection, and cost a connection neither memory nor a timer of its
/// own while nothing is stalled. `create_server` fails with
/// [`InvalidInput`](std::io::ErrorKind::InvalidInput) for [`Duration::ZERO`].
///
/// ```
/// use std::time::Duration;
/// use tidegate::ListenOptions;
///
/// let options = ListenOptions::new("127.0.0.1:8888")
///     .idle_timeout(Duration::from_secs(60))
///     .write_timeout(Duration::from_secs(30))
///     .close_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
impl ListenOptions {
    /// Ends connections with [`TimeoutKind::Idle`](crate::TimeoutKind::Idle) over which no byte
    /// comes or goes for `limit`; no limit unless set.
    ///
    /// * A connection ends no earlier than `limit` after its last byte. It ends at most a quarter of
    ///   `limit` later, when the loop is not busy: the connections of a server are looked at together,
    ///   four times in a limit or more.
    /// * The bytes are those that the kernel gave or took, also those of [layers](Self::layer).
    ///   A message that arrives in pieces keeps its connection, and so does the rest of a large reply.
    /// * The end of the peer's stream counts as a byte. A read that finds nothing does not.
    /// * A connection whose reading is stopped, or whose peer does not read, is idle too when no byte
    ///   moves for `limit`. Its unsent bytes are counted in [`Closed::unsent`](crate::Closed::unsent).
    /// * A [`ReadHold`](crate::ReadHold) is no idleness of the peer: while there is one and nothing is unsent,
    ///   the time stands still. It begins anew when the hold is dropped.
    /// * A look visits all connections of the loop, also those of other servers. It takes place at most
    ///   once in a millisecond, so a `limit` below 4 ms may end up to 2 ms later.
    /// * The time begins when the connection is accepted, and the limit still holds after a
    ///   [`close`](crate::Transport::close).
    ///
    /// A TCP peer sees what it sees after [`abort`](crate::Transport::abort). One that sends a byte now
    /// and then is never idle. asyncio has no such limit.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.idle = Some(limit);
        self
    }

    /// Sets the write timeout of accepted connections; no limit unless set.
    ///
    /// [`Transport::set_write_timeout`](crate::Transport::set_write_timeout) says what it is, and
    /// sets another for one connection, or none.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.write = Some(limit);
        self
    }

    /// Bounds every graceful close of accepted connections; no limit unless set.
    ///
    /// A close that is still sending after `limit` ends with
    /// [`TimeoutKind::Close`](crate::TimeoutKind::Close), as after
    /// [`close_within`](crate::Transport::close_within). The time begins when the kernel refuses a
    /// part of the rest, so a close that goes whole costs no timer. Of this limit, a `close_within` and the
    /// [write timeout](Self::write_timeout) the earliest ends the connection.
    ///
    /// Every close is bounded: [`Transport::close`](crate::Transport::close), the one of the default
    /// `eof_received`, [`Server::close_clients`](crate::Server::close_clients), and
    /// [`Server::shutdown`](crate::Server::shutdown). The end of [layers](Self::layer) is a part of
    /// it, and the [linger](Self::linger_limits) is not.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.close = Some(limit);
        self
    }
}
