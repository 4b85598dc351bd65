//! The rules of a check of datagrams, and the judge that compares a run with them.

use super::DatagramViolation;
use super::case::DatagramCase;
use super::conversation::DatagramConversation;
use super::outcome::{Group, Outcome};
use crate::check::Violation;
use crate::dialogue::Escaped;
use std::fmt;

/// A rule for a protocol of datagrams that is [checked](crate::check_datagram_protocol). `Display` states it in full.
///
/// The rules about replies do not judge a protocol that [remembers](crate::DatagramConversation::remembers), nor one
/// that ends its endpoint in the plain run, but for `Answer` and `Repeatable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatagramRule {
    /// No callback panics.
    NoPanic,
    /// The callbacks come in the order that [`DatagramProtocol`](tidegate::DatagramProtocol) documents.
    Grammar,
    /// The protocol comes to rest.
    Rest,
    /// The protocol stops sending, or reading, before the cap of its queue refuses a send.
    Bounded,
    /// The plain run has the replies of the conversation, and no others.
    Answer,
    /// No callback returns an error in the plain run.
    NoError,
    /// The same conversation has the same replies each time.
    Repeatable,
    /// No callback returns an error that the plain run did not have.
    NoNewError,
    /// The replies to a datagram do not depend on other datagrams.
    Reply,
    /// The endpoint goes on, whatever its peers and the network do.
    GoesOn,
    /// Afterwards the conversation has its replies again.
    Recovers,
    /// The endpoint ends once it was closed.
    Ends,
    /// Nothing of an endpoint stays in the loop after its end.
    NothingLeft,
    /// Of [`check_datagram_case`](crate::check_datagram_case) itself: the conversation has the datagrams that the case
    /// names.
    Case,
}

impl fmt::Display for DatagramRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPanic => "no callback may panic",
            Self::Grammar => "the callbacks come in their order",
            Self::Rest => "the protocol must come to rest",
            Self::Bounded => {
                "the queue must not reach its cap: stop sending, or reading, while it is paused"
            }
            Self::Answer => "the replies are those that the conversation has, and no others",
            Self::NoError => {
                "no callback may return an error when all is well, unless the conversation may fail"
            }
            Self::Repeatable => "the same conversation has the same replies each time",
            Self::NoNewError => {
                "no callback may return an error that it does not return when all is well"
            }
            Self::Reply => {
                "the replies to a datagram must not depend on others, unless the protocol remembers"
            }
            Self::GoesOn => "the endpoint must go on, whatever its peers and the network do",
            Self::Recovers => "afterwards the conversation must have its replies again",
            Self::Ends => "the endpoint must end after it was closed",
            Self::NothingLeft => "nothing of an endpoint may stay in the loop after its end",
            Self::Case => "the case must be one of this conversation",
        })
    }
}

/// Makes a violation in the plain case, which `in_case` replaces.
pub(super) fn violation(
    rule: DatagramRule,
    expected: impl Into<String>,
    seen: impl Into<String>,
) -> DatagramViolation {
    let again = "check_datagram_case(factory";
    Violation::of(rule, expected, seen, DatagramCase::Plain, again)
}

type Judged = Option<DatagramViolation>;

/// Judges the plain run by itself.
pub(super) fn judge_plain(outcome: &Outcome, conversation: &DatagramConversation) -> Judged {
    judge_alone(outcome, DatagramCase::Plain, conversation)
        .or_else(|| {
            let (_, error) = outcome.health.errors.first()?;
            let allowed = conversation.may_fail;
            (!allowed).then(|| violation(DatagramRule::NoError, "no error", error))
        })
        .or_else(|| {
            let answers = conversation.answers()?;
            let groups = &outcome.groups;
            let seen = groups.iter().map(|group| &group.replies);
            let pair = answers
                .iter()
                .zip(seen)
                .find(|(expected, seen)| expected != seen)?;
            let (expected, seen) = (text(pair.0), text(pair.1));
            Some(violation(DatagramRule::Answer, expected, seen))
        })
        .or_else(|| judge_remains(outcome, conversation))
}

