//! One ending in one state: how the connection gets there, and what must hold then.

use super::act::{Asked, Ending, Hook, State, ask};
use crate::conformance::Violation;
use crate::conformance::probe::{End, put};
use crate::conformance::stage::{Side, Stage, Stand};
use crate::{Recorder, Seen};
use std::rc::Rc;
use tidegate::{Closed, WriteLimits};

pub(super) fn play(
    mut stage: Stage<'_>,
    side: Side,
    state: State,
    ending: Ending,
) -> Result<(), Violation> {
    let hook = Hook {
        state,
        ending,
        end: End::default(),
        asked: Rc::default(),
    };
    let acting = |it: Recorder| hook.plan(it);
    let other = |it: Recorder| match state {
        State::AfterWriteEof => it.keep_open(),
        _ => it,
    };
    let (actor, peer) = stage.connect_acting(side, hook.end.clone(), acting, other)?;
    if !(state == State::InConnectionMade && ending == Ending::Reset) {
        let made = || peer.made().is_some();
        stage.until("connection_made comes at both ends", "both made", made)?;
    }
    lead_to(&mut stage, state, &actor, &peer)?;
    if hook.asked.borrow().is_none() {
        let asked = ask(state, ending, &actor.end, &actor.transport);
        hook.asked.replace(Some(asked));
    }
    if state.is_clogged() && ending.is_graceful() {
        stage.settle()?;
        stage.same("close waits until all is sent", false, actor.end.is_lost())?;
    }
    if let Some(transport) = peer.made() {
        transport.resume_reading();
    }
    stage.until("connection_lost comes", "lost", actor.lost())?;
    if state == State::AfterWriteEof
        && let Some(transport) = peer.made()
    {
        // It has had its end of stream, and may not see another end.
        transport.close();
    }
    if let Some(asked) = hook.asked.take() {
        check(&mut stage, state, ending, &actor, &asked)?;
    }
    check_peer(&mut stage, state, ending, &actor, &peer)?;
    stage.finish()
}

/// Brings the connection into the state; in a callback the ending is then asked for by the hook.
fn lead_to(
    stage: &mut Stage<'_>,
    state: State,
    actor: &Stand,
    peer: &End,
) -> Result<(), Violation> {
    let Some(there) = peer.made() else {
        return Ok(());
    };
    match state {
        State::JustMade | State::InConnectionMade | State::Buffered => {}
        State::InDataReceived => {
            let _ = put(&there, 1000);
            stage.until("data_received comes", "data", actor.got(1000))?;
        }
        State::InEofReceived | State::AfterEofKeptOpen => {
            stage.done("write_eof is taken", there.write_eof())?;
            stage.until("eof_received comes", "eof", actor.saw(Seen::Eof))?;
        }
        State::InPauseWriting | State::PausedForWriting => {
            there.pause_reading();
            stage.clog(actor, WriteLimits::new())?;
            stage.until("pause_writing comes", "pause", actor.saw(Seen::Pause))?;
        }
        State::InResumeWriting => {
            there.pause_reading();
            stage.clog(actor, WriteLimits::new())?;
            stage.until("pause_writing comes", "pause", actor.saw(Seen::Pause))?;
            there.resume_reading();
            stage.until("resume_writing comes", "resume", actor.saw(Seen::Resume))?;
        }
        State::InConnectionLost | State::Lost => {
            actor.transport.abort();
            stage.until("connection_lost comes", "lost", actor.lost())?;
        }
        State::ReadingPaused => {
            actor.transport.pause_reading();
            let _ = put(&there, 50_000);
            stage.settle()?;
        }
        State::AfterWriteEof => {
            stage.put(actor, 2000)?;
            stage.done("write_eof is taken", actor.transport.write_eof())?;
            let rule = "eof_received comes";
            let peer = peer.clone();
            stage.until(rule, "eof", move || peer.log().has(&Seen::Eof))?;
        }
        State::Closing => actor.transport.close(),
        State::ClosingAndClogged => {
            there.pause_reading();
            stage.clog(actor, WriteLimits::new())?;
            actor.transport.close();
            stage.settle()?;
        }
        State::Aborted => actor.transport.abort(),
    }
    Ok(())
}

