//! A child process with a protocol: its exit, and a transport for each of its pipes.

use super::child::ChildHandle;
use super::pipe_protocol::PipeProtocol;
use super::protocol::{Pipe, SubprocessProtocol};
use super::spawn::SpawnedChild;
use crate::completion::{Completer, Completion};
use crate::driver::Readiness;
use crate::event_loop::{Core, Deferred, Failure, add};
use crate::{BoxError, CloseReason, Handle, LoopClosed, PipeEnd, Result, Transport, WriteError};
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus};
use std::rc::Rc;

/// A child process that a [`SubprocessProtocol`] drives.
///
/// Clones name the same process, and dropping one does nothing. Its pipes are [`Transport`]s, with the
/// usual flow control.
#[derive(Clone)]
pub struct SubprocessTransport(Rc<Subprocess>);

struct Subprocess {
    child: ChildHandle,
    pipes: [OnceCell<Transport>; 3],
    /// Borrowed while a callback runs.
    protocol: RefCell<Option<Box<dyn SubprocessProtocol>>>,
    protocol_name: &'static str,
    life: Cell<Life>,
    /// The number of pipes that have not ended.
    open_pipes: Cell<usize>,
    closes: RefCell<Vec<Completer<ExitStatus>>>,
}

/// How far the callbacks have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Made,
    Exited(ExitStatus),
    Lost(ExitStatus),
    /// The loop has ended before the process.
    Abandoned,
}

impl SubprocessTransport {
    pub(super) fn start<P: SubprocessProtocol>(
        handle: &Handle,
        command: &mut Command,
        protocol: P,
    ) -> io::Result<Self> {
        let spawned = match SpawnedChild::start(handle, command) {
            Ok(spawned) => spawned,
            Err(error) => {
                handle.defer_drop_of(protocol);
                return Err(error);
            }
        };
        let ends = [spawned.stdin, spawned.stdout, spawned.stderr];
        let process = Self(Rc::new(Subprocess {
            child: spawned.child,
            pipes: Default::default(),
            protocol: RefCell::new(Some(Box::new(protocol))),
            protocol_name: std::any::type_name::<P>(),
            life: Cell::new(Life::Starting),
            open_pipes: Cell::new(0),
            closes: RefCell::default(),
        }));
        process.0.child.set_subprocess(process.clone());
        process.0.child.touch();
        if let Err(error) = process.connect(handle, ends) {
            process.give_up();
            return Err(error);
        }
        Ok(process)
    }

    fn connect(&self, handle: &Handle, ends: [Option<PipeEnd>; 3]) -> io::Result<()> {
        for (pipe, end) in Pipe::ALL.into_iter().zip(ends) {
            let Some(end) = end else { continue };
            self.0.open_pipes.set(self.0.open_pipes.get() + 1);
            let protocol = PipeProtocol::new(self, pipe);
            let transport = match pipe {
                Pipe::Stdin => handle.connect_write_pipe(end, protocol)?,
                Pipe::Stdout | Pipe::Stderr => handle.connect_read_pipe(end, protocol)?,
            };
            let _ = self.0.pipes[pipe as usize].set(transport);
        }
        Ok(())
    }

    /// The start has failed: no callback comes, and the loop reaps what it kills.
    fn give_up(&self) {
        let protocol = self.0.protocol.take();
        self.core().defer_drop(Deferred::Value(Box::new(protocol)));
        self.close();
    }

    /// Returns the handle of the process alone.
    pub fn child(&self) -> &ChildHandle {
        &self.0.child
    }

    /// Returns the number of the process. After the exit another process may have it.
    pub fn pid(&self) -> u32 {
        self.0.child.pid()
    }

    /// Returns how the process ended, or `None` while it runs.
    #[doc(alias = "get_returncode")]
    pub fn status(&self) -> Option<ExitStatus> {
        self.0.child.status()
    }

    /// Returns the transport of a standard stream that is a pipe.
    ///
    /// A [`set_protocol`](Transport::set_protocol) takes it over: the process's protocol is told no more of it.
    #[doc(alias = "get_pipe_transport")]
    pub fn pipe(&self, pipe: Pipe) -> Option<Transport> {
        self.0.pipes[pipe as usize].get().cloned()
    }

    /// Returns the transport of the standard input, if that is a pipe.
    pub fn stdin(&self) -> Option<Transport> {
        self.pipe(Pipe::Stdin)
    }

    /// Sends a signal, as [`ChildHandle::send_signal`] does.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn send_signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.0.child.send_signal(signal)
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn terminate(&self) -> io::Result<()> {
        self.0.child.terminate()
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    ///
    /// Those of [`ChildHandle::send_signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.0.child.kill()
    }

    /// Kills the process and closes its pipes now. Buffered input is lost, and so is output that was not read.
    pub fn close(&self) {
        for pipe in self.0.pipes.iter().filter_map(OnceCell::get) {
            pipe.abort();
        }
        // It fails for a process that is another user's now.
        let _ = self.kill();
    }

