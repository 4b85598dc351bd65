//! The watermarks: strictly above high pauses, at or below low resumes, and both are told.

use proptest::prelude::*;
use std::io::ErrorKind;
use support::{
    How, Kind, Log, Recorder, Scene, Seen, adopted, answer, drive, each_kind, limits, never_paused,
    no_limits, put, settle, stall, strict_loop, text,
};
use tidegate::{Flow, OnPause, WriteLimits};

each_kind!(a_writer_is_paused_strictly_above_high_and_resumed_at_low_or_below);
fn a_writer_is_paused_strictly_above_high_and_resumed_at_low_or_below(kind: Kind) {
    let (_event_loop, _, transport, _peer) = Scene::full(kind).set();
    // The kernel takes nothing now, so these numbers are exact as long as no tick runs.
    let full = transport.write_buffer_size();
    transport.set_write_limits(limits(full + 10, full)).unwrap();
    assert_eq!(put(&transport, 10), Flow::Open, "at high");
    assert_eq!(put(&transport, 1), Flow::Paused, "above high");
    let resume_at = |low| {
        transport.set_write_limits(limits(full + 11, low)).unwrap();
        transport.flow()
    };
    assert_eq!(resume_at(full + 10), Flow::Paused, "above low");
    assert_eq!(resume_at(full + 11), Flow::Open, "at low");
}

each_kind!(resume_comes_at_the_fall_that_sending_brings_and_not_before);
fn resume_comes_at_the_fall_that_sending_brings_and_not_before(kind: Kind) {
    for low in [0, 50_000] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(
            event_loop.handle(),
            kind,
            Recorder::new(&log).on_resume(move |transport| {
                assert!(transport.write_buffer_size() <= low);
                assert_eq!(transport.flow(), Flow::Open);
                Ok(())
            }),
        );
        stall(&mut event_loop, never_paused(&transport), 1000);
        put(&transport, 200_000);
        transport.set_write_limits(limits(100_000, low)).unwrap();
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause"]);
        drive(&mut event_loop, "the fall", || {
            let paused = transport.flow().is_paused();
            assert_eq!(paused, transport.write_buffer_size() > low);
            assert_eq!(log.has(&Seen::Resume), !paused);
            peer.read_some(40_000);
            !paused
        });
        peer.expect(&mut event_loop, transport.written() as usize);
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause", "resume"]);
    }
}

each_kind!(pause_and_resume_alternate_while_a_producer_fills_up_again_and_again);
fn pause_and_resume_alternate_while_a_producer_fills_up_again_and_again(kind: Kind) {
    const TOTAL: u64 = 12 << 20;
    const HIGH: usize = 64 * 1024;
    const PIECE: usize = 10_000;
    fn produce(transport: &tidegate::Transport) {
        while transport.written() < TOTAL && !put(transport, PIECE).is_paused() {}
    }
    let mut event_loop = strict_loop();
    let log = Log::new();
    let producer = Recorder::new(&log)
        .on_made(|transport| {
            produce(transport);
            Ok(())
        })
        .on_resume(|transport| {
            produce(transport);
            Ok(())
        });
    let (transport, mut peer) = Scene::of(kind).connected().on(&mut event_loop, producer);
    drive(&mut event_loop, "the whole stream", || {
        assert!(transport.write_buffer_size() <= HIGH + PIECE);
        peer.read_available();
        transport.written() >= TOTAL && peer.received().len() as u64 == transport.written()
    });
    settle(&mut event_loop);
    let rounds = log.count(&Seen::Pause);
    assert!(rounds > 1, "only {rounds} pauses");
    assert_eq!(log.count(&Seen::Resume), rounds);
    assert_eq!(transport.stats().pauses as usize, rounds);
    assert!(peer.received() == text(0, peer.received().len()));
}

each_kind!(every_way_to_write_answers_paused_from_the_crossing_to_the_fall);
fn every_way_to_write_answers_paused_from_the_crossing_to_the_fall(kind: Kind) {
    for how in How::ALL {
        let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
        let full = transport.write_buffer_size();
        transport.set_write_limits(limits(full + 10, full)).unwrap();
        let write = |len| {
            let flow = how.put(&transport, len).unwrap();
            assert_eq!(flow, transport.flow());
            flow
        };
        assert_eq!(write(10), Flow::Open, "{how:?}");
        assert_eq!(write(0), Flow::Open, "{how:?}");
        assert_eq!(write(1), Flow::Paused, "{how:?}");
        assert_eq!(write(0), Flow::Paused, "{how:?}");
        assert_eq!(write(1), Flow::Paused, "{how:?}");
        // Between the marks it stays what it was.
        transport
            .set_write_limits(limits(full + 50, full + 5))
            .unwrap();
        assert_eq!(write(1), Flow::Paused, "{how:?}");
        transport
            .set_write_limits(limits(full + 50, full + 13))
            .unwrap();
        assert_eq!(write(1), Flow::Open, "{how:?}");
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause", "resume"]);
        peer.expect(&mut event_loop, transport.written() as usize);
        assert!(peer.received() == text(0, peer.received().len()));
    }
}

