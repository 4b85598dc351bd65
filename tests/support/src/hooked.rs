//! A layer for tests that passes bytes as they are, and does what a test tells it before.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// The methods of a layer that a test has a say in.
pub const METHODS: [&str; 6] = ["start", "receive", "input_ended", "send", "end", "timer"];

type Hook = Box<dyn FnMut(&'static str, &mut LayerIo<'_>) -> Result>;

/// Passes bytes as they are. Each method calls the hook first, with its name.
pub struct Hooked {
    hook: Hook,
    takes: Rc<Cell<usize>>,
}

impl Hooked {
    /// Calls `hook` before each method does anything. An error of it is that of the method.
    pub fn new(hook: impl FnMut(&'static str, &mut LayerIo<'_>) -> Result + 'static) -> Self {
        Self {
            hook: Box::new(hook),
            takes: Rc::new(Cell::new(usize::MAX)),
        }
    }

    /// Calls `hook` before this method does anything.
    pub fn on(
        method: &'static str,
        mut hook: impl FnMut(&mut LayerIo<'_>) -> Result + 'static,
    ) -> Self {
        Self::new(move |called, io| if called == method { hook(io) } else { Ok(()) })
    }

    /// Takes as many bytes as `takes` has, which they are taken from.
    #[must_use]
    pub fn taking(mut self, takes: &Rc<Cell<usize>>) -> Self {
        self.takes = takes.clone();
        self
    }
}

impl Layer for Hooked {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        io.open();
        (self.hook)("start", io)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.hook)("receive", io)?;
        let (input, mut above, _) = io.parts();
        let len = input.len();
        above.deliver(input);
        io.consume(len);
        Ok(())
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.hook)("input_ended", io)?;
        io.end_of_stream();
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        (self.hook)("send", io)?;
        let len = data.len().min(self.takes.get());
        self.takes.set(self.takes.get() - len);
        io.send(&data[..len]);
        Ok(len)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.hook)("end", io)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        (self.hook)("timer", io)
    }

    fn open_limit(&self) -> Duration {
        Duration::MAX
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked")
            .field("takes", &self.takes)
            .finish_non_exhaustive()
    }
}
