//! The messages on their way to a loop, and the senders that wait for room: the part of a mailbox that threads share.
//!
//! The rule of calls: a push that finds no call under way makes one, under the lock. The loop takes until
//! it finds nothing, and notes under the lock that no call is under way. So one call lasts for any number of
//! messages, and none is left behind. When the last sender is gone the loop is called too, if no call is
//! under way.

#[cfg(all(test, loom))]
mod loom;

use super::SendError;
use std::collections::VecDeque;
use std::mem;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

// The models of threads bring locks that can tell them what was done with them.
#[cfg(all(test, loom))]
use ::loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
use std::sync::{Condvar, Mutex, MutexGuard};

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    room: Condvar,
    capacity: usize,
}

struct State<T> {
    messages: VecDeque<T>,
    /// The loop was called, and has not found it empty since.
    called: bool,
    closed: bool,
    senders: usize,
    /// The number of threads that wait for room.
    waiting: usize,
}

/// The rest in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Messages: the loop comes again without a call.
    More,
    Nothing,
    /// Nothing, and nobody is left to send.
    Ended,
}

impl<T> Queue<T> {
    /// Makes one with a sender.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            messages: VecDeque::new(),
            called: false,
            closed: false,
            senders: 1,
            waiting: 0,
        };
        Self {
            state: Mutex::new(state),
            room: Condvar::new(),
            capacity: capacity.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes a message. `call` calls the loop, and returns whether there is one.
    pub(super) fn push(&self, message: T, call: impl FnOnce() -> bool) -> Result<(), SendError<T>> {
        self.push_to(&mut self.lock(), message, call)
    }

    /// Pushes a message as soon as there is room. Blocks, at most for `limit`.
    pub(super) fn push_within(
        &self,
        message: T,
        limit: Duration,
        call: impl FnOnce() -> bool,
    ) -> Result<(), SendError<T>> {
        let deadline = Instant::now().checked_add(limit);
        let mut state = self.lock();
        while state.messages.len() >= self.capacity && !state.closed {
            let left = deadline.map_or(limit, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                break;
            }
            state.waiting += 1;
            let woken = self.room.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        self.push_to(&mut state, message, call)
    }

    fn push_to(
        &self,
        state: &mut State<T>,
        message: T,
        call: impl FnOnce() -> bool,
    ) -> Result<(), SendError<T>> {
        if state.closed {
            return Err(SendError::Closed(message));
        }
        if state.messages.len() >= self.capacity {
            return Err(SendError::Full(message));
        }
        if !state.called && !call() {
            // Nobody waits: there was room.
            state.closed = true;
            return Err(SendError::Closed(message));
        }
        state.called = true;
        state.messages.push_back(message);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().messages.len()
    }

    pub(super) fn add_sender(&self) {
        self.lock().senders += 1;
    }

    /// A sender is gone. The last one calls the loop.
    pub(super) fn remove_sender(&self, call: impl FnOnce() -> bool) {
        let mut state = self.lock();
        state.senders -= 1;
        if state.senders == 0 && !state.closed && !state.called {
            state.called = call();
        }
    }

    /// Takes `most` messages, for the loop.
    pub(super) fn take(&self, most: usize, into: &mut Vec<T>) -> Left {
        let mut state = self.lock();
        let most = most.min(state.messages.len());
        into.extend(state.messages.drain(..most));
        let left = if !state.messages.is_empty() {
            Left::More
        } else if state.senders == 0 {
            Left::Ended
        } else {
            Left::Nothing
        };
        state.called = left == Left::More;
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            self.room.notify_all();
        }
        left
    }

    /// Refuses messages from now on; returns those that are left.
    pub(super) fn close(&self) -> VecDeque<T> {
        let mut state = self.lock();
        state.closed = true;
        let left = mem::take(&mut state.messages);
        drop(state);
        self.room.notify_all();
        left
    }
}
