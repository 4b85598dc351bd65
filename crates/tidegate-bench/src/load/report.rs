//! The figures of a load.

use super::tally::Tally;
use super::{Mode, Plan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The figures of a load. Displayed, it is a JSON object on one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The traffic of the connections.
    pub mode: Mode,
    /// The number of connections.
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
    pub seconds: f64,
    /// Latencies in microseconds by name, from `p50_us` to `max_us`; none in an untimed mode.
    #[serde(flatten)]
    pub latencies: BTreeMap<String, f64>,
    /// Connections that failed or received wrong bytes, and silences.
    pub errors: u64,
}

/// The shares of messages whose latencies are reported, and their names.
const QUANTILES: [(f64, &str); 5] = [
    (0.5, "p50_us"),
    (0.9, "p90_us"),
    (0.99, "p99_us"),
    (0.999, "p999_us"),
    (1.0, "max_us"),
];

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, elapsed: Duration) -> Self {
        let latency = |(quantile, name): (f64, &str)| {
            let latency = tally.latency(quantile)?;
            Some((name.to_owned(), latency.as_secs_f64() * 1e6))
        };
        Self {
            mode: plan.mode,
            connections: plan.connections,
            size: plan.size,
            depth: plan.depth,
            messages: tally.done,
            bytes: tally.bytes,
            seconds: elapsed.as_secs_f64(),
            latencies: QUANTILES.into_iter().filter_map(latency).collect(),
            errors: tally.errors,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
