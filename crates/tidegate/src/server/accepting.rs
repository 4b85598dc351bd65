//! Accepting: the peers that get a connection, and the time at which they do.
//!
//! [`ServerState::accepted`] makes a connection of an accepted socket, or refuses it. The public
//! part is [`ListenOptions::accept_if`], [`Handle::create_server_with`], and the methods of
//! [`Server`] that pause and end accepting.

use super::layers::MakeLayers;
use super::state::{ServerState, Stage};
use super::{ListenOptions, Server};
use crate::completion::Completion;
use crate::driver::{self, SocketOption};
use crate::event_loop::{Deferred, Failure, add};
use crate::log::guarded;
use crate::protocol::boxed;
use crate::transport::{NewConnection, NewLayer, Transport};
use crate::{Address, CloseReason, Detached, Handle, Protocol};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The user's part in accepting.
pub(super) struct Factory {
    accept_if: Option<AcceptIf>,
    layers: MakeLayers,
    make: Make,
}

/// The use of an accepted connection.
enum Make {
    Protocol(MakeProtocol),
    /// Another loop has it.
    GiveAway(Take),
}

type MakeProtocol = Box<dyn FnMut(&Address) -> Option<Box<dyn Protocol>>>;
type Take = Box<dyn FnMut(&Handle, Detached)>;

impl Factory {
    pub(super) fn new(make: MakeProtocol) -> Self {
        Self::of(Make::Protocol(make))
    }

    pub(super) fn giving_away(take: Take) -> Self {
        Self::of(Make::GiveAway(take))
    }

    fn of(make: Make) -> Self {
        Self {
            accept_if: None,
            layers: MakeLayers::default(),
            make,
        }
    }

    pub(super) fn gives_away(&self) -> bool {
        matches!(self.make, Make::GiveAway(_))
    }

    /// Gives an accepted connection away, if that is what becomes of them.
    pub(super) fn give(&mut self, handle: &Handle, detached: Detached) {
        if let Make::GiveAway(take) = &mut self.make {
            handle
                .core()
                .guard("accept_with", || take(handle, detached));
        }
    }

    pub(super) fn accept_if(self, accept_if: Option<AcceptIf>) -> Self {
        Self { accept_if, ..self }
    }

    pub(super) fn layers(self, layers: MakeLayers) -> Self {
        Self { layers, ..self }
    }
}

/// The closure of [`ListenOptions::accept_if`].
pub(super) struct AcceptIf(Box<dyn FnMut(&Address) -> bool>);

impl fmt::Debug for AcceptIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AcceptIf")
    }
}

pub(super) enum Admission {
    Admitted(Box<dyn Protocol>, Vec<NewLayer>),
    Refused,
    /// A panic, which was reported; or the server was closed meanwhile.
    Failed,
}

impl ListenOptions {
    /// Refuses the peers for which `accept` returns `false`; called with the address of each
    /// accepted peer, before the factory. Every peer is accepted unless set.
    ///
    /// A refused TCP connection is reset. So its peer learns of the refusal at once, and this
    /// machine keeps nothing of the connection, such as a state of TIME_WAIT (RFC 9293, 3.6.1).
    /// The peer of a refused Unix socket reads EOF, or a reset if it has sent something. A refusal is no failure: it is counted in
    /// [`Server::refused_count`] and [`LoopStats::refused`](crate::LoopStats::refused), and logged
    /// at `debug`, at most ten times a second.
    ///
    /// This is also how a server of `tidegate-streams` refuses a peer before it starts a task. A
    /// factory that needs the address is [`Handle::create_server_with`]'s.
    ///
    /// Behind a proxy the address is the proxy's. A Unix peer usually is
    /// [`Unnamed`](Address::Unnamed). With [`v6only(false)`](Self::v6only) the address of an IPv4
    /// peer is IPv4-mapped: see [`IpAddr::to_canonical`](std::net::IpAddr::to_canonical).
    ///
    /// When `accept` panics, the connection is closed, and the panic goes to the
    /// [error handler](Handle::set_error_handler).
    ///
    /// ```
    /// use tidegate::{Address, ListenOptions};
    ///
    /// let options = ListenOptions::new("127.0.0.1:8888").accept_if(|peer: &Address| {
    ///     peer.as_inet().is_some_and(|addr| addr.ip().is_loopback())
    /// });
    /// # let _ = options;
    /// ```
    pub fn accept_if(mut self, accept: impl FnMut(&Address) -> bool + 'static) -> Self {
        self.accept_if = Some(AcceptIf(Box::new(accept)));
        self
    }
}

