//! The write timeout to the nanosecond, in a world whose clock is set by hand.

use super::timed::{CAPACITY, INSTANT, STALLING, Timed};
use crate::event_loop::by_hand::{self, ByHand};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, note_answer};
use tidegate::{EventLoop, Flow, TimeoutKind, Transport, WriteLimits};
use tidegate_testkit::{Fault, Faults, Link};

const LIMIT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_transport_whose_bytes_stay_ends_at_the_limit_and_tells_all_who_wait() {
    let mut timed = Timed::stalled(LIMIT);
    let transport = timed.transport.clone();
    transport
        .set_write_limits(WriteLimits::new().with_high(0))
        .unwrap();
    note_answer(&timed.log, "drain", transport.drain());
    note_answer(&timed.log, "flush", transport.flush());
    let closes = transport.wait_closed();
    timed.assert_ends_in(LIMIT);
    let text = "connection closed: the peer took nothing within the write timeout \
                (2000 bytes unsent)";
    let told = ["drain", "flush"].map(|name| format!("{name}: {text}"));
    assert_eq!(
        timed.log.words()[2..],
        [&["lost".to_owned()], &told[..]].concat()
    );
    assert_eq!(transport.closed().unwrap().to_string(), text);
    let refusal = transport.write(b"more").unwrap_err();
    assert_eq!(refusal.closed().unwrap().to_string(), text);
    let closed = timed.world.run_until(closes).unwrap();
    assert_eq!(closed.to_string(), text);
    assert_eq!(transport.sent(), CAPACITY as u64);
}

#[test]
fn every_byte_that_is_taken_starts_the_time_anew() {
    let mut timed = Timed::stalled(LIMIT);
    for n in 1..=5 {
        timed.pass(LIMIT - INSTANT);
        timed.read(1);
        assert_eq!(timed.transport.sent(), (CAPACITY + n) as u64);
        assert_eq!(timed.timers(), 1);
    }
    timed.pass(LIMIT / 3);
    timed.read(1);
    timed.assert_ends_in(LIMIT);
    assert_eq!(
        timed.log.closed().unsent(),
        (STALLING - CAPACITY - 6) as u64
    );
}

#[test]
fn progress_leaves_the_timer_alone() {
    let mut timed = Timed::stalled(LIMIT);
    for _ in 1..=90 {
        timed.pass(LIMIT / 100);
        timed.read(1);
        assert_eq!(timed.timers(), 1);
    }
    assert_eq!(timed.transport.sent(), CAPACITY as u64 + 90);
    // The loop wakes at the same time as if there had been none, and finds that there was.
    let polls = |timed: &Timed| timed.host.handle().stats().polls;
    let before = polls(&timed);
    timed.pass(LIMIT / 10 - INSTANT);
    assert_eq!(polls(&timed), before);
    timed.pass(INSTANT);
    assert_eq!(polls(&timed), before + 1);
    timed.assert_ends_in(LIMIT - LIMIT / 10);
}

/// Reads what it has written, one byte at a time, when it is told to. Its clock counts.
struct Mirrored {
    world: Rc<ByHand>,
    event_loop: EventLoop,
    transport: Transport,
    portion: Rc<Cell<usize>>,
}

impl Mirrored {
    fn new(limit: Option<Duration>) -> Self {
        let world = ByHand::new();
        let mut event_loop = world.event_loop();
        let portion = Rc::new(Cell::new(0_usize));
        let (allowed, left) = (portion.clone(), portion.clone());
        let recorder = Recorder::new(&Log::new())
            .buffered(1)
            .on_get_buffer(move |transport, _| {
                if allowed.get() == 0 {
                    transport.pause_reading();
                }
            })
            .on_data(move |_, data| {
                left.set(left.get() - data.len());
                Ok(())
            });
        let address = SocketAddr::from(([192, 0, 2, 1], 7));
        let connect = event_loop.handle().create_connection(address, recorder);
        let transport = event_loop.run_until(connect).unwrap();
        transport.set_write_timeout(limit);
        Self {
            world,
            event_loop,
            transport,
            portion,
        }
    }

    fn write(&mut self, count: usize) {
        self.transport.write(&vec![1; count]).unwrap();
        self.world.run(&mut self.event_loop);
    }

    fn read(&mut self, count: usize) {
        self.portion.set(count);
        self.transport.resume_reading();
        self.world.run(&mut self.event_loop);
    }

    fn clock_reads(&self) -> usize {
        self.world.clock_reads.get()
    }
}