each_kind!(a_pause_that_ended_before_its_delivery_is_delivered_with_its_resume);
fn a_pause_that_ended_before_its_delivery_is_delivered_with_its_resume(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let noted = log.clone();
    let protocol = Recorder::new(&log).on_data(move |transport, _| {
        transport.set_write_limits(limits(0, 0))?;
        assert_eq!(put(transport, 1), Flow::Paused);
        transport.set_write_limits(no_limits())?;
        assert_eq!(put(transport, 1), Flow::Open);
        noted.note("return");
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    stall(&mut event_loop, never_paused(&transport), 1000);
    peer.send(b"x");
    drive(&mut event_loop, "a resume", || log.has(&Seen::Resume));
    assert_eq!(log.words(), ["made", "data", "return", "pause", "resume"]);
    // The same from outside of a callback.
    transport.set_write_limits(limits(0, 0)).unwrap();
    transport.set_write_limits(no_limits()).unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words()[3..], ["pause", "resume", "pause", "resume"]);
    assert!(transport.is_reading());
    // One that came back before it was told is one pause, and stays.
    transport.set_write_limits(limits(0, 0)).unwrap();
    transport.set_write_limits(no_limits()).unwrap();
    transport.set_write_limits(limits(0, 0)).unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words()[7..], ["pause"]);
    assert!(!transport.is_reading());
}

each_kind!(a_closing_connection_is_neither_paused_nor_resumed);
fn a_closing_connection_is_neither_paused_nor_resumed(kind: Kind) {
    type Prepare = fn(&tidegate::Transport);
    let cases: [(Prepare, Prepare, &[&str]); 3] = [
        // Crosses and closes.
        (
            |_| {},
            |transport| transport.set_write_limits(limits(0, 0)).unwrap(),
            &["made", "data", "lost"],
        ),
        // Was told to pause; the fall comes after the close.
        (
            |transport| transport.set_write_limits(limits(0, 0)).unwrap(),
            |_| {},
            &["made", "pause", "data", "lost"],
        ),
        // Crosses and falls and closes.
        (
            |_| {},
            |transport| {
                transport.set_write_limits(limits(0, 0)).unwrap();
                transport.set_write_limits(no_limits()).unwrap();
            },
            &["made", "data", "lost"],
        ),
    ];
    for (before, within, expected) in cases {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log)
            .on_pause(|_| Ok(OnPause::KeepReading))
            .on_data(move |transport, _| {
                within(transport);
                transport.close();
                Ok(())
            });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        before(&transport);
        settle(&mut event_loop);
        peer.send(b"x");
        drive(&mut event_loop, "the close", || transport.is_closing());
        peer.expect_end(&mut event_loop);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), expected);
        assert!(peer.received() == text(0, transport.written() as usize));
    }
}

each_kind!(with_a_high_mark_of_zero_a_refusal_of_the_kernel_pauses_and_empty_resumes);
fn with_a_high_mark_of_zero_a_refusal_of_the_kernel_pauses_and_empty_resumes(kind: Kind) {
    fn until_paused(transport: &tidegate::Transport) {
        assert_eq!(put(transport, 1), Flow::Open);
        while !put(transport, 50_000).is_paused() {
            assert_eq!(transport.write_buffer_size(), 0);
        }
        assert!(transport.write_buffer_size() > 0);
    }
    for inside in [true, false] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        transport.set_write_limits(limits(0, 0)).unwrap();
        if inside {
            transport.call_soon(|_: &mut Recorder, transport| {
                until_paused(transport);
                Ok(())
            });
        } else {
            until_paused(&transport);
        }
        drive(&mut event_loop, "a pause", || log.has(&Seen::Pause));
        drive(&mut event_loop, "empty", || {
            let empty = transport.write_buffer_size() == 0;
            assert_eq!(transport.flow() == Flow::Open, empty);
            assert_eq!(log.has(&Seen::Resume), empty);
            peer.read_some(40_000);
            empty
        });
        assert_eq!(log.words(), ["made", "pause", "resume"]);
    }
}

