//! One connection of the load generator: it sends the pattern and verifies what comes back.

use super::Plan;
use super::pattern::Pattern;
use super::tally::Tally;
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The parts that all connections of a load use.
pub(super) struct Shared {
    /// Bytes of a message.
    pub(super) size: u64,
    /// The bytes to send, or of a source the bytes to receive.
    pub(super) pattern: Pattern,
    pub(super) buffer: PageBuffer,
}

impl Shared {
    pub(super) fn new(size: usize, pattern: Pattern) -> Self {
        Self {
            size: size as u64,
            pattern,
            buffer: PageBuffer::new(READ_BUFFER),
        }
    }
}

/// The result of a system call that moves bytes.
pub(super) enum Moved {
    Bytes(usize),
    /// The call would block.
    Nothing,
    /// The end of the stream.
    End,
    /// An error, or bytes that differ from the pattern.
    Broken,
}

/// A connection, and its place in the stream of the pattern.
#[derive(Default)]
pub(super) struct Connection {
    /// `None` before it is opened, and when it has ended.
    stream: Option<TcpStream>,
    /// The offset in the pattern at which it begins: no two connections send the same bytes.
    pub(super) start: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Connection {
    /// Returns the connection with this index in the plan, not yet opened.
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        Self {
            start: index as u64 * 7 * plan.size as u64,
            ..Self::default()
        }
    }

    /// Opens all connections of a plan, one after the other.
    pub(super) fn open_all(plan: &Plan) -> io::Result<Vec<Self>> {
        let open = |index| {
            let stream = std::net::TcpStream::connect(plan.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Self {
                stream: Some(TcpStream::from_std(stream)),
                ..Self::new(plan, index)
            })
        };
        (0..plan.connections).map(open).collect()
    }

    /// Starts to connect anew, from the start of its part of the pattern.
    pub(super) fn reopen(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        (self.sent, self.received) = (0, 0);
        self.stream = Some(stream);
        self.register(registry, token)
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => registry.register(stream, token, BOTH),
            None => Ok(()),
        }
    }

    /// Asks to be told at once of the readiness that was told before.
    pub(super) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => registry.reregister(stream, token, BOTH),
            None => Ok(()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn close(&mut self) {
        self.stream = None;
    }

    /// Ends the sending side. Returns false on an error.
    pub(super) fn shut_down(&mut self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.shutdown(Shutdown::Write).is_ok())
    }

    /// Makes one write of what is missing up to `end`, an offset from the connection's start.
    pub(super) fn write(&mut self, pattern: &Pattern, end: u64) -> Moved {
        let Some(stream) = &mut self.stream else {
            return Moved::Broken;
        };
        let bytes = pattern.at(self.start + self.sent, end - self.sent);
        let moved = moved(|| stream.write(bytes));
        if let Moved::Bytes(len) = moved {
            self.sent += len as u64;
        }
        moved
    }

    /// Writes up to `end`, or until the kernel takes no more. Returns false when the connection is
    /// at its end.
    pub(super) fn send(&mut self, pattern: &Pattern, end: u64) -> bool {
        while self.sent < end {
            match self.write(pattern, end) {
                Moved::Bytes(_) => {}
                Moved::Nothing => break,
                Moved::End | Moved::Broken => return false,
            }
        }
        true
    }

    /// Makes one read, verifies and counts it. More bytes than were sent are wrong too.
    pub(super) fn receive(&mut self, shared: &mut Shared, tally: &mut Tally) -> Moved {
        let Some(stream) = &mut self.stream else {
            return Moved::Broken;
        };
        let moved = moved(|| stream.read(&mut shared.buffer));
        let Moved::Bytes(len) = moved else {
            return moved;
        };
        tally.tell_time();
        let offset = self.start + self.received;
        self.received += len as u64;
        let is_too_much = self.received > self.sent;
        if is_too_much || !shared.pattern.matches(offset, &shared.buffer[..len]) {
            return Moved::Broken;
        }
        tally.bytes += len as u64;
        moved
    }

    /// Returns how many messages the last `len` bytes received have completed.
    pub(super) fn completed(&self, len: usize, size: u64) -> u64 {
        self.received / size - (self.received - len as u64) / size
    }
}

/// Repeats a call that a signal interrupts.
fn moved(mut call: impl FnMut() -> io::Result<usize>) -> Moved {
    loop {
        match call() {
            Ok(0) => return Moved::End,
            Ok(len) => return Moved::Bytes(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Moved::Broken,
        }
    }
}
