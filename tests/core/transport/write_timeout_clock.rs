//! The write timeout to the nanosecond, in a world whose clock is set by hand.

use crate::memory::CAPACITY;
use crate::stage::{INSTANT, STALLING, Stage};
use rustix::io::Errno;
use std::time::Duration;
use support::{Log, Recorder, note_answer};
use tidegate::{TimeoutKind, Transport, WriteLimits};

const LIMIT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_transport_whose_bytes_stay_ends_at_the_limit_and_tells_all_who_wait() {
    let mut stage = Stage::stalled(LIMIT);
    let transport = stage.transport.clone();
    transport
        .set_write_limits(WriteLimits::new().with_high(0))
        .unwrap();
    note_answer(&stage.log, "drain", transport.drain());
    note_answer(&stage.log, "flush", transport.flush());
    let closes = transport.wait_closed();
    stage.assert_ends_in(LIMIT);
    let text = "connection closed: the peer took nothing within the write timeout \
                (2000 bytes unsent)";
    let told = ["drain", "flush"].map(|name| format!("{name}: {text}"));
    assert_eq!(
        stage.log.words()[2..],
        [&["lost".to_owned()], &told[..]].concat()
    );
    assert_eq!(transport.closed().unwrap().to_string(), text);
    let refusal = transport.write(b"more").unwrap_err();
    assert_eq!(refusal.closed().unwrap().to_string(), text);
    let closed = stage.event_loop.run_until(closes).unwrap();
    assert_eq!(closed.to_string(), text);
    assert_eq!(transport.sent(), CAPACITY as u64);
}

#[test]
fn every_byte_that_is_taken_starts_the_time_anew() {
    let mut stage = Stage::stalled(LIMIT);
    for n in 1..=5 {
        stage.pass(LIMIT - INSTANT);
        stage.read(1);
        assert_eq!(stage.transport.sent(), (CAPACITY + n) as u64);
        assert_eq!(stage.timers(), 1);
    }
    stage.pass(LIMIT / 3);
    stage.read(1);
    stage.assert_ends_in(LIMIT);
    assert_eq!(
        stage.log.closed().unsent(),
        (STALLING - CAPACITY - 6) as u64
    );
}

#[test]
fn progress_leaves_the_timer_alone() {
    let mut stage = Stage::stalled(LIMIT);
    for n in 1..=90 {
        stage.world.advance(LIMIT / 100);
        stage.read(1);
        // The last poll found nothing, and would have waited for the same timer as before.
        let wait = LIMIT - LIMIT / 100 * n;
        assert_eq!(stage.world.timeouts.take(), [Some(wait)]);
    }
    assert_eq!(stage.transport.sent(), CAPACITY as u64 + 90);
    stage.assert_ends_in(LIMIT);
}

#[test]
fn progress_reads_the_clock_once_for_each_system_call() {
    let reads = |limit: Option<Duration>| {
        let mut stage = Stage::new();
        // Another timer, so that every turn looks at the clock anyway.
        stage.event_loop.handle().call_later(HOUR, |_| {});
        stage.transport.set_write_timeout(limit);
        stage.transport.write(&[1; STALLING]).unwrap();
        stage.run();
        stage.world.clock_reads.set(0);
        let writes = stage.event_loop.handle().stats().writes;
        for _ in 0..50 {
            stage.read(1);
        }
        let writes = stage.event_loop.handle().stats().writes - writes;
        assert_eq!(writes, 50);
        stage.world.clock_reads.get()
    };
    assert_eq!(reads(Some(LIMIT)), reads(None) + 50);
}

#[test]
fn nothing_is_timed_while_nothing_is_queued() {
    let mut stage = Stage::new();
    let transport = stage.transport.clone();
    transport.set_write_timeout(Some(LIMIT));
    assert_eq!(stage.timers(), 0);
    stage.pass(HOUR);
    transport.write(&[1; CAPACITY]).unwrap();
    stage.run();
    assert_eq!((stage.timers(), transport.write_buffer_size()), (0, 0));
    stage.pass(HOUR);
    for stalls in 1..=2 {
        transport.write(&[1; STALLING]).unwrap();
        stage.run();
        assert_eq!(stage.timers(), 1);
        stage.pass(LIMIT - INSTANT);
        stage.read(STALLING);
        assert_eq!((stage.timers(), transport.write_buffer_size()), (0, 0));
        stage.pass(HOUR);
        assert!(!stage.log.is_lost(), "after {stalls} stalls");
    }
    transport.write(b"one more").unwrap();
    stage.run();
    stage.assert_ends_in(LIMIT);
}

