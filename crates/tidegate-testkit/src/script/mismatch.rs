//! The error of a script whose expectation was not met. It is no violation: a script states what one
//! conversation expects, not a rule for every protocol.

use crate::dialogue::Dialogue;
use std::error::Error;
use std::fmt;
use std::io;
use tidegate::Failure;

/// Names the first step of a [`Script`](crate::Script) whose result was not the expected one, and
/// keeps the dialogue until then. `Debug` is the same text as `Display`, so that an `unwrap` shows it.
#[derive(Clone)]
pub struct Mismatch(Box<Parts>);

#[derive(Clone, Default)]
struct Parts {
    /// `None`: there was no connection, or no endpoint.
    step: Option<usize>,
    at: String,
    expected: String,
    seen: String,
    dialogue: Dialogue,
    failures: Vec<String>,
}

impl Mismatch {
    pub(super) fn at_start(expected: &str, error: &io::Error) -> Self {
        Self(Box::new(Parts {
            at: "before the first step".into(),
            expected: expected.into(),
            seen: error.to_string(),
            ..Parts::default()
        }))
    }

    pub(super) fn at_step(
        number: usize,
        step: &dyn fmt::Display,
        expected: String,
        seen: String,
    ) -> Self {
        Self(Box::new(Parts {
            step: Some(number),
            at: format!("step {number}, {step}"),
            expected,
            seen,
            ..Parts::default()
        }))
    }

    pub(super) fn at_end(steps: usize, expected: &str, seen: String) -> Self {
        Self(Box::new(Parts {
            step: Some(steps + 1),
            at: "after the last step".into(),
            expected: expected.into(),
            seen,
            ..Parts::default()
        }))
    }

    pub(super) fn with(mut self, dialogue: &Dialogue, failures: &[Failure]) -> Self {
        self.0.dialogue = dialogue.clone();
        self.0.failures = failures.iter().map(ToString::to_string).collect();
        self
    }

    /// Returns the number of the step, from 1. It is one more than there are for a mismatch after the
    /// last, and `None` when there was no connection, or no endpoint, to begin with.
    pub fn step(&self) -> Option<usize> {
        self.0.step
    }

    /// Returns a text of the expected result.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// Returns a text of what came instead.
    pub fn seen(&self) -> &str {
        &self.0.seen
    }

    /// Returns the dialogue until then.
    pub fn dialogue(&self) -> &Dialogue {
        &self.0.dialogue
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        writeln!(f, "{}", parts.at)?;
        writeln!(f, "  expected: {}", parts.expected)?;
        write!(f, "      came: {}", parts.seen)?;
        for failure in &parts.failures {
            write!(f, "\n  {failure}")?;
        }
        if !parts.dialogue.is_empty() {
            write!(f, "\nwhat was said:\n{}", parts.dialogue)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Mismatch {}
