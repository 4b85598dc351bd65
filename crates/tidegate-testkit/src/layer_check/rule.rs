//! The rules for layers, and the judge that compares a run with them.

use super::case::{LayerCase, LayerVariation, Side};
use super::run::{Outcome, Seen};
use super::violation::LayerViolation;
use crate::difference::difference;
use std::fmt;
use std::io;
use tidegate::{CloseReason, Closed};

/// A rule for layers that are [checked](crate::check_layer). `Display` states it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerRule {
    /// No method panics.
    NoPanic,
    /// The layers come to rest: no call without progress.
    Rest,
    /// Both layers open.
    Opens,
    /// The bytes that go in at one end come out at the other.
    Bytes,
    /// No layer fails when all is well.
    NoError,
    /// The end of a stream at one end is the end at the other.
    End,
    /// A stream that was cut never looks like one that ended.
    Cut,
    /// The connections end once their peers have gone.
    Ends,
    /// Nothing of a connection stays in the loop after its end.
    NothingLeft,
}

impl fmt::Display for LayerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPanic => "no method of a layer may panic",
            Self::Rest => "the layers must come to rest: no call without progress",
            Self::Opens => "both layers must open",
            Self::Bytes => "what goes in at one end must come out at the other, once and in order",
            Self::NoError => "no layer may fail when all is well",
            Self::End => "the end of the stream at one end must be the end at the other",
            Self::Cut => "a stream that was cut must never look like one that ended",
            Self::Ends => "the connections must end after their peers have gone",
            Self::NothingLeft => "nothing of a connection may stay in the loop after its end",
        })
    }
}

/// Judges a run. With `cut_is_end` the layers cannot tell a cut from an end.
pub(super) fn judge(
    outcome: &Outcome,
    case: &LayerCase,
    cut_is_end: bool,
) -> Option<LayerViolation> {
    let violation = LayerViolation::new;
    if let Some(panic) = &outcome.panic {
        return Some(violation(LayerRule::NoPanic, "no panic", panic));
    }
    if let Some(busy) = &outcome.busy {
        return Some(violation(LayerRule::Rest, "an end", busy));
    }
    if outcome.was_cut {
        let judge_cut = |side| judge_cut_short(outcome.of(side), side, cut_is_end);
        // First the end that had the cut.
        let first = case.variation().cut_to().unwrap_or(Side::Client);
        judge_cut(first).or_else(|| judge_cut(first.other()))
    } else {
        judge_opening(outcome)
            .or_else(|| judge_each(outcome, judge_order))
            .or_else(|| judge_each(outcome, judge_failure))
            .or_else(|| judge_each(outcome, judge_number))
            .or_else(|| judge_each(outcome, |seen, side| judge_end(seen, side, case)))
    }
    .or_else(|| judge_remains(outcome))
}

fn judge_each(
    outcome: &Outcome,
    judge: impl Fn(&Seen, Side) -> Option<LayerViolation>,
) -> Option<LayerViolation> {
    let mut sides = Side::BOTH.into_iter();
    sides.find_map(|side| judge(outcome.of(side), side))
}

fn judge_opening(outcome: &Outcome) -> Option<LayerViolation> {
    judge_each(outcome, |seen, side| {
        if seen.was_made {
            return None;
        }
        let why = seen.failed.as_deref();
        let seen = why.unwrap_or("it did not come in an hour, or its connection ended before");
        let expected = format!("connection_made of the {side}");
        Some(LayerViolation::new(LayerRule::Opens, expected, seen))
    })
}

/// Judges what came out, as far as it came.
fn judge_order(seen: &Seen, side: Side) -> Option<LayerViolation> {
    if seen.expected.starts_with(&seen.received) {
        return None;
    }
    let (expected, came) = difference(&seen.expected, &seen.received);
    let expected = format!("the {side} receives {expected}");
    Some(LayerViolation::new(LayerRule::Bytes, expected, came))
}

/// Judges an error that is not only the end that the peer's error has brought.
fn judge_failure(seen: &Seen, side: Side) -> Option<LayerViolation> {
    let closed = seen.closed.as_ref()?;
    let CloseReason::Io(error) = closed.reason() else {
        return None;
    };
    let is_cause = error.kind() != io::ErrorKind::UnexpectedEof && !closed.is_reset();
    is_cause.then(|| lost_with(side, closed))
}

/// Judges whether all came out.
fn judge_number(seen: &Seen, side: Side) -> Option<LayerViolation> {
    let (len, all) = (seen.received.len(), seen.expected.len());
    if len == all {
        return None;
    }
    let closed = seen.closed.as_ref();
    let why = closed.map_or("and no end".to_owned(), |closed| format!("then {closed}"));
    let expected = format!("the {side} receives {all} bytes");
    let came = format!("{len} bytes, {why}");
    Some(LayerViolation::new(LayerRule::Bytes, expected, came))
}

/// Judges the end of a connection whose bytes all came.
fn judge_end(seen: &Seen, side: Side, case: &LayerCase) -> Option<LayerViolation> {
    let closes = case.variation() == LayerVariation::Close && side == Side::Client;
    let has_end = seen.saw_eof || closes;
    match &seen.closed {
        Some(closed) if has_end && closed.is_clean() => None,
        Some(closed) if has_end => Some(lost_with(side, closed)),
        Some(closed) => {
            let expected = format!("eof_received of the {side}");
            let seen = format!("connection_lost without it: {closed}");
            Some(LayerViolation::new(LayerRule::End, expected, seen))
        }
        None => {
            let expected = format!("the end of the {side}'s connection");
            let seen = match seen.saw_eof {
                true => "eof_received, and no connection_lost",
                false => "no eof_received in an hour",
            };
            Some(LayerViolation::new(LayerRule::End, expected, seen))
        }
    }
}

fn lost_with(side: Side, closed: &Closed) -> LayerViolation {
    let seen = format!("the {side}'s connection was lost: {closed}");
    LayerViolation::new(LayerRule::NoError, "no error", seen)
}

/// Judges one end of a connection on which a stream was cut.
fn judge_cut_short(seen: &Seen, side: Side, cut_is_end: bool) -> Option<LayerViolation> {
    let disorder = judge_order(seen, side);
    if disorder.is_some() || cut_is_end || !seen.saw_eof || seen.received == *seen.expected {
        return disorder;
    }
    let (len, all) = (seen.received.len(), seen.expected.len());
    let expected = format!("an error of the {side}'s layer in input_ended");
    let came = format!("eof_received of the {side} after {len} of {all} bytes");
    Some(LayerViolation::new(LayerRule::Cut, expected, came))
}

fn judge_remains(outcome: &Outcome) -> Option<LayerViolation> {
    judge_each(outcome, |seen, side| {
        let stays = seen.was_made && seen.closed.is_none();
        let expected = format!("connection_lost of the {side} after its peer has left");
        stays.then(|| LayerViolation::new(LayerRule::Ends, expected, "it did not come in an hour"))
    })
    .or_else(|| {
        let left = outcome.left.as_ref()?;
        Some(LayerViolation::new(LayerRule::NothingLeft, "nothing", left))
    })
}
