//! The real world: mio for readiness, socket2 for sockets. TCP and Unix sockets differ only here.

mod address;
#[cfg(feature = "process")]
mod child;
#[cfg(feature = "offload")]
mod control_messages;
#[cfg(feature = "peer-credentials")]
mod credentials;
mod datagram;
mod executor_pool;
mod listener;
mod nonblocking;
mod path_lock;
mod pipe;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod segmentation;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod send_control;
#[cfg(feature = "signal")]
mod signal;
mod socket_options;
#[cfg(feature = "splice")]
mod splice;
mod stream;
mod unix_path;
mod watch;

#[cfg(feature = "process")]
use super::Spawned;
use super::{
    BindOptions, DatagramBindOptions, Datagrams, Driver, Events, Job, JobId, JobStart, Listener,
    Readiness, Socket, Token, WAKE, Wake, of_another_driver,
};
use crate::Address;
#[cfg(feature = "signal")]
use crate::Signal;
use crate::log::guarded;
use executor_pool::ExecutorPool;
use mio::unix::SourceFd;
use mio::{Interest, Poll};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
#[cfg(feature = "process")]
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "process")]
pub(crate) use child::OsChild;
pub(crate) use datagram::{Kind, OsDatagrams};
pub(crate) use listener::OsListener;
pub(crate) use pipe::OsPipe;
#[cfg(feature = "splice")]
pub(crate) use splice::{SplicePipe, is_sigpipe_harmless};
pub(crate) use stream::OsStream;

const EVENTS_PER_POLL: usize = 1024;

#[derive(Debug)]
pub(crate) struct OsDriver {
    poll: Poll,
    waker: Arc<mio::Waker>,
    jobs: ExecutorPool,
    job_grace: Duration,
    /// Children are watched by threads, also where there are descriptors of processes.
    #[cfg(feature = "process")]
    children_by_threads: bool,
    /// There while this loop has taken a signal.
    #[cfg(feature = "signal")]
    signals: Option<signal::OsSignals>,
}

impl OsDriver {
    /// `jobs`: how many at a time; `job_grace`: how long to wait for them at the end.
    pub(crate) fn new(jobs: usize, job_grace: Duration) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), mio::Token(token_word(WAKE)))?;
        Ok(Self {
            poll,
            waker: Arc::new(waker),
            jobs: ExecutorPool::new(jobs),
            job_grace,
            #[cfg(feature = "process")]
            children_by_threads: false,
            #[cfg(feature = "signal")]
            signals: None,
        })
    }

    /// Stops reporting events of a stream, and ends its connection, where a copy of the descriptor
    /// may be open elsewhere. Closing does neither then: epoll(7) and the connection live as long
    /// as any copy does.
    pub(super) fn retire_stream(&self, stream: &OsStream) -> bool {
        let shared = stream.is_shared();
        if shared {
            self.forget(stream.fd());
            stream.end_for_all();
        }
        shared
    }

    /// As [`retire_stream`](Self::retire_stream), of a pipe: others may always have it open, and go on with
    /// it.
    #[cold]
    pub(super) fn retire_pipe(&self, socket: &Socket) -> bool {
        let pipe = socket.foreign_ref::<OsPipe>();
        if let Some(pipe) = pipe {
            self.forget(pipe.fd());
        }
        pipe.is_some()
    }

    /// Stops reporting events of a listener of which a copy may be open elsewhere. The copy goes on
    /// listening.
    pub(super) fn retire_listener(&self, listener: &OsListener) -> bool {
        let shared = listener.is_shared();
        if shared {
            self.forget(listener.fd());
        }
        shared
    }

    /// As [`retire_listener`](Self::retire_listener), of a socket of datagrams.
    pub(super) fn retire_datagrams(&self, socket: &OsDatagrams) -> bool {
        let shared = socket.is_shared();
        if shared {
            self.forget(socket.fd());
        }
        shared
    }

    pub(super) fn forget(&self, fd: RawFd) {
        // It fails when the descriptor was never registered.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    fn watch(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), mio::Token(token_word(token)), interest)
    }
}

/// The events of a poll of the system.
#[derive(Debug)]
pub(super) struct OsEvents(mio::Events);

impl OsEvents {
    pub(super) fn with_room() -> Self {
        Self(mio::Events::with_capacity(EVENTS_PER_POLL))
    }

    /// For a loop that polls another world.
    pub(super) fn without_room() -> Self {
        Self(mio::Events::with_capacity(0))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, Readiness)> {
        let events = self.0.iter();
        events.map(|event| (Token(event.token().0 as u64), readiness(event)))
    }
}

