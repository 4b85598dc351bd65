//! Bytes that tell where in the stream they belong; printable, so that they are text too.

use std::sync::OnceLock;

/// A prime, so that no power of two of bytes can go missing unseen.
const PERIOD: usize = 65_521;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        (0..PERIOD as u64)
            .map(|i| b' ' + ((i.wrapping_mul(2_654_435_761) >> 13) % 95) as u8)
            .collect()
    })
}

/// Returns the `len` bytes from the `from`th on.
pub(super) fn pattern(from: u64, len: usize) -> Vec<u8> {
    let table = table();
    let mut bytes = Vec::with_capacity(len);
    let mut at = (from % PERIOD as u64) as usize;
    while bytes.len() < len {
        let some = (PERIOD - at).min(len - bytes.len());
        bytes.extend_from_slice(&table[at..at + some]);
        at = 0;
    }
    bytes
}

/// Returns the place at which `data`, from the start of the stream on, is first wrong.
pub(super) fn first_wrong(data: &[u8]) -> Option<usize> {
    let right = pattern(0, data.len());
    if data == right {
        // Much faster than byte by byte.
        return None;
    }
    data.iter()
        .zip(&right)
        .position(|(seen, right)| seen != right)
}
