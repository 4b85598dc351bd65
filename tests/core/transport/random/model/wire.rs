//! The peer's end of the layers: what the peer has said, and what its bytes are.

use crate::transport::random::layers::{LayerKind, Theirs, theirs};
use std::fmt;
use std::mem;

/// The maximum number of bytes that a layer is given at a time.
const PIECE: u64 = 16 * 1024;

/// The maximum number of bytes that wait in a layer.
const BATCH: u64 = 128 * 1024;

/// The counterpart of one layer.
struct Level {
    kind: LayerKind,
    theirs: Box<dyn Theirs>,
    /// The place in our stream from which on it is there: known when our layer is put on.
    from: Option<u64>,
    /// Ours has opened.
    is_open: bool,
}

/// From the wire up.
#[derive(Default)]
pub(crate) struct Wire {
    levels: Vec<Level>,
    /// The number of bytes of the socket that were decoded.
    fed: usize,
    /// Our bytes.
    received: Vec<u8>,
    /// Bytes for the socket.
    pub(crate) output: Vec<u8>,
    end_is_due: bool,
    end_was_put_out: bool,
    /// The peer has ended its stream, with all of its words before.
    pub(crate) is_shut: bool,
    /// The peer left with bytes that it had not sent.
    pub(crate) is_cut: bool,
}

impl Wire {
    /// Adds the counterpart of a layer: from now on the peer's bytes go through it.
    pub(crate) fn add(&mut self, kind: LayerKind, accepts: bool) -> usize {
        let level = self.levels.len();
        self.levels.push(Level {
            kind,
            theirs: theirs(kind, accepts),
            from: None,
            is_open: false,
        });
        let mut words = Vec::new();
        self.levels[level].theirs.start(&mut words);
        self.send_below(level, words);
        level
    }

    /// Our layer was put on, at this place of our stream.
    pub(crate) fn place(&mut self, level: usize, from: u64) {
        self.levels[level].from = Some(from);
    }

    pub(crate) fn opened(&mut self, level: usize) {
        self.levels[level].is_open = true;
    }

    pub(crate) fn all_are_open(&mut self) {
        for level in &mut self.levels {
            level.is_open = true;
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.levels.is_empty()
    }

    /// Returns our bytes that the peer has received.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Sends bytes of the peer.
    pub(crate) fn send(&mut self, data: &[u8]) {
        self.send_below(self.levels.len(), data.to_vec());
    }

    fn send_below(&mut self, level: usize, mut data: Vec<u8>) {
        for below in self.levels[..level].iter_mut().rev() {
            let mut words = Vec::new();
            if !data.is_empty() {
                below.theirs.encode(data, &mut words);
            }
            data = words;
        }
        self.output.append(&mut data);
    }

    /// Takes all that the socket has given so far.
    pub(crate) fn feed(&mut self, socket: &[u8]) -> Result<(), String> {
        let new = socket[self.fed..].to_vec();
        self.fed = socket.len();
        self.rise(0, new)
    }

    fn rise(&mut self, at: usize, mut data: Vec<u8>) -> Result<(), String> {
        if data.is_empty() {
            return Ok(());
        }
        let got = self.received.len() as u64;
        let from = self.levels.get(at).and_then(|level| level.from);
        let Some(from) = from else {
            self.received.append(&mut data);
            return Ok(());
        };
        if got < from {
            let before = usize::try_from(from - got).unwrap_or(usize::MAX);
            let rest = data.split_off(before.min(data.len()));
            self.received.append(&mut data);
            return self.rise(at, rest);
        }
        let mut words = Vec::new();
        let above = self.levels[at].theirs.decode(data, &mut words);
        self.send_below(at, words);
        self.rise(at + 1, above?)
    }

    /// The peer ends its stream, when its layers can.
    pub(crate) fn end(&mut self) {
        self.end_is_due = true;
    }

    fn is_ready(&self) -> bool {
        self.levels.iter().all(|level| level.theirs.is_ready())
    }

    /// Puts the end of the stream out, if it is due. Returns whether it was put out.
    pub(crate) fn put_out_end(&mut self) -> bool {
        if self.end_is_due && self.is_ready() && !mem::replace(&mut self.end_was_put_out, true) {
            for level in (0..self.levels.len()).rev() {
                let mut words = Vec::new();
                self.levels[level].theirs.end(&mut words);
                self.send_below(level, words);
            }
        }
        self.end_was_put_out
    }

    /// The peer leaves.
    pub(crate) fn leave(&mut self) {
        self.is_cut = !self.output.is_empty() || !self.is_ready();
        self.output.clear();
    }

    /// Whether a layer of ours needs an end of its own, without which the stream was cut.
    pub(crate) fn tells_cuts(&self) -> bool {
        let mut on = self.levels.iter().filter(|level| level.from.is_some());
        on.any(|level| level.theirs.saw_end().is_some())
    }

    /// Whether our stream has ended in every layer that was open and has an end.
    pub(crate) fn saw_all_ends(&self) -> bool {
        let mut open = self.levels.iter().filter(|level| level.is_open);
        open.all(|level| level.theirs.saw_end() != Some(false))
    }

    /// Whether a layer of ours may not be open.
    pub(crate) fn is_opening(&self) -> bool {
        let mut on = self.levels.iter().filter(|level| level.from.is_some());
        on.any(|level| !level.is_open)
    }

    pub(crate) fn saw_an_end(&self) -> bool {
        let mut levels = self.levels.iter();
        levels.any(|level| level.theirs.saw_end() == Some(true))
    }

    /// Returns by how much more the peer may have received than was counted as sent. Bytes count when
    /// all that stands for the piece in which a layer got them is sent. Bytes that were sent while
    /// something was read count with the next write: in the same tick, unless its budget is spent.
    pub(crate) fn slack(&self, is_settled: bool) -> u64 {
        let batch = if is_settled { 0 } else { BATCH };
        match &self.levels[..] {
            [] => 0,
            [only] if only.kind.is_exact() => batch,
            levels => levels.len() as u64 * (PIECE + batch),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = self.levels.iter();
        let levels: Vec<_> = levels
            .map(|level| {
                (
                    level.kind,
                    level.from,
                    level.is_open,
                    level.theirs.saw_end(),
                )
            })
            .collect();
        f.debug_struct("Wire")
            .field("levels", &levels)
            .field("received", &self.received.len())
            .field("output", &self.output.len())
            .finish_non_exhaustive()
    }
}
