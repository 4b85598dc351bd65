//! Reading that is stopped and goes on.

use super::cases;
use super::stage::{Side, Stage};
use super::{Harness, Violation};
use crate::Seen;

cases![
    paused_reading,
    stop_within_data_received,
    paused_at_both_ends
];

/// While reading is paused nothing is delivered, not the end of the stream either, and nothing is
/// lost; `resume_reading` goes on with what is there already.
pub fn paused_reading(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 20_000;
    for side in Side::BOTH {
        let scene = format!("paused by the {side:?} end");
        let mut stage = Stage::new(harness, "paused_reading", scene)?;
        let (reader, writer) = stage.connect(side, |it| it, |it| it)?;
        reader.transport.pause_reading();
        stage.put(&writer, SENT as usize)?;
        writer.transport.close();
        stage.settle()?;
        let rule = "nothing is delivered while reading is paused";
        stage.same(rule, "made", &reader.words())?;
        stage.same("is_reading tells", false, reader.transport.is_reading())?;
        reader.transport.resume_reading();
        stage.same("is_reading tells", true, reader.transport.is_reading())?;
        let rule = "resume_reading delivers what is there, then the end of the stream";
        stage.until(rule, "eof", reader.saw(Seen::Eof))?;
        stage.same(rule, SENT, reader.end.received())?;
        stage.finish()?;
    }
    Ok(())
}

/// `pause_reading` inside `data_received` holds from its return on, until resumed.
pub fn stop_within_data_received(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 700_000;
    for side in Side::BOTH {
        let scene = format!("stopped by the {side:?} end");
        let mut stage = Stage::new(harness, "stop_within_data_received", scene)?;
        let (reader, writer) = stage.connect(
            side,
            |it| {
                it.on_data(|transport, _| {
                    transport.pause_reading();
                    Ok(())
                })
            },
            |it| it,
        )?;
        stage.put(&writer, SENT as usize)?;
        writer.transport.close();
        let chunks = |stand: &super::stage::Stand| {
            let seen = stand.end.log().seen();
            seen.iter()
                .filter(|seen| matches!(seen, Seen::Data(_)))
                .count()
        };
        let mut delivered = 0;
        while reader.end.received() < SENT && !reader.end.is_lost() {
            let before = reader.end.received();
            let rule = "resume_reading delivers what is there";
            stage.until(rule, "data", reader.got(before + 1))?;
            delivered += 1;
            // What must not come has had its time a few times; then it costs only time.
            if delivered < 4 {
                stage.settle()?;
            }
            let rule = "pause_reading holds at once";
            stage.same(rule, delivered, chunks(&reader))?;
            reader.transport.resume_reading();
        }
        stage.same("nothing is lost by a stop", SENT, reader.end.received())?;
        stage.until("connection_lost comes", "lost", reader.lost())?;
        stage.same("one data each", delivered, chunks(&reader))?;
        stage.finish()?;
    }
    Ok(())
}

/// With reading paused at both ends, writing goes on at both.
pub fn paused_at_both_ends(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 3_000;
    let mut stage = Stage::new(harness, "paused_at_both_ends", "")?;
    let (one, other) = stage.connect(Side::Connecting, |it| it, |it| it)?;
    for stand in [&one, &other] {
        stand.transport.pause_reading();
        stage.put(stand, SENT as usize)?;
    }
    stage.settle()?;
    for stand in [&one, &other] {
        stage.same("what is written is sent", SENT, stand.transport.sent())?;
        stage.same("nothing is delivered", "made", &stand.words())?;
    }
    for stand in [&one, &other] {
        stand.transport.resume_reading();
        stage.until("what was sent arrives", "all", stand.got(SENT))?;
        stage.same("what was sent arrives", SENT, stand.end.received())?;
    }
    one.transport.close();
    stage.finish()
}
