//! Receiving: from the kernel to the protocol.

use super::endpoint::{Endpoint, Kept};
use super::error::{is_of_the_socket, is_would_block};
use super::{DatagramError, DatagramTransport};
use crate::driver::{Datagrams, Readiness, Received};
use crate::event_loop::{Core, LoopStats, Source, add};
use crate::timers::TimerId;
use crate::transport::{Input, State, Step};
use crate::{Address, CloseReason};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The maximum number of datagrams that one endpoint receives in a tick, errors included.
const DATAGRAMS_PER_TICK: u32 = 64;

/// The maximum number of bytes after which one endpoint receives no more in a tick.
const BYTES_PER_TICK: isize = 1024 * 1024;

/// The maximum number of datagrams of one sender after which the replies to them are sent. Beyond it
/// fewer system calls gain little, and the first reply waits for the others.
const BATCH: u32 = 16;

/// The rest of an endpoint's share of a tick, and of a batch.
struct Share {
    datagrams: u32,
    /// The number of the datagrams of one sender whose replies have not been sent.
    batch: u32,
    /// Below 0 when the last datagram went beyond it.
    bytes: isize,
    /// The sender of those datagrams.
    sender: Option<Address>,
}

impl Share {
    fn new() -> Self {
        Self {
            datagrams: DATAGRAMS_PER_TICK,
            batch: 0,
            bytes: BYTES_PER_TICK,
            sender: None,
        }
    }

    fn is_used_up(&self) -> bool {
        self.datagrams == 0 || self.bytes <= 0
    }

    fn take(&mut self, len: usize) {
        self.datagrams -= 1;
        self.bytes -= len as isize;
    }
}

impl DatagramTransport {
    /// Receives, as much as one endpoint gets in a tick.
    #[inline(always)]
    fn receive(&self, buffer: &mut [u8]) {
        let endpoint = self.endpoint();
        if endpoint.read_tick.get() == endpoint.core().tick() || self.is_borrowed() {
            self.receive_later();
            return;
        }
        endpoint.read_tick.set(endpoint.core().tick());
        let mut share = Share::new();
        loop {
            let state = endpoint.state.get();
            if state.has_kernel_input_alone() {
                if !self.receive_once(buffer, &mut share) {
                    break;
                }
            } else if state.input() == Input::Unread {
                self.deliver_kept(&mut share);
            } else {
                break;
            }
            if share.is_used_up() {
                break;
            }
        }
    }

