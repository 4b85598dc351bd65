//! Everything that the loop asks of the operating system.
//!
//! The loop polls, wakes, reads the clock, listens, connects, moves bytes and has jobs run
//! through what is here and through nothing else. Real sockets are called directly; another world
//! plugs in behind [`Driver`], [`ListenerSocket`] and [`StreamSocket`], so that no type that a user
//! names has a parameter for it. Public only with the feature `unstable-driver`, and outside
//! semver.

mod executor_pool;
mod os;
mod unix_path;

use crate::Address;
use crate::log::guarded;
use std::any::Any;
use std::fmt;
use std::io::{self, IoSlice};
use std::iter::from_fn;
use std::net::SocketAddr;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use os::OsEvents;
pub(crate) use os::{OsDriver, OsListener, OsStream};

/// Names a source of events; chosen by the loop, handed back with each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct Token(pub u64);

/// The token of the event that a [`Wake`] causes.
pub const WAKE: Token = Token(u64::MAX);

/// What an event says of its source, a set of flags. Edge-triggered: it is said once for each
/// change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    const READABLE: u8 = 1 << 0;
    const READ_TO_END: u8 = 1 << 1;
    const WRITABLE: u8 = 1 << 2;
    const FAILED: u8 = 1 << 3;

    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds that a read, or an accept, may succeed or tell of an end.
    pub fn with_readable(self) -> Self {
        Self(self.0 | Self::READABLE)
    }

    /// Adds that a write may succeed, or that a connect has been decided.
    pub fn with_writable(self) -> Self {
        Self(self.0 | Self::WRITABLE)
    }

    /// Adds readable, and that a short read does not mean that all was read: the peer hung up,
    /// there is an error, or urgent data.
    pub fn with_read_to_end(self) -> Self {
        Self(self.0 | Self::READABLE | Self::READ_TO_END)
    }

    /// Adds that the socket may have an error to ask for.
    pub fn with_failed(self) -> Self {
        Self(self.0 | Self::FAILED)
    }

    pub(crate) fn is_readable(self) -> bool {
        self.0 & Self::READABLE != 0
    }

    pub(crate) fn is_writable(self) -> bool {
        self.0 & Self::WRITABLE != 0
    }

    pub(crate) fn is_failed(self) -> bool {
        self.0 & Self::FAILED != 0
    }

    /// Readable, to be read to the end, writable: in this order, from the lowest bit.
    pub(crate) fn what_to_do(self) -> u8 {
        self.0 & (Self::READABLE | Self::READ_TO_END | Self::WRITABLE)
    }
}

/// Both.
impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The events of one poll. Those of the real world stay where the system put them, and are read
/// one after the other.
#[derive(Debug)]
pub struct Events {
    os: OsEvents,
    pushed: Vec<(Token, Readiness)>,
}

impl Events {
    /// Adds one.
    pub fn push(&mut self, token: Token, readiness: Readiness) {
        self.pushed.push((token, readiness));
    }

    #[inline(always)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> {
        let (mut os, mut pushed) = (self.os.iter(), self.pushed.iter().copied());
        // One place to take from, unlike a chain of both.
        from_fn(move || os.next().or_else(|| pushed.next()))
    }
}

impl Extend<(Token, Readiness)> for Events {
    fn extend<I: IntoIterator<Item = (Token, Readiness)>>(&mut self, events: I) {
        self.pushed.extend(events);
    }
}

/// A world for the loop to run in.
pub trait Driver: fmt::Debug {
    /// Waits for events, at most for `timeout`, and pushes them. May return early and empty.
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// What ends a poll from any thread with an event for [`WAKE`].
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

    /// Reports events of a stream from now on, what is ready already included.
    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()>;

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

    /// After that: waits a bounded time for the jobs that run, and answers how many did not end
    /// in time.
    fn wait_for_jobs(&mut self) -> usize {
        0
    }
}

/// How a listener is bound, where it is TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct BindOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub only_v6: bool,
}

/// A job: it reports by itself, its panics included.
pub type Job = Box<dyn FnOnce() + Send>;

/// Names a job of a loop; later ones have greater ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct JobId(pub u64);

/// What became of a job.
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum JobStart {
    /// It runs, or waits to.
    Taken,
    /// For the loop to run.
    Inline(Job),
    /// It cannot run.
    Refused(Job, io::Error),
}

impl fmt::Debug for JobStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("Taken"),
            Self::Inline(_) => f.write_str("Inline"),
            Self::Refused(_, error) => f.debug_tuple("Refused").field(error).finish(),
        }
    }
}

/// Ends a poll from any thread.
pub trait Wake: Send + Sync {
    /// Wakes the loop.
    fn wake(&self);
}

/// A listener of another world.
pub trait ListenerSocket: Any + fmt::Debug {
    /// Takes one connection and the address of its peer.
    fn accept(&mut self) -> io::Result<(Socket, Address)>;
    /// The address that it is bound to.
    fn local_addr(&self) -> io::Result<Address>;
}

