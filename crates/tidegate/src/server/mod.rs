//! Servers: listeners, a factory of protocols, and the connections that came of them.
//!
//! [`options`] says where to listen, [`bind`] binds there, [`listener`] accepts, [`accepting`] makes
//! connections of what is accepted or refuses it, [`layers`] is what stands on those, [`state`] counts
//! them, [`limits`] is their maximum, [`timeouts`] bounds their lives, [`idle`] finds the idle ones,
//! [`hand_over`] is for connections that another loop keeps or has accepted,
//! [`backlog`] takes what waits when a server stops listening,
//! [`shutdown`] is how it ends within a time.

mod accepting;
mod backlog;
mod bind;
mod hand_over;
mod idle;
mod layers;
mod limits;
mod listener;
mod options;
mod shutdown;
mod state;
mod timeouts;

use crate::completion::Completion;
use crate::driver;
use crate::event_loop::{Core, Deferred};
use crate::protocol::boxed;
use crate::{Address, CloseReason, Handle, LoopClosed, Protocol};
use accepting::Factory;
use state::Bound;
use std::fmt;
use std::io;
use std::mem;
use std::rc::{Rc, Weak};
use std::time::Duration;

pub(crate) use limits::PeerKey;
pub use options::ListenOptions;
pub use shutdown::ShutdownReport;
pub(crate) use state::ServerState;

/// # Listening
impl Handle {
    /// Listens, and gives each accepted connection a protocol that `factory` makes.
    ///
    /// A name is resolved within this call, which may take long. For a factory that needs the peer's
    /// address, see [`create_server_with`](Self::create_server_with).
    ///
    /// # Unix sockets
    ///
    /// One server has a path, from this call until it is closed, whether it listens yet or not. It
    /// holds an exclusive flock(2) on a file beside the socket, `PATH.lock`. The kernel releases
    /// the lock when a process is killed.
    ///
    /// A socket file that is there already is tried by a connect. When that is refused, the file
    /// was left behind by a program that has ended, and is replaced. A program that listens there
    /// without the lock sees a connection that ends without a byte, and keeps its path. Such a
    /// program is not noticed while it is bound and does not listen yet.
    ///
    /// Both files are removed when the server is closed, unless other files have their names by
    /// then. No other user should be able to write to the folder.
    ///
    /// # Errors
    ///
    /// * [`AddrInUse`](io::ErrorKind::AddrInUse): the address is in use; at a Unix path, another
    ///   server holds the lock, another program listens, or a file is no socket.
    /// * [`PermissionDenied`](io::ErrorKind::PermissionDenied): the system does not let this
    ///   process bind the address, make files in the folder, or use those of another user there.
    /// * [`NotFound`](io::ErrorKind::NotFound): the folder of a Unix path, or the interface of a
    ///   zone, does not exist.
    /// * [`InvalidInput`](io::ErrorKind::InvalidInput): an address or a limit is invalid.
    /// * Other errors of the system, and [`LoopClosed`].
    #[doc(alias = "create_unix_server")]
    pub fn create_server<P: Protocol>(
        &self,
        options: impl Into<ListenOptions>,
        mut factory: impl FnMut() -> P + 'static, // A closure, such as `|| Echo`.
    ) -> io::Result<Server> {
        let make = Box::new(move |_: &Address| Some(boxed(factory())));
        Server::create(self, options.into(), Factory::new(make))
    }
}

/// A listening server. Dropping it does nothing: the loop keeps serving until
/// [`close`](Server::close). Clones name the same server.
#[derive(Clone)]
pub struct Server(Rc<ServerState>);

impl Server {
    fn create(handle: &Handle, mut options: ListenOptions, factory: Factory) -> io::Result<Self> {
        let core = handle.core();
        let factory = factory
            .accept_if(options.accept_if.take())
            .layers(mem::take(&mut options.layers));
        let bound = Self::bind(core, &mut options);
        options.socket.retire(core);
        let bound = match bound {
            Ok(bound) => bound,
            Err(error) => {
                core.defer_drop(Deferred::Value(Box::new(factory)));
                return Err(error);
            }
        };
        let server = Self(ServerState::new(handle, bound, options.backlog, factory));
        let at_end: Weak<ServerState> = Rc::downgrade(&server.0);
        core.at_end(at_end);
        if options.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }

