//! Log lines: a panic of the logger is contained, and the number of lines is limited.

use crate::panics::discard;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
const LINES_PER_WINDOW: u32 = 10;

/// Calls the logger, which is user code: a panic in it ends here, not in the loop.
pub(crate) fn guarded(log: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(log)) {
        // The failure of a logger cannot be logged.
        discard(payload);
    }
}

/// Limits the lines that a peer can cause. Pure: the caller tells the time.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    window: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// `None`: say nothing. `Some(n)`: say it, and that `n` lines before it were left out.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self
            .window
            .is_none_or(|start| now.saturating_duration_since(start) >= WINDOW)
        {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES_PER_WINDOW {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gives_ten_lines_a_second_and_the_number_left_out() {
        let start = Instant::now();
        let mut limit = LogLimit::default();
        let admitted = (0..100).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(limit.admit(start + WINDOW), Some(90));
        assert_eq!(limit.admit(start + WINDOW), Some(0));
    }
}
