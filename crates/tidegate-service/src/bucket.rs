//! A token bucket. Pure: the caller has the clock.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

const SECOND: u128 = 1_000_000_000;

/// A number of bytes a second that its clones share, with a number that may come at once.
///
/// Bytes that were received already are taken from it, so it may fall into debt. In any time of `t` seconds
/// the bytes taken while it is in no debt are at most `burst + rate * t`, and those of the last time.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tidegate_service::Bucket;
///
/// let start = Instant::now();
/// let bucket = Bucket::new(1000, 500);
/// assert_eq!(bucket.take(500, || start), Duration::ZERO);
/// // Of what comes behind, the debt is paid after half a second.
/// assert_eq!(bucket.take(500, || start), Duration::from_millis(500));
/// let later = start + Duration::from_millis(200);
/// assert_eq!(bucket.take(100, || later), Duration::from_millis(400));
/// ```
#[derive(Debug, Clone)]
pub struct Bucket(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes a second, 1 or more.
    rate: u64,
    /// The maximum of `left`.
    burst: u64,
    /// The bytes that were left when the clock was last asked.
    left: Cell<u64>,
    /// The bytes that were taken since.
    taken: Cell<u64>,
    /// The time from which bytes are earned beside `left`. In debt it lies in the future: there is nothing
    /// left then. `None` until the clock is first needed, when the bucket was full.
    since: Cell<Option<Instant>>,
}

impl Bucket {
    /// Makes a full bucket: `rate` bytes a second, and `burst` bytes at once. A rate of 0 counts as 1.
    pub fn new(rate: u64, burst: u64) -> Self {
        Self(Rc::new(Shared {
            rate: rate.max(1),
            burst,
            left: Cell::new(burst),
            taken: Cell::new(0),
            since: Cell::new(None),
        }))
    }

    /// Takes bytes, which have come already, and returns the time until the debt is paid: zero if there
    /// is none.
    ///
    /// Asks `now` when more than half of what was left at the last time is taken.
    #[inline]
    pub fn take(&self, bytes: u64, now: impl FnOnce() -> Instant) -> Duration {
        let taken = self.0.taken.get().saturating_add(bytes);
        if taken <= self.0.left.get() / 2 {
            self.0.taken.set(taken);
            return Duration::ZERO;
        }
        self.0.take_at(bytes, now())
    }

    #[cfg(all(test, not(loom)))]
    fn wait(&self, now: Instant) -> Duration {
        let since = self.0.since.get();
        since.map_or(Duration::ZERO, |since| since.saturating_duration_since(now))
    }
}

impl Shared {
    #[cold]
    fn take_at(&self, bytes: u64, now: Instant) -> Duration {
        let (left, since) = self.earn(now);
        // As if all were taken now: the bucket was full before at the most. Taken earlier, they would have
        // left room for what was earned since. Half of it is always left for that.
        let left = left - self.taken.replace(0);
        if bytes <= left {
            self.left.set(left - bytes);
            self.since.set(Some(since));
            return Duration::ZERO;
        }
        self.left.set(0);
        let paid = since.checked_add(self.time_of(bytes - left));
        // A time beyond the clock is never reached, as is a century.
        let paid = paid.or_else(|| now.checked_add(Duration::from_secs(100 * 365 * 86_400)));
        let paid = paid.unwrap_or(now);
        self.since.set(Some(paid));
        paid.saturating_duration_since(now)
    }

    /// Returns what was left, with what was earned up to now, and the time from which more is earned. The
    /// part of a byte that is left over counts the next time.
    fn earn(&self, now: Instant) -> (u64, Instant) {
        let left = self.left.get();
        let since = self.since.get().unwrap_or(now);
        let time = now.saturating_duration_since(since);
        let earned = time.as_nanos().saturating_mul(self.rate.into()) / SECOND;
        match u64::try_from(earned).map(|earned| left.saturating_add(earned)) {
            Ok(left) if left < self.burst => {
                (left, since + nanos(earned * SECOND / u128::from(self.rate)))
            }
            // In debt nothing is earned before `since`.
            _ => (self.burst, since.max(now)),
        }
    }

    /// The time in which a number of bytes is earned, rounded up.
    fn time_of(&self, bytes: u64) -> Duration {
        nanos((u128::from(bytes) * SECOND).div_ceil(self.rate.into()))
    }
}