/// A stream of another world. Errors are those of the socket calls of the same names; a read, a
/// write or an accept that was interrupted is made again. What has a body here suits a world
/// without addresses, options and errors that come by themselves.
pub trait StreamSocket: Any + fmt::Debug {
    /// `Ok(0)` is the end of the stream.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Takes a prefix of the slices.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Ends the write side, after what was written.
    fn shutdown_write(&mut self) -> io::Result<()>;
    /// Takes the pending error, as SO_ERROR does.
    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }
    /// After a writable event: whether the connection stands.
    fn connected(&mut self) -> io::Result<bool> {
        Ok(true)
    }
    /// The own address.
    fn local_addr(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }
    /// Sets an option.
    fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        let _ = option;
        Ok(())
    }
}

/// An option of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// TCP_NODELAY. No effect on Unix sockets.
    NoDelay(bool),
    /// TCP_NOTSENT_LOWAT in bytes.
    UnsentLowWater(u32),
    /// Closing resets a TCP connection (SO_LINGER with zero seconds).
    ResetOnClose,
}

/// A listener, real or of another world.
#[derive(Debug)]
#[allow(private_interfaces, reason = "the real ones are made in here only")]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Listener {
    /// A real one.
    Os(OsListener),
    /// One of another world.
    Foreign(Box<dyn ListenerSocket>),
}

impl Listener {
    /// One of another world.
    pub fn foreign(listener: impl ListenerSocket) -> Self {
        Self::Foreign(Box::new(listener))
    }

    /// For the driver that made it; an error for one that did not.
    pub fn of<L: ListenerSocket>(&mut self) -> io::Result<&mut L> {
        let listener: &mut dyn Any = match self {
            Self::Os(listener) => listener,
            Self::Foreign(listener) => &mut **listener,
        };
        listener.downcast_mut().ok_or_else(of_another_driver)
    }

    pub(crate) fn accept(&mut self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Os(listener) => {
                let (stream, peer) = uninterrupted(|| listener.accept())?;
                Ok((Socket::Os(stream), peer))
            }
            Self::Foreign(listener) => uninterrupted(|| listener.accept()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Os(listener) => listener.local_addr(),
            Self::Foreign(listener) => listener.local_addr(),
        }
    }
}

/// A stream, real or of another world.
#[derive(Debug)]
#[allow(private_interfaces, reason = "the real ones are made in here only")]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Socket {
    /// A real one.
    Os(OsStream),
    /// One of another world.
    Foreign(Box<dyn StreamSocket>),
}

impl Socket {
    /// One of another world.
    pub fn foreign(stream: impl StreamSocket) -> Self {
        Self::Foreign(Box::new(stream))
    }

    /// For the driver that made it; an error for one that did not.
    pub fn of<S: StreamSocket>(&mut self) -> io::Result<&mut S> {
        let stream: &mut dyn Any = match self {
            Self::Os(stream) => stream,
            Self::Foreign(stream) => &mut **stream,
        };
        stream.downcast_mut().ok_or_else(of_another_driver)
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => uninterrupted(|| stream.read(buffer)),
            Self::Foreign(stream) => uninterrupted(|| stream.read(buffer)),
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Os(stream) => uninterrupted(|| stream.write(slices)),
            Self::Foreign(stream) => uninterrupted(|| stream.write(slices)),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.shutdown_write(),
            Self::Foreign(stream) => stream.shutdown_write(),
        }
    }

    pub(crate) fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Os(stream) => stream.take_error(),
            Self::Foreign(stream) => stream.take_error(),
        }
    }

    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        match self {
            Self::Os(stream) => stream.connected(),
            Self::Foreign(stream) => stream.connected(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Os(stream) => stream.local_addr(),
            Self::Foreign(stream) => stream.local_addr(),
        }
    }

    /// TCP_NODELAY, as every TCP connection has it from the start.
    pub(crate) fn set_nodelay_at_start(&mut self, peer: &Address) {
        if let Err(error) = self.set_option(SocketOption::NoDelay(true)) {
            // The peer has reset it already; the first read will tell.
            guarded(|| {
                log::debug!(target: "tidegate::transport", "TCP_NODELAY on {peer}: {error}");
            });
        }
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        match self {
            Self::Os(stream) => stream.set_option(option),
            Self::Foreign(stream) => stream.set_option(option),
        }
    }
}

/// Makes a call again that a signal interrupted; in every world.
#[inline]
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
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

    /// Room for what it polls.
    pub(crate) fn events(&self) -> Events {
        let os = match self {
            Self::Os(_) => OsEvents::with_room(),
            Self::Foreign(_) => OsEvents::without_room(),
        };
        let pushed = Vec::new();
        Events { os, pushed }
    }

    /// Puts what has happened in place of the events of the poll before.
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
