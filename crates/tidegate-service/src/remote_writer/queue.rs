//! The pieces on their way to a connection's loop, and the threads that wait: the part of a writer that threads
//! share.
//!
//! The rule of calls: a push that finds no call under way makes one, under the lock. The loop takes pieces
//! until it finds none, and notes under the lock that no call is under way. While the connection is paused the
//! call lasts. So one call lasts for any number of pieces, and none is left behind.

#[cfg(all(test, loom))]
mod loom;

use super::{RemoteLimits, RemoteWriteError};
use crate::panics::caught;
use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tidegate::{Bytes, Closed, Flow};

// The models of threads bring locks that can tell them what was done with them.
#[cfg(all(test, loom))]
use ::loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// The memory of a piece in bytes, beside its payload: 32 in the queue, three times as in a buffer of a transport
/// that has just doubled, and the allocator's for the payload. At the cap these count apart from the payload.
const PIECE: usize = 128;
const _: () = assert!(3 * size_of::<Bytes>() < PIECE);

pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limits: RemoteLimits,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    paused: bool,
    /// The loop was called, and has not found it empty since.
    called: bool,
    /// The end, with its reason if the connection had one.
    closed: Option<Option<Closed>>,
    /// Of futures that wait, by the numbers of these.
    wakers: Vec<(u64, Waker)>,
    /// The number of the next future that waits.
    next: u64,
}

impl State {
    fn end(&self) -> Option<RemoteWriteError> {
        self.closed.clone().map(RemoteWriteError::Closed)
    }

    fn take_waker(&mut self, number: u64) -> Option<Waker> {
        let place = self.wakers.iter().position(|(own, _)| *own == number)?;
        Some(self.wakers.swap_remove(place).1)
    }

    fn flow(&self) -> Flow {
        if self.paused {
            Flow::Paused
        } else {
            Flow::Open
        }
    }
}

impl Queue {
    pub(super) fn new(limits: RemoteLimits) -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece, or gives it back. `call` calls the loop, and returns whether there is one.
    pub(super) fn push(
        &self,
        piece: Bytes,
        call: impl FnOnce() -> bool,
    ) -> Result<Flow, RemoteWriteError> {
        let mut state = self.lock();
        if let Some(end) = state.end() {
            return Err(end);
        }
        if piece.is_empty() {
            return Ok(state.flow());
        }
        let most = self.limits.cap.div_ceil(PIECE);
        if state.bytes >= self.limits.cap || state.pieces.len() >= most {
            return Err(RemoteWriteError::Full(piece));
        }
        if !state.called && !call() {
            drop(state);
            self.close(None);
            return Err(RemoteWriteError::Closed(None));
        }
        state.called = true;
        state.bytes += piece.len();
        state.pieces.push_back(piece);
        state.paused |= state.bytes > self.limits.high;
        Ok(state.flow())
    }

    pub(super) fn flow(&self) -> Flow {
        self.lock().flow()
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().bytes
    }

    /// Blocks until the flow is open, at most for `limit`.
    pub(super) fn wait(&self, limit: Duration) -> Result<(), RemoteWriteError> {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        loop {
            if let Some(end) = state.end() {
                return Err(end);
            }
            if !state.paused {
                return Ok(());
            }
            let left = deadline.map_or(limit, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return Err(RemoteWriteError::TimedOut);
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the flow is open; else the waker is woken when it is. `number` is that of the future, once it
    /// waits.
    pub(super) fn poll_open(
        &self,
        number: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<(), RemoteWriteError>> {
        // Cloned without the lock, and dropped so, for these run code of its owner.
        let waker = waker.clone();
        let mut state = self.lock();
        if let Some(end) = state.end() {
            return Poll::Ready(Err(end));
        }
        if !state.paused {
            return Poll::Ready(Ok(()));
        }
        let own = *number.get_or_insert(state.next);
        state.next = state.next.max(own + 1);
        let before = state.take_waker(own);
        state.wakers.push((own, waker));
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// A future waits no longer.
    pub(super) fn forget(&self, number: u64) {
        let waker = self.lock().take_waker(number);
        drop(waker);
    }

    /// Takes the next piece, for the loop. With `None` no call is under way any more.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let Some(piece) = state.pieces.pop_front() else {
            state.called = false;
            return None;
        };
        state.bytes -= piece.len();
        if state.paused && state.bytes <= self.limits.low {
            state.paused = false;
            self.wake(state);
        }
        Some(piece)
    }

    /// Puts the piece that was taken last in front again, for the connection had no room for it.
    pub(super) fn put_back(&self, piece: Bytes) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.bytes += piece.len();
            state.pieces.push_front(piece);
        }
    }

    /// Refuses pieces from now on, drops those that wait, and ends every wait. The first call counts.
    pub(super) fn close(&self, closed: Option<Closed>) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(closed);
        state.bytes = 0;
        let pieces = mem::take(&mut state.pieces);
        self.wake(state);
        drop(pieces);
    }

    /// Wakes all, without the lock. A waker is user code: its panic must not keep the others asleep, nor take the
    /// piece with it that made room.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakers = mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        for (_, waker) in wakers {
            if let Err(message) = caught(|| waker.wake()) {
                log::error!(target: "tidegate::failure", "a waker panicked: {message}");
            }
        }
    }
}
