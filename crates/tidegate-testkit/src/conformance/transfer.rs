//! Bytes from one end to the other, in every form of a write.

use super::cases;
use super::fixture::{Fixture, Side};
use super::pattern::pattern;
use super::probe::{Answer, put};
use super::{Harness, Violation};
use crate::{Recorder, Seen};
use std::cell::Cell;
use std::io::IoSlice;
use std::rc::Rc;
use tidegate::{Flow, OnPause, Transport, WriteError};

cases![
    one_way,
    small_writes,
    many_slices,
    two_ways_at_once,
    request_and_answer,
    own_read_buffer,
    flush_means_sent,
];

#[derive(Debug, Clone, Copy)]
enum Form {
    Slice,
    Vectored,
    Owned,
    Text,
}

impl Form {
    const ALL: [Self; 4] = [Self::Slice, Self::Vectored, Self::Owned, Self::Text];

    /// Writes the next `len` bytes of the pattern.
    fn put(self, transport: &Transport, len: usize) -> Result<Flow, WriteError> {
        let data = pattern(transport.written(), len);
        match self {
            Self::Slice => transport.write(&data),
            Self::Owned => transport.write_owned(data),
            Self::Vectored => {
                let (front, back) = data.split_at(len / 3);
                transport.write_vectored(&[front, &[], back].map(IoSlice::new))
            }
            Self::Text => transport.write_fmt(format_args!("{}", String::from_utf8_lossy(&data))),
        }
    }
}

/// Tests that `close` sends a write of any size and form, the empty one and those around the high-water
/// mark among them, and ends cleanly. The peer gets the bytes, and then the EOF.
///
/// # Errors
///
/// The violation that it found.
pub fn one_way(harness: &mut dyn Harness) -> Result<(), Violation> {
    const KIB: usize = 1024;
    let sizes = [
        0,
        1,
        16 * KIB - 1,
        16 * KIB,
        64 * KIB - 1,
        64 * KIB,
        64 * KIB + 1,
        3 * KIB * KIB + 17,
    ];
    for side in Side::BOTH {
        for form in Form::ALL {
            for size in sizes {
                let variant = format!("{form:?} of {size} bytes by the {side:?} end");
                let mut fixture = Fixture::new(harness, "one_way", variant)?;
                let (writer, reader) = fixture.connect(side, |it| it, |it| it)?;
                fixture.done("a write is taken", form.put(&writer.transport, size))?;
                let rule = "a write is counted whole, an empty one as nothing";
                fixture.same(rule, size as u64, writer.transport.written())?;
                writer.transport.close();
                fixture.until("connection_lost comes", "lost", reader.lost())?;
                let words = if size == 0 {
                    "made eof lost"
                } else {
                    "made data eof lost"
                };
                let rule = "a peer gets the bytes, then the end of the stream";
                fixture.same(rule, words, &reader.words())?;
                fixture.until("connection_lost comes", "lost", writer.lost())?;
                let reasons = (writer.endpoint.reason(), reader.endpoint.reason());
                let expected = ("local-close".to_owned(), "peer-eof".to_owned());
                fixture.same("a close ends cleanly at both ends", expected, reasons)?;
                fixture.same("close sends all", size as u64, reader.endpoint.received())?;
                fixture.finish()?;
            }
        }
    }
    Ok(())
}

