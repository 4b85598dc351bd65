//! Child processes: the trait of one of another world, and the type that stands for both.

use super::Socket;
#[cfg(feature = "process")]
use super::os::OsChild;
#[cfg(feature = "process")]
use super::{AnyDriver, Token, of_another_driver};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::process::ExitStatus;
#[cfg(feature = "process")]
use std::time::Duration;

/// A child process of another world. Errors are those of the system calls that are named.
pub trait ChildProcess: fmt::Debug {
    /// Returns its number.
    fn id(&self) -> u32;
    /// Reaps it if it has ended, and returns how (waitpid(2) with WNOHANG). It is not called again then.
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>>;
    /// Sends a signal (kill(2)). One that has ended is no error.
    fn signal(&mut self, signal: i32) -> io::Result<()>;
    /// Sends a signal to the process group that it leads (killpg(3)).
    fn signal_group(&mut self, signal: i32) -> io::Result<()>;
}

/// A child process that nobody has reaped, real or of another world.
#[derive(Debug)]
#[cfg_attr(
    feature = "process",
    allow(private_interfaces, reason = "the real ones are made in here only")
)]
#[allow(clippy::exhaustive_enums, reason = "outside semver")]
pub enum Process {
    /// A real one.
    #[cfg(feature = "process")]
    Os(OsChild),
    /// One of another world. Dropping it leaves the process running.
    Foreign(Box<dyn ChildProcess>),
}

/// A program that was started, and our ends of its pipes.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "outside semver")]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// The end of the standard input, if that is a pipe.
    pub stdin: Option<Socket>,
    /// The end of the standard output, if that is a pipe.
    pub stdout: Option<Socket>,
    /// The end of the standard error, if that is a pipe.
    pub stderr: Option<Socket>,
}

impl Process {
    /// Wraps one of another world.
    pub fn foreign(process: impl ChildProcess + 'static) -> Self {
        Self::Foreign(Box::new(process))
    }
}

impl Deref for Process {
    type Target = dyn ChildProcess;

    fn deref(&self) -> &Self::Target {
        match self {
            #[cfg(feature = "process")]
            Self::Os(child) => child,
            Self::Foreign(child) => &**child,
        }
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            #[cfg(feature = "process")]
            Self::Os(child) => child,
            Self::Foreign(child) => &mut **child,
        }
    }
}

#[cfg(feature = "process")]
impl Process {
    /// Returns whether it was waited for already; its number may be another's then.
    pub(crate) fn was_waited_for(&mut self) -> bool {
        match self {
            Self::Os(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Foreign(_) => false,
        }
    }

    /// Waits until one that was killed has ended, at most for `grace`. In another world a signal kills at once.
    pub(crate) fn await_end(&mut self, grace: Duration) {
        if let Self::Os(child) = self {
            child.await_end(grace);
        }
    }

    /// Drops one that was reaped here. Nothing of it is left in the loop then.
    pub(crate) fn was_reaped(self) {
        if let Self::Os(child) = self {
            child.was_reaped();
        }
    }

    /// Ends one that nobody will watch.
    pub(crate) fn end_at_once(mut self) {
        match &mut self {
            Self::Os(child) => child.end_at_once(),
            Self::Foreign(child) => {
                let _ = child.signal(libc::SIGKILL).and_then(|()| child.try_wait());
            }
        }
    }
}

#[cfg(feature = "process")]
impl AnyDriver {
    /// Reports the exit of a child: by an event of `token`, or by a call of `exited` from another thread.
    pub(crate) fn watch_exit(
        &mut self,
        process: &mut Process,
        token: Token,
        exited: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        match (self, process) {
            (Self::Os(driver), Process::Os(child)) => driver.watch_exit(child, token, exited),
            (Self::Foreign(driver), process @ Process::Foreign(_)) => {
                driver.watch_child(process, token)
            }
            (Self::Foreign(_), Process::Os(_)) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this world under the loop has no processes of the system: start a program of its own",
            )),
            (Self::Os(_), Process::Foreign(_)) => Err(of_another_driver()),
        }
    }

    /// Forgets what tells of the exit of a child.
    pub(crate) fn forget_exit(&self, process: &Process) {
        if let (Self::Os(driver), Process::Os(child)) = (self, process) {
            driver.forget_exit(child);
        }
    }
}
