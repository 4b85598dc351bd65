//! Messages that come back: one at a time, several, as lines, or a first one and then silence.

use super::dial::{Moved, dial, moved};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Instant;

/// At most so much is given to one write.
const WRITE: usize = 256 * 1024;

/// Connections that expect what they sent.
pub(super) struct Echoes {
    connections: Vec<Connection>,
    alive: usize,
    is_idle: bool,
    shared: Shared,
}

/// What all connections use.
struct Shared {
    size: u64,
    depth: usize,
    pattern: Pattern,
    buffer: PageBuffer,
}

struct Connection {
    /// `None` when it has failed.
    stream: Option<TcpStream>,
    /// Where in the stream of the pattern it began, so that no two say the same.
    start: u64,
    /// Bytes of the messages that were begun.
    begun: u64,
    sent: u64,
    received: u64,
    /// When the messages on their way were sent.
    departures: VecDeque<Instant>,
}

impl Echoes {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let size = plan.size.max(1);
        let write = size.saturating_mul(plan.depth).clamp(READ_BUFFER, WRITE);
        let streams = dial(plan)?;
        let connection = |(index, stream)| Connection {
            stream: Some(stream),
            start: index as u64 * 7 * size as u64,
            begun: 0,
            sent: 0,
            received: 0,
            departures: VecDeque::with_capacity(plan.depth),
        };
        let connections: Vec<_> = streams.into_iter().enumerate().map(connection).collect();
        Ok(Self {
            alive: connections.len(),
            connections,
            is_idle: plan.mode == Mode::Idle,
            shared: Shared {
                size: size as u64,
                depth: plan.depth,
                pattern: Pattern::new(size, write, plan.mode == Mode::Lines),
                buffer: PageBuffer::new(READ_BUFFER),
            },
        })
    }
}

impl Drive for Echoes {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if let Some(stream) = &mut connection.stream {
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.register(stream, Token(index), both)?;
            }
            connection.begin(self.shared.depth, &self.shared, tally);
            connection.send(&self.shared);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let connection = &mut self.connections[event.token().0];
        if connection.stream.is_none() {
            return;
        }
        let mut fine = true;
        if event.is_readable() {
            fine = connection.receive(&mut self.shared, tally);
        }
        // What was begun just now, or what the kernel had no room for.
        if !(fine && connection.send(&self.shared)) {
            connection.stream = None;
            self.alive -= 1;
            tally.errors += 1;
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }

    fn expects_answers(&self) -> bool {
        !self.is_idle
    }
}

impl Connection {
    /// Begins up to so many messages.
    fn begin(&mut self, messages: usize, shared: &Shared, tally: &mut Tally) {
        for _ in 0..messages {
            if !tally.take() {
                return;
            }
            self.departures.push_back(tally.now);
            self.begun += shared.size;
        }
    }

    /// Sends what is begun; false when the connection is at its end.
    fn send(&mut self, shared: &Shared) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        while self.sent < self.begun {
            let bytes = shared
                .pattern
                .at(self.start + self.sent, self.begun - self.sent);
            match moved(|| stream.write(bytes)) {
                Moved::Bytes(len) => self.sent += len as u64,
                Moved::Nothing => return true,
                Moved::End | Moved::Broken => return false,
            }
        }
        true
    }

    /// Reads what there is; false when the connection is at its end or says something wrong.
    ///
    /// The next messages are begun here and sent when all was read, so no more than was on its way
    /// is read at once: no connection can keep the others waiting.
    fn receive(&mut self, shared: &mut Shared, tally: &mut Tally) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let mut complete = 0;
        loop {
            let len = match moved(|| stream.read(&mut shared.buffer)) {
                Moved::Bytes(len) => len,
                Moved::Nothing => break,
                Moved::End | Moved::Broken => return false,
            };
            tally.tell_time();
            let offset = self.start + self.received;
            let is_too_much = self.received + len as u64 > self.sent;
            if is_too_much || !shared.pattern.matches(offset, &shared.buffer[..len]) {
                return false;
            }
            let before = self.received / shared.size;
            self.received += len as u64;
            tally.bytes += len as u64;
            for _ in before..self.received / shared.size {
                if let Some(sent) = self.departures.pop_front()
                    && tally.done < tally.goal
                {
                    tally.complete(sent);
                    complete += 1;
                }
            }
            // As much as was there: the next byte will be an event of its own.
            if len < shared.buffer.len() {
                break;
            }
        }
        self.begin(complete, shared, tally);
        true
    }
}