#[inline(always)]
fn readiness(event: &mio::event::Event) -> Readiness {
    let mut readiness = Readiness::new();
    if event.is_readable() {
        readiness = readiness.with_readable();
    }
    if event.is_writable() {
        readiness = readiness.with_writable();
    }
    if event.is_error() || event.is_read_closed() || event.is_priority() {
        readiness = readiness | unusual(event);
    }
    readiness
}

#[cold]
fn unusual(event: &mio::event::Event) -> Readiness {
    let readiness = Readiness::new().with_read_to_end();
    if event.is_error() || (event.is_read_closed() && event.is_write_closed()) {
        readiness.with_writable().with_failed()
    } else {
        readiness
    }
}

/// Tokens are 64 bits wide: a slot and a generation.
fn token_word(token: Token) -> usize {
    const { assert!(usize::BITS == 64, "tidegate needs a 64-bit platform") };
    token.0 as usize
}

impl Driver for OsDriver {
    #[inline]
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(&mut events.os.0, timeout)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn bind(&mut self, address: &Address, options: BindOptions) -> io::Result<Listener> {
        let socket = OsStream::unconnected(address)?;
        OsListener::bind(socket, address, options).map(Listener::Os)
    }

    fn listen(&mut self, listener: &mut Listener, backlog: u32, token: Token) -> io::Result<()> {
        let Listener::Os(listener) = listener else {
            return Err(of_another_driver());
        };
        let fd = listener.start(backlog)?;
        self.watch(fd, token, Interest::READABLE)
    }

    fn connect(&mut self, address: &Address, from: Option<SocketAddr>) -> io::Result<Socket> {
        let socket = OsStream::unconnected(address)?;
        socket.connect(address, from).map(Socket::Os)
    }

    fn file_of_socket(&self, path: &Path) -> Option<(u64, u64)> {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino()))
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        if let Socket::Os(stream) = socket {
            return self.watch(stream.fd(), token, stream.interest());
        }
        let pipe: &mut OsPipe = socket.of()?;
        let watched = self.watch(pipe.fd(), token, pipe.interest());
        watched.map_err(|error| pipe.explained(error))
    }

    fn deregister(&mut self, socket: &mut Socket) -> io::Result<()> {
        let Socket::Os(stream) = socket else {
            return Err(of_another_driver());
        };
        let fd = stream.fd();
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    fn bind_datagrams(
        &mut self,
        local: Option<&Address>,
        remote: Option<&Address>,
        options: DatagramBindOptions,
    ) -> io::Result<Datagrams> {
        OsDatagrams::bind(local, remote, options).map(Datagrams::Os)
    }

    fn register_datagrams(&mut self, socket: &mut Datagrams, token: Token) -> io::Result<()> {
        let Datagrams::Os(socket) = socket else {
            return Err(of_another_driver());
        };
        self.watch(socket.fd(), token, OsDatagrams::interest(false))
    }

    fn watch_room(&mut self, socket: &mut Datagrams, token: Token, on: bool) -> io::Result<()> {
        let Datagrams::Os(socket) = socket else {
            return Err(of_another_driver());
        };
        let (fd, token) = (socket.fd(), mio::Token(token_word(token)));
        let registry = self.poll.registry();
        registry.reregister(&mut SourceFd(&fd), token, OsDatagrams::interest(on))
    }

    #[cfg(feature = "signal")]
    fn watch_signal(&mut self, signal: Signal, token: Token) -> io::Result<()> {
        self.take_signal(signal, token)
    }

    #[cfg(feature = "signal")]
    fn forget_signal(&mut self, signal: Signal) {
        self.release_signal(signal);
    }

    #[cfg(feature = "signal")]
    fn take_signals(&mut self) -> Vec<Signal> {
        self.signals
            .as_mut()
            .map(signal::OsSignals::take_raised)
            .unwrap_or_default()
    }

    fn interface_index(&mut self, name: &str) -> io::Result<u32> {
        address::interface_index(name)
    }

    #[cfg(feature = "process")]
    fn spawn(&mut self, command: &mut Command) -> io::Result<Spawned> {
        Self::start(command)
    }

    fn start_job(&mut self, id: JobId, job: Job) -> JobStart {
        self.jobs.start(id, job)
    }

    fn cancel_job(&mut self, id: JobId) -> Option<Job> {
        self.jobs.cancel(id)
    }

    fn close_jobs(&mut self) -> Vec<Job> {
        self.jobs.close()
    }

    fn wait_for_jobs(&mut self) -> usize {
        self.jobs.wait(self.job_grace)
    }
}

impl Wake for mio::Waker {
    fn wake(&self) {
        if let Err(error) = mio::Waker::wake(self) {
            guarded(|| {
                log::error!(target: "tidegate::loop", "the event loop could not be woken: {error}");
            });
        }
    }
}
