//! A completion whose value goes through a closure when it is taken.

use super::shared::Push;
use super::{Completion, taken_already};
use std::io;
use std::task::Waker;
use std::time::Duration;

/// Another completion that the result comes from, of any type. Boxed twice, so that a completion
/// that is not mapped stays small.
pub(super) struct Mapped<T>(Box<dyn Origin<T>>);

trait Origin<T> {
    fn is_ready(&self) -> bool;
    fn take(&mut self) -> Option<io::Result<T>>;
    fn set_waker(&self, waker: &Waker);
    fn expire_within(&self, limit: Duration);
    fn deliver(self: Box<Self>, push: Push<T>);
}

struct Map<S: 'static, F> {
    completion: Completion<S>,
    call: Option<F>,
}

impl<T: 'static> Mapped<T> {
    pub(super) fn new<S: 'static>(
        completion: Completion<S>,
        call: impl FnOnce(S) -> T + 'static,
    ) -> Self {
        Self(Box::new(Map {
            completion,
            call: Some(call),
        }))
    }

    pub(super) fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    pub(super) fn take(&mut self) -> Option<io::Result<T>> {
        self.0.take()
    }

    pub(super) fn set_waker(&self, waker: &Waker) {
        self.0.set_waker(waker);
    }

    pub(super) fn expire_within(&self, limit: Duration) {
        self.0.expire_within(limit);
    }

    pub(super) fn deliver(self, push: Push<T>) {
        self.0.deliver(push);
    }
}

impl<S, T, F> Origin<T> for Map<S, F>
where
    S: 'static,
    T: 'static,
    F: FnOnce(S) -> T + 'static,
{
    fn is_ready(&self) -> bool {
        self.completion.is_ready()
    }

    fn take(&mut self) -> Option<io::Result<T>> {
        let answer = self.completion.take()?;
        Some(match self.call.take() {
            Some(call) => answer.map(call),
            None => Err(taken_already()),
        })
    }

    fn set_waker(&self, waker: &Waker) {
        self.completion.set_waker(waker);
    }

    fn expire_within(&self, limit: Duration) {
        self.completion.expire_within(limit);
    }

    fn deliver(self: Box<Self>, push: Push<T>) {
        let Self { completion, call } = *self;
        if let Some(call) = call {
            completion.deliver(move |handle, delivery| push(handle, delivery.map(call)));
        }
    }
}
