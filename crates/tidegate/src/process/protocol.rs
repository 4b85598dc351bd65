//! The protocol of a child process.

use super::SubprocessTransport;
use crate::{Closed, Result};
use std::any::Any;
use std::fmt;
use std::process::ExitStatus;

/// Which standard stream of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are three")]
pub enum Pipe {
    /// The standard input, which we write.
    Stdin,
    /// The standard output, which we read.
    Stdout,
    /// The standard error, which we read.
    Stderr,
}

impl Pipe {
    /// All three.
    pub(super) const ALL: [Self; 3] = [Self::Stdin, Self::Stdout, Self::Stderr];
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// The code of a child process: its output, the ends of its pipes, and its exit.
///
/// # The contract
///
/// * The loop calls one method at a time, and never from within a call of the user.
/// * `connection_made` comes first. `connection_lost` comes last, once: when the process has exited and every
///   pipe has ended. The others come in between.
/// * All that the process itself wrote before it ended comes before `process_exited`, as far as reading is on. Bytes
///   behind a [`pause_reading`](crate::Transport::pause_reading) come when it resumes. Another process that has
///   the same pipe, such as a child of the child, may write later. It also keeps the pipe open.
/// * An `Err`, or a panic, is [reported](crate::Handle::set_error_handler), the process is killed and its pipes
///   are closed. The callbacks of their ends still come. The [`WriteError`](crate::WriteError) of a pipe of this
///   process that is ending is no failure, so `stdin.write(..)?` does not end a process that reads no more.
pub trait SubprocessProtocol: Any {
    /// Called when the process has been started.
    ///
    /// # Errors
    ///
    /// An `Err` ends the process, as [the contract](SubprocessProtocol#the-contract) says.
    fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
        let _ = process;
        Ok(())
    }

    /// Called with output of the process.
    ///
    /// # Errors
    ///
    /// An `Err` ends the process, as [the contract](SubprocessProtocol#the-contract) says.
    fn pipe_data_received(
        &mut self,
        process: &SubprocessTransport,
        pipe: Pipe,
        data: &[u8],
    ) -> Result {
        let _ = (process, pipe, data);
        Ok(())
    }

    /// Called when a pipe has ended. `closed` says how, and how many bytes of the input are
    /// [unsent](Closed::unsent).
    fn pipe_connection_lost(&mut self, process: &SubprocessTransport, pipe: Pipe, closed: &Closed) {
        let _ = (process, pipe, closed);
    }

    /// Called when the write buffer of stdin went above its high-water mark.
    ///
    /// # Errors
    ///
    /// An `Err` ends the process, as [the contract](SubprocessProtocol#the-contract) says.
    fn pause_writing(&mut self, process: &SubprocessTransport) -> Result {
        let _ = process;
        Ok(())
    }

    /// Called when the write buffer of stdin has fallen to its low-water mark, after a `pause_writing`.
    ///
    /// # Errors
    ///
    /// An `Err` ends the process, as [the contract](SubprocessProtocol#the-contract) says.
    fn resume_writing(&mut self, process: &SubprocessTransport) -> Result {
        let _ = process;
        Ok(())
    }

    /// Called when the process has ended, and was reaped.
    ///
    /// # Errors
    ///
    /// An `Err` closes the pipes that are left, as [the contract](SubprocessProtocol#the-contract) says.
    fn process_exited(&mut self, process: &SubprocessTransport, status: ExitStatus) -> Result {
        let _ = (process, status);
        Ok(())
    }

    /// Called once, when the process has exited and every pipe has ended.
    fn connection_lost(&mut self, process: &SubprocessTransport) {
        let _ = process;
    }
}
