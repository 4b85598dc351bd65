//! The end of one direction of a connection.

use super::cases;
use super::probe::put;
use super::stage::{Side, Stage};
use super::{Harness, Violation};
use crate::{Recorder, Seen};
use tidegate::{OnEof, WriteError};

cases![
    answer_after_eof,
    answer_within_eof,
    close_after_kept_open,
    write_eof_ends_writing,
    write_eof_at_both_ends,
    write_eof_then_close,
];

/// `write_eof` sends what is buffered, then ends one direction. A peer that keeps its own open
/// still answers; when it ends that too, both ends are over, without a `close`.
pub fn answer_after_eof(harness: &mut dyn Harness) -> Result<(), Violation> {
    const ASKED: u64 = 200_000;
    const ANSWERED: u64 = 300_000;
    for side in Side::BOTH {
        let scene = format!("write_eof by the {side:?} end");
        let mut stage = Stage::new(harness, "answer_after_eof", scene)?;
        let (first, second) = stage.connect(side, Recorder::keep_open, Recorder::keep_open)?;
        stage.put(&first, ASKED as usize)?;
        stage.done("write_eof is taken", first.transport.write_eof())?;
        let rule = "an end of stream comes after the bytes before it";
        stage.until(rule, "eof", second.saw(Seen::Eof))?;
        stage.same(rule, ASKED, second.end.received())?;
        stage.settle()?;
        let rule = "an end of stream that was kept open leaves the connection as it is";
        stage.same(rule, "made data eof", &second.words())?;
        stage.same(rule, "made", &first.words())?;
        stage.same(rule, false, second.transport.is_closing())?;

        stage.put(&second, ANSWERED as usize)?;
        stage.done("write_eof is taken", second.transport.write_eof())?;
        let rule = "when both directions have ended, the connection ends by itself";
        stage.until(rule, "lost", first.lost())?;
        stage.until(rule, "lost", second.lost())?;
        stage.same("the answer arrives", ANSWERED, first.end.received())?;
        for stand in [&first, &second] {
            stage.same(rule, "made data eof lost", &stand.words())?;
            stage.same(rule, "peer-eof", &stand.end.reason())?;
        }
        stage.finish()?;
    }
    Ok(())
}

/// What is written in `eof_received` arrives, also when the answer is then to close.
pub fn answer_within_eof(harness: &mut dyn Harness) -> Result<(), Violation> {
    const ANSWERED: u64 = 500_000;
    for side in Side::BOTH {
        let scene = format!("write_eof by the {side:?} end");
        let mut stage = Stage::new(harness, "answer_within_eof", scene)?;
        let answer = |it: Recorder| {
            it.on_eof(|transport| {
                put(transport, ANSWERED as usize)?;
                Ok(OnEof::Close)
            })
        };
        let (first, second) = stage.connect(side, |it| it, answer)?;
        stage.done("write_eof is taken", first.transport.write_eof())?;
        stage.until("connection_lost comes", "lost", first.lost())?;
        stage.until("connection_lost comes", "lost", second.lost())?;
        let rule = "what is written in eof_received is sent before the connection closes";
        stage.same(rule, ANSWERED, first.end.received())?;
        let rule = "a close after the end of stream has that for its reason";
        stage.same(rule, "peer-eof", &first.end.reason())?;
        stage.same(rule, "peer-eof", &second.end.reason())?;
        stage.finish()?;
    }
    Ok(())
}

/// After an end of stream that was kept open, `close` ends the connection, for the reason that
/// came first.
pub fn close_after_kept_open(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("write_eof by the {side:?} end");
        let mut stage = Stage::new(harness, "close_after_kept_open", scene)?;
        let (first, second) = stage.connect(side, |it| it, Recorder::keep_open)?;
        stage.done("write_eof is taken", first.transport.write_eof())?;
        stage.until("eof_received comes", "eof", second.saw(Seen::Eof))?;
        stage.put(&second, 10)?;
        second.transport.close();
        stage.until("connection_lost comes", "lost", second.lost())?;
        let rule = "an end of stream that was told before close is the reason";
        stage.same(rule, "peer-eof", &second.end.reason())?;
        stage.until("connection_lost comes", "lost", first.lost())?;
        stage.same(
            "what was written before close arrives",
            10,
            first.end.received(),
        )?;
        stage.finish()?;
    }
    Ok(())
}