/// What holds at the end that was ended.
fn check(
    stage: &mut Stage<'_>,
    state: State,
    ending: Ending,
    actor: &Stand,
    asked: &Asked,
) -> Result<(), Violation> {
    let answers = || asked.drain.is_there() && asked.flush.is_there() && asked.ended.is_there();
    stage.until("every waiter is answered", "three answers", answers)?;
    stage.settle()?;
    let rule = "what ends a connection calls nothing before it returns";
    stage.same(rule, asked.seen_before, asked.seen_after)?;
    stage.same("is_closing tells at once", true, asked.is_closing)?;
    let after = actor.end.log().seen().split_off(asked.seen_after);
    let expected = if asked.was_lost {
        vec![]
    } else {
        vec![Seen::Lost]
    };
    let rule = "nothing but connection_lost comes after it";
    stage.same(rule, expected, after)?;
    let rule = "the reason is the first thing that ended it";
    stage.same(rule, state.reason(ending), &actor.end.reason())?;

    let graceful = ending.is_graceful();
    let refusal = if graceful && !state.is_ended() {
        "Closing"
    } else {
        "Closed"
    };
    let rule = "a write after it is refused, and counts nothing";
    stage.same(rule, (refusal, false), (asked.refusal, asked.counted))?;

    let closed = actor.end.closed();
    let unsent = closed.as_ref().map_or(0, Closed::unsent);
    let told = closed.map(|closed| closed.to_string()).unwrap_or_default();
    if !state.is_ended() {
        let rule = "a graceful end sends all that was written, another drops what is buffered";
        let dropped = if graceful { 0 } else { asked.buffered };
        stage.same(rule, dropped, unsent)?;
        if state.is_clogged() || state.writes() {
            stage.holds("there is something to lose", "bytes", asked.buffered > 0)?;
        }
    }
    let drained = match &asked.closed_before {
        Some(_) => told.clone(),
        None if asked.was_paused && !graceful => told.clone(),
        None => "ok".to_owned(),
    };
    let rule = "drain succeeds only if the buffer drained";
    stage.same(rule, drained, asked.drain.words())?;
    let flushed = if actor.transport.sent() >= asked.flush_target {
        "ok".to_owned()
    } else {
        told.clone()
    };
    let rule = "flush succeeds exactly when these bytes were sent";
    stage.same(rule, flushed, asked.flush.words())?;
    let rule = "wait_closed tells what connection_lost was told";
    stage.same(rule, told, asked.ended.closed())
}

/// What holds at the other end.
fn check_peer(
    stage: &mut Stage<'_>,
    state: State,
    ending: Ending,
    actor: &Stand,
    peer: &End,
) -> Result<(), Violation> {
    if peer.made().is_none() {
        return Ok(());
    }
    let lost = peer.clone();
    let rule = "the peer of an ended connection is told";
    stage.until(rule, "lost", move || lost.is_lost())?;
    let reason = match peer.closed() {
        Some(closed) if closed.is_reset() => "reset".to_owned(),
        _ => peer.reason(),
    };
    if ending.is_graceful() && !state.is_ended() {
        let rule = "the peer of a graceful end gets all, and a clean end of stream";
        stage.same(rule, "peer-eof", &reason)?;
        return stage.same(rule, actor.transport.written(), peer.received());
    }
    let undecided = state.is_ended()
        || matches!(
            state,
            State::AfterWriteEof | State::Closing | State::InConnectionMade
        );
    if ending == Ending::Reset && stage.has_resets() && !undecided {
        return stage.same("the peer sees a reset", "reset", &reason);
    }
    let rule = "the peer of an abort sees an end of stream, or a reset";
    stage.holds(rule, rule, reason == "peer-eof" || reason == "reset")
}
