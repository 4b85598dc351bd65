//! The file of a bound Unix socket. The file of a dead listener gives way, that of a living one
//! does not. At the end we remove our own file, unless another one has its name by then.

use super::path_lock::PathLock;
use crate::driver::UnixFileOptions;
use crate::log::guarded;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{self, Path, PathBuf};

/// A socket file that we made, and the lock that keeps other servers from its path.
///
/// Dropping it releases the lock; that comes after the removal, and after the socket was closed.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
    /// Whether it stays.
    keep: bool,
    _lock: PathLock,
}

/// The identity of a file. Not used again while it is open: a bound socket keeps its inode, too.
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
    /// Binds the socket, which must not listen before this has returned: until then the file does
    /// not have its permissions.
    pub(crate) fn bind(
        socket: &Socket,
        addr: &SockAddr,
        path: &Path,
        options: UnixFileOptions,
        kind: Type,
    ) -> io::Result<Self> {
        // A program may change its folder before the end.
        let absolute = path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let lock = PathLock::take(&absolute)?;
        match socket.bind(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(addr, path, kind)?;
                socket.bind(addr)?;
            }
            other => other?,
        }
        let file = Self {
            identity: Identity::of(path)?,
            path: absolute,
            keep: options.keep,
            _lock: lock,
        };
        if let Err(error) = file.set_access(options) {
            file.remove();
            return Err(error);
        }
        Ok(file)
    }

    fn set_access(&self, options: UnixFileOptions) -> io::Result<()> {
        if let (user, group) = options.owner
            && (user.is_some() || group.is_some())
        {
            lchown(&self.path, user, group).map_err(|error| {
                let number = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
                let owner = format!("{}:{}", number(user), number(group));
                cannot(&format!("set its owner to {owner}"), &error)
            })?;
        }
        if let Some(mode) = options.mode {
            // chmod(2) follows a link, which another user may have put there meanwhile.
            if !self.identity.is_at(&self.path) {
                return Err(io::Error::other("its file was replaced meanwhile"));
            }
            fs::set_permissions(&self.path, Permissions::from_mode(mode))
                .map_err(|error| cannot(&format!("set its mode to {mode:#o}"), &error))?;
        }
        Ok(())
    }

    /// Removes the file at the end, unless it is to stay. The socket has to be open still.
    pub(crate) fn remove_at_end(&self) {
        if !self.keep {
            self.remove();
        }
    }

    /// Unless another file has its name.
    fn remove(&self) {
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
fn remove_stale(addr: &SockAddr, path: &Path, kind: Type) -> io::Result<()> {
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
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    // A listener with a full backlog must not make us wait.
    probe.set_nonblocking(true)?;
    match probe.connect(addr).map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) if Identity::new(&found).is_at(path) => {
            fs::remove_file(path)
                .map_err(|error| cannot("remove the socket file of a server that is gone", &error))
        }
        Err(io::ErrorKind::NotFound) => Ok(()),
        Err(io::ErrorKind::PermissionDenied) => Err(cannot(
            "connect to the socket file that is there, so it may be in use",
            &io::ErrorKind::PermissionDenied.into(),
        )),
        _ => taken("another program is listening there already"),
    }
}

fn cannot(do_it: &str, error: &io::Error) -> io::Error {
    let cannot = match error.kind() {
        io::ErrorKind::PermissionDenied => "not permitted to",
        _ => "cannot",
    };
    io::Error::new(error.kind(), format!("{cannot} {do_it}: {error}"))
}
