//! A layer's view of the bytes around it.

use super::buffer::Buffer;
use super::shared::{SCRATCH, Shared};
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// The maximum number of delivered bytes that wait for the reader above: eight times what a layer has
/// as input. A layer that makes more of its input stops at [`LayerIo::room`].
pub(super) const MAX_PLAIN: usize = 8 * SCRATCH;

/// The maximum number of bytes that wait for below: of one call that begins with nothing waiting it is
/// the most output. As much as may wait for the reader above.
pub(super) const MAX_OUTPUT: usize = MAX_PLAIN;

/// One call of a layer.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Shared,
    /// A use of its [`LayerIo`] that a layer must not make.
    misuse: Cell<Option<&'static str>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            misuse: Cell::new(None),
        }
    }

    fn is_misused(&self) -> bool {
        self.misuse.get().is_some()
    }

    fn note_misuse(&self, misuse: &'static str) {
        self.misuse.set(Some(misuse));
    }

    pub(super) fn misuse(&self) -> Option<&'static str> {
        self.misuse.get()
    }
}

/// The bytes around a layer, and what it can say about the connection.
pub struct LayerIo<'a> {
    pub(super) input: &'a mut [u8],
    pub(super) consumed: usize,
    pub(super) above: Above<'a>,
    pub(super) below: Below<'a>,
    pub(super) said: Said,
    pub(super) deadline: &'a mut Option<Instant>,
    pub(super) call: &'a Call<'a>,
}

/// The words of a layer in one call, as a set.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Said(u8);

impl Said {
    pub(super) const OPEN: Self = Self(1);
    pub(super) const END_OF_STREAM: Self = Self(2);
    pub(super) const LEAVE: Self = Self(4);
    pub(super) const MORE: Self = Self(8);
    pub(super) const WAKE_AFTER: Self = Self(16);

    fn add(&mut self, word: Self) {
        self.0 |= word.0;
    }

    pub(super) fn has(self, word: Self) -> bool {
        self.0 & word.0 != 0
    }

    pub(super) fn is_nothing(self) -> bool {
        self.0 == 0
    }
}

impl LayerIo<'_> {
    /// Returns the bytes from below that were not consumed yet. They may be changed in place.
    pub fn input(&mut self) -> &mut [u8] {
        &mut self.input[self.consumed..]
    }

    /// Removes the first `len` bytes of the input. More than there are is an error of the layer.
    pub fn consume(&mut self, len: usize) {
        let left = self.input.len() - self.consumed;
        if len > left {
            self.call
                .note_misuse("a layer consumed more input than there is");
        }
        self.consumed += len.min(left);
    }

    /// Hands bytes to the reader above.
    pub fn deliver(&mut self, data: &[u8]) {
        self.above.deliver(data);
    }

    /// Returns the number of bytes that the reader above has room for.
    pub fn room(&self) -> usize {
        self.above.room()
    }

    /// Sends bytes below. A maximum of 1 MiB waits there: see [the contract](super::Layer#the-contract).
    pub fn send(&mut self, data: &[u8]) {
        self.below.send(data);
    }

    /// Returns the input and both directions at a time, for code that makes output of borrowed input.
    pub fn parts(&mut self) -> (&mut [u8], Above<'_>, Below<'_>) {
        (
            &mut self.input[self.consumed..],
            self.above.reborrow(),
            self.below.reborrow(),
        )
    }

    /// Opens the layer: bytes of the protocol may go through it from now on.
    pub fn open(&mut self) {
        self.said.add(Said::OPEN);
    }

    /// Ends the stream to above, behind what was delivered. Bytes that are delivered later, and input that
    /// comes later, are ignored, also when the layer [leaves](Self::leave) in this call or later.
    pub fn end_of_stream(&mut self) {
        self.said.add(Said::END_OF_STREAM);
        self.above.has_ended = true;
    }

    /// Leaves the connection. The input that is not consumed goes above as it is, and so does
    /// everything after it. Bytes from above go below as they are.
    ///
    /// An [end of the stream](Self::end_of_stream) to above holds: input is ignored then. A layer that
    /// returns an error in the same call has failed, and has not left.
    pub fn leave(&mut self) {
        self.said.add(Said::LEAVE);
    }

    /// Asks for another call of [`receive`](super::Layer::receive) although no more input has come.
    pub fn more(&mut self) {
        self.said.add(Said::MORE);
    }

    /// Starts the layer's timer, in place of one that runs already.
    ///
    /// The timer calls once in a tick of the loop at most, after a delay of zero too. A layer that
    /// starts it anew without a delay in each call keeps the loop from sleeping, and holds up nobody.
    pub fn wake_after(&mut self, delay: Duration) {
        self.said.add(Said::WAKE_AFTER);
        *self.deadline = self.call.shared.now().checked_add(delay);
    }

    /// Returns the time of the loop's clock.
    pub fn now(&self) -> Instant {
        self.call.shared.now()
    }
}

