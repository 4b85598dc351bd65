//! Reading that stops in the middle of what a layer has, with a buffer of any size.

use super::accounting::small;
use super::ending::sealed_scene;
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use support::seal::{RECORD, end_of_seal, record_of, sealed};
use support::{Kind, Log, Recorder, Scene, Seen, drive, each_kind, once, pattern, settle};
use tidegate::{CloseReason, EventLoop, OnPause, Result, Transport};

/// The sizes of `get_buffer`; `None` is the loop's buffer.
const SIZES: [Option<usize>; 6] = [None, Some(1), Some(3), Some(64), Some(RECORD), Some(10_000)];

fn buffered(recorder: Recorder, size: Option<usize>) -> Recorder {
    match size {
        Some(size) => recorder.buffered(size),
        None => recorder,
    }
}

/// The number of callbacks in which `len` bytes come.
fn callbacks(len: usize, size: Option<usize>) -> usize {
    len.div_ceil(size.unwrap_or(len))
}

fn count_data(log: &Log) -> usize {
    let seen = log.seen();
    seen.iter()
        .filter(|seen| matches!(seen, Seen::Data(_)))
        .count()
}

/// Resumes until `len` bytes have come, one callback for each resume.
#[track_caller]
fn resume_for_each(
    event_loop: &mut EventLoop,
    transport: &Transport,
    log: &Log,
    len: usize,
    size: Option<usize>,
) {
    drive(event_loop, "the first data", || log.data_len() > 0);
    for n in 1..=callbacks(len, size) {
        drive(event_loop, "the data", || count_data(log) >= n);
        support::tick(event_loop);
        assert_eq!(count_data(log), n, "{size:?}");
        assert_eq!(log.words(), ["made", "data"], "{size:?}");
        assert_eq!(log.data_len(), len.min(n * size.unwrap_or(len)), "{size:?}");
        transport.resume_reading();
    }
    assert_eq!(log.data(), pattern(0, len));
}

/// Three records and the end, in one segment.
fn each_resume_brings_one_callback_if_each_callback_pauses(kind: Kind) {
    const LEN: usize = 300;
    for size in SIZES {
        let (mut event_loop, log, transport, mut peer) =
            sealed_scene(Scene::of(kind), |recorder| {
                buffered(recorder, size).on_data(|transport, _| {
                    transport.pause_reading();
                    Ok(())
                })
            });
        let bytes = pattern(0, LEN);
        let records = bytes.chunks(100).flat_map(sealed);
        peer.send(&records.chain(end_of_seal()).collect::<Vec<_>>());
        resume_for_each(&mut event_loop, &transport, &log, LEN, size);
        drive(&mut event_loop, "the end", || log.is_lost());
        let words = log.words();
        assert_eq!(words[words.len() - 2..], ["eof", "lost"], "{size:?}");
        assert_eq!(log.reason(), "peer-eof");
    }
}
each_kind!(each_resume_brings_one_callback_if_each_callback_pauses);

/// A record, and behind it in the same segment one that is none.
fn the_failure_of_a_layer_comes_behind_the_bytes_that_a_small_buffer_has_left(kind: Kind) {
    const LEN: usize = 300;
    for size in SIZES {
        let (mut event_loop, log, _, mut peer) =
            sealed_scene(Scene::of(kind), |recorder| buffered(recorder, size));
        peer.send(&[sealed(&pattern(0, LEN)), record_of(b'x', b"junk")].concat());
        drive(&mut event_loop, "the failure", || log.is_lost());
        assert_eq!(log.data(), pattern(0, LEN), "{size:?}");
        let reason = log.closed().reason().clone();
        assert!(
            matches!(&reason, CloseReason::Io(error) if error.kind() == ErrorKind::InvalidData),
            "{reason}"
        );
    }
}
each_kind!(the_failure_of_a_layer_comes_behind_the_bytes_that_a_small_buffer_has_left);

