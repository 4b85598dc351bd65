//! The counts of a load, and the number of messages that may still be sent.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Latencies above this count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// The sums of all connections. Its memory is taken once, at the start.
pub(super) struct Tally {
    /// Messages that are done.
    pub(super) done: u64,
    /// Messages after which no more are counted: the others are cut off with the connections.
    pub(super) goal: u64,
    /// Bytes of which the mode is: received where something comes back, sent where not.
    pub(super) bytes: u64,
    /// Connections that failed, and silences.
    pub(super) errors: u64,
    /// Connections that have neither failed nor ended.
    pub(super) alive: usize,
    /// When this was last asked. Reading the clock for every step would be part of what is
    /// measured.
    pub(super) now: Instant,
    budget: u64,
    latencies: Histogram<u32>,
}

impl Tally {
    /// Returns the tally of this number of connections, which may send `budget` messages.
    pub(super) fn new(connections: usize, budget: u64) -> Self {
        // Nanoseconds with an error of less than one per cent: a few kilobytes, which leave the
        // processor's cache to the server.
        let latencies = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 2);
        Self {
            done: 0,
            goal: u64::MAX,
            bytes: 0,
            errors: 0,
            alive: connections,
            now: Instant::now(),
            budget,
            latencies: latencies.expect("these bounds are allowed"),
        }
    }

    /// Looks at the clock.
    pub(super) fn tell_time(&mut self) -> Instant {
        self.now = Instant::now();
        self.now
    }

    /// Whether one more may be sent; it is taken for sent.
    pub(super) fn take(&mut self) -> bool {
        let any = self.budget > 0;
        self.budget -= u64::from(any);
        any
    }

    /// Counts a connection that has ended as it should.
    pub(super) fn end(&mut self) {
        self.alive -= 1;
    }

    /// Counts a connection that has failed.
    pub(super) fn fail(&mut self) {
        self.alive -= 1;
        self.errors += 1;
    }

    /// A message is done that was sent then.
    pub(super) fn complete(&mut self, sent: Instant) {
        let latency = self.now.saturating_duration_since(sent);
        self.latencies.saturating_record(latency.as_nanos() as u64);
        self.complete_untimed();
    }

    /// A message is done of which no latency is known.
    pub(super) fn complete_untimed(&mut self) {
        self.done += 1;
    }

    /// Forgets the warm-up. Messages may have come above it; as many more are sent.
    pub(super) fn restart(&mut self, warmup: u64) {
        self.budget = self.budget.saturating_add(self.done.saturating_sub(warmup));
        self.done = 0;
        self.bytes = 0;
        self.latencies.reset();
    }

    /// The latency that this share of the messages is not above, if any was timed.
    pub(super) fn latency(&self, quantile: f64) -> Option<Duration> {
        let any = !self.latencies.is_empty();
        any.then(|| Duration::from_nanos(self.latencies.value_at_quantile(quantile)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_warm_up_had_too_many_is_sent_again() {
        let mut tally = Tally::new(1, 5);
        for _ in 0..3 {
            assert!(tally.take());
            tally.complete_untimed();
        }
        tally.restart(2);
        assert_eq!(tally.done, 0);
        // Three of the measurement: two that were left and the one above the warm-up.
        assert_eq!((0..9).filter(|_| tally.take()).count(), 3);
    }

    #[test]
    fn latencies_are_told_to_a_per_cent() {
        let mut tally = Tally::new(1, 0);
        assert_eq!(tally.latency(0.5), None);
        let start = tally.now;
        for micros in 1..=1000 {
            tally.now = start + Duration::from_micros(micros);
            tally.complete(start);
        }
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = tally.latency(quantile).unwrap().as_secs_f64() * 1e6;
            assert!((told / expected - 1.0).abs() < 0.01, "{quantile}: {told}");
        }
    }
}
