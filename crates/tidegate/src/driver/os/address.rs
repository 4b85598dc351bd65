//! Addresses as the system has them, and new sockets for them.

use crate::Address;
use socket2::{SockAddr, Socket, Type};
use std::io;

pub(super) fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(addr) => Ok((*addr).into()),
        Address::Unix(path) => SockAddr::unix(path),
        Address::Unnamed => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an unnamed Unix address cannot be bound or connected to",
        )),
    }
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
