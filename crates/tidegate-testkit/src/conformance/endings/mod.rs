//! `close`, `close_within`, `abort` and `reset`, in every state of a connection, at each end.
//!
//! Each case tries the four of them. A call that ends a connection calls nothing before it returns. From
//! then on only `connection_lost` comes, once, and writes are refused. The reason is the first event
//! that ended the connection. A graceful end sends all that was written, and the peer sees a clean EOF;
//! another drops the buffer and counts it as unsent. Where the harness has resets, a peer sees one after
//! `reset`, and after any end that lost bytes. `drain`, `flush` and `wait_closed` all complete, and none
//! with a success that was not.

mod ending;
mod run;

use super::fixture::{Fixture, Side};
use super::{Harness, Violation, cases};
use ending::{Ending, State};

cases![
    just_made,
    in_connection_made,
    in_data_received,
    in_eof_received,
    in_pause_writing,
    in_resume_writing,
    in_connection_lost,
    paused_for_writing,
    with_buffered_bytes,
    with_reading_paused,
    after_write_eof,
    after_eof_kept_open,
    closing_already,
    closing_and_clogged,
    aborted_already,
    lost_already,
];

fn every_ending(
    harness: &mut dyn Harness,
    case: &'static str,
    state: State,
) -> Result<(), Violation> {
    for side in Side::BOTH {
        for ending in Ending::ALL {
            let variant = format!("{ending:?} by the {side:?} end");
            let fixture = Fixture::new(harness, case, variant)?;
            run::run(fixture, side, state, ending)?;
        }
    }
    Ok(())
}

/// Ends a connection that has only just been made.
///
/// # Errors
///
/// The violation that it found.
pub fn just_made(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "just_made", State::JustMade)
}

/// Ends it in `connection_made`, with bytes just written.
///
/// # Errors
///
/// The violation that it found.
pub fn in_connection_made(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_connection_made", State::InConnectionMade)
}

/// Ends it in `data_received`, with bytes just written.
///
/// # Errors
///
/// The violation that it found.
pub fn in_data_received(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_data_received", State::InDataReceived)
}

/// Ends it in `eof_received`, with bytes just written.
///
/// # Errors
///
/// The violation that it found.
pub fn in_eof_received(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_eof_received", State::InEofReceived)
}

/// Ends it in `pause_writing`.
///
/// # Errors
///
/// The violation that it found.
pub fn in_pause_writing(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_pause_writing", State::InPauseWriting)
}

/// Ends it in `resume_writing`.
///
/// # Errors
///
/// The violation that it found.
pub fn in_resume_writing(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_resume_writing", State::InResumeWriting)
}

/// Ends it in `connection_lost`, which changes nothing any more.
///
/// # Errors
///
/// The violation that it found.
pub fn in_connection_lost(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "in_connection_lost", State::InConnectionLost)
}

/// Ends it while its writer is paused: a graceful end waits for the peer, another loses the rest.
///
/// # Errors
///
/// The violation that it found.
pub fn paused_for_writing(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "paused_for_writing", State::PausedForWriting)
}

/// Ends it right after a write, before the loop could send.
///
/// # Errors
///
/// The violation that it found.
pub fn with_buffered_bytes(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "with_buffered_bytes", State::Buffered)
}

/// Ends it while reading is paused and the peer's bytes wait: they are lost, ours are not.
///
/// # Errors
///
/// The violation that it found.
pub fn with_reading_paused(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "with_reading_paused", State::ReadingPaused)
}

/// Ends it after `write_eof`, when the peer keeps its side open.
///
/// # Errors
///
/// The violation that it found.
pub fn after_write_eof(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "after_write_eof", State::AfterWriteEof)
}

/// Ends it after the peer's EOF, which was kept open.
///
/// # Errors
///
/// The violation that it found.
pub fn after_eof_kept_open(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "after_eof_kept_open", State::AfterEofKeptOpen)
}

/// Ends it right after `close`: there is nothing left to cut short.
///
/// # Errors
///
/// The violation that it found.
pub fn closing_already(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "closing_already", State::Closing)
}

/// Ends it while `close` waits for a peer that does not read: an abort ends the wait.
///
/// # Errors
///
/// The violation that it found.
pub fn closing_and_clogged(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "closing_and_clogged", State::ClosingAndClogged)
}

/// Ends it right after `abort`, before `connection_lost`: the first reason stands.
///
/// # Errors
///
/// The violation that it found.
pub fn aborted_already(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "aborted_already", State::Aborted)
}

/// Ends it after `connection_lost`, which does nothing.
///
/// # Errors
///
/// The violation that it found.
pub fn lost_already(harness: &mut dyn Harness) -> Result<(), Violation> {
    every_ending(harness, "lost_already", State::Lost)
}
