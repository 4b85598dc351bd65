//! The write path: from `write` through the buffer into the kernel.

use super::conn::Conn;
use super::state::State;
use super::{Transport, is_out_of_memory};
use crate::WriteError;
use crate::event_loop::{Core, Grave, MAX_GATHERED, add};
use crate::flow::{Crossing, Flow};
use crate::write_buffer::{CHUNK_OVERHEAD, MAX_OFFER, MAX_SLICES, Offer, WriteBuffer};
use bytes::{Buf, Bytes};
use std::cell::RefMut;
use std::io::{self, IoSlice};
use std::time::Duration;

/// A write of this size with nothing buffered goes to the kernel at once, uncopied. Below it, the
/// copy is cheaper than a system call of its own.
const LARGE_WRITE: usize = 16 * 1024;

/// What a system call costs of the bytes that one transport may send in a turn, at least: so tiny
/// chunks cannot hold the loop with thousands of calls.
const LEAST_COST: usize = MAX_OFFER / 16;

/// What most offers fit in.
const FEW_SLICES: usize = 2;

const _: () = assert!(MAX_GATHERED <= LEAST_COST);

/// How long to wait when the kernel is out of memory; no event says when it is over.
const MEMORY_RETRY: Duration = Duration::from_millis(20);

/// What one call of the user writes, less what the kernel has taken of it.
pub(super) enum Payload<'a> {
    Slice(&'a [u8]),
    /// Less the first `taken` bytes of the first slice.
    Slices {
        slices: &'a [IoSlice<'a>],
        taken: usize,
    },
    Owned(Bytes),
}

impl<'a> Payload<'a> {
    fn nothing() -> Self {
        Self::Slice(&[])
    }

    pub(super) fn slices(slices: &'a [IoSlice<'a>]) -> Self {
        Self::Slices { slices, taken: 0 }
    }

    fn len(&self) -> usize {
        match self {
            Self::Slice(data) => data.len(),
            Self::Slices { slices, taken } => {
                let sum = slices
                    .iter()
                    .fold(0, |sum: usize, slice| sum.saturating_add(slice.len()));
                sum - taken
            }
            Self::Owned(data) => data.len(),
        }
    }

    /// How many slices it is, at most.
    fn parts(&self) -> usize {
        match self {
            Self::Slice(_) | Self::Owned(_) => 1,
            Self::Slices { slices, .. } => slices.len(),
        }
    }

    /// Copies it behind what is there, but for owned bytes, which are not to be copied.
    #[inline(always)]
    fn append_to(&self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Self::Slice(data) => bytes.extend_from_slice(data),
            Self::Slices { slices, .. } => {
                slices.iter().for_each(|data| bytes.extend_from_slice(data));
            }
            Self::Owned(_) => return false,
        }
        true
    }

    /// Calls `visit` with one part after the other, until it has enough.
    fn visit<'s>(&'s self, mut visit: impl FnMut(&'s [u8]) -> bool) {
        match self {
            Self::Slice(data) => {
                visit(data);
            }
            Self::Owned(data) => {
                visit(data);
            }
            Self::Slices { slices, taken } => {
                let mut taken = *taken;
                for slice in *slices {
                    if !visit(&slice[taken..]) {
                        return;
                    }
                    taken = 0;
                }
            }
        }
    }

    /// Forgets the first `count` bytes. What is forgotten is not looked at again: there may be
    /// any number of slices, and many system calls.
    fn advance(&mut self, count: usize) {
        match self {
            Self::Slice(data) => *data = &data[count..],
            Self::Owned(data) => Buf::advance(data, count),
            Self::Slices { slices, taken } => {
                *taken += count;
                while let [first, rest @ ..] = *slices
                    && *taken >= first.len()
                {
                    *taken -= first.len();
                    *slices = rest;
                }
            }
        }
    }
}

impl Transport {
    /// Takes a write, all of it or nothing. Every byte that is ever sent comes through here.
    // Inlined by order: what the payload is, is known where it is written.
    #[inline(always)]
    pub(super) fn enqueue(&self, payload: Payload<'_>) -> Result<Flow, WriteError> {
        let conn = self.conn();
        let len = payload.len();
        if conn.state.get().is_gathering() && len < LARGE_WRITE && conn.fits(len) {
            let mut gather = conn.core().gather.borrow_mut();
            let room = gather.capacity() - gather.len();
            if len <= room && payload.append_to(&mut gather) {
                conn.written.set(conn.written.get() + len as u64);
                return Ok(Flow::Open);
            }
        }
        self.enqueue_ungathered(payload, len)
    }

