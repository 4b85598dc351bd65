//! The violation of a rule for layers.

use super::case::LayerCase;
use super::observed::LayerCalls;
use super::rule::LayerRule;
use std::error::Error;
use std::fmt;

/// Names the rule that layers violated, and the shortest case found that shows it. `Debug` is the same
/// text as `Display`, so that an `unwrap` shows it.
#[derive(Clone)]
pub struct LayerViolation(Box<Parts>);

#[derive(Clone)]
struct Parts {
    rule: LayerRule,
    expected: String,
    seen: String,
    case: LayerCase,
    calls: LayerCalls,
}

impl LayerViolation {
    /// Makes a violation in the plain case. [`in_case`](Self::in_case) adds another one.
    pub(super) fn new(
        rule: LayerRule,
        expected: impl Into<String>,
        seen: impl Into<String>,
    ) -> Self {
        Self(Box::new(Parts {
            rule,
            expected: expected.into(),
            seen: seen.into(),
            case: LayerCase::PLAIN,
            calls: LayerCalls::default(),
        }))
    }

    pub(super) fn in_case(mut self, case: LayerCase, calls: LayerCalls) -> Self {
        self.0.case = case;
        self.0.calls = calls;
        self
    }

    /// Returns the rule.
    pub fn rule(&self) -> LayerRule {
        self.0.rule
    }

    /// Returns the shortest case found; [`LayerCheck::run_case`](crate::LayerCheck::run_case) runs it
    /// again.
    pub fn case(&self) -> &LayerCase {
        &self.0.case
    }

    /// Returns a text of what the rule expects.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// Returns a text of what happened instead.
    pub fn seen(&self) -> &str {
        &self.0.seen
    }

    /// Returns the last calls of both layers in that case.
    pub fn calls(&self) -> &LayerCalls {
        &self.0.calls
    }
}

impl fmt::Display for LayerViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            rule,
            expected,
            seen,
            case,
            calls,
        } = &*self.0;
        writeln!(f, "{rule}")?;
        writeln!(f, "  expected: {expected}")?;
        writeln!(f, "      seen: {seen}")?;
        writeln!(
            f,
            "again with: LayerCheck::new(client, server).run_case(&\"{case}\".parse()?)"
        )?;
        write!(f, "the last calls of the layers:\n{calls}")
    }
}

impl fmt::Debug for LayerViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for LayerViolation {}
