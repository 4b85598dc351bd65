//! A thread with a loop.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use tidegate::{EventLoopBuilder, Handle, RemoteHandle};

pub(super) type MakeLoop = Arc<dyn Fn() -> EventLoopBuilder + Send + Sync>;

/// How a thread has ended: with the panic that ended it, if one did.
pub(super) type Ended = Option<WorkerPanicked>;

pub(super) struct LoopThread {
    remote: RemoteHandle,
    thread: JoinHandle<()>,
}

impl LoopThread {
    /// Starts a thread, and waits until its loop is there. `ended` is told of its end.
    pub(super) fn start(name: String, make: MakeLoop, ended: Sender<Ended>) -> io::Result<Self> {
        let (started, loops) = mpsc::channel();
        let own_name = name.clone();
        let run = move || {
            let run = AssertUnwindSafe(|| run_loop(&*make, &started));
            let outcome = catch_unwind(run);
            drop(started);
            let end = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("the loop failed: {error}")),
                Err(payload) => Some(message_of(&*payload)),
            };
            // Nobody may want to know.
            let _ = ended.send(end.map(|message| WorkerPanicked {
                thread: own_name,
                message,
            }));
        };
        let thread = thread::Builder::new().name(name).spawn(run)?;
        match loops.recv() {
            Ok(started) => started.map(|remote| Self { remote, thread }),
            Err(_) => Err(io::Error::other("making the event loop panicked")),
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

fn run_loop(
    make: &(dyn Fn() -> EventLoopBuilder + Send + Sync),
    started: &Sender<io::Result<RemoteHandle>>,
) -> io::Result<()> {
    let mut event_loop = match make().build() {
        Ok(event_loop) => event_loop,
        Err(error) => {
            let _ = started.send(Err(error));
            return Ok(());
        }
    };
    let _ = started.send(Ok(event_loop.handle().remote()));
    event_loop.run_forever()
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
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
