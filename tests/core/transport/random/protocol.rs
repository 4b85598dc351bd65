//! The protocol of a case: a recorder that may have kept bytes, and that drives a value.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use support::Recorder;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport, Wrap};

/// The bytes that the protocol in its place has kept, and the protocols that were asked for theirs. It is
/// no part of the model, which is borrowed when `with_protocol` switches.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    kept: RefCell<Vec<u8>>,
    asked: RefCell<VecDeque<usize>>,
}

impl Leftover {
    pub(crate) fn keep(&self, bytes: &[u8]) {
        self.kept.replace(bytes.to_vec());
    }

    /// Returns a protocol that was asked for its leftover, in their order.
    pub(crate) fn take_asked(&self) -> Option<usize> {
        self.asked.borrow_mut().pop_front()
    }
}

/// A recorder that has kept bytes.
pub(crate) struct Scripted {
    recorder: Recorder,
    driven: Driven,
    leftover: Rc<Leftover>,
}

/// The value that a protocol drives, which is none itself.
pub(crate) struct Driven {
    /// The index of the protocol.
    pub(crate) index: usize,
}

impl Scripted {
    /// Boxes a protocol of this index, in a number of wrappers.
    pub(crate) fn boxed(
        recorder: Recorder,
        index: usize,
        leftover: &Rc<Leftover>,
        wrappers: usize,
    ) -> Box<dyn Protocol> {
        let scripted = Self {
            recorder,
            driven: Driven { index },
            leftover: leftover.clone(),
        };
        match wrappers {
            0 => Box::new(scripted),
            1 => Box::new(Plain(scripted)),
            _ => Box::new(Plain(Plain(scripted))),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.driven.index
    }
}

impl Protocol for Scripted {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.recorder.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.recorder.data_received(transport, data)
    }

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        self.recorder.get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.recorder.buffer_updated(transport, len)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.recorder.eof_received(transport)
    }

    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.recorder.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.recorder.resume_writing(transport)
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.recorder.connection_lost(transport, closed);
    }

    fn user(&mut self) -> Option<&mut dyn Any> {
        Some(&mut self.driven)
    }

    fn leftover(&mut self) -> Vec<u8> {
        self.leftover.asked.borrow_mut().push_back(self.index());
        self.leftover.kept.take()
    }
}

/// Passes everything on.
struct Plain<P>(P);

impl<P: Protocol> Wrap for Plain<P> {
    type Inner = P;

    fn wrapped(&mut self) -> &mut P {
        &mut self.0
    }
}
