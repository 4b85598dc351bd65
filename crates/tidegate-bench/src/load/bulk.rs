//! Bytes in one direction, as fast as they are taken.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::io;
use std::time::Instant;

/// Maximum number of reads or writes of one connection before it is the turn of the others.
const STEPS: usize = 16;

/// Connections that only send, or only receive.
pub(super) struct Bulk {
    clients: Vec<Client>,
    /// Those that go on without a new event.
    busy: Vec<usize>,
    turn: Vec<usize>,
    is_source: bool,
    shared: Shared,
    start: Instant,
}

struct Client {
    connection: Connection,
    /// Bytes of the messages that were begun.
    begun: u64,
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
        let is_source = plan.mode == Mode::Source;
        let client = |mut connection: Connection| {
            if is_source {
                // Every source sends the same, and sends unasked, so that nothing is too much.
                (connection.start, connection.sent) = (0, u64::MAX);
            }
            Client {
                connection,
                begun: 0,
                owed: false,
                is_all_sent: false,
                is_busy: false,
            }
        };
        let connections = Connection::open_all(plan)?;
        Ok(Self {
            busy: Vec::with_capacity(connections.len()),
            turn: Vec::with_capacity(connections.len()),
            clients: connections.into_iter().map(client).collect(),
            is_source,
            shared: Shared {
                size: plan.size as u64,
                pattern: if is_source {
                    Pattern::of_source(READ_BUFFER)
                } else {
                    Pattern::new(plan.size, plan.size, false)
                },
                buffer: PageBuffer::new(READ_BUFFER),
            },
            start: Instant::now(),
        })
    }

    fn work(&mut self, index: usize, tally: &mut Tally) {
        let client = &mut self.clients[index];
        for _ in 0..STEPS {
            let step = if self.is_source {
                client.receive(&mut self.shared, tally)
            } else if client.is_all_sent {
                client.await_end(&mut self.shared, tally)
            } else {
                client.send(&self.shared, tally)
            };
            match step {
                Step::More => continue,
                Step::Waits => {}
                Step::Ended => {
                    client.connection.close();
                    tally.end();
                }
                Step::Failed => {
                    client.connection.close();
                    tally.fail();
                }
            }
            return;
        }
        if !client.is_busy {
            client.is_busy = true;
            self.busy.push(index);
        }
    }
}

impl Drive for Bulk {
    fn start(&mut self, registry: &Registry, _: &mut Tally) -> io::Result<()> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.connection.register(registry, Token(index))?;
            client.is_busy = true;
            self.busy.push(index);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let Token(index) = event.token();
        if self.clients[index].connection.is_open() && !self.clients[index].is_busy {
            self.work(index, tally);
        }
    }

    fn next_tick(&self) -> Option<Instant> {
        (!self.busy.is_empty()).then_some(self.start)
    }

    fn tick(&mut self, tally: &mut Tally) {
        std::mem::swap(&mut self.busy, &mut self.turn);
        while let Some(index) = self.turn.pop() {
            self.clients[index].is_busy = false;
            self.work(index, tally);
        }
    }
}

impl Client {
    fn send(&mut self, shared: &Shared, tally: &mut Tally) -> Step {
        if self.connection.sent == self.begun {
            if !tally.take() {
                self.is_all_sent = true;
                return match self.connection.shut_down() {
                    true => Step::More,
                    false => Step::Failed,
                };
            }
            self.begun += shared.size;
        }
        match self.connection.write(&shared.pattern, self.begun) {
            Moved::Bytes(len) => tally.bytes += len as u64,
            Moved::Nothing => return Step::Waits,
            Moved::End | Moved::Broken => return Step::Failed,
        }
        if self.connection.sent == self.begun && std::mem::replace(&mut self.owed, true) {
            tally.complete_untimed();
        }
        Step::More
    }

    fn await_end(&mut self, shared: &mut Shared, tally: &mut Tally) -> Step {
        match self.connection.receive(shared, tally) {
            Moved::End => {
                if std::mem::take(&mut self.owed) {
                    tally.complete_untimed();
                }
                Step::Ended
            }
            Moved::Nothing => Step::Waits,
            // A sink sends nothing.
            Moved::Bytes(_) | Moved::Broken => Step::Failed,
        }
    }

    fn receive(&mut self, shared: &mut Shared, tally: &mut Tally) -> Step {
        if tally.done >= tally.goal {
            return Step::Waits;
        }
        let len = match self.connection.receive(shared, tally) {
            Moved::Bytes(len) => len,
            Moved::Nothing => return Step::Waits,
            Moved::End | Moved::Broken => return Step::Failed,
        };
        for _ in 0..self.connection.completed(len, shared.size) {
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
