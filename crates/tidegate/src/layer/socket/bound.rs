//! The bound of a layer's own output: replies, words of its timer, an end.
//!
//! Bytes from above have a bound before they come here, and what stands for them is a batch. A layer that
//! replies to a peer that does not read has none. So while more than a batch of its own waits, it is given
//! no input, and nothing is read for it: the kernel's buffers fill, and the peer stops.
//!
//! Two ends that both do so could wait for each other. So only the one that accepted the connection does,
//! as with the default `pause_writing`. The other reads on, as far as [`MAX_OUTPUT`](crate::layer::io).

use super::LayeredSocket;
use crate::layer::shared::SCRATCH;
use std::io;

/// The number of bytes of its own that may wait for below when a layer is given input: a batch.
pub(in crate::layer) const MAX_OWN: usize = SCRATCH;

impl LayeredSocket {
    /// Has the layer be given input however much of its own output waits.
    pub(crate) fn never_refuse_input(&mut self) {
        self.reads_on = true;
    }

    /// Returns whether output of the layer's own must go before it is given more input. A layer that is
    /// given none any more has no further output: reading past it goes on.
    ///
    /// Output of its own in front of the last byte that stands for bytes from above does not count. It has
    /// a bound all the same: nothing is encoded behind more than [`FULL_WIRE`](super::write::FULL_WIRE), so
    /// all of that lies within a batch and the output of one call.
    pub(super) fn is_full(&self) -> bool {
        let own = self.wire.len().saturating_sub(self.through.waiting());
        let called = !self.is_out_of_use() && !self.ended;
        own > MAX_OWN && called && !self.reads_on && !self.cut_off && !self.sent_end
    }

    /// Returns what the bare socket has had no room for, to be sent after the end of a connection of which
    /// a layer has failed. `None`: the peer will miss output. It is more than a batch, which is the most that
    /// is kept for that, or a part of it waits for a layer below, or for what goes past it.
    pub(crate) fn last_words(&self) -> Option<Vec<u8>> {
        if let Some(below) = self.layered_below() {
            return below.last_words().filter(|_| self.wire.is_empty());
        }
        let nothing_before = self.past == 0 && !self.cut_off;
        let kept = self.wire.is_empty() || (nothing_before && self.wire.len() <= MAX_OWN);
        kept.then(|| self.wire.bytes().to_vec())
    }

    /// Reads nothing for a layer that is full, but for those below: one of them may wait for a word
    /// before it takes the output.
    pub(super) fn refuse_input(&mut self) -> io::Result<()> {
        // Another read asks, once there is room, whatever this one tells of.
        self.drained = true;
        self.unasked = true;
        self.feed_below()
    }
}