/// Tests that thousands of small writes of every form, and a large one in their midst, arrive in the
/// order of the calls, inside a callback and outside; empty ones are none, and no error.
///
/// # Errors
///
/// The violation that it found.
pub fn small_writes(harness: &mut dyn Harness) -> Result<(), Violation> {
    const WRITES: usize = 1000;
    // The small ones before the large one wait to go out together; it is not to overtake them.
    let len = |i: usize| if i == 5 { 70_000 } else { i % 7 };
    let burst = move |transport: &Transport| -> Result<u64, WriteError> {
        let before = transport.written();
        for i in 0..WRITES {
            Form::ALL[i % 4].put(transport, len(i))?;
        }
        Ok(transport.written() - before)
    };
    let burst_len = (0..WRITES).map(len).sum::<usize>() as u64;
    for side in Side::BOTH {
        let variant = format!("by the {side:?} end");
        let mut fixture = Fixture::new(harness, "small_writes", variant)?;
        let in_callback = |it: Recorder| {
            it.on_made(move |transport| Ok(burst(transport).map(drop)?))
                .on_data(move |transport, _| Ok(burst(transport).map(drop)?))
        };
        let (writer, reader) = fixture.connect(side, in_callback, |it| it)?;
        let written = fixture.done("small writes are taken", burst(&writer.transport))?;
        fixture.same("each byte is counted", burst_len, written)?;
        fixture.settle()?;
        fixture.put(&reader, 1)?;
        let rule = "small writes arrive";
        fixture.until(rule, "three bursts", reader.got(3 * burst_len))?;
        writer.transport.close();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.same(rule, 3 * burst_len, reader.endpoint.received())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests a vectored write with more slices than a system call takes, and empty ones among them.
///
/// # Errors
///
/// The violation that it found.
pub fn many_slices(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("by the {side:?} end");
        let mut fixture = Fixture::new(harness, "many_slices", variant)?;
        let (writer, reader) = fixture.connect(side, |it| it, |it| it)?;
        let lens: Vec<usize> = (0..5000).map(|i| i % 50).collect();
        let sum = lens.iter().sum();
        let data = pattern(0, sum);
        let mut rest = data.as_slice();
        let mut slices = Vec::new();
        for len in lens {
            let (slice, after) = rest.split_at(len);
            slices.push(IoSlice::new(slice));
            rest = after;
        }
        let result = writer.transport.write_vectored(&slices);
        fixture.done("any number of slices is taken", result)?;
        fixture.same("all is counted", sum as u64, writer.transport.written())?;
        writer.transport.close();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.same("all arrives", sum as u64, reader.endpoint.received())?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests two ends that send megabytes at once, each as its `Flow`, `pause_writing` and `resume_writing`
/// tell it, and end their side; each gets all, and both end by themselves.
///
/// # Errors
///
/// The violation that it found.
pub fn two_ways_at_once(harness: &mut dyn Harness) -> Result<(), Violation> {
    const CHUNK: usize = 48 * 1024;
    const CHUNKS: u32 = 50;
    fn pump(transport: &Transport, left: &Cell<u32>) -> tidegate::Result {
        while left.get() > 0 {
            left.set(left.get() - 1);
            let flow = put(transport, CHUNK)?;
            if left.get() == 0 {
                transport.write_eof()?;
            }
            if flow.is_paused() {
                break;
            }
        }
        Ok(())
    }
    fn sender(it: Recorder) -> Recorder {
        let left = Rc::new(Cell::new(CHUNKS));
        let more = left.clone();
        it.keep_open()
            .on_made(move |transport| pump(transport, &left))
            .on_pause(|_| Ok(OnPause::KeepReading))
            .on_resume(move |transport| pump(transport, &more))
    }
    let mut fixture = Fixture::new(harness, "two_ways_at_once", "")?;
    let (one, other) = fixture.connect(Side::Connecting, sender, sender)?;
    for connected in [&one, &other] {
        let rule = "who writes as flow control tells, and ends, comes to the end";
        fixture.until(rule, "lost", connected.lost())?;
    }
    for connected in [&one, &other] {
        let all = (CHUNK as u64) * u64::from(CHUNKS);
        fixture.same("each end gets all", all, connected.endpoint.received())?;
        let rule = "when both ends have ended their side, that is a clean end of stream";
        fixture.same(rule, "peer-eof", &connected.endpoint.reason())?;
    }
    fixture.finish()
}

/// Tests messages of growing size that are echoed, over and over.
///
/// # Errors
///
/// The violation that it found.
pub fn request_and_answer(harness: &mut dyn Harness) -> Result<(), Violation> {
    const ROUNDS: u64 = 60;
    let len = |round: u64| (1 << (round % 16)) as usize + round as usize;
    for side in Side::BOTH {
        let variant = format!("asked by the {side:?} end");
        let mut fixture = Fixture::new(harness, "request_and_answer", variant)?;
        let echo = |it: Recorder| {
            it.on_data(|transport, data| {
                transport.write(data)?;
                Ok(())
            })
        };
        let (client, _) = fixture.connect(side, |it| it, echo)?;
        for round in 0..ROUNDS {
            fixture.put(&client, len(round))?;
            let asked = client.transport.written();
            let rule = "a reply comes";
            fixture.until(rule, "all of it", client.got(asked))?;
            fixture.same(rule, asked, client.endpoint.received())?;
        }
        client.transport.close();
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that a protocol that gives its own buffer gets the same bytes, never more than fit at once.
///
/// # Errors
///
/// The violation that it found.
pub fn own_read_buffer(harness: &mut dyn Harness) -> Result<(), Violation> {
    const SIZE: usize = 1000;
    const SENT: u64 = 300_000;
    for side in Side::BOTH {
        let variant = format!("read by the {side:?} end");
        let mut fixture = Fixture::new(harness, "own_read_buffer", variant)?;
        let (reader, writer) = fixture.connect(side, |it| it.buffered(SIZE), |it| it)?;
        fixture.put(&writer, SENT as usize)?;
        writer.transport.close();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.same(
            "all arrives in the buffer",
            SENT,
            reader.endpoint.received(),
        )?;
        let longest = reader
            .endpoint
            .log()
            .seen()
            .iter()
            .fold(0, |most, seen| match seen {
                Seen::Data(data) => data.len().max(most),
                _ => most,
            });
        let rule = "no read is larger than the buffer it was given";
        fixture.holds(rule, "1000 bytes at most", longest <= SIZE)?;
        fixture.finish()?;
    }
    Ok(())
}

/// Tests that `flush` completes when all bytes written before it are sent, and waits for no later ones.
///
/// # Errors
///
/// The violation that it found.
pub fn flush_means_sent(harness: &mut dyn Harness) -> Result<(), Violation> {
    for side in Side::BOTH {
        let variant = format!("by the {side:?} end");
        let mut fixture = Fixture::new(harness, "flush_means_sent", variant)?;
        let (writer, reader) = fixture.connect(side, |it| it, |it| it)?;
        for size in [1, 5000, 200_000] {
            fixture.put(&writer, size)?;
            let target = writer.transport.written();
            let transport = writer.transport.clone();
            let sent = Rc::new(Cell::new(None));
            let at = sent.clone();
            writer.transport.flush().then(move |_, answer| {
                at.set(Some((answer.is_ok(), transport.sent() >= target)));
            });
            let rule = "flush completes once all is sent";
            let answered = sent.clone();
            fixture.until(rule, "a result", move || answered.get().is_some())?;
            fixture.same(rule, Some((true, true)), sent.get())?;
        }
        let again = Answer::of(writer.transport.flush());
        let drained = Answer::of(writer.transport.drain());
        fixture.settle()?;
        let answers = (again.words(), drained.words());
        let rule = "with nothing to wait for, flush and drain are answered at once";
        fixture.same(rule, ("ok".to_owned(), "ok".to_owned()), answers)?;
        writer.transport.close();
        fixture.until("connection_lost comes", "lost", reader.lost())?;
        fixture.finish()?;
    }
    Ok(())
}
