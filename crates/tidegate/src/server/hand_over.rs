//! Connections from one loop to another: servers that give away what they accept, and servers that take
//! what others have accepted.

use super::Server;
use super::accepting::{Admission, Factory, reset};
use super::options::ListenOptions;
use super::state::ServerState;
use crate::driver::Socket;
use crate::transport::{Arrival, Transport};
use crate::{Address, AttachError, Detached, Handle, LoopClosed};
use std::io;
use std::rc::Rc;

/// # Connections for other loops
impl Handle {
    /// Listens, and gives each accepted connection to `take`, without a protocol.
    ///
    /// `take` may send it to another thread, whose loop [attaches](Self::attach) it, alone or
    /// [to a server](Server::attach). So one loop accepts for many.
    ///
    /// Of the options those hold that concern accepting: [`accept_if`](ListenOptions::accept_if), the
    /// backlog, and options of the socket. The others are for connections, of which this server has none:
    /// give them to the server that takes the connection. So
    /// [`pause_accepting`](Server::pause_accepting), called in `take` too, is the way to a maximum. No
    /// further connection is accepted before [`resume_accepting`](Server::resume_accepting).
    ///
    /// [`Server::finish_accepting`] and [`Server::shutdown`] give the backlog to `take`, too. A panic of
    /// `take` goes to the [error handler](Self::set_error_handler).
    ///
    /// # Errors
    ///
    /// As [`create_server`](Self::create_server).
    ///
    /// ```
    /// use std::thread;
    /// use tidegate::{EventLoop, Handle, ListenOptions, Protocol, RemoteHandle, Result, Server, Transport};
    ///
    /// struct Echo;
    ///
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    ///         transport.write(data)?;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut worker = EventLoop::new()?;
    /// let remote = worker.handle().remote();
    /// let accepting = EventLoop::new()?;
    /// accepting.handle().accept_with("127.0.0.1:0", move |_, detached| {
    ///     // An error says that the worker is gone: the connection is closed.
    ///     let _ = remote.call_soon_threadsafe(move |handle: &Handle| {
    ///         let _ = handle.attach(detached, Echo);
    ///     });
    /// })?;
    /// # worker.run_once(Some(std::time::Duration::ZERO))?;
    /// # Ok(()) }
    /// ```
    pub fn accept_with(
        &self,
        options: impl Into<ListenOptions>,
        take: impl FnMut(&Self, Detached) + 'static,
    ) -> io::Result<Server> {
        Server::create(self, options.into(), Factory::giving_away(Box::new(take)))
    }
}

impl ListenOptions {
    /// Listens nowhere: for a server whose connections others accept, and
    /// [`attach`](Server::attach) to it.
    ///
    /// Settings of connections hold for these, such as timeouts and [layers](Self::layer), and the write limits
    /// unless others have [come along](Server::attach). A [maximum](Self::max_connections) and [`accept_if`](Self::accept_if) do not:
    /// the loop that has accepted a connection has decided that.
    pub fn nowhere() -> Self {
        let mut options = Self::at(Vec::new());
        options.nowhere = true;
        options
    }

    /// Returns the [maximum number of connections](Self::max_connections), if one was set.
    pub fn most_connections(&self) -> Option<usize> {
        self.limits.most_connections()
    }
}

/// # Connections of other loops
impl Server {
    /// Takes a connection as if the server had accepted it: it gets a protocol of the factory, the layers,
    /// and everything else that the options say of connections.
    ///
    /// The factory runs within this call, and `connection_made` comes from the loop. A peer that the factory
    /// refuses, or that has its [maximum](ListenOptions::max_connections_per_peer), is reset and counted
    /// as refused, which is no error. Nor is a panic of the factory, which closes the connection and goes to the
    /// [error handler](Handle::set_error_handler). [`ListenOptions::accept_if`] is not asked, and
    /// [`ListenOptions::max_connections`] may be exceeded.
    ///
    /// Settings that [go along](Handle::attach) with a connection of another loop stay, such as its write limits.
    ///
    /// # Errors
    ///
    /// [`AttachError`], with the connection:
    ///
    /// * [`NotConnected`](io::ErrorKind::NotConnected): the server was closed, or the loop was dropped.
    /// * [`ResourceBusy`](io::ErrorKind::ResourceBusy): the call came from within the factory.
    /// * [`InvalidInput`](io::ErrorKind::InvalidInput): the server [gives away](Handle::accept_with) what
    ///   it accepts; or it has layers, and [`write_eof`](Transport::write_eof) was called before.
    /// * Those of [`Handle::attach`].
    pub fn attach(&self, detached: Detached) -> Result<(), AttachError> {
        let state = self.state();
        match state.check_attach() {
            Ok(()) => {
                let mut attached = Ok(());
                state.while_making(|| attached = state.take(detached));
                attached
            }
            Err(error) => Err(AttachError::new(error, detached)),
        }
    }
}

impl ServerState {
    fn check_attach(&self) -> io::Result<()> {
        if self.handle().core().is_closed() {
            return Err(LoopClosed.into());
        }
        if self.is_closed() {
            let message = "the server was closed";
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        match &*self.factory.borrow() {
            Some(factory) if factory.gives_away() => {
                let message = "the server gives its connections away: it has no protocols";
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
            Some(_) => Ok(()),
            None => {
                let message = "the factory of the server is running";
                Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
            }
        }
    }

    fn take(self: &Rc<Self>, detached: Detached) -> Result<(), AttachError> {
        let peer = detached.peer_addr().clone();
        if self.has_enough(&peer) {
            detached.reset();
            self.add_refusal();
            return Ok(());
        }
        let (protocol, layers) = match self.admit(&peer, false) {
            Admission::Admitted(protocol, layers) => (protocol, layers),
            Admission::Refused => {
                detached.reset();
                self.count_refusal(&peer);
                return Ok(());
            }
            // Reported; the connection is closed, as an accepted one would be.
            Admission::Failed => return Ok(()),
        };
        self.connection_begins(&peer);
        let arrival = Arrival {
            protocol,
            layers,
            marks: self.marks(),
            server: Some(self.clone()),
        };
        let arrived = Transport::arrive(self.handle(), detached, arrival);
        if arrived.is_err() {
            self.connection_never_began(&peer);
        }
        arrived.map(|_| ())
    }

    /// Gives an accepted socket away; returns whether it did.
    pub(super) fn give_away(&self, mut socket: Socket, peer: Address) -> bool {
        let mut refused = None;
        let accepted = self.with_factory(|factory| {
            let accepted = self.is_accepted(factory, &peer)?;
            if accepted {
                socket.set_nodelay_at_start(&peer);
                factory.give(self.handle(), Detached::new(socket, peer.clone()));
            } else {
                refused = Some(socket);
            }
            Some(accepted)
        });
        if let Some(socket) = refused {
            reset(socket);
            self.count_refusal(&peer);
        }
        accepted.flatten() == Some(true)
    }
}
