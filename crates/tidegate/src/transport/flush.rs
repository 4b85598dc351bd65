//! Sending: offering buffered bytes to the kernel, and the consequences of each system call.

use super::Transport;
use super::conn::Conn;
use super::payload::Payload;
use super::state::State;
use crate::driver::{Socket, uninterrupted};
use crate::event_loop::{Core, Deferred, MAX_GATHERED, add};
use crate::flow::Crossing;
use crate::write_buffer::{MAX_OFFER, MAX_SLICES, Offer};
use bytes::Bytes;
use std::cell::RefMut;
use std::io::{self, IoSlice};
use std::mem;
use std::time::Duration;

/// The minimum number of bytes that one system call counts for in a transport's budget of a tick.
/// So tiny chunks cannot hold the loop with thousands of calls.
const LEAST_COST: usize = MAX_OFFER / 16;

/// The bytes that are offered to layers at a time: what fits into one system call of theirs. They may
/// make much more of it, and the budget knows how much when they have made it.
const LAYERED_OFFER: usize = 7 * 16 * 1024;

/// The number of slices that most offers fit in.
const FEW_SLICES: usize = 2;

const _: () = assert!(MAX_GATHERED <= LEAST_COST);

/// The delay before the kernel is asked again when it was out of memory; no event says when.
const MEMORY_RETRY: Duration = Duration::from_millis(20);

impl Transport {
    /// Sends the small writes that the callback has gathered, if there are any.
    #[inline(always)]
    pub(super) fn send_gathered(&self, core: &Core) {
        let conn = self.conn();
        let mut gather = core.gather.borrow_mut();
        if gather.is_empty() {
            return;
        }
        let (len, budget) = (gather.len(), conn.budget());
        if len > budget || !conn.state.get().is_plain_write() {
            self.send_gathered_later(gather, len > budget);
            return;
        }
        match conn.send(&[IoSlice::new(&gather)]) {
            Ok(sent) if sent == len && !conn.is(State::WATCHED) => {
                gather.clear();
                conn.spend(budget, LEAST_COST);
                conn.count_sent(sent);
            }
            result => self.record_gathered(gather, result, core.account.used()),
        }
    }

    /// Sends what was gathered through layers, or buffers it: what is too much for this tick goes out
    /// as far as it is not.
    #[cold]
    #[inline(never)]
    fn send_gathered_later(&self, mut gather: RefMut<'_, Vec<u8>>, too_much: bool) {
        let conn = self.conn();
        if too_much || !conn.is(State::WRITABLE) {
            let before = conn.core().account.used();
            conn.queue_unsent(&mut gather, 0);
            drop(gather);
            self.note_queued(before);
            return;
        }
        // Code of layers finds nothing borrowed.
        let mut bytes = mem::take(&mut *gather);
        drop(gather);
        add(&conn.core().counters.writes, 1);
        let (result, more) = conn.write_layered(&[IoSlice::new(&bytes)]);
        if matches!(result, Ok(sent) if sent == bytes.len()) && !conn.is(State::WATCHED) {
            conn.spend(conn.budget(), LEAST_COST + more);
            conn.count_sent(bytes.len());
            bytes.clear();
            conn.core().gather.replace(bytes);
            return;
        }
        conn.spend_more(more);
        let before = conn.core().account.used();
        conn.core().gather.replace(bytes);
        self.record_gathered(conn.core().gather.borrow_mut(), result, before);
    }

    /// The account had `before` until the bytes were offered.
    fn record_gathered(
        &self,
        mut gather: RefMut<'_, Vec<u8>>,
        result: io::Result<usize>,
        before: u64,
    ) {
        let (offered, sent) = (gather.len(), *result.as_ref().unwrap_or(&0));
        self.conn().queue_unsent(&mut gather, sent);
        drop(gather);
        self.record_sent(sent, offered, result);
        self.keep_to_budget(before);
        self.answer_waiters();
        // Writes of wakers were gathered once more.
        let before = self.core().account.used();
        self.conn().queue_gathered();
        if self.core().account.used() > before {
            self.note_queued(before);
        }
    }

