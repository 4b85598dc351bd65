//! Pipes, FIFOs, terminals and given sockets, used in one direction.

use super::nonblocking::{Borrowed, set_nonblocking};
use super::stream::OsStream;
use crate::driver::{SocketOption, StreamSocket};
use crate::pipe::Way;
use mio::Interest;
use socket2::{Domain, SockRef, Type};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, IoSlice, IsTerminal, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

/// The device whose opening makes another pseudoterminal (ptmx(4)).
const PTMX: u64 = (5 << 8) | 2;

const ADVICE: &str = "read or write it in a job (Handle::run_in_executor)";

/// One end, used in one direction.
#[derive(Debug)]
pub(crate) struct OsPipe {
    end: End,
    way: Way,
    /// The file that epoll(7) watches, where that is another than the one that is read and written.
    watched: Option<File>,
    /// Of O_NONBLOCK on a file that others may have open.
    flag: Borrowed,
}

#[derive(Debug)]
enum End {
    File(File, FileKind),
    Socket(OsStream),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Pipe,
    /// A read returns one line, and the end of the stream looks like an error.
    Terminal,
    Device,
}

impl OsPipe {
    /// Takes over an end. `is_private`: nobody else has its open file.
    pub(crate) fn new(end: OwnedFd, way: Way, is_private: bool) -> io::Result<Self> {
        let file = File::from(end);
        let metadata = file.metadata()?;
        if !is_open_for(&file, way) {
            return Err(way.is_not_open());
        }
        if metadata.file_type().is_socket() {
            return Self::of_socket(file.into(), &metadata, way);
        }
        let kind = kind_of(&file, &metadata)?;
        let may_open = match kind {
            FileKind::Pipe => !is_private,
            FileKind::Terminal => metadata.rdev() != PTMX,
            FileKind::Device => false,
        };
        let Some(again) = may_open.then(|| open_again(&file, way)).flatten() else {
            let flag = if is_private {
                set_nonblocking(file.as_fd())?;
                Borrowed::default()
            } else {
                Borrowed::set(&file, &metadata)?
            };
            return Ok(Self {
                end: End::File(file, kind),
                way,
                watched: None,
                flag,
            });
        };
        Ok(Self {
            end: End::File(again, kind),
            way,
            // A FIFO tells a file of the writers that have left only when it was opened before they did.
            watched: (kind == FileKind::Pipe && is_named(&file)).then_some(file),
            flag: Borrowed::default(),
        })
    }

    fn of_socket(end: OwnedFd, metadata: &Metadata, way: Way) -> io::Result<Self> {
        let socket = SockRef::from(&end);
        if socket.r#type()? != Type::STREAM {
            return Err(invalid(
                "the socket is none of streams: see Handle::create_datagram_endpoint",
            ));
        }
        let tcp = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6);
        let flag = Borrowed::set(&end, metadata)?;
        Ok(Self {
            end: End::Socket(OsStream::new(end, tcp)),
            way,
            watched: None,
            flag,
        })
    }

    /// Returns the descriptor that epoll(7) watches.
    pub(super) fn fd(&self) -> RawFd {
        match (&self.watched, &self.end) {
            (Some(file), _) | (None, End::File(file, _)) => file.as_raw_fd(),
            (None, End::Socket(socket)) => socket.fd(),
        }
    }

    /// Returns the descriptor for the user.
    pub(crate) fn expose(&mut self) -> BorrowedFd<'_> {
        match &mut self.end {
            End::File(file, _) => (*file).as_fd(),
            End::Socket(socket) => socket.expose(),
        }
    }

    pub(super) fn interest(&self) -> Interest {
        match self.way {
            Way::Read => Interest::READABLE,
            Way::Write => Interest::WRITABLE,
        }
    }

    /// Explains why epoll(7) refused it.
    pub(super) fn explained(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::PermissionDenied {
            invalid(&format!("the system cannot wait for this device: {ADVICE}"))
        } else {
            error
        }
    }
}

impl Drop for OsPipe {
    fn drop(&mut self) {
        let mut flag = mem::take(&mut self.flag);
        flag.take_back(self.expose());
    }
}

impl StreamSocket for OsPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.end {
            End::Socket(socket) => socket.read(buffer),
            End::File(file, kind) => match file.read(buffer) {
                Err(error)
                    if *kind == FileKind::Terminal && error.raw_os_error() == Some(libc::EIO) =>
                {
                    Ok(0)
                }
                other => other,
            },
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.end {
            End::Socket(socket) => socket.write(slices),
            End::File(file, _) => match slices {
                [one] => file.write(one),
                many => file.write_vectored(many),
            },
        }
    }

    /// Closing does it: a copy of the descriptor elsewhere may go on writing.
    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The loop asks after an event that tells of an error or a hang-up.
    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        if self.way == Way::Read {
            // The next read tells, behind the bytes that are there.
            return Ok(None);
        }
        match &mut self.end {
            End::File(_, FileKind::Pipe) => Ok(Some(io::Error::from_raw_os_error(libc::EPIPE))),
            End::File(file, FileKind::Terminal) => Ok(file.write(&[]).err()),
            End::File(_, FileKind::Device) => Ok(None),
            End::Socket(socket) => match socket.take_error()? {
                Some(error) => Ok(Some(error)),
                None => Ok(socket.write(&[IoSlice::new(&[])]).err()),
            },
        }
    }

    fn set_option(&mut self, option: SocketOption) -> io::Result<()> {
        match &mut self.end {
            End::Socket(socket) => socket.set_option(option),
            End::File(..) => Ok(()),
        }
    }

    fn lingers(&self) -> bool {
        false
    }

    fn reads_in_parts(&self) -> bool {
        matches!(
            self.end,
            End::File(_, FileKind::Terminal | FileKind::Device)
        )
    }
}

fn kind_of(file: &File, metadata: &Metadata) -> io::Result<FileKind> {
    let file_type = metadata.file_type();
    if file_type.is_fifo() {
        Ok(FileKind::Pipe)
    } else if file_type.is_char_device() {
        Ok(match file.is_terminal() {
            true => FileKind::Terminal,
            false => FileKind::Device,
        })
    } else {
        let what = match () {
            () if file_type.is_file() => "a regular file",
            () if file_type.is_dir() => "a folder",
            () if file_type.is_block_device() => "a block device",
            () => "this kind of file",
        };
        Err(invalid(&format!(
            "{what} is no pipe, FIFO, terminal or socket: {ADVICE}"
        )))
    }
}

/// Whether the file is open for this direction, by the mode of its link (proc_pid_fd(5)). Without /proc a read
/// or a write tells.
fn is_open_for(file: &File, way: Way) -> bool {
    let mode = match way {
        Way::Read => 0o400,
        Way::Write => 0o200,
    };
    fs::symlink_metadata(link_to(file)).map_or(true, |link| link.mode() & mode != 0)
}

/// Whether the file has a name that others can open: a FIFO.
fn is_named(file: &File) -> bool {
    fs::read_link(link_to(file)).is_ok_and(|path| path.is_absolute())
}

fn link_to(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens the file once more, without blocking. Fails where there is no /proc, without the right to it, and
/// for a pipe that nobody reads.
fn open_again(file: &File, way: Way) -> Option<File> {
    OpenOptions::new()
        .read(way == Way::Read)
        .write(way == Way::Write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(link_to(file))
        .ok()
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
