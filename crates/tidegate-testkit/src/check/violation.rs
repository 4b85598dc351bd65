//! The violation of a rule, which is the error of a check.

use super::case::Case;
use super::rule::Rule;
use crate::dialogue::Dialogue;
use std::error::Error;
use std::fmt;

/// Names the rule that a protocol violated, and the shortest case found that shows it. `Debug` is the
/// same text as `Display`, so that an `unwrap` shows it.
#[derive(Clone)]
pub struct Violation<R = Rule, C = Case>(Box<Parts<R, C>>);

#[derive(Clone)]
struct Parts<R, C> {
    rule: R,
    expected: String,
    seen: String,
    case: C,
    dialogue: Dialogue,
    /// The code that runs the case again.
    again: &'static str,
}

impl Violation {
    /// Makes a violation in the plain case. [`in_case`](Self::in_case) adds another one.
    pub(super) fn new(rule: Rule, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::of(rule, expected, seen, Case::PLAIN, "check_case(factory")
    }

    pub(super) fn of_handler(mut self) -> Self {
        self.0.again = "check_handler_case(handler";
        self
    }
}

impl<R: Copy, C> Violation<R, C> {
    /// Makes a violation in a case. `again` is the code that runs it again.
    pub(crate) fn of(
        rule: R,
        expected: impl Into<String>,
        seen: impl Into<String>,
        case: C,
        again: &'static str,
    ) -> Self {
        Self(Box::new(Parts {
            rule,
            expected: expected.into(),
            seen: seen.into(),
            case,
            dialogue: Dialogue::default(),
            again,
        }))
    }

    pub(crate) fn in_case(mut self, case: C, dialogue: Dialogue) -> Self {
        self.0.case = case;
        self.0.dialogue = dialogue;
        self
    }

    /// Returns the rule.
    pub fn rule(&self) -> R {
        self.0.rule
    }

    /// Returns the shortest case found. [`check_case`](crate::check_case), or
    /// [`check_datagram_case`](crate::check_datagram_case), runs it again.
    pub fn case(&self) -> &C {
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

    /// Returns what both sides sent in that case.
    pub fn dialogue(&self) -> &Dialogue {
        &self.0.dialogue
    }
}

impl<R: fmt::Display, C: fmt::Display> fmt::Display for Violation<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            rule,
            expected,
            seen,
            case,
            dialogue,
            again,
        } = &*self.0;
        writeln!(f, "{rule}")?;
        writeln!(f, "  expected: {expected}")?;
        writeln!(f, "      seen: {seen}")?;
        writeln!(
            f,
            "again with: {again}, &conversation, &\"{case}\".parse()?)"
        )?;
        write!(f, "what was said:\n{dialogue}")
    }
}

impl<R: fmt::Display, C: fmt::Display> fmt::Debug for Violation<R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<R: fmt::Display, C: fmt::Display> Error for Violation<R, C> {}
