//! The rules of an endpoint of datagrams in a world.

use crate::datagrams::Questions;
use crate::ledger::Guard;
use std::net::SocketAddr;
use std::rc::Rc;
use tidegate::{Closed, DatagramTransport, Departure, Ecn, Flow, Result, WriteError};

/// The rules of each endpoint: the order of its callbacks, and that every datagram is somewhere.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) questions: Rc<Questions>,
    made: bool,
    lost: bool,
    paused: bool,
    /// A datagram has come since the last end of a batch.
    in_batch: bool,
    _protocol: Guard,
}

impl Checks {
    pub(crate) fn new(questions: &Rc<Questions>) -> Self {
        Self {
            questions: questions.clone(),
            made: false,
            lost: false,
            paused: false,
            in_batch: false,
            _protocol: Guard::new(&questions.ledger, |ledger| &ledger.protocols),
        }
    }

    pub(crate) fn callback(&mut self, transport: &DatagramTransport, name: &str) {
        let ledger = &self.questions.ledger;
        if self.lost || self.made == (name == "made") {
            ledger.violation(format!("{name} out of order: {transport:?}"));
        }
        self.made = true;
        let stats = transport.stats();
        if stats.taken != stats.sent + stats.failed + stats.dropped + stats.queued {
            ledger.violation(format!("{name}: {stats:?} does not add up"));
        }
    }

    pub(crate) fn received(&mut self, transport: &DatagramTransport) {
        self.callback(transport, "received");
        self.in_batch = true;
    }

    pub(crate) fn end_batch(&mut self, transport: &DatagramTransport) {
        self.callback(transport, "batch");
        if !self.in_batch || transport.is_closing() {
            let text = format!("a batch that is none: {transport:?}");
            self.questions.ledger.violation(text);
        }
        self.in_batch = false;
    }

    pub(crate) fn pause(&mut self, transport: &DatagramTransport, on: bool) {
        self.callback(transport, "pause or resume");
        if self.paused == on {
            let text = format!("paused, or resumed, twice: {transport:?}");
            self.questions.ledger.violation(text);
        }
        self.paused = on;
    }

    pub(crate) fn end(&mut self, transport: &DatagramTransport, closed: &Closed) {
        self.callback(transport, "lost");
        self.lost = true;
        let stats = transport.stats();
        let unsent = stats.taken_bytes - stats.sent_bytes;
        if stats.queued > 0 || unsent != closed.unsent() {
            let text = format!("{closed:?} does not add up with {stats:?}");
            self.questions.ledger.violation(text);
        }
    }

    /// Sends. Returns whether more is wanted.
    pub(crate) fn send(&self, transport: &DatagramTransport, data: &[u8], to: SocketAddr) -> bool {
        self.was_taken(transport, transport.send_to(data, &to))
    }

    /// Sends datagrams of this length, of which the last may be shorter.
    pub(crate) fn send_run(
        &self,
        transport: &DatagramTransport,
        data: &[u8],
        len: usize,
        to: SocketAddr,
    ) {
        let (before, departure) = (transport.stats(), Departure::new().ecn(Ecn::Capable0));
        let sent = transport.send_run_to(data, len, &to, departure);
        let after = transport.stats();
        let taken = after.taken - before.taken + after.refused - before.refused;
        let refused = sent.is_err() && taken == 0;
        if !refused && taken as usize != data.len().div_ceil(len) {
            let text = format!("{taken} datagrams for {} bytes: {transport:?}", data.len());
            self.questions.ledger.violation(text);
        }
        self.was_taken(transport, sent);
    }

    fn was_taken(&self, transport: &DatagramTransport, sent: Result<Flow, WriteError>) -> bool {
        match sent {
            Ok(Flow::Open) => true,
            Ok(Flow::Paused) | Err(WriteError::BufferFull { .. }) => false,
            Err(_) if transport.is_closing() => false,
            Err(error) => {
                let text = format!("{error}: {transport:?}");
                self.questions.ledger.violation(text);
                false
            }
        }
    }
}