    /// Makes one system call, and delivers what it brought. Returns false when the kernel had nothing.
    #[inline(always)]
    fn receive_once(&self, buffer: &mut [u8], share: &mut Share) -> bool {
        let endpoint = self.endpoint();
        add(&endpoint.core().counters.reads, 1);
        let mut socket = endpoint.socket.borrow_mut();
        if let Some(udp) = Datagrams::plain_udp(&socket) {
            let received = udp.recv_from(buffer);
            drop(socket);
            return self.take(received.map(Received::of_udp), buffer, share);
        }
        let received = match socket.as_mut() {
            Some(socket) => socket.receive(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        drop(socket);
        self.take_other(received, buffer, share)
    }

    #[inline(never)]
    fn take_other(&self, received: io::Result<Received>, buffer: &[u8], share: &mut Share) -> bool {
        self.take(received, buffer, share)
    }

    /// Takes what a system call has brought.
    #[inline(always)]
    fn take(&self, received: io::Result<Received>, buffer: &[u8], share: &mut Share) -> bool {
        match received {
            Ok(Received { len, .. }) if len >= buffer.len() => self.note_truncated(len, share),
            Ok(received) => self.deliver(&buffer[..received.len], received, share),
            Err(error) if is_would_block(&error) => {
                self.endpoint().clear(State::READABLE);
                return false;
            }
            Err(error) => self.note_failed_receive(error, share),
        }
        true
    }

    /// A datagram of at least `len` bytes has filled the buffer.
    #[cold]
    fn note_truncated(&self, len: usize, share: &mut Share) {
        add(&self.endpoint().numbers.truncated, 1);
        share.take(len);
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a received datagram has at least {len} bytes, more than are delivered"),
        );
        self.note_error(DatagramError::new(error, None, None));
        self.settle();
    }

    #[cold]
    fn note_failed_receive(&self, error: io::Error, share: &mut Share) {
        if error.kind() == io::ErrorKind::Interrupted {
            return;
        }
        if is_of_the_socket(&error) {
            self.end(CloseReason::Io(Arc::new(error)));
            return;
        }
        share.take(0);
        let to = self.endpoint().remote.clone();
        self.note_error(DatagramError::new(error, to, None));
        self.settle();
    }

    /// Delivers what came in one call, of one sender.
    #[inline(always)]
    fn deliver(&self, data: &[u8], received: Received, share: &mut Share) {
        let Received { segment, from, .. } = received;
        if segment < data.len() {
            self.deliver_several(data, segment, from, share);
        } else if let Some(remote) = &self.endpoint().remote {
            // The kernel drops datagrams of others; it may spell the address in another way.
            self.begin_batch(remote, data.len(), share);
            self.deliver_one(data, remote);
        } else {
            self.begin_batch(&from, data.len(), share);
            self.deliver_one(data, share.sender.insert(from));
        }
    }

    /// Those that are left when reading stops are kept.
    #[inline(never)]
    fn deliver_several(&self, mut data: &[u8], segment: usize, from: Address, share: &mut Share) {
        let endpoint = self.endpoint();
        let from = endpoint.remote.clone().unwrap_or(from);
        loop {
            let (datagram, rest) = data.split_at(segment.min(data.len()));
            data = rest;
            self.begin_batch(&from, datagram.len(), share);
            self.deliver_one(datagram, &from);
            if data.is_empty() {
                break;
            }
            if endpoint.is(State::NO_READ) || share.is_used_up() {
                self.keep(data, segment, from);
                return;
            }
        }
        share.sender = Some(from);
    }

    #[inline(always)]
    fn deliver_one(&self, datagram: &[u8], from: &Address) {
        let endpoint = self.endpoint();
        add(&endpoint.numbers.received, 1);
        add(&endpoint.numbers.received_bytes, datagram.len());
        add(&endpoint.core().counters.bytes_received, datagram.len());
        self.call("datagram_received", |protocol, transport| {
            protocol.datagram_received(transport, datagram, from)
        });
        if endpoint.owes_more_than_queue() {
            self.settle();
        }
    }

    /// Keeps datagrams that came in one call with others, until they can be delivered.
    fn keep(&self, data: &[u8], segment: usize, from: Address) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDING) {
            return;
        }
        endpoint.with_extra(|extra| {
            extra.kept = Some(Kept {
                from,
                data: data.to_vec(),
                segment,
            });
        });
        endpoint.set(State::UNREAD);
    }

    /// Takes a datagram of `len` bytes off the share. Sends the replies to another sender, or to a full batch,
    /// before a datagram of `from` is delivered.
    #[inline(always)]
    fn begin_batch(&self, from: &Address, len: usize, share: &mut Share) {
        share.take(len);
        let goes_on = share.batch < BATCH && share.sender.as_ref().is_none_or(|last| last == from);
        if goes_on {
            share.batch += 1;
        } else {
            share.batch = 1;
            self.offer();
        }
    }

    fn deliver_kept(&self, share: &mut Share) {
        let endpoint = self.endpoint();
        endpoint.clear(State::UNREAD);
        if let Some(kept) = endpoint.with_extra(|extra| extra.kept.take()) {
            self.deliver_several(&kept.data, kept.segment, kept.from, share);
        }
    }

    /// Has the next tick go on.
    pub(super) fn receive_later(&self) {
        let endpoint = self.endpoint();
        if !endpoint.is(State::READ_QUEUED) {
            endpoint.set(State::READ_QUEUED);
            endpoint.core().push_leftover(endpoint.id);
        }
    }
}

impl Endpoint {
    /// Whether something is owed before the next datagram, beside offering the queue: the replies to a
    /// sender go together.
    #[inline(always)]
    fn owes_more_than_queue(&self) -> bool {
        let state = self.state.get().without(State::QUEUED);
        state.any(State::OWED) && !matches!(state.next(self.spent()), Step::Rest | Step::QueueRead)
    }
}

impl Source for Endpoint {
    fn on_event(self: Rc<Self>, _: &Core, readiness: Readiness, buffer: &mut [u8]) {
        let transport = DatagramTransport(self);
        let endpoint = transport.endpoint();
        if readiness.is_readable() || readiness.is_failed() {
            endpoint.set(State::READABLE);
        }
        if readiness.is_writable() && endpoint.watches_room.get() {
            transport.note_room();
        }
        // A read that is owed comes in this tick as well, and one source gets one share of it.
        if !endpoint.is(State::READ_QUEUED | State::CONNECTING) {
            transport.receive(buffer);
        }
        transport.settle();
    }

    fn on_leftover(self: Rc<Self>, core: &Core, buffer: &mut [u8]) {
        self.clear(State::READ_QUEUED);
        self.on_event(core, Readiness::new(), buffer);
    }

    fn on_dirty(self: Rc<Self>, _: &Core) {
        self.clear(State::DIRTY);
        DatagramTransport(self).settle();
    }

    fn end(self: Rc<Self>, _: &Core) {
        let transport = DatagramTransport(self);
        transport.end(CloseReason::Shutdown);
        transport.settle();
    }

    fn count(&self, stats: &mut LoopStats) {
        stats.datagram_endpoints += 1;
    }

    fn forget_timer(&self, timer: TimerId) {
        self.with_extra(|extra| extra.timers.remove(&timer));
    }

    fn as_datagrams(self: Rc<Self>) -> Option<DatagramTransport> {
        Some(DatagramTransport(self))
    }
}
