//! The trait that brings the suite its connections.

use std::io;
use tidegate::{Handle, Protocol};

/// Makes connections of one kind of transport, and runs the loops that drive them.
///
/// The suite knows nothing of sockets, addresses and clocks: implement this for another transport,
/// or for a wrapper around one, and every case runs over it. Both ends of a connection may be on
/// one loop or on two.
///
/// From a writer whose peer does not read, a connection must take some kilobytes in each direction,
/// and no more than some megabytes.
pub trait Harness {
    /// Makes one connection: the side that connects gets `connecting`, the side that accepts gets
    /// `accepted`. It may return before either `connection_made`: the suite waits for both. A
    /// connection that a protocol ended in its `connection_made` is no error.
    ///
    /// # Errors
    ///
    /// An error when no connection was made. The suite reports it as a violation.
    fn connect(
        &mut self,
        connecting: Box<dyn Protocol>,
        accepted: Box<dyn Protocol>,
    ) -> io::Result<()>;

    /// Runs every loop until `done` returns true; calls it before the first tick and between ticks.
    /// Returns false when a time has passed that is long for this harness, or when nothing can
    /// happen any more.
    ///
    /// # Errors
    ///
    /// Those of running the loops.
    fn run_until(&mut self, done: &mut dyn FnMut() -> bool) -> io::Result<bool>;

    /// Runs every loop until only timers are left to wait for. The suite calls this before it checks
    /// that something did *not* happen. To return early is no error, but a violation may then go
    /// unseen.
    ///
    /// # Errors
    ///
    /// Those of running the loops.
    fn settle(&mut self) -> io::Result<()>;

    /// Returns a handle to every loop, always in the same order. The suite looks in their stats
    /// for connections, timers and completions that a case has left behind.
    fn handles(&self) -> Vec<Handle>;

    /// Returns whether a peer sees [`reset`](tidegate::Transport::reset) as a reset, as with TCP. Unix
    /// sockets have none: there it is as [`abort`](tidegate::Transport::abort).
    fn has_resets(&self) -> bool {
        true
    }
}