impl Handle {
    /// Listens as [`create_server`](Self::create_server) does, with a factory that is given the
    /// peer's address and may refuse the peer.
    ///
    /// When the factory returns `None`, the connection is refused, as
    /// [`ListenOptions::accept_if`] describes.
    ///
    /// # Errors
    ///
    /// As [`create_server`](Self::create_server).
    ///
    /// ```
    /// use tidegate::{Address, EventLoop, Protocol, Result, Transport};
    ///
    /// struct Greeter(Address);
    ///
    /// impl Protocol for Greeter {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result {
    ///         transport.write_fmt(format_args!("hello, {}\n", self.0))?;
    ///         Ok(())
    ///     }
    ///
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let event_loop = EventLoop::new()?;
    /// event_loop.handle().create_server_with("127.0.0.1:0", |peer: &Address| {
    ///     let addr = peer.as_inet()?;
    ///     addr.ip().is_loopback().then(|| Greeter(peer.clone()))
    /// })?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "protocol_factory")]
    pub fn create_server_with<P: Protocol>(
        &self,
        options: impl Into<ListenOptions>,
        mut factory: impl FnMut(&Address) -> Option<P> + 'static, // Such as `|_| Some(Echo)`.
    ) -> io::Result<Server> {
        let make = Box::new(move |peer: &Address| factory(peer).map(boxed));
        Server::create(self, options.into(), Factory::new(make))
    }
}

/// # Accepting
impl Server {
    /// Stops accepting; [`resume_accepting`](Self::resume_accepting) goes on. Connections stay.
    ///
    /// The kernel goes on listening, unlike after [`close`](Self::close). Peers connect with
    /// success and wait in the [backlog](ListenOptions::backlog). When that is full, Linux ignores
    /// further TCP connects, which their peers repeat (tcp(7)); a connect of a Unix socket waits,
    /// or fails with EAGAIN (connect(2)).
    ///
    /// A second pause has no effect, nor has a pause of a closed server. A server that does not
    /// listen yet is paused when it does. No system call is made.
    pub fn pause_accepting(&self) {
        self.state().pause_accepting();
    }

    /// Accepts again after [`pause_accepting`](Self::pause_accepting), beginning with the backlog
    /// in the next tick. Without a pause it has no effect. No system call is made.
    pub fn resume_accepting(&self) {
        self.state().resume_accepting();
    }

    /// Returns whether the server listens and is not [paused](Self::pause_accepting).
    pub fn is_accepting(&self) -> bool {
        self.is_serving() && !self.state().is_paused()
    }

    /// Returns the number of connections that were refused, by
    /// [`accept_if`](ListenOptions::accept_if), the [factory](Handle::create_server_with), or
    /// [`max_connections_per_peer`](ListenOptions::max_connections_per_peer).
    pub fn refused_count(&self) -> u64 {
        self.state().refused_count()
    }

