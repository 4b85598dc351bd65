//! The bytes that a protocol writes while it is paused.

use std::cell::Cell;
use std::rc::Rc;
use tidegate::{Closed, OnPause, Protocol, Result, Transport, Wrap};

/// Notes the largest number of bytes that a protocol writes from `pause_writing` to `resume_writing`.
pub(super) struct Watermarked<P> {
    protocol: P,
    most: Rc<Cell<u64>>,
    /// The number of bytes that were written before the pause.
    paused: Option<u64>,
}

impl<P> Watermarked<P> {
    pub(super) fn new(protocol: P, most: &Rc<Cell<u64>>) -> Self {
        Self {
            protocol,
            most: most.clone(),
            paused: None,
        }
    }

    fn end_pause(&mut self, transport: &Transport) {
        if let Some(before) = self.paused.take() {
            let written = transport.written() - before;
            self.most.set(self.most.get().max(written));
        }
    }
}

impl<P: Protocol> Wrap for Watermarked<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.paused = Some(transport.written());
        self.protocol.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.end_pause(transport);
        self.protocol.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.end_pause(transport);
        self.protocol.connection_lost(transport, closed);
    }
}
