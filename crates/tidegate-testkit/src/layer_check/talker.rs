//! The protocol at each end of a check: it sends one message, and keeps what it receives.

use std::cell::RefCell;
use std::rc::Rc;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

/// When an end sends its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    /// In one write.
    AtOnce,
    /// Piece by piece, one at a time, between what it receives.
    InPieces,
    /// When the stream of the other has ended.
    Last,
}

/// The plan of an end.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) message: Rc<[u8]>,
    pub(super) sends: Sends,
    /// Ends its stream behind the message.
    pub(super) ends: bool,
    /// Closes the connection when its message is written and this number of bytes was received.
    pub(super) closes_at: Option<usize>,
    /// The size of its own read buffer.
    pub(super) room: Option<usize>,
}

/// The result of the plan.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) transport: Option<Transport>,
    pub(super) received: Vec<u8>,
    pub(super) saw_eof: bool,
    pub(super) closed: Option<Closed>,
    /// The number of bytes of the message that were written.
    written: usize,
    has_ended: bool,
}

pub(super) struct Talker {
    plan: Plan,
    record: Rc<RefCell<Record>>,
    buffer: Vec<u8>,
}

impl Talker {
    pub(super) fn new(plan: &Plan, record: &Rc<RefCell<Record>>) -> Self {
        Self {
            plan: plan.clone(),
            record: record.clone(),
            buffer: vec![0; plan.room.unwrap_or(0)],
        }
    }

    fn take(&self, transport: &Transport, data: &[u8]) {
        let mut record = self.record.borrow_mut();
        record.received.extend_from_slice(data);
        self.plan.close_if_done(&record, transport);
    }
}

impl Plan {
    fn close_if_done(&self, record: &Record, transport: &Transport) {
        let is_written = record.written == self.message.len();
        if is_written && self.closes_at == Some(record.received.len()) {
            transport.close();
        }
    }

    /// Writes what is next. Returns whether there was something.
    ///
    /// An end that can write no more is told so by `connection_lost`: refused writes are no matter.
    pub(super) fn go_on(&self, record: &RefCell<Record>) -> bool {
        let mut record = record.borrow_mut();
        let Some(transport) = record.transport.clone() else {
            return false;
        };
        if record.has_ended || (self.sends == Sends::Last && !record.saw_eof) {
            return false;
        }
        let rest = &self.message[record.written..];
        if rest.is_empty() {
            record.has_ended = true;
            self.close_if_done(&record, &transport);
            return self.ends && transport.write_eof().is_ok();
        }
        // Of all sizes, the small ones first.
        let len = match self.sends {
            Sends::AtOnce => rest.len(),
            Sends::InPieces | Sends::Last => rest.len().min(record.written + 1),
        };
        record.has_ended = transport.write(&rest[..len]).is_err();
        record.written += len;
        true
    }
}

impl Protocol for Talker {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.record.borrow_mut().transport = Some(transport.clone());
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.take(transport, data);
        Ok(())
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        self.plan.room.is_some().then_some(&mut self.buffer)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        self.take(transport, &self.buffer[..len]);
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        self.record.borrow_mut().saw_eof = true;
        Ok(if self.plan.ends {
            OnEof::KeepOpen
        } else {
            OnEof::Close
        })
    }

    fn pause_writing(&mut self, _: &Transport) -> Result<OnPause> {
        // Two ends that both stop reading would wait for each other.
        Ok(OnPause::KeepReading)
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.record.borrow_mut().closed = Some(closed.clone());
    }
}
