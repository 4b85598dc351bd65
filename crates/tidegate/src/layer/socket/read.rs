//! Reading: bytes from below through the layer, and from the layer to the reader.

use super::LayeredSocket;
use crate::layer::fault::{Fault, may_be_over};
use crate::layer::shared::SCRATCH;
use std::io;
use std::mem;

/// The maximum number of bytes that a layer leaves unconsumed when it waits for more. Beside them a
/// read has room for a TLS record (RFC 8446, 5.2).
pub(super) const MAX_INPUT: usize = SCRATCH - 16 * 1024;

/// The number of bytes for a reader that has stopped from which nothing more is read for a layer.
const MAX_FED: usize = SCRATCH;

/// The maximum number of times that a layer is called in one read.
pub(super) const CALLS_PER_READ: usize = 16;

/// The maximum number of calls in a row in which a layer asks for another one and does nothing else.
const MAX_FRUITLESS: u8 = 16;

impl LayeredSocket {
    /// Returns whether a read has something to tell without asking the socket: bytes, an end, an
    /// error, or that it is open. It can change by every method.
    pub(crate) fn has_input(&self) -> bool {
        let to_open = !self.open_told && (self.open || self.has_lasting_write_error());
        if to_open || !self.plain.is_empty() {
            return true;
        }
        if self.ended {
            return !self.ended_told || (self.needs_input() && self.has_food());
        }
        if let Some(fault) = &self.fault {
            return !fault.is_read;
        }
        if self.is_full() {
            return self.has_food_below();
        }
        let kept = !self.unread.is_empty() || (self.left && !self.input.is_empty());
        let failed = self.input.len() > MAX_INPUT || self.read_error.is_some();
        let stuck = failed && self.deadline.is_none();
        let below = match self.holds_back() {
            true => self.needs_input() && self.has_food(),
            false => self.unasked || self.below_has_input(),
        };
        kept || stuck || self.more || self.unfinished || below
    }

    fn below_has_input(&self) -> bool {
        self.layered_below().is_some_and(Self::has_input)
    }

    /// Returns whether the layer has as much input as it gets, and waits for its timer.
    fn holds_back(&self) -> bool {
        self.input.len() > MAX_INPUT && !self.more
    }

    /// Returns whether another read may have something to tell, although the last one was short or
    /// told of nothing.
    pub(crate) fn has_more(&self) -> bool {
        !self.drained || self.has_input()
    }

    /// Returns whether the last read asked below and got less than there was room for.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Returns whether layers send no more before something was read for them: one of them takes no bytes
    /// from above before it has received some, or the reader has been told of the end while output waits.
    /// In the latter case layers at the other end may have words left that below has no room for, and that
    /// end reads nothing either: two such ends would wait for each other.
    pub(crate) fn needs_input(&self) -> bool {
        let starved = self.blocked && self.deadline.is_none() && !self.has_had_all();
        let left_alone = self.ended_told && !self.eof && self.has_output();
        starved || left_alone || self.layered_below().is_some_and(Self::needs_input)
    }

    /// Returns whether the layer is told of no more input.
    pub(super) fn has_had_all(&self) -> bool {
        self.ended || (self.eof_given && !self.more)
    }

    /// Reads once for such layers while the reader above has stopped, for whom the bytes are kept, as far
    /// as [`MAX_FED`]. `WouldBlock`: there is nothing for now.
    pub(crate) fn feed(&mut self) -> io::Result<()> {
        self.drained = false;
        self.unfinished = false;
        let result = if self.is_fed() {
            self.step_aside()
        } else if self.is_full() {
            self.refuse_input()
        } else if self.is_read_past() {
            self.discard()
        } else {
            self.feed_below()
        };
        self.park();
        result
    }

    /// Returns whether the layer itself may be called with input although the reader has stopped.
    fn is_fed(&self) -> bool {
        let is_called = self.open && self.fault.is_none() && !self.left && !self.has_had_all();
        is_called && !self.holds_back() && !self.is_full() && self.plain.len() < MAX_FED
    }

    /// Returns whether nobody wants what is read from below.
    fn is_read_past(&self) -> bool {
        !self.eof && (self.ended || self.fault.is_some() || self.is_given_up())
    }

    /// Returns whether [`feed`](Self::feed) has something to do without asking the socket.
    fn has_food(&self) -> bool {
        if self.is_fed() {
            self.more || self.unasked || !self.unread.is_empty() || self.below_has_input()
        } else if self.is_read_past() {
            self.below_has_input()
        } else {
            self.has_food_below()
        }
    }

