//! Runs one ending in one state: brings the connection into the state, ends it, checks both ends.

use super::ending::{Ending, Hook, Observed, State, end_and_observe};
use crate::conformance::Violation;
use crate::conformance::connected::Connected;
use crate::conformance::fixture::{Fixture, Side};
use crate::conformance::probe::{Endpoint, put};
use crate::{Recorder, Seen};
use std::rc::Rc;
use tidegate::{Closed, WriteLimits};

pub(super) fn run(
    mut fixture: Fixture<'_>,
    side: Side,
    state: State,
    ending: Ending,
) -> Result<(), Violation> {
    let hook = Hook {
        state,
        ending,
        endpoint: Endpoint::default(),
        observed: Rc::default(),
    };
    let acting = |it: Recorder| hook.plan(it);
    let other = |it: Recorder| match state {
        State::AfterWriteEof => it.keep_open(),
        _ => it,
    };
    let (actor, peer) = fixture.connect_acting(side, hook.endpoint.clone(), acting, other)?;
    // A reset may come before the other end knows that the connection is made.
    if state != State::InConnectionMade || ending.is_graceful() {
        let made = || peer.made().is_some();
        fixture.until("connection_made comes at both ends", "both made", made)?;
    }
    lead_to(&mut fixture, state, &actor, &peer)?;
    if hook.observed.borrow().is_none() {
        let observed = end_and_observe(state, ending, &actor.endpoint, &actor.transport);
        hook.observed.replace(Some(observed));
    }
    if state.is_clogged() && ending.is_graceful() {
        fixture.settle()?;
        fixture.same(
            "close waits until all is sent",
            false,
            actor.endpoint.is_lost(),
        )?;
    }
    if let Some(transport) = peer.made() {
        transport.resume_reading();
    }
    fixture.until("connection_lost comes", "lost", actor.lost())?;
    if state == State::AfterWriteEof
        && let Some(transport) = peer.made()
    {
        // It has had its end of stream, and may not see another end.
        transport.close();
    }
    if let Some(observed) = hook.observed.take() {
        check(&mut fixture, state, ending, &actor, &observed)?;
    }
    check_peer(&mut fixture, state, ending, &actor, &peer)?;
    fixture.finish()
}

/// Brings the connection into the state; in a callback the hook then ends it.
fn lead_to(
    fixture: &mut Fixture<'_>,
    state: State,
    actor: &Connected,
    peer: &Endpoint,
) -> Result<(), Violation> {
    let Some(there) = peer.made() else {
        return Ok(());
    };
    match state {
        State::JustMade | State::InConnectionMade | State::Buffered => {}
        State::InDataReceived => {
            let _ = put(&there, 1000);
            fixture.until("data_received comes", "data", actor.got(1000))?;
        }
        State::InEofReceived | State::AfterEofKeptOpen => {
            fixture.done("write_eof is taken", there.write_eof())?;
            fixture.until("eof_received comes", "eof", actor.saw(Seen::Eof))?;
        }
        State::InPauseWriting | State::PausedForWriting => {
            there.pause_reading();
            fixture.clog(actor, WriteLimits::new())?;
            fixture.until("pause_writing comes", "pause", actor.saw(Seen::Pause))?;
        }
        State::InResumeWriting => {
            there.pause_reading();
            fixture.clog(actor, WriteLimits::new())?;
            fixture.until("pause_writing comes", "pause", actor.saw(Seen::Pause))?;
            there.resume_reading();
            fixture.until("resume_writing comes", "resume", actor.saw(Seen::Resume))?;
        }
        State::InConnectionLost | State::Lost => {
            actor.transport.abort();
            fixture.until("connection_lost comes", "lost", actor.lost())?;
        }
        State::ReadingPaused => {
            actor.transport.pause_reading();
            let _ = put(&there, 50_000);
            fixture.settle()?;
        }
        State::AfterWriteEof => {
            fixture.put(actor, 2000)?;
            fixture.done("write_eof is taken", actor.transport.write_eof())?;
            let rule = "eof_received comes";
            let peer = peer.clone();
            fixture.until(rule, "eof", move || peer.log().has(&Seen::Eof))?;
        }
        State::Closing => actor.transport.close(),
        State::ClosingAndClogged => {
            there.pause_reading();
            fixture.clog(actor, WriteLimits::new())?;
            actor.transport.close();
            fixture.settle()?;
        }
        State::Aborted => actor.transport.abort(),
    }
    Ok(())
}

