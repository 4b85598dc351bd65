//! The code under test: a protocol, or the handler of a stream.

use std::cell::RefCell;
use std::rc::Rc;
use tidegate::Protocol;
use tidegate_streams::{Handlers, StreamReader, StreamWriter};

type Factory = Rc<RefCell<dyn FnMut() -> Box<dyn Protocol>>>;

/// Makes a protocol for each connection of a check.
#[derive(Clone)]
pub(super) struct Subject {
    factory: Factory,
    running: Rc<dyn Fn() -> usize>,
}

impl Subject {
    pub(super) fn protocol<P: Protocol>(mut factory: impl FnMut() -> P + 'static) -> Self {
        Self {
            factory: Rc::new(RefCell::new(move || {
                Box::new(factory()) as Box<dyn Protocol>
            })),
            running: Rc::new(|| 0),
        }
    }

    pub(super) fn handler<F>(handler: F) -> Self
    where
        F: AsyncFn(StreamReader, StreamWriter) -> tidegate::Result + 'static,
    {
        let handlers = Rc::new(Handlers::new(handler));
        let factory = handlers.clone();
        Self {
            running: Rc::new(move || handlers.running()),
            ..Self::protocol(move || factory.protocol())
        }
    }

    pub(super) fn make(&self) -> Box<dyn Protocol> {
        self.factory.borrow_mut()()
    }

    /// Returns the number of handlers that have not ended.
    pub(super) fn running(&self) -> usize {
        (self.running)()
    }
}
