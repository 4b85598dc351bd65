//! Messages of other threads for a closure that stays on the loop.
//!
//! [`queue`] is what threads share. The loop's end is a [`Source`] without a socket.

mod queue;

use crate::driver::Readiness;
use crate::event_loop::{Core, Deferred, LoopStats, Slot, Source};
use crate::{Handle, RemoteHandle, TransportId};
use queue::{Left, Queue};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// The maximum number of messages of one mailbox in a tick.
const MESSAGES_PER_TICK: usize = 64;

/// # Messages of other threads
impl Handle {
    /// Makes a mailbox: `call` runs on the loop for each message that is sent to it.
    ///
    /// The [`Mailbox`] goes to other threads, and so do the messages. `call` stays here, so it may hold an
    /// [`Rc`], a [`Handle`] or a [`Transport`](crate::Transport). At most `capacity` messages wait,
    /// at least one; others are given back to the sender. The messages of a thread come in their
    /// order, at most 64 in a tick. Those of a tick make room when the first of them comes.
    ///
    /// A panic of `call` is [reported](Self::set_error_handler), and the next message comes all the same.
    /// `call` is dropped when the last clone of the mailbox is gone and every message has come, or with
    /// the loop.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::rc::Rc;
    /// use std::thread;
    /// use tidegate::EventLoop;
    ///
    /// # fn main() -> tidegate::Result {
    /// let mut event_loop = EventLoop::new()?;
    /// let words = Rc::new(RefCell::new(Vec::new()));
    /// let heard = words.clone();
    /// let mailbox = event_loop.handle().mailbox(1000, move |handle, word: String| {
    ///     heard.borrow_mut().push(word);
    ///     if heard.borrow().len() == 2 {
    ///         handle.stop();
    ///     }
    /// });
    /// let other = mailbox.clone();
    /// thread::spawn(move || other.send("from there".to_owned()));
    /// mailbox.send("from here".to_owned())?;
    /// event_loop.run_forever()?;
    /// assert_eq!(words.borrow().len(), 2);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "Queue")]
    #[doc(alias = "channel")]
    pub fn mailbox<T: Send + 'static>(
        &self,
        capacity: usize,
        call: impl FnMut(&Self, T) + 'static,
    ) -> Mailbox<T> {
        let core = self.core();
        let queue = Arc::new(Queue::new(capacity));
        let call: Call<T> = Box::new(call);
        let mut id = TransportId::new(0, 0);
        if core.is_closed() {
            queue.close();
            core.defer_drop(Deferred::Value(Box::new(call)));
        } else {
            let outlet = core.registry.borrow_mut().insert(Slot::other, |id| {
                Rc::new(Outlet {
                    id,
                    handle: self.clone(),
                    queue: queue.clone(),
                    call: RefCell::new(Some(call)),
                    owed: Cell::new(false),
                })
            });
            id = outlet.id;
        }
        Mailbox {
            queue,
            id,
            remote: self.remote(),
            thread: thread::current().id(),
        }
    }
}

/// The way to a closure on a loop, for any thread. [`Handle::mailbox`] makes one. Clones name the same.
pub struct Mailbox<T: Send + 'static> {
    queue: Arc<Queue<T>>,
    id: TransportId,
    remote: RemoteHandle,
    thread: ThreadId,
}

impl<T: Send + 'static> Mailbox<T> {
    /// Sends a message. It never blocks. The closure runs on its loop, never inside this call.
    ///
    /// However many messages are sent while the loop is busy, it is woken once.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message. A message that was taken may still be lost: the loop drops those
    /// that wait when it is dropped.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.queue.push(message, || self.call())
    }

    /// Sends a message, and waits for room first. It blocks the thread for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`SendError`], with the message: [`Full`](SendError::Full) when there was no room within `limit`;
    /// [`OnItsOwnLoop`](SendError::OnItsOwnLoop), at once, when there is none and this is the loop's own thread.
    pub fn send_within(&self, message: T, limit: Duration) -> Result<(), SendError<T>> {
        if thread::current().id() == self.thread {
            return self.send(message).map_err(|error| match error {
                SendError::Full(message) => SendError::OnItsOwnLoop(message),
                error => error,
            });
        }
        self.queue.push_within(message, limit, || self.call())
    }

    /// Returns the number of messages that wait. Other threads may change it at any time.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns whether there is a loop that was called.
    fn call(&self) -> bool {
        let id = self.id;
        let deliver = move |handle: &Handle| handle.core().push_leftover(id);
        self.remote.call_soon_threadsafe(deliver).is_ok()
    }
}

impl<T: Send + 'static> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        self.queue.add_sender();
        Self {
            queue: self.queue.clone(),
            id: self.id,
            remote: self.remote.clone(),
            thread: self.thread,
        }
    }
}

impl<T: Send + 'static> Drop for Mailbox<T> {
    fn drop(&mut self) {
        self.queue.remove_sender(|| self.call());
    }
}

impl<T: Send + 'static> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

type Call<T> = Box<dyn FnMut(&Handle, T)>;

/// The loop's end of a mailbox.
struct Outlet<T: Send + 'static> {
    id: TransportId,
    handle: Handle,
    queue: Arc<Queue<T>>,
    /// Taken out while it runs.
    call: RefCell<Option<Call<T>>>,
    /// A loop that runs inside the closure had messages.
    owed: Cell<bool>,
}

impl<T: Send + 'static> Outlet<T> {
    fn deliver(&self, core: &Core) {
        let taken = self.call.take();
        let Some(mut call) = taken else {
            self.owed.set(true);
            return;
        };
        let mut messages = Vec::new();
        let left = self.queue.take(MESSAGES_PER_TICK, &mut messages);
        for message in messages {
            core.guard("a mailbox", || call(&self.handle, message));
        }
        self.call.replace(Some(call));
        match left {
            Left::Ended => self.leave(core),
            Left::More => core.push_leftover(self.id),
            Left::Nothing if self.owed.take() => core.push_leftover(self.id),
            Left::Nothing => {}
        }
    }

    fn leave(&self, core: &Core) {
        let gone = core.registry.borrow_mut().remove(self.id);
        drop(gone);
        for message in self.queue.close() {
            core.defer_drop(Deferred::Value(Box::new(message)));
        }
        let call = self.call.take();
        core.defer_drop(Deferred::Value(Box::new(call)));
    }
}

impl<T: Send + 'static> Source for Outlet<T> {
    fn on_event(self: Rc<Self>, _: &Core, _: Readiness, _: &mut [u8]) {}

    fn on_leftover(self: Rc<Self>, core: &Core, _: &mut [u8]) {
        self.deliver(core);
    }

    fn end(self: Rc<Self>, core: &Core) {
        self.leave(core);
    }

    fn count(&self, _: &mut LoopStats) {}
}

impl<T: Send + 'static> fmt::Debug for Outlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

/// Why a [`Mailbox`] did not take a message, which it gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// As many messages wait as may.
    Full(T),
    /// The loop was dropped.
    Closed(T),
    /// There is no room, and to wait for it on the loop's own thread would be to wait for ever.
    OnItsOwnLoop(T),
}

impl<T> SendError<T> {
    /// Returns the message.
    pub fn into_message(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) | Self::OnItsOwnLoop(message) => message,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the event loop of the mailbox was dropped",
            Self::OnItsOwnLoop(_) => "the mailbox is full, and this is the thread that empties it",
        })
    }
}

impl<T: fmt::Debug> Error for SendError<T> {}
