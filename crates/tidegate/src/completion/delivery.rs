//! A result on its way to a closure.

use super::taken_already;
use std::io;
use std::mem;

/// A result for a closure, which may be dropped without having run: a connection that is the result of a
/// connect is then closed.
pub(crate) struct Delivery<T>(Content<T>);

enum Content<T> {
    Answer {
        answer: io::Result<T>,
        /// Called with a value that is not taken.
        untaken: Option<fn(T)>,
    },
    /// The result of another delivery, which goes through a closure when it is taken.
    Mapped(Box<dyn FnOnce() -> io::Result<T>>),
    Taken,
}

impl<T> Delivery<T> {
    pub(super) fn new(answer: io::Result<T>, untaken: Option<fn(T)>) -> Self {
        Self(Content::Answer { answer, untaken })
    }

    pub(crate) fn take(mut self) -> io::Result<T> {
        match mem::replace(&mut self.0, Content::Taken) {
            Content::Answer { answer, .. } => answer,
            Content::Mapped(answer) => answer(),
            Content::Taken => Err(taken_already()),
        }
    }
}

impl<T: 'static> Delivery<T> {
    pub(super) fn map<U: 'static>(self, call: impl FnOnce(T) -> U + 'static) -> Delivery<U> {
        Delivery(Content::Mapped(Box::new(move || self.take().map(call))))
    }
}

impl<T> Drop for Delivery<T> {
    fn drop(&mut self) {
        if let Content::Answer {
            answer: Ok(value),
            untaken: Some(untaken),
        } = mem::replace(&mut self.0, Content::Taken)
        {
            untaken(value);
        }
    }
}
