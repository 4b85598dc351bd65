//! Reading that is stopped and goes on.

use super::cases;
use super::connected::Connected;
use super::fixture::{Fixture, Side};
use super::{Harness, Violation};
use crate::Seen;

cases![
    paused_reading,
    stop_within_data_received,
    paused_at_both_ends
];

/// Tests that while reading is paused nothing is delivered, not the EOF either, and nothing is lost;
/// `resume_reading` goes on with the bytes that are there already.
///
/// # Errors
///
/// The violation that it found.
pub fn paused_reading(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 20_000;
    for side in Side::BOTH {
        let variant = format!("paused by the {side:?} end");
        let mut fixture = Fixture::new(harness, "paused_reading", variant)?;
        let (reader, writer) = fixture.connect(side, |it| it, |it| it)?;
        reader.transport.pause_reading();
        fixture.put(&writer, SENT as usize)?;
        writer.transport.close();
        fixture.settle()?;
        let rule = "nothing is delivered while reading is paused";
        fixture.same(rule, "made", &reader.words())?;
        fixture.same("is_reading tells", false, reader.transport.is_reading())?;
        reader.transport.resume_reading();
        fixture.same("is_reading tells", true, reader.transport.is_reading())?;
        let rule = "resume_reading delivers what is there, then the end of the stream";
        fixture.until(rule, "eof", reader.saw(Seen::Eof))?;
        fixture.same(rule, SENT, reader.endpoint.received())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `pause_reading` inside `data_received` holds from its return on, until resumed.
///
/// # Errors
///
/// The violation that it found.
pub fn stop_within_data_received(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 700_000;
    for side in Side::BOTH {
        let variant = format!("stopped by the {side:?} end");
        let mut fixture = Fixture::new(harness, "stop_within_data_received", variant)?;
        let (reader, writer) = fixture.connect(
            side,
            |it| {
                it.on_data(|transport, _| {
                    transport.pause_reading();
                    Ok(())
                })
            },
            |it| it,
        )?;
        fixture.put(&writer, SENT as usize)?;
        writer.transport.close();
        let chunks = |connected: &Connected| {
            let seen = connected.endpoint.log().seen();
            seen.iter()
                .filter(|seen| matches!(seen, Seen::Data(_)))
                .count()
        };
        let mut delivered = 0;
        while reader.endpoint.received() < SENT && !reader.endpoint.is_lost() {
            let before = reader.endpoint.received();
            let rule = "resume_reading delivers what is there";
            fixture.until(rule, "data", reader.got(before + 1))?;
            delivered += 1;
            // A forbidden callback has had its time a few times; more of them cost only time.
            if delivered < 4 {
                fixture.settle()?;
            }
            let rule = "pause_reading holds at once";
            fixture.same(rule, delivered, chunks(&reader))?;
            reader.transport.resume_reading();
        }
        fixture.same(
            "nothing is lost by a stop",
            SENT,
            reader.endpoint.received(),
        )?;
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.same("one data each", delivered, chunks(&reader))?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that with reading paused at both ends, writing goes on at both.
///
/// # Errors
///
/// The violation that it found.
pub fn paused_at_both_ends(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SENT: u64 = 3_000;
    let mut fixture = Fixture::new(harness, "paused_at_both_ends", "")?;
    let (one, other) = fixture.connect(Side::Connecting, |it| it, |it| it)?;
    for connected in [&one, &other] {
        connected.transport.pause_reading();
        fixture.put(connected, SENT as usize)?;
    }
    fixture.settle()?;
    for connected in [&one, &other] {
        fixture.same("what is written is sent", SENT, connected.transport.sent())?;
        fixture.same("nothing is delivered", "made", &connected.words())?;
    }
    for connected in [&one, &other] {
        connected.transport.resume_reading();
        fixture.until("what was sent arrives", "all", connected.got(SENT))?;
        fixture.same("what was sent arrives", SENT, connected.endpoint.received())?;
    }
    one.transport.close();
    fixture.finish()
}
