//! Bytes that go from one connection to another by splice(2), without a copy in this process.
//!
//! They go through a pipe. Bytes that the kernel does not take out of it at once stay in there: the pipe is the
//! front of the write buffer of the connection that they go to (`PIPED`). Its bytes are written and not sent,
//! they are in the account of the loop, and a flush offers them first. So ends, waiters, timeouts and
//! limits need nothing of their own. A connection has a pipe only while there are bytes in it.
//!
//! Other code that needs the buffer as it is, such as a layer that is put on, has the pipe's bytes moved
//! there first ([`Transport::unpipe`]).

use super::Transport;
use super::conn::Conn;
use super::flush::is_out_of_memory;
use super::payload::Payload;
use super::state::State;
use crate::driver::{OsStream, Socket, SplicePipe, uninterrupted};
use crate::event_loop::add;
use crate::protocol::Internal;
use std::io;

/// The result of one splice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// This number of bytes is with the other connection.
    Bytes(usize),
    /// There are none now.
    Empty,
    /// The connection has ended.
    Ended,
    /// The next bytes, or the end, are to be read.
    Read,
    /// These connections cannot splice, now or ever.
    Refused,
}

impl Transport {
    /// Returns whether splice(2) works for it: it is a TCP connection of the system, without layers.
    pub(crate) fn can_splice(&self) -> bool {
        self.conn().is_tcp()
    }

    /// Has the protocol splice what comes next, instead of a read, or no more.
    pub(crate) fn set_spliced(&self, on: bool) {
        if on {
            self.conn().set(State::SPLICED);
        } else {
            self.conn().clear(State::SPLICED);
        }
    }

    /// Has the protocol splice. Returns whether it did; else a read comes.
    // By order out of the way of a byte: with this within `read`, each small message takes four
    // instructions more.
    #[cold]
    #[inline(never)]
    pub(super) fn splice(&self) -> bool {
        let spliced = self.call("data_received", |protocol, transport| {
            Ok(protocol.__splice(transport, Internal))
        });
        if spliced == Some(false) {
            self.set_spliced(false);
            return false;
        }
        true
    }

