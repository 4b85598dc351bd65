//! Pipes between a loop and the programs that it has started (pipe(7)).
//!
//! The loop has one end, and programs have the other. Bytes take no time, and no partition or reset concerns them.

use super::kernel::Source;
use super::state::{HostId, State, os_error};
use crate::faults::Fault;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read};
use tidegate::driver::{Readiness, Token};

/// The capacity that Linux gives a pipe.
pub(super) const CAPACITY: usize = 64 * 1024;

/// Room for this number of bytes is told to a writer, as a page of them is on Linux.
const PAGE: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PipeId(usize);

impl fmt::Display for PipeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "|{}", self.0)
    }
}

/// The use that the loop makes of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopEnd {
    Reads,
    Writes,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) host: HostId,
    end: LoopEnd,
    capacity: usize,
    bytes: VecDeque<u8>,
    pub(super) token: Option<Token>,
    /// The loop has not closed its end.
    is_open: bool,
    /// The number of programs that have the other end open.
    holders: usize,
    /// A write of the loop was refused or cut short: room is to be told.
    wants_room: bool,
    /// The child of the loop has ended. Its bytes are in the pipe, so no read misses any.
    is_settled: bool,
}

/// The result of a program's read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    End,
    Nothing,
}

/// The result of a program's write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Taken(usize),
    /// Nobody reads.
    Broken,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    fn has_much_room(&self) -> bool {
        self.room() >= PAGE.min(self.capacity)
    }

    /// Returns the readiness that epoll reports along with each change. It tells a writer of a missing reader,
    /// and a reader of missing writers, as an error or a hang-up, which mean both directions.
    pub(super) fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::new();
        if self.end == LoopEnd::Reads && !self.bytes.is_empty() {
            readiness = readiness.with_readable();
        }
        if self.end == LoopEnd::Writes && self.has_much_room() {
            readiness = readiness.with_writable();
        }
        if self.holders == 0 {
            readiness = readiness.with_read_to_end().with_writable().with_failed();
        }
        readiness
    }
}

impl State {
    pub(super) fn add_pipe(&mut self, host: HostId, end: LoopEnd, capacity: usize) -> PipeId {
        let id = PipeId(self.next_id());
        let pipe = Pipe {
            host,
            end,
            capacity,
            bytes: VecDeque::new(),
            token: None,
            is_open: true,
            holders: 1,
            wants_room: false,
            is_settled: false,
        };
        self.pipes.insert(id, pipe);
        id
    }

    fn pipe(&mut self, id: PipeId) -> io::Result<&mut Pipe> {
        let pipe = self.pipes.get_mut(&id);
        pipe.ok_or_else(|| os_error(libc::EBADF))
    }

    // The loop's end.

    pub(super) fn register_pipe(&mut self, id: PipeId, token: Token) -> io::Result<()> {
        let pipe = self.pipe(id)?;
        pipe.token = Some(token);
        let ready = pipe.readiness();
        if ready != Readiness::new() {
            self.tell(id, ready);
        }
        Ok(())
    }