/// The way to the reader above a layer.
pub struct Above<'a> {
    /// Where the reader wants the bytes, and the number of bytes there.
    pub(super) buffer: &'a mut [u8],
    pub(super) filled: &'a mut usize,
    /// For what the reader has no room for.
    pub(super) kept: &'a mut Buffer,
    /// The stream to above has ended.
    pub(super) has_ended: bool,
    pub(super) call: &'a Call<'a>,
}

impl Above<'_> {
    /// Hands bytes to the reader.
    #[inline(always)]
    pub fn deliver(&mut self, data: &[u8]) {
        if self.has_ended {
            return;
        }
        let room = self.room();
        let free = &mut self.buffer[*self.filled..];
        *self.filled += data.len().min(room);
        if data.len() <= room {
            free[..data.len()].copy_from_slice(data);
        } else {
            deliver_and_keep(data, &mut free[..room], self.kept, self.call);
        }
    }

    /// Returns the number of bytes that the reader has room for. Bytes that are delivered beyond wait in
    /// memory.
    pub fn room(&self) -> usize {
        if self.kept.is_empty() && !self.has_ended {
            self.buffer.len() - *self.filled
        } else {
            0
        }
    }

    fn reborrow(&mut self) -> Above<'_> {
        Above {
            buffer: self.buffer,
            filled: self.filled,
            kept: self.kept,
            has_ended: self.has_ended,
            call: self.call,
        }
    }
}

/// Delivers what there is room for, and keeps the rest.
#[inline(never)]
fn deliver_and_keep(data: &[u8], room: &mut [u8], kept: &mut Buffer, call: &Call<'_>) {
    let (now, later) = data.split_at(room.len());
    room.copy_from_slice(now);
    if kept.len() + later.len() > MAX_PLAIN {
        call.note_misuse("a layer delivered far more than there was room for");
    } else {
        kept.push(later, call.shared);
    }
}

/// Returns whether `len` bytes more may wait for below, beside those that are `held`.
#[cold]
#[inline(never)]
fn may_hold(held: usize, len: usize, call: &Call<'_>) -> bool {
    let may = held.saturating_add(len) <= MAX_OUTPUT;
    if !may {
        call.note_misuse("a layer sent far more than below has taken");
    }
    may
}

/// The way below a layer.
pub struct Below<'a> {
    pub(super) wire: &'a mut Buffer,
    pub(super) call: &'a Call<'a>,
}

impl Below<'_> {
    /// Sends bytes. A maximum of 1 MiB waits here: see [the contract](super::Layer#the-contract).
    pub fn send(&mut self, data: &[u8]) {
        let has_place =
            self.wire.has_place(data.len()) || may_hold(self.wire.len(), data.len(), self.call);
        // Behind a part that was refused nothing is sent: the peer would not see the hole.
        if has_place && !self.call.is_misused() {
            self.wire.push(data, self.call.shared);
        }
    }

    /// Returns room for at least `len` bytes, to write output into directly. Its content is not
    /// sent before [`filled`](Below::filled) is called.
    #[inline(always)]
    pub fn spare(&mut self, len: usize) -> &mut [u8] {
        let call = self.call;
        self.wire.spare_or_grow(len, call.shared, |held| {
            // A layer that has failed by that gets its room all the same, and nothing in it is sent.
            may_hold(held, len, call);
        })
    }

    /// Sends the first `len` bytes of the [`spare`](Below::spare) room. More than there are is an
    /// error of the layer.
    pub fn filled(&mut self, len: usize) {
        if !self.call.is_misused() && !self.wire.fill(len) {
            self.call
                .note_misuse("a layer filled more of its output than there was room");
        }
    }

    fn reborrow(&mut self) -> Below<'_> {
        Below {
            wire: self.wire,
            call: self.call,
        }
    }
}

impl fmt::Debug for LayerIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerIo")
            .field("input", &(self.input.len() - self.consumed))
            .field("above", &self.above)
            .field("below", &self.below)
            .field("said", &self.said)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Above<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Above")
            .field("room", &self.room())
            .field("kept", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Below<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Below")
            .field("to_send", &self.wire.len())
            .finish_non_exhaustive()
    }
}
