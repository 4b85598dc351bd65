//! The bytes that are sent, and that must come back.

use crate::service::source_block;

/// A stream of messages without end: a block of different messages, over and over.
pub(super) struct Pattern {
    /// The block, and its first `reach` bytes again, so that a slice begins anywhere in the block.
    bytes: Vec<u8>,
    period: usize,
    reach: usize,
}

/// Different messages in a block: few, so that they stay in the processor's cache, and no power of
/// two, so that a byte that is off by a buffer's length is noticed.
const MESSAGES: usize = 61;

/// Of long messages there are fewer.
const LONG: usize = 4096;
const LONG_MESSAGES: usize = 3;

impl Pattern {
    /// Of messages of `size` bytes, with slices up to `reach` at once. As lines, each ends with the
    /// only line end in it.
    pub(super) fn new(size: usize, reach: usize, lines: bool) -> Self {
        let messages = if size > LONG { LONG_MESSAGES } else { MESSAGES };
        let period = size * messages;
        let mut bytes: Vec<u8> = Vec::with_capacity(period);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        while bytes.len() < period {
            // The generator of Marsaglia's "Xorshift RNGs".
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let byte = (random >> 32) as u8;
            let is_last = bytes.len() % size == size - 1;
            bytes.push(match (lines, is_last) {
                (true, true) => b'\n',
                (true, false) if byte == b'\n' => b'-',
                _ => byte,
            });
        }
        Self::repeating(bytes, reach)
    }

    /// The stream of a source, with slices up to `reach` at once.
    pub(super) fn of_source(reach: usize) -> Self {
        Self::repeating(source_block(), reach)
    }

    fn repeating(block: Vec<u8>, reach: usize) -> Self {
        let period = block.len();
        let bytes = block.into_iter().cycle().take(period + reach).collect();
        Self {
            bytes,
            period,
            reach,
        }
    }

    /// Returns the bytes at a place of the stream: at most `most`, and at least one.
    pub(super) fn at(&self, offset: u64, most: u64) -> &[u8] {
        let start = (offset % self.period as u64) as usize;
        let len = most.min(self.reach as u64) as usize;
        &self.bytes[start..start + len]
    }

    /// Whether these bytes are those at that place.
    pub(super) fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut offset = offset;
        bytes.chunks(self.reach).all(|part| {
            let same = self.at(offset, part.len() as u64) == part;
            offset += part.len() as u64;
            same
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_goes_on_for_ever_and_any_wrong_byte_is_noticed() {
        for (size, reach) in [(1, 64), (64, 100), (64, 65_536), (5000, 70_000)] {
            let pattern = Pattern::new(size, reach, false);
            let stream: Vec<u8> = (0..100_000)
                .map(|offset| pattern.at(offset, 1)[0])
                .collect();
            for offset in [0, 1, 3903, 3904, 20_001] {
                let here = &stream[offset as usize..][..70_000];
                assert!(pattern.matches(offset, here));
                assert!(here.starts_with(pattern.at(offset, 1000)));
                let mut wrong = here.to_vec();
                wrong[69_999] ^= 1;
                assert!(!pattern.matches(offset, &wrong));
            }
        }
    }

    #[test]
    fn a_line_ends_where_its_message_ends_and_nowhere_else() {
        for size in [1, 2, 64, 5000] {
            let pattern = Pattern::new(size, 65_536, true);
            let all = pattern.at(0, 65_536);
            for (index, byte) in all.iter().enumerate() {
                assert_eq!(*byte == b'\n', index % size == size - 1);
            }
        }
    }
}