fn the_loop_sleeps_while_a_layer_has_bytes_for_a_protocol_that_has_paused(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |recorder| {
        recorder.buffered(3).on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(&sealed(b"ten bytes!"));
    drive(&mut event_loop, "the data", || log.data() == b"ten");
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    for _ in 0..5 {
        event_loop.run_once(Some(support::SHORT)).unwrap();
    }
    let after = event_loop.handle().stats();
    assert_eq!(after.polls - before.polls, 5);
    assert_eq!(after.reads, before.reads);
    assert!(log.data() == b"ten" && !transport.is_reading());
}
each_kind!(the_loop_sleeps_while_a_layer_has_bytes_for_a_protocol_that_has_paused);

/// An end of the connection in the callback of its first bytes.
type Stop = fn(&Transport) -> Result;

const STOPS: [(&str, Stop); 5] = [
    ("close", |transport| {
        transport.close();
        Ok(())
    }),
    ("abort", |transport| {
        transport.abort();
        Ok(())
    }),
    ("reset", |transport| {
        transport.reset();
        Ok(())
    }),
    ("an error", |_| Err("provoked".into())),
    ("set_protocol", |transport| {
        transport.set_protocol(Recorder::new(&Log::new()), b"")?;
        Ok(())
    }),
];

fn what_ends_reading_in_a_callback_ends_it_at_once(kind: Kind) {
    for (name, stop) in STOPS {
        for size in SIZES {
            let (mut event_loop, log, transport, mut peer) =
                sealed_scene(Scene::of(kind), |recorder| {
                    let called = Cell::new(0);
                    buffered(recorder, size).on_data(move |transport, _| {
                        assert_eq!(called.replace(1), 0);
                        stop(transport)
                    })
                });
            let bytes = pattern(0, 2_500);
            peer.send(&sealed(&bytes));
            drive(&mut event_loop, name, || log.data_len() > 0);
            settle(&mut event_loop);
            assert_eq!(count_data(&log), 1, "{name}");
            assert_eq!(log.data_len(), 2_500.min(size.unwrap_or(2_500)), "{name}");
            assert_eq!(log.is_lost(), name != "set_protocol", "{name}");
            if name == "set_protocol" {
                assert_eq!(transport.stats().received, 2_500, "{name}");
            }
        }
    }
}
each_kind!(what_ends_reading_in_a_callback_ends_it_at_once);

/// A pause of the writer that holds reading, in the callback of the first bytes.
fn a_hold_stops_it_too(kind: Kind) {
    const REPLY: usize = 200_000;
    for size in [None, Some(1), Some(64)] {
        let mut reply = once(pattern(0, REPLY));
        let (mut event_loop, log, transport, mut peer) = sealed_scene(small(kind), |recorder| {
            let holds = recorder.on_pause(|_| Ok(OnPause::StopReading));
            buffered(holds, size).on_data(move |transport, _| {
                if let Some(reply) = reply() {
                    transport.write(&reply)?;
                }
                Ok(())
            })
        });
        let bytes = pattern(0, 200);
        peer.send(&sealed(&bytes));
        drive(&mut event_loop, "the pause", || {
            transport.flow().is_paused()
        });
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "data", "pause"]);
        assert_eq!(log.data_len(), size.unwrap_or(200), "{size:?}");
        assert!(!transport.is_reading());
        drive(&mut event_loop, "the rest", || {
            peer.read_available();
            transport.is_reading() && log.data() == bytes
        });
        assert_eq!(transport.written(), REPLY as u64);
        let words = log.words();
        assert_eq!(words[..4], ["made", "data", "pause", "resume"], "{size:?}");
    }
}
each_kind!(a_hold_stops_it_too);

fn one_callback_gets_what_one_read_gave(kind: Kind) {
    let (mut event_loop, log, _transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    let bytes = pattern(0, 5 * RECORD);
    peer.send(&[sealed(&bytes), end_of_seal()].concat());
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.data(), bytes);
}
each_kind!(one_callback_gets_what_one_read_gave);

/// The bytes that a small buffer leaves are not lost for what is behind them.
fn an_error_waits_behind_what_a_small_buffer_has_left(kind: Kind) {
    for size in SIZES {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let noted = seen.clone();
        let (mut event_loop, log, _transport, mut peer) =
            sealed_scene(Scene::of(kind), |recorder| {
                buffered(recorder, size).on_data(move |_, data| {
                    noted.borrow_mut().extend_from_slice(data);
                    Ok(())
                })
            });
        let bytes = pattern(0, 1_500);
        peer.send(&[&sealed(&bytes)[..], b"half"].concat());
        peer.shutdown_write();
        drive(&mut event_loop, "the end", || log.is_lost());
        assert!(*seen.borrow() == bytes, "{size:?}");
        let closed = log.closed();
        let CloseReason::Io(error) = closed.reason() else {
            panic!("{closed:?}");
        };
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
each_kind!(an_error_waits_behind_what_a_small_buffer_has_left);
