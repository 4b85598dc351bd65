//! The rules of a check, and the judges that compare a run with them.

use super::case::{Case, Variation};
use super::conversation::Conversation;
use super::run::{Ending, Outcome};
use super::violation::Violation;
use crate::difference::difference;
use std::fmt;

/// A rule for a protocol that is [checked](crate::check_protocol). `Display` states it in full.
///
/// Bytes for a peer that falls silent are not compared with anything: a timeout may have last words of
/// its own. `Reply`, `Ending` and `Prefix` do not judge those runs; the others do. Test such words with
/// a [`Script`](crate::Script), or with [`stay`](crate::Conversation::stay) and an
/// [`answer`](crate::Conversation::answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// No callback panics.
    NoPanic,
    /// The callbacks come in the order that [`Protocol`](tidegate::Protocol) documents.
    Grammar,
    /// The protocol comes to rest.
    Rest,
    /// The plain run gives the replies that the conversation has, and no others.
    Answer,
    /// No callback returns an error in the plain run.
    NoError,
    /// The same conversation has the same reply each time.
    Repeatable,
    /// No callback returns an error that the plain run did not have.
    NoNewError,
    /// The reply does not depend on how the bytes came.
    Reply,
    /// The end of the connection does not depend on how the bytes came.
    Ending,
    /// A protocol that is paused does not go on writing. Until `resume_writing` it may write as many bytes
    /// as it wrote at most in reply to one chunk, or in one wait, of a peer that reads at once.
    Flow,
    /// A peer that breaks off has got the beginning of the whole reply.
    Prefix,
    /// The connection ends once its peer has gone.
    Ends,
    /// Nothing of a connection stays in the loop after its end.
    NothingLeft,
    /// Of [`check_case`](crate::check_case) itself: the conversation is as long as the case has it.
    Case,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPanic => "no callback may panic",
            Self::Grammar => "the callbacks come in their order",
            Self::Rest => "the protocol must come to rest",
            Self::Answer => "the replies are those that the conversation has, and no others",
            Self::NoError => {
                "no callback may return an error when all is well, unless the conversation may fail"
            }
            Self::Repeatable => "the same conversation has the same reply each time",
            Self::NoNewError => {
                "no callback may return an error that it does not return when all is well"
            }
            Self::Reply => "the reply must not depend on how the bytes are cut or held up",
            Self::Ending => {
                "how the connection ends must not depend on how the bytes are cut or held up"
            }
            Self::Flow => "a protocol that is paused must not go on writing",
            Self::Prefix => "a peer that breaks off must have got the beginning of the whole reply",
            Self::Ends => "the connection must end after its peer has gone",
            Self::Case => "the case must be one of this conversation",
            Self::NothingLeft => "nothing of a connection may stay in the loop after its end",
        })
    }
}

/// Judges whether the case belongs to the conversation.
pub(super) fn judge_case(case: &Case, len: usize) -> Option<Violation> {
    let beyond = case.beyond(len)?;
    let expected = format!("places within {len} bytes");
    Some(Violation::new(Rule::Case, expected, beyond))
}

/// Judges a run by itself.
pub(super) fn judge_alone(outcome: &Outcome) -> Option<Violation> {
    if let Some(panic) = outcome.health.panics.first() {
        return Some(Violation::new(Rule::NoPanic, "no panic", panic));
    }
    if let Some(violation) = outcome.health.violations.first() {
        return Some(Violation::new(
            Rule::Grammar,
            "the documented order",
            violation,
        ));
    }
    if let Some(busy) = &outcome.health.busy {
        return Some(Violation::new(Rule::Rest, "an end", busy));
    }
    None
}

/// Judges whether anything is left after a run.
pub(super) fn judge_remains(outcome: &Outcome, conversation: &Conversation) -> Option<Violation> {
    if !outcome.health.lost {
        let silence = conversation.silence;
        let expected = format!("connection_lost within {silence:?} after the peer left");
        return Some(Violation::new(Rule::Ends, expected, "it did not come"));
    }
    if !outcome.health.left.is_empty() {
        return Some(Violation::new(
            Rule::NothingLeft,
            "nothing",
            &outcome.health.left,
        ));
    }
    None
}