    /// Takes the connections that wait in the backlog, and stops listening. Completes with their
    /// number when each has its protocol.
    ///
    /// They are taken within this call, up to the length of the backlog for each address, also
    /// when accepting is [paused](Self::pause_accepting). Their protocols come from the loop, and
    /// refused peers are not in the number. [`close`](Self::close) leaves these connections to the kernel,
    /// which ends them.
    ///
    /// A TCP connection is reset all the same if its handshake ends between the last accept and
    /// the close of the listener; if the process is out of descriptors, the rest of the backlog
    /// is, too.
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`](crate::LoopClosed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the completion only stops the wait.
    pub fn finish_accepting(&self) -> Completion<usize> {
        self.state().finish_accepting()
    }
}

impl ServerState {
    pub(super) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    fn pause_accepting(&self) {
        if !matches!(*self.stage.borrow(), Stage::Closed) {
            self.paused.set(true);
        }
    }

    fn resume_accepting(&self) {
        if !self.paused.replace(false) {
            return;
        }
        if let Stage::Serving(listeners) = &*self.stage.borrow() {
            for listener in listeners {
                listener.accept_later(self.handle().core());
            }
        }
    }

    fn refused_count(&self) -> u64 {
        self.refused.get()
    }

    /// Makes a connection of an accepted socket, or refuses it.
    pub(super) fn accepted(self: &Rc<Self>, socket: driver::Socket, peer: Address) {
        self.while_making(|| {
            self.make_connection(socket, peer);
        });
    }

    /// The server is not done while `make` runs: one more connection may come of it.
    pub(super) fn while_making(&self, make: impl FnOnce()) {
        self.making.set(true);
        make();
        self.making.set(false);
        self.check_done();
    }

    /// Returns whether there is a connection.
    pub(super) fn make_connection(
        self: &Rc<Self>,
        mut socket: driver::Socket,
        peer: Address,
    ) -> bool {
        if self.gives_away {
            return self.give_away(socket, peer);
        }
        if self.has_enough(&peer) {
            reset(socket);
            self.add_refusal();
            return false;
        }
        let (protocol, layers) = match self.admit(&peer, true) {
            Admission::Admitted(protocol, layers) => (protocol, layers),
            Admission::Refused => {
                reset(socket);
                self.count_refusal(&peer);
                return false;
            }
            Admission::Failed => return false,
        };
        socket.set_nodelay_at_start(&peer);
        let from = peer.clone();
        let connection = NewConnection {
            socket,
            peer,
            protocol,
            accepted: true,
            marks: self.marks(),
            server: Some(self.clone()),
        };
        self.connection_begins(&from);
        match Transport::start(self.handle(), connection) {
            Ok(transport) => {
                transport.begin_layered(layers, Vec::new());
                transport.settle();
                if self.is_shutting_down() {
                    transport.close();
                }
                true
            }
            Err(refused) => {
                self.handle().core().defer_drop_layers(layers);
                let reason = CloseReason::Io(Arc::new(refused.error));
                let failure = Failure::new("taking an accepted connection", reason);
                self.connection_never_began(&from);
                self.handle().core().report(failure.of_peer(from));
                false
            }
        }
    }

    /// Asks the user; `accepted`: also whether to accept the peer.
    pub(super) fn admit(&self, peer: &Address, accepted: bool) -> Admission {
        let admission = self.with_factory(|factory| self.ask(factory, peer, accepted));
        match admission.unwrap_or(Admission::Failed) {
            Admission::Admitted(protocol, layers) if self.was_closed() => {
                let core = self.handle().core();
                core.defer_drop(Deferred::Protocol(protocol));
                core.defer_drop_layers(layers);
                Admission::Failed
            }
            admission => admission,
        }
    }

    /// Calls with the factory, unless it runs already. It is out of its place meanwhile.
    pub(super) fn with_factory<R>(&self, call: impl FnOnce(&mut Factory) -> R) -> Option<R> {
        let taken = self.factory.take();
        let mut factory = taken?;
        let result = call(&mut factory);
        if self.is_done_with_factory() {
            let core = self.handle().core();
            core.defer_drop(Deferred::Value(Box::new(factory)));
        } else {
            self.factory.replace(Some(factory));
        }
        Some(result)
    }

    fn ask(&self, factory: &mut Factory, peer: &Address, accepted: bool) -> Admission {
        let core = self.handle().core();
        if accepted {
            match self.is_accepted(factory, peer) {
                Some(true) => {}
                Some(false) => return Admission::Refused,
                None => return Admission::Failed,
            }
        }
        let Make::Protocol(make) = &mut factory.make else {
            return Admission::Failed;
        };
        match core.guard("a server's factory", || make(peer)) {
            Some(Some(protocol)) => match self.make_layers(&mut factory.layers, peer) {
                Some(layers) => Admission::Admitted(protocol, layers),
                None => {
                    core.defer_drop(Deferred::Protocol(protocol));
                    Admission::Failed
                }
            },
            Some(None) => Admission::Refused,
            None => Admission::Failed,
        }
    }

    /// Asks [`ListenOptions::accept_if`]. `None` after a panic, which was reported.
    pub(super) fn is_accepted(&self, factory: &mut Factory, peer: &Address) -> Option<bool> {
        let Some(AcceptIf(accept)) = &mut factory.accept_if else {
            return Some(true);
        };
        let core = self.handle().core();
        core.guard("a server's accept_if", || accept(peer))
    }

    pub(super) fn add_refusal(&self) {
        self.refused.set(self.refused.get() + 1);
        add(&self.handle().core().counters.refused, 1);
    }

    pub(super) fn count_refusal(&self, peer: &Address) {
        let core = self.handle().core();
        self.add_refusal();
        guarded(|| {
            if !log::log_enabled!(target: "tidegate::server", log::Level::Debug) {
                return;
            }
            let admitted = self.refusal_log.borrow_mut().admit(core.clock());
            let Some(left_out) = admitted else { return };
            if left_out > 0 {
                log::debug!(target: "tidegate::server", "{left_out} refusals were not logged");
            }
            log::debug!(target: "tidegate::server", "refused {peer}");
        });
    }
}

/// Resets the socket of a peer that is not served: a FIN would look like success.
pub(super) fn reset(mut socket: driver::Socket) {
    // It fails on a socket that was reset already.
    let _ = socket.set_option(SocketOption::ResetOnClose);
}
