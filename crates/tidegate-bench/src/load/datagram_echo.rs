//! Datagrams that come back: one at a time, or several.

use super::datagram::{DatagramSocket, Received};
use super::pattern::Pattern;
use super::tally::Tally;
use super::{Drive, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::READ_BUFFER;
use mio::event::Event;
use mio::{Registry, Token};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// Sockets that expect what they sent, in its order.
pub(super) struct DatagramEchoes {
    clients: Vec<Client>,
    depth: usize,
    size: u64,
    pattern: Pattern,
    buffer: PageBuffer,
}

struct Client {
    socket: DatagramSocket,
    /// The offsets in the pattern of the next datagram to send, and of the next one that comes back. No two
    /// clients send the same bytes.
    next: u64,
    expected: u64,
    /// When the datagrams on their way were sent.
    departures: VecDeque<Instant>,
}

impl DatagramEchoes {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let size = plan.size as u64;
        let client = |(index, socket)| {
            let start = index as u64 * 7 * size;
            Client {
                socket,
                next: start,
                expected: start,
                departures: VecDeque::with_capacity(plan.depth),
            }
        };
        let sockets = DatagramSocket::open_all(plan)?;
        Ok(Self {
            clients: sockets.into_iter().enumerate().map(client).collect(),
            depth: plan.depth,
            size,
            pattern: Pattern::new(plan.size, plan.size, false),
            buffer: PageBuffer::new(READ_BUFFER),
        })
    }

    /// Sends up to this number of datagrams. Returns false on an error.
    fn send(&mut self, index: usize, datagrams: usize, tally: &mut Tally) -> bool {
        let client = &mut self.clients[index];
        for _ in 0..datagrams {
            if !tally.take() {
                break;
            }
            client.departures.push_back(tally.now);
            let datagram = self.pattern.at(client.next, self.size);
            client.next += self.size;
            if !client.socket.send(datagram) {
                return false;
            }
        }
        true
    }

    /// Receives what there is, then sends as many. Returns false on an error.
    fn receive(&mut self, index: usize, tally: &mut Tally) -> bool {
        let client = &mut self.clients[index];
        let mut complete = 0;
        loop {
            let expected = self.pattern.at(client.expected, self.size);
            match client.socket.receive(&mut self.buffer, expected) {
                Received::Expected => {}
                Received::Nothing => return self.send(index, complete, tally),
                Received::Broken => return false,
            }
            // More than were sent are wrong too.
            let Some(sent) = client.departures.pop_front() else {
                return false;
            };
            client.expected += self.size;
            tally.tell_time();
            tally.bytes += self.size;
            if tally.done < tally.goal {
                tally.complete(sent);
                complete += 1;
            }
        }
    }
}

impl Drive for DatagramEchoes {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for index in 0..self.clients.len() {
            self.clients[index]
                .socket
                .register(registry, Token(index))?;
            if !self.send(index, self.depth, tally) {
                self.clients[index].socket.fail(tally);
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, _: &Registry, tally: &mut Tally) {
        let Token(index) = event.token();
        if self.clients[index].socket.is_open() && !self.receive(index, tally) {
            self.clients[index].socket.fail(tally);
        }
    }
}
