//! Signals of the process: their handlers, and waits for them.
//!
//! [`source`] is the source of events that a loop has for all its signals, [`number`] a signal itself.

mod number;
mod source;

use crate::Handle;
use crate::completion::{Completion, Work};
use crate::event_loop::Deferred;
use source::Receiver;
use std::fmt;
use std::io;
use std::rc::{Rc, Weak};

pub use number::Signal;
pub(crate) use source::SignalSource;

/// # Signals
///
/// A signal is the process's, so each loop of the process that has asked for it is told. The first that asks takes
/// the signal: its default action (signal(7)) does not happen any more. When nobody wants it any more, the default
/// action is back: every handler was removed, every wait has completed or was dropped, every loop has ended.
///
/// * The system's handler only sets a flag and wakes the loop. Code of the user runs on the loop, in the I/O phase
///   of a [tick](crate::EventLoop#a-tick).
/// * Signals that come before the loop looks are one, as pending signals are in the kernel. Different ones are told
///   in the order of their numbers.
/// * A signal that was ignored when it was first taken stays ignored when it is given back: SIGHUP by nohup(1), and
///   SIGINT by a shell for a program that it runs in the background. A handler that was there is called all the
///   time. This is read from /proc. On a system without it, signals other than SIGPIPE count as having their default
///   action.
/// * A child process has the default action of every signal that was ever taken, also of one that was ignored before
///   (execve(2)).
/// * A signal to a process that was forked from this one, and runs no other program, is not told here.
///
/// The system's handler stays in place once a signal was given back, and takes the default action itself. SIGTSTP,
/// SIGTTIN and SIGTTOU then stop the process as SIGSTOP does. SIGIO on Linux, and a signal without a name here, such
/// as a real-time signal, end it with the exit code 128 and its number. A handler that another library has installed
/// since then does not prevent that.
impl Handle {
    /// Runs `call` on the loop whenever a signal has come, until the handle [removes](SignalHandle::remove) it or the
    /// loop ends.
    ///
    /// Several handlers of a signal run in the order in which they were added, unlike with asyncio's
    /// `loop.add_signal_handler`, which replaces the one before. A panic of `call` is reported, and the handler stays.
    ///
    /// ```no_run
    /// use tidegate::{EventLoop, Signal};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop = EventLoop::new()?;
    /// event_loop.handle().add_signal_handler(Signal::SIGHUP, |_, signal| {
    ///     println!("{signal}: reading the configuration again");
    /// })?;
    /// event_loop.run_forever()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that is no signal, for SIGKILL and SIGSTOP, and for
    /// SIGBUS, SIGFPE, SIGILL and SIGSEGV, with the reason; [`LoopClosed`](crate::LoopClosed); those of the system:
    /// it may be out of descriptors. `call` is then dropped.
    pub fn add_signal_handler(
        &self,
        signal: Signal,
        call: impl FnMut(&Self, Signal) + 'static,
    ) -> io::Result<SignalHandle> {
        match SignalSource::watching(self, &[signal]) {
            Ok(source) => {
                let key = source.push(Receiver::handler(signal, Box::new(call)));
                let source = Rc::downgrade(&source);
                Ok(SignalHandle { source, key })
            }
            Err(error) => {
                self.core().defer_drop(Deferred::Value(Box::new(call)));
                Err(error)
            }
        }
    }

    /// Completes when one of several signals has come, with that signal. When several of them have come before the
    /// loop looks, it is the one with the lowest number, and the others are forgotten.
    ///
    /// They are taken by this call, and given back when the completion has its result or is dropped. So a second
    /// Ctrl-C kills a program whose shutdown takes too long:
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tidegate::{EventLoop, Protocol, Result, Signal};
    ///
    /// struct Idle;
    ///
    /// impl Protocol for Idle {}
    ///
    /// fn main() -> Result {
    ///     let mut event_loop = EventLoop::new()?;
    ///     let handle = event_loop.handle().clone();
    ///     let server = handle.create_server("127.0.0.1:8888", || Idle)?;
    ///     event_loop.run_until(handle.wait_signal(&[Signal::SIGINT, Signal::SIGTERM]))?;
    ///     event_loop.run_until(server.shutdown(Duration::from_secs(5)))?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// For a signal that comes again and again, [`add_signal_handler`](Handle::add_signal_handler) keeps it between
    /// two of them.
    ///
    /// # Errors
    ///
    /// Of the completion: those of [`add_signal_handler`](Handle::add_signal_handler), and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) when `signals` is empty.
    pub fn wait_signal(&self, signals: &[Signal]) -> Completion<Signal> {
        match SignalSource::watching(self, signals) {
            Ok(source) => {
                let (completer, completion) = Completion::pair(self);
                let key = source.push(Receiver::wait(signals, completer));
                completion.on_drop(Work::Signal(key), None);
                completion
            }
            Err(error) => Completion::ready(self, Err(error)),
        }
    }
}

/// Removes a handler of a signal. Dropping it does nothing.
#[derive(Clone)]
pub struct SignalHandle {
    source: Weak<SignalSource>,
    key: u64,
}

impl SignalHandle {
    /// Removes the handler: it is not called any more, also for a signal that has come before. Returns whether it was
    /// there.
    ///
    /// The handler may remove itself. It is dropped before the loop next sleeps.
    #[doc(alias = "remove_signal_handler")]
    pub fn remove(&self) -> bool {
        let source = self.source.upgrade();
        source.is_some_and(|source| source.remove(self.key))
    }
}

impl fmt::Debug for SignalHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalHandle")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
