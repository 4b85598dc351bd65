//! The runs of a check, by their kind.

use std::collections::BTreeMap;
use std::fmt;

/// Counts the runs of one check, and the calls of `pause_writing` in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    runs: BTreeMap<&'static str, u64>,
    pauses: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, kind: &'static str, pauses: u64) {
        *self.runs.entry(kind).or_default() += 1;
        self.pauses += pauses;
    }

    pub(crate) fn of(&self, kind: &str) -> u64 {
        self.runs.get(kind).copied().unwrap_or(0)
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs.values().sum()
    }

    pub(crate) fn pauses(&self) -> u64 {
        self.pauses
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs:", self.runs())?;
        for (n, (kind, count)) in self.runs.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma} {count} {kind}")?;
        }
        write!(f, "; pause_writing came {} times", self.pauses)
    }
}
