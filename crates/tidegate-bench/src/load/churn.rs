//! Connections that live for one message: connect, send, receive the echo, end, and the next one.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// Connections that are each followed by another. A message is a connection, and its latency the
/// time from the call of connect until the server has ended it too.
pub(super) struct Churn {
    slots: Vec<Slot>,
    address: SocketAddr,
    shared: Shared,
}

struct Slot {
    connection: Connection,
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
            connection: Connection::new(plan, index),
            called: Instant::now(),
        };
        Self {
            slots: (0..plan.connections).map(slot).collect(),
            address: plan.address,
            shared: Shared::new(plan.size, Pattern::new(plan.size, READ_BUFFER, false)),
        }
    }

    /// Starts the next connection of a slot, if the budget has one more.
    fn call(&mut self, index: usize, registry: &Registry, tally: &mut Tally) {
        let slot = &mut self.slots[index];
        slot.connection.close();
        if !tally.take() {
            tally.end();
            return;
        }
        slot.called = tally.now;
        let connected = slot.connection.reopen(self.address, registry, Token(index));
        if connected.is_err() {
            slot.connection.close();
            tally.fail();
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
        let Token(index) = event.token();
        let slot = &mut self.slots[index];
        if !slot.connection.is_open() {
            return;
        }
        tally.tell_time();
        match slot.step(event, &mut self.shared, tally) {
            Step::Waits => {}
            Step::Ended => {
                tally.complete(slot.called);
                self.call(index, registry, tally);
            }
            // No other follows: a server that is gone would fail them for ever.
            Step::Failed => {
                slot.connection.close();
                tally.fail();
            }
        }
    }
}

impl Slot {
    fn step(&mut self, event: &Event, shared: &mut Shared, tally: &mut Tally) -> Step {
        let Self { connection, .. } = self;
        if event.is_writable() && !connection.send(&shared.pattern, shared.size) {
            return Step::Failed;
        }
        while event.is_readable() {
            match connection.receive(shared, tally) {
                Moved::Bytes(_) => {}
                Moved::Nothing => break,
                // The server's end is due after the whole echo; before, it is a failure.
                Moved::End if connection.received == shared.size => return Step::Ended,
                Moved::End | Moved::Broken => return Step::Failed,
            }
            if connection.received == shared.size && !connection.shut_down() {
                return Step::Failed;
            }
        }
        Step::Waits
    }
}
