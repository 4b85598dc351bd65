//! The report of a check of layers that found no violation.

use super::case::Side;
use super::run::Outcome;
use std::fmt;

/// Counts the runs of layers that kept every rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerReport {
    wire: [usize; 2],
    runs: u64,
    cuts: u64,
}

impl LayerReport {
    pub(super) fn new(plain: &Outcome) -> Self {
        Self {
            wire: plain.wire,
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.cuts += u64::from(outcome.was_cut);
    }

    /// Returns the number of all runs.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Returns the number of runs in which a stream was cut.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Returns the number of bytes that the layers sent to this end in the plain run.
    pub fn bytes_to(&self, side: Side) -> usize {
        match side {
            Side::Server => self.wire[0],
            Side::Client => self.wire[1],
        }
    }
}

impl fmt::Display for LayerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [to_server, to_client] = self.wire;
        let Self { runs, cuts, .. } = self;
        write!(
            f,
            "{runs} runs, {cuts} with a cut; {to_server} bytes to the server, {to_client} to the client"
        )
    }
}
