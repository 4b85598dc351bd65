//! Writing: bytes from above through the layer, and what stands for them to below.

use super::LayeredSocket;
use crate::layer::buffer::Buffer;
use crate::layer::fault::{Fault, may_be_over};
use crate::layer::pieces::{PIECE, Pieces};
use crate::layer::shared::SCRATCH;
use crate::write_buffer::{MAX_OFFER, MAX_SLICES, Offer};
use std::io::{self, IoSlice};

/// No further piece is encoded when this many bytes wait for below: so that what does not stand in
/// the way of a large piece fits in the memory that is lent. 1 KiB is for what a layer adds to a
/// piece; TLS adds 22 bytes (RFC 8446, 5.2).
pub(in crate::layer) const FULL_WIRE: usize = SCRATCH - PIECE - 1024;

/// The result of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// Below refused some.
    Part,
    /// There is an error.
    Failed,
}

impl LayeredSocket {
    /// Takes the error that a write met behind the bytes that it returned. To be asked after each
    /// write that took fewer bytes than it was offered.
    pub(crate) fn take_write_error(&mut self) -> Option<io::Error> {
        let opening = self.is_opening();
        let error = self
            .write_error
            .take_if(|error| !opening || may_be_over(error));
        if error.is_some() || opening {
            return error;
        }
        let fault = self.fault.as_mut().filter(|fault| !fault.is_told())?;
        Some(fault.tell())
    }

    /// Returns whether a write or a flush has something to tell, or one of them or the
    /// [end](LayeredSocket::end) may go on, although no event told of room.
    pub(crate) fn wants_write(&self) -> bool {
        self.goes_on(true) || self.is_idle()
    }

    /// Returns whether nothing waits, neither for the bare socket nor for a layer. It may have waited:
    /// what goes out with a read is told by no event.
    fn is_idle(&self) -> bool {
        let own = self.wire.is_empty() && !self.stopped && !self.refused;
        own && self.layered_below().is_none_or(Self::is_idle)
    }

    /// `fed`: there may be bytes from above that wait for this layer.
    fn goes_on(&self, fed: bool) -> bool {
        if self.has_lasting_write_error() {
            // Nothing goes below any more, and no writer is told of what is there.
            return self.has_error_to_tell();
        }
        let waiting = self.past > 0 || !self.wire.is_empty() || (fed && self.left);
        let below = || self.layered_below().is_some_and(|it| it.goes_on(waiting));
        let own = fed && (self.through.has_credit() || self.may_resume());
        own || self.has_error_to_tell() || below()
    }

    /// Returns whether a write or a flush would tell of an error that sending met.
    fn has_error_to_tell(&self) -> bool {
        let error = self.write_error.as_ref();
        error.is_some_and(|error| !self.is_opening() || may_be_over(error))
    }

    /// Returns whether bytes that waited for the layer, and not for below, need not wait any more.
    fn may_resume(&self) -> bool {
        let takes = self.wire.is_empty() && (self.left || self.may_encode());
        self.stopped && (takes || (self.open && self.has_untold_fault()))
    }

    /// Returns the number of bytes that layers have put out, and that below has not taken.
    pub(crate) fn waiting_output(&self) -> usize {
        self.wire.len() + self.layered_below().map_or(0, Self::waiting_output)
    }

    /// Returns whether layers have output that waits for no write of the protocol, or an error that
    /// sending it met.
    pub(crate) fn has_output(&self) -> bool {
        let own = if self.has_lasting_write_error() {
            !self.is_opening()
        } else {
            self.past == 0 && !self.wire.is_empty()
        };
        own || self.has_unread_fault() || self.layered_below().is_some_and(Self::has_output)
    }

    /// Returns whether nobody but a writer would be told of a failure: the reader has been told of
    /// the end.
    fn has_unread_fault(&self) -> bool {
        self.ended_told && self.has_untold_fault()
    }

    fn has_untold_fault(&self) -> bool {
        let fault = self.fault.as_ref();
        fault.is_some_and(|fault| !fault.is_told())
    }

    /// Sends the output of the layers. `Ok`: all of it is out.
    pub(crate) fn flush_output(&mut self) -> io::Result<()> {
        self.forget_brief_error();
        let sent = self.send_wire();
        self.park();
        match sent {
            Sent::Failed => Err(self.failed()),
            Sent::Part => Err(io::ErrorKind::WouldBlock.into()),
            Sent::All if self.has_unread_fault() => Err(self.failed()),
            Sent::All => Ok(()),
        }
    }

