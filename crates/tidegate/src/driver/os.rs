//! The real world: mio for readiness, socket2 for sockets. TCP and Unix sockets differ only here.

use super::executor_pool::ExecutorPool;
use super::unix_path::SocketFile;
use super::{
    BindOptions, Driver, Events, Job, JobId, JobStart, Listener, Readiness, Socket, SocketOption,
    Token, WAKE, Wake, of_another_driver,
};
use crate::Address;
use crate::log::guarded;
use mio::unix::SourceFd;
use mio::{Interest, Poll};
use socket2::{Domain, SockAddr, SockRef, Type};
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS_PER_POLL: usize = 1024;

#[derive(Debug)]
pub(crate) struct OsDriver {
    poll: Poll,
    waker: Arc<mio::Waker>,
    jobs: ExecutorPool,
    job_grace: Duration,
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
        })
    }

    fn watch(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), mio::Token(token_word(token)), interest)
    }
}

/// What a poll of the system brought.
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
        OsListener::bind(address, options).map(Listener::Os)
    }

    fn listen(&mut self, listener: &mut Listener, backlog: u32, token: Token) -> io::Result<()> {
        let Listener::Os(listener) = listener else {
            return Err(of_another_driver());
        };
        let fd = listener.start(backlog)?;
        self.watch(fd, token, Interest::READABLE)
    }

    fn connect(&mut self, address: &Address, from: Option<SocketAddr>) -> io::Result<Socket> {
        OsStream::connect(address, from).map(Socket::Os)
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        let Socket::Os(stream) = socket else {
            return Err(of_another_driver());
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        // A read ends early at an urgent byte, and would be taken to have emptied the socket.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let interest = if stream.tcp {
            interest | Interest::PRIORITY
        } else {
            interest
        };
        self.watch(stream.socket.as_raw_fd(), token, interest)
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

fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(addr) => Ok((*addr).into()),
        Address::Unix(path) => SockAddr::unix(path),
        Address::Unnamed => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an unnamed Unix address cannot be bound or connected to",
        )),
    }
}

/// Gives a socket that is about to connect its own address.
fn bind_from(socket: &socket2::Socket, to: &Address, from: SocketAddr) -> io::Result<()> {
    if to.as_inet().is_none_or(|to| to.is_ipv4() != from.is_ipv4()) {
        let message = format!("it cannot be reached from the local address {from}");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    if from.port() != 0 {
        // Attempts at several addresses share the port; one that listens is refused all the same.
        socket.set_reuse_address(true)?;
    }
    socket
        .bind(&from.into())
        .map_err(|error| unusable(from, &error))
}

fn unusable(from: SocketAddr, error: &io::Error) -> io::Error {
    let message = format!("the local address {from} cannot be used: {error}");
    io::Error::new(error.kind(), message)
}

fn address_of(addr: &SockAddr) -> Address {
    if let Some(inet) = addr.as_socket() {
        Address::Inet(inet)
    } else if let Some(path) = addr.as_pathname() {
        Address::Unix(path.to_path_buf())
    } else {
        Address::Unnamed
    }
}

fn new_socket(addr: &SockAddr) -> io::Result<socket2::Socket> {
    // CLOEXEC, as every descriptor here.
    let socket = socket2::Socket::new(addr.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A listening socket. mio's types are used for their accept, which makes a non-blocking,
/// close-on-exec descriptor in one system call.
#[derive(Debug)]
pub(crate) struct OsListener {
    socket: Accepting,
    /// Removed when the listener is dropped.
    file: Option<SocketFile>,
    listening: bool,
}

#[derive(Debug)]
enum Accepting {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl OsListener {
    fn bind(address: &Address, options: BindOptions) -> io::Result<Self> {
        let addr = socket_address(address)?;
        let socket = new_socket(&addr)?;
        let file = match address {
            Address::Unix(path) => Some(SocketFile::bind(&socket, &addr, path)?),
            _ => {
                socket.set_reuse_address(true)?;
                if options.reuse_port {
                    socket.set_reuse_port(true)?;
                }
                if addr.domain() == Domain::IPV6 {
                    socket.set_only_v6(options.only_v6)?;
                }
                socket.bind(&addr)?;
                None
            }
        };
        let tcp = file.is_none();
        Ok(Self {
            socket: Accepting::new(socket.into(), tcp),
            file,
            listening: false,
        })
    }

    /// Takes over a listener of the standard library, which listens already.
    pub(crate) fn from_std(listener: impl Into<OwnedFd>, tcp: bool) -> io::Result<Self> {
        let socket = socket2::Socket::from(listener.into());
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Accepting::new(socket.into(), tcp),
            file: None,
            listening: true,
        })
    }

    fn start(&mut self, backlog: u32) -> io::Result<RawFd> {
        let (fd, socket) = match &self.socket {
            Accepting::Tcp(listener) => (listener.as_raw_fd(), SockRef::from(listener)),
            Accepting::Unix(listener) => (listener.as_raw_fd(), SockRef::from(listener)),
        };
        if !self.listening {
            socket.listen(backlog.try_into().unwrap_or(i32::MAX))?;
            self.listening = true;
        }
        Ok(fd)
    }

    pub(crate) fn accept(&mut self) -> io::Result<(OsStream, Address)> {
        match &self.socket {
            Accepting::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((OsStream::new(stream, true), Address::Inet(peer)))
            }
            Accepting::Unix(listener) => {
                let (stream, peer) = listener.accept()?;
                let peer = peer
                    .as_pathname()
                    .map_or(Address::Unnamed, |path| Address::Unix(path.to_path_buf()));
                Ok((OsStream::new(stream, false), peer))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        let addr = match &self.socket {
            Accepting::Tcp(listener) => SockRef::from(listener).local_addr()?,
            Accepting::Unix(listener) => SockRef::from(listener).local_addr()?,
        };
        Ok(address_of(&addr))
    }
}

impl Accepting {
    fn new(fd: OwnedFd, tcp: bool) -> Self {
        if tcp {
            Self::Tcp(fd.into())
        } else {
            Self::Unix(fd.into())
        }
    }
}

impl Drop for OsListener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            file.remove();
        }
    }
}