    fn enqueue_ungathered(&self, mut payload: Payload<'_>, len: usize) -> Result<Flow, WriteError> {
        let conn = self.conn();
        if len == 0 {
            conn.core().bury_payload(payload);
            return Ok(conn.flow());
        }
        if conn.is(State::NO_WRITE) {
            conn.core().bury_payload(payload);
            return Err(conn.refusal());
        }
        let fits = conn.fits(len);
        conn.spill();
        if conn.marks.get().at_cap(conn.cost()) {
            if conn.is(State::WRITABLE) {
                self.offer(&mut Payload::nothing(), usize::MAX);
            }
            let refusal = if conn.is(State::NO_WRITE) {
                Some(conn.refusal())
            } else if conn.marks.get().at_cap(conn.cost()) {
                Some(WriteError::BufferFull { transport: conn.id })
            } else {
                None
            };
            if let Some(refusal) = refusal {
                conn.core().bury_payload(payload);
                // What was offered may be what somebody waits for.
                self.answer_waiters();
                return Err(refusal);
            }
        }
        let large = conn.buffered() == 0 && len >= LARGE_WRITE;
        conn.written.set(conn.written.get() + len as u64);
        if conn.is(State::WRITABLE) && (large || !fits) {
            self.offer(&mut payload, usize::MAX);
            if conn.is(State::NO_WRITE) {
                conn.core().bury_payload(payload);
                return Err(conn.refusal());
            }
        }
        conn.queue_rest(payload);
        self.reflow();
        self.touch();
        let flow = conn.flow();
        self.answer_waiters();
        Ok(flow)
    }

    /// Sends what the callback that has just returned wrote in small writes, if it did.
    #[inline(always)]
    pub(super) fn send_gathered(&self, core: &Core) {
        let conn = self.conn();
        let mut gather = core.gather.borrow_mut();
        if gather.is_empty() {
            return;
        }
        let (len, budget) = (gather.len(), conn.budget());
        if len > budget || !conn.is(State::WRITABLE) {
            // What is too much for this turn goes out as far as it is not.
            conn.queue_gathered(&mut gather, 0);
            return;
        }
        match conn.send(&[IoSlice::new(&gather)]) {
            Ok(sent) if sent == len && !conn.is(State::WATCHED) => {
                gather.clear();
                conn.spend(budget, LEAST_COST);
                conn.count_sent(sent);
            }
            result => self.account_gathered(gather, result),
        }
    }

    fn account_gathered(&self, mut gather: RefMut<'_, Vec<u8>>, result: io::Result<usize>) {
        let (offered, sent) = (gather.len(), *result.as_ref().unwrap_or(&0));
        self.conn().queue_gathered(&mut gather, sent);
        drop(gather);
        self.account(sent, offered, result);
        self.answer_waiters();
        // What wakers have written just now was gathered once more.
        self.conn().spill();
    }

    /// Sends what is buffered, as far as this turn's budget goes.
    pub(super) fn flush_queue(&self) {
        self.offer(&mut Payload::nothing(), self.conn().budget());
        self.answer_waiters();
    }

    /// Offers what is buffered, and then the payload, until the kernel refuses, an error comes,
    /// all is sent, or `limit` bytes are; a call counts as [`LEAST_COST`] at least. Takes from the
    /// payload what was sent of it.
    pub(super) fn offer(&self, payload: &mut Payload<'_>, limit: usize) {
        let chunks = self.conn().chunks();
        if chunks + payload.parts() <= FEW_SLICES {
            self.offer_slices::<FEW_SLICES>(payload, limit);
        } else {
            self.offer_slices::<MAX_SLICES>(payload, limit);
        }
    }

    fn offer_slices<const N: usize>(&self, payload: &mut Payload<'_>, limit: usize) {
        let conn = self.conn();
        let mut spent = Vec::new();
        let mut left = limit;
        while left > 0 && conn.is(State::WRITABLE) {
            let mut queue = conn.queue.borrow_mut();
            let mut offer = Offer::<N>::new(left.min(MAX_OFFER));
            if let Some(queue) = queue.as_deref() {
                queue.fill(&mut offer);
            }
            payload.visit(|data| offer.push(data));
            let offered = offer.bytes();
            if offered == 0 {
                break;
            }
            let result = conn.send(offer.slices());
            let sent = *result.as_ref().unwrap_or(&0);
            let queued = queue.as_deref_mut().map_or(0, |queue| {
                let queued = sent.min(queue.len());
                queue.advance(queued, &mut spent);
                queued
            });
            drop(queue);
            payload.advance(sent - queued);
            left = left.saturating_sub(sent.max(LEAST_COST));
            self.account(sent, offered, result);
        }
        conn.release_queue();
        for bytes in spent {
            conn.core().bury_bytes(bytes);
        }
    }

    /// Offers what is buffered before it is given up.
    pub(super) fn offer_once(&self) {
        self.offer(&mut Payload::nothing(), MAX_OFFER);
        self.answer_waiters();
    }

    /// Draws the consequences of one system call that was offered `offered` bytes. The caller
    /// answers the waiters once everything is in its place: a waker may write.
    #[inline]
    fn account(&self, sent: usize, offered: usize, result: io::Result<usize>) {
        let conn = self.conn();
        if sent > 0 {
            conn.spend(conn.budget(), sent.max(LEAST_COST));
            conn.count_sent(sent);
        }
        // The kernel took everything, and nobody waits for that.
        if sent < offered || conn.is(State::PAUSED | State::WRITE_TIMED) {
            self.account_rest(sent, offered, result);
        }
    }