#[test]
fn progress_reads_the_clock_once_for_each_system_call() {
    let reads = |limit: Option<Duration>| {
        let mut mirrored = Mirrored::new(limit);
        // Another timer, so that every tick looks at the clock anyway.
        mirrored.event_loop.handle().call_later(HOUR, |_| {});
        mirrored.write(3 * by_hand::CAPACITY);
        let before = mirrored.clock_reads();
        let writes = mirrored.event_loop.handle().stats().writes;
        for _ in 0..50 {
            mirrored.read(1);
        }
        let writes = mirrored.event_loop.handle().stats().writes - writes;
        assert_eq!(writes, 50);
        mirrored.clock_reads() - before
    };
    assert_eq!(reads(Some(LIMIT)), reads(None) + 50);
}

#[test]
fn nothing_is_timed_while_nothing_is_queued() {
    let mut timed = Timed::new();
    let transport = timed.transport.clone();
    transport.set_write_timeout(Some(LIMIT));
    assert_eq!(timed.timers(), 0);
    timed.pass(HOUR);
    transport.write(&[1; CAPACITY]).unwrap();
    timed.run();
    assert_eq!((timed.timers(), transport.write_buffer_size()), (0, 0));
    timed.pass(HOUR);
    for stalls in 1..=2 {
        transport.write(&[1; STALLING]).unwrap();
        timed.run();
        assert_eq!(timed.timers(), 1);
        timed.pass(LIMIT - INSTANT);
        timed.read(STALLING);
        assert_eq!((timed.timers(), transport.write_buffer_size()), (0, 0));
        timed.pass(HOUR);
        assert!(!timed.log.is_lost(), "after {stalls} stalls");
    }
    transport.write(b"one more").unwrap();
    timed.run();
    timed.assert_ends_in(LIMIT);
}

#[test]
fn without_a_stall_no_clock_is_read_and_without_a_limit_never() {
    const FULL: usize = by_hand::CAPACITY;
    for limit in [Some(LIMIT), None] {
        let mut mirrored = Mirrored::new(limit);
        for _ in 0..10 {
            mirrored.write(FULL);
            mirrored.read(FULL);
        }
        if limit.is_none() {
            mirrored.write(3 * FULL);
            mirrored.world.advance(HOUR);
            mirrored.world.run(&mut mirrored.event_loop);
            mirrored.read(3 * FULL);
            assert_eq!(mirrored.transport.write_buffer_size(), 0);
        }
        assert_eq!(mirrored.clock_reads(), 0);
    }
}

#[test]
fn a_changed_limit_counts_from_the_last_progress() {
    for (limit, rest) in [
        (5 * SECOND, 2 * SECOND),
        (20 * SECOND, 17 * SECOND),
        (LIMIT, 7 * SECOND),
    ] {
        let mut timed = Timed::stalled(LIMIT);
        timed.pass(4 * SECOND);
        timed.read(1);
        timed.pass(3 * SECOND);
        timed.transport.set_write_timeout(Some(limit));
        timed.assert_ends_in(rest);
    }
}

#[test]
fn a_limit_that_is_over_when_it_is_set_ends_the_connection_in_the_next_tick() {
    for limit in [2 * SECOND, SECOND, Duration::ZERO] {
        let mut timed = Timed::stalled(LIMIT);
        timed.pass(2 * SECOND);
        timed.transport.set_write_timeout(Some(limit));
        assert!(timed.transport.closed().is_none(), "within the call");
        timed.run();
        timed.assert_timed_out();
    }
}

#[test]
fn a_removed_limit_ends_nothing_and_a_new_one_counts_from_its_setting() {
    let mut timed = Timed::stalled(LIMIT);
    timed.pass(9 * SECOND);
    timed.transport.set_write_timeout(None);
    assert_eq!(timed.timers(), 0);
    timed.pass(HOUR);
    timed.transport.set_write_timeout(Some(LIMIT));
    assert_eq!(timed.timers(), 1);
    timed.assert_ends_in(LIMIT);
}

#[test]
fn after_a_removed_limit_neither_progress_nor_a_new_stall_starts_a_timer() {
    let mut timed = Timed::stalled(LIMIT);
    timed.transport.set_write_timeout(None);
    timed.read(1);
    assert_eq!(timed.transport.sent(), CAPACITY as u64 + 1);
    assert_eq!(timed.timers(), 0);
    timed.read(STALLING - 1);
    assert_eq!(timed.transport.write_buffer_size(), 0);
    timed.transport.write(&[1; STALLING]).unwrap();
    timed.run();
    assert_eq!(timed.transport.write_buffer_size(), STALLING - CAPACITY);
    assert_eq!(timed.timers(), 0);
}

