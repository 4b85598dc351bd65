//! The read path: from readiness to `data_received` or `buffer_updated`.

use super::Transport;
use super::conn::Conn;
use super::flush::is_out_of_memory;
use super::state::State;
use super::step::Input;
use crate::driver::{Readiness, Socket, uninterrupted};
use crate::event_loop::{Core, add};
use crate::{CloseReason, OnEof, Protocol, Result};
use std::io;
use std::mem;
use std::sync::Arc;

/// The maximum number of reads per source and tick. The rest waits for the next tick.
pub(crate) const READS_PER_TICK: usize = 16;

/// The result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Delivered, or stopped by `get_buffer` before the kernel was asked.
    Done,
    Eof,
    /// The error is in [`Core::read_error`](crate::event_loop::Core).
    Failed,
}

impl Transport {
    #[inline]
    pub(crate) fn on_event(&self, readiness: Readiness, buffer: &mut [u8]) {
        let conn = self.conn();
        conn.set(State::of(readiness));
        if readiness.is_failed() {
            self.on_failure();
        }
        if conn.is(State::OWED | State::TO_READ) {
            self.read(buffer);
        }
    }

    /// Asks for an error that no read would tell of.
    #[cold]
    fn on_failure(&self) {
        let state = self.conn().state.get();
        // Layers that are opening read on, and may find the peer's reason.
        if state.any(State::NO_READ | State::EOF_SEEN) && !state.is_opening() {
            self.look_for_error();
        }
    }

    /// From the list of reads that are owed. An event of the same tick may have been faster.
    pub(crate) fn read_leftover(&self, buffer: &mut [u8]) {
        if self.conn().read_tick.get() != self.conn().core().tick() {
            self.read(buffer);
        }
    }

    /// Delivers input, as much as one connection gets in a tick.
    // All of the way from here to the callback and back is one function, by order: left to itself,
    // the compiler makes six of it, which costs every fourth instruction of a small message.
    #[inline(never)]
    fn read(&self, buffer: &mut [u8]) {
        let conn = self.conn();
        conn.read_tick.set(conn.core().tick());
        if self.is_borrowed() {
            self.read_later();
            return;
        }
        conn.set(State::READ_QUEUED);
        for _ in 0..READS_PER_TICK {
            let state = conn.state.get();
            if !state.any(State::OWED | State::TO_READ) {
                break;
            }
            if !state.is_plain_read() {
                match self.deliver_other() {
                    Input::Kernel => {}
                    Input::Nothing => break,
                    _ => continue,
                }
            }
            self.read_once(buffer);
        }
        conn.clear(State::READ_QUEUED);
        if conn.is(State::OWED | State::TO_READ | State::READ_TO_END) {
            self.after_reads();
        }
    }

    /// The loop runs from within `with_protocol`.
    #[cold]
    fn read_later(&self) {
        let conn = self.conn();
        conn.clear(State::READ_QUEUED);
        if self.settled_input() != Input::Nothing {
            conn.set(State::READ_QUEUED);
            conn.core().push_leftover(conn.id);
        }
    }

    /// Delivers the input that comes before the next read from the kernel, and returns its kind.
    fn deliver_other(&self) -> Input {
        let input = self.settled_input();
        match input {
            Input::Layers if self.conn().state.get().is_opening() => self.open_layers(),
            Input::Layers => self.feed_layers(),
            // The next tick goes on, and serves others before.
            Input::Unread if self.has_yielded() => return Input::Nothing,
            Input::Unread => self.deliver_unread(),
            Input::Eof => self.deliver_eof(),
            #[cfg(feature = "splice")]
            Input::Spliced if !self.splice() => return Input::Kernel,
            _ => {}
        }
        input
    }

    fn settled_input(&self) -> Input {
        if self.conn().is(State::OWED) {
            self.settle();
        }
        self.conn().state.get().input()
    }

    fn after_reads(&self) {
        let conn = self.conn();
        if conn.is(State::READ_TO_END) && conn.is(State::STOPPED) {
            // An error may wait behind bytes that are not read now.
            self.look_for_error();
        }
        self.settle();
    }

    /// `get_buffer`, the read and `buffer_updated`, or the read and `data_received`, are one
    /// callback.
    #[inline(always)]
    fn read_once(&self, buffer: &mut [u8]) {
        let read = self.call("data_received", |protocol, transport| {
            transport.read_into(protocol, buffer)
        });
        if let Some(ended @ (Read::Eof | Read::Failed)) = read {
            self.read_ended(ended);
        }
    }

    fn read_ended(&self, read: Read) {
        let conn = self.conn();
        if read == Read::Failed {
            let error = conn.core().read_error.take();
            if let Some(error) = error {
                self.read_failed(error);
            }
            return;
        }
        conn.set(State::EOF_SEEN);
        if conn.is(State::WRITE_FAILED) {
            conn.set(State::ENDED);
            self.touch();
        }
    }

