//! Child processes, awaited.

use crate::error::NoEventLoop;
use crate::pipe::{read_pipe_on, write_pipe_on};
use crate::reader::StreamReader;
use crate::writer::StreamWriter;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::{Command, ExitStatus, Output};
use std::task::Poll;
use tidegate::{ChildHandle, Closed, Handle, WriteError};

/// The number of bytes that `communicate` writes before it waits for room.
const PIECE: usize = 64 * 1024;

/// A child process whose pipes are streams; asyncio's `Process`.
///
/// The loop reaps it when it ends, whether anybody waits or not. Dropping the value closes the pipes that are
/// still in it, and leaves the process running, unless [`kill_on_drop`](Self::kill_on_drop) is set. The end of
/// the loop kills it, unless it is [detached](ChildHandle::detach).
///
/// ```
/// use std::process::{Command, Stdio};
/// use tidegate_streams::{Process, block_on};
///
/// # fn main() -> tidegate::Result { block_on(async {
/// let mut command = Command::new("tr");
/// command.args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped());
/// let mut process = Process::spawn(&mut command)?;
/// let output = process.communicate(b"hello", 1000).await?;
/// assert_eq!(output.stdout, b"HELLO");
/// assert!(output.status.success());
/// # Ok(()) })? }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Process {
    /// The standard input, if it is [piped](std::process::Stdio::piped).
    pub stdin: Option<StreamWriter>,
    /// The standard output, if it is piped.
    pub stdout: Option<StreamReader>,
    /// The standard error, if it is piped.
    pub stderr: Option<StreamReader>,
    child: ChildHandle,
    kill_on_drop: bool,
}

impl Process {
    /// Starts a program, on the loop that is running on this thread.
    ///
    /// The standard streams that `command` does not make pipes are inherited unless set, unlike in asyncio.
    /// [`Handle::subprocess_exec`] says how long the call holds the loop.
    ///
    /// # Errors
    ///
    /// Those of [`Handle::subprocess_exec`]; [`NoEventLoop`].
    #[doc(alias = "create_subprocess_exec")]
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let handle = Handle::current().ok_or(NoEventLoop)?;
        let spawned = handle.spawn_child(command)?;
        let mut process = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            child: spawned.child,
            kill_on_drop: true,
        };
        let reader = |end| read_pipe_on(&handle, end);
        process.stdin = spawned
            .stdin
            .map(|end| write_pipe_on(&handle, end))
            .transpose()?;
        process.stdout = spawned.stdout.map(reader).transpose()?;
        process.stderr = spawned.stderr.map(reader).transpose()?;
        process.kill_on_drop = false;
        Ok(process)
    }

    /// Sets whether dropping the value kills the process; off unless set.
    pub fn kill_on_drop(&mut self, kills: bool) {
        self.kill_on_drop = kills;
    }

    /// Waits until the process has ended. An output that nobody reads may keep it from that, and so may a standard
    /// input that is still open.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::wait`].
    ///
    /// # Cancel safety
    ///
    /// It only waits.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Writes `input` to the standard input and ends it, reads both outputs to their ends, and waits for the
    /// process.
    ///
    /// All of it goes on at once, so a process that writes before it reads is no deadlock. Of each output at
    /// most `most` bytes are taken. A pipe that was taken out of the value is left alone. A standard input that is
    /// no pipe gets nothing of `input`, and an output that is none counts as empty. A process that ends
    /// without having read its input is no error. A child of the process that keeps an output open holds the
    /// call.
    ///
    /// # Errors
    ///
    /// [`QuotaExceeded`](io::ErrorKind::QuotaExceeded) when an output is longer: its bytes stay in the reader,
    /// the process goes on, and its standard input is closed. Those of the pipes, and of [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, it has closed the standard input, perhaps in the middle of `input`. Bytes that
    /// were not read stay in the readers.
    pub async fn communicate(&mut self, input: &[u8], most: usize) -> io::Result<Output> {
        let stdin = self.stdin.take();
        let writing = async move {
            if let Some(stdin) = stdin {
                write_input(&stdin, input).await?;
            }
            Ok(Vec::new())
        };
        let [_, stdout, stderr] = all_of([
            Box::pin(writing),
            Box::pin(to_end(self.stdout.as_mut(), most)),
            Box::pin(to_end(self.stderr.as_mut(), most)),
        ])
        .await?;
        let status = self.child.wait().await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Returns the number of the process. After the exit another process may have it.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns how the process ended, or `None` while it runs.
    #[doc(alias = "returncode")]
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// Sends a signal, as [`ChildHandle::send_signal`] does.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn send_signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.child.send_signal(signal)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn terminate(&self) -> io::Result<()> {
        self.child.terminate()
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.child.kill()
    }

    /// Returns the handle of the process alone, which outlives the value.
    pub fn child(&self) -> &ChildHandle {
        &self.child
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // It fails for a process that is another user's now.
            let _ = self.child.kill();
        }
    }
}

async fn write_input(stdin: &StreamWriter, input: &[u8]) -> io::Result<()> {
    for piece in input.chunks(PIECE) {
        let written = stdin.write(piece).map_err(WriteError::into);
        let drained = match written {
            Ok(_) => stdin.drain().await,
            Err(error) => Err(error),
        };
        if drained.is_err() {
            return unless_unread(drained);
        }
    }
    unless_unread(stdin.close().await)
}

/// A process need not read its input.
fn unless_unread(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if Closed::of(&error).is_some_and(|closed| closed.is_reset()) => Ok(()),
        other => other,
    }
}

async fn to_end(reader: Option<&mut StreamReader>, most: usize) -> io::Result<Vec<u8>> {
    match reader {
        Some(reader) => Ok(reader.read_to_end(most).await?.to_vec()),
        None => Ok(Vec::new()),
    }
}

type Part<'p> = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + 'p>>;

/// Runs all at once, until all have ended, or one has failed.
async fn all_of<const N: usize>(mut parts: [Part<'_>; N]) -> io::Result<[Vec<u8>; N]> {
    let mut done = [const { None }; N];
    poll_fn(|context| {
        for (part, done) in parts.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(result) = part.as_mut().poll(context)
            {
                *done = Some(result?);
            }
        }
        match done.iter().any(Option::is_none) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    })
    .await
    .map(|()| done.map(Option::unwrap_or_default))
}