each_kind!(a_change_of_the_limits_counts_at_once_both_ways);
fn a_change_of_the_limits_counts_at_once_both_ways(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::full(kind).set();
    for round in 1..4 {
        let full = transport.write_buffer_size();
        transport.set_write_limits(limits(full, 0)).unwrap();
        assert_eq!(transport.flow(), Flow::Open);
        transport.set_write_limits(limits(full - 1, 0)).unwrap();
        assert_eq!(transport.flow(), Flow::Paused);
        settle(&mut event_loop);
        assert_eq!(log.count(&Seen::Pause), round);
        assert_eq!(log.count(&Seen::Resume), round - 1);
        let mut drain = transport.drain();
        let full = transport.write_buffer_size();
        transport
            .set_write_limits(limits(2 * full, full - 1))
            .unwrap();
        assert!(answer(&mut drain).is_none());
        // Only high is given: low follows it, as in asyncio.
        let limits = WriteLimits::new().with_cap(usize::MAX).with_high(4 * full);
        transport.set_write_limits(limits).unwrap();
        assert_eq!(transport.flow(), Flow::Open);
        assert!(answer(&mut drain).unwrap().is_ok());
        settle(&mut event_loop);
        assert_eq!(log.count(&Seen::Resume), round);
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused_and_change_nothing() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Unix).strict().set();
    assert_eq!(transport.write_limits().high(), 64 * 1024);
    assert_eq!(transport.write_limits().low(), 16 * 1024);
    assert_eq!(transport.write_limits().cap(), 64 << 20);
    stall(&mut event_loop, never_paused(&transport), 1000);
    let wrong = [
        WriteLimits::new().with_high(0).with_low(1),
        WriteLimits::new().with_high(2).with_low(0).with_cap(1),
        WriteLimits::new().with_high(0).with_cap(0),
    ];
    for limits in wrong {
        let error = transport.set_write_limits(limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(transport.write_limits(), no_limits());
        assert_eq!(transport.flow(), Flow::Open);
    }
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
}

each_kind!(what_the_kernel_takes_at_once_never_pauses);
fn what_the_kernel_takes_at_once_never_pauses(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    // Many queued chunks take several system calls, so the buffer is above the mark for a
    // moment, but no byte of it was refused.
    let queue = || {
        transport.set_write_limits(limits(1000, 0)).unwrap();
        for _ in 0..70 {
            How::Owned.put(&transport, 10).unwrap();
        }
        assert_eq!(transport.write_buffer_size(), 700);
    };
    queue();
    assert_eq!(put(&transport, 5000), Flow::Open);
    assert_eq!(transport.write_buffer_size(), 0);
    queue();
    transport.set_write_limits(limits(20, 10)).unwrap();
    assert_eq!(transport.flow(), Flow::Open);
    assert_eq!(transport.write_buffer_size(), 0);
    peer.expect(&mut event_loop, 6400);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    assert_eq!(transport.stats().pauses, 0);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.pauses, stats.resumes), (0, 0));
}

#[derive(Debug, Clone)]
enum Op {
    Put(How, usize),
    PutInside(How, usize),
    Limits(usize, usize),
    Read(usize),
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop::sample::select(&How::ALL[..]);
    let size = prop_oneof![0..50usize, 0..40_000usize, 200_000..400_000usize];
    let mark = prop_oneof![Just(0usize), 1..1000usize, 0..300_000usize];
    prop_oneof![
        4 => (how.clone(), size.clone()).prop_map(|(how, size)| Op::Put(how, size)),
        2 => (how, size).prop_map(|(how, size)| Op::PutInside(how, size)),
        1 => (mark.clone(), mark).prop_map(|(a, b)| Op::Limits(a.max(b), a.min(b))),
        3 => (0..400_000usize).prop_map(Op::Read),
        3 => Just(Op::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_flow_follows_the_buffer_and_the_marks_through_any_history(
        unix: bool,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let kind = if unix { Kind::Unix } else { Kind::Tcp };
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        transport.set_write_limits(limits(5000, 1000)).unwrap();
        let (mut high, mut low) = (5000, 1000);
        let mut paused = false;
        for op in ops {
            match op {
                Op::Put(how, len) => {
                    let flow = how.put(&transport, len).unwrap();
                    prop_assert_eq!(flow, transport.flow());
                }
                Op::PutInside(how, len) => {
                    transport.call_soon(move |_: &mut Recorder, transport| {
                        let flow = how.put(transport, len)?;
                        assert_eq!(flow, transport.flow());
                        Ok(())
                    });
                    continue;
                }
                Op::Limits(new_high, new_low) => {
                    (high, low) = (new_high, new_low);
                    transport.set_write_limits(limits(high, low)).unwrap();
                }
                Op::Read(most) => {
                    peer.read_some(most);
                }
                Op::Tick => {
                    event_loop.run_once(Some(std::time::Duration::ZERO)).unwrap();
                }
            }
            let buffered = transport.write_buffer_size();
            prop_assert_eq!(buffered as u64, transport.written() - transport.sent());
            // Writes inside of callbacks can cross both ways within one tick; what is sure then is
            // what no history allows.
            let is_paused = transport.flow().is_paused();
            if matches!(op, Op::Tick) {
                let fits = if is_paused { buffered > low } else { buffered <= high };
                prop_assert!(fits, "{} paused={}", buffered, is_paused);
            } else {
                let expected = if paused { buffered > low } else { buffered > high };
                prop_assert_eq!(is_paused, expected);
            }
            paused = is_paused;
        }
        settle(&mut event_loop);
        let told = log.count(&Seen::Pause) > log.count(&Seen::Resume);
        prop_assert_eq!(told, transport.flow().is_paused());
        peer.expect(&mut event_loop, transport.written() as usize);
        prop_assert!(peer.received() == text(0, peer.received().len()));
        settle(&mut event_loop);
        prop_assert_eq!(log.count(&Seen::Pause), log.count(&Seen::Resume));
        prop_assert_eq!(transport.flow(), Flow::Open);
    }
}
