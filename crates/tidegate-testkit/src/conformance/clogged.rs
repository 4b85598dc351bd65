//! Writers whose peer does not read.

use super::cases;
use super::probe::{Answer, put};
use super::stage::{Side, Stage, Stand};
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

/// What no transport takes for a peer that does not read.
const MOST: usize = 64 << 20;

fn writer_that_reads_on(it: Recorder) -> Recorder {
    it.on_pause(|_| Ok(OnPause::KeepReading))
}

/// Above the high-water mark `pause_writing` comes once, and `drain` and `flush` wait; when the
/// peer reads again `resume_writing` comes once, both are answered, and all arrives in order.
pub fn pause_and_resume_once(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "pause_and_resume_once", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        stage.same(
            "above high the flow is paused",
            Flow::Paused,
            writer.transport.flow(),
        )?;
        let drain = Answer::of(writer.transport.drain());
        let flush = Answer::of(writer.transport.flush());
        stage.settle()?;
        let rule = "pause_writing comes once, and nothing after it while the peer does not read";
        stage.same(rule, "pause", &writer.flow_words())?;
        let rule = "drain and flush wait while the peer does not read";
        stage.same(rule, (false, false), (drain.is_there(), flush.is_there()))?;

        reader.transport.resume_reading();
        let written = writer.transport.written();
        stage.until("all arrives", "all", reader.got(written))?;
        stage.until("drain is answered", "an answer", || drain.is_there())?;
        stage.until("flush is answered", "an answer", || flush.is_there())?;
        stage.settle()?;
        let answers = (drain.words(), flush.words());
        let rule = "drain and flush succeed when the peer has read";
        stage.same(rule, ("ok".to_owned(), "ok".to_owned()), answers)?;
        let rule = "resume_writing comes once when the buffer has drained";
        stage.same(rule, "pause resume", &writer.flow_words())?;
        stage.same(rule, Flow::Open, writer.transport.flow())?;
        stage.same(
            "nothing is buffered",
            0,
            writer.transport.write_buffer_size(),
        )?;
        stage.same("all arrives", written, reader.end.received())?;
        writer.transport.close();
        stage.finish()?;
    }
    Ok(())
}

/// `write` answers `Paused` from the write on that takes the buffer above the high-water mark, and
/// not before the kernel has refused bytes or the turn's bound is reached.
pub fn write_tells_of_the_pause(harness: &mut dyn Harness) -> Result<(), Violation> {
    const WRITE: usize = 10_000;
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "write_tells_of_the_pause", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        let limits = writer.transport.write_limits();
        let mut paused = false;
        for _ in 0..MOST / WRITE {
            let result = put(&writer.transport, WRITE);
            let flow = stage.done("a write below the cap is taken", result)?;
            paused = flow.is_paused();
            let above = writer.transport.write_buffer_size() > limits.high();
            stage.same("write answers Paused above high", above, paused)?;
            let rule = "flow tells what the last write did";
            stage.same(rule, flow, writer.transport.flow())?;
            if paused {
                break;
            }
        }
        let rule = "a peer that does not read pauses its writer";
        stage.same(rule, true, paused)?;
        reader.transport.resume_reading();
        let drained = Answer::of(writer.transport.drain());
        stage.until("drain is answered", "an answer", || drained.is_there())?;
        let rule = "at the low-water mark the flow is open again";
        stage.same(rule, Flow::Open, writer.transport.flow())?;
        writer.transport.close();
        stage.finish()?;
    }
    Ok(())
}

/// With a high-water mark of zero a single buffered byte pauses, and only the empty buffer resumes.
pub fn pause_above_zero(harness: &mut dyn Harness) -> Result<(), Violation> {
    let mut stage = Stage::new(harness, "pause_above_zero", "")?;
    let (writer, reader) = stage.connect(Side::Connecting, writer_that_reads_on, |it| it)?;
    reader.transport.pause_reading();
    stage.clog(&writer, WriteLimits::new().with_high(0))?;
    stage.settle()?;
    stage.same("one pause", "pause", &writer.flow_words())?;
    reader.transport.resume_reading();
    let rule = "resume_writing comes";
    stage.until(rule, "resume", writer.saw(Seen::Resume))?;
    let rule = "with high 0, resume_writing comes at the empty buffer";
    stage.same(rule, 0, writer.transport.write_buffer_size())?;
    writer.transport.close();
    stage.finish()
}

