//! Makes a failing case shorter.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Maximum number of runs to make a case shorter, and of the time that they may take.
const RUNS: usize = 2_000;
const TIME: Duration = Duration::from_secs(5);

/// Takes parts out of a case for as long as it fails: half of all at once, then fewer, then each by
/// itself. `count` is the number of parts, `without` the case without some of them.
pub(crate) fn shrink<C>(
    mut case: C,
    count: impl Fn(&C) -> usize,
    without: impl Fn(&C, Range<usize>) -> C,
    mut fails: impl FnMut(&C) -> bool,
) -> C {
    let start = Instant::now();
    let mut runs = 0;
    let mut size = count(&case).div_ceil(2);
    let mut from = 0;
    let mut is_shorter = false;
    while size > 0 && runs < RUNS && start.elapsed() < TIME {
        let all = count(&case);
        if from >= all {
            // Single parts again, until none of them can go.
            from = 0;
            if size > 1 || !is_shorter {
                size /= 2;
            }
            is_shorter = false;
            continue;
        }
        let shorter = without(&case, from..(from + size).min(all));
        runs += 1;
        if fails(&shorter) {
            case = shorter;
            is_shorter = true;
        } else {
            from += size;
        }
    }
    case
}