/// A connected, or connecting, stream.
#[derive(Debug)]
pub(crate) struct OsStream {
    socket: socket2::Socket,
    tcp: bool,
}

impl OsStream {
    fn new(stream: impl Into<OwnedFd>, tcp: bool) -> Self {
        Self {
            socket: stream.into().into(),
            tcp,
        }
    }

    /// Takes over a stream of the standard library; answers the peer's address too.
    pub(crate) fn from_std(stream: impl Into<OwnedFd>, tcp: bool) -> io::Result<(Self, Address)> {
        let stream = Self::new(stream, tcp);
        stream.socket.set_nonblocking(true)?;
        let peer = address_of(&stream.socket.peer_addr()?);
        Ok((stream, peer))
    }

    fn connect(address: &Address, from: Option<SocketAddr>) -> io::Result<Self> {
        let addr = socket_address(address)?;
        let socket = new_socket(&addr)?;
        if let Some(from) = from {
            bind_from(&socket, address, from)?;
        }
        match socket.connect(&addr) {
            Err(error)
                if error.raw_os_error() == Some(libc::EINPROGRESS)
                    || error.kind() == io::ErrorKind::Interrupted => {}
            // The very connection exists already.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                return Err(match from {
                    Some(from) => unusable(from, &error),
                    None => error,
                });
            }
            other => other?,
        }
        Ok(Self {
            socket,
            tcp: matches!(address, Address::Inet(_)),
        })
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Without SIGPIPE, whatever the process does about that signal.
    #[inline]
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => self.socket.send_with_flags(one, libc::MSG_NOSIGNAL),
            many => self
                .socket
                .send_vectored_with_flags(many, libc::MSG_NOSIGNAL),
        }
    }

    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    pub(crate) fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr().map(|addr| address_of(&addr))
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        if !self.tcp {
            return match option {
                SocketOption::UnsentLowWater(_) => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the unsent low-water mark is an option of TCP sockets",
                )),
                SocketOption::NoDelay(_) | SocketOption::ResetOnClose => Ok(()),
            };
        }
        match option {
            SocketOption::NoDelay(on) => self.socket.set_tcp_nodelay(on),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            SocketOption::UnsentLowWater(bytes) => self.socket.set_tcp_notsent_lowat(bytes),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            SocketOption::UnsentLowWater(_) => Err(io::ErrorKind::Unsupported.into()),
            SocketOption::ResetOnClose => self.socket.set_linger(Some(Duration::ZERO)),
        }
    }
}