/// A change of the limits pauses and resumes at once, as the bytes that are buffered say.
pub fn limits_hold_at_once(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "limits_hold_at_once", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        stage.settle()?;
        let buffered = writer.transport.write_buffer_size();
        let table = [
            (buffered, "pause resume"),
            (buffered - 1, "pause resume pause"),
            (2 * buffered, "pause resume pause resume"),
        ];
        for (mark, flow) in table {
            let limits = WriteLimits::new().with_high(mark).with_low(mark);
            let rule = "limits in order are taken";
            stage.done(rule, writer.transport.set_write_limits(limits))?;
            let rule = "the flow follows the limits at once: paused above high, open at low";
            let expected = if flow.ends_with("pause") {
                Flow::Paused
            } else {
                Flow::Open
            };
            stage.same(rule, expected, writer.transport.flow())?;
            stage.settle()?;
            stage.same(
                "pause and resume follow the limits",
                flow,
                &writer.flow_words(),
            )?;
        }
        let wrong = WriteLimits::new().with_high(1).with_low(2);
        let before = writer.transport.write_limits();
        let rule = "limits out of order are refused, and change nothing";
        let refused = writer.transport.set_write_limits(wrong);
        stage.holds(rule, "an error", refused.is_err())?;
        stage.same(rule, before, writer.transport.write_limits())?;
        reader.transport.resume_reading();
        writer.transport.close();
        stage.finish()?;
    }
    Ok(())
}

/// At the cap a write takes nothing and says `BufferFull`; so memory is bounded by the cap and one
/// write. When the peer has read, writes are taken again, and none of what was taken is missing.
pub fn cap_refuses(harness: &mut dyn Harness) -> Result<(), Violation> {
    const CAP: usize = 300_000;
    const WRITE: usize = 70_000;
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "cap_refuses", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        let limits = WriteLimits::new().with_cap(CAP);
        stage.done(
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
                    stage.same(rule, written, writer.transport.written())?;
                    full += 1;
                }
                Err(error) => stage.done("a full buffer refuses as such", Err(error))?,
            }
            let rule = "no more is buffered than the cap and one write";
            let most = writer.transport.write_buffer_size() <= CAP + WRITE;
            stage.holds(rule, "at most 370000 bytes", most)?;
            if full > 0 {
                // The kernel may move bytes on late.
                stage.settle()?;
            }
            if full == 3 {
                break;
            }
        }
        stage.same("at the cap writes are refused", 3, full)?;
        let rule = "BufferFull does not end the connection";
        stage.same(rule, false, writer.transport.is_closing())?;
        reader.transport.resume_reading();
        let drained = Answer::of(writer.transport.drain());
        stage.until("drain is answered", "an answer", || drained.is_there())?;
        stage.put(&writer, WRITE)?;
        let written = writer.transport.written();
        writer.transport.close();
        stage.until("connection_lost comes", "lost", reader.lost())?;
        let rule = "what was taken arrives, what was refused does not";
        stage.same(rule, written, reader.end.received())?;
        stage.finish()?;
    }
    Ok(())
}

/// `StopReading` holds reading back while the buffer is above the low-water mark, and the loop
/// lifts the hold; a `pause_reading` is not lifted with it.
pub fn hold_on_reading(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        for paused_too in [false, true] {
            let scene = format!("held is the {side:?} end, paused too: {paused_too}");
            let mut stage = Stage::new(harness, "hold_on_reading", scene)?;
            let held = |it: Recorder| it.on_pause(|_| Ok(OnPause::StopReading));
            let (writer, reader) = stage.connect(side, held, |it| it)?;
            reader.transport.pause_reading();
            stage.clog(&writer, WriteLimits::new())?;
            stage.until("pause_writing comes", "pause", writer.saw(Seen::Pause))?;
            if paused_too {
                writer.transport.pause_reading();
            }
            stage.put(&reader, 100)?;
            stage.settle()?;
            let rule = "StopReading holds reading back";
            stage.same(rule, "made pause", &writer.all_words())?;
            stage.same(rule, false, writer.transport.is_reading())?;
            reader.transport.resume_reading();
            stage.until("resume_writing comes", "resume", writer.saw(Seen::Resume))?;
            if paused_too {
                stage.settle()?;
                let rule = "the loop does not lift a pause_reading";
                stage.same(rule, "made pause resume", &writer.all_words())?;
                writer.transport.resume_reading();
            }
            let rule = "the hold is lifted with resume_writing";
            stage.until(rule, "data", writer.got(100))?;
            stage.same(rule, "made pause resume data", &writer.all_words())?;
            writer.transport.close();
            stage.finish()?;
        }
    }
    Ok(())
}

