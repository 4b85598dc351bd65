//! The result of a world.

use crate::ledger::Ledger;
use crate::{datagrams, programs};
use std::collections::BTreeMap;
use std::time::Duration;
use tidegate_testkit::{FaultCounts, Trace};

/// The result of a world.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) struck: FaultCounts,
    pub(crate) trace: Trace,
    pub(crate) elapsed: Duration,
    pub(crate) connections: u64,
    pub(crate) bytes: u64,
    pub(crate) whole: u64,
    pub(crate) refused: u64,
    pub(crate) from_backlog: u64,
    pub(crate) cuts: u64,
    pub(crate) told_ends: u64,
    pub(crate) replies: u64,
    pub(crate) torn: u64,
    pub(crate) throttled: u64,
    pub(crate) filled: u64,
    pub(crate) datagrams: datagrams::Counts,
    pub(crate) programs: programs::Counts,
    pub(crate) stacks: BTreeMap<String, u64>,
    pub(crate) reasons: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// Of a world that has come to its end.
    pub(crate) fn of(
        ledger: &Ledger,
        struck: FaultCounts,
        trace: Trace,
        elapsed: Duration,
    ) -> Self {
        Self {
            violations: ledger.take_violations(),
            struck,
            trace,
            elapsed,
            connections: ledger.connections.begun(),
            bytes: ledger.bytes.get(),
            whole: ledger.echoed_whole.get(),
            refused: ledger.refused.get(),
            from_backlog: ledger.from_backlog.get(),
            cuts: ledger.cuts.get(),
            told_ends: ledger.told_ends.get(),
            replies: ledger.replies.get(),
            torn: ledger.torn.get(),
            throttled: ledger.throttled.get(),
            filled: ledger.filled.get(),
            datagrams: ledger.datagrams.get(),
            programs: ledger.programs.get(),
            stacks: ledger.stacks.take(),
            reasons: ledger.reasons.take(),
        }
    }

    /// Of a world that did not come to its end.
    pub(crate) fn failed(why: String) -> Self {
        Self {
            violations: vec![why],
            struck: FaultCounts::default(),
            trace: Trace::default(),
            elapsed: Duration::ZERO,
            connections: 0,
            bytes: 0,
            whole: 0,
            refused: 0,
            from_backlog: 0,
            cuts: 0,
            told_ends: 0,
            replies: 0,
            torn: 0,
            throttled: 0,
            filled: 0,
            datagrams: datagrams::Counts::default(),
            programs: programs::Counts::default(),
            stacks: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }
}
