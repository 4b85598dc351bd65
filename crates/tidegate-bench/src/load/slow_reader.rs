//! Clients that send as fast as they can and read little: what does the server keep for them?

use super::dial::{Moved, dial, moved};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A read of one message on each connection, so often.
const TICK: Duration = Duration::from_millis(10);

/// Writes of one connection before it is the turn of the others.
const WRITES: usize = 16;

/// Connections whose echoes pile up.
pub(super) struct SlowReaders {
    connections: Vec<Connection>,
    alive: usize,
    size: u64,
    pattern: Pattern,
    buffer: PageBuffer,
    next: Instant,
}

struct Connection {
    stream: Option<TcpStream>,
    sent: u64,
    received: u64,
    is_writable: bool,
}

impl SlowReaders {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let connection = |stream| Connection {
            stream: Some(stream),
            sent: 0,
            received: 0,
            is_writable: true,
        };
        let connections: Vec<_> = dial(plan)?.into_iter().map(connection).collect();
        Ok(Self {
            alive: connections.len(),
            connections,
            size: plan.size as u64,
            pattern: Pattern::new(plan.size, READ_BUFFER, false),
            buffer: PageBuffer::new(READ_BUFFER),
            next: Instant::now(),
        })
    }

    fn check(&mut self, index: usize, fine: bool, tally: &mut Tally) {
        if !fine {
            self.connections[index].stream = None;
            self.alive -= 1;
            tally.errors += 1;
        }
    }
}

impl Drive for SlowReaders {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if let Some(stream) = &mut connection.stream {
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.register(stream, Token(index), both)?;
            }
        }
        self.next = tally.now;
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let index = event.token().0;
        let connection = &mut self.connections[index];
        if connection.stream.is_some() && event.is_writable() {
            connection.is_writable = true;
            let fine = connection.send(&self.pattern);
            self.check(index, fine, tally);
        }
    }

    fn next_tick(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn tick(&mut self, tally: &mut Tally) {
        self.next = tally.now + TICK;
        for index in 0..self.connections.len() {
            let connection = &mut self.connections[index];
            if connection.stream.is_none() {
                continue;
            }
            let most = self.buffer.len().min(self.size as usize);
            let fine =
                connection.receive(&self.pattern, &mut self.buffer[..most], self.size, tally)
                    && connection.send(&self.pattern);
            self.check(index, fine, tally);
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }
}

impl Connection {
    fn send(&mut self, pattern: &Pattern) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        for _ in 0..WRITES {
            if !self.is_writable {
                break;
            }
            match moved(|| stream.write(pattern.at(self.sent, READ_BUFFER as u64))) {
                Moved::Bytes(len) => self.sent += len as u64,
                Moved::Nothing => self.is_writable = false,
                Moved::End | Moved::Broken => return false,
            }
        }
        true
    }

    fn receive(
        &mut self,
        pattern: &Pattern,
        buffer: &mut [u8],
        size: u64,
        tally: &mut Tally,
    ) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let len = match moved(|| stream.read(buffer)) {
            Moved::Bytes(len) => len,
            Moved::Nothing => return true,
            Moved::End | Moved::Broken => return false,
        };
        let is_too_much = self.received + len as u64 > self.sent;
        if is_too_much || !pattern.matches(self.received, &buffer[..len]) {
            return false;
        }
        let before = self.received / size;
        self.received += len as u64;
        tally.bytes += len as u64;
        for _ in before..self.received / size {
            tally.complete_untimed();
        }
        true
    }
}