#[test]
fn a_limit_of_zero_ends_at_the_first_tick_that_finds_the_kernel_full() {
    // The kernel takes all of it in one call.
    let link = Link::new().send_buffer(CAPACITY).receive_buffer(1);
    let log = Log::new();
    let mut timed = Timed::over(link, log.clone(), Recorder::new(&log));
    timed.transport.set_write_timeout(Some(Duration::ZERO));
    timed.transport.write(&[1; CAPACITY]).unwrap();
    timed.run();
    assert!(!timed.log.is_lost());
    timed.transport.write(b"9 too much").unwrap();
    timed.run();
    timed.assert_timed_out();
    assert_eq!(timed.log.closed().unsent(), 9);
}

#[test]
fn a_limit_beyond_the_clock_never_ends_and_a_shorter_one_counts_from_progress() {
    let mut timed = Timed::stalled(Duration::MAX);
    timed.pass(1000 * HOUR);
    timed.read(1);
    timed.pass(1000 * HOUR);
    assert!(!timed.log.is_lost());
    timed.transport.set_write_timeout(Some(1001 * HOUR));
    timed.assert_ends_in(HOUR);
}

#[test]
fn the_rest_after_close_is_timed_and_the_earlier_of_two_deadlines_ends_it() {
    type End = fn(&Transport);
    let ways: [(End, Duration, TimeoutKind); 4] = [
        (Transport::close, LIMIT, TimeoutKind::Write),
        (
            |t| t.close_within(LIMIT + INSTANT),
            LIMIT,
            TimeoutKind::Write,
        ),
        (
            |t| t.close_within(3 * SECOND),
            3 * SECOND,
            TimeoutKind::Close,
        ),
        (|t| drop(t.write_eof()), LIMIT, TimeoutKind::Write),
    ];
    for (end, time, kind) in ways {
        let mut timed = Timed::stalled(LIMIT);
        end(&timed.transport);
        timed.pass(time - INSTANT);
        assert!(!timed.log.is_lost(), "early");
        timed.pass(INSTANT);
        assert_eq!(timed.ending(), kind);
        let unsent = STALLING - CAPACITY;
        assert_eq!(timed.log.closed().unsent(), unsent as u64);
        assert_eq!(timed.timers(), 0);
    }
}

#[test]
fn a_close_whose_rest_is_taken_in_time_is_clean() {
    let mut timed = Timed::stalled(LIMIT);
    timed.transport.close();
    while timed.transport.write_buffer_size() > 0 {
        timed.pass(LIMIT - INSTANT);
        timed.read(CAPACITY / 2);
    }
    assert!(timed.log.closed().is_clean(), "{}", timed.log.closed());
    timed.read(STALLING);
    assert!(timed.peer.is_ended());
    assert_eq!(timed.received, [1; STALLING]);
    timed.peer.send_eof().unwrap();
    timed.run();
    assert_eq!(timed.timers(), 0);
}

#[test]
fn room_that_came_while_the_loop_was_busy_is_used_before_anything_is_cut() {
    for closing in [false, true] {
        let (log, resumed) = (Log::new(), Rc::new(Cell::new(None)));
        let tick = resumed.clone();
        let recorder = Recorder::new(&log).keep_open().on_resume(move |transport| {
            tick.set(Some(transport.handle().stats().polls));
            Ok(())
        });
        let mut timed = Timed::with(log, recorder);
        timed.stall(LIMIT);
        let high = STALLING - CAPACITY - 1;
        let limits = WriteLimits::new().with_high(high).with_low(high);
        timed.transport.set_write_limits(limits).unwrap();
        timed.run();
        assert!(timed.transport.flow().is_paused());
        if closing {
            timed.transport.close();
            timed.run();
        }
        // The clock jumps over the time, and the peer has read: only the next poll will tell of the
        // room. The timer is due now.
        let read = timed.peer.read(&mut [0; 10]).unwrap();
        assert_eq!((read, timed.transport.sent()), (10, CAPACITY as u64));
        let (before, polls) = (timed.world.elapsed(), timed.host.handle().stats().polls);
        timed.world.network().force(Fault::ClockJump, 1);
        timed.run();
        assert!(timed.world.elapsed() - before > LIMIT);
        assert_eq!(timed.transport.sent(), (CAPACITY + 10) as u64);
        let expected = (!closing).then_some(polls + 1);
        assert_eq!(resumed.get(), expected, "in the same tick");
        assert!(!timed.log.is_lost());
        timed.assert_ends_in(LIMIT);
    }
}

