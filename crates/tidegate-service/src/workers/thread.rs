//! A thread with a loop.

use crate::panics;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use tidegate::{EventLoop, EventLoopBuilder, Handle, LoopClosed, RemoteHandle};

pub(super) type MakeLoop = Arc<dyn Fn() -> EventLoopBuilder + Send + Sync>;

/// The end of a thread.
pub(super) struct Ended {
    /// It kept connections: it did not accept for others.
    pub(super) is_worker: bool,
    /// The panic that ended it, if one did.
    pub(super) panicked: Option<WorkerPanicked>,
}

pub(super) struct LoopThread {
    remote: RemoteHandle,
    thread: JoinHandle<()>,
}

impl LoopThread {
    /// Starts a thread, and waits until its loop is there. `ended` is told of its end, if it has begun.
    pub(super) fn start(
        name: String,
        is_worker: bool,
        make: MakeLoop,
        ended: Sender<Ended>,
    ) -> io::Result<Self> {
        let (started, loops) = mpsc::channel();
        let own_name = name.clone();
        let run = move || {
            let event_loop = match caught("making the event loop", || make().build()) {
                Ok(event_loop) => event_loop,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(event_loop.handle().remote()));
            let message = match run_loop(event_loop) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("the loop failed: {error}")),
                Err(message) => Some(message),
            };
            let panicked = message.map(|message| WorkerPanicked {
                thread: own_name,
                message,
            });
            // Nobody may want to know.
            let _ = ended.send(Ended {
                is_worker,
                panicked,
            });
        };
        let thread = thread::Builder::new().name(name).spawn(run)?;
        match loops.recv() {
            Ok(started) => started.map(|remote| Self { remote, thread }),
            Err(_) => Err(LoopClosed.into()),
        }
    }

    pub(super) fn remote(&self) -> &RemoteHandle {
        &self.remote
    }

    /// Has the loop run `call`, which gives a result now or later. Nothing comes when the loop is gone.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Handle, Sender<T>) + Send + 'static,
    ) -> Receiver<T> {
        let (sender, receiver) = mpsc::channel();
        // If it fails, the sender is gone, and the receiver knows.
        let _ = self
            .remote
            .call_soon_threadsafe(move |handle| call(handle, sender));
        receiver
    }

    /// Stops the loop, and waits for the thread.
    pub(super) fn end(self) {
        self.remote.stop();
        // It ends by no panic: those of its loop are caught.
        let _ = self.thread.join();
    }
}

/// Runs the loop until it stops, and drops it. The error is the message of a panic.
fn run_loop(mut event_loop: EventLoop) -> Result<io::Result<()>, String> {
    panics::caught(move || event_loop.run_forever())
}

/// Makes an error of a panic of the user's code.
pub(super) fn caught<T>(what: &str, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    panics::caught(call)
        .unwrap_or_else(|message| Err(io::Error::other(format!("{what} panicked: {message}"))))
}

/// A thread of [`Workers`](super::Workers) that has ended by itself: by a panic that its loop
/// [propagates](tidegate::PanicPolicy::Propagate), or by an error of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPanicked {
    thread: String,
    message: String,
}

impl WorkerPanicked {
    /// Returns the name of the thread.
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// Returns the message of the panic, or of the error.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for WorkerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has ended: {}", self.thread, self.message)
    }
}

impl Error for WorkerPanicked {}
