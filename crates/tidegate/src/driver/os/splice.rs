//! A pipe through which splice(2) moves bytes from one socket to another.

use super::OsStream;
use std::fs::{self, File};
use std::io::{self, Read};

/// The maximum number of bytes in a pipe: those of one read, so that a relay holds no more either way.
pub(crate) const PIPE_LOAD: usize = 128 * 1024;

/// The pages that a pipe has places for, in bytes. A place holds a piece of a packet, which may be less than
/// a page, so there are more of them than a full load of pages takes.
const PLACES: usize = 2 * PIPE_LOAD;

/// SIGPIPE, in the masks of proc_pid_status(5): signal 13, counted from one.
const SIGPIPE: u64 = 1 << 12;

/// A pipe, and the number of bytes in it.
#[derive(Debug)]
pub(crate) struct SplicePipe {
    reader: File,
    writer: File,
    len: usize,
}

impl SplicePipe {
    /// Fails when the pipes of the user have as many pages as pipe(7) allows. A new one has two places then,
    /// and a copy is faster.
    pub(crate) fn open() -> io::Result<Self> {
        let (reader, writer) = sys::pipe()?;
        sys::set_places(&writer, PLACES)?;
        Ok(Self {
            reader,
            writer,
            len: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves bytes of the socket into the empty pipe. `Ok(0)` is the end of the stream.
    pub(crate) fn fill_from(&mut self, socket: &OsStream) -> io::Result<usize> {
        debug_assert!(self.is_empty(), "a full pipe looks like an empty socket");
        let len = sys::splice(socket.as_fd(), &self.writer, PIPE_LOAD)?;
        self.len = len;
        Ok(len)
    }

    /// Moves bytes of the pipe into the socket.
    pub(crate) fn empty_into(&mut self, socket: &OsStream) -> io::Result<usize> {
        let len = sys::splice(&self.reader, socket.as_fd(), self.len)?;
        self.len -= len;
        Ok(len)
    }

    /// Reads what is in the pipe, which is empty then.
    pub(crate) fn read_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.reader.read_exact(&mut bytes)?;
        self.len = 0;
        Ok(bytes)
    }
}

/// Returns whether a write to a broken connection has no effect but its error. For sendmsg(2) there is a flag
/// that says so; for splice(2) there is none, so the thread has to ignore or block SIGPIPE.
pub(crate) fn is_sigpipe_harmless() -> bool {
    fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| leaves_out_sigpipe(&status))
}

fn leaves_out_sigpipe(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let mask = line
            .strip_prefix("SigIgn:")
            .or_else(|| line.strip_prefix("SigBlk:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & SIGPIPE != 0
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sys {
    use rustix::pipe::{PipeFlags, SpliceFlags};
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;

    pub(super) fn pipe() -> io::Result<(File, File)> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok((reader.into(), writer.into()))
    }

    pub(super) fn set_places(pipe: &File, bytes: usize) -> io::Result<usize> {
        Ok(rustix::pipe::fcntl_setpipe_size(pipe, bytes)?)
    }

    pub(super) fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
        let spliced = rustix::pipe::splice(from, None, to, None, most, SpliceFlags::NONBLOCK);
        Ok(spliced?)
    }
}

/// Where there is no splice(2), no pipe is opened.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sys {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;

    pub(super) fn pipe() -> io::Result<(File, File)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn set_places(_: &File, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn splice(_: impl AsFd, _: impl AsFd, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigpipe_is_harmless_if_the_thread_ignores_or_blocks_it() {
        let status = |blocked: &str, ignored: &str| {
            format!(
                "Name:\tx\nSigPnd:\t0000000000001000\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n\
                 SigCgt:\t0000000000001000\n"
            )
        };
        let none = "0000000000000000";
        for (blocked, ignored, harmless) in [
            (none, none, false),
            (none, "0000000000001000", true),
            ("0000000000001000", none, true),
            ("ffffffffffffefff", "ffffffffffffefff", false),
            (none, "nonsense", false),
        ] {
            let status = status(blocked, ignored);
            assert_eq!(leaves_out_sigpipe(&status), harmless, "{status}");
        }
        assert!(!leaves_out_sigpipe(""));
    }

    #[test]
    fn std_ignores_sigpipe() {
        assert!(is_sigpipe_harmless());
    }
}
