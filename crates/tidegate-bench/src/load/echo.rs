//! Messages that come back: one at a time, several, as lines, or a first one and then silence.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// Maximum number of bytes given to one write.
const WRITE: usize = 256 * 1024;

/// Connections that expect what they sent.
pub(super) struct Echoes {
    clients: Vec<Client>,
    depth: usize,
    shared: Shared,
}

struct Client {
    connection: Connection,
    /// Bytes of the messages that were begun.
    begun: u64,
    /// When the messages on their way were sent.
    departures: VecDeque<Instant>,
}

impl Echoes {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let size = plan.size.max(1);
        let write = size.saturating_mul(plan.depth).clamp(READ_BUFFER, WRITE);
        let client = |connection| Client {
            connection,
            begun: 0,
            departures: VecDeque::with_capacity(plan.depth),
        };
        let connections = Connection::open_all(plan)?;
        Ok(Self {
            clients: connections.into_iter().map(client).collect(),
            depth: plan.depth,
            shared: Shared::new(size, Pattern::new(size, write, plan.mode == Mode::Lines)),
        })
    }
}

impl Drive for Echoes {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.connection.register(registry, Token(index))?;
            client.begin(self.depth, &self.shared, tally);
            // Where this fails an event follows, which finds out.
            client.send(&self.shared);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let client = &mut self.clients[event.token().0];
        if !client.connection.is_open() {
            return;
        }
        let is_right = !event.is_readable() || client.receive(&mut self.shared, tally);
        // Messages begun just now, or bytes that the kernel had no room for.
        if !(is_right && client.send(&self.shared)) {
            client.connection.close();
            tally.fail();
        }
    }
}

impl Client {
    /// Begins up to this number of messages.
    fn begin(&mut self, messages: usize, shared: &Shared, tally: &mut Tally) {
        for _ in 0..messages {
            if !tally.take() {
                return;
            }
            self.departures.push_back(tally.now);
            self.begun += shared.size;
        }
    }

    fn send(&mut self, shared: &Shared) -> bool {
        self.connection.send(&shared.pattern, self.begun)
    }

    /// Reads what there is. Returns false when the connection is at its end, or a byte is wrong.
    ///
    /// The next messages are begun here and sent when all was read, so no more than was on its way
    /// is read at once: no connection can keep the others waiting.
    fn receive(&mut self, shared: &mut Shared, tally: &mut Tally) -> bool {
        let mut complete = 0;
        loop {
            let len = match self.connection.receive(shared, tally) {
                Moved::Bytes(len) => len,
                Moved::Nothing => break,
                Moved::End | Moved::Broken => return false,
            };
            for _ in 0..self.connection.completed(len, shared.size) {
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