/// After `write_eof` a write is refused and counts nothing, a second `write_eof` does nothing, and
/// reading goes on.
pub fn write_eof_ends_writing(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let scene = format!("write_eof by the {side:?} end");
        let mut stage = Stage::new(harness, "write_eof_ends_writing", scene)?;
        let (first, second) = stage.connect(side, |it| it, Recorder::keep_open)?;
        stage.put(&first, 5)?;
        stage.done("write_eof is taken", first.transport.write_eof())?;
        for _ in 0..2 {
            let refused = put(&first.transport, 1);
            let after_eof = matches!(refused, Err(WriteError::AfterEof { .. }));
            let rule = "a write after write_eof is refused as such";
            stage.holds(rule, "AfterEof", after_eof)?;
            stage.same(rule, 5, first.transport.written())?;
            let rule = "a second write_eof does nothing";
            stage.done(rule, first.transport.write_eof())?;
            stage.settle()?;
        }
        stage.same("write_eof is no close", false, first.transport.is_closing())?;
        stage.put(&second, 7)?;
        stage.until("reading goes on after write_eof", "data", first.got(7))?;
        stage.same("one end of stream comes", 1, second.end.count(&Seen::Eof))?;
        second.transport.close();
        stage.until("connection_lost comes", "lost", first.lost())?;
        let rule = "a write after the end is refused as closed";
        let refused = put(&first.transport, 1);
        stage.holds(
            rule,
            "Closed",
            matches!(refused, Err(WriteError::Closed { .. })),
        )?;
        let eof = first.transport.write_eof();
        stage.holds(
            rule,
            "Closed",
            matches!(eof, Err(WriteError::Closed { .. })),
        )?;
        stage.finish()?;
    }
    Ok(())
}

/// Both ends end their direction before either knows of the other; both get all, and both end
/// cleanly, whatever they answer to the end of the stream.
pub fn write_eof_at_both_ends(harness: &mut dyn Harness) -> Result<(), Violation> {
    fn plain(it: Recorder) -> Recorder {
        it
    }
    const SENT: u64 = 100_000;
    type Plan = fn(Recorder) -> Recorder;
    let plans: [Plan; 2] = [plain, Recorder::keep_open];
    for (i, (one, other)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
        let scene = format!("the {}. pair of answers", i + 1);
        let mut stage = Stage::new(harness, "write_eof_at_both_ends", scene)?;
        let ends = stage.connect(Side::Connecting, plans[one], plans[other])?;
        for stand in [&ends.0, &ends.1] {
            stage.put(stand, SENT as usize)?;
            stage.done("write_eof is taken", stand.transport.write_eof())?;
        }
        for stand in [&ends.0, &ends.1] {
            let rule = "when both directions have ended, the connection ends by itself";
            stage.until(rule, "lost", stand.lost())?;
            stage.same("all arrives", SENT, stand.end.received())?;
            stage.same(rule, "made data eof lost", &stand.words())?;
            stage.same(rule, "peer-eof", &stand.end.reason())?;
        }
        stage.finish()?;
    }
    Ok(())
}

/// `close` after `write_eof` sends what was written before both; from then on writes are refused
/// because of the close.
pub fn write_eof_then_close(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 900_000;
    for side in Side::BOTH {
        let scene = format!("by the {side:?} end");
        let mut stage = Stage::new(harness, "write_eof_then_close", scene)?;
        let (first, second) = stage.connect(side, |it| it, |it| it)?;
        stage.put(&first, SENT as usize)?;
        stage.done("write_eof is taken", first.transport.write_eof())?;
        first.transport.close();
        let refused = put(&first.transport, 1);
        let rule = "a write after close is refused as such";
        let closing = matches!(refused, Err(WriteError::Closing { .. }));
        stage.holds(rule, "Closing", closing)?;
        let eof = first.transport.write_eof();
        let closing = matches!(eof, Err(WriteError::Closing { .. }));
        stage.holds(
            "write_eof after close is refused as such",
            "Closing",
            closing,
        )?;
        stage.until("connection_lost comes", "lost", second.lost())?;
        stage.until("connection_lost comes", "lost", first.lost())?;
        stage.same("what was written is sent", SENT, second.end.received())?;
        stage.same(
            "our close is the reason",
            "local-close",
            &first.end.reason(),
        )?;
        stage.finish()?;
    }
    Ok(())
}
