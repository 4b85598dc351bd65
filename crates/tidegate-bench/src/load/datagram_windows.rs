//! Datagrams in one direction, a window of them at a time: none is lost for want of room.

use super::datagram::{DatagramSocket, Received};
use super::segmentation;
use super::tally::Tally;
use super::{Drive, Mode, Plan};
use crate::page_buffer::PageBuffer;
use crate::service::{ASKS, DATAGRAM, READ_BUFFER, WINDOW, window};
use mio::event::Event;
use mio::{Registry, Token};
use std::io;

/// Sockets that send a window and wait for its acknowledgement, or ask for one and receive it.
pub(super) struct DatagramWindows {
    clients: Vec<Client>,
    /// The datagrams that have a window go one way or the other, and those that come back.
    sent: Datagrams,
    received: Datagrams,
    is_segmented: bool,
    /// The number of messages that one received datagram completes.
    completed: usize,
    buffer: PageBuffer,
}

struct Client {
    socket: DatagramSocket,
    /// The number of datagrams that have come of the window.
    come: usize,
}

/// Datagrams of one length, one behind the other.
struct Datagrams {
    bytes: Vec<u8>,
    len: usize,
}

impl Datagrams {
    fn window(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            len: DATAGRAM,
        }
    }

    fn one(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            len: bytes.len(),
        }
    }

    fn at(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.len..][..self.len]
    }

    /// Returns those of one call at a time.
    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(segmentation::RUN * self.len)
    }

    fn count(&self) -> usize {
        self.bytes.len() / self.len
    }
}

impl DatagramWindows {
    pub(super) fn connect(plan: &Plan) -> io::Result<Self> {
        let (sent, received, completed) = if plan.mode == Mode::Source {
            (Datagrams::one(b"."), Datagrams::window(window()), 1)
        } else {
            let count = match plan.mode {
                Mode::SegmentedSink => segmentation::WINDOW,
                _ => WINDOW,
            };
            let mut window = vec![0; count * DATAGRAM];
            let last = &mut window[(count - 1) * DATAGRAM..];
            last[0] = ASKS;
            let acknowledgement = Datagrams::one(last);
            (Datagrams::window(window), acknowledgement, count)
        };
        let client = |socket| Client { socket, come: 0 };
        let sockets = DatagramSocket::open_all(plan)?;
        Ok(Self {
            clients: sockets.into_iter().map(client).collect(),
            sent,
            received,
            is_segmented: plan.mode == Mode::SegmentedSink,
            completed,
            buffer: PageBuffer::new(READ_BUFFER),
        })
    }

    /// Returns false on an error.
    fn send(&self, index: usize) -> bool {
        let socket = &self.clients[index].socket;
        if self.is_segmented {
            let mut runs = self.sent.runs();
            return runs.all(|run| socket.send_segmented(run, self.sent.len));
        }
        (0..self.sent.count()).all(|index| socket.send(self.sent.at(index)))
    }

    /// Receives what there is, and goes on with the next window when the last one is complete. Returns
    /// false on an error.
    fn receive(&mut self, index: usize, tally: &mut Tally) -> bool {
        loop {
            let client = &mut self.clients[index];
            let expected = self.received.at(client.come);
            match client.socket.receive(&mut self.buffer, expected) {
                Received::Expected => {}
                Received::Nothing => return true,
                Received::Broken => return false,
            }
            client.come += 1;
            let messages = (tally.goal - tally.done).min(self.completed as u64);
            tally.bytes += messages * DATAGRAM as u64;
            (0..messages).for_each(|_| tally.complete_untimed());
            if client.come == self.received.count() {
                client.come = 0;
                // Nothing is on its way to the server when the last message is done.
                if tally.done < tally.goal && !self.send(index) {
                    return false;
                }
            }
        }
    }
}

impl Drive for DatagramWindows {
    fn start(&mut self, registry: &Registry, tally: &mut Tally) -> io::Result<()> {
        for index in 0..self.clients.len() {
            self.clients[index]
                .socket
                .register(registry, Token(index))?;
            if !self.send(index) {
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
