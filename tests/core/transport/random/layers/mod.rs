//! The layers of the random connections, and what the peer has in their place.

mod ours;
mod theirs;
mod tls;

pub(crate) use ours::{Alive, Ours};
pub(crate) use theirs::{Theirs, theirs};

use support::Rng;

/// A layer, as it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerKind {
    /// Puts bytes into frames, and has an end of its own. With a hello it opens when the peer's has
    /// come.
    Frames {
        hello: bool,
    },
    /// Takes and delivers at most this many bytes at a time.
    Little(usize),
    /// Rests now and then, in both directions, until its timer wakes it.
    Slow(u64),
    /// Passes this many bytes, of both directions together, and leaves.
    Leaves(usize),
    /// Sends and reads a line of this length, and leaves.
    Header(usize),
    Tls {
        old: bool,
    },
}

impl LayerKind {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        match rng.below(10) {
            0..3 => Self::Frames {
                hello: rng.percent(50),
            },
            3 | 4 => Self::Little([50, 1_000, 5_000][rng.below(3)]),
            5 => Self::Slow(rng.any()),
            6 => Self::Leaves([0, 1, 100, 10_000][rng.below(4)]),
            7 => Self::Header(rng.below(100)),
            _ => Self::Tls {
                old: rng.percent(25),
            },
        }
    }

    /// Whether every byte that the peer has of it is counted as sent, when it stands alone: nothing
    /// of a piece is there before all of it is.
    pub(crate) fn is_exact(self) -> bool {
        matches!(self, Self::Frames { .. } | Self::Tls { .. })
    }
}
