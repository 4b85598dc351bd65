//! A child process and its exit.

use super::subprocess::SubprocessTransport;
use crate::completion::{Completer, Completion};
use crate::driver::{Process, Readiness};
use crate::event_loop::{Core, LoopStats, Slot, Source};
use crate::log::guarded;
use crate::{Handle, LoopClosed, TransportId};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long the end of the loop waits for the children that it has killed.
const REAP_GRACE: Duration = Duration::from_secs(1);

/// The room for one read of what a process wrote before the end of the loop.
const LAST_READ: usize = 64 * 1024;

/// The status of a child that another part of the program has reaped; the one of asyncio.
const UNKNOWN: i32 = 255;

/// A child process.
///
/// Clones name the same child, and dropping one does nothing: the loop reaps the child when it ends, whether
/// anybody waits or not.
#[derive(Clone)]
pub struct ChildHandle(Rc<Child>);

pub(super) struct Child {
    id: TransportId,
    handle: Handle,
    pid: u32,
    /// There until it was reaped.
    process: RefCell<Option<Process>>,
    status: Cell<Option<ExitStatus>>,
    is_detached: Cell<bool>,
    /// When the end of the loop gives it up.
    given_up_at: Cell<Option<Instant>>,
    waiters: RefCell<Vec<Completer<ExitStatus>>>,
    /// Of the process, until it has exited: nobody else may hold it.
    subprocess: RefCell<Option<SubprocessTransport>>,
}

impl ChildHandle {
    pub(super) fn watch(handle: &Handle, mut process: Process) -> io::Result<Self> {
        let core = handle.core();
        if core.is_closed() {
            process.end_at_once();
            return Err(LoopClosed.into());
        }
        let pid = process.id();
        // The number of a process that was reaped may be another's.
        let has_ended = process.was_waited_for();
        let child = core.registry.borrow_mut().insert(Slot::other, |id| {
            Rc::new(Child {
                id,
                handle: handle.clone(),
                pid,
                process: RefCell::new(Some(process)),
                status: Cell::new(None),
                is_detached: Cell::new(false),
                given_up_at: Cell::new(None),
                waiters: RefCell::default(),
                subprocess: RefCell::default(),
            })
        });
        if has_ended {
            core.push_leftover(child.id);
            return Ok(Self(child));
        }
        match child.watch(core) {
            Ok(()) => Ok(Self(child)),
            Err(error) => {
                let gone = core.registry.borrow_mut().remove(child.id);
                drop(gone);
                if let Some(process) = child.process.take() {
                    process.end_at_once();
                }
                Err(error)
            }
        }
    }

    pub(super) fn set_subprocess(&self, subprocess: SubprocessTransport) {
        self.0.subprocess.replace(Some(subprocess));
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Has the loop look at it before it sleeps.
    pub(super) fn touch(&self) {
        self.0.handle.core().push_dirty(self.0.id);
    }

    /// Returns the number of the process. After the exit another process may have it.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Returns how the process ended, or `None` while it runs. An exit code and a signal are told apart by
    /// [`ExitStatus::code`] and [`ExitStatusExt::signal`].
    #[doc(alias = "returncode")]
    pub fn status(&self) -> Option<ExitStatus> {
        self.0.status.get()
    }

    /// Completes when the process has ended and was reaped. It waits for no pipe, which a child of the child may
    /// keep open.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] when the loop ends before, and the process was [detached](Self::detach) or cannot be killed.
    pub fn wait(&self) -> Completion<ExitStatus> {
        if let Some(status) = self.status() {
            return Completion::ready(&self.0.handle, Ok(status));
        }
        let (completer, completion) = Completion::pair(&self.0.handle);
        Completer::push_live(&mut self.0.waiters.borrow_mut(), completer);
        completion
    }

    /// Sends a signal by its number (signal(7)). Nothing is sent to a process that has ended, which is no error.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that is no signal, or a real-time one;
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for a process that has become another user's.
    pub fn send_signal(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.0.signal(signal.into())
    }

    /// Sends a signal to the process group that the process leads, so to its own children too. The command has
    /// made it a leader by [`process_group(0)`](std::os::unix::process::CommandExt::process_group). Nothing is sent
    /// when the process has ended.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal). ESRCH when the process leads no group.
    #[doc(alias = "killpg")]
    pub fn send_signal_to_group(&self, signal: impl Into<i32>) -> io::Result<()> {
        self.0
            .while_unreaped(|process| process.signal_group(signal.into()))
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(libc::SIGTERM)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(libc::SIGKILL)
    }

    /// Exempts the process from being killed at the end of the loop. Nobody reaps it then before our own process
    /// ends, and a protocol gets no further callback. Its pipes end with the loop, and
    /// its writes to them raise SIGPIPE then: give it files, or [`Stdio::null`](std::process::Stdio::null).
    pub fn detach(&self) {
        self.0.is_detached.set(true);
    }
}

impl Child {
    fn watch(&self, core: &Core) -> io::Result<()> {
        let (remote, id) = (self.handle.remote(), self.id);
        let exited = move || {
            // Refused when the loop is gone, which has reaped the child.
            let _ = remote.call_soon_threadsafe(move |handle| handle.core().push_leftover(id));
        };
        self.while_unreaped(|process| {
            core.with_driver(|driver| driver.watch_exit(process, id.token(), exited))
        })
    }

