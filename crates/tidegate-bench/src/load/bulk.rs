//! Bytes in one direction, as fast as they are taken.

use super::dial::{Moved, dial, moved};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::{READ_BUFFER, SOURCE_PERIOD, source_block};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

/// Reads or writes of one connection before it is the turn of the others.
const STEPS: usize = 16;

/// Connections that only send, or only receive.
pub(super) struct Bulk {
    connections: Vec<Connection>,
    /// Those that go on without a new event.
    busy: Vec<usize>,
    turn: Vec<usize>,
    alive: usize,
    shared: Shared,
}

struct Shared {
    mode: Mode,
    size: u64,
    sent: Pattern,
    received: Vec<u8>,
    buffer: PageBuffer,
    start: Instant,
}

struct Connection {
    /// `None` when it has ended.
    stream: Option<TcpStream>,
    moved: u64,
    /// What of a message that is being sent was not sent yet.
    left: u64,
    /// A sent message counts when the next one is sent, the last one when the server has read all
    /// and closed.
    owed: bool,
    is_all_sent: bool,
    is_busy: bool,
}

enum Step {
    More,
    Waits,
    Ended,
    Failed,
}

impl Bulk {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let connection = |stream| Connection {
            stream: Some(stream),
            moved: 0,
            left: 0,
            owed: false,
            is_all_sent: false,
            is_busy: false,
        };
        let connections: Vec<_> = dial(plan)?.into_iter().map(connection).collect();
        Ok(Self {
            busy: Vec::with_capacity(connections.len()),
            turn: Vec::with_capacity(connections.len()),
            alive: connections.len(),
            connections,
            shared: Shared {
                mode: plan.mode,
                size: plan.size as u64,
                sent: Pattern::new(plan.size, plan.size, false),
                // What a read takes begins anywhere in the period.
                received: source_block().repeat(2),
                buffer: PageBuffer::new(READ_BUFFER),
                start: Instant::now(),
            },
        })
    }

    fn work(&mut self, index: usize, tally: &mut Tally) {
        let connection = &mut self.connections[index];
        for _ in 0..STEPS {
            match connection.step(&mut self.shared, tally) {
                Step::More => {}
                Step::Waits => return,
                end => {
                    connection.stream = None;
                    self.alive -= 1;
                    tally.errors += u64::from(matches!(end, Step::Failed));
                    return;
                }
            }
        }
        if !connection.is_busy {
            connection.is_busy = true;
            self.busy.push(index);
        }
    }
}

impl Drive for Bulk {
    fn start(&mut self, registry: &Registry, _: &mut Tally) -> io::Result<()> {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if let Some(stream) = &mut connection.stream {
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.register(stream, Token(index), both)?;
            }
            connection.is_busy = true;
            self.busy.push(index);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let index = event.token().0;
        if !self.connections[index].is_busy {
            self.work(index, tally);
        }
    }

    fn next_tick(&self) -> Option<Instant> {
        (!self.busy.is_empty()).then_some(self.shared.start)
    }

    fn tick(&mut self, tally: &mut Tally) {
        std::mem::swap(&mut self.busy, &mut self.turn);
        while let Some(index) = self.turn.pop() {
            self.connections[index].is_busy = false;
            self.work(index, tally);
        }
    }

    fn alive(&self) -> usize {
        self.alive
    }
}

impl Connection {
    fn step(&mut self, shared: &mut Shared, tally: &mut Tally) -> Step {
        if shared.mode == Mode::Source {
            return self.receive(shared, tally);
        }
        if self.is_all_sent {
            return self.await_end(shared, tally);
        }
        self.send(shared, tally)
    }

    fn send(&mut self, shared: &Shared, tally: &mut Tally) -> Step {
        let Some(stream) = &mut self.stream else {
            return Step::Waits;
        };
        if self.left == 0 {
            if !tally.take() {
                self.is_all_sent = true;
                return match stream.shutdown(Shutdown::Write) {
                    Ok(()) => Step::More,
                    Err(_) => Step::Failed,
                };
            }
            self.left = shared.size;
        }
        match moved(|| stream.write(shared.sent.at(self.moved, self.left))) {
            Moved::Bytes(len) => {
                self.moved += len as u64;
                self.left -= len as u64;
                tally.bytes += len as u64;
            }
            Moved::Nothing => return Step::Waits,
            Moved::End | Moved::Broken => return Step::Failed,
        }
        if self.left == 0 && std::mem::replace(&mut self.owed, true) {
            tally.complete_untimed();
        }
        Step::More
    }

    fn await_end(&mut self, shared: &mut Shared, tally: &mut Tally) -> Step {
        let Some(stream) = &mut self.stream else {
            return Step::Waits;
        };
        match moved(|| stream.read(&mut shared.buffer)) {
            Moved::End => {
                if std::mem::take(&mut self.owed) {
                    tally.complete_untimed();
                }
                Step::Ended
            }
            Moved::Nothing => Step::Waits,
            // It should say nothing.
            Moved::Bytes(_) | Moved::Broken => Step::Failed,
        }
    }

    fn receive(&mut self, shared: &mut Shared, tally: &mut Tally) -> Step {
        if tally.done >= tally.goal {
            return Step::Waits;
        }
        let Some(stream) = &mut self.stream else {
            return Step::Waits;
        };
        let len = match moved(|| stream.read(&mut shared.buffer)) {
            Moved::Bytes(len) => len,
            Moved::Nothing => return Step::Waits,
            Moved::End | Moved::Broken => return Step::Failed,
        };
        let place = (self.moved % SOURCE_PERIOD as u64) as usize;
        if shared.buffer[..len] != shared.received[place..place + len] {
            return Step::Failed;
        }
        let before = self.moved / shared.size;
        self.moved += len as u64;
        tally.bytes += len as u64;
        for _ in before..self.moved / shared.size {
            if tally.done < tally.goal {
                tally.complete_untimed();
            }
        }
        // As much as was there: the next byte will be an event of its own.
        if len < shared.buffer.len() {
            return Step::Waits;
        }
        Step::More
    }
}
