//! The maximum number of connections of a server.
//!
//! A listener asks [`ServerState::is_full`] before each accept, so none is made above the maximum.
//! The end of a socket at the maximum is the only event that makes room, and has the next tick
//! accept: nothing polls for it.

use super::ListenOptions;
use super::state::{ServerState, Stage};
use std::io;

/// The limits of a server, which its connections need no memory for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    connections: Option<usize>,
}

impl Limits {
    pub(super) fn check(&self) -> io::Result<()> {
        if self.connections == Some(0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "max_connections of 0: a server must be able to accept",
            ));
        }
        Ok(())
    }
}

/// # Limits
impl ListenOptions {
    /// Sets the maximum number of connections of the server, for all of its addresses together; no
    /// maximum unless set.
    ///
    /// At the maximum the server accepts nobody. Further peers connect with success and wait in
    /// the [backlog](Self::backlog), as in a [pause](crate::Server::pause_accepting). When a
    /// connection has ended, the server accepts again by itself. Of several addresses with waiting
    /// peers each has its turn.
    ///
    /// A socket that [lingers](crate::LingerLimits) counts as a connection until it is closed, and
    /// so does a connection whose [layers](Self::layer) are still opening.
    ///
    /// [`finish_accepting`](crate::Server::finish_accepting) and
    /// [`shutdown`](crate::Server::shutdown) take the whole backlog, also above the maximum.
    /// `create_server` fails with [`InvalidInput`](io::ErrorKind::InvalidInput) for 0.
    ///
    /// ```
    /// use tidegate::ListenOptions;
    ///
    /// let options = ListenOptions::new("127.0.0.1:8888").max_connections(10_000);
    /// # let _ = options;
    /// ```
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = Some(connections);
        self
    }
}

impl ServerState {
    /// Returns whether the server has its maximum of sockets.
    pub(super) fn is_full(&self) -> bool {
        let most = self.limits.connections;
        most.is_some_and(|most| self.socket_count() >= most)
    }

    /// Has the listeners go on if this was the socket that kept them from accepting.
    pub(super) fn socket_is_gone(&self) {
        let Some(most) = self.limits.connections else {
            return;
        };
        if self.socket_count() + 1 != most {
            return;
        }
        let Stage::Serving(listeners) = &*self.stage.borrow() else {
            return;
        };
        let first = self.first.get() % listeners.len().max(1);
        self.first.set(first + 1);
        let (later, sooner) = listeners.split_at(first);
        for listener in sooner.iter().chain(later) {
            listener.accept_later(self.handle().core());
        }
    }
}
