//! Writers whose peer does not read.

use super::cases;
use super::connected::Connected;
use super::fixture::{Fixture, Side};
use super::probe::{Answer, put};
use super::{Harness, Violation};
use crate::{Recorder, Seen};
use std::time::Duration;
use tidegate::{Flow, OnPause, WriteError, WriteLimits};

cases![
    pause_and_resume_once,
    write_tells_of_the_pause,
    pause_above_zero,
    limits_hold_at_once,
    cap_refuses,
    hold_on_reading,
    close_sends_the_rest,
    close_within_gives_up,
    abort_counts_the_rest,
    peer_gone,
];

/// A number of bytes that no transport takes for a peer that does not read.
const MOST: usize = 64 << 20;

fn writer_that_reads_on(it: Recorder) -> Recorder {
    it.on_pause(|_| Ok(OnPause::KeepReading))
}

/// Tests one pause and resume.
///
/// Above the high-water mark `pause_writing` comes once, and `drain` and `flush` wait. When the peer
/// reads again `resume_writing` comes once, both complete, and all bytes arrive in order.
///
/// # Errors
///
/// The violation that it found.
pub fn pause_and_resume_once(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "pause_and_resume_once", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        fixture.same(
            "above high the flow is paused",
            Flow::Paused,
            writer.transport.flow(),
        )?;
        let drain = Answer::of(writer.transport.drain());
        let flush = Answer::of(writer.transport.flush());
        fixture.settle()?;
        let rule = "pause_writing comes once, and nothing after it while the peer does not read";
        fixture.same(rule, "pause", &writer.flow_words())?;
        let rule = "drain and flush wait while the peer does not read";
        fixture.same(rule, (false, false), (drain.is_there(), flush.is_there()))?;

        reader.transport.resume_reading();
        let written = writer.transport.written();
        fixture.until("all arrives", "all", reader.got(written))?;
        fixture.until("drain completes", "a result", || drain.is_there())?;
        fixture.until("flush completes", "a result", || flush.is_there())?;
        fixture.settle()?;
        let answers = (drain.words(), flush.words());
        let rule = "drain and flush succeed when the peer has read";
        fixture.same(rule, ("ok".to_owned(), "ok".to_owned()), answers)?;
        let rule = "resume_writing comes once when the buffer has drained";
        fixture.same(rule, "pause resume", &writer.flow_words())?;
        fixture.same(rule, Flow::Open, writer.transport.flow())?;
        fixture.same(
            "nothing is buffered",
            0,
            writer.transport.write_buffer_size(),
        )?;
        fixture.same("all arrives", written, reader.endpoint.received())?;
        writer.transport.close();
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `write` returns `Paused` from the write on that takes the buffer above the high-water mark,
/// and not before the kernel has refused bytes or the bound of one tick is reached.
///
/// # Errors
///
/// The violation that it found.
pub fn write_tells_of_the_pause(harness: &mut dyn Harness) -> Result<(), Violation> {
    const WRITE: usize = 10_000;
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "write_tells_of_the_pause", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        let limits = writer.transport.write_limits();
        let mut paused = false;
        for _ in 0..MOST / WRITE {
            let result = put(&writer.transport, WRITE);
            let flow = fixture.done("a write below the cap is taken", result)?;
            paused = flow.is_paused();
            let above = writer.transport.write_buffer_size() > limits.high();
            fixture.same("write returns Paused above high", above, paused)?;
            let rule = "flow tells what the last write did";
            fixture.same(rule, flow, writer.transport.flow())?;
            if paused {
                break;
            }
        }
        let rule = "a peer that does not read pauses its writer";
        fixture.same(rule, true, paused)?;
        reader.transport.resume_reading();
        let drained = Answer::of(writer.transport.drain());
        fixture.until("drain completes", "a result", || drained.is_there())?;
        let rule = "at the low-water mark the flow is open again";
        fixture.same(rule, Flow::Open, writer.transport.flow())?;
        writer.transport.close();
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that with a high-water mark of zero a single buffered byte pauses, and only the empty buffer
/// resumes.
///
/// # Errors
///
/// The violation that it found.
pub fn pause_above_zero(harness: &mut dyn Harness) -> Result<(), Violation> {
    let mut fixture = Fixture::new(harness, "pause_above_zero", "")?;
    let (writer, reader) = fixture.connect(Side::Connecting, writer_that_reads_on, |it| it)?;
    reader.transport.pause_reading();
    fixture.clog(&writer, WriteLimits::new().with_high(0))?;
    fixture.settle()?;
    fixture.same("one pause", "pause", &writer.flow_words())?;
    reader.transport.resume_reading();
    let rule = "resume_writing comes";
    fixture.until(rule, "resume", writer.saw(Seen::Resume))?;
    let rule = "with high 0, resume_writing comes at the empty buffer";
    fixture.same(rule, 0, writer.transport.write_buffer_size())?;
    writer.transport.close();
    fixture.finish()
}

/// Tests that a change of the limits pauses and resumes at once, by the number of buffered bytes.
///
/// # Errors
///
/// The violation that it found.
pub fn limits_hold_at_once(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "limits_hold_at_once", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        fixture.settle()?;
        let buffered = writer.transport.write_buffer_size();
        let table = [
            (buffered, "pause resume"),
            (buffered - 1, "pause resume pause"),
            (2 * buffered, "pause resume pause resume"),
        ];
        for (mark, flow) in table {
            let limits = WriteLimits::new().with_high(mark).with_low(mark);
            let rule = "limits in order are taken";
            fixture.done(rule, writer.transport.set_write_limits(limits))?;
            let rule = "the flow follows the limits at once: paused above high, open at low";
            let expected = if flow.ends_with("pause") {
                Flow::Paused
            } else {
                Flow::Open
            };
            fixture.same(rule, expected, writer.transport.flow())?;
            fixture.settle()?;
            fixture.same(
                "pause and resume follow the limits",
                flow,
                &writer.flow_words(),
            )?;
        }
        let wrong = WriteLimits::new().with_high(1).with_low(2);
        let before = writer.transport.write_limits();
        let rule = "limits out of order are refused, and change nothing";
        let refused = writer.transport.set_write_limits(wrong);
        fixture.holds(rule, "an error", refused.is_err())?;
        fixture.same(rule, before, writer.transport.write_limits())?;
        reader.transport.resume_reading();
        writer.transport.close();
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that at the cap a write takes nothing and fails with `BufferFull`, which bounds memory by the
/// cap and one write. When the peer has read, writes are taken again, and no taken byte is missing.
///
/// # Errors
///
/// The violation that it found.
pub fn cap_refuses(harness: &mut dyn Harness) -> Result<(), Violation> {
    const CAP: usize = 300_000;
    const WRITE: usize = 70_000;
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "cap_refuses", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        let limits = WriteLimits::new().with_cap(CAP);
        fixture.done(
            "limits are taken",
            writer.transport.set_write_limits(limits),
        )?;
        let mut full = 0;
        for _ in 0..MOST / WRITE {
            let written = writer.transport.written();
            match put(&writer.transport, WRITE) {
                Ok(_) => {}
                Err(WriteError::BufferFull { .. }) => {
                    let rule = "a refused write takes nothing";
                    fixture.same(rule, written, writer.transport.written())?;
                    full += 1;
                }
                Err(error) => fixture.done("a full buffer refuses as such", Err(error))?,
            }
            let rule = "no more is buffered than the cap and one write";
            let most = writer.transport.write_buffer_size() <= CAP + WRITE;
            fixture.holds(rule, "at most 370000 bytes", most)?;
            if full > 0 {
                // The kernel may move bytes on late.
                fixture.settle()?;
            }
            if full == 3 {
                break;
            }
        }
        fixture.same("at the cap writes are refused", 3, full)?;
        let rule = "BufferFull does not end the connection";
        fixture.same(rule, false, writer.transport.is_closing())?;
        reader.transport.resume_reading();
        let drained = Answer::of(writer.transport.drain());
        fixture.until("drain completes", "a result", || drained.is_there())?;
        fixture.put(&writer, WRITE)?;
        let written = writer.transport.written();
        writer.transport.close();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        let rule = "what was taken arrives, what was refused does not";
        fixture.same(rule, written, reader.endpoint.received())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `StopReading` holds reading back while the buffer is above the low-water mark, and that the
/// loop lifts the hold; a `pause_reading` is not lifted with it.
///
/// # Errors
///
/// The violation that it found.
pub fn hold_on_reading(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        for paused_too in [false, true] {
            let variant = format!("held is the {side:?} end, paused too: {paused_too}");
            let mut fixture = Fixture::new(harness, "hold_on_reading", variant)?;
            let held = |it: Recorder| it.on_pause(|_| Ok(OnPause::StopReading));
            let (writer, reader) = fixture.connect(side, held, |it| it)?;
            reader.transport.pause_reading();
            fixture.clog(&writer, WriteLimits::new())?;
            fixture.until("pause_writing comes", "pause", writer.saw(Seen::Pause))?;
            if paused_too {
                writer.transport.pause_reading();
            }
            fixture.put(&reader, 100)?;
            fixture.settle()?;
            let rule = "StopReading holds reading back";
            fixture.same(rule, "made pause", &writer.all_words())?;
            fixture.same(rule, false, writer.transport.is_reading())?;
            reader.transport.resume_reading();
            fixture.until("resume_writing comes", "resume", writer.saw(Seen::Resume))?;
            if paused_too {
                fixture.settle()?;
                let rule = "the loop does not lift a pause_reading";
                fixture.same(rule, "made pause resume", &writer.all_words())?;
                writer.transport.resume_reading();
            }
            let rule = "the hold is lifted with resume_writing";
            fixture.until(rule, "data", writer.got(100))?;
            fixture.same(rule, "made pause resume data", &writer.all_words())?;
            writer.transport.close();
            fixture.finish()?;
        }
    }
    Ok(())
}

/// Tests that `close` waits for a peer that does not read, and sends all; no pause or resume comes after
/// it.
///
/// # Errors
///
/// The violation that it found.
pub fn close_sends_the_rest(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "close_sends_the_rest", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        let drain = Answer::of(writer.transport.drain());
        let written = writer.transport.written();
        writer.transport.close();
        fixture.settle()?;
        let rule = "close waits until all is sent";
        fixture.same(rule, false, writer.endpoint.is_lost())?;
        fixture.same(rule, true, writer.transport.closed().is_none())?;
        reader.transport.resume_reading();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.until("connection_lost comes", "lost", writer.lost())?;
        fixture.until("drain completes", "a result", || drain.is_there())?;
        fixture.same("close sends all", written, reader.endpoint.received())?;
        fixture.same("drain succeeds", "ok", &drain.words())?;
        let rule = "nothing but connection_lost comes after close";
        fixture.same(rule, "made lost", &writer.all_words())?;
        fixture.same("the end is clean", "local-close", &writer.endpoint.reason())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `close_within` ends the connection at its deadline: the reason is the timeout, unsent bytes
/// are counted, and their waiters fail. Of several deadlines the earliest holds.
///
/// # Errors
///
/// The violation that it found.
pub fn close_within_gives_up(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "close_within_gives_up", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        for millis in [60_000, 5, 60_000] {
            writer.transport.close_within(Duration::from_millis(millis));
        }
        rest_is_lost(fixture, &writer, &reader, "timeout")?;
    }
    Ok(())
}

/// Tests that `abort` drops buffered bytes and counts them: the peer gets the sent ones and no more.
///
/// # Errors
///
/// The violation that it found.
pub fn abort_counts_the_rest(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "abort_counts_the_rest", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        fixture.settle()?;
        let buffered = writer.transport.write_buffer_size() as u64;
        writer.transport.abort();
        let rule = "closed is known from abort on, with what was buffered";
        let unsent = writer.transport.closed().map(|closed| closed.unsent());
        fixture.same(rule, Some(buffered), unsent)?;
        rest_is_lost(fixture, &writer, &reader, "local-abort")?;
    }
    Ok(())
}

/// Tests that a peer that ends while our bytes wait for it ends the connection with an error of the
/// system, with which all waiters fail.
///
/// # Errors
///
/// The violation that it found.
pub fn peer_gone(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("writer is the {side:?} end");
        let mut fixture = Fixture::new(harness, "peer_gone", variant)?;
        let (writer, reader) = fixture.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        fixture.clog(&writer, WriteLimits::new())?;
        fixture.settle()?;
        reader.transport.abort();
        rest_is_lost(fixture, &writer, &reader, "io")?;
    }
    Ok(())
}

/// The end of a clogged writer that does not send the rest.
fn rest_is_lost(
    mut fixture: Fixture<'_>,
    writer: &Connected,
    reader: &Connected,
    reason: &str,
) -> Result<(), Violation> {
    let answers = [writer.transport.drain(), writer.transport.flush()].map(Answer::of);
    let ended = Answer::of(writer.transport.wait_closed());
    fixture.until("connection_lost comes", "lost", writer.lost())?;
    fixture.until("wait_closed completes", "a result", || ended.is_there())?;
    fixture.same(
        "the reason is what ended it",
        reason,
        &writer.endpoint.reason(),
    )?;
    let closed = writer.endpoint.closed();
    let unsent = closed.as_ref().is_some_and(|closed| closed.unsent() > 0);
    fixture.holds("what was not sent is counted", "unsent bytes", unsent)?;
    if reason == "io" {
        let reset = closed.as_ref().is_some_and(tidegate::Closed::is_reset);
        let rule = "a peer that is gone shows as a reset or a broken pipe";
        fixture.holds(rule, "is_reset", reset)?;
    }
    let told = closed.map(|closed| closed.to_string()).unwrap_or_default();
    let rule = "whoever waits for bytes that are lost is told how the connection ended";
    for answer in &answers {
        fixture.until(rule, "a result", || answer.is_there())?;
        fixture.same(rule, &told, &answer.words())?;
    }
    fixture.same("wait_closed tells it too", &told, &ended.closed())?;
    reader.transport.resume_reading();
    fixture.finish()
}
