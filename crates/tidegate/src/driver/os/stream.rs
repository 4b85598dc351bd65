//! Stream sockets of the system.

use super::address::{address_of, explained, new_socket, socket_address};
use super::socket_options;
use crate::Address;
#[cfg(feature = "peer-credentials")]
use crate::PeerCredentials;
use crate::driver::SocketOption;
use mio::Interest;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A connected, or connecting, stream.
#[derive(Debug)]
pub(crate) struct OsStream {
    socket: socket2::Socket,
    tcp: bool,
    /// A copy of the descriptor may be open elsewhere.
    shared: bool,
    /// Closing resets the connection.
    resets: bool,
}

const _: () = assert!(size_of::<OsStream>() == 8);

impl OsStream {
    pub(super) fn new(stream: impl Into<OwnedFd>, tcp: bool) -> Self {
        Self {
            socket: stream.into().into(),
            tcp,
            shared: false,
            resets: false,
        }
    }

    /// Takes over a stream of the standard library; returns the peer's address too.
    pub(crate) fn from_std(stream: impl Into<OwnedFd>, tcp: bool) -> io::Result<(Self, Address)> {
        let mut stream = Self::new(stream, tcp);
        stream.shared = true;
        stream.socket.set_nonblocking(true)?;
        let peer = address_of(&stream.socket.peer_addr()?);
        Ok((stream, peer))
    }

    /// Makes a socket for `address` that is neither bound nor connected.
    pub(crate) fn unconnected(address: &Address) -> io::Result<Self> {
        let socket = new_socket(&socket_address(address)?)?;
        Ok(Self::new(socket, address.as_inet().is_some()))
    }

    /// Begins to connect.
    pub(crate) fn connect(self, address: &Address, from: Option<SocketAddr>) -> io::Result<Self> {
        let addr = socket_address(address)?;
        if let Some(from) = from {
            bind_from(&self.socket, address, from)?;
        }
        match self.socket.connect(&addr) {
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
            other => other.map_err(|error| explained(error, address))?,
        }
        Ok(self)
    }

    #[cfg(feature = "peer-credentials")]
    pub(crate) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        if self.tcp {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the credentials of a peer are known on Unix sockets only",
            ));
        }
        super::credentials::of_peer(&self.socket)
    }

    /// Returns the socket, and whether a copy of its descriptor may be open elsewhere.
    pub(super) fn into_socket(self) -> (socket2::Socket, bool) {
        (self.socket, self.shared)
    }

    #[cfg(feature = "splice")]
    pub(crate) fn is_tcp(&self) -> bool {
        self.tcp
    }

    #[cfg(feature = "splice")]
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the descriptor for the user, and takes it for copied from now on.
    pub(crate) fn expose(&mut self) -> BorrowedFd<'_> {
        self.shared = true;
        self.socket.as_fd()
    }

    /// Returns whether a copy of the descriptor may be open elsewhere.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Ends the connection for every copy of the descriptor, as far as that can be. A reset waits
    /// for the last copy to be closed: shut down first, it would look like EOF to the peer.
    pub(crate) fn end_for_all(&self) {
        if !self.resets {
            // It fails when the connection has ended already.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Returns the events that the loop wants of it.
    pub(super) fn interest(&self) -> Interest {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // A read ends early at an urgent byte, and would be taken to have emptied the socket.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.tcp {
            return interest | Interest::PRIORITY;
        }
        interest
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
        self.socket.shutdown(Shutdown::Write)
    }

    pub(crate) fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(peer) if self.tcp && self.socket.local_addr()? == peer => {
                Err(connected_to_itself(&peer))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr().map(|addr| address_of(&addr))
    }

    pub(crate) fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        self.resets |= self.tcp && option == SocketOption::ResetOnClose;
        socket_options::set(&self.socket, self.tcp, option)
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
        .map_err(|error| unusable(from, &explained(error, &from.into())))
}

/// The system chose the port that the socket was to connect to, or was told to: both ends open at
/// once (RFC 9293, 3.5), and the socket would talk to itself.
fn connected_to_itself(addr: &socket2::SockAddr) -> io::Error {
    let addr = address_of(addr);
    let message = format!("nobody listens there, and the socket connected to itself from {addr}");
    io::Error::new(io::ErrorKind::ConnectionRefused, message)
}

fn unusable(from: SocketAddr, error: &io::Error) -> io::Error {
    let message = format!("the local address {from} cannot be used: {error}");
    io::Error::new(error.kind(), message)
}
