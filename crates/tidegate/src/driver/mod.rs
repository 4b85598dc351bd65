//! Everything that the loop asks of the operating system.
//!
//! The loop polls, wakes, reads the clock, listens, connects, moves bytes and has jobs run
//! through what is here and through nothing else. Real sockets are called directly; another world
//! plugs in behind [`Driver`], [`ListenerSocket`] and [`StreamSocket`], so that no type that a user
//! names has a parameter for it. Public only with the feature `unstable-driver`, and outside
//! semver.

mod carried;
mod child;
mod datagram;
mod events;
mod job;
mod listener;
mod os;
mod stream;
mod watch;

use crate::Address;
#[cfg(feature = "signal")]
use crate::Signal;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use os::OsEvents;

pub(crate) use carried::Carried;
pub use child::{ChildProcess, Process, Spawned};
pub use datagram::{
    DatagramBindOptions, DatagramOption, DatagramSocket, Datagrams, Received, Transmit,
};
pub use events::{Events, Readiness, Token, WAKE};
pub use job::{Job, JobId, JobStart};
pub use listener::{BindOptions, Listener, ListenerSocket, UnixFileOptions};
#[cfg(feature = "process")]
pub(crate) use os::OsChild;
pub(crate) use os::{OsDatagrams, OsDriver, OsListener, OsPipe, OsStream};
#[cfg(feature = "splice")]
pub(crate) use os::{SplicePipe, is_sigpipe_harmless};
pub use stream::{Socket, SocketOption, StreamSocket};

/// A world for the loop to run in.
pub trait Driver: fmt::Debug {
    /// Waits for events, at most for `timeout`, and pushes them. May return early and empty.
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// Returns a waker that ends a poll from any thread, with an event for [`WAKE`].
    fn waker(&self) -> Arc<dyn Wake>;

    /// The time, never going backwards.
    fn now(&self) -> Instant;

    /// Makes a bound listener that does not listen yet.
    fn bind(&mut self, address: &Address, options: BindOptions) -> io::Result<Listener>;

    /// Starts listening and reporting events.
    fn listen(&mut self, listener: &mut Listener, backlog: u32, token: Token) -> io::Result<()>;

    /// Begins to connect, from a local address if there is one, without registering. For a Unix
    /// address, [`WouldBlock`](io::ErrorKind::WouldBlock) means: try again later.
    fn connect(&mut self, address: &Address, from: Option<SocketAddr>) -> io::Result<Socket>;

    /// Returns the device and the inode of a socket's file, in a world with files.
    fn file_of_socket(&self, path: &Path) -> Option<(u64, u64)> {
        let _ = path;
        None
    }

    /// Reports events of a stream from now on, what is ready already included.
    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()>;

    /// Reports no more events of a stream, which another driver of this kind may register then.
    fn deregister(&mut self, socket: &mut Socket) -> io::Result<()> {
        let _ = socket;
        let message = "in this world under the loop, connections stay in their loops";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// Makes a socket of datagrams that is bound to `local` and connected to `remote`, as far as they are
    /// given.
    fn bind_datagrams(
        &mut self,
        local: Option<&Address>,
        remote: Option<&Address>,
        options: DatagramBindOptions,
    ) -> io::Result<Datagrams> {
        let _ = (local, remote, options);
        Err(without_datagrams())
    }

    /// Reports events of a socket of datagrams from now on, but not that it has room.
    fn register_datagrams(&mut self, socket: &mut Datagrams, token: Token) -> io::Result<()> {
        let _ = (socket, token);
        Err(without_datagrams())
    }

    /// Reports room for output of a socket of datagrams, or no more.
    fn watch_room(&mut self, socket: &mut Datagrams, token: Token, on: bool) -> io::Result<()> {
        let _ = (socket, token, on);
        Err(without_datagrams())
    }

    /// Takes a signal of the process: reports from now on, by an event of `token`, that it has come. All signals
    /// of a loop have one token. One that is taken already stays as it is.
    #[cfg(feature = "signal")]
    fn watch_signal(&mut self, signal: Signal, token: Token) -> io::Result<()> {
        let _ = (signal, token);
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this world under the loop has no signals",
        ))
    }

    /// Gives back a signal that this loop has taken. It is forgotten if it has come and was not told.
    #[cfg(feature = "signal")]
    fn forget_signal(&mut self, signal: Signal) {
        let _ = signal;
    }

    /// Returns the signals that have come since the last call, in the order of their numbers.
    #[cfg(feature = "signal")]
    fn take_signals(&mut self) -> Vec<Signal> {
        Vec::new()
    }

    /// Returns the number of a network interface, for the zone of an IPv6 address (RFC 4007).
    fn interface_index(&mut self, name: &str) -> io::Result<u32> {
        let message = format!("no network interface has a name here: give the number of {name:?}");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// Starts a program.
    fn spawn(&mut self, command: &mut Command) -> io::Result<Spawned> {
        let _ = command;
        Err(without_programs())
    }

    /// Reports the exit of a child that [`spawn`](Self::spawn) has started, by an event.
    fn watch_child(&mut self, process: &mut Process, token: Token) -> io::Result<()> {
        let _ = (process, token);
        Err(without_programs())
    }

    /// Has a job run off the loop. A world without threads gives it back, and the loop runs it.
    fn start_job(&mut self, id: JobId, job: Job) -> JobStart {
        let _ = id;
        JobStart::Inline(job)
    }

    /// Gives back a job that has not begun.
    fn cancel_job(&mut self, id: JobId) -> Option<Job> {
        let _ = id;
        None
    }

    /// The loop ends: gives back the jobs that have not begun, and begins none any more.
    fn close_jobs(&mut self) -> Vec<Job> {
        Vec::new()
    }

    /// After that: waits a bounded time for the jobs that run, and returns the number of those that did
    /// not end in time.
    fn wait_for_jobs(&mut self) -> usize {
        0
    }
}

