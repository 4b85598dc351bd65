//! Where two byte strings differ, as a text.

use crate::dialogue::Escaped;

/// Shows both, long ones from shortly before the first difference on.
pub(crate) fn difference(expected: &[u8], seen: &[u8]) -> (String, String) {
    const BEFORE: usize = 16;
    const LONG: usize = 200;
    if expected.len() <= LONG && seen.len() <= LONG {
        return (Escaped(expected).to_string(), Escaped(seen).to_string());
    }
    let pairs = expected.iter().zip(seen);
    let same = pairs.take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(BEFORE);
    let show = |data: &[u8]| {
        let len = data.len();
        format!("{} at {from} of {len} bytes", Escaped(&data[from..]))
    };
    (show(expected), show(seen))
}