/// Judges the plain run.
pub(super) fn judge_plain(outcome: &Outcome, conversation: &Conversation) -> Option<Violation> {
    let wrong_answer = || {
        let (expected, seen) = outcome.wrong_answer.as_ref()?;
        Some(Violation::new(Rule::Answer, expected, seen))
    };
    let error = || {
        let (_, error) = outcome
            .health
            .errors
            .first()
            .filter(|_| !conversation.may_fail)?;
        Some(Violation::new(Rule::NoError, "no error", error))
    };
    let more_or_less = || {
        let answers = conversation.answers()?;
        if answers == outcome.reply || conversation.may_say_more {
            return None;
        }
        let (expected, seen) = difference(&answers, &outcome.reply);
        Some(Violation::new(Rule::Answer, expected, seen))
    };
    judge_alone(outcome)
        .or_else(error)
        .or_else(wrong_answer)
        .or_else(more_or_less)
        .or_else(|| judge_remains(outcome, conversation))
}

/// Judges a run beside the plain one.
pub(super) fn judge(
    outcome: &Outcome,
    plain: &Outcome,
    case: &Case,
    conversation: &Conversation,
) -> Option<Violation> {
    judge_alone(outcome)
        .or_else(|| judge_errors(outcome, plain, case, conversation))
        .or_else(|| judge_reply(outcome, plain, case, conversation))
        .or_else(|| judge_remains(outcome, conversation))
}

fn judge_errors(
    outcome: &Outcome,
    plain: &Outcome,
    case: &Case,
    conversation: &Conversation,
) -> Option<Violation> {
    if case.variation().at().is_some() && conversation.may_fail_cut_short {
        return None;
    }
    let known = |error: &String| plain.health.errors.iter().any(|(plain, _)| plain == error);
    let (_, new) = outcome
        .health
        .errors
        .iter()
        .find(|(error, _)| !known(error))?;
    Some(Violation::new(Rule::NoNewError, "no error", new))
}

fn judge_reply(
    outcome: &Outcome,
    plain: &Outcome,
    case: &Case,
    conversation: &Conversation,
) -> Option<Violation> {
    let (seen, whole) = (&outcome.reply, &plain.reply);
    match case.variation() {
        Variation::Whole | Variation::Paused { .. } | Variation::Slow { .. } => {
            let rule = if case.is_plain() {
                Rule::Repeatable
            } else {
                Rule::Reply
            };
            // An error ends the connection at once, and its buffer is lost: the peer sees a reset.
            let is_cut = case.variation().buffer().is_some()
                && !outcome.health.errors.is_empty()
                && whole.starts_with(seen);
            if seen == whole {
                return judge_ending(outcome.ending, plain.ending);
            }
            if is_cut {
                return judge_ending(outcome.ending, Ending::Reset);
            }
            let (expected, seen) = difference(whole, seen);
            Some(Violation::new(rule, expected, seen))
        }
        Variation::Eof { .. } if conversation.may_answer_cut_short => None,
        Variation::Reset { .. } | Variation::Eof { .. } => {
            if whole.starts_with(seen) {
                return None;
            }
            let (expected, seen) = difference(whole, seen);
            let expected = format!("the beginning of {expected}");
            Some(Violation::new(Rule::Prefix, expected, seen))
        }
        // A timeout may have its own last words.
        Variation::Silence { .. } => None,
    }
}

/// Judges what was written in a pause by what the protocol writes at once when nothing holds it up.
pub(super) fn judge_flow(overrun: u64, burst: u64) -> Option<Violation> {
    let expected = || format!("at most {burst} bytes from pause_writing to resume_writing");
    (overrun > burst).then(|| Violation::new(Rule::Flow, expected(), format!("{overrun} bytes")))
}

fn judge_ending(seen: Ending, expected: Ending) -> Option<Violation> {
    (seen != expected).then(|| Violation::new(Rule::Ending, expected.text(), seen.text()))
}
