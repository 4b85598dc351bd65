//! The end of one direction of a connection.

use super::cases;
use super::fixture::{Fixture, Side};
use super::probe::put;
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

/// Tests that `write_eof` sends the buffer, then ends one direction. A peer that keeps its own open still
/// replies; when it ends that too, both ends are over, without a `close`.
///
/// # Errors
///
/// The violation that it found.
pub fn answer_after_eof(harness: &mut dyn Harness) -> Result<(), Violation> {
    const ASKED: u64 = 200_000;
    const ANSWERED: u64 = 300_000;
    for side in Side::BOTH {
        let variant = format!("write_eof by the {side:?} end");
        let mut fixture = Fixture::new(harness, "answer_after_eof", variant)?;
        let (first, second) = fixture.connect(side, Recorder::keep_open, Recorder::keep_open)?;
        fixture.put(&first, ASKED as usize)?;
        fixture.done("write_eof is taken", first.transport.write_eof())?;
        let rule = "an end of stream comes after the bytes before it";
        fixture.until(rule, "eof", second.saw(Seen::Eof))?;
        fixture.same(rule, ASKED, second.endpoint.received())?;
        fixture.settle()?;
        let rule = "an end of stream that was kept open leaves the connection as it is";
        fixture.same(rule, "made data eof", &second.words())?;
        fixture.same(rule, "made", &first.words())?;
        fixture.same(rule, false, second.transport.is_closing())?;

        fixture.put(&second, ANSWERED as usize)?;
        fixture.done("write_eof is taken", second.transport.write_eof())?;
        let rule = "when both directions have ended, the connection ends by itself";
        fixture.until(rule, "lost", first.lost())?;
        fixture.until(rule, "lost", second.lost())?;
        fixture.same("the reply arrives", ANSWERED, first.endpoint.received())?;
        for connected in [&first, &second] {
            fixture.same(rule, "made data eof lost", &connected.words())?;
            fixture.same(rule, "peer-eof", &connected.endpoint.reason())?;
        }
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that bytes written in `eof_received` arrive, also when that returns `Close`.
///
/// # Errors
///
/// The violation that it found.
pub fn answer_within_eof(harness: &mut dyn Harness) -> Result<(), Violation> {
    const ANSWERED: u64 = 500_000;
    for side in Side::BOTH {
        let variant = format!("write_eof by the {side:?} end");
        let mut fixture = Fixture::new(harness, "answer_within_eof", variant)?;
        let answer = |it: Recorder| {
            it.on_eof(|transport| {
                put(transport, ANSWERED as usize)?;
                Ok(OnEof::Close)
            })
        };
        let (first, second) = fixture.connect(side, |it| it, answer)?;
        fixture.done("write_eof is taken", first.transport.write_eof())?;
        fixture.until("connection_lost comes", "lost", first.lost())?;
        fixture.until("connection_lost comes", "lost", second.lost())?;
        let rule = "what is written in eof_received is sent before the connection closes";
        fixture.same(rule, ANSWERED, first.endpoint.received())?;
        let rule = "a close after the end of stream has that for its reason";
        fixture.same(rule, "peer-eof", &first.endpoint.reason())?;
        fixture.same(rule, "peer-eof", &second.endpoint.reason())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that after an EOF that was kept open, `close` ends the connection, for the reason that came
/// first.
///
/// # Errors
///
/// The violation that it found.
pub fn close_after_kept_open(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("write_eof by the {side:?} end");
        let mut fixture = Fixture::new(harness, "close_after_kept_open", variant)?;
        let (first, second) = fixture.connect(side, |it| it, Recorder::keep_open)?;
        fixture.done("write_eof is taken", first.transport.write_eof())?;
        fixture.until("eof_received comes", "eof", second.saw(Seen::Eof))?;
        fixture.put(&second, 10)?;
        second.transport.close();
        fixture.until("connection_lost comes", "lost", second.lost())?;
        let rule = "an end of stream that was told before close is the reason";
        fixture.same(rule, "peer-eof", &second.endpoint.reason())?;
        fixture.until("connection_lost comes", "lost", first.lost())?;
        fixture.same(
            "what was written before close arrives",
            10,
            first.endpoint.received(),
        )?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that after `write_eof` a write is refused and counts nothing, a second `write_eof` does nothing,
/// and reading goes on.
///
/// # Errors
///
/// The violation that it found.
pub fn write_eof_ends_writing(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("write_eof by the {side:?} end");
        let mut fixture = Fixture::new(harness, "write_eof_ends_writing", variant)?;
        let (first, second) = fixture.connect(side, |it| it, Recorder::keep_open)?;
        fixture.put(&first, 5)?;
        fixture.done("write_eof is taken", first.transport.write_eof())?;
        for _ in 0..2 {
            let refused = put(&first.transport, 1);
            let after_eof = matches!(refused, Err(WriteError::AfterEof { .. }));
            let rule = "a write after write_eof is refused as such";
            fixture.holds(rule, "AfterEof", after_eof)?;
            fixture.same(rule, 5, first.transport.written())?;
            let rule = "a second write_eof does nothing";
            fixture.done(rule, first.transport.write_eof())?;
            fixture.settle()?;
        }
        fixture.same("write_eof is no close", false, first.transport.is_closing())?;
        fixture.put(&second, 7)?;
        fixture.until("reading goes on after write_eof", "data", first.got(7))?;
        fixture.same(
            "one end of stream comes",
            1,
            second.endpoint.count(&Seen::Eof),
        )?;
        second.transport.close();
        fixture.until("connection_lost comes", "lost", first.lost())?;
        let rule = "a write after the end is refused as closed";
        let refused = put(&first.transport, 1);
        fixture.holds(
            rule,
            "Closed",
            matches!(refused, Err(WriteError::Closed { .. })),
        )?;
        let eof = first.transport.write_eof();
        fixture.holds(
            rule,
            "Closed",
            matches!(eof, Err(WriteError::Closed { .. })),
        )?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests two ends that end their direction before either knows of the other: both get all, and both end
/// cleanly, whatever their `eof_received` returns.
///
/// # Errors
///
/// The violation that it found.
pub fn write_eof_at_both_ends(harness: &mut dyn Harness) -> Result<(), Violation> {
    fn plain(it: Recorder) -> Recorder {
        it
    }
    const SENT: u64 = 100_000;
    type Plan = fn(Recorder) -> Recorder;
    let plans: [Plan; 2] = [plain, Recorder::keep_open];
    for (i, (one, other)) in [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter().enumerate() {
        let variant = format!("the {}. pair of results", i + 1);
        let mut fixture = Fixture::new(harness, "write_eof_at_both_ends", variant)?;
        let ends = fixture.connect(Side::Connecting, plans[one], plans[other])?;
        for connected in [&ends.0, &ends.1] {
            fixture.put(connected, SENT as usize)?;
            fixture.done("write_eof is taken", connected.transport.write_eof())?;
        }
        for connected in [&ends.0, &ends.1] {
            let rule = "when both directions have ended, the connection ends by itself";
            fixture.until(rule, "lost", connected.lost())?;
            fixture.same("all arrives", SENT, connected.endpoint.received())?;
            fixture.same(rule, "made data eof lost", &connected.words())?;
            fixture.same(rule, "peer-eof", &connected.endpoint.reason())?;
        }
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `close` after `write_eof` sends the bytes written before both; from then on writes are
/// refused because of the close.
///
/// # Errors
///
/// The violation that it found.
pub fn write_eof_then_close(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 900_000;
    for side in Side::BOTH {
        let variant = format!("by the {side:?} end");
        let mut fixture = Fixture::new(harness, "write_eof_then_close", variant)?;
        let (first, second) = fixture.connect(side, |it| it, |it| it)?;
        fixture.put(&first, SENT as usize)?;
        fixture.done("write_eof is taken", first.transport.write_eof())?;
        first.transport.close();
        let refused = put(&first.transport, 1);
        let rule = "a write after close is refused as such";
        let closing = matches!(refused, Err(WriteError::Closing { .. }));
        fixture.holds(rule, "Closing", closing)?;
        let eof = first.transport.write_eof();
        let closing = matches!(eof, Err(WriteError::Closing { .. }));
        fixture.holds(
            "write_eof after close is refused as such",
            "Closing",
            closing,
        )?;
        fixture.until("connection_lost comes", "lost", second.lost())?;
        fixture.until("connection_lost comes", "lost", first.lost())?;
        fixture.same("what was written is sent", SENT, second.endpoint.received())?;
        fixture.same(
            "our close is the reason",
            "local-close",
            &first.endpoint.reason(),
        )?;
        fixture.finish()?;
    }
    Ok(())
}
