//! A layer around another one, which checks that the calls keep the contract of [`Layer`].

use crate::Result;
use crate::layer::io::Said;
use crate::layer::{Layer, LayerIo};
use std::time::Instant;

#[derive(Debug, Default)]
struct Calls {
    started: bool,
    opened: bool,
    eof: bool,
    ended: bool,
    gone: bool,
    /// The input that was left, and whether another call was asked for.
    left: Vec<u8>,
    asked: bool,
    took_nothing: bool,
    deadline: Option<Instant>,
}

#[derive(Debug)]
pub(in crate::layer) struct Checked<L> {
    pub(in crate::layer) inner: L,
    calls: Calls,
}

impl<L: Layer> Checked<L> {
    pub(in crate::layer) fn new(inner: L) -> Self {
        let calls = Calls::default();
        Self { inner, calls }
    }

    fn call<R>(
        &mut self,
        io: &mut LayerIo<'_>,
        call: impl FnOnce(&mut L, &mut LayerIo<'_>) -> Result<R>,
    ) -> Result<R> {
        assert!(self.calls.started && !self.calls.gone);
        assert!(io.input().starts_with(&self.calls.left), "input was lost");
        let room = io.room();
        let result = call(&mut self.inner, io);
        assert!(io.room() <= room);
        let calls = &mut self.calls;
        calls.left = io.input().to_vec();
        calls.opened |= io.said.has(Said::OPEN);
        calls.asked |= io.said.has(Said::MORE);
        calls.gone |= result.is_err() || io.said.has(Said::LEAVE);
        calls.deadline = *io.deadline;
        result
    }
}

impl<L: Layer> Layer for Checked<L> {
    fn start(&mut self, io: &mut LayerIo<'_>) -> Result {
        assert!(!self.calls.started, "started twice");
        self.calls.started = true;
        self.calls.left = io.input().to_vec();
        self.call(io, L::start)
    }

    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let fresh = io.input().len() > self.calls.left.len();
        assert!(fresh || self.calls.asked, "called without anything new");
        assert!(!fresh || !self.calls.eof, "input behind its end");
        self.calls.asked = false;
        self.calls.took_nothing = false;
        self.call(io, L::receive)
    }

    fn input_ended(&mut self, io: &mut LayerIo<'_>) -> Result {
        assert!(!self.calls.eof, "ended twice");
        assert_eq!(io.input(), self.calls.left, "receive did not have it");
        self.calls.eof = true;
        self.calls.took_nothing = false;
        self.call(io, L::input_ended)
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        assert!(self.calls.opened && !self.calls.ended && !data.is_empty());
        assert!(!self.calls.took_nothing, "asked before it was called");
        let result = self.call(io, |inner, io| inner.send(data, io));
        self.calls.took_nothing = matches!(result, Ok(0));
        result
    }

    fn end(&mut self, io: &mut LayerIo<'_>) -> Result {
        assert!(self.calls.opened && !self.calls.ended, "ended twice");
        self.calls.ended = true;
        self.call(io, L::end)
    }

    fn timer(&mut self, io: &mut LayerIo<'_>) -> Result {
        let deadline = self.calls.deadline.take();
        assert!(deadline.is_some_and(|deadline| deadline <= io.now()));
        self.calls.took_nothing = false;
        self.call(io, L::timer)
    }
}
