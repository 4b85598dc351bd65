//! Transfers that are too large to be kept: both ends hash what they send and what they get.

use crate::never_paused;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use tidegate::{Closed, OnEof, OnPause, Protocol, Result, Transport};

/// The size of one write of a large transfer.
pub const BLOCK: usize = 256 * 1024;

/// Bytes that do not repeat (xorshift64), so that no piece can stand for another.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    /// The same bytes for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1 << 63)
    }

    fn fill(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// The next `left` bytes.
    pub fn blocks(&mut self, mut left: u64) -> impl Iterator<Item = Vec<u8>> {
        std::iter::from_fn(move || {
            let len = left.min(BLOCK as u64);
            left -= len;
            (len > 0).then(|| self.fill(len as usize))
        })
    }
}

/// Counts and hashes; prints as the Python script does.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    count: u64,
    hash: Sha256,
}

impl Tally {
    /// Adds what comes next.
    pub fn add(&mut self, data: &[u8]) {
        self.count += data.len() as u64;
        self.hash.update(data);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.count)?;
        let hash = self.hash.clone().finalize();
        hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Length and hash of `data`, as [`Record`] gives them.
pub fn tally(data: &[u8]) -> String {
    let mut tally = Tally::default();
    tally.add(data);
    tally.to_string()
}

/// The record of a [`Bulk`] connection, which outlives it.
#[derive(Debug, Default)]
pub struct Record {
    sent: RefCell<Tally>,
    received: RefCell<Tally>,
    /// The most bytes that the write buffer held.
    pub peak: Cell<usize>,
    /// How often `pause_writing` came.
    pub pauses: Cell<u32>,
    /// How often `resume_writing` came.
    pub resumes: Cell<u32>,
    /// Reading pauses when this number of bytes has come.
    pub wanted: Cell<u64>,
    transport: RefCell<Option<Transport>>,
    closed: RefCell<Option<Closed>>,
}

impl Record {
    /// Returns the length and the hash of the written bytes.
    pub fn sent(&self) -> String {
        self.sent.borrow().to_string()
    }

    /// Returns the length and the hash of the received bytes.
    pub fn received(&self) -> String {
        self.received.borrow().to_string()
    }

    /// How many bytes were written.
    pub fn sent_len(&self) -> u64 {
        self.sent.borrow().count
    }

    /// How many bytes were received.
    pub fn received_len(&self) -> u64 {
        self.received.borrow().count
    }

    /// The transport, once there is a connection.
    #[track_caller]
    pub fn transport(&self) -> Transport {
        match &*self.transport.borrow() {
            Some(transport) => transport.clone(),
            None => panic!("there is no connection yet"),
        }
    }

    /// Whether there is, or was, a connection.
    pub fn is_made(&self) -> bool {
        self.transport.borrow().is_some()
    }

    /// Returns the `Closed` of `connection_lost`.
    pub fn closed(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }
}

#[derive(Debug)]
enum Role {
    Echo,
    Send,
    Answer,
}

/// A protocol for large transfers, with the roles of the Python script.
#[derive(Debug)]
#[must_use]
pub struct Bulk {
    role: Role,
    record: Rc<Record>,
    noise: Noise,
    left: u64,
    ends_last: bool,
    saw_eof: bool,
    buffer: Option<Box<[u8]>>,
}

impl Bulk {
    fn new(role: Role, record: &Rc<Record>, len: u64) -> Self {
        record.wanted.set(u64::MAX);
        Self {
            role,
            record: record.clone(),
            noise: Noise::new(!len),
            left: len,
            ends_last: false,
            saw_eof: false,
            buffer: None,
        }
    }

    /// Sends back what it gets, with no thought of backpressure.
    pub fn echo(record: &Rc<Record>) -> Self {
        Self::new(Role::Echo, record, 0)
    }

    /// Sends `len` bytes and ends its side; at the same time reads to the end.
    pub fn send(record: &Rc<Record>, len: u64) -> Self {
        Self::new(Role::Send, record, len)
    }

    /// Reads to the end, only then sends `len` bytes and ends its side.
    pub fn answer(record: &Rc<Record>, len: u64) -> Self {
        Self::new(Role::Answer, record, len)
    }

    /// Reads nothing until [`Record::wanted`] is raised.
    pub fn paused(self) -> Self {
        self.record.wanted.set(0);
        self
    }

    /// Does not end its side before the other end has.
    pub fn ends_last(mut self) -> Self {
        self.ends_last = true;
        self
    }

    /// Reads into an own buffer.
    pub fn buffered(mut self) -> Self {
        self.buffer = Some(vec![0; BLOCK].into());
        self
    }
}

impl Bulk {
    /// Sends `len` bytes, whatever the buffer holds, and closes.
    pub fn send_and_close(&mut self, transport: &Transport, len: u64) {
        never_paused(transport);
        for data in self.noise.blocks(len) {
            if let Err(error) = transport.write(&data) {
                panic!("{error}");
            }
            self.record.sent.borrow_mut().add(&data);
        }
        transport.close();
    }

    fn received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.record.received.borrow_mut().add(data);
        if let Role::Echo = self.role {
            transport.write(data)?;
            self.wrote(transport, data);
        }
        if self.record.received_len() >= self.record.wanted.get() {
            transport.pause_reading();
        }
        Ok(())
    }

    fn wrote(&self, transport: &Transport, data: &[u8]) {
        let record = &self.record;
        record.sent.borrow_mut().add(data);
        let buffered = transport.write_buffer_size();
        record.peak.set(record.peak.get().max(buffered));
    }

    fn fill(&mut self, transport: &Transport) -> Result {
        while self.left > 0 && !transport.flow().is_paused() {
            let len = self.left.min(BLOCK as u64);
            self.left -= len;
            let data = Bytes::from(self.noise.fill(len as usize));
            transport.write_owned(data.clone())?;
            self.wrote(transport, &data);
        }
        if self.left == 0 && (self.saw_eof || !self.ends_last) {
            transport.write_eof()?;
        }
        Ok(())
    }
}

impl Protocol for Bulk {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.record.transport.replace(Some(transport.clone()));
        if self.record.wanted.get() == 0 {
            transport.pause_reading();
        }
        match self.role {
            Role::Send => self.fill(transport),
            Role::Echo | Role::Answer => Ok(()),
        }
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.received(transport, data)
    }

    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.saw_eof = true;
        match self.role {
            Role::Echo => Ok(OnEof::Close),
            Role::Send | Role::Answer => {
                self.fill(transport)?;
                Ok(OnEof::KeepOpen)
            }
        }
    }

    /// Returns the value of the default implementation.
    fn pause_writing(&mut self, transport: &Transport) -> Result<OnPause> {
        self.record.pauses.set(self.record.pauses.get() + 1);
        Provided.pause_writing(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.record.resumes.set(self.record.resumes.get() + 1);
        match self.role {
            Role::Send => self.fill(transport),
            Role::Answer if self.saw_eof => self.fill(transport),
            Role::Echo | Role::Answer => Ok(()),
        }
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        self.record.closed.replace(Some(closed.clone()));
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        self.buffer.as_deref_mut()
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        let buffer = self.buffer.take();
        let result = self.received(
            transport,
            buffer.as_deref().map_or(&[], |data| &data[..len]),
        );
        self.buffer = buffer;
        result
    }
}

/// The default implementations of the trait.
struct Provided;

impl Protocol for Provided {}
