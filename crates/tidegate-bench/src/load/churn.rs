//! Connections that live for one message: connect, send, receive the echo, end, and the next one.

use super::connection::{Connection, Moved, Shared};
use super::pattern::Pattern;
use super::stream::Target;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::carrier::Carrier;
use crate::service::READ_BUFFER;
use crate::tls::Handshake;
use mio::event::Event;
use mio::{Registry, Token};
use std::io;
use std::time::Instant;

/// Connections that are each followed by another. A message is a connection, and its latency the
/// time from the call of connect until the server has ended it too.
pub(super) struct Churn {
    slots: Vec<Slot>,
    shared: Shared,
}

struct Slot {
    connection: Connection,
    target: Target,
    called: Instant,
    resumes: bool,
    /// A connection before this one has brought a session to resume.
    has_session: bool,
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
            target: Target::new(plan),
            called: Instant::now(),
            resumes: plan.carrier == Carrier::Tls && plan.handshake == Handshake::Resumed,
            has_session: false,
        };
        Self {
            slots: (0..plan.connections).map(slot).collect(),
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
        let Slot {
            connection, target, ..
        } = slot;
        let connected = connection.reopen(target, registry, Token(index));
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
        while event.is_readable() {
            match connection.receive(shared, tally) {
                Moved::Bytes(_) => {}
                Moved::Nothing => break,
                // The server's end is due after the whole echo; before, it is a failure.
                Moved::End if connection.received == shared.size => return self.ended(),
                Moved::End | Moved::Broken => return Step::Failed,
            }
            if connection.received == shared.size && !connection.shut_down() {
                return Step::Failed;
            }
        }
        // After the reads, for TLS sends when it has read the server's part of a handshake.
        if !connection.send(&shared.pattern, shared.size) {
            return Step::Failed;
        }
        Step::Waits
    }

    /// The handshake must be what was asked for: the first one is full, as there is nothing to resume.
    fn ended(&mut self) -> Step {
        let has_session = std::mem::replace(&mut self.has_session, self.resumes);
        match self.connection.has_resumed() == has_session {
            true => Step::Ended,
            false => Step::Failed,
        }
    }
}
