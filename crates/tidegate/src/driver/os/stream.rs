//! Stream sockets of the system.

use super::address::{address_of, new_socket, socket_address};
use crate::Address;
use crate::driver::SocketOption;
use mio::Interest;
use std::io::{self, IoSlice, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A connected, or connecting, stream.
#[derive(Debug)]
pub(crate) struct OsStream {
    socket: socket2::Socket,
    tcp: bool,
}

impl OsStream {
    pub(super) fn new(stream: impl Into<OwnedFd>, tcp: bool) -> Self {
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

    pub(super) fn connect(address: &Address, from: Option<SocketAddr>) -> io::Result<Self> {
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