    pub(super) fn read_pipe(&mut self, id: PipeId, buffer: &mut [u8]) -> io::Result<usize> {
        let pipe = self.pipe(id)?;
        if pipe.bytes.is_empty() {
            return match pipe.holders {
                0 => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let (there, is_settled) = (pipe.bytes.len().min(buffer.len()), pipe.is_settled);
        if self.dice.strikes(Fault::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let readable = Readiness::new().with_readable();
        if !is_settled && self.dice.strikes(Fault::ReadAgain) {
            self.remind(id, readable);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = match is_settled {
            true => there,
            false => self.cut_short(id, there, Fault::ShortRead, readable),
        };
        self.pipe(id)?.bytes.read_exact(&mut buffer[..len])?;
        self.note_pipe("pipe read", id, &buffer[..len]);
        self.rouse_holders(id);
        Ok(len)
    }

    pub(super) fn write_pipe(&mut self, id: PipeId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = self.pipe(id)?;
        if pipe.holders == 0 {
            return Err(os_error(libc::EPIPE));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = pipe.room();
        if room == 0 && offered > 0 {
            pipe.wants_room = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.dice.strikes(Fault::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.dice.strikes(Fault::NoMemory) {
            return Err(os_error(libc::ENOMEM));
        }
        let writable = Readiness::new().with_writable();
        if self.dice.strikes(Fault::WriteAgain) {
            self.remind(id, writable);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.cut_short(id, offered.min(room), Fault::ShortWrite, writable);
        let data: Vec<u8> = slices
            .iter()
            .flat_map(|slice| &**slice)
            .copied()
            .take(len)
            .collect();
        let pipe = self.pipe(id)?;
        pipe.bytes.extend(&data);
        pipe.wants_room |= len < offered;
        self.note_pipe("pipe write", id, &data);
        self.rouse_holders(id);
        Ok(len)
    }

    /// A call may take less than it could; an event tells of the rest.
    fn cut_short(&mut self, id: PipeId, len: usize, fault: Fault, then: Readiness) -> usize {
        if len < 2 || !self.dice.strikes(fault) {
            return len;
        }
        self.remind(id, then);
        self.dice.some_of(1, len - 1)
    }

    /// Returns the error that waits at the loop's end: a reader finds its own behind the bytes.
    pub(super) fn pipe_error(&self, id: PipeId) -> Option<io::Error> {
        let pipe = self.pipes.get(&id)?;
        (pipe.end == LoopEnd::Writes && pipe.holders == 0).then(|| os_error(libc::EPIPE))
    }

    pub(super) fn close_pipe(&mut self, id: PipeId) {
        let Ok(pipe) = self.pipe(id) else { return };
        let host = pipe.host;
        pipe.is_open = false;
        pipe.token = None;
        self.close_descriptor(host);
        self.note_pipe("pipe close", id, &[]);
        self.rouse_holders(id);
        self.drop_unused(id);
    }

    // The programs' end.

    /// Takes bytes, at most `most`, which is not 0.
    pub(super) fn take_input(&mut self, id: PipeId, most: usize) -> Input {
        let Ok(pipe) = self.pipe(id) else {
            return Input::End;
        };
        if pipe.bytes.is_empty() {
            return match pipe.is_open {
                true => Input::Nothing,
                false => Input::End,
            };
        }
        let len = pipe.bytes.len().min(most);
        let bytes: Vec<u8> = pipe.bytes.drain(..len).collect();
        let tells = pipe.wants_room && pipe.has_much_room();
        if tells {
            pipe.wants_room = false;
        }
        self.note_pipe("program read", id, &bytes);
        if tells {
            self.tell(id, Readiness::new().with_writable());
        }
        Input::Bytes(bytes)
    }

    /// Returns what a program's read would find, up to the end of a line: a read of whole lines takes no byte of
    /// the next one.
    pub(super) fn line_in(&self, id: PipeId) -> Option<usize> {
        let pipe = self.pipes.get(&id)?;
        let end = pipe.bytes.iter().position(|&byte| byte == b'\n');
        end.map(|end| end + 1)
    }

    pub(super) fn put_output(&mut self, id: PipeId, data: &[u8]) -> Output {
        let Ok(pipe) = self.pipe(id) else {
            return Output::Broken;
        };
        if !pipe.is_open {
            return Output::Broken;
        }
        let len = data.len().min(pipe.room());
        pipe.bytes.extend(&data[..len]);
        if len > 0 {
            self.note_pipe("program write", id, &data[..len]);
            self.tell(id, Readiness::new().with_readable());
        }
        Output::Taken(len)
    }

    /// Another program has the end too.
    pub(super) fn hold_pipe(&mut self, id: PipeId) {
        if let Ok(pipe) = self.pipe(id) {
            pipe.holders += 1;
        }
    }

    /// A program has closed its end.
    pub(super) fn release_pipe(&mut self, id: PipeId) {
        let Ok(pipe) = self.pipe(id) else { return };
        pipe.holders -= 1;
        if pipe.holders == 0 {
            self.note_pipe("pipe end", id, &[]);
            self.tell(id, Readiness::new());
            self.drop_unused(id);
        }
    }

    /// The child of the loop ends, before it closes its end.
    pub(super) fn settle_pipe(&mut self, id: PipeId) {
        if let Ok(pipe) = self.pipe(id) {
            pipe.is_settled = true;
        }
    }

    fn drop_unused(&mut self, id: PipeId) {
        let unused = |pipe: &mut Pipe| pipe.holders == 0 && !pipe.is_open;
        if self.pipe(id).is_ok_and(unused) {
            self.pipes.remove(&id);
        }
    }

    fn note_pipe(&mut self, call: &'static str, id: PipeId, data: &[u8]) {
        let len = data.len();
        self.note_bytes((call, id.0 as u64, len as u64), data, || match len {
            0 => format!("{id} {call}"),
            _ => format!("{id} {call} {len}"),
        });
    }
}

impl From<PipeId> for Source {
    fn from(id: PipeId) -> Self {
        Self::Pipe(id)
    }
}
