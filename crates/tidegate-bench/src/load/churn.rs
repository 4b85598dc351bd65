//! Connections that live for one message: connect, send, be answered, end, and the next one.

use super::dial::{Moved, moved};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Instant;

/// So many connections at a time, each followed by another. A message of it is a connection, and
/// its latency the time from the call of connect until the server has ended it too.
pub(super) struct Churn {
    slots: Vec<Slot>,
    alive: usize,
    address: SocketAddr,
    size: u64,
    pattern: Pattern,
    buffer: PageBuffer,
}

struct Slot {
    stream: Option<TcpStream>,
    start: u64,
    sent: u64,
    received: u64,
    called: Instant,
}

enum Step {
    Waits,
    Ended,
    Failed,
}

impl Churn {
    pub(super) fn new(plan: &Plan) -> Self {
        let slot = |index| Slot {
            stream: None,
            start: index as u64 * 7 * plan.size as u64,
            sent: 0,
            received: 0,
            called: Instant::now(),
        };
        Self {
            slots: (0..plan.connections).map(slot).collect(),
            alive: plan.connections,
            address: plan.address,
            size: plan.size as u64,
            pattern: Pattern::new(plan.size, READ_BUFFER, false),
            buffer: PageBuffer::new(READ_BUFFER),
        }
    }

    /// The next connection of a slot, if there is to be one more.
    fn call(&mut self, index: usize, registry: &Registry, tally: &mut Tally) {
        let slot = &mut self.slots[index];
        slot.stream = None;
        if !tally.take() {
            self.alive -= 1;
            return;
        }
        slot.sent = 0;
        slot.received = 0;
        slot.called = tally.now;
        let stream = TcpStream::connect(self.address).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(index), both)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => slot.stream = Some(stream),
            Err(_) => {
                self.alive -= 1;
                tally.errors += 1;
            }
        }
    }
}

impl Drive for Churn {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for index in 0..self.slots.len() {
            self.call(index, registry, tally);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, registry: &Registry, tally: &mut Tally) {
        let index = event.token().0;
        let slot = &mut self.slots[index];
        if slot.stream.is_none() {
            return;
        }
        tally.tell_time();
        match slot.step(event, self.size, &self.pattern, &mut self.buffer) {
            Step::Waits => return,
            Step::Ended => {
                tally.bytes += self.size;
                tally.complete(slot.called);
            }
            // It is not followed by another: a server that is gone would fail them for ever.
            Step::Failed => {
                tally.errors += 1;
                slot.stream = None;
                self.alive -= 1;
                return;
            }
        }
        self.call(index, registry, tally);
    }

    fn alive(&self) -> usize {
        self.alive
    }
}

impl Slot {
    fn step(
        &mut self,
        event: &Event,
        size: u64,
        pattern: &Pattern,
        buffer: &mut PageBuffer,
    ) -> Step {
        let Some(stream) = &mut self.stream else {
            return Step::Waits;
        };
        while event.is_writable() && self.sent < size {
            let bytes = pattern.at(self.start + self.sent, size - self.sent);
            match moved(|| stream.write(bytes)) {
                Moved::Bytes(len) => self.sent += len as u64,
                Moved::Nothing => break,
                Moved::End | Moved::Broken => return Step::Failed,
            }
        }
        while event.is_readable() {
            let len = match moved(|| stream.read(buffer)) {
                Moved::Bytes(len) => len,
                Moved::Nothing => break,
                // The server has ended it, as was its turn; before, it is a failure.
                Moved::End if self.received == size => return Step::Ended,
                Moved::End | Moved::Broken => return Step::Failed,
            };
            let is_too_much = self.received + len as u64 > self.sent;
            let place = self.start + self.received;
            if is_too_much || !pattern.matches(place, &buffer[..len]) {
                return Step::Failed;
            }
            self.received += len as u64;
            if self.received == size && stream.shutdown(Shutdown::Write).is_err() {
                return Step::Failed;
            }
        }
        Step::Waits
    }
}