    #[inline]
    fn read_into(&self, protocol: &mut dyn Protocol, buffer: &mut [u8]) -> Result<Read> {
        let own = self.named("get_buffer", || protocol.get_buffer(self, 0));
        if self.conn().is(State::NO_FILL) {
            return Ok(Read::Done);
        }
        if let Some(own) = own {
            if own.is_empty() {
                return Err(self.empty_buffer());
            }
            match self.receive(own) {
                Ok(0) => return Ok(Read::Eof),
                Ok(len) => self.update_buffer(protocol, len)?,
                Err(error) => return Ok(self.park(error)),
            }
        } else {
            match self.receive(buffer) {
                Ok(0) => return Ok(Read::Eof),
                Ok(len) => protocol.data_received(self, &buffer[..len])?,
                Err(error) => return Ok(self.park(error)),
            }
        }
        Ok(Read::Done)
    }

    #[inline(always)]
    pub(super) fn update_buffer(&self, protocol: &mut dyn Protocol, len: usize) -> Result {
        const NAME: &str = "buffer_updated";
        let core = self.core();
        core.in_read_callback(NAME);
        let updated = self.named(NAME, || protocol.buffer_updated(self, len));
        if updated.is_err() {
            core.read_callback.set(Some(NAME));
        }
        updated
    }

    /// Makes a panic of `call` one of the callback of this name.
    #[inline(always)]
    pub(super) fn named<R>(&self, name: &'static str, call: impl FnOnce() -> R) -> R {
        let panicked = Panicked(self.core(), name);
        let result = call();
        mem::forget(panicked);
        result
    }

    /// Keeps the error out of the way of those reads that have none.
    #[cold]
    fn park(&self, error: io::Error) -> Read {
        self.conn().core().read_error.set(Some(error));
        Read::Failed
    }

    /// One system call.
    #[inline(always)]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let conn = self.conn();
        add(&conn.core().counters.reads, 1);
        let mut socket = conn.socket.borrow_mut();
        let Some(Socket::Os(stream)) = socket.as_mut() else {
            drop(socket);
            return self.receive_elsewhere(buffer);
        };
        let result = uninterrupted(|| stream.read(buffer));
        drop(socket);
        if let Ok(len) = result {
            conn.note_received(len, buffer.len());
        }
        result
    }

    /// As [`receive`](Self::receive), with a socket that is not the system's own.
    #[cold]
    #[inline(never)]
    fn receive_elsewhere(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let conn = self.conn();
        if conn.is(State::LAYERED) {
            return self.receive_layered(buffer);
        }
        let mut socket = conn.socket.borrow_mut();
        let Some(socket) = socket.as_mut() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let result = socket.read(buffer);
        if let Ok(len) = result {
            if socket.reads_in_parts() {
                conn.set(State::READ_TO_END);
            }
            conn.note_received(len, buffer.len());
        }
        result
    }

    pub(super) fn read_failed(&self, error: io::Error) {
        let conn = self.conn();
        if error.kind() == io::ErrorKind::Interrupted {
            // Layers have nothing to deliver now; what they noted says when to ask again.
            return;
        } else if error.kind() == io::ErrorKind::WouldBlock {
            conn.clear(State::READABLE | State::READ_TO_END);
            if !conn.is(State::WRITE_FAILED) {
                return;
            }
        } else if is_out_of_memory(&error) {
            conn.clear(State::READABLE);
            self.retry_later();
            return;
        }
        if conn.is(State::LAYERED) && self.end_by_panic() {
            return;
        }
        // After a failed write the first error stands; this is where its reading ends.
        self.end(CloseReason::Io(Arc::new(error)));
    }

    fn deliver_eof(&self) {
        let conn = self.conn();
        conn.set(State::EOF_TOLD | State::EOF_DELIVERED);
        match self.call("eof_received", |protocol, transport| {
            protocol.eof_received(transport)
        }) {
            // The end comes again, behind the bytes that the callback gave back.
            Some(_) if conn.is(State::UNREAD) => conn.clear(State::EOF_TOLD),
            Some(OnEof::Close) => self.begin_close(),
            Some(OnEof::CloseWithin(limit)) => self.close_by(limit),
            Some(OnEof::KeepOpen) => conn.set(State::KEPT_OPEN),
            None => {}
        }
    }
}

impl Conn {
    #[inline(always)]
    pub(super) fn count_received(&self, len: usize) {
        self.received.set(self.received.get() + len as u64);
        add(&self.core().counters.bytes_received, len);
    }

    /// Notes a read of `len` bytes into room for `room`.
    #[inline(always)]
    fn note_received(&self, len: usize, room: usize) {
        self.count_received(len);
        // On an edge-triggered socket a short read means that nothing is left, unless the
        // last event said otherwise.
        if len < room && !self.is(State::READ_TO_END) {
            self.clear(State::READABLE | State::SILENT);
        } else {
            self.note_more_to_read();
        }
    }

    /// Out of the way of short reads.
    #[cold]
    #[inline(never)]
    fn note_more_to_read(&self) {
        self.clear(State::SILENT);
    }
}

/// Dropped only by a panic of the callback of this name: it costs nothing otherwise.
struct Panicked<'c>(&'c Core, &'static str);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.read_callback.set(Some(self.1));
    }
}