    /// Completes after `connection_lost`, with the status of the process.
    ///
    /// A child of the process may keep its pipes open after the exit, and holds this back meanwhile:
    /// [`ChildHandle::wait`] completes at the exit.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] when the loop ends before.
    pub fn wait_closed(&self) -> Completion<ExitStatus> {
        match self.0.life.get() {
            Life::Lost(status) => Completion::ready(self.handle(), Ok(status)),
            Life::Abandoned => Completion::ready(self.handle(), Err(LoopClosed.into())),
            _ => {
                let (completer, completion) = Completion::pair(self.handle());
                Completer::push_live(&mut self.0.closes.borrow_mut(), completer);
                completion
            }
        }
    }

    /// Returns a handle to the loop that drives the process.
    pub fn handle(&self) -> &Handle {
        self.0.child.handle()
    }

    fn core(&self) -> &Rc<Core> {
        self.handle().core()
    }

    /// Calls the protocol, after `connection_made` if that was not called yet.
    pub(super) fn call(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn SubprocessProtocol, &Self) -> Result,
    ) {
        self.make();
        self.call_now(context, callback);
    }

    /// Calls `connection_made`, if it was not called yet.
    pub(super) fn make(&self) {
        if self.0.life.get() == Life::Starting {
            self.0.life.set(Life::Made);
            self.call_now("connection_made", |protocol, process| {
                protocol.connection_made(process)
            });
        }
    }

    fn call_now(
        &self,
        context: &'static str,
        callback: impl FnOnce(&mut dyn SubprocessProtocol, &Self) -> Result,
    ) {
        let core = self.core();
        // Nothing calls it from within: there is no way to run the loop in a callback.
        let Ok(mut slot) = self.0.protocol.try_borrow_mut() else {
            return;
        };
        let Some(protocol) = slot.as_deref_mut() else {
            return;
        };
        add(&core.counters.callbacks, 1);
        let name = || {
            format!(
                "{context} of {} on child {}",
                self.0.protocol_name,
                self.pid()
            )
        };
        let outcome = core.timed(name, || {
            catch_unwind(AssertUnwindSafe(|| callback(protocol, self)))
        });
        drop(slot);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) if self.tells_of_a_pipe_that_ends(&error) => {
                core.defer_drop(Deferred::Value(Box::new(error)));
            }
            Ok(Err(error)) => self.failed(context, CloseReason::Callback(error.into())),
            Err(payload) => self.failed(context, core.park_panic(payload)),
        }
    }

    fn tells_of_a_pipe_that_ends(&self, error: &BoxError) -> bool {
        let pipes = self.0.pipes.iter().filter_map(OnceCell::get);
        pipes
            .filter(|pipe| pipe.is_closing())
            .any(|pipe| WriteError::tells_of_end(error, pipe.id()))
    }

    #[cold]
    fn failed(&self, context: &'static str, reason: CloseReason) {
        self.close();
        let failure = Failure::new(context, reason).of_protocol(Some(self.0.protocol_name));
        self.core().report(failure);
    }

    /// Delivers what the process wrote before its end, whatever events have told.
    pub(super) fn read_rest(&self, buffer: &mut [u8]) {
        for pipe in [Pipe::Stdout, Pipe::Stderr] {
            if let Some(transport) = self.pipe(pipe) {
                transport.on_event(Readiness::new().with_read_to_end(), buffer);
            }
        }
    }

    /// The process has ended, and was reaped.
    pub(super) fn exited(&self, status: ExitStatus) {
        self.call("process_exited", |protocol, process| {
            protocol.process_exited(process, status)
        });
        self.0.life.set(Life::Exited(status));
        self.settle_end();
    }

    /// A pipe has ended, and its callback was called.
    pub(super) fn pipe_ended(&self) {
        self.0.open_pipes.set(self.0.open_pipes.get() - 1);
        self.settle_end();
    }

    fn settle_end(&self) {
        let Life::Exited(status) = self.0.life.get() else {
            return;
        };
        if self.0.open_pipes.get() > 0 {
            return;
        }
        self.0.life.set(Life::Lost(status));
        self.call_now("connection_lost", |protocol, process| {
            protocol.connection_lost(process);
            Ok(())
        });
        let protocol = self.0.protocol.take();
        self.core().drop_value(protocol);
        for waiting in self.0.closes.take() {
            waiting.complete(Ok(status));
        }
    }

    /// The loop ends, and the process has not.
    pub(super) fn abandon(&self) {
        self.0.life.set(Life::Abandoned);
        let protocol = self.0.protocol.take();
        self.core().drop_value(protocol);
        for waiting in self.0.closes.take() {
            waiting.complete(Err(LoopClosed.into()));
        }
    }
}

impl fmt::Debug for SubprocessTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubprocessTransport")
            .field("child", &self.0.child)
            .field("protocol", &self.0.protocol_name)
            .field("life", &self.0.life.get())
            .finish_non_exhaustive()
    }
}
