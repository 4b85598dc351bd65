//! The end of a completion that owes the result.

use super::shared::Shared;
use std::fmt;
use std::io;
use std::rc::Rc;

/// The other end of a [`Completion`](super::Completion): its holder owes the result.
///
/// Dropped without one, it fails the completion with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
pub struct Completer<T: 'static>(Option<Rc<Shared<T>>>);

impl<T: 'static> Completer<T> {
    pub(super) fn new(shared: Rc<Shared<T>>) -> Self {
        Self(Some(shared))
    }

    /// Completes the completion with `result`. If the completion is cancelled, drops `result`.
    pub fn complete(mut self, result: io::Result<T>) {
        if let Some(shared) = self.0.take() {
            shared.answer(result);
        }
    }

    /// Returns whether the completion was dropped, timed out, or lost its loop.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.is_settled())
    }

    /// Pushes one that waits, and forgets the cancelled ones before the list grows.
    pub(crate) fn push_live(waiters: &mut Vec<Self>, waiting: Self) {
        if waiters.len() == waiters.capacity() {
            waiters.retain(|waiting| !waiting.is_cancelled());
        }
        waiters.push(waiting);
    }
}

impl<T: 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            let message = "the completer was dropped without a result";
            shared.answer(Err(io::Error::new(io::ErrorKind::BrokenPipe, message)));
        }
    }
}

impl<T: 'static> fmt::Debug for Completer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
