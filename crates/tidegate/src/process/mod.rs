//! Child processes: their exit, their pipes, and a protocol for both.
//!
//! [`child`] is the exit alone. [`spawn`] starts a program without a protocol. [`subprocess`] puts one over the exit and
//! over three pipes, each of which is an ordinary transport with a [`pipe_protocol`] that hands on.

mod child;
mod pipe_protocol;
mod protocol;
mod spawn;
mod start_error;
mod subprocess;

use crate::Handle;
use crate::driver::{OsChild, Process};
use crate::event_loop::Deferred;
use std::io;
use std::process::{Child, Command};

pub use child::ChildHandle;
pub use protocol::{Pipe, SubprocessProtocol};
pub use spawn::SpawnedChild;
pub use subprocess::SubprocessTransport;

/// # Child processes
///
/// The loop alone reaps its children, at once when they end, whether anybody waits or not. So none stays a
/// zombie, and none is signalled after its number may be another's. There is no handler of SIGCHLD: the loop
/// watches a descriptor of the process (pidfd_open(2)), or a thread waits where there is none.
///
/// A child has no descriptor of ours but its own three.
impl Handle {
    /// Starts a program, and drives its pipes with a protocol.
    ///
    /// `command` says what each of the three standard streams is. Those that are
    /// [`Stdio::piped`](std::process::Stdio::piped) are pipes of the protocol; unlike in asyncio the others
    /// are inherited unless set.
    ///
    /// Starting happens within this call and holds the loop: 0.1 ms up to some milliseconds. Where
    /// that is too long, start the program in a [job](Handle::run_in_executor), and give the
    /// [`Child`] to [`watch_child`](Handle::watch_child).
    ///
    /// The end of the loop kills the process, unless it is [detached](ChildHandle::detach).
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// use tidegate::{EventLoop, Pipe, Result, SubprocessProtocol, SubprocessTransport};
    ///
    /// struct Upper;
    ///
    /// impl SubprocessProtocol for Upper {
    ///     fn connection_made(&mut self, process: &SubprocessTransport) -> Result {
    ///         if let Some(stdin) = process.stdin() {
    ///             stdin.write(b"hello\n")?;
    ///             stdin.write_eof()?;
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn pipe_data_received(
    ///         &mut self,
    ///         _: &SubprocessTransport,
    ///         _: Pipe,
    ///         data: &[u8],
    ///     ) -> Result {
    ///         assert_eq!(data, b"HELLO\n");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let mut command = Command::new("tr");
    /// command.args(["a-z", "A-Z"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    /// let process = event_loop.handle().subprocess_exec(&mut command, Upper)?;
    /// let status = event_loop.run_until(process.wait_closed())?;
    /// assert!(status.success());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`]: [`NotFound`](io::ErrorKind::NotFound) for a program that does not exist,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for one that must not be run or is a folder. The
    /// text names the program and says what to look at; the source is the system's error. Others of the system;
    /// [`LoopClosed`](crate::LoopClosed). No process is left then.
    #[doc(alias = "subprocess_shell")]
    pub fn subprocess_exec(
        &self,
        command: &mut Command,
        protocol: impl SubprocessProtocol,
    ) -> io::Result<SubprocessTransport> {
        SubprocessTransport::start(self, command, protocol)
    }

    /// Starts a program without a protocol. Its pipes are for [`connect_read_pipe`](Handle::connect_read_pipe) and
    /// [`connect_write_pipe`](Handle::connect_write_pipe); dropping one closes it.
    ///
    /// This is [`Command::spawn`] and [`watch_child`](Handle::watch_child), and works in a simulated world too. As with
    /// [`subprocess_exec`](Handle::subprocess_exec), starting holds the loop, and the end of the loop kills the process.
    ///
    /// ```
    /// use std::process::{Command, Stdio};
    /// use tidegate::{EventLoop, Protocol, Result, Transport};
    ///
    /// struct Output(Vec<u8>);
    ///
    /// impl Protocol for Output {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
    ///         self.0.extend_from_slice(data);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let handle = event_loop.handle().clone();
    /// let mut spawned = handle.spawn_child(Command::new("echo").arg("hello").stdout(Stdio::piped()))?;
    /// let stdout = spawned.stdout.take().expect("it is piped");
    /// let transport = handle.connect_read_pipe(stdout, Output(Vec::new()))?;
    /// let status = event_loop.run_until(spawned.child.wait())?;
    /// assert!(status.success());
    /// event_loop.run_until(transport.wait_closed())?;
    /// assert_eq!(transport.stats().received, 6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`subprocess_exec`](Handle::subprocess_exec).
    pub fn spawn_child(&self, command: &mut Command) -> io::Result<SpawnedChild> {
        SpawnedChild::start(self, command)
    }

    /// Watches a child that was started elsewhere, without a protocol.
    ///
    /// Its pipes, if it has some, are for the caller to take before: see
    /// [`connect_read_pipe`](Handle::connect_read_pipe). A standard input that is left is closed, as
    /// [`Child::wait`] does. The loop reaps the child from now on. The end of the loop kills it, unless it is
    /// [detached](ChildHandle::detach).
    ///
    /// # Errors
    ///
    /// Those of the system; [`LoopClosed`](crate::LoopClosed); [`Unsupported`](io::ErrorKind::Unsupported) in a
    /// simulated world. The child is then killed and reaped.
    pub fn watch_child(&self, mut child: Child) -> io::Result<ChildHandle> {
        let stdin = child.stdin.take();
        let watched = ChildHandle::watch(self, Process::Os(OsChild::from(child)));
        drop(stdin);
        watched
    }

    fn defer_drop_of(&self, value: impl Sized + 'static) {
        self.core().defer_drop(Deferred::Value(Box::new(value)));
    }
}
