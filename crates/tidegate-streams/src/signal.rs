//! Signals of the process, awaited.

use crate::error::NoEventLoop;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tidegate::{Handle, LoopClosed, Signal, SignalHandle};

/// Waits for SIGINT, which is Ctrl-C at a terminal.
///
/// The signal is taken by this call, before the future is awaited. It is given back when the future has completed or
/// is dropped: a second Ctrl-C then ends the program, unless it waits again.
///
/// ```no_run
/// use std::time::Duration;
/// use tidegate_streams::{block_on, ctrl_c, start_server};
///
/// # fn main() -> tidegate::Result {
/// block_on(async {
///     let server = start_server("127.0.0.1:8888", async |mut reader, writer| {
///         let line = reader.read_line().await?;
///         writer.write_all(&line).await?;
///         Ok(())
///     })?;
///     ctrl_c().await?;
///     server.shutdown(Duration::from_secs(5)).await?;
///     Ok(())
/// })?
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Handle::wait_signal`]; [`NoEventLoop`].
///
/// # Cancel safety
///
/// Dropping the future gives the signal back.
pub fn ctrl_c() -> impl Future<Output = io::Result<()>> {
    let waiting = wait_signal(&[Signal::SIGINT]);
    async move { waiting.await.map(drop) }
}

/// Waits for the first of several signals, otherwise as [`ctrl_c`].
///
/// Service managers end a program by SIGTERM: `wait_signal(&[Signal::SIGINT, Signal::SIGTERM])` waits for both.
///
/// # Errors
///
/// Those of [`Handle::wait_signal`]; [`NoEventLoop`].
///
/// # Cancel safety
///
/// Dropping the future gives the signals back.
pub fn wait_signal(signals: &[Signal]) -> impl Future<Output = io::Result<Signal>> + use<> {
    let waiting = Handle::current().map(|handle| handle.wait_signal(signals));
    async move {
        match waiting {
            Some(waiting) => waiting.await,
            None => Err(NoEventLoop.into()),
        }
    }
}

/// Takes a signal, for [`Signals::recv`]. It is given back when the [`Signals`] is dropped.
///
/// ```no_run
/// use tidegate::Signal;
/// use tidegate_streams::{block_on, signal};
///
/// # fn main() -> tidegate::Result {
/// block_on(async {
///     let mut hangups = signal(Signal::SIGHUP)?;
///     loop {
///         hangups.recv().await?;
///         println!("reading the configuration again");
///     }
/// })?
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Handle::add_signal_handler`]; [`NoEventLoop`].
pub fn signal(signal: Signal) -> io::Result<Signals> {
    let handle = Handle::current().ok_or(NoEventLoop)?;
    let told = Rc::new(Told::default());
    let teller = Teller(told.clone());
    let handler = handle.add_signal_handler(signal, move |_, _| teller.0.tell())?;
    Ok(Signals {
        signal,
        told,
        handler,
    })
}

/// A signal that comes again and again. [`signal`] makes one.
pub struct Signals {
    signal: Signal,
    told: Rc<Told>,
    handler: SignalHandle,
}

impl Signals {
    /// Waits until the signal has come since the last call, or since it was taken.
    ///
    /// Signals that came meanwhile are one, as pending signals are in the kernel.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] when the loop was dropped.
    ///
    /// # Cancel safety
    ///
    /// A signal that has come stays for the next call.
    pub fn recv(&mut self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| self.told.poll(context))
    }
}

/// Between the handler of a signal and the task that waits.
#[derive(Default)]
struct Told {
    came: Cell<bool>,
    /// The handler is gone, and the loop with it.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Told {
    fn tell(&self) {
        self.came.set(true);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        if self.came.take() {
            return Poll::Ready(Ok(()));
        }
        if self.ended.get() {
            return Poll::Ready(Err(LoopClosed.into()));
        }
        let before = self.waker.replace(Some(context.waker().clone()));
        drop(before);
        Poll::Pending
    }
}

/// The handler's side, which the loop drops at its end.
struct Teller(Rc<Told>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.ended.set(true);
        self.0.wake();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handler.remove();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals")
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}
