//! What came of a load, as one line of JSON.

use super::tally::Tally;
use super::{Mode, Plan};
use std::fmt;
use std::time::Duration;

/// What came of a load. Displayed, it is a JSON object on one line; times that were not measured
/// are `null` there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// What the connections did.
    pub mode: Mode,
    /// How many there were.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Messages on their way on each connection.
    pub depth: usize,
    /// Messages that were done in the time of measurement.
    pub messages: u64,
    /// Bytes of them, and of parts of messages; in one direction.
    pub bytes: u64,
    /// The time of measurement.
    pub elapsed: Duration,
    /// The latencies of [`QUANTILES`].
    pub latencies: [Option<Duration>; 5],
    /// Connections that failed or were answered with other bytes than they should, and silences.
    pub errors: u64,
}

/// The shares of messages whose latencies are told, and their names.
pub const QUANTILES: [(f64, &str); 5] = [
    (0.5, "p50_us"),
    (0.9, "p90_us"),
    (0.99, "p99_us"),
    (0.999, "p999_us"),
    (1.0, "max_us"),
];

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        Self {
            mode: plan.mode,
            connections: plan.connections,
            size: plan.size,
            depth: plan.depth,
            messages: tally.done,
            bytes: tally.bytes,
            elapsed,
            latencies: QUANTILES.map(|(quantile, _)| tally.latency(quantile)),
            errors: tally.errors,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"mode\":\"{}\"", self.mode)?;
        write!(f, ",\"connections\":{}", self.connections)?;
        write!(f, ",\"size\":{}", self.size)?;
        write!(f, ",\"depth\":{}", self.depth)?;
        write!(f, ",\"messages\":{}", self.messages)?;
        write!(f, ",\"bytes\":{}", self.bytes)?;
        write!(f, ",\"seconds\":{:.6}", self.elapsed.as_secs_f64())?;
        for ((_, name), latency) in QUANTILES.iter().zip(self.latencies) {
            match latency {
                Some(latency) => write!(f, ",\"{name}\":{:.2}", latency.as_secs_f64() * 1e6)?,
                None => write!(f, ",\"{name}\":null")?,
            }
        }
        write!(f, ",\"errors\":{}}}", self.errors)
    }
}
