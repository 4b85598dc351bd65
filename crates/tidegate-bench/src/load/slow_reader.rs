//! Clients that send as fast as they can and read little, so that the server has to keep bytes for them.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::io;
use std::time::{Duration, Instant};

/// The time between two reads of a connection, of a message each.
const TICK: Duration = Duration::from_millis(10);

/// Maximum number of bytes that one connection sends before it is the turn of the others.
const BURST: u64 = 16 * READ_BUFFER as u64;

/// Connections whose echoes pile up.
pub(super) struct SlowReaders {
    connections: Vec<Connection>,
    shared: Shared,
    next: Instant,
}

impl SlowReaders {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        Ok(Self {
            connections: Connection::open_all(plan)?,
            shared: Shared {
                buffer: PageBuffer::new(plan.size.min(READ_BUFFER)),
                ..Shared::new(plan.size, Pattern::new(plan.size, READ_BUFFER, false))
            },
            next: Instant::now(),
        })
    }
}

impl Drive for SlowReaders {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            connection.register(registry, Token(index))?;
        }
        self.next = tally.now;
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let connection = &mut self.connections[event.token().0];
        if connection.is_open() && event.is_writable() && !send(connection, &self.shared) {
            connection.close();
            tally.fail();
        }
    }

    fn next_tick(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn tick(&mut self, tally: &mut Tally) {
        self.next = tally.now + TICK;
        for connection in &mut self.connections {
            if connection.is_open()
                && !(receive(connection, &mut self.shared, tally) && send(connection, &self.shared))
            {
                connection.close();
                tally.fail();
            }
        }
    }
}

fn send(connection: &mut Connection, shared: &Shared) -> bool {
    connection.send(&shared.pattern, connection.sent + BURST)
}

fn receive(connection: &mut Connection, shared: &mut Shared, tally: &mut Tally) -> bool {
    match connection.receive(shared, tally) {
        Moved::Bytes(len) => {
            for _ in 0..connection.completed(len, shared.size) {
                tally.complete_untimed();
            }
            true
        }
        Moved::Nothing => true,
        Moved::End | Moved::Broken => false,
    }
}
