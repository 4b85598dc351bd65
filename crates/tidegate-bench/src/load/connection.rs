//! One connection of the load generator: it sends the pattern and verifies what comes back.

use super::Plan;
use super::pattern::Pattern;
use super::stream::{Stream, Target};
use super::tally::Tally;
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::{Interest, Registry, Token};
use std::io;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The parts that all connections of a load use.
pub(super) struct Shared {
    /// Bytes of a message.
    pub(super) size: u64,
    /// The bytes to send, or of a source the bytes to receive.
    pub(super) pattern: Pattern,
    pub(super) buffer: PageBuffer,
    /// Room for what is still encrypted.
    pub(super) wire: PageBuffer,
}

impl Shared {
    pub(super) fn new(size: usize, pattern: Pattern) -> Self {
        Self {
            size: size as u64,
            pattern,
            buffer: PageBuffer::new(READ_BUFFER),
            wire: PageBuffer::new(READ_BUFFER),
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
    stream: Option<Stream>,
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
        let target = Target::new(plan);
        let open = |index| {
            Ok(Self {
                stream: Some(target.connect()?),
                ..Self::new(plan, index)
            })
        };
        (0..plan.connections).map(open).collect()
    }

    /// Starts to connect anew, from the start of its part of the pattern.
    pub(super) fn reopen(
        &mut self,
        target: &Target,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        (self.sent, self.received) = (0, 0);
        self.stream = Some(target.start()?);
        self.register(registry, token)
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => registry.register(&mut stream.socket, token, BOTH),
            None => Ok(()),
        }
    }

    /// Asks to be told at once of the readiness that was told before.
    pub(super) fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.stream {
            Some(stream) => registry.reregister(&mut stream.socket, token, BOTH),
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
        let stream = self.stream.as_mut();
        stream.is_some_and(|stream| stream.shut_down().is_ok())
    }

    /// Whether its handshake has resumed a session of TLS.
    pub(super) fn has_resumed(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::has_resumed)
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
        let is_flushed = |stream: &mut Stream| stream.flush().is_ok();
        if !self.stream.as_mut().is_some_and(is_flushed) {
            return false;
        }
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
        let moved = moved(|| stream.read(&mut shared.buffer, &mut shared.wire));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::Carrier;
    use crate::load::Mode;
    use crate::tls;
    use rustls::{ServerConnection, StreamOwned};
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn bytes_that_a_session_keeps_when_the_kernel_is_full_go_with_the_next_send() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut plan = Plan::new(Mode::PingPong, listener.local_addr().unwrap());
        plan.carrier = Carrier::Tls;
        let (expected, expects) = mpsc::channel();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut session = ServerConnection::new(tls::server_config()).unwrap();
            session.complete_io(&mut socket).unwrap();
            let len: u64 = expects.recv().unwrap();
            let mut stream = StreamOwned::new(session, socket);
            stream.read_exact(&mut vec![0; len as usize]).unwrap();
        });
        let mut connection = Connection::open_all(&plan).unwrap().remove(0);
        let pattern = Pattern::new(plan.size, READ_BUFFER, false);
        let keeps = |connection: &Connection| connection.stream.as_ref().unwrap().keeps_bytes();
        while !keeps(&connection) {
            let end = connection.sent + READ_BUFFER as u64;
            assert!(connection.send(&pattern, end));
        }
        expected.send(connection.sent).unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        while keeps(&connection) {
            assert!(connection.send(&pattern, connection.sent));
            assert!(Instant::now() < limit, "it keeps them");
            thread::yield_now();
        }
        server.join().unwrap();
    }
}