/// `close` waits for a peer that does not read, and sends all; no pause or resume comes after it.
pub fn close_sends_the_rest(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "close_sends_the_rest", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        let drain = Answer::of(writer.transport.drain());
        let written = writer.transport.written();
        writer.transport.close();
        stage.settle()?;
        let rule = "close waits until all is sent";
        stage.same(rule, false, writer.end.is_lost())?;
        stage.same(rule, true, writer.transport.closed().is_none())?;
        reader.transport.resume_reading();
        stage.until("connection_lost comes", "lost", reader.lost())?;
        stage.until("connection_lost comes", "lost", writer.lost())?;
        stage.until("drain is answered", "an answer", || drain.is_there())?;
        stage.same("close sends all", written, reader.end.received())?;
        stage.same("drain succeeds", "ok", &drain.words())?;
        let rule = "nothing but connection_lost comes after close";
        stage.same(rule, "made lost", &writer.all_words())?;
        stage.same("the end is clean", "local-close", &writer.end.reason())?;
        stage.finish()?;
    }
    Ok(())
}

/// `close_within` gives up at its deadline: the reason is the timeout, what was not sent is
/// counted, and whoever waited for it is told. Of several deadlines the earliest holds.
pub fn close_within_gives_up(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "close_within_gives_up", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        for millis in [60_000, 5, 60_000] {
            writer.transport.close_within(Duration::from_millis(millis));
        }
        rest_is_lost(stage, &writer, &reader, "timeout")?;
    }
    Ok(())
}

/// `abort` drops what is buffered and counts it: the peer gets what was sent and no more.
pub fn abort_counts_the_rest(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "abort_counts_the_rest", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        stage.settle()?;
        let buffered = writer.transport.write_buffer_size() as u64;
        writer.transport.abort();
        let rule = "closed is known from abort on, with what was buffered";
        let unsent = writer.transport.closed().map(|closed| closed.unsent());
        stage.same(rule, Some(buffered), unsent)?;
        rest_is_lost(stage, &writer, &reader, "local-abort")?;
    }
    Ok(())
}

/// A peer that ends while our bytes wait for it ends the connection with an error of the system,
/// which all who wait are told.
pub fn peer_gone(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("writer is the {side:?} end");
        let mut stage = Stage::new(harness, "peer_gone", scene)?;
        let (writer, reader) = stage.connect(side, writer_that_reads_on, |it| it)?;
        reader.transport.pause_reading();
        stage.clog(&writer, WriteLimits::new())?;
        stage.settle()?;
        reader.transport.abort();
        rest_is_lost(stage, &writer, &reader, "io")?;
    }
    Ok(())
}

/// The end of a clogged writer that does not send the rest.
fn rest_is_lost(
    mut stage: Stage<'_>,
    writer: &Stand,
    reader: &Stand,
    reason: &str,
) -> Result<(), Violation> {
    let answers = [writer.transport.drain(), writer.transport.flush()].map(Answer::of);
    let ended = Answer::of(writer.transport.wait_closed());
    stage.until("connection_lost comes", "lost", writer.lost())?;
    stage.until("wait_closed is answered", "an answer", || ended.is_there())?;
    stage.same("the reason is what ended it", reason, &writer.end.reason())?;
    let closed = writer.end.closed();
    let unsent = closed.as_ref().is_some_and(|closed| closed.unsent() > 0);
    stage.holds("what was not sent is counted", "unsent bytes", unsent)?;
    if reason == "io" {
        let reset = closed.as_ref().is_some_and(tidegate::Closed::is_reset);
        let rule = "a peer that is gone shows as a reset or a broken pipe";
        stage.holds(rule, "is_reset", reset)?;
    }
    let told = closed.map(|closed| closed.to_string()).unwrap_or_default();
    let rule = "whoever waits for bytes that are lost is told how the connection ended";
    for answer in &answers {
        stage.until(rule, "an answer", || answer.is_there())?;
        stage.same(rule, &told, &answer.words())?;
    }
    stage.same("wait_closed tells it too", &told, &ended.closed())?;
    reader.transport.resume_reading();
    stage.finish()
}