fn nanos(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % SECOND) as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(bucket: &Bucket, bytes: u64, now: Instant) -> Duration {
        bucket.take(bytes, || now)
    }

    #[test]
    fn the_clock_is_asked_when_half_of_what_was_left_is_taken() {
        let bucket = Bucket::new(10, 1000);
        let asked = Cell::new(0);
        let start = Instant::now();
        let now = || {
            asked.set(asked.get() + 1);
            start
        };
        // How often it was asked, behind each.
        for expected in [0, 0, 0, 0, 0, 1, 1, 1, 2, 3] {
            assert_eq!(bucket.take(100, now), Duration::ZERO);
            assert_eq!(asked.get(), expected);
        }
        assert_eq!(bucket.take(1, now), Duration::from_millis(100));
    }

    #[test]
    fn small_messages_below_the_rate_ask_the_clock_once_in_thousands_and_never_wait() {
        let bucket = Bucket::new(64_000, 1 << 20);
        let (mut time, mut asked) = (Instant::now(), 0);
        for _ in 0..100_000 {
            time += Duration::from_millis(1);
            let wait = bucket.take(64, || {
                asked += 1;
                time
            });
            assert_eq!(wait, Duration::ZERO);
        }
        assert!((1..100).contains(&asked), "{asked}");
    }

    #[test]
    fn clones_share_what_is_left() {
        let start = Instant::now();
        let bucket = Bucket::new(1, 10);
        let other = bucket.clone();
        assert_eq!(take(&bucket, 6, start), Duration::ZERO);
        assert_eq!(take(&other, 5, start), Duration::from_secs(1));
        assert_eq!(bucket.wait(start), Duration::from_secs(1));
    }

    #[test]
    fn a_bucket_that_rests_has_its_burst_and_no_more() {
        let start = Instant::now();
        let bucket = Bucket::new(100, 50);
        assert_eq!(take(&bucket, 60, start), Duration::from_millis(100));
        let later = start + Duration::from_secs(1000);
        assert_eq!(take(&bucket, 50, later), Duration::ZERO);
        assert_eq!(take(&bucket, 1, later), Duration::from_millis(10));
    }

    #[test]
    fn numbers_at_the_ends_of_their_range_wait_and_do_not_panic() {
        let start = Instant::now();
        let never = Bucket::new(0, 0);
        assert!(take(&never, u64::MAX, start) > Duration::from_secs(86_400 * 365));
        assert!(take(&never, u64::MAX, start) > Duration::from_secs(86_400 * 365));
        let always = Bucket::new(u64::MAX, u64::MAX);
        assert_eq!(take(&always, u64::MAX, start), Duration::ZERO);
        assert!(take(&always, 1, start) <= Duration::from_nanos(1));
        let late = start + Duration::from_secs(1 << 32);
        assert_eq!(take(&always, u64::MAX, late), Duration::ZERO);
    }

    proptest! {
        /// Each step waits as it is told, or longer, and then takes some. The bytes between any two of
        /// them stay within the bound; and one that never waits longer gets the rate, but for the part of
        /// a byte that is rounded at each.
        #[test]
        fn in_any_time_no_more_is_taken_than_the_burst_and_the_rate_and_one_read(
            rate in 1_u64..1_000_000,
            burst in 0_u64..100_000,
            steps in prop::collection::vec((0_u64..200_000, 0_u64..500), 1..60),
            rests in any::<bool>(),
        ) {
            let bucket = Bucket::new(rate, burst);
            let start = Instant::now();
            let (mut now, mut wait) = (start, Duration::ZERO);
            let mut taken = Vec::new();
            for (bytes, rest) in steps {
                now += wait;
                if rests {
                    now += Duration::from_millis(rest);
                }
                prop_assert_eq!(bucket.wait(now), Duration::ZERO);
                wait = take(&bucket, bytes, now);
                taken.push((now, bytes));
            }
            for (from, (begin, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (at, bytes) in &taken[from..] {
                    // Those before the last one; it is the read that may be too much.
                    let time = at.duration_since(*begin).as_nanos();
                    let bound = u128::from(burst) + time * u128::from(rate) / SECOND + 1;
                    prop_assert!(sum <= bound, "{} > {}", sum, bound);
                    sum += u128::from(*bytes);
                }
            }
            if !rests {
                let time = (now + wait).duration_since(start).as_nanos();
                let sum: u64 = taken.iter().map(|(_, bytes)| bytes).sum();
                let paid = u128::from(sum.saturating_sub(burst)) * SECOND / u128::from(rate);
                let rounded = taken.len() as u128 + SECOND / u128::from(rate) + 1;
                prop_assert!(time <= paid + rounded, "{} > {}", time, paid);
            }
        }
    }
}
