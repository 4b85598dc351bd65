//! A stream without a loop, on its way to another.
//!
//! The system's own go from thread to thread. Those of another world, such as a simulated one, hold parts of
//! their world, which is of one thread. They wait at a place of that thread, and the value that travels only
//! names it.

use super::{OsStream, Socket};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::thread::{self, ThreadId};

thread_local! {
    static WAITING: RefCell<BTreeMap<u64, Socket>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// A stream that no driver knows.
#[derive(Debug)]
pub(crate) enum Carried {
    Os(OsStream),
    Foreign(Place),
}

/// Where a stream of another world waits.
#[derive(Debug)]
pub(crate) struct Place {
    thread: ThreadId,
    number: u64,
}

impl From<Socket> for Carried {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Os(stream) => Self::Os(stream),
            foreign @ Socket::Foreign(_) => {
                let number = NEXT.get();
                NEXT.set(number + 1);
                WAITING.with_borrow_mut(|waiting| waiting.insert(number, foreign));
                let thread = thread::current().id();
                Self::Foreign(Place { thread, number })
            }
        }
    }
}

impl Carried {
    /// Returns the stream, for a loop of this thread.
    pub(crate) fn into_socket(self) -> Result<Socket, (io::Error, Self)> {
        match self {
            Self::Os(stream) => Ok(Socket::Os(stream)),
            Self::Foreign(place) => place.take().ok_or_else(|| {
                let message = "a socket that is not the system's, such as a simulated one, stays on its \
                               thread";
                let error = io::Error::new(io::ErrorKind::Unsupported, message);
                (error, Self::Foreign(place))
            }),
        }
    }
}

impl Place {
    fn take(&self) -> Option<Socket> {
        if thread::current().id() != self.thread {
            return None;
        }
        // It fails when the thread is ending.
        let taken = WAITING.try_with(|waiting| waiting.borrow_mut().remove(&self.number));
        taken.ok().flatten()
    }
}
