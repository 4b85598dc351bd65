//! Receiving: from the kernel to the protocol.

use super::endpoint::{Endpoint, Kept};
use super::error::{is_of_the_socket, is_would_block};
use super::{DatagramError, DatagramTransport};
use crate::driver::{Datagrams, Readiness, Received};
use crate::event_loop::{Core, LoopStats, Source, add};
use crate::timers::TimerId;
use crate::transport::{Input, State, Step};
use crate::{Address, CloseReason};
use std::any::{Any, TypeId};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// The number of datagrams, errors included, after which one endpoint makes no more reads in a tick.
const DATAGRAMS_PER_TICK: isize = 64;

/// The number of bytes after which one endpoint makes no more reads in a tick.
const BYTES_PER_TICK: isize = 1024 * 1024;

/// The maximum number of datagrams of one sender after which the replies to them are sent. Beyond it
/// fewer system calls gain little, and the first reply waits for the others.
const BURST: u32 = 16;

/// The rest of an endpoint's share of a tick, and of a burst. It ends between reads: a rest would be copied, so
/// the last read goes beyond it, by the datagrams of one call at the most.
struct Share {
    /// Both numbers are one less than their rest, so that one test finds a negative one: the share is used up.
    datagrams: isize,
    bytes: isize,
    /// The number of the datagrams of one sender whose replies have not been sent: not 0 from the first one on.
    burst: u32,
    /// The sender of those datagrams.
    sender: Option<Address>,
}

impl Share {
    fn new() -> Self {
        Self {
            datagrams: DATAGRAMS_PER_TICK - 1,
            bytes: BYTES_PER_TICK - 1,
            burst: 0,
            sender: None,
        }
    }

    fn is_used_up(&self) -> bool {
        (self.datagrams | self.bytes) < 0
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
        if endpoint.hears_of_batches.get() && share.burst > 0 {
            self.end_batch();
        }
    }

    /// Calls the protocol after the last datagram of the share, unless something has ended the endpoint.
    #[inline(never)]
    fn end_batch(&self) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDING) {
            return;
        }
        self.call("batch_received", |protocol, transport| {
            let of = (&*protocol as &dyn Any).type_id();
            endpoint.core().batch_of.set(Some((endpoint.id, of)));
            protocol.batch_received(transport)
        });
        endpoint.core().batch_of.set(None);
    }

    /// The default implementation of `batch_received` was called, of a protocol of this type. If the endpoint's own
    /// protocol is of this type, the call is made no more. A protocol within another one has no say.
    pub(super) fn ignores_batches(&self, of: TypeId) {
        let endpoint = self.endpoint();
        if endpoint.core().batch_of.get() == Some((endpoint.id, of)) {
            endpoint.hears_of_batches.set(false);
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
        let endpoint = self.endpoint();
        if let Some(remote) = &endpoint.remote {
            if from != *remote && !endpoint.is_remote(&from) {
                self.drop_of_stranger(data, segment, share);
            } else if segment < data.len() {
                self.deliver_read(data, segment, remote.clone(), share);
            } else {
                self.begin_burst(remote, data.len(), share);
                self.deliver_one(data, remote);
            }
        } else if segment < data.len() {
            self.deliver_read(data, segment, from, share);
        } else {
            self.begin_burst(&from, data.len(), share);
            self.deliver_one(data, share.sender.insert(from));
        }
    }

    /// The kernel drops datagrams of others from the connect(2) on, but keeps those that came before.
    #[cold]
    fn drop_of_stranger(&self, data: &[u8], segment: usize, share: &mut Share) {
        let count = data.len().div_ceil(segment.max(1)).max(1);
        add(&self.endpoint().numbers.strangers, count);
        share.take(data.len());
    }

    /// Delivers several that came in one call. Those that are left when reading stops are kept.
    #[inline(never)]
    fn deliver_read(&self, data: &[u8], segment: usize, from: Address, share: &mut Share) {
        let end = self.deliver_several(data, segment, &from, share);
        if end < data.len() {
            self.keep(Kept {
                from,
                data: data[end..].to_vec(),
                at: 0,
                segment,
            });
        }
    }

    /// Returns where those begin that were not delivered, because reading has stopped.
    fn deliver_several(
        &self,
        data: &[u8],
        segment: usize,
        from: &Address,
        share: &mut Share,
    ) -> usize {
        self.begin_sender(from, share);
        let mut end = 0;
        for datagram in data.chunks(segment.max(1)) {
            if end > 0 && self.endpoint().is(State::NO_READ) {
                break;
            }
            self.begin_burst(from, datagram.len(), share);
            self.deliver_one(datagram, from);
            end += datagram.len();
        }
        end
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
    fn keep(&self, kept: Kept) {
        let endpoint = self.endpoint();
        if endpoint.is(State::ENDING) {
            return;
        }
        endpoint.with_extra(|extra| extra.kept = Some(kept));
        endpoint.set(State::UNREAD);
    }

    /// Sends the replies to another sender before several datagrams of `from` are delivered.
    fn begin_sender(&self, from: &Address, share: &mut Share) {
        match &share.sender {
            Some(last) if last == from => return,
            Some(_) => {
                self.offer();
                share.burst = 0;
            }
            None => {}
        }
        share.sender = Some(from.clone());
    }

    /// Takes a datagram of `len` bytes off the share. Sends the replies to another sender, or to a full burst,
    /// before a datagram of `from` is delivered.
    #[inline(always)]
    fn begin_burst(&self, from: &Address, len: usize, share: &mut Share) {
        share.take(len);
        let goes_on = share.burst < BURST && share.sender.as_ref().is_none_or(|last| last == from);
        if goes_on {
            share.burst += 1;
        } else {
            share.burst = 1;
            self.offer();
        }
    }

    fn deliver_kept(&self, share: &mut Share) {
        let endpoint = self.endpoint();
        endpoint.clear(State::UNREAD);
        if let Some(mut kept) = endpoint.with_extra(|extra| extra.kept.take()) {
            let rest = &kept.data[kept.at..];
            kept.at += self.deliver_several(rest, kept.segment, &kept.from, share);
            if kept.at < kept.data.len() {
                self.keep(kept);
            }
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
    /// Whether this is the remote address, in another spelling.
    #[cold]
    fn is_remote(&self, from: &Address) -> bool {
        let is = |remote: &Address| remote.is_same_place(from);
        let of_kernel = self.extra.with(|extra| {
            let extra = extra.as_deref()?;
            extra.remote_of_kernel.as_ref().map(is)
        });
        of_kernel.unwrap_or_else(|| self.remote.as_ref().is_some_and(is))
    }

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