    /// Moves bytes that have come to `to`, as a read and a write do. Called within a callback.
    pub(crate) fn splice_to(&self, to: &Self) -> Spliced {
        let (conn, core) = (self.conn(), to.conn().core());
        if !to.conn().is_to_splice() {
            return Spliced::Read;
        }
        let Ok(mut pipe) = core.take_pipe() else {
            return Spliced::Refused;
        };
        add(&conn.core().counters.reads, 1);
        let filled = conn.with_tcp(|socket| pipe.fill_from(socket));
        if let Ok(len @ 1..) = filled {
            conn.clear(State::SILENT);
            conn.count_received(len);
            to.write_piped(pipe);
            return Spliced::Bytes(len);
        }
        core.give_pipe(pipe);
        let Err(error) = filled else {
            // At the end of the stream; a read says the same.
            return Spliced::Read;
        };
        match error.kind() {
            // At an urgent byte a splice finds nothing, and a read goes on behind it.
            io::ErrorKind::WouldBlock if conn.is(State::READ_TO_END) => Spliced::Read,
            io::ErrorKind::WouldBlock => {
                conn.clear(State::READABLE);
                Spliced::Empty
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Spliced::Refused,
            // A filter of system calls, as in a container: a read may be allowed.
            _ if error.raw_os_error() == Some(libc::EPERM) => Spliced::Refused,
            _ if is_out_of_memory(&error) => Spliced::Read,
            _ => {
                self.read_failed(error);
                Spliced::Ended
            }
        }
    }

    /// Takes the bytes of a pipe as written, and offers them to the kernel.
    fn write_piped(&self, pipe: SplicePipe) {
        let conn = self.conn();
        let (before, len) = (conn.core().account.used(), pipe.len());
        conn.written.set(conn.written.get() + len as u64);
        conn.core().account.add(len);
        conn.put_pipe(pipe);
        self.offer_piped();
        if conn.is(State::PIPED) {
            self.note_queued(before);
            if conn.is(State::PIPED) && !conn.is(State::PAUSED) {
                // Whatever the marks are, until the pipe is empty: bytes behind these would have to be copied.
                conn.begin_pause();
            }
            self.touch();
        }
        self.answer_waiters();
    }

    /// As [`offer`](Self::offer), with bytes in a pipe.
    #[cold]
    #[inline(never)]
    pub(super) fn offer_behind_pipe(&self, payload: &mut Payload<'_>, limit: usize) {
        if !self.conn().state.get().is_offerable() {
            return;
        }
        let sent = self.offer_piped();
        if !self.conn().is(State::PIPED) {
            self.offer_buffered(payload, limit.saturating_sub(sent));
        }
    }

    /// Offers the bytes of the pipe to the kernel, and returns the number of those that it has taken.
    pub(super) fn offer_piped(&self) -> usize {
        let conn = self.conn();
        let Some(mut pipe) = conn.take_pipe() else {
            return 0;
        };
        let offered = pipe.len();
        let (sent, result) = conn.empty(&mut pipe);
        conn.core().account.take(sent);
        if pipe.is_empty() {
            conn.core().give_pipe(pipe);
        } else {
            conn.put_pipe(pipe);
        }
        self.record_sent(sent, offered, result);
        sent
    }

    /// Moves the bytes of the pipe into the buffer.
    pub(super) fn unpipe(&self) {
        let conn = self.conn();
        let Some(mut pipe) = conn.take_pipe() else {
            return;
        };
        let len = pipe.len();
        match pipe.read_rest() {
            Ok(bytes) => {
                conn.core().give_pipe(pipe);
                conn.queue_in_front(bytes);
            }
            Err(error) => {
                conn.core().account.take(len);
                self.write_failed(error);
            }
        }
    }
}

/// Returns the socket, if it is a TCP connection of the system; with layers, it is none of the system.
fn tcp(socket: &Option<Socket>) -> Option<&OsStream> {
    match socket {
        Some(Socket::Os(stream)) if stream.is_tcp() => Some(stream),
        _ => None,
    }
}

impl Conn {
    fn is_tcp(&self) -> bool {
        tcp(&self.socket.borrow()).is_some()
    }

    /// Calls with the socket, if it is a TCP connection of the system.
    fn with_tcp(&self, mut call: impl FnMut(&OsStream) -> io::Result<usize>) -> io::Result<usize> {
        match tcp(&self.socket.borrow()) {
            Some(stream) => uninterrupted(|| call(stream)),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether bytes may be spliced into the socket: the kernel takes them, and nothing is before them.
    fn is_to_splice(&self) -> bool {
        let busy = State::NO_WRITE | State::QUEUED | State::PAUSED;
        self.is(State::WRITABLE) && !self.is(busy) && self.is_tcp()
    }

    /// Moves bytes of the pipe into the socket until the kernel refuses, as the next event tells of room
    /// only then.
    fn empty(&self, pipe: &mut SplicePipe) -> (usize, io::Result<usize>) {
        let mut sent = 0;
        while !pipe.is_empty() {
            add(&self.core().counters.writes, 1);
            match self.with_tcp(|socket| pipe.empty_into(socket)) {
                Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
                Ok(len) => sent += len,
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(sent))
    }

    /// Makes a pipe with bytes the front of the buffer.
    fn put_pipe(&self, pipe: SplicePipe) {
        self.with_extra(|extra| extra.pipe = Some(pipe));
        self.set(State::PIPED | State::QUEUED);
    }

    fn take_pipe(&self) -> Option<SplicePipe> {
        if !self.is(State::PIPED) {
            return None;
        }
        self.clear(State::PIPED);
        if !self.queue.is_some() {
            self.clear(State::QUEUED);
        }
        self.with_extra(|extra| extra.pipe.take())
    }

    /// Discards the bytes of the pipe.
    pub(super) fn drop_pipe(&self) {
        if let Some(pipe) = self.take_pipe() {
            self.core().account.take(pipe.len());
        }
    }

    /// The number of bytes in the pipe.
    pub(super) fn piped(&self) -> usize {
        if !self.is(State::PIPED) {
            return 0;
        }
        self.with_extra(|extra| extra.pipe.as_ref().map_or(0, SplicePipe::len))
    }
}
