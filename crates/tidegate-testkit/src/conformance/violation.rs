//! What the suite found.

use std::error::Error;
use std::fmt;

/// A rule that a transport broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub(super) case: &'static str,
    pub(super) scene: String,
    pub(super) rule: String,
    pub(super) expected: String,
    pub(super) seen: String,
}

impl Violation {
    /// The name of the case: of the function that found it.
    pub fn case(&self) -> &str {
        self.case
    }

    /// What the case was at, if it tries several things.
    pub fn scene(&self) -> &str {
        &self.scene
    }

    /// The rule in words.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What should have been.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What was instead.
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        if !self.scene.is_empty() {
            write!(f, " ({})", self.scene)?;
        }
        write!(
            f,
            ": {}\n  expected: {}\n  seen: {}",
            self.rule, self.expected, self.seen
        )
    }
}

impl Error for Violation {}

/// Every rule that was broken: one for each case that found something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations(pub(super) Vec<Violation>);

impl Violations {
    /// One after the other.
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
