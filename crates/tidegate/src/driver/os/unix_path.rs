//! The file of a listening Unix socket. The file of a dead listener gives way, that of a living one
//! does not. At the end we remove our own file, unless another one has its name by then.

use super::path_lock::PathLock;
use crate::log::guarded;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Path, PathBuf};

/// A socket file that we made, and the lock that keeps other servers from its path.
///
/// Dropping it releases the lock; that comes after the removal, and after the socket was closed.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    _lock: PathLock,
}

/// Which file it is. Not used again while it is open: a bound socket keeps its inode, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn new(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }

    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|meta| Self::new(&meta))
    }

    /// Whether the path leads to this file now.
    pub(super) fn is_at(self, path: &Path) -> bool {
        Self::of(path).is_ok_and(|found| found == self)
    }
}

impl SocketFile {
    pub(crate) fn bind(socket: &Socket, addr: &SockAddr, path: &Path) -> io::Result<Self> {
        // A program may change its folder before the end.
        let absolute = path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let lock = PathLock::take(&absolute)?;
        match socket.bind(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(addr, path)?;
                socket.bind(addr)?;
            }
            other => other?,
        }
        Ok(Self {
            identity: Identity::of(path)?,
            path: absolute,
            _lock: lock,
        })
    }

    /// Removes the file, unless another one has its name. The socket has to be open still.
    pub(crate) fn remove(&self) {
        if self.identity.is_at(&self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            guarded(|| {
                log::warn!(target: "tidegate::server", "{path} could not be removed: {error}");
            });
        }
    }
}

/// Removes a socket file whose listener is gone. A connect finds that out: it is refused, and we
/// hold the lock, so no server of ours is between its bind and its listen.
fn remove_stale(addr: &SockAddr, path: &Path) -> io::Result<()> {
    let taken = |reason: &str| {
        let message = format!("the address is in use: {reason}");
        Err(io::Error::new(io::ErrorKind::AddrInUse, message))
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return taken("a file that is no socket is in the way");
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full backlog must not make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(addr).map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) if Identity::new(&found).is_at(path) => {
            fs::remove_file(path).map_err(|error| {
                not_permitted("remove the socket file of a server that is gone", &error)
            })
        }
        Err(io::ErrorKind::NotFound) => Ok(()),
        Err(io::ErrorKind::PermissionDenied) => Err(not_permitted(
            "connect to the socket file that is there, so it may be in use",
            &io::ErrorKind::PermissionDenied.into(),
        )),
        _ => taken("another program is listening there already"),
    }
}

fn not_permitted(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("not permitted to {what}: {error}"))
}
