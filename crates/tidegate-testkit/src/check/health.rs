//! The part of a run's outcome that checks of every kind of protocol have.

use std::fmt::Write as _;
use tidegate::{CloseReason, Failure};

/// The failures of a run, and what was left after it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) panics: Vec<String>,
    /// Each error by itself, and with the callback that returned it.
    pub(crate) errors: Vec<(String, String)>,
    pub(crate) violations: Vec<String>,
    /// The connection has ended.
    pub(crate) lost: bool,
    /// The things that the loop still held after `connection_lost`, or at the end.
    pub(crate) left: String,
    pub(crate) busy: Option<String>,
}

impl Health {
    /// Sorts the failures that the error handler got. They are noted without the connection, which differs from run
    /// to run.
    pub(crate) fn note(&mut self, failures: &[Failure]) {
        for failure in failures {
            let context = failure.context();
            match failure.reason() {
                CloseReason::Panic(message) => {
                    self.panics.push(format!("{context} panicked: {message}"));
                }
                CloseReason::Callback(error) => {
                    let text = format!("{context} failed: {error}");
                    self.errors.push((error.to_string(), text));
                }
                reason => {
                    let text = format!("{context}: {reason}");
                    self.errors.push((reason.to_string(), text));
                }
            }
        }
    }
}

/// Returns a text of what is left, by number and name.
pub(crate) fn remains(counts: &[(usize, &str)]) -> String {
    let mut text = String::new();
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        let comma = if text.is_empty() { "" } else { ", " };
        let plural = if *count > 1 { "s" } else { "" };
        // A string takes everything.
        let _ = write!(text, "{comma}{count} {what}{plural}");
    }
    text
}