#[test]
fn room_that_only_the_timer_finds_completes_a_flush() {
    let mut timed = Timed::new();
    timed.transport.set_write_timeout(Some(LIMIT));
    timed.transport.write(&[1; CAPACITY + 500]).unwrap();
    timed.run();
    assert_eq!(timed.transport.write_buffer_size(), 500);
    note_answer(&timed.log, "flush", timed.transport.flush());
    let read = timed.peer.read(&mut [0; CAPACITY]).unwrap();
    assert!(read >= 500, "{read}");
    timed.world.network().force(Fault::ClockJump, 1);
    timed.run();
    assert_eq!(timed.log.words(), ["made", "flush: ok"]);
    assert_eq!(timed.timers(), 0);
}

#[test]
fn a_write_that_the_kernel_takes_in_several_calls_pauses_nobody() {
    const ROOMY: usize = 4 << 20;
    let link = Link::new().send_buffer(ROOMY).receive_buffer(ROOMY);
    let log = Log::new();
    let mut timed = Timed::over(link, log.clone(), Recorder::new(&log));
    timed.transport.set_write_timeout(Some(LIMIT));
    let before = timed.host.handle().stats().writes;
    let flow = timed.transport.write(&vec![1; ROOMY]).unwrap();
    assert!(timed.host.handle().stats().writes > before + 1);
    assert_eq!((flow, timed.transport.stats().pauses), (Flow::Open, 0));
    timed.run();
    assert_eq!(log.words(), ["made"]);
}

#[test]
fn a_kernel_without_memory_is_no_progress() {
    // Within it, fewer tries than the fault may strike in a row.
    const SHORT: Duration = Duration::from_millis(100);
    for recovers in [false, true] {
        let mut timed = Timed::new();
        let no_memory = Faults::none().with(Fault::NoMemory, 1.0);
        timed.world.network().set_faults(&no_memory);
        timed.transport.set_write_timeout(Some(SHORT));
        timed.transport.write(&[1; 10]).unwrap();
        timed.run();
        let writes = timed.host.handle().stats().writes;
        timed.pass(SHORT - INSTANT);
        assert!(!timed.log.is_lost(), "early");
        assert_eq!(timed.transport.sent(), 0);
        let tries = timed.host.handle().stats().writes - writes;
        assert!(tries > 2, "it was tried again {tries} times");
        if recovers {
            timed.world.network().set_faults(&Faults::none());
            timed.pass(SHORT);
            assert_eq!((timed.transport.sent(), timed.timers()), (10, 0));
        } else {
            timed.pass(INSTANT);
            timed.assert_timed_out();
            assert_eq!(timed.log.closed().unsent(), 10);
        }
    }
}

#[test]
fn another_protocol_inherits_the_limit() {
    let mut timed = Timed::stalled(LIMIT);
    timed.pass(SECOND);
    let next = Log::new().switched_in();
    let protocol = Recorder::new(&next);
    timed.transport.set_protocol(protocol, b"").unwrap();
    timed.run();
    assert_eq!(timed.timers(), 1);
    timed.pass(9 * SECOND);
    assert_eq!(next.reason(), "timeout");
}

#[test]
fn a_waiter_may_change_the_limit_while_its_bytes_are_being_sent() {
    for limit in [None, Some(SECOND)] {
        let mut timed = Timed::stalled(LIMIT);
        // Of the bytes after it some stay.
        let transport = timed.transport.clone();
        let flush = transport.flush();
        transport.write(&[2; STALLING]).unwrap();
        let changed = transport.clone();
        flush.then(move |_, answer| {
            answer.unwrap();
            changed.set_write_timeout(limit);
        });
        timed.read(STALLING - CAPACITY);
        assert!(transport.write_buffer_size() > 0);
        match limit {
            Some(limit) => timed.assert_ends_in(limit),
            None => {
                assert_eq!(timed.timers(), 0);
                timed.pass(HOUR);
                assert!(!timed.log.is_lost());
            }
        }
    }
}

#[test]
fn a_limit_set_at_the_end_or_after_it_starts_nothing() {
    let log = Log::new();
    let recorder = Recorder::new(&log)
        .on_lost(|transport, _| transport.set_write_timeout(Some(Duration::ZERO)));
    let mut timed = Timed::with(log, recorder);
    let transport = timed.transport.clone();
    transport.write(&[1; STALLING]).unwrap();
    transport.abort();
    transport.set_write_timeout(Some(LIMIT));
    timed.run();
    assert_eq!(timed.log.reason(), "local-abort");
    transport.set_write_timeout(Some(Duration::ZERO));
    transport.set_write_timeout(None);
    assert_eq!(timed.timers(), 0);
    timed.world.end_host(&timed.host);
    transport.set_write_timeout(Some(LIMIT));
}
