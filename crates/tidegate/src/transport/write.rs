//! Taking a write: into the loop's gathering buffer, to the kernel, or into the queue.

use super::Transport;
use super::conn::Conn;
use super::payload::Payload;
use super::state::State;
use crate::WriteError;
use crate::flow::Flow;
use crate::write_buffer::{CHUNK_OVERHEAD, WriteBuffer};
use std::fmt;

/// A write of this size with nothing buffered goes to the kernel at once, uncopied. Below it, the
/// copy is cheaper than a system call of its own.
const LARGE_WRITE: usize = 16 * 1024;

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
            conn.discard(payload);
            return Ok(conn.flow());
        }
        if conn.is(State::NO_WRITE) {
            conn.discard(payload);
            return Err(conn.refusal());
        }
        let fits = conn.fits(len) && conn.fits_into_budget(len);
        conn.queue_gathered();
        // The writes that were gathered are another one, before this.
        let (held, queued, sent) = (conn.core().account.used(), conn.buffered(), conn.sent.get());
        if conn.marks.get().at_cap(conn.cost()) {
            if conn.is(State::WRITABLE) {
                self.offer(&mut Payload::nothing(), usize::MAX);
            }
            let refusal = if conn.is(State::NO_WRITE) {
                Some(conn.refusal())
            } else if conn.marks.get().at_cap(conn.cost()) {
                conn.note_refusal();
                Some(WriteError::BufferFull { transport: conn.id })
            } else {
                None
            };
            if let Some(refusal) = refusal {
                conn.discard(payload);
                // A waiter may wait for the offered bytes.
                self.answer_waiters();
                return Err(refusal);
            }
        }
        let large = conn.buffered() == 0 && len >= LARGE_WRITE;
        conn.written.set(conn.written.get() + len as u64);
        if conn.is(State::WRITABLE) && (large || !fits) {
            self.offer(&mut payload, usize::MAX);
            if conn.is(State::NO_WRITE) {
                conn.discard(payload);
                return Err(conn.refusal());
            }
        }
        // Without what the kernel has taken of those since, and with what layers have made of this one.
        let before = held.saturating_sub(queued.min(conn.sent.get() - sent));
        conn.queue_rest(payload);
        if self.keep_to_budget(before) {
            return Err(conn.refusal());
        }
        self.update_flow();
        self.touch();
        let flow = conn.flow();
        self.answer_waiters();
        Ok(flow)
    }

    /// Writes the whole text at once.
    pub(super) fn enqueue_text(&self, args: fmt::Arguments<'_>) -> Result<Flow, WriteError> {
        if let Some(text) = args.as_str() {
            return self.write(text.as_bytes());
        }
        let mut text = String::new();
        match fmt::write(&mut text, args) {
            Ok(()) => self.write(text.as_bytes()),
            Err(fmt::Error) => Err(WriteError::Format {
                transport: self.id(),
            }),
        }
    }

    /// Notes that our side of the stream ends behind the bytes that are buffered.
    pub(super) fn request_eof(&self) -> Result<(), WriteError> {
        let conn = self.conn();
        if conn.is(State::ENDING) {
            return Err(conn.refusal());
        }
        conn.set(State::EOF_ASKED);
        self.touch();
        Ok(())
    }
}

impl Conn {
    /// Returns whether `len` more bytes do not pause.
    #[inline(always)]
    fn fits(&self, len: usize) -> bool {
        !self.marks.get().above_high(self.buffered() + len as u64)
    }

    /// Moves the gathered writes of the running callback into the connection's own buffer.
    pub(super) fn queue_gathered(&self) {
        if self.is(State::RUNNING) {
            self.queue_unsent(&mut self.core().gather.borrow_mut(), 0);
        }
    }

    /// Moves gathered writes into the buffer, less the first `sent` bytes.
    pub(super) fn queue_unsent(&self, gather: &mut Vec<u8>, sent: usize) {
        if sent < gather.len() {
            let rest = &gather[sent..];
            self.with_queue(rest.len(), |queue| queue.push_copy(rest));
        }
        gather.clear();
    }

    /// Drops a payload that is refused or empty; owned bytes by way of the loop.
    fn discard(&self, payload: Payload<'_>) {
        if let Payload::Owned(data) = payload {
            self.core().defer_drop_bytes(data);
        }
    }

    /// Puts bytes in front of the buffer that are in the account already.
    #[cfg(feature = "splice")]
    pub(super) fn queue_in_front(&self, bytes: Vec<u8>) {
        let taken = bytes.len();
        self.with_queue(0, |queue| queue.push_in_front(bytes));
        debug_assert!(
            taken as u64 <= self.buffered(),
            "bytes that were not written"
        );
    }

    fn queue_rest(&self, payload: Payload<'_>) {
        match payload {
            Payload::Owned(data) if data.is_empty() => self.core().defer_drop_bytes(data),
            Payload::Owned(data) => self.with_queue(data.len(), |queue| queue.push_shared(data)),
            payload if payload.len() == 0 => {}
            payload => self.with_queue(payload.len(), |queue| {
                payload.visit(|data| {
                    queue.push_copy(data);
                    true
                });
            }),
        }
    }

    /// Queues `len` bytes.
    fn with_queue(&self, len: usize, call: impl FnOnce(&mut WriteBuffer)) {
        self.queue
            .with(|queue| call(queue.get_or_insert_with(|| self.core().take_buffer())));
        self.core().account.add(len);
        self.set(State::QUEUED);
    }

    /// Returns the cost that counts against the cap: payload and a constant for each queued chunk.
    fn cost(&self) -> u64 {
        self.buffered() + (self.chunks() * CHUNK_OVERHEAD) as u64
    }

    pub(super) fn chunks(&self) -> usize {
        self.queue
            .with(|queue| queue.as_ref().map_or(0, |queue| queue.chunks()))
    }
}
