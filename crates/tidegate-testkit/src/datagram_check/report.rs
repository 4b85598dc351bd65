//! The report of a check that found no violation.

use super::case::DatagramCase;
use super::outcome::Outcome;
use crate::check::Tally;
use std::fmt;

/// Counts the runs of a protocol of datagrams that kept every rule, by their kind, and keeps its replies.
///
/// ```
/// use tidegate_testkit::{DatagramConversation, DatagramRecorder, Log, check_datagram_protocol};
///
/// let conversation = DatagramConversation::new().say("one").say("two");
/// let report = check_datagram_protocol(|| DatagramRecorder::echo(&Log::new()), &conversation)?;
/// assert_eq!(report.replies(), [b"one", b"two"]);
/// assert_eq!(report.runs_of("lost"), 2);
/// # Ok::<(), tidegate_testkit::DatagramViolation>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatagramReport {
    tally: Tally,
    replies: Vec<Vec<u8>>,
    errors: Vec<String>,
}

impl DatagramReport {
    pub(super) fn new(plain: &Outcome) -> Self {
        Self {
            replies: plain.replies().cloned().collect(),
            errors: plain
                .health
                .errors
                .iter()
                .map(|(_, text)| text.clone())
                .collect(),
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, case: DatagramCase, pauses: u64) {
        self.tally.count(case.word(), pauses);
    }

    /// Returns the datagrams that the protocol sent in the plain run, with which the others were compared.
    pub fn replies(&self) -> &[Vec<u8>] {
        &self.replies
    }

    /// Returns the errors of the plain run, which the conversation
    /// [allowed](crate::DatagramConversation::may_fail).
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Returns the number of all runs.
    pub fn runs(&self) -> u64 {
        self.tally.runs()
    }

    /// Returns the number of runs of one kind, by the word with which the text of their
    /// [`DatagramCase`] begins.
    pub fn runs_of(&self, word: &str) -> u64 {
        self.tally.of(word)
    }

    /// Returns the number of calls of `pause_writing`. It is 0 if there are no replies to pause.
    pub fn pauses(&self) -> u64 {
        self.tally.pauses()
    }
}

impl fmt::Display for DatagramReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tally.fmt(f)
    }
}
