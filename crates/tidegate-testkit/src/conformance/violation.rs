//! The violations that the suite finds.

use std::error::Error;
use std::fmt;

/// Names a rule that a transport violated, and the case that found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub(super) case: &'static str,
    pub(super) variant: String,
    pub(super) rule: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

impl Violation {
    /// Returns the name of the case: of the function that found it.
    pub fn case(&self) -> &str {
        self.case
    }

    /// Returns the variant of the case, if it has several; empty otherwise.
    pub fn variant(&self) -> &str {
        &self.variant
    }

    /// Returns the rule in words.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns a text of what the rule expects.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// Returns a text of what happened instead.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        if !self.variant.is_empty() {
            write!(f, " ({})", self.variant)?;
        }
        write!(
            f,
            ": {}\n  expected: {}\n  seen: {}",
            self.rule, self.expected, self.seen
        )
    }
}

impl Error for Violation {}

/// All violations of a run: at most one for each case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub(super) Vec<Violation>);

impl Violations {
    /// Returns an iterator over the violations, in the order of the cases.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases found a violation", self.0.len())?;
        for violation in self {
            write!(f, "\n{violation}")?;
        }
        Ok(())
    }
}

impl Error for Violations {}