    /// Sends buffered bytes, as far as this tick's budget goes.
    pub(super) fn flush_queue(&self) {
        let conn = self.conn();
        if conn.is(State::QUEUED) {
            let mut limit = conn.budget();
            if conn.is(State::LAYERED) {
                limit = limit.min(LAYERED_OFFER);
            }
            self.offer(&mut Payload::nothing(), limit);
            self.answer_waiters();
        } else {
            self.flush_output();
        }
    }

    /// Offers the buffered bytes, and then the payload, until the kernel refuses, an error comes, all is
    /// sent, or `limit` bytes are; a call counts as [`LEAST_COST`] at least. Takes the sent bytes from the
    /// payload.
    pub(super) fn offer(&self, payload: &mut Payload<'_>, limit: usize) {
        #[cfg(feature = "splice")]
        if self.conn().is(State::PIPED) {
            return self.offer_behind_pipe(payload, limit);
        }
        self.offer_buffered(payload, limit);
    }

    pub(super) fn offer_buffered(&self, payload: &mut Payload<'_>, limit: usize) {
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
        while left > 0 && conn.state.get().is_offerable() {
            let most = left.min(MAX_OFFER);
            let (offered, result) = conn.send_buffered::<N>(payload, most, &mut spent);
            if offered == 0 {
                break;
            }
            let sent = *result.as_ref().unwrap_or(&0);
            left = left.saturating_sub(sent.max(LEAST_COST));
            self.record_sent(sent, offered, result);
        }
        conn.release_queue();
        for bytes in spent {
            conn.core().defer_drop_bytes(bytes);
        }
    }

    /// Offers the buffered bytes before they are given up.
    pub(super) fn offer_once(&self) {
        self.offer(&mut Payload::nothing(), MAX_OFFER);
        self.answer_waiters();
    }

    /// Offers the buffered bytes, or the output of layers where there are none, although no event told
    /// of room: one may have come while the tick was busy, and a kernel reports room only when there is
    /// much of it, but takes bytes before.
    pub(crate) fn offer_again(&self) {
        let conn = self.conn();
        if conn.is(State::WRITE_FAILED | State::ENDED | State::LOST_CALLED) {
            return;
        }
        if conn.is(State::QUEUED) {
            conn.set(State::WRITABLE);
            self.offer_once();
        } else if conn.is(State::OUTPUT) {
            conn.set(State::WRITABLE);
            self.flush_output();
        } else {
            return;
        }
        self.touch();
    }

    /// Returns the tick in which the kernel last took bytes.
    pub(crate) fn last_sent_tick(&self) -> u32 {
        self.conn().budget.get().0
    }

    /// Records one system call that was offered `offered` bytes. The caller completes the waiters
    /// once everything is in its place: a waker may write.
    #[inline]
    pub(super) fn record_sent(&self, sent: usize, offered: usize, result: io::Result<usize>) {
        let conn = self.conn();
        if sent > 0 {
            conn.spend(conn.budget(), sent.max(LEAST_COST));
            conn.count_sent(sent);
        }
        // The kernel took everything, and nothing waits for that.
        if sent < offered || conn.is(State::PAUSED | State::STALL_TIMED) {
            self.record_remainder(sent, offered, result);
        }
    }

    fn record_remainder(&self, sent: usize, offered: usize, mut result: io::Result<usize>) {
        let conn = self.conn();
        if sent < offered {
            conn.clear(State::WRITABLE);
            if conn.is(State::LAYERED) {
                result = self.result_of_layers(result);
            }
        }
        // Sending can only resume. Whether the offered bytes pause is decided when the kernel has refused
        // the rest of them, not between two system calls.
        if sent > 0 && conn.is(State::PAUSED) {
            self.update_flow();
        }
        if let Err(error) = result
            && self.send_failed(error)
        {
            return;
        }
        let progress = if conn.is(State::LAYERED) {
            conn.progress_below()
        } else {
            sent
        };
        self.time_progress(progress, sent < offered);
        if conn.core().account.is_limited() && !conn.is(State::WRITABLE) {
            self.update_flow();
        }
    }