#[test]
fn without_a_stall_no_clock_is_read_and_without_a_limit_never() {
    for limit in [Some(LIMIT), None] {
        let mut stage = Stage::new();
        stage.transport.set_write_timeout(limit);
        stage.world.clock_reads.set(0);
        for _ in 0..10 {
            stage.transport.write(&[1; CAPACITY]).unwrap();
            stage.run();
            stage.read(CAPACITY);
        }
        if limit.is_none() {
            stage.transport.write(&[1; STALLING]).unwrap();
            stage.run();
            stage.pass(HOUR);
            stage.read(STALLING);
            assert_eq!(stage.transport.write_buffer_size(), 0);
        }
        assert_eq!(stage.world.clock_reads.get(), 0);
    }
}

#[test]
fn a_changed_limit_counts_from_the_last_progress() {
    for (limit, rest) in [
        (5 * SECOND, 2 * SECOND),
        (20 * SECOND, 17 * SECOND),
        (LIMIT, 7 * SECOND),
    ] {
        let mut stage = Stage::stalled(LIMIT);
        stage.pass(4 * SECOND);
        stage.read(1);
        stage.pass(3 * SECOND);
        stage.transport.set_write_timeout(Some(limit));
        stage.assert_ends_in(rest);
    }
}

#[test]
fn a_limit_that_is_over_when_it_is_set_ends_the_connection_in_the_next_turn() {
    for limit in [2 * SECOND, SECOND, Duration::ZERO] {
        let mut stage = Stage::stalled(LIMIT);
        stage.pass(2 * SECOND);
        stage.transport.set_write_timeout(Some(limit));
        assert!(stage.transport.closed().is_none(), "within the call");
        stage.event_loop.run_once(None).unwrap();
        stage.assert_timed_out();
    }
}

#[test]
fn a_removed_limit_ends_nothing_and_a_new_one_counts_from_its_setting() {
    let mut stage = Stage::stalled(LIMIT);
    stage.pass(9 * SECOND);
    stage.transport.set_write_timeout(None);
    assert_eq!(stage.timers(), 0);
    stage.pass(HOUR);
    stage.transport.set_write_timeout(Some(LIMIT));
    assert_eq!(stage.timers(), 1);
    stage.assert_ends_in(LIMIT);
}

#[test]
fn a_limit_of_zero_ends_at_the_first_turn_that_finds_the_kernel_full() {
    let mut stage = Stage::new();
    stage.transport.set_write_timeout(Some(Duration::ZERO));
    stage.transport.write(&[1; CAPACITY]).unwrap();
    stage.run();
    assert!(!stage.log.is_lost());
    stage.transport.write(b"too much").unwrap();
    stage.run();
    stage.assert_timed_out();
    assert_eq!(stage.log.closed().unsent(), 8);
}

#[test]
fn a_limit_beyond_the_clock_never_ends_and_a_shorter_one_counts_from_the_last_progress() {
    let mut stage = Stage::stalled(Duration::MAX);
    stage.pass(1000 * HOUR);
    stage.read(1);
    stage.pass(1000 * HOUR);
    assert!(!stage.log.is_lost());
    stage.transport.set_write_timeout(Some(1001 * HOUR));
    stage.assert_ends_in(HOUR);
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
        let mut stage = Stage::stalled(LIMIT);
        end(&stage.transport);
        stage.pass(time - INSTANT);
        assert!(!stage.log.is_lost(), "early");
        stage.pass(INSTANT);
        assert_eq!(stage.ending(), kind);
        let unsent = STALLING - CAPACITY;
        assert_eq!(stage.log.closed().unsent(), unsent as u64);
        assert_eq!(stage.timers(), 0);
    }
}

#[test]
fn a_close_whose_rest_is_taken_in_time_is_clean() {
    let mut stage = Stage::stalled(LIMIT);
    stage.transport.close();
    while stage.transport.write_buffer_size() > 0 {
        stage.pass(LIMIT - INSTANT);
        stage.read(CAPACITY / 2);
    }
    assert!(stage.log.closed().is_clean(), "{}", stage.log.closed());
    stage.read(STALLING);
    assert_eq!(stage.served.log(0).data(), [1; STALLING]);
    stage.run();
    assert_eq!(stage.timers(), 0);
}

