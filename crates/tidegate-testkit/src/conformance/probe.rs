//! The protocol at one endpoint of a case, and the record that outlives it.

use super::pattern::pattern;
use crate::{Log, Recorder, Seen};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tidegate::{Closed, Completion, Flow, OnEof, OnPause, Protocol, Result, Transport, WriteError};

#[derive(Debug, Default)]
struct Facts {
    log: Log,
    transport: RefCell<Option<Transport>>,
    received: Cell<u64>,
    /// Those of a protocol that was dropped.
    violations: RefCell<Vec<String>>,
}

/// The record of one endpoint of a connection. Clones are the same record.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoint(Rc<Facts>);

impl Endpoint {
    /// Makes the protocol that writes the record.
    pub(super) fn probe(&self, plan: impl FnOnce(Recorder) -> Recorder) -> Box<dyn Protocol> {
        Box::new(Probe {
            recorder: plan(Recorder::new(&self.0.log)),
            endpoint: self.clone(),
        })
    }

    pub(super) fn log(&self) -> &Log {
        &self.0.log
    }

    /// Returns the transport of `connection_made`.
    pub(super) fn made(&self) -> Option<Transport> {
        self.0.transport.borrow().clone()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.log().is_lost()
    }

    pub(super) fn received(&self) -> u64 {
        self.0.received.get()
    }

    pub(super) fn count(&self, what: &Seen) -> usize {
        self.log().count(what)
    }

    /// Returns the `Closed` of `connection_lost`.
    pub(super) fn closed(&self) -> Option<Closed> {
        self.is_lost().then(|| self.log().closed())
    }

    /// Returns the reason in one word.
    pub(super) fn reason(&self) -> String {
        if self.is_lost() {
            self.log().reason()
        } else {
            "not lost".to_owned()
        }
    }

    /// Returns the violations of the order of callbacks.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut all = self.0.violations.borrow().clone();
        all.extend(self.log().take_violations());
        all
    }
}

/// Writes the next `len` bytes of the pattern.
pub(super) fn put(transport: &Transport, len: usize) -> std::result::Result<Flow, WriteError> {
    transport.write(&pattern(transport.written(), len))
}

/// A [`Recorder`] that gives its [`Endpoint`] the transport. Its log does not fail a test: the suite
/// reports the violations.
struct Probe {
    recorder: Recorder,
    endpoint: Endpoint,
}

impl Probe {
    fn count(&self, len: usize) {
        let received = &self.endpoint.0.received;
        received.set(received.get() + len as u64);
    }
}

impl Protocol for Probe {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.endpoint.0.transport.replace(Some(transport.clone()));
        self.recorder.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.count(data.len());
        self.recorder.data_received(transport, data)
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

    fn get_buffer(&mut self, transport: &Transport, size_hint: usize) -> Option<&mut [u8]> {
        self.recorder.get_buffer(transport, size_hint)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.count(len);
        self.recorder.buffer_updated(transport, len)
    }

    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.recorder)
    }
}

/// Takes the violations from the log, which would panic for them. No callback comes after this.
impl Drop for Probe {
    fn drop(&mut self) {
        let violations = self.endpoint.log().take_violations();
        self.endpoint.0.violations.borrow_mut().extend(violations);
    }
}

/// The result of a completion, once it is there.
#[derive(Debug)]
pub(super) struct Answer<T>(Rc<RefCell<Option<io::Result<T>>>>);

impl<T: 'static> Answer<T> {
    pub(super) fn of(completion: Completion<T>) -> Self {
        let slot: Rc<RefCell<Option<io::Result<T>>>> = Rc::default();
        let answered = slot.clone();
        completion.then(move |_, answer| {
            answered.replace(Some(answer));
        });
        Self(slot)
    }

    pub(super) fn is_there(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns `ok`, the reason of the connection's end, or another text for the result.
    pub(super) fn words(&self) -> String {
        match &*self.0.borrow() {
            None => "no result".to_owned(),
            Some(Ok(_)) => "ok".to_owned(),
            Some(Err(error)) => match Closed::of(error) {
                Some(closed) => closed.to_string(),
                None => error.to_string(),
            },
        }
    }
}

impl Answer<Closed> {
    /// Returns the result of `wait_closed` as a text.
    pub(super) fn closed(&self) -> String {
        match &*self.0.borrow() {
            Some(Ok(closed)) => closed.to_string(),
            _ => self.words(),
        }
    }
}
