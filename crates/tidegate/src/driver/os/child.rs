//! Child processes: how they are started and signalled, and how their exit is noticed.

use super::{OsDriver, OsPipe};
use crate::driver::{ChildProcess, Process, Socket, Spawned, Token};
use crate::pipe::Way;
use mio::Interest;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A thread that waits needs little.
const STACK: usize = 64 * 1024;

/// A child that nobody has reaped.
#[derive(Debug)]
pub(crate) struct OsChild {
    child: Child,
    watch: ExitWatch,
}

/// The thing that tells of the exit of a child.
#[derive(Debug)]
enum ExitWatch {
    /// Nothing does: it is not watched yet, or had ended before.
    None,
    /// A descriptor of the process, which epoll(7) watches.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Pidfd(OwnedFd),
    /// A thread that waits.
    Thread(JoinHandle<()>),
}

impl OsDriver {
    /// Starts a program. Its pipes are made ready for the loop.
    pub(super) fn start(command: &mut Command) -> io::Result<Spawned> {
        let mut child = command.spawn()?;
        let ends = Self::pipes_of(&mut child);
        let mut child = OsChild::from(child);
        match ends {
            Ok([stdin, stdout, stderr]) => Ok(Spawned {
                process: Process::Os(child),
                stdin,
                stdout,
                stderr,
            }),
            Err(error) => {
                child.end_at_once();
                Err(error)
            }
        }
    }

    fn pipes_of(child: &mut Child) -> io::Result<[Option<Socket>; 3]> {
        let pipe = |end: Option<OwnedFd>, way| {
            let end = end.map(|end| OsPipe::new(end, way, true));
            Ok::<_, io::Error>(end.transpose()?.map(Socket::foreign))
        };
        Ok([
            pipe(child.stdin.take().map(OwnedFd::from), Way::Write)?,
            pipe(child.stdout.take().map(OwnedFd::from), Way::Read)?,
            pipe(child.stderr.take().map(OwnedFd::from), Way::Read)?,
        ])
    }

    /// Reports the exit of a child: by an event of `token`, or by a call of `exited` from another thread.
    pub(crate) fn watch_exit(
        &mut self,
        child: &mut OsChild,
        token: Token,
        exited: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let pid = pid_of(child.id())?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !self.children_by_threads
            && let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        {
            self.watch(fd.as_raw_fd(), token, Interest::READABLE)?;
            child.watch = ExitWatch::Pidfd(fd);
            return Ok(());
        }
        let thread = thread::Builder::new()
            .name("tidegate-child".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                wait_without_reaping(pid);
                exited();
            })?;
        child.watch = ExitWatch::Thread(thread);
        Ok(())
    }

    #[cfg(feature = "unstable-driver")]
    pub(crate) fn with_children_by_threads(mut self, by_threads: bool) -> Self {
        self.children_by_threads = by_threads;
        self
    }

    pub(crate) fn forget_exit(&self, child: &OsChild) {
        match &child.watch {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ExitWatch::Pidfd(fd) => self.forget(fd.as_raw_fd()),
            ExitWatch::None | ExitWatch::Thread(_) => {}
        }
    }
}

impl From<Child> for OsChild {
    fn from(child: Child) -> Self {
        Self {
            child,
            watch: ExitWatch::None,
        }
    }
}

impl ChildProcess for OsChild {
    fn id(&self) -> u32 {
        self.child.id()
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    fn signal(&mut self, signal: i32) -> io::Result<()> {
        let (pid, signal) = (pid_of(self.id())?, named(signal)?);
        let sent = match &self.watch {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            ExitWatch::Pidfd(fd) => rustix::process::pidfd_send_signal(fd, signal),
            ExitWatch::Thread(_) => kill_process(pid, signal),
            ExitWatch::None => return Ok(()),
        };
        match sent {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    fn signal_group(&mut self, signal: i32) -> io::Result<()> {
        let (pid, signal) = (pid_of(self.id())?, named(signal)?);
        match self.watch {
            ExitWatch::None => Ok(()),
            _ => Ok(rustix::process::kill_process_group(pid, signal)?),
        }
    }
}

impl OsChild {
    /// Waits until one that was killed has ended, at most for `grace`.
    pub(crate) fn await_end(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut pause = Duration::from_micros(50);
        // An error: somebody else has reaped it.
        while let Ok(None) = self.try_wait() {
            if Instant::now() > deadline {
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Drops one that was reaped here. Its thread has nothing left to wait for, and holds the loop's waker, which is
    /// a descriptor.
    pub(crate) fn was_reaped(self) {
        if let ExitWatch::Thread(thread) = self.watch {
            let _ = thread.join();
        }
    }

    /// Ends one that nobody will watch.
    pub(crate) fn end_at_once(&mut self) {
        // It fails for one that somebody else has reaped.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
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
