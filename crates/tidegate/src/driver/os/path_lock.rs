//! The lock file beside a listening Unix socket, which stands for the right to its path.
//!
//! A server takes an exclusive flock(2) on `PATH.lock` before it looks at `PATH`, and holds it until
//! its socket is closed. The kernel releases the lock of a process that was killed. The holder
//! removes the file before it unlocks, so a lock counts only while the name leads to the locked
//! file.

use super::unix_path::Identity;
use crate::log::guarded;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The permissions of a new lock file, before the umask: a member of the group may succeed a server
/// that was killed, and nobody else can hold the lock against it.
const MODE: u32 = 0o660;

/// The maximum of files that are opened for one lock. Each but the last was removed meanwhile by
/// the server that held it.
const TRIES: usize = 100;

/// The exclusive right to the path of a socket.
#[derive(Debug)]
pub(super) struct PathLock {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl PathLock {
    /// Takes the lock for a socket's path, without waiting.
    pub(super) fn take(socket: &Path) -> io::Result<Self> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..TRIES {
            let file = open_or_create(&path).map_err(|error| unusable(&path, &error))?;
            let meta = file.metadata()?;
            if !meta.is_file() {
                let error = io::Error::new(io::ErrorKind::AddrInUse, "it is no regular file");
                return Err(unusable(&path, &error));
            }
            let identity = Identity::new(&meta);
            let locked = file.try_lock();
            if !identity.is_at(&path) {
                continue;
            }
            return match locked {
                Ok(()) => Ok(Self {
                    path,
                    file,
                    identity,
                }),
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => Err(unusable(&path, &error)),
            };
        }
        let message = format!(
            "the address is in use: a server that is bound or listening there holds the lock file \
             {}",
            path.display()
        );
        Err(io::Error::new(io::ErrorKind::AddrInUse, message))
    }
}

/// The file is removed under the lock. A server that has opened it before finds its name gone.
impl Drop for PathLock {
    fn drop(&mut self) {
        let removed = if self.identity.is_at(&self.path) {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        };
        // A child that was forked, and has not executed its program yet, has a copy of the
        // descriptor: closing ours would not release the lock.
        let unlocked = self.file.unlock();
        if let Err(error) = removed.and(unlocked) {
            let path = self.path.display();
            guarded(|| {
                log::warn!(target: "tidegate::server", "{path} could not be removed: {error}");
            });
        }
    }
}

/// Opens the file first: with O_CREAT, Linux refuses root the file of another user in `/tmp`
/// (fs.protected_regular, proc_sys_fs(5)).
fn open_or_create(path: &Path) -> io::Result<File> {
    for _ in 0..TRIES {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut create = options();
        match create.write(true).create_new(true).mode(MODE).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Reading suffices for a lock, but for NFS (flock(2)).
fn open(path: &Path) -> io::Result<File> {
    match options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options().open(path),
        other => other,
    }
}

/// Follows no link, which another user may have put there, and waits for no pipe.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let failed = match error.kind() {
        io::ErrorKind::NotFound => "there is no such folder: cannot create",
        io::ErrorKind::PermissionDenied => "not permitted to create or lock",
        _ => "cannot lock",
    };
    let path = path.display();
    let message = format!("{failed} {path}, which the server at a socket's path holds: {error}");
    io::Error::new(error.kind(), message)
}