    /// Reaps it if it has ended, and tells.
    fn look(&self, core: &Core, buffer: &mut [u8]) {
        let Some(status) = self.reap(core) else {
            return;
        };
        self.status.set(Some(status));
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        let subprocess = self.subprocess.take();
        if let Some(subprocess) = &subprocess {
            subprocess.read_rest(buffer);
        }
        for waiting in self.waiters.take() {
            waiting.complete(Ok(status));
        }
        if let Some(subprocess) = subprocess {
            subprocess.exited(status);
        }
    }

    fn reap(&self, core: &Core) -> Option<ExitStatus> {
        let waited = self.process.borrow_mut().as_mut()?.try_wait().transpose()?;
        let process = self.process.take();
        if let Some(process) = process {
            core.with_driver(|driver| driver.forget_exit(&process));
            // One that somebody else has reaped may have a thread that waits on.
            if waited.is_ok() {
                process.was_reaped();
            }
        }
        let status = waited.unwrap_or_else(|error| {
            let pid = self.pid;
            guarded(|| {
                log::warn!(
                    target: "tidegate::process",
                    "the exit code of child {pid} is unknown, it was reaped elsewhere: {error}"
                );
            });
            ExitStatus::from_raw(UNKNOWN << 8)
        });
        Some(status)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        self.while_unreaped(|process| process.signal(signal))
    }

    /// Makes a call on the process. Once it was reaped the number may be another's.
    fn while_unreaped(&self, call: impl FnOnce(&mut Process) -> io::Result<()>) -> io::Result<()> {
        match &mut *self.process.borrow_mut() {
            Some(process) => call(process),
            None => Ok(()),
        }
    }

    /// Waits a bounded time for the exit of a child that was killed.
    fn await_exit(&self, core: &Core) {
        let mut buffer = match self.subprocess.borrow().is_some() {
            true => vec![0; LAST_READ],
            false => Vec::new(),
        };
        if let Some(process) = &mut *self.process.borrow_mut() {
            let now = self.handle.now();
            let given_up_at = self.given_up_at.get().unwrap_or(now);
            process.await_end(given_up_at.saturating_duration_since(now));
        }
        self.look(core, &mut buffer);
    }
}

impl Source for Child {
    fn on_event(self: Rc<Self>, core: &Core, _: Readiness, buffer: &mut [u8]) {
        self.look(core, buffer);
    }

    /// The thread that waits has told, or it had ended before.
    fn on_leftover(self: Rc<Self>, core: &Core, buffer: &mut [u8]) {
        self.look(core, buffer);
    }

    fn on_dirty(self: Rc<Self>, _: &Core) {
        let subprocess = self.subprocess.borrow().clone();
        if let Some(subprocess) = subprocess {
            subprocess.make();
        }
    }

    fn ends_first(&self) -> bool {
        true
    }

    fn begin_end(&self) {
        if !self.is_detached.get() {
            self.given_up_at.set(Some(self.handle.now() + REAP_GRACE));
            // It fails for a process that is another user's now.
            let _ = self.signal(libc::SIGKILL);
        }
    }

    fn end(self: Rc<Self>, core: &Core) {
        if !self.is_detached.get() {
            self.await_exit(core);
            if self.status.get().is_none() {
                let pid = self.pid;
                guarded(|| {
                    log::warn!(
                        target: "tidegate::process",
                        "child {pid} has not ended within {REAP_GRACE:?} at the end of its loop"
                    );
                });
            }
        }
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        let (subprocess, waiters) = (self.subprocess.take(), self.waiters.take());
        for waiting in waiters {
            waiting.complete(Err(LoopClosed.into()));
        }
        if let Some(subprocess) = subprocess {
            subprocess.abandon();
        }
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.children += 1;
    }
}

impl fmt::Debug for ChildHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle")
            .field("pid", &self.pid)
            .field("status", &self.status.get())
            .finish_non_exhaustive()
    }
}
