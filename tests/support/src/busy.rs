//! Jobs that keep a thread busy, and values that tell where they are dropped.

use crate::BOUND;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, ThreadId};
use tidegate::Handle;

/// Keeps a thread of the pool busy until the sender is dropped; the thread has begun when this
/// returns. The loop keeps the completion.
#[track_caller]
pub fn occupy(handle: &Handle) -> Sender<()> {
    let (release, released) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    let job = handle.run_in_executor(move || {
        // The test is over, if it fails.
        let _ = begin.send(());
        // Fails, when the time has come.
        let _ = released.recv();
    });
    job.then(|_, _| {});
    if begun.recv_timeout(BOUND).is_err() {
        panic!("no thread took the job");
    }
    release
}

/// Tells the thread that it is dropped on.
#[derive(Debug)]
pub struct Dropped(Sender<ThreadId>);

impl Dropped {
    /// Returns one, and the receiver of its drops.
    pub fn new() -> (Self, Receiver<ThreadId>) {
        let (told, dropped) = mpsc::channel();
        (Self(told), dropped)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        // Nobody may care.
        let _ = self.0.send(thread::current().id());
    }
}
