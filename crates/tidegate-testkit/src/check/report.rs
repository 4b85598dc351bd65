//! The report of a check that found no violation.

use super::case::Variation;
use super::run::Outcome;
use super::tally::Tally;
use std::fmt;

/// Counts the runs of a protocol that kept every rule, by their kind, and keeps its reply.
///
/// ```
/// use tidegate_testkit::{Conversation, Log, Recorder, check_protocol};
///
/// let conversation = Conversation::new().say("four");
/// let report = check_protocol(|| Recorder::echo(&Log::new()), &conversation)?;
/// // Three places to cut at, and five to break off.
/// assert_eq!((report.chunkings(), report.resets()), (8, 5));
/// assert_eq!(report.reply(), b"four");
/// # Ok::<(), tidegate_testkit::Violation>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    tally: Tally,
    reply: Vec<u8>,
    errors: Vec<String>,
}

impl Report {
    pub(super) fn new(plain: &Outcome) -> Self {
        Self {
            reply: plain.reply.clone(),
            errors: plain
                .health
                .errors
                .iter()
                .map(|(_, text)| text.clone())
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, variation: Variation, pauses: u64) {
        self.tally.count(variation.kind(), pauses);
    }

    fn of(&self, kind: &str) -> u64 {
        self.tally.of(kind)
    }

    /// Returns the bytes that the protocol sent in the plain run, with which the others were compared.
    pub fn reply(&self) -> &[u8] {
        &self.reply
    }

    /// Returns the errors of the plain run, which the conversation
    /// [allowed](crate::Conversation::may_fail).
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Returns the number of all runs.
    pub fn runs(&self) -> u64 {
        self.tally.runs()
    }

    /// Returns the number of runs that only cut the stream.
    pub fn chunkings(&self) -> u64 {
        self.of("chunkings")
    }

    /// Returns the number of runs with a peer that read late.
    pub fn paused(&self) -> u64 {
        self.of("pauses")
    }

    /// Returns the number of runs with a peer that read only while the protocol did not.
    pub fn slow_readers(&self) -> u64 {
        self.of("slow readers")
    }

    /// Returns the number of runs with a reset.
    pub fn resets(&self) -> u64 {
        self.of("resets")
    }

    /// Returns the number of runs with an early EOF.
    pub fn early_ends(&self) -> u64 {
        self.of("early ends")
    }

    /// Returns the number of runs with a peer that fell silent.
    pub fn silences(&self) -> u64 {
        self.of("silences")
    }

    /// Returns the number of calls of `pause_writing`. It is 0 if the conversation has no reply to pause.
    pub fn pauses(&self) -> u64 {
        self.tally.pauses()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tally.fmt(f)
    }
}