/// Checks the end that was ended.
fn check(
    fixture: &mut Fixture<'_>,
    state: State,
    ending: Ending,
    actor: &Connected,
    observed: &Observed,
) -> Result<(), Violation> {
    let answers =
        || observed.drain.is_there() && observed.flush.is_there() && observed.ended.is_there();
    fixture.until("every waiter completes", "three results", answers)?;
    fixture.settle()?;
    let rule = "what ends a connection calls nothing before it returns";
    fixture.same(rule, observed.seen_before, observed.seen_after)?;
    fixture.same("is_closing tells at once", true, observed.is_closing)?;
    let after = actor.endpoint.log().seen().split_off(observed.seen_after);
    let expected = if observed.was_lost {
        vec![]
    } else {
        vec![Seen::Lost]
    };
    let rule = "nothing but connection_lost comes after it";
    fixture.same(rule, expected, after)?;
    let rule = "the reason is the first thing that ended it";
    fixture.same(rule, state.reason(ending), &actor.endpoint.reason())?;

    let graceful = ending.is_graceful();
    let refusal = if graceful && !state.is_ended() {
        "Closing"
    } else {
        "Closed"
    };
    let rule = "a write after it is refused, and counts nothing";
    fixture.same(rule, (refusal, false), (observed.refusal, observed.counted))?;

    let closed = actor.endpoint.closed();
    let unsent = closed.as_ref().map_or(0, Closed::unsent);
    let told = closed.map(|closed| closed.to_string()).unwrap_or_default();
    if !state.is_ended() {
        let rule = "a graceful end sends all that was written, another drops what is buffered";
        let dropped = if graceful { 0 } else { observed.buffered };
        fixture.same(rule, dropped, unsent)?;
        if state.is_clogged() || state.writes() {
            fixture.holds("there is something to lose", "bytes", observed.buffered > 0)?;
        }
    }
    let drained = match &observed.closed_before {
        Some(_) => told.clone(),
        None if observed.was_paused && !graceful => told.clone(),
        None => "ok".to_owned(),
    };
    let rule = "drain succeeds only if the buffer drained";
    fixture.same(rule, drained, observed.drain.words())?;
    let flushed = if actor.transport.sent() >= observed.flush_target {
        "ok".to_owned()
    } else {
        told.clone()
    };
    let rule = "flush succeeds exactly when these bytes were sent";
    fixture.same(rule, flushed, observed.flush.words())?;
    let rule = "wait_closed tells what connection_lost was told";
    fixture.same(rule, told, observed.ended.closed())
}

/// Checks the other end.
fn check_peer(
    fixture: &mut Fixture<'_>,
    state: State,
    ending: Ending,
    actor: &Connected,
    peer: &Endpoint,
) -> Result<(), Violation> {
    if peer.made().is_none() {
        return Ok(());
    }
    let lost = peer.clone();
    let rule = "the peer of an ended connection is told";
    fixture.until(rule, "lost", move || lost.is_lost())?;
    let reason = match peer.closed() {
        Some(closed) if closed.is_reset() => "reset".to_owned(),
        _ => peer.reason(),
    };
    if ending.is_graceful() && !state.is_ended() {
        let rule = "the peer of a graceful end gets all, and a clean end of stream";
        fixture.same(rule, "peer-eof", &reason)?;
        return fixture.same(rule, actor.transport.written(), peer.received());
    }
    let undecided =
        state.is_ended() || matches!(state, State::AfterWriteEof | State::InConnectionMade);
    if ending == Ending::Reset && fixture.has_resets() && !undecided {
        return fixture.same("the peer sees a reset", "reset", &reason);
    }
    let unsent = actor.endpoint.closed().map_or(0, |closed| closed.unsent());
    if unsent > 0 && fixture.has_resets() {
        let rule = "the peer sees a reset where bytes were lost";
        return fixture.same(rule, "reset", &reason);
    }
    let rule = "the peer of an abort sees an end of stream, or a reset";
    fixture.holds(rule, rule, reason == "peer-eof" || reason == "reset")
}