    fn has_food_below(&self) -> bool {
        let below = self.layered_below();
        below.is_some_and(|below| below.needs_input() && below.has_food())
    }

    /// As [`step`](Self::step), for a reader that has stopped.
    fn step_aside(&mut self) -> io::Result<()> {
        let mut plain = mem::take(&mut self.plain);
        let (room, mut filled) = (MAX_FED - plain.len(), 0);
        let result = self.step(
            &mut plain.spare(room, &self.shared.clone())[..room],
            &mut filled,
        );
        plain.fill(filled);
        let mut later = mem::replace(&mut self.plain, plain);
        if !later.is_empty() {
            self.plain.push(later.bytes(), &self.shared);
            later.consume(later.len());
        }
        later.park(&self.shared);
        self.discard_plain();
        result
    }

    /// Notes that nobody reads any more: layers that wait for a word are fed whatever comes before it.
    pub(crate) fn lose_reader(&mut self) {
        self.reader_lost = true;
        self.discard_plain();
    }

    fn discard_plain(&mut self) {
        if self.reader_lost {
            self.plain.clear();
        }
    }

    /// Reads, for the layers below, what nobody wants.
    fn discard(&mut self) -> io::Result<()> {
        let mut memory = self.shared.lend();
        let result = self.read_below(&mut memory);
        self.shared.take_back(memory);
        result.map(|_| ())
    }