    /// Draws the consequences of an error of sending. Returns whether it ends writing.
    pub(super) fn send_failed(&self, error: io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            return false;
        }
        if is_out_of_memory(&error) {
            self.retry_later();
            return false;
        }
        self.write_failed(error);
        true
    }

    /// Looks for a crossing of a watermark.
    pub(super) fn update_flow(&self) {
        let conn = self.conn();
        if conn.is(State::WRITE_FAILED | State::ENDED) {
            return;
        }
        let paused = conn.is(State::PAUSED);
        match conn.marks_in_force().crossing(paused, conn.buffered()) {
            Crossing::None => {}
            Crossing::Pause => conn.begin_pause(),
            #[cfg(feature = "splice")]
            Crossing::Resume if conn.is(State::PIPED) => {}
            Crossing::Resume => {
                conn.state.set(conn.state.get().resumed());
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
        if let Some(Socket::Os(stream)) = self.socket.borrow_mut().as_mut() {
            return uninterrupted(|| stream.write(slices));
        }
        self.send_elsewhere(slices)
    }

    /// As [`send`](Self::send), with a socket that is not the system's own.
    #[cold]
    #[inline(never)]
    fn send_elsewhere(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is(State::LAYERED) {
            return self.send_layered(slices);
        }
        match self.socket.borrow_mut().as_mut() {
            Some(socket) => socket.write(slices),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Offers at most `most` bytes, first buffered ones, then those of the payload, and takes from
    /// both what the kernel took. Returns the offered bytes, and the result of the system call,
    /// which there is only if some were offered.
    #[inline]
    fn send_buffered<const N: usize>(
        &self,
        payload: &mut Payload<'_>,
        most: usize,
        spent: &mut Vec<Bytes>,
    ) -> (usize, io::Result<usize>) {
        self.queue.with(|queue| {
            let mut offer = Offer::<N>::new(most);
            if let Some(queue) = queue.as_deref() {
                queue.fill(&mut offer);
            }
            payload.visit(|data| offer.push(data));
            let offered = offer.bytes();
            if offered == 0 {
                return (0, Ok(0));
            }
            let result = self.send(offer.slices());
            let sent = *result.as_ref().unwrap_or(&0);
            let queued = queue.as_deref_mut().map_or(0, |queue| {
                let queued = sent.min(queue.len());
                queue.advance(queued, spent);
                self.core().account.take(queued);
                queued
            });
            payload.advance(sent - queued);
            (offered, result)
        })
    }

    #[inline(always)]
    pub(super) fn count_sent(&self, sent: usize) {
        self.sent.set(self.sent.get() + sent as u64);
        add(&self.core().counters.bytes_sent, sent);
    }

    pub(super) fn begin_pause(&self) {
        self.state.set(self.state.get().paused());
        self.pauses.set(self.pauses.get().wrapping_add(1));
        add(&self.core().counters.pauses, 1);
    }

    /// Gives the buffer's memory back to the loop once it is empty.
    fn release_queue(&self) {
        let empty = self
            .queue
            .with(|queue| queue.take_if(|queue| queue.is_empty()));
        if let Some(empty) = empty {
            self.core().give_buffer(empty);
            self.clear(State::QUEUED);
        }
    }

    /// Discards the buffered bytes.
    pub(super) fn drop_buffered(&self) {
        let core = self.core();
        if self.is(State::RUNNING) {
            core.gather.borrow_mut().clear();
        }
        self.end_stall();
        #[cfg(feature = "splice")]
        self.drop_pipe();
        if let Some(queue) = self.queue.take() {
            core.account.take(queue.len());
            self.clear(State::QUEUED);
            core.defer_drop(Deferred::Value(queue));
        }
    }
}

/// The kernel had no memory for a call; nothing is wrong with the connection.
pub(super) fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
