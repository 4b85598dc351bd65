//! Numbers that follow from a seed.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// Clones go on with the same numbers.
#[derive(Debug, Clone)]
pub(in crate::layer) struct Dice {
    seed: u64,
    rolled: Rc<Cell<u64>>,
}

impl Dice {
    pub(in crate::layer) fn new(seed: u64) -> Self {
        let rolled = Rc::default();
        Self { seed, rolled }
    }

    /// Returns a number below `limit`, and 0 if that is 0.
    pub(in crate::layer) fn below(&self, limit: usize) -> usize {
        let rolled = self.rolled.get();
        self.rolled.set(rolled + 1);
        let mut hasher = DefaultHasher::new();
        (self.seed, rolled).hash(&mut hasher);
        (hasher.finish() % limit.max(1) as u64) as usize
    }

    /// Returns true in that many of 256 calls.
    pub(in crate::layer) fn strikes(&self, rate: u8) -> bool {
        rate > 0 && self.below(256) < usize::from(rate)
    }

    /// Returns a size of at least 1 and at most `most`, mostly a small one.
    pub(in crate::layer) fn size(&self, most: usize) -> usize {
        let most = match self.below(4) {
            0 => most,
            1 => most.min(5_000),
            2 => most.min(100),
            _ => most.min(3),
        };
        1 + self.below(most)
    }
}