/// Judges a run beside the plain one.
pub(super) fn judge(
    outcome: &Outcome,
    plain: &Outcome,
    case: DatagramCase,
    conversation: &DatagramConversation,
) -> Judged {
    judge_alone(outcome, case, conversation)
        .or_else(|| {
            if case.has_strangers() && conversation.may_fail_on_junk {
                return None;
            }
            let known =
                |error: &String| plain.health.errors.iter().any(|(other, _)| other == error);
            let errors = &outcome.health.errors;
            let (_, new) = errors.iter().find(|(error, _)| !known(error))?;
            Some(violation(DatagramRule::NoNewError, "no error", new))
        })
        .or_else(|| {
            let ended = outcome.ended.as_ref()?;
            let allowed = plain.ended.is_some() || case.ends();
            (!allowed).then(|| violation(DatagramRule::GoesOn, "an open endpoint", ended))
        })
        .or_else(|| judge_replies(outcome, plain, case, conversation))
        .or_else(|| judge_remains(outcome, conversation))
}

fn judge_alone(
    outcome: &Outcome,
    case: DatagramCase,
    conversation: &DatagramConversation,
) -> Judged {
    let health = &outcome.health;
    if let Some(panic) = health.panics.first() {
        return Some(violation(DatagramRule::NoPanic, "no panic", panic));
    }
    if let Some(wrong) = health.violations.first() {
        let expected = "the documented order";
        return Some(violation(DatagramRule::Grammar, expected, wrong));
    }
    if let Some(busy) = &health.busy {
        return Some(violation(DatagramRule::Rest, "an end", busy));
    }
    // With a remote address the default implementation reads on, and leaves the bound to the cap.
    let by_default = conversation.connected && matches!(case, DatagramCase::Paused { .. });
    if outcome.refused > 0 && !conversation.may_drop && !by_default {
        let seen = format!("{} sends were refused at the cap", outcome.refused);
        return Some(violation(DatagramRule::Bounded, "no send at the cap", seen));
    }
    None
}

fn judge_remains(outcome: &Outcome, conversation: &DatagramConversation) -> Judged {
    if !outcome.health.lost {
        let silence = conversation.silence;
        let expected = format!("connection_lost within {silence:?} after the close");
        return Some(violation(DatagramRule::Ends, expected, "it did not come"));
    }
    if !outcome.health.left.is_empty() {
        let left = &outcome.health.left;
        return Some(violation(DatagramRule::NothingLeft, "nothing", left));
    }
    None
}

fn judge_replies(
    outcome: &Outcome,
    plain: &Outcome,
    case: DatagramCase,
    conversation: &DatagramConversation,
) -> Judged {
    if case == DatagramCase::Plain {
        let different = |(one, other): &(&Group, &Group)| one.replies != other.replies;
        if let Some(pair) = plain.groups.iter().zip(&outcome.groups).find(different) {
            return Some(of_groups(DatagramRule::Repeatable, pair.0, pair.1));
        }
    }
    if conversation.remembers || plain.ended.is_some() {
        return None;
    }
    let of_number = |group: &Group| plain.groups.iter().find(|plain| plain.of == group.of);
    let differs = |group: &&Group| of_number(group).is_some_and(|it| it.replies != group.replies);
    let own_stranger = conversation.connected && case.has_strangers();
    if !own_stranger {
        let judged = |group: &&Group| group.of.is_none_or(|number| !case.has_ended_by(number));
        let mut groups = outcome.groups.iter().filter(judged);
        if let Some(group) = groups.find(differs) {
            return Some(of_groups(DatagramRule::Reply, of_number(group)?, group));
        }
    }
    let known = |reply: &&Vec<u8>| plain.replies().any(|plain| plain == *reply);
    if let Some(strange) = outcome.loose.iter().find(|reply| !known(reply)) {
        let seen = Escaped(strange).to_string();
        let expected = "replies of the plain run, as many as come";
        return Some(violation(DatagramRule::Reply, expected, seen));
    }
    let group = outcome.again.iter().find(differs)?;
    Some(of_groups(DatagramRule::Recovers, of_number(group)?, group))
}

fn of_groups(rule: DatagramRule, expected: &Group, seen: &Group) -> DatagramViolation {
    let to = match expected.of {
        None => "before any datagram".to_owned(),
        Some(number) => format!("to datagram {number}"),
    };
    let expected = format!("{} {to}", text(&expected.replies));
    violation(rule, expected, text(&seen.replies))
}

fn text(replies: &[Vec<u8>]) -> String {
    if replies.is_empty() {
        return "nothing".into();
    }
    let texts: Vec<_> = replies
        .iter()
        .map(|data| Escaped(data).to_string())
        .collect();
    texts.join(", ")
}