    fn account_rest(&self, sent: usize, offered: usize, result: io::Result<usize>) {
        let conn = self.conn();
        if sent < offered {
            conn.clear(State::WRITABLE);
        }
        // Sending can only resume. Whether what was offered pauses is decided when the kernel has
        // refused the rest of it, not between two system calls.
        if sent > 0 && conn.is(State::PAUSED) {
            self.reflow();
        }
        match result {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if is_out_of_memory(&error) => self.retry_later(),
            Err(error) => {
                self.write_failed(error);
                return;
            }
        }
        if conn.is(State::WRITE_TIMED) {
            self.note_progress(sent, sent < offered);
        }
    }

    /// Looks for a crossing of a watermark.
    pub(super) fn reflow(&self) {
        let conn = self.conn();
        if conn.is(State::WRITE_DEAD | State::DEAD) {
            return;
        }
        let paused = conn.is(State::PAUSED);
        match conn.marks.get().crossing(paused, conn.buffered()) {
            Crossing::None => {}
            Crossing::Pause => {
                conn.set(State::PAUSED);
                if conn.is(State::TOLD) && conn.is(State::STOPS) {
                    // The resume of the pause before was not delivered yet: its answer stands.
                    conn.set(State::HELD);
                }
                conn.pauses.set(conn.pauses.get().wrapping_add(1));
                add(&conn.core().counters.pauses, 1);
            }
            Crossing::Resume => {
                conn.clear(State::PAUSED);
                if !conn.is(State::TOLD) {
                    conn.set(State::ROUND);
                }
                add(&conn.core().counters.resumes, 1);
            }
        }
    }

    /// The kernel is out of memory: nothing will tell when it is over, so a timer asks again.
    pub(super) fn retry_later(&self) {
        let conn = self.conn();
        if conn.is(State::RETRYING) {
            return;
        }
        conn.set(State::RETRYING);
        let deadline = conn.core().clock() + MEMORY_RETRY;
        self.timer_at(deadline, |transport| {
            let conn = transport.conn();
            conn.clear(State::RETRYING);
            conn.set(State::READABLE | State::WRITABLE);
            transport.touch();
        });
    }
}

impl Conn {
    /// One system call; counted.
    #[inline(always)]
    fn send(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        add(&self.core().counters.writes, 1);
        match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.write(slices),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    #[inline(always)]
    fn count_sent(&self, sent: usize) {
        self.sent.set(self.sent.get() + sent as u64);
        add(&self.core().counters.bytes_sent, sent);
    }

    /// Whether so much more does not pause.
    #[inline(always)]
    fn fits(&self, len: usize) -> bool {
        !self.marks.get().above_high(self.buffered() + len as u64)
    }

    /// Moves gathered writes of this connection into its own buffer.
    pub(super) fn spill(&self) {
        if self.is(State::RUNNING) {
            self.queue_gathered(&mut self.core().gather.borrow_mut(), 0);
        }
    }

    fn queue_gathered(&self, gather: &mut Vec<u8>, skip: usize) {
        if skip < gather.len() {
            self.with_queue(|queue| queue.push_copy(&gather[skip..]));
        }
        gather.clear();
    }

    fn queue_rest(&self, payload: Payload<'_>) {
        match payload {
            Payload::Owned(data) if data.is_empty() => self.core().bury_bytes(data),
            Payload::Owned(data) => self.with_queue(|queue| queue.push_shared(data)),
            payload if payload.len() == 0 => {}
            payload => self.with_queue(|queue| {
                payload.visit(|data| {
                    queue.push_copy(data);
                    true
                });
            }),
        }
    }

    fn with_queue(&self, call: impl FnOnce(&mut WriteBuffer)) {
        let mut queue = self.queue.borrow_mut();
        call(queue.get_or_insert_with(|| self.core().take_buffer()));
        self.set(State::QUEUED);
    }

    /// Gives the buffer's memory back to the loop once it is empty.
    fn release_queue(&self) {
        let mut queue = self.queue.borrow_mut();
        if let Some(empty) = queue.take_if(|queue| queue.is_empty()) {
            self.core().give_buffer(empty);
            self.clear(State::QUEUED);
        }
    }

    /// What counts against the cap: payload and a constant for each queued chunk.
    fn cost(&self) -> u64 {
        self.buffered() + (self.chunks() * CHUNK_OVERHEAD) as u64
    }

    fn chunks(&self) -> usize {
        let queue = self.queue.borrow();
        queue.as_ref().map_or(0, |queue| queue.chunks())
    }

    /// Throws away what is buffered.
    pub(super) fn drop_buffered(&self) {
        let core = self.core();
        if self.is(State::RUNNING) {
            core.gather.borrow_mut().clear();
        }
        self.end_stall();
        if let Some(queue) = self.queue.take() {
            self.clear(State::QUEUED);
            core.bury(Grave::Value(queue));
        }
    }
}

impl Core {
    fn bury_payload(&self, payload: Payload<'_>) {
        if let Payload::Owned(data) = payload {
            self.bury_bytes(data);
        }
    }
}
