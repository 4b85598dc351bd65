//! Credentials of the process at the other end of a Unix socket.

use crate::PeerCredentials;
use socket2::Socket;
use std::io;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn of_peer(socket: &Socket) -> io::Result<PeerCredentials> {
    use nix::sys::socket::{getsockopt, sockopt};

    let found = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(PeerCredentials {
        // The kernel gives 0 for a process that ours cannot see.
        pid: Some(found.pid()).filter(|&pid| pid > 0),
        uid: found.uid(),
        gid: found.gid(),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn of_peer(_: &Socket) -> io::Result<PeerCredentials> {
    Err(io::ErrorKind::Unsupported.into())
}