    /// First what is to go past the layer, then what waits for below, then what is new.
    pub(super) fn write_from_above(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pieces = Pieces::of(slices);
        if pieces.left() == 0 {
            return Ok(0);
        }
        self.forget_brief_error();
        self.refused = false;
        let mut gone = 0;
        while self.past > 0 && pieces.left() > 0 && self.write_error.is_none() {
            let limit = usize::try_from(self.past).unwrap_or(usize::MAX);
            let (sent, all) = self.write_past(&pieces, limit);
            self.past -= sent as u64;
            gone += sent;
            pieces.skip(sent);
            if !all {
                break;
            }
        }
        let rest = pieces.left();
        if self.past == 0 && self.write_error.is_none() {
            pieces.skip(self.through.encoded().min(rest));
            self.write_through(&mut pieces);
        }
        self.stopped = pieces.left() > 0 && !self.refused;
        self.result_of_write(gone, rest)
    }

    /// `gone` bytes went past the layer, and `rest` were offered to it.
    pub(super) fn result_of_write(&mut self, gone: usize, rest: usize) -> io::Result<usize> {
        let gone = gone + self.through.tell(rest);
        if gone > 0 {
            return Ok(gone);
        }
        Err(self.failed())
    }

    /// Offers what goes past the layer. Returns what below took, and whether that was all.
    fn write_past(&mut self, pieces: &Pieces<'_>, limit: usize) -> (usize, bool) {
        let mut offer = Offer::<MAX_SLICES>::new(limit.min(MAX_OFFER));
        for slice in pieces.rest(limit) {
            offer.push(slice);
        }
        let sent = self.write_below(offer.slices());
        self.refused = sent < offer.bytes();
        (sent, !self.refused)
    }

    /// Encodes and sends until below refuses, the layer takes no more, or everything is sent.
    fn write_through(&mut self, pieces: &mut Pieces<'_>) {
        loop {
            let before = (pieces.left(), self.taken);
            self.encode(pieces);
            if self.send_own() != Sent::All {
                return;
            }
            if self.left && pieces.left() > 0 {
                let (sent, all) = self.write_past(pieces, usize::MAX);
                self.through.pass(sent);
                pieces.skip(sent);
                if !all {
                    return;
                }
            }
            // Below may have made room for what was not encoded as long as too much waited.
            if (pieces.left(), self.taken) == before || pieces.left() == 0 {
                // It may be more than the bytes from above that waits below.
                self.send_below();
                return;
            }
        }
    }

    /// Has the layer send until enough waits for below.
    fn encode(&mut self, pieces: &mut Pieces<'_>) {
        let mut gather = Buffer::default();
        let shared = self.shared.clone();
        while pieces.left() > 0 && self.may_encode() {
            let piece = pieces.next(&mut gather, &shared);
            let mut taken = 0;
            while taken < piece.len() && self.may_encode() {
                let len = self.encode_piece(&piece[taken..]);
                if len == 0 {
                    break;
                }
                taken += len;
            }
            let blocked = taken == 0;
            pieces.skip(taken);
            if blocked {
                break;
            }
        }
        gather.clear();
        gather.park(&shared);
    }

    fn may_encode(&self) -> bool {
        self.open
            && !self.ending
            && !self.left
            && !self.blocked
            && self.fault.is_none()
            && self.wire.len() <= FULL_WIRE
            && !self.through.is_full()
    }

    /// Returns the number of bytes that the layer took.
    fn encode_piece(&mut self, piece: &[u8]) -> usize {
        let taken = self.call_aside(|layer, io| layer.send(piece, io));
        let taken = self.note_given(piece, taken);
        self.through.encode(taken, self.wire.len(), &self.shared);
        taken
    }

