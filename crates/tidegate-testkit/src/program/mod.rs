//! Scripted programs, which a loop in a world starts as child processes.

mod step;

use crate::network::Network;
use std::collections::VecDeque;
use std::time::Duration;

pub(crate) use step::{Make, Ran, Step, Stream, Waits};

/// The steps of a simulated program, which [`Network::program`] puts on a host.
///
/// Each step is an event of the world, so the loop may run between any two of them. A program without further steps
/// exits with the code 0. Reads and writes wait for bytes and for room, as those of a program without threads do.
/// Faults do not strike them; [`SlowProgram`](crate::Fault::SlowProgram) delays them.
///
/// Signals have their default actions (signal(7)) unless a step before has set another one. A write to a stream that
/// nobody reads raises SIGPIPE.
///
/// ```
/// use std::process::{Command, ExitStatus, Stdio};
/// use std::time::Duration;
/// use tidegate::{Pipe, Result, SubprocessProtocol, SubprocessTransport};
/// use tidegate_testkit::{Program, World};
///
/// /// Gives a program ten minutes for its work.
/// struct Patient;
///
/// impl SubprocessProtocol for Patient {
///     fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
///         let child = process.child().clone();
///         process.handle().call_later(Duration::from_secs(600), move |_| {
///             // It fails for a process of another user.
///             let _ = child.kill();
///         });
///         Ok(())
///     }
///
///     fn pipe_data_received(&mut self, _: &SubprocessTransport, _: Pipe, data: &[u8]) -> Result {
///         assert_eq!(data, b"at work\n");
///         Ok(())
///     }
///
///     fn process_exited(&mut self, _: &SubprocessTransport, status: ExitStatus) -> Result {
///         assert!(!status.success());
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let mut world = World::new();
/// let host = world.add_host("a")?;
/// world.network().program(&host, "worker", |_| Program::new().write("at work\n").hang());
/// let mut command = Command::new("worker");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
/// let process = host.handle().subprocess_exec(&mut command, Patient)?;
/// world.run_until(process.wait_closed())?;
/// assert_eq!(world.elapsed(), Duration::from_secs(600));
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Program {
    steps: Vec<Step>,
}

impl Program {
    /// Returns a program without steps, which exits at once.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn into_steps(self) -> VecDeque<Step> {
        self.steps.into()
    }

    fn with(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Writes to the standard output.
    pub fn write(self, data: impl AsRef<[u8]>) -> Self {
        self.with(Step::Write(Stream::Stdout, data.as_ref().to_vec()))
    }

    /// Writes to the standard error.
    pub fn write_err(self, data: impl AsRef<[u8]>) -> Self {
        self.with(Step::Write(Stream::Stderr, data.as_ref().to_vec()))
    }

    /// Reads this number of bytes from the standard input, or to its end.
    pub fn read(self, len: usize) -> Self {
        self.with(Step::Read(len))
    }

    /// Reads a line from the standard input, or to its end, and no byte behind it.
    pub fn read_line(self) -> Self {
        self.with(Step::ReadLine)
    }

    /// Reads the standard input to its end.
    pub fn read_to_end(self) -> Self {
        self.with(Step::ReadToEnd)
    }

    /// Copies the standard input to the standard output, to its end, as cat(1) does.
    pub fn copy(self) -> Self {
        self.with(Step::Copy)
    }

    /// Reads lines to the end of the standard input, and writes the bytes that `reply` returns for each. A line has its
    /// `\n`, but perhaps the last.
    pub fn reply(self, reply: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        self.with(Step::Reply(Vec::new(), Box::new(reply)))
    }

    /// Calls a closure, which may look at the world and change it.
    pub fn call(self, call: impl FnOnce(&Network) + 'static) -> Self {
        self.with(Step::Call(Box::new(call)))
    }

    /// Waits, in the world's time.
    pub fn wait(self, time: Duration) -> Self {
        self.with(Step::Wait(time))
    }

    /// Waits until a signal comes that it does not ignore.
    pub fn hang(self) -> Self {
        self.with(Step::Hang)
    }

    /// Closes the standard input: a pipe that no other program has open is broken for its writer.
    pub fn close_stdin(self) -> Self {
        self.with(Step::Close(Stream::Stdin))
    }

    /// Closes the standard output. Later writes to it do nothing.
    pub fn close_stdout(self) -> Self {
        self.with(Step::Close(Stream::Stdout))
    }

    /// Closes the standard error. Later writes to it do nothing.
    pub fn close_stderr(self) -> Self {
        self.with(Step::Close(Stream::Stderr))
    }

    /// Ignores a signal from now on. SIGKILL ends it all the same.
    pub fn ignore_signal(self, signal: impl Into<i32>) -> Self {
        self.trap(signal.into(), None)
    }

    /// Takes these steps instead of those that are left when a signal comes, from now on. The signal is ignored then.
    /// SIGKILL ends it all the same.
    pub fn on_signal(self, signal: impl Into<i32>, steps: Self) -> Self {
        self.trap(signal.into(), Some(steps))
    }

    fn trap(self, signal: i32, acts: Option<Self>) -> Self {
        if signal == libc::SIGKILL {
            return self;
        }
        self.with(Step::Trap(signal, acts))
    }

    /// Starts another program that has the same streams and the same group, and goes on beside it. The loop does not
    /// know of it, and its pipes stay open as long as it has them.
    pub fn fork(self, program: Self) -> Self {
        self.with(Step::Fork(program))
    }

    /// Exits with a code.
    pub fn exit(self, code: u8) -> Self {
        self.with(Step::Exit(code))
    }

    /// Sends itself a signal, such as SIGSEGV.
    pub fn raise(self, signal: impl Into<i32>) -> Self {
        self.with(Step::Raise(signal.into()))
    }
}
