//! Listening sockets of the system.

use super::address::{address_of, socket_address};
use super::socket_options;
use super::stream::OsStream;
use super::unix_path::SocketFile;
use crate::Address;
use crate::driver::{BindOptions, SocketOption};
use crate::log::guarded;
use socket2::{Domain, SockRef};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A listening socket. mio's types are used for their accept, which makes a non-blocking,
/// close-on-exec descriptor in one system call.
#[derive(Debug)]
pub(crate) struct OsListener {
    socket: Accepting,
    /// Removed when the listener is dropped.
    file: Option<SocketFile>,
    listening: bool,
    /// A copy of the descriptor may be open elsewhere.
    shared: bool,
    /// Options that the loop sets on each accepted socket, as the system does not.
    handed_down: Vec<SocketOption>,
}

#[derive(Debug)]
enum Accepting {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl OsListener {
    /// Binds a socket that was made for this address.
    pub(crate) fn bind(
        socket: OsStream,
        address: &Address,
        options: BindOptions,
    ) -> io::Result<Self> {
        let addr = socket_address(address)?;
        let (socket, shared) = socket.into_socket();
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
            shared,
            handed_down: Vec::new(),
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
            shared: true,
            handed_down: Vec::new(),
        })
    }

    pub(super) fn start(&mut self, backlog: u32) -> io::Result<RawFd> {
        if !self.listening {
            let backlog = backlog.try_into().unwrap_or(i32::MAX);
            self.as_sock().listen(backlog)?;
            self.listening = true;
        }
        Ok(self.fd())
    }

    pub(super) fn fd(&self) -> RawFd {
        self.as_sock().as_raw_fd()
    }

    /// Returns whether a copy of the descriptor may be open elsewhere.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        let tcp = matches!(self.socket, Accepting::Tcp(_));
        socket_options::set(&self.as_sock(), tcp, option)
    }

    /// Returns the descriptor for the user, and takes it for copied from now on.
    pub(crate) fn expose(&mut self) -> BorrowedFd<'_> {
        self.shared = true;
        match &self.socket {
            Accepting::Tcp(listener) => listener.as_fd(),
            Accepting::Unix(listener) => listener.as_fd(),
        }
    }

    /// Has accepted sockets get the options of the listener. TCP does that by itself; an accepted
    /// Unix socket has buffers of the default size (unix(7)).
    pub(crate) fn hand_down(&mut self, options: &[SocketOption]) {
        if matches!(self.socket, Accepting::Unix(_)) {
            let is_buffer = |option: &&SocketOption| {
                matches!(
                    option,
                    SocketOption::SendBuffer(_) | SocketOption::ReceiveBuffer(_)
                )
            };
            self.handed_down = options.iter().filter(is_buffer).copied().collect();
        }
    }

    fn as_sock(&self) -> SockRef<'_> {
        match &self.socket {
            Accepting::Tcp(listener) => SockRef::from(listener),
            Accepting::Unix(listener) => SockRef::from(listener),
        }
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
                let mut stream = OsStream::new(stream, false);
                self.configure(&mut stream, &peer);
                Ok((stream, peer))
            }
        }
    }

    fn configure(&self, stream: &mut OsStream, peer: &Address) {
        for option in &self.handed_down {
            if let Err(error) = stream.set_option(*option) {
                let name = option.name();
                guarded(|| {
                    log::debug!(target: "tidegate::transport", "{name} on {peer}: {error}");
                });
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        Ok(address_of(&self.as_sock().local_addr()?))
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