/// Ends a poll from any thread.
pub trait Wake: Send + Sync {
    /// Wakes the loop.
    fn wake(&self);
}

/// Repeats a call that a signal interrupted; in every world.
#[inline]
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if is_interruption(&error) => {}
            other => return other,
        }
    }
}

#[cold]
fn is_interruption(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

fn without_datagrams() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this world under the loop has no datagrams",
    )
}

fn without_programs() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this world under the loop has no child processes",
    )
}

fn of_another_driver() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a socket of another driver was given to this one",
    )
}

/// Either world under the loop.
#[derive(Debug)]
pub(crate) enum AnyDriver {
    Os(OsDriver),
    Foreign(Box<dyn Driver>),
}

impl AnyDriver {
    pub(crate) fn as_dyn(&mut self) -> &mut dyn Driver {
        match self {
            Self::Os(driver) => driver,
            Self::Foreign(driver) => &mut **driver,
        }
    }

    /// Returns room for the events of a poll.
    pub(crate) fn events(&self) -> Events {
        let os = match self {
            Self::Os(_) => OsEvents::with_room(),
            Self::Foreign(_) => OsEvents::without_room(),
        };
        Events::new(os)
    }

    /// Replaces the events of the poll before by the new ones.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.pushed.clear();
        let polled = match self {
            Self::Os(driver) => driver.poll(events, timeout),
            Self::Foreign(driver) => driver.poll(events, timeout),
        };
        match polled {
            // A signal: the loop comes round and computes the timeout anew.
            Err(error) if is_interruption(&error) => {
                events.os.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Makes a socket for `address` that is neither bound nor connected, where sockets have
    /// descriptors.
    pub(crate) fn socket(&mut self, address: &Address) -> io::Result<Option<Socket>> {
        match self {
            Self::Os(_) => OsStream::unconnected(address).map(|socket| Some(Socket::Os(socket))),
            Self::Foreign(_) => Ok(None),
        }
    }

    /// Makes a bound listener, of a socket that was made ahead if there is one.
    pub(crate) fn bind(
        &mut self,
        address: &Address,
        options: BindOptions,
        socket: Option<Socket>,
    ) -> io::Result<Listener> {
        match socket {
            Some(Socket::Os(socket)) => {
                OsListener::bind(socket, address, options).map(Listener::Os)
            }
            _ => self.as_dyn().bind(address, options),
        }
    }

    /// Begins to connect, with a socket that was made ahead if there is one.
    pub(crate) fn connect(
        &mut self,
        address: &Address,
        from: Option<SocketAddr>,
        socket: Option<Socket>,
    ) -> io::Result<Socket> {
        match socket {
            Some(Socket::Os(socket)) => socket.connect(address, from).map(Socket::Os),
            _ => self.as_dyn().connect(address, from),
        }
    }

    /// Prepares a stream for being closed. Returns whether that took an `epoll_ctl`.
    #[inline]
    pub(crate) fn retire_stream(&self, socket: &Socket) -> bool {
        match (self, socket) {
            (Self::Os(driver), Socket::Os(stream)) => driver.retire_stream(stream),
            (Self::Os(driver), Socket::Foreign(_)) => driver.retire_pipe(socket),
            (Self::Foreign(_), _) => false,
        }
    }

    /// Prepares a listener for being closed. Returns whether that took an `epoll_ctl`.
    pub(crate) fn retire_listener(&self, listener: &Listener) -> bool {
        match (self, listener) {
            (Self::Os(driver), Listener::Os(listener)) => driver.retire_listener(listener),
            _ => false,
        }
    }

    /// As [`retire_listener`](Self::retire_listener), of a socket of datagrams.
    pub(crate) fn retire_datagrams(&self, socket: &Datagrams) -> bool {
        match (self, socket) {
            (Self::Os(driver), Datagrams::Os(socket)) => driver.retire_datagrams(socket),
            _ => false,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Os(driver) => driver.now(),
            Self::Foreign(driver) => driver.now(),
        }
    }

    pub(crate) fn waker(&self) -> Arc<dyn Wake> {
        match self {
            Self::Os(driver) => driver.waker(),
            Self::Foreign(driver) => driver.waker(),
        }
    }
}
