//! The file of a listening Unix socket. What a dead listener left behind gives way, a living one
//! does not; and at the end we remove what we made, unless somebody has put another in its place.

use crate::log::guarded;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A socket file that we made.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Not used again while our socket is open: a bound socket keeps its inode.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }
}

impl SocketFile {
    pub(crate) fn bind(socket: &Socket, addr: &SockAddr, path: &Path) -> io::Result<Self> {
        match socket.bind(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(addr, path)?;
                socket.bind(addr)?;
            }
            other => other?,
        }
        Ok(Self {
            identity: Identity::of(path)?,
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn remove(self) {
        if Identity::of(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            guarded(|| {
                log::warn!(target: "tidegate::server", "{path} could not be removed: {error}");
            });
        }
    }
}

/// A socket file whose listener is gone refuses connections; any other answer means that the
/// path is taken.
fn remove_stale(addr: &SockAddr, path: &Path) -> io::Result<()> {
    let taken = |what: &str| io::Error::new(io::ErrorKind::AddrInUse, what);
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(taken(
            "the address is in use: a file that is no socket is in the way",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener with a full backlog must not make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(addr) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(taken(
            "the address is in use: somebody is listening there already",
        )),
    }
}
