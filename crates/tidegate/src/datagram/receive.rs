//! Receiving: from the kernel to the protocol.

use super::endpoint::{Endpoint, Kept};
use super::error::is_of_the_socket;
use super::{DatagramError, DatagramTransport};
use crate::driver::{Readiness, Received};
use crate::event_loop::{Core, LoopStats, Source, add};
use crate::timers::TimerId;
use crate::transport::{Input, State, Step};
use crate::{Address, CloseReason};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The maximum number of datagrams that one endpoint receives in a tick, errors included.
const DATAGRAMS_PER_TICK: usize = 64;

/// The maximum number of bytes after which one endpoint receives no more in a tick.
const BYTES_PER_TICK: usize = 1024 * 1024;

/// The maximum number of datagrams of one sender after which the replies to them are sent. Beyond it
/// fewer system calls gain little, and the first reply waits for the others.
const BATCH: usize = 16;

/// The rest of an endpoint's share of a tick, and of a batch.
struct Share {
    datagrams: usize,
    bytes: usize,
    /// The sender of the datagrams whose replies have not been sent.
    sender: Option<Address>,
    /// The number of those datagrams.
    batch: usize,
}

impl Share {
    fn new() -> Self {
        Self {
            datagrams: DATAGRAMS_PER_TICK,
            bytes: BYTES_PER_TICK,
            sender: None,
            batch: 0,
        }
    }

    fn is_used_up(&self) -> bool {
        self.datagrams == 0 || self.bytes == 0
    }

    fn take(&mut self, len: usize) {
        self.datagrams = self.datagrams.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(len);
    }
}

impl DatagramTransport {
    /// Receives, as much as one endpoint gets in a tick.
    fn receive(&self, buffer: &mut [u8]) {
        let endpoint = self.endpoint();
        if endpoint.read_tick.get() == endpoint.core().tick() || self.is_borrowed() {
            self.receive_later();
            return;
        }
        endpoint.read_tick.set(endpoint.core().tick());
        let mut share = Share::new();
        loop {
            match endpoint.state.get().input() {
                Input::Unread => self.deliver_kept(&mut share),
                Input::Kernel if !share.is_used_up() => self.receive_once(buffer, &mut share),
                _ => break,
            }
            if share.is_used_up() {
                break;
            }
        }
    }

    /// Makes one system call, and delivers what it brought.
    fn receive_once(&self, buffer: &mut [u8], share: &mut Share) {
        let endpoint = self.endpoint();
        add(&endpoint.core().counters.reads, 1);
        let received = match endpoint.socket.borrow_mut().as_mut() {
            Some(socket) => socket.receive(buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        };
        match received {
            Ok(Received { len, .. }) if len == buffer.len() => {
                add(&endpoint.numbers.truncated, 1);
                share.take(len);
                let error = io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "a received datagram has at least {len} bytes, more than are delivered"
                    ),
                );
                self.note_error(DatagramError::new(error, None, None));
                self.settle();
            }
            Ok(Received { len, segment, from }) => {
                // The kernel drops those of others; it may spell the address in another way.
                let from = endpoint.remote.clone().unwrap_or(from);
                self.deliver(&buffer[..len], segment, from, share);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                endpoint.clear(State::READABLE);
            }
            Err(error) if is_of_the_socket(&error) => {
                self.end(CloseReason::Io(Arc::new(error)));
            }
            Err(error) => {
                share.take(0);
                let to = endpoint.remote.clone();
                self.note_error(DatagramError::new(error, to, None));
                self.settle();
            }
        }
    }

    /// Delivers datagrams of one sender. Those that are left when reading stops are kept.
    fn deliver(&self, mut data: &[u8], segment: usize, from: Address, share: &mut Share) {
        let endpoint = self.endpoint();
        loop {
            let (datagram, rest) = data.split_at(segment.min(data.len()));
            data = rest;
            self.begin_batch(&from, share);
            share.take(datagram.len());
            add(&endpoint.numbers.received, 1);
            add(&endpoint.numbers.received_bytes, datagram.len());
            add(&endpoint.core().counters.bytes_received, datagram.len());
            self.call("datagram_received", |protocol, transport| {
                protocol.datagram_received(transport, datagram, &from)
            });
            if endpoint.owes_more_than_queue() {
                self.settle();
            }
            if data.is_empty() {
                break;
            }
            if endpoint.is(State::NO_READ) || share.is_used_up() {
                if !endpoint.is(State::ENDING) {
                    let data = data.to_vec();
                    endpoint.with_extra(|extra| {
                        extra.kept = Some(Kept {
                            from,
                            data,
                            segment,
                        });
                    });
                    endpoint.set(State::UNREAD);
                }
                return;
            }
        }
        share.sender = Some(from);
    }

    /// Sends the replies to another sender, or to a full batch, before a datagram of `from` is delivered.
    fn begin_batch(&self, from: &Address, share: &mut Share) {
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
            self.deliver(&kept.data, kept.segment, kept.from, share);
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
        if !endpoint.is(State::READ_QUEUED) && !endpoint.is(State::CONNECTING) {
            transport.receive(buffer);
        }
        transport.settle();
    }

    fn on_leftover(self: Rc<Self>, _: &Core, buffer: &mut [u8]) {
        let transport = DatagramTransport(self);
        transport.endpoint().clear(State::READ_QUEUED);
        transport.receive(buffer);
        transport.settle();
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
