//! Addresses as the system has them, and new sockets for them.

use crate::Address;
use socket2::{SockAddr, Socket, Type};
use std::io;
use std::mem::{offset_of, size_of};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The maximum of bytes in the path of a Unix socket; the last of `sun_path` is a NUL (unix(7)).
const LONGEST_PATH: usize =
    size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path) - 1;

pub(super) fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(addr) => Ok((*addr).into()),
        Address::Unix(path) => unix_address(path),
        Address::Unnamed => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an unnamed Unix address cannot be bound or connected to",
        )),
    }
}

fn unix_address(path: &Path) -> io::Result<SockAddr> {
    let len = path.as_os_str().as_bytes().len();
    if len > LONGEST_PATH {
        let message = format!(
            "the path has {len} bytes, and the path of a Unix socket at most {LONGEST_PATH}"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    SockAddr::unix(path)
}

/// Asks getaddrinfo(3), which knows interfaces by their names where std wants numbers. No name
/// server is asked, as the rest is numeric.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let host = format!("fe80::1%{name}");
    let found = (host.as_str(), 0).to_socket_addrs().ok();
    let index = found.into_iter().flatten().find_map(|addr| match addr {
        SocketAddr::V6(addr) => Some(addr.scope_id()).filter(|index| *index != 0),
        SocketAddr::V4(_) => None,
    });
    index.ok_or_else(|| {
        let message = format!("there is no network interface {name:?}");
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// Says what is wrong with a link-local address without a zone, for which the system has only
/// "invalid argument".
pub(super) fn explained(error: io::Error, address: &Address) -> io::Error {
    let Some(SocketAddr::V6(addr)) = address.as_inet() else {
        return error;
    };
    if error.raw_os_error() != Some(libc::EINVAL)
        || !addr.ip().is_unicast_link_local()
        || addr.scope_id() != 0
    {
        return error;
    }
    let (ip, port) = (addr.ip(), addr.port());
    let message = format!(
        "{error}: a link-local address needs the network interface, such as [{ip}%eth0]:{port}"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

pub(super) fn address_of(addr: &SockAddr) -> Address {
    if let Some(inet) = addr.as_socket() {
        Address::Inet(inet)
    } else if let Some(path) = addr.as_pathname() {
        Address::Unix(path.to_path_buf())
    } else {
        Address::Unnamed
    }
}

pub(super) fn new_socket(addr: &SockAddr) -> io::Result<Socket> {
    // CLOEXEC, as every descriptor here.
    let socket = Socket::new(addr.domain(), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
