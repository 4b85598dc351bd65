//! Listening sockets of the system.

use super::address::{address_of, explained, socket_address};
use super::socket_options;
use super::stream::OsStream;
use super::unix_path::SocketFile;
use crate::Address;
use crate::driver::{BindOptions, SocketOption};
use crate::log::guarded;
use socket2::{Domain, SockRef, Type};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A listening socket. mio's types are used for their accept, which makes a non-blocking,
/// close-on-exec descriptor in one system call.
#[derive(Debug)]
pub(crate) struct OsListener {
    socket: Accepting,
    /// Removed when the listener is dropped; unlocked after that, when the socket is closed.
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
            Address::Unix(path) => {
                let file = SocketFile::bind(&socket, &addr, path, options.unix, Type::STREAM);
                Some(file?)
            }
            _ => {
                socket.set_reuse_address(true)?;
                if options.reuse_port {
                    socket.set_reuse_port(true)?;
                }
                if addr.domain() == Domain::IPV6 {
                    socket.set_only_v6(options.only_v6)?;
                }
                let bound = socket.bind(&addr);
                bound.map_err(|error| explained(error, address))?;
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

    /// Takes over a listener of the standard library, which may not listen yet.
    pub(crate) fn from_std(listener: impl Into<OwnedFd>, tcp: bool) -> io::Result<Self> {
        let socket = socket2::Socket::from(listener.into());
        let listening = is_listening(&socket, tcp)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: Accepting::new(socket.into(), tcp),
            file: None,
            listening,
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
        if let Some(file) = &self.file {
            file.remove_at_end();
        }
    }
}

/// Returns whether a socket listens that was given as a listener. Its type does not tell: a descriptor of
/// any kind can be made one, such as those that systemd passes.
///
/// # Errors
///
/// InvalidInput when listen(2) cannot make it a listener, or peers would not find it.
fn is_listening(socket: &socket2::Socket, tcp: bool) -> io::Result<bool> {
    let kind = if tcp { "TCP" } else { "Unix" };
    let invalid = |problem: &str| {
        let message = format!(
            "the socket that was given to listen on {problem}: give a {kind} socket that is bound \
             or listening"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    };
    match socket.r#type() {
        Ok(Type::STREAM) => {}
        Ok(_) => return invalid("is no stream socket"),
        Err(error) => return invalid(&format!("is none ({error})")),
    }
    let local = socket.local_addr()?;
    if tcp != local.as_socket().is_some() || tcp == local.is_unix() {
        return invalid(&format!("is no {kind} socket"));
    }
    if accepts_connections(socket)? {
        return Ok(true);
    }
    if socket.peer_addr().is_ok() {
        return invalid("is connected (Handle::adopt takes such)");
    }
    if local.is_unnamed() || local.as_socket().is_some_and(|addr| addr.port() == 0) {
        return invalid("is not bound to an address");
    }
    Ok(false)
}

/// SO_ACCEPTCONN of socket(7). Elsewhere a socket that listens already is told to listen again,
/// which only sets its backlog.
fn accepts_connections(socket: &socket2::Socket) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return socket.is_listener();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    return Ok(false);
}
