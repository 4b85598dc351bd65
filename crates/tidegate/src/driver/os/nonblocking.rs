//! O_NONBLOCK on open files that others may have too: set while an end of a pipe uses the file, and taken back
//! with the last end.
//!
//! Two ends may share one open file: the standard streams are one socket under inetd(8), and the master of a
//! pseudoterminal is read and written. The first that ends must not make the other wait in a system call.

use socket2::SockRef;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

/// The files whose flag was set, in all loops of the process.
static SET: Mutex<Vec<Flag>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
    /// Masters of pseudoterminals have one inode; this tells them apart.
    terminal: Option<String>,
}

/// A flag that was set, of one open file.
#[derive(Debug)]
struct Flag {
    file: FileId,
    number: u64,
    ends: usize,
}

/// The part of one end in a flag that is to be taken back.
#[derive(Debug, Default)]
pub(super) struct Borrowed(Option<u64>);

impl Borrowed {
    /// Sets the flag, unless it is set already. One that nobody in here has set stays as it is at the end.
    pub(super) fn set(file: &impl AsFd, metadata: &Metadata) -> io::Result<Self> {
        let fd = file.as_fd();
        let id = FileId::new(fd, metadata);
        let mut flags = SET.lock().unwrap_or_else(PoisonError::into_inner);
        if !set_nonblocking(fd)? {
            let shared = flags.iter_mut().find(|flag| flag.file == id);
            return Ok(Self(shared.map(|flag| {
                flag.ends += 1;
                flag.number
            })));
        }
        let number = flags.last().map_or(0, |last| last.number + 1);
        flags.push(Flag {
            file: id,
            number,
            ends: 1,
        });
        Ok(Self(Some(number)))
    }

    /// Takes the flag back if no other end uses the file.
    pub(super) fn take_back(&mut self, file: BorrowedFd<'_>) {
        let Some(number) = self.0.take() else { return };
        let mut flags = SET.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = flags.iter().position(|flag| flag.number == number) else {
            return;
        };
        flags[place].ends -= 1;
        if flags[place].ends == 0 {
            flags.remove(place);
            // It fails for no open descriptor.
            let _ = SockRef::from(&file).set_nonblocking(false);
        }
    }
}

impl FileId {
    fn new(fd: BorrowedFd<'_>, metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            terminal: terminal_of(fd),
        }
    }
}

/// Returns the line of a master that names its terminal (proc_pid_fdinfo(5)).
fn terminal_of(fd: BorrowedFd<'_>) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let line = info.lines().find(|line| line.starts_with("tty-index:"));
    line.map(str::to_owned)
}

/// Returns whether the file did block.
pub(super) fn set_nonblocking(file: BorrowedFd<'_>) -> io::Result<bool> {
    let flags = SockRef::from(&file);
    let blocks = !flags.nonblocking()?;
    if blocks {
        flags.set_nonblocking(true)?;
    }
    Ok(blocks)
}
