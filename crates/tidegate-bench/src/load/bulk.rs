//! Bytes in one direction, as fast as they are taken.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::io;

/// Maximum number of reads or writes of one connection before it is the turn of the others.
const STEPS: usize = 16;

/// Connections that only send, or only receive.
pub(super) struct Bulk {
    clients: Vec<Client>,
    is_source: bool,
    shared: Shared,
}

struct Client {
    connection: Connection,
    /// Bytes of the messages that were begun.
    begun: u64,
    /// A sent message counts when the next one is sent, the last one when the server has read all
    /// and closed.
    owed: bool,
    is_all_sent: bool,
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
            }
        };
        let pattern = if is_source {
            Pattern::of_source(READ_BUFFER)
        } else {
            Pattern::new(plan.size, plan.size, false)
        };
        let connections = Connection::open_all(plan)?;
        Ok(Self {
            clients: connections.into_iter().map(client).collect(),
            is_source,
            shared: Shared::new(plan.size, pattern),
        })
    }
}

impl Drive for Bulk {
    fn start(&mut self, registry: &Registry, _: &mut Tally) -> io::Result<()> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.connection.register(registry, Token(index))?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, registry: &Registry, tally: &mut Tally) {
        let client = &mut self.clients[event.token().0];
        let mut step = Step::Waits;
        for _ in 0..STEPS {
            step = if !client.connection.is_open() {
                Step::Waits
            } else if self.is_source {
                client.receive(&mut self.shared, tally)
            } else if client.is_all_sent {
                client.await_end(&mut self.shared, tally)
            } else {
                client.send(&self.shared, tally)
            };
            if !matches!(step, Step::More) {
                break;
            }
        }
        match step {
            Step::Waits => {}
            Step::More => {
                let again = client.connection.reregister(registry, event.token());
                if again.is_err() {
                    client.connection.close();
                    tally.fail();
                }
            }
            Step::Ended => {
                client.connection.close();
                tally.end();
            }
            Step::Failed => {
                client.connection.close();
                tally.fail();
            }
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
