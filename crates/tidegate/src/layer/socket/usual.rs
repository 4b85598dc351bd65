//! The usual read and write: nothing waits, and the layer puts out bytes and nothing else.
//!
//! A socket on which nothing waits is quiet. Whether it is, is looked up at the end of each call, and
//! kept as a flag for the transport and for the next call. The usual read and write leave it quiet
//! without another look; what they meet beside that goes the general way.

use super::LayeredSocket;
use crate::layer::pieces::PIECE;
use std::io::{self, IoSlice};

impl LayeredSocket {
    /// Returns whether all layers wait for the next read or write, and for nothing else: no input, no
    /// output, no end, no timer, no word of a layer. `false` tells nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        debug_assert!(!self.quiet || self.looks_quiet(), "{self:?}");
        self.quiet
    }

    /// Stands for many questions. So it has no branch for each condition.
    pub(super) fn looks_quiet(&self) -> bool {
        let said = self.more | self.ended | self.ending | self.left;
        let waits = self.blocked | self.stopped | self.refused;
        let went_on = !self.open_told | self.unfinished | self.unasked | self.eof;
        let failed = self.fault.is_some() | self.read_error.is_some() | self.write_error.is_some();
        let bytes = !self.unread.is_empty()
            | !self.wire.is_empty()
            | !self.through.is_settled()
            | (self.past > 0);
        !(said | waits | went_on | failed | bytes | self.deadline.is_some())
            && self.holds_no_input()
            && self.below_is_quiet()
    }

    /// Returns whether a quiet socket has stayed so, but for its output. Words of a layer, and its
    /// failure, have cleared the flag.
    #[inline(always)]
    fn stays_quiet(&self) -> bool {
        self.quiet && self.holds_no_input() && self.below_is_quiet()
    }

    fn holds_no_input(&self) -> bool {
        self.input.is_empty() & self.plain.is_empty()
    }

    pub(super) fn below_is_quiet(&self) -> bool {
        self.layered_below().is_none_or(Self::is_quiet)
    }

    /// A read when it is quiet.
    #[inline(always)]
    pub(super) fn read_quiet(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        let memory = self.input.take_memory(&self.shared);
        let (room, result) = (memory.len(), self.below.read(memory));
        let input = self.note_read(room, result);
        if let Ok(len @ 1..) = input {
            self.input.fill(len);
            self.call_quiet(buffer, &mut filled, |layer, io| layer.receive(io));
            if filled > 0 && self.stays_quiet() && self.wire.is_empty() {
                self.input.give_back(&self.shared);
                return Ok(filled);
            }
        }
        self.read_on(buffer, filled, input)
    }

    /// Goes on with a read that is not the usual one, behind its first step.
    #[inline(never)]
    fn read_on(
        &mut self,
        buffer: &mut [u8],
        filled: usize,
        input: io::Result<usize>,
    ) -> io::Result<usize> {
        let result = match input {
            Err(error) => Err(self.postponed(error)),
            Ok(_) => {
                self.send_output();
                if filled > 0 {
                    Ok(filled)
                } else {
                    self.read_further(buffer)
                }
            }
        };
        self.park();
        result
    }

    /// Returns the bytes of a write as the usual write takes them, when it is quiet.
    #[inline(always)]
    pub(super) fn usual_piece<'s>(&self, slices: &'s [IoSlice<'_>]) -> Option<&'s [u8]> {
        match slices {
            [piece] if self.is_quiet() && (1..=PIECE).contains(&piece.len()) => Some(piece),
            _ => None,
        }
    }

    /// A write of one piece when it is quiet.
    #[inline(always)]
    pub(super) fn write_quiet(&mut self, piece: &[u8]) -> io::Result<usize> {
        let taken = self.call_quiet(&mut [], &mut 0, |layer, io| layer.send(piece, io));
        if taken == Some(piece.len()) && !self.wire.is_empty() {
            let waiting = self.wire.len();
            let result = self.below.write(&[IoSlice::new(self.wire.bytes())]);
            let is_out = matches!(result, Ok(sent) if sent == waiting);
            if is_out && self.stays_quiet() {
                self.taken += waiting as u64;
                self.wire.clear();
                self.wire.give_back(&self.shared);
                return Ok(piece.len());
            }
            self.note_sent(result);
        }
        self.write_on(piece, taken)
    }

    /// Goes on with a write that is not the usual one, behind the call of the layer.
    #[inline(never)]
    fn write_on(&mut self, piece: &[u8], taken: Option<usize>) -> io::Result<usize> {
        let taken = self.note_given(piece, taken);
        self.through.encode(taken, self.wire.len(), &self.shared);
        let result = if taken == piece.len() {
            if self.wire.is_empty() {
                self.send_below();
            }
            self.result_of_write(0, taken)
        } else {
            self.write_from_above(&[IoSlice::new(piece)])
        };
        self.park();
        result
    }
}
