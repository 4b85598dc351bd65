//! How the exit of a child process is noticed, and how it is signalled.

use super::OsDriver;
use crate::driver::Token;
use mio::Interest;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

/// A thread that waits needs little.
const STACK: usize = 64 * 1024;

/// The thing that tells of the exit of a child that nobody has reaped.
#[derive(Debug)]
pub(crate) enum ExitWatch {
    /// A descriptor of the process, which epoll(7) watches.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Pidfd(OwnedFd),
    /// A thread that waits.
    Thread,
}

impl OsDriver {
    /// Reports the exit of a child: by an event of `token`, or by a call of `exited` from another thread.
    pub(crate) fn watch_exit(
        &mut self,
        pid: u32,
        token: Token,
        exited: impl FnOnce() + Send + 'static,
    ) -> io::Result<ExitWatch> {
        let pid = pid_of(pid)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !self.children_by_threads
            && let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        {
            self.watch(fd.as_raw_fd(), token, Interest::READABLE)?;
            return Ok(ExitWatch::Pidfd(fd));
        }
        thread::Builder::new()
            .name("tidegate-child".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                wait_without_reaping(pid);
                exited();
            })?;
        Ok(ExitWatch::Thread)
    }

    #[cfg(feature = "unstable-driver")]
    pub(crate) fn with_children_by_threads(mut self, by_threads: bool) -> Self {
        self.children_by_threads = by_threads;
        self
    }

    pub(crate) fn forget_exit(&self, watch: &ExitWatch) {
        match watch {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ExitWatch::Pidfd(fd) => self.forget(fd.as_raw_fd()),
            ExitWatch::Thread => {}
        }
    }
}

impl ExitWatch {
    /// Signals a child that was not reaped. One that has ended is no error.
    pub(crate) fn signal(&self, pid: u32, signal: i32) -> io::Result<()> {
        let (pid, signal) = (pid_of(pid)?, named(signal)?);
        let sent = match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Pidfd(fd) => rustix::process::pidfd_send_signal(fd, signal),
            Self::Thread => kill_process(pid, signal),
        };
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Signals the process group that a child leads.
pub(crate) fn signal_group(pid: u32, signal: i32) -> io::Result<()> {
    Ok(rustix::process::kill_process_group(
        pid_of(pid)?,
        named(signal)?,
    )?)
}

fn named(signal: i32) -> io::Result<Signal> {
    Signal::from_named_raw(signal).ok_or_else(|| {
        let message = match signal {
            32..=64 => {
                format!("a real-time signal ({signal}) cannot be sent, only one with a name")
            }
            _ => format!("there is no signal of the number {signal}"),
        };
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Returns when the child has ended, or was reaped by somebody else.
fn wait_without_reaping(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
}
