//! A layer under observation: what it was called for, and what it did.

use super::case::Side;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{Layer, LayerIo, Result};

/// The number of calls that are kept.
const KEPT: usize = 24;

/// The last calls of the layers of one run, in their order: a text, one line each.
#[derive(Clone, Default)]
pub struct LayerCalls(VecDeque<String>);

impl fmt::Display for LayerCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|call| writeln!(f, "  {call}"))
    }
}

/// The text of its `Display`.
impl fmt::Debug for LayerCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

/// The observations of both layers.
#[derive(Clone, Default)]
pub(super) struct Calls(Rc<RefCell<LayerCalls>>);

impl Calls {
    pub(super) fn add(&self, call: String) {
        let LayerCalls(calls) = &mut *self.0.borrow_mut();
        if calls.len() == KEPT {
            calls.pop_front();
        }
        calls.push_back(call);
    }

    pub(super) fn take(&self) -> LayerCalls {
        self.0.take()
    }
}

/// Passes every call on, and notes it.
pub(super) struct Observed<L> {
    layer: L,
    side: Side,
    calls: Calls,
}

impl<L: Layer> Observed<L> {
    pub(super) fn new(layer: L, side: Side, calls: &Calls) -> Self {
        Self {
            layer,
            side,
            calls: calls.clone(),
        }
    }

    fn observe<T>(
        &mut self,
        method: &str,
        data: Option<usize>,
        io: &mut LayerIo<'_>,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> Result<T>,
        value: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        let input = io.input().len();
        let mut line = format!("{}: {method}", self.side);
        // Writing to a string does not fail.
        let _ = match data {
            Some(data) => write!(line, " of {data} bytes"),
            None => write!(line, " with {input} bytes of input"),
        };
        // Before the call: it may panic.
        self.calls.add(line);
        let result = call(&mut self.layer, io);
        let done = match &result {
            Ok(result) => value(result),
            Err(error) => format!(" failed: {error}"),
        };
        let consumed = input - io.input().len();
        if let Some(last) = self.calls.0.borrow_mut().0.back_mut() {
            if consumed > 0 {
                let _ = write!(last, ", consumed {consumed}");
            }
            last.push_str(&done);
        }
        result
    }
}

impl<L: Layer> Layer for Observed<L> {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.observe("start", None, io, L::start, nothing)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.observe("receive", None, io, L::receive, nothing)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.observe("input_ended", None, io, L::input_ended, nothing)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        let call = |layer: &mut L, io: &mut LayerIo<'_>| layer.send(data, io);
        let taken = |taken: &usize| format!(", took {taken}");
        self.observe("send", Some(data.len()), io, call, taken)
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.observe("end", None, io, L::end, nothing)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        self.observe("timer", None, io, L::timer, nothing)
    }

    fn open_limit(&self) -> Duration {
        self.layer.open_limit()
    }
}

fn nothing(_: &()) -> String {
    String::new()
}