    pub(super) fn feed_below(&mut self) -> io::Result<()> {
        match self.layered_below_mut() {
            Some(below) if below.needs_input() => below.feed(),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Returns whether the bare socket has been read to its end.
    pub(crate) fn below_has_ended(&self) -> bool {
        self.eof && self.layered_below().is_none_or(Self::below_has_ended)
    }

    /// First what is kept, then the end or the failure behind it, then what below has.
    pub(super) fn read_above(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.plain.is_empty() {
            return Ok(self.plain.move_to(buffer));
        }
        self.read_through(buffer, CALLS_PER_READ)
    }

    /// Calls the layer, `calls` times at most, until it delivers bytes.
    fn read_through(&mut self, buffer: &mut [u8], calls: usize) -> io::Result<usize> {
        for _ in 0..calls {
            // The end of a layer's stream holds also when it leaves.
            if self.ended {
                self.ended_told = true;
                return Ok(0);
            }
            if self.left {
                return self.read_past(buffer);
            }
            if let Some(error) = self.tell_fault() {
                return Err(error);
            }
            if !self.open {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let mut filled = 0;
            self.step(buffer, &mut filled)?;
            if filled > 0 {
                return Ok(filled);
            }
            if !self.is_to_go_on() {
                break;
            }
        }
        self.unfinished = true;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Goes on after the first call, which delivered nothing.
    pub(super) fn read_further(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let calls = if self.is_to_go_on() {
            CALLS_PER_READ - 1
        } else {
            0
        };
        self.read_through(buffer, calls)
    }

    /// A peer that sends only what the layer keeps for itself gets no more than others.
    fn is_to_go_on(&self) -> bool {
        self.drained || self.more
    }

    /// Reads when the layer has left: first what it did not consume.
    fn read_past(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for kept in [&mut self.input, &mut self.unread] {
            if !kept.is_empty() {
                return Ok(kept.move_to(buffer));
            }
        }
        if let Some(error) = self.read_error.take() {
            return Err(error);
        }
        if self.eof {
            return Ok(0);
        }
        let unasked = mem::take(&mut self.unasked);
        let len = self.read_below(buffer)?;
        self.drained &= !unasked || len == 0;
        Ok(len)
    }

    pub(super) fn tell_fault(&mut self) -> Option<io::Error> {
        let fault = self.fault.as_mut()?;
        fault.is_read = true;
        Some(fault.tell())
    }

    /// Calls the layer once with what there is to tell it, and sends what it put out.
    pub(super) fn step(&mut self, buffer: &mut [u8], filled: &mut usize) -> io::Result<()> {
        if self.is_full() {
            return self.refuse_input();
        }
        if mem::take(&mut self.more) {
            self.step_as_asked(buffer, filled);
            return Ok(());
        }
        if self.input.len() > MAX_INPUT {
            let waits = self.wait_for_timer(
                io::ErrorKind::InvalidData,
                "a layer waits for more input than the maximum that is kept for it",
            );
            self.unasked = true;
            return waits.or_else(|_| self.feed_below());
        }
        let unasked = self.unread.is_empty() && mem::take(&mut self.unasked);
        if self.eof {
            let waits = self.step_at_end(buffer, filled);
            return waits.or_else(|_| self.feed_below());
        }
        match self.fill() {
            Ok(0) => return Ok(()),
            // Events of the time in which it was not asked may be forgotten.
            Ok(_) => self.drained &= !unasked,
            Err(error) => {
                self.unasked |= unasked && error.kind() != io::ErrorKind::WouldBlock;
                return Err(self.postponed(error));
            }
        }
        self.call(buffer, filled, |layer, io| layer.receive(io));
        self.fruitless = 0;
        self.send_output();
        Ok(())
    }

    /// The layer has asked for a call without further input.
    #[inline(never)]
    fn step_as_asked(&mut self, buffer: &mut [u8], filled: &mut usize) {
        let before = (self.input.len(), *filled, self.plain.len(), self.wire.len());
        self.call(buffer, filled, |layer, io| layer.receive(io));
        let after = (self.input.len(), *filled, self.plain.len(), self.wire.len());
        self.check_progress(before != after);
        self.send_output();
    }

    /// Below has ended, and the layer has had everything before.
    fn step_at_end(&mut self, buffer: &mut [u8], filled: &mut usize) -> io::Result<()> {
        if !mem::replace(&mut self.eof_given, true) {
            self.call(buffer, filled, |layer, io| layer.input_ended(io));
            self.send_output();
            return Ok(());
        }
        self.wait_for_timer(
            io::ErrorKind::UnexpectedEof,
            "the stream below a layer ended, and the layer did not say what that means",
        )
    }

    /// The layer gets no further input. Without a timer it waits for nothing: it has failed.
    fn wait_for_timer(&mut self, kind: io::ErrorKind, error: &'static str) -> io::Result<()> {
        if self.deadline.is_some() {
            self.drained = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.fail(Fault::new(io::Error::new(kind, error)));
        Ok(())
    }

    /// Keeps an error of below for behind the input that the layer has and wakes up for.
    pub(super) fn postponed(&mut self, error: io::Error) -> io::Error {
        if may_be_over(&error) || self.deadline.is_none() || self.input.is_empty() {
            return error;
        }
        self.read_error = Some(error);
        self.drained = true;
        io::ErrorKind::WouldBlock.into()
    }

    /// Adds input. Returns 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        if let Some(error) = self.read_error.take() {
            return Err(error);
        }
        let Self { input, shared, .. } = self;
        let len = input.len();
        let room = input.spare(SCRATCH - len, shared);
        let result = if self.unread.is_empty() {
            let (room, result) = (room.len(), self.below.read(room));
            self.note_read(room, result)
        } else {
            Ok(self.unread.move_to(room))
        };
        if let Ok(len) = result {
            self.has_read = true;
            self.input.fill(len);
        }
        result
    }

    /// One read from below.
    pub(super) fn read_below(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.below.read(buffer);
        self.note_read(buffer.len(), result)
    }

    /// Notes the result of a read from below, with room for `room` bytes.
    #[inline(always)]
    pub(super) fn note_read(
        &mut self,
        room: usize,
        result: io::Result<usize>,
    ) -> io::Result<usize> {
        if let Ok(len @ 1..) = result {
            self.given += len as u64;
            self.drained = len < room && !self.has_more_below();
            return Ok(len);
        }
        self.note_nothing_read(result)
    }

    #[inline(never)]
    fn note_nothing_read(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(_) => {
                self.eof = true;
                self.drained = true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drained = !self.has_more_below();
                return result;
            }
            Err(error) if may_be_over(error) => return result,
            Err(_) => {}
        }
        // The first error counts. When a write was told of a reset, the kernel tells the next read
        // that the stream has ended.
        self.take_lasting_write_error().map_or(result, Err)
    }

    fn has_more_below(&self) -> bool {
        self.layered_below().is_some_and(Self::has_more)
    }

    fn check_progress(&mut self, progress: bool) {
        if progress || !self.more {
            self.fruitless = 0;
        } else {
            self.fruitless += 1;
        }
        if self.fruitless > MAX_FRUITLESS && self.fault.is_none() {
            let error = "a layer asks for calls and does nothing in them";
            self.fail(Fault::new(io::Error::other(error)));
        }
    }
}