    fn bind(core: &Core, options: &mut ListenOptions) -> io::Result<Bound> {
        if core.is_closed() {
            return Err(LoopClosed.into());
        }
        let marks = options.write_limits.resolve()?;
        options.limits.check()?;
        options.timeouts.check()?;
        let listeners = options.bind(core)?;
        let addrs = listeners.iter().map(driver::Listener::local_addr);
        let addrs = addrs.collect::<io::Result<_>>()?;
        if core.is_closed() {
            // By code of the user's that was shown a socket.
            return Err(LoopClosed.into());
        }
        Ok(Bound {
            listeners,
            addrs,
            marks,
            linger: options.linger_limits,
            limits: options.limits,
            timeouts: options.timeouts,
        })
    }

    /// Returns the addresses that it listens on, with the port that was taken for port 0.
    pub fn local_addrs(&self) -> &[Address] {
        self.0.addrs()
    }

    /// Returns a handle to the loop that drives it.
    #[doc(alias = "get_loop")]
    pub fn handle(&self) -> &Handle {
        self.0.handle()
    }

    fn state(&self) -> &Rc<ServerState> {
        &self.0
    }

    /// Returns whether the server listens. See also [`is_accepting`](Self::is_accepting).
    pub fn is_serving(&self) -> bool {
        self.0.is_serving()
    }

    /// Begins to listen, if it does not yet.
    ///
    /// # Errors
    ///
    /// Those of the system; [`NotConnected`](io::ErrorKind::NotConnected) when the server was
    /// closed; [`LoopClosed`].
    pub fn start_serving(&self) -> io::Result<()> {
        self.0.start_serving()
    }

    /// Stops listening. Connections stay. A socket file is removed if it is still ours.
    ///
    /// Connections in the backlog, whose peers have connected and which were not accepted yet, end: the
    /// kernel resets TCP connections, and the peer of a Unix socket reads EOF or a reset.
    /// [`finish_accepting`](Self::finish_accepting) and [`shutdown`](Self::shutdown) take them
    /// first.
    pub fn close(&self) {
        self.0.close();
    }

    /// Closes every connection, as [`Transport::close`](crate::Transport::close) does.
    pub fn close_clients(&self) {
        self.0.close_clients();
    }

    /// Aborts every connection, as [`Transport::abort`](crate::Transport::abort) does, and ends at once the
    /// sockets that linger after a graceful close.
    pub fn abort_clients(&self) {
        self.0.cut(CloseReason::LocalAbort);
    }

    /// Returns the number of connections whose `connection_lost` has not come yet, and of those of the
    /// backlog that [`finish_accepting`](Self::finish_accepting) has taken.
    pub fn connection_count(&self) -> usize {
        self.0.connection_count()
    }

    /// Completes when the server is closed and has no connections left.
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`].
    pub fn wait_closed(&self) -> Completion<()> {
        self.0.wait_closed()
    }

    /// Stops listening, closes every connection gracefully, and ends with [`CloseReason::Shutdown`] those
    /// that are left when `grace` is over.
    ///
    /// Completes when all have ended, sockets that linger after a graceful close included. So the process
    /// may exit then without a peer losing its last bytes. Of several calls the shortest grace holds.
    ///
    /// Connections in the backlog are taken as [`finish_accepting`](Self::finish_accepting) takes
    /// them, so that a peer whose connect has succeeded is not reset. Each gets its protocol and its
    /// `connection_made`, whatever the grace, and is then closed as the others. They are in the
    /// report.
    ///
    /// A connection that is cut looks to its peer as after [`abort`](crate::Transport::abort).
    /// Ended from another thread; with the feature `signal`, `Handle::wait_signal` ends it at Ctrl-C:
    ///
    /// ```
    /// use std::{thread, time::Duration};
    /// # use tidegate::{EventLoop, Protocol, Result, Transport};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
    /// #         transport.write(data)?;
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let server = event_loop.handle().create_server("127.0.0.1:0", || Echo)?;
    /// let remote = event_loop.handle().remote();
    /// thread::spawn(move || remote.stop());
    /// event_loop.run_forever()?;
    /// let report = event_loop.run_until(server.shutdown(Duration::from_secs(5)))?;
    /// assert_eq!((report.aborted, report.unsent), (0, 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Of the completion: [`LoopClosed`].
    pub fn shutdown(&self, grace: Duration) -> Completion<ShutdownReport> {
        self.0.shut_down(grace)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.local_addrs())
            .field("serving", &self.is_serving())
            .field("connections", &self.connection_count())
            .finish_non_exhaustive()
    }
}
