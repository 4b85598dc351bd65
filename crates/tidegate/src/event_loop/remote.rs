//! The way into the loop from other threads.

#[cfg(all(test, loom))]
mod loom;

use crate::Handle;
use crate::driver::Wake;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

// The models of threads, which are tests, bring a lock that can tell them what was done with it.
#[cfg(all(test, loom))]
use ::loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
use std::sync::{Mutex, MutexGuard};

pub(crate) type RemoteCall = Box<dyn FnOnce(&Handle) + Send>;

/// The calls that other threads have left for the loop.
///
/// The wake-up rule: the call that makes an empty queue non-empty wakes the loop, after the push. The loop
/// takes the whole queue when it is woken. So any number of calls between two ticks costs one wake-up, and
/// none is lost: a call that finds the queue non-empty was put before the taking that its predecessor's
/// wake-up causes.
pub(crate) struct Inbox {
    /// `None` once the loop is gone.
    calls: Mutex<Option<Vec<RemoteCall>>>,
    waker: Arc<dyn Wake>,
}

impl Inbox {
    pub(crate) fn new(waker: Arc<dyn Wake>) -> Self {
        Self {
            calls: Mutex::new(Some(Vec::new())),
            waker,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<RemoteCall>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, call: RemoteCall) -> Result<(), LoopClosed> {
        let mut calls = self.lock();
        let Some(queue) = calls.as_mut() else {
            drop(calls);
            return Err(LoopClosed);
        };
        let first = queue.is_empty();
        queue.push(call);
        drop(calls);
        if first {
            self.waker.wake();
        }
        Ok(())
    }

    pub(crate) fn take(&self) -> Vec<RemoteCall> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Refuses calls from now on; gives back those that will not run.
    pub(crate) fn close(&self) -> Vec<RemoteCall> {
        self.lock().take().unwrap_or_default()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.lock().as_ref().map(Vec::len);
        f.debug_struct("Inbox").field("waiting", &waiting).finish()
    }
}

/// A handle to an event loop for other threads: all it can do is to leave work for the loop.
/// [`Handle::remote`] makes one.
///
/// Transports and protocols stay on the loop's thread. A [`TransportId`](crate::TransportId) goes to
/// another thread and back, and the loop finds the connection by it, if it is still there:
///
/// ```
/// use std::thread;
/// use tidegate::{OnEof, Protocol, Result, Transport};
///
/// /// Replies with a sum that another thread computes.
/// struct Sums;
///
/// impl Protocol for Sums {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
///         let (remote, id) = (transport.handle().remote(), transport.id());
///         let data = data.to_vec();
///         thread::spawn(move || {
///             let sum: u64 = data.iter().map(|&byte| u64::from(byte)).sum();
///             let called = remote.call_soon_threadsafe(move |handle| {
///                 if let Some(transport) = handle.transport(id) {
///                     transport.call_soon(move |_: &mut Sums, transport| {
///                         writeln!(transport, "{sum}")?;
///                         Ok(())
///                     });
///                 }
///             });
///             // An error says that the loop was dropped, and the connection with it.
///             drop(called);
///         });
///         Ok(())
///     }
///
///     // The default would close, and refuse replies that are still being computed. A protocol
///     // that keeps the connection open closes it when it has written the last one.
///     fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
///         Ok(OnEof::KeepOpen)
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct RemoteHandle(Arc<Inbox>);

impl RemoteHandle {
    pub(crate) fn new(inbox: Arc<Inbox>) -> Self {
        Self(inbox)
    }

    /// Runs `call` on the loop's thread, in the order of the calls of this thread. Wakes the loop
    /// if it sleeps; many calls between two ticks cost one wake-up.
    ///
    /// # Values that are not `Send`
    ///
    /// `call` goes from thread to thread, so it cannot hold an `Rc`, a [`Handle`] or a
    /// [`Transport`](crate::Transport). It is given a handle of the loop, and finds a connection by its
    /// [`TransportId`](crate::TransportId) with [`Handle::transport`]. The protocol of the connection may
    /// hold an `Rc`: [`Transport::call_soon`](crate::Transport::call_soon) runs a closure with it, as in
    /// the example of [`RemoteHandle`].
    ///
    /// # Errors
    ///
    /// [`LoopClosed`] when the loop was dropped; `call` is then dropped here. A call that was
    /// accepted before that is dropped, not run, on the loop's thread.
    pub fn call_soon_threadsafe(
        &self,
        call: impl FnOnce(&Handle) + Send + 'static, // An `Rc` stays on the loop: see above.
    ) -> Result<(), LoopClosed> {
        self.0.push(Box::new(call))
    }

    /// As [`Handle::stop`]. Does nothing when the loop is gone.
    pub fn stop(&self) {
        // A loop that is gone has stopped.
        let _ = self.call_soon_threadsafe(Handle::stop);
    }
}

/// The event loop was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it says it all")]
pub struct LoopClosed;

impl fmt::Display for LoopClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop was dropped")
    }
}

impl Error for LoopClosed {}

impl From<LoopClosed> for io::Error {
    fn from(error: LoopClosed) -> Self {
        Self::new(io::ErrorKind::NotConnected, error)
    }
}