#[test]
fn room_that_came_while_the_loop_was_busy_is_used_before_anything_is_cut() {
    for closing in [false, true] {
        let mut stage = Stage::stalled(LIMIT);
        let high = STALLING - CAPACITY - 1;
        let limits = WriteLimits::new().with_high(high).with_low(high - 5);
        stage.transport.set_write_limits(limits).unwrap();
        stage.run();
        assert!(stage.transport.flow().is_paused());
        if closing {
            stage.transport.close();
            stage.run();
        }
        // In one turn: the loop is busy for an hour, and the peer reads; only the next poll will
        // tell of the room. The timer is due now.
        let world = stage.world.clone();
        stage.peer.call_soon({
            let portion = stage.portion.clone();
            move |_: &mut Recorder, transport| {
                portion.set(10);
                transport.resume_reading();
                Ok(())
            }
        });
        stage.event_loop.run_once(None).unwrap();
        assert_eq!(stage.transport.sent(), CAPACITY as u64);
        world.advance(HOUR);
        stage.event_loop.run_once(None).unwrap();
        assert_eq!(stage.transport.sent(), (CAPACITY + 10) as u64);
        let resumed = stage.log.words().ends_with(&["resume".to_owned()]);
        assert_eq!(resumed, !closing, "in the same turn");
        stage.run();
        assert!(!stage.log.is_lost());
        stage.assert_ends_in(LIMIT);
    }
}

#[test]
fn a_kernel_without_memory_is_no_progress() {
    for recovers in [false, true] {
        let mut stage = Stage::new();
        let out_of_memory = Errno::NOBUFS.raw_os_error();
        stage.world.write_error.set(Some(out_of_memory));
        stage.transport.set_write_timeout(Some(SECOND));
        stage.transport.write(&[1; 10]).unwrap();
        stage.run();
        let writes = stage.event_loop.handle().stats().writes;
        let start = stage.world.now.get();
        let step = Duration::from_millis(10);
        while stage.world.now.get() - start < SECOND - step {
            stage.pass(step);
            assert!(!stage.log.is_lost(), "early");
        }
        let tries = stage.event_loop.handle().stats().writes - writes;
        assert!(tries > 10, "it was tried again {tries} times");
        if recovers {
            stage.world.write_error.set(None);
        }
        stage.pass(step);
        if recovers {
            assert_eq!((stage.transport.sent(), stage.timers()), (10, 0));
        } else {
            stage.assert_timed_out();
            assert_eq!(stage.log.closed().unsent(), 10);
        }
    }
}

#[test]
fn another_protocol_inherits_the_limit() {
    let mut stage = Stage::stalled(LIMIT);
    stage.pass(SECOND);
    let next = Log::new().switched_in();
    let protocol = Recorder::new(&next);
    stage.transport.set_protocol(protocol, b"").unwrap();
    stage.run();
    assert_eq!(stage.timers(), 1);
    stage.pass(9 * SECOND);
    assert_eq!(next.reason(), "timeout");
}

#[test]
fn a_waiter_may_change_the_limit_while_its_bytes_are_being_sent() {
    for limit in [None, Some(SECOND)] {
        let mut stage = Stage::stalled(LIMIT);
        // Of the bytes after it some stay.
        let transport = stage.transport.clone();
        let flush = transport.flush();
        transport.write(&[2; STALLING]).unwrap();
        let changed = transport.clone();
        flush.then(move |_, answer| {
            answer.unwrap();
            changed.set_write_timeout(limit);
        });
        stage.read(STALLING - CAPACITY);
        assert!(transport.write_buffer_size() > 0);
        match limit {
            Some(limit) => stage.assert_ends_in(limit),
            None => {
                assert_eq!(stage.timers(), 0);
                stage.pass(HOUR);
                assert!(!stage.log.is_lost());
            }
        }
    }
}

#[test]
fn a_limit_set_at_the_end_or_after_it_starts_nothing() {
    let log = Log::new();
    let recorder = Recorder::new(&log)
        .on_lost(|transport, _| transport.set_write_timeout(Some(Duration::ZERO)));
    let mut stage = Stage::with(log, recorder);
    let transport = stage.transport.clone();
    transport.write(&[1; STALLING]).unwrap();
    transport.abort();
    transport.set_write_timeout(Some(LIMIT));
    stage.run();
    assert_eq!(stage.log.reason(), "local-abort");
    transport.set_write_timeout(Some(Duration::ZERO));
    transport.set_write_timeout(None);
    assert_eq!(stage.timers(), 0);
    let Stage { event_loop, .. } = stage;
    drop(event_loop);
    transport.set_write_timeout(Some(LIMIT));
}