    /// Notes what the layer took of a piece, if it has not failed. Returns it.
    pub(super) fn note_given(&mut self, piece: &[u8], taken: Option<usize>) -> usize {
        let Some(taken) = taken else {
            return 0;
        };
        if taken > piece.len() {
            let error = io::Error::other("a layer took more bytes than it was given");
            self.fail(Fault::new(error));
            return 0;
        }
        self.blocked = taken == 0;
        if taken == 0 && self.deadline.is_none() && self.has_had_all() {
            let error = "a layer waits for a word of a peer that has ended its stream";
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, error);
            self.fail(Fault::new(error));
        }
        taken
    }

    /// Sends what a call of the layer put out, unless that is to wait. A flush tells of an error.
    #[inline]
    pub(super) fn send_output(&mut self) {
        if !self.wire.is_empty() && self.write_error.is_none() {
            self.send_wire();
        }
    }

    /// Offers what waits for below, and behind it what the layers below have put out.
    pub(super) fn send_wire(&mut self) -> Sent {
        match self.send_own() {
            Sent::All => self.send_below(),
            sent => sent,
        }
    }

    fn send_own(&mut self) -> Sent {
        if self.past > 0 && !self.wire.is_empty() {
            return Sent::Part;
        }
        while !self.wire.is_empty() && self.write_error.is_none() {
            let result = self.below.write(&[IoSlice::new(self.wire.bytes())]);
            if !self.note_sent(result) {
                break;
            }
        }
        if self.write_error.is_some() {
            Sent::Failed
        } else if self.wire.is_empty() {
            Sent::All
        } else {
            Sent::Part
        }
    }

    pub(super) fn send_below(&mut self) -> Sent {
        let below = self.layered_below_mut().filter(|below| below.has_output());
        match below.map_or(Ok(()), Self::flush_output) {
            Ok(()) => Sent::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Part,
            Err(error) => {
                self.keep_write_error(error);
                Sent::Failed
            }
        }
    }

    /// Offers bytes to below, and keeps an error. Returns what below took.
    fn write_below(&mut self, slices: &[IoSlice<'_>]) -> usize {
        let result = self.below.write(slices);
        self.note_written(slices.iter().map(|slice| slice.len()).sum(), result)
    }

    /// Notes the result of a write that was offered all output. Returns whether below took all.
    pub(super) fn note_sent(&mut self, result: io::Result<usize>) -> bool {
        let sent = self.note_written(self.wire.len(), result);
        let all = sent == self.wire.len();
        self.wire.consume(sent);
        self.through.take(sent);
        all
    }

    /// Notes the result of a write to below that was offered `offered` bytes. Returns what below took.
    fn note_written(&mut self, offered: usize, result: io::Result<usize>) -> usize {
        match result {
            Ok(sent) => {
                self.taken += sent as u64;
                if sent < offered
                    && let Some(below) = self.layered_below_mut()
                    && let Some(error) = below.take_write_error()
                {
                    self.keep_write_error(error);
                }
                sent
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.keep_write_error(error);
                }
                0
            }
        }
    }

    fn keep_write_error(&mut self, error: io::Error) {
        self.cut_off |= !may_be_over(&error);
        self.write_error = Some(error);
    }

    /// Returns the result of a call that has nothing else to tell.
    ///
    /// While the layer opens, failures are kept for `advance`, which first reads what the peer has
    /// said.
    pub(super) fn failed(&mut self) -> io::Error {
        let error = self.take_write_error();
        error.unwrap_or_else(|| match &mut self.fault {
            Some(fault) if self.open || self.ending => fault.tell(),
            _ => io::ErrorKind::WouldBlock.into(),
        })
    }

    pub(super) fn has_lasting_write_error(&self) -> bool {
        self.write_error
            .as_ref()
            .is_some_and(|error| !may_be_over(error))
    }

    pub(super) fn take_lasting_write_error(&mut self) -> Option<io::Error> {
        self.write_error.take_if(|error| !may_be_over(error))
    }

    /// An error that may be over by now is not told; below tells it again, if it is not.
    pub(super) fn forget_brief_error(&mut self) {
        self.write_error.take_if(|error| may_be_over(error));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::driver::{Socket, StreamSocket};
    use crate::layer::testing::dice::Dice;
    use crate::layer::testing::layers::Identity;
    use crate::layer::testing::line::{Rates, line};
    use crate::layer::{Layer, LayerIo, Shared};
    use std::time::Instant;

    #[test]
    fn a_write_goes_on_when_below_takes_what_was_too_much_to_encode_more() {
        let (end, _peer) = line(0, Rates::default(), &Dice::new(0));
        let shared = Shared::new(Instant::now);
        let below = Socket::foreign(end.clone());
        let mut socket = LayeredSocket::new(below, Box::new(Identity), Vec::new(), 0, shared);
        socket.advance().unwrap();
        let data = vec![1; 3 * FULL_WIRE];
        let write = |socket: &mut LayeredSocket| socket.write(&[IoSlice::new(&data)]);
        let refused = write(&mut socket).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        end.set_capacity(usize::MAX);
        // A short count would mean that below has refused bytes.
        assert_eq!(write(&mut socket).unwrap(), data.len());
        assert_eq!(end.sent(), data);
    }

    /// Takes the first byte for the end.
    struct EndsAtOnce;

    impl Layer for EndsAtOnce {
        fn receive(&mut self, io: &mut LayerIo<'_>) -> crate::Result {
            let len = io.input().len();
            io.consume(len);
            io.end_of_stream();
            Ok(())
        }

        fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> crate::Result<usize> {
            Identity.send(data, io)
        }
    }

    #[test]
    fn words_behind_the_end_of_the_stream_are_read_when_output_waits() {
        let (end, mut peer) = line(10, Rates::default(), &Dice::new(0));
        let shared = Shared::new(Instant::now);
        let mut socket = LayeredSocket::new(
            Socket::foreign(end),
            Box::new(EndsAtOnce),
            Vec::new(),
            0,
            shared,
        );
        socket.advance().unwrap();
        let ten = [IoSlice::new(&[1; 10])];
        peer.write(&ten).unwrap();
        assert_eq!(socket.read(&mut [0; 10]).unwrap(), 0);
        socket.write(&ten).unwrap();
        peer.write(&ten).unwrap();
        // Each direction is full now.
        peer.write(&ten).unwrap_err();
        socket.write(&ten).unwrap_err();
        assert!(socket.needs_input());
        socket.feed().unwrap();
        peer.write(&ten).unwrap();
    }
}
