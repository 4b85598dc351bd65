//! The tick of the loop, running and stopping it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Log, Peer, Recorder, Scene, adopted, drive, each_kind, settle};
use tidegate::{EventLoop, Handle, OnPause, PanicPolicy, Transport, WriteLimits};

/// One tick that may wait; fails if it did, though something was owed.
#[track_caller]
fn tick_at_once(event_loop: &mut EventLoop, owed: &str) {
    let start = Instant::now();
    event_loop.run_once(Some(BOUND)).unwrap();
    assert!(start.elapsed() < BOUND / 2, "the loop slept over {owed}");
}

/// A connection that notes `io` when bytes arrive, and its peer. On a Unix socket bytes have
/// arrived when the call that sent them returns, so the tick that will see them is known.
fn noting(handle: &Handle, log: &Log) -> (Transport, Peer) {
    let noted = log.clone();
    let protocol = Recorder::new(&Log::new()).on_data(move |transport, _| {
        noted.note("io");
        let after = noted.clone();
        transport.handle().call_soon(move |_| after.note("io soon"));
        Ok(())
    });
    adopted(handle, Kind::Unix, protocol)
}

fn noted(log: &Log, note: &'static str) -> impl FnOnce(&Handle) + use<> {
    let log = log.clone();
    move |_| log.note(note)
}

#[test]
fn a_tick_is_io_then_timers_then_ready_callbacks_then_a_flush() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (_, mut peer) = noting(&handle, &log);
    let (sink, _sink_peer) = adopted(&handle, Kind::Unix, Recorder::new(&Log::new()));
    settle(&mut event_loop);

    // Asked for in the opposite order.
    sink.write(b"flush").unwrap();
    let (ready, unsent) = (log.clone(), sink.clone());
    handle.call_soon(move |_| {
        ready.note("ready");
        assert_eq!(unsent.sent(), 0, "flushed before the callbacks had run");
    });
    let timer = log.clone();
    handle.call_later(Duration::ZERO, move |handle| {
        timer.note("timer");
        handle.call_soon(noted(&timer, "timer soon"));
    });
    peer.send(b"io");
    let before = handle.stats().polls;
    tick_at_once(&mut event_loop, "all of it");
    assert_eq!(handle.stats().polls, before + 1);
    // Callbacks that I/O and timers made ready were ready when that phase began.
    let order = ["io", "timer", "ready", "io soon", "timer soon"];
    assert_eq!(log.words(), order);
    assert_eq!(sink.sent(), 5);
}

#[test]
fn what_a_ready_callback_schedules_waits_until_io_was_polled_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (_, mut peer) = noting(&handle, &log);
    settle(&mut event_loop);
    let first = log.clone();
    handle.call_soon(move |handle| {
        first.note("first");
        handle.call_soon(noted(&first, "second"));
        peer.send(b"io");
        // Kept open until the loop has read.
        handle.call_later(BOUND, move |_| drop(peer));
    });
    tick_at_once(&mut event_loop, "a ready callback");
    assert_eq!(log.words(), ["first"]);
    tick_at_once(&mut event_loop, "a ready callback");
    assert_eq!(log.words(), ["first", "io", "second", "io soon"]);
}

#[test]
fn callbacks_run_in_the_order_they_were_scheduled() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let order = Rc::new(RefCell::new(Vec::new()));
    let repeated = {
        let order = order.clone();
        handle.callback(move |_| order.borrow_mut().push(50))
    };
    let (transport, _peer) = adopted(&handle, Kind::Unix, Recorder::new(&Log::new()));
    for n in 0..100 {
        let order = order.clone();
        match n {
            50 => repeated.schedule(),
            70 => {
                transport.call_soon(move |_: &mut Recorder, _| {
                    order.borrow_mut().push(n);
                    Ok(())
                });
            }
            _ => {
                handle.call_soon(move |_| order.borrow_mut().push(n));
            }
        }
    }
    tick_at_once(&mut event_loop, "ready callbacks");
    assert_eq!(*order.borrow(), (0..100).collect::<Vec<_>>());
}

each_kind!(what_a_flush_touches_is_flushed_in_the_next_tick_without_a_sleep);
fn what_a_flush_touches_is_flushed_in_the_next_tick_without_a_sleep(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (other, _other_peer) = adopted(&handle, kind, Recorder::new(&Log::new()));
    let log = Log::new();
    let protocol = Recorder::new(&log).on_pause({
        let other = other.clone();
        move |_| {
            other.write(b"paused")?;
            Ok(OnPause::KeepReading)
        }
    });
    let (transport, _peer) = adopted(&handle, kind, protocol);
    settle(&mut event_loop);
    transport
        .set_write_limits(WriteLimits::new().with_high(1000))
        .unwrap();
    while !transport.write(&[0; 100_000]).unwrap().is_paused() {}
    tick_at_once(&mut event_loop, "a touched transport");
    assert_eq!(log.words(), ["made", "pause"]);
    assert_eq!(other.sent(), 0);
    tick_at_once(&mut event_loop, "a transport that a flush touched");
    assert_eq!(other.sent(), 6);
}

#[test]
fn the_loop_does_not_sleep_over_what_is_owed() {
    type Case = (&'static str, fn(&Handle, &Log, &Transport));
    let cases: [Case; 8] = [
        ("a callback", |handle, log, _| {
            handle.call_soon(noted(log, "done"));
        }),
        ("a repeated callback", |handle, log, _| {
            let log = log.clone();
            handle.callback(move |_| log.note("done")).schedule();
        }),
        ("a due timer", |handle, log, _| {
            handle.call_at(handle.now(), noted(log, "done"));
        }),
        ("the answer of a completion", |handle, log, _| {
            let (completer, completion) = handle.completion::<()>();
            let log = log.clone();
            completion.then(move |_, _| log.note("done"));
            completer.complete(Ok(()));
        }),
        ("a known answer", |_, log, transport| {
            let log = log.clone();
            transport.drain().then(move |_, _| log.note("done"));
        }),
        ("a value to be dropped", |handle, log, _| {
            struct Value(Log);
            impl Drop for Value {
                fn drop(&mut self) {
                    self.0.note("done");
                }
            }
            let value = Value(log.clone());
            let timer = handle.call_later(BOUND, move |_| drop(value));
            timer.cancel();
            assert!(!log.has(&support::Seen::Note("done".into())));
        }),
        ("a transport that was written to", |_, log, transport| {
            let log = log.clone();
            transport.write(b"x").unwrap();
            transport.flush().then(move |_, _| log.note("done"));
        }),
        ("a stop", |handle, log, _| {
            handle.stop();
            log.note("done");
        }),
    ];
    for (owed, ask) in cases {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let log = Log::new();
        let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&Log::new()));
        settle(&mut event_loop);
        ask(&handle, &log, &transport);
        tick_at_once(&mut event_loop, owed);
        if log.words().is_empty() {
            // Flushed in the first tick, told in the second.
            tick_at_once(&mut event_loop, owed);
        }
        assert_eq!(log.words(), ["done"], "{owed}");
    }
}

#[test]
fn left_over_reads_come_after_the_events_of_the_next_poll_and_without_a_sleep() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let order = Log::new();
    let greedy_log = Log::new();
    let noted = order.clone();
    let protocol = Recorder::new(&greedy_log).buffered(1).on_data(move |_, _| {
        noted.note("greedy");
        Ok(())
    });
    let (_, mut greedy) = adopted(&handle, Kind::Unix, protocol);
    let (_, mut other) = noting(&handle, &order);
    settle(&mut event_loop);

    greedy.send(&[7; 40]);
    tick_at_once(&mut event_loop, "an event");
    let first = greedy_log.data_len();
    assert!(first > 0 && first < 40, "one tick read {first} times");
    other.send(b"x");
    tick_at_once(&mut event_loop, "reads that are left over");
    assert_eq!(order.words()[first..first + 2], ["io", "greedy"]);
    assert_eq!(greedy_log.data_len(), (2 * first).min(40));
    while greedy_log.data_len() < 40 {
        tick_at_once(&mut event_loop, "reads that are left over");
    }
}

each_kind!(reading_that_is_resumed_needs_no_new_event);
fn reading_that_is_resumed_needs_no_new_event(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    transport.pause_reading();
    peer.send(b"waiting");
    let events = event_loop.handle().stats().events;
    drive(&mut event_loop, "the event of the bytes", || {
        transport.handle().stats().events > events
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    for _ in 0..2 {
        tick_at_once(&mut event_loop, "a resumed transport");
    }
    assert_eq!(log.data(), b"waiting");
}

#[test]
fn a_tick_with_nothing_to_do_lasts_as_long_as_it_may_and_no_longer() {
    let mut event_loop = EventLoop::new().unwrap();
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    let start = Instant::now();
    event_loop
        .run_once(Some(Duration::from_millis(20)))
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(19));
    assert!(start.elapsed() < BOUND / 2);
    let mut after = event_loop.handle().stats();
    assert_eq!(after.polls, before.polls + 1);
    after.polls = before.polls;
    assert_eq!(after, before);
}

#[test]
fn a_stop_lets_the_tick_end_and_the_loop_can_run_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, _peer) = adopted(&handle, Kind::Unix, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    handle.call_soon(Handle::stop);
    let (after, written) = (log.clone(), transport.clone());
    handle.call_soon(move |handle| {
        after.note("after the stop");
        handle.call_soon(noted(&after, "the next run"));
        written.write(b"x").unwrap();
    });
    event_loop.run_forever().unwrap();
    assert_eq!(log.words(), ["after the stop"]);
    assert_eq!(transport.sent(), 1);

    // A stop from outside ends the next run after its first tick.
    handle.stop();
    event_loop.run_forever().unwrap();
    assert_eq!(log.words(), ["after the stop", "the next run"]);

    // It stopped one run, not two.
    let seen = log.clone();
    handle.call_soon(move |handle| {
        let seen = seen.clone();
        handle.call_soon(move |handle| {
            seen.note("second tick");
            handle.stop();
        });
    });
    event_loop.run_forever().unwrap();
    assert_eq!(log.words().last().unwrap(), "second tick");
}

#[test]
fn running_until_an_answer_ends_with_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion();
    handle.call_soon(move |handle| {
        handle.call_soon(move |_| completer.complete(Ok(7)));
    });
    assert_eq!(event_loop.run_until(completion).unwrap(), 7);

    let (completer, completion) = handle.completion::<()>();
    completer.complete(Err(io::ErrorKind::AddrInUse.into()));
    let polls = handle.stats().polls;
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(handle.stats().polls, polls, "a known answer needs no tick");

    // The result counts, if it came in the tick that was stopped.
    let (completer, completion) = handle.completion();
    handle.call_soon(|handle| {
        handle.stop();
        completer.complete(Ok(8));
    });
    assert_eq!(event_loop.run_until(completion).unwrap(), 8);
}

#[test]
fn running_until_an_answer_that_a_stop_came_before_is_an_error_that_says_so() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion::<()>();
    handle.call_soon(Handle::stop);
    let error = event_loop.run_until(completion).unwrap_err();
    assert!(error.to_string().contains("stopped before"), "{error}");
    assert!(completer.is_cancelled());
}

#[test]
fn a_completion_of_another_loop_is_invalid_input() {
    let mut event_loop = EventLoop::new().unwrap();
    let other = EventLoop::new().unwrap();
    let (completer, completion) = other.handle().completion::<()>();
    event_loop.handle().stop();
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(completer.is_cancelled());
    assert_eq!(event_loop.handle().stats().polls, 0);
}

/// Loops are told apart by how many endless timers they have.
fn named(name: usize) -> EventLoop {
    let event_loop = EventLoop::new().unwrap();
    for _ in 0..name {
        event_loop.handle().call_later(Duration::MAX, |_| {});
    }
    event_loop
}

fn current() -> Option<usize> {
    Handle::current().map(|handle| handle.stats().timers)
}

#[test]
fn another_loop_runs_inside_a_callback_and_the_first_is_current_again() {
    let mut outer = named(1);
    assert_eq!(current(), None);
    let ran = Rc::new(Cell::new(false));
    let seen = ran.clone();
    outer.handle().call_soon(move |_| {
        assert_eq!(current(), Some(1));
        let mut inner = named(2);
        assert_eq!(
            current(),
            Some(1),
            "a loop that does not run is not current"
        );
        let log = Log::new();
        let (_, mut peer) = adopted(inner.handle(), Kind::Tcp, Recorder::echo(&log));
        inner.handle().call_soon(|_| assert_eq!(current(), Some(2)));
        peer.send(b"inner");
        peer.expect(&mut inner, 5);
        assert_eq!(current(), Some(1));
        inner.handle().call_soon(|_| panic!("on purpose"));
        inner.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(current(), Some(1));
        drop(inner);
        assert!(log.is_lost());
        assert_eq!(current(), Some(1));
        seen.set(true);
    });
    outer.run_once(Some(Duration::ZERO)).unwrap();
    assert!(ran.get());
    assert_eq!(current(), None);
}

#[test]
fn a_propagated_panic_leaves_the_run_when_its_tick_is_over() {
    let mut event_loop = EventLoop::builder()
        .panic_policy(PanicPolicy::Propagate)
        .build()
        .unwrap();
    let log = Log::new();
    event_loop.handle().call_soon(|_| panic!("on purpose"));
    event_loop.handle().call_soon(noted(&log, "the same tick"));
    let run = std::panic::AssertUnwindSafe(|| event_loop.run_once(Some(BOUND)));
    let payload = std::panic::catch_unwind(run).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
    assert_eq!(log.words(), ["the same tick"]);
    assert_eq!(current(), None);
    // The loop is as good as before.
    event_loop.handle().call_soon(noted(&log, "another tick"));
    event_loop.run_once(Some(BOUND)).unwrap();
    assert_eq!(log.words(), ["the same tick", "another tick"]);
}
#[test]
fn run_until_within_returns_what_completes_in_time() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, known) = handle.completion();
    completer.complete(Ok(5));
    let answer = event_loop.run_until_within(known, Duration::ZERO);
    assert_eq!(answer.unwrap(), 5);
    let (completer, later) = handle.completion();
    handle.call_later(Duration::from_millis(1), |_| completer.complete(Ok(6)));
    assert_eq!(event_loop.run_until_within(later, BOUND).unwrap(), 6);
    assert_eq!(handle.stats().timers, 0, "of the limit");
}

#[test]
fn run_until_within_takes_an_error_of_the_completion_as_run_until_does() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion::<()>();
    completer.complete(Err(io::ErrorKind::AddrInUse.into()));
    let error = event_loop.run_until_within(completion, BOUND).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    handle.stop();
    let (_completer, stopped) = handle.completion::<()>();
    let error = event_loop.run_until_within(stopped, BOUND).unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    let other = EventLoop::new().unwrap();
    let (_completer, foreign) = other.handle().completion::<()>();
    let error = event_loop.run_until_within(foreign, BOUND).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn run_until_within_cancels_at_its_limit_what_dropping_the_completion_cancels() {
    const LIMIT: Duration = Duration::from_millis(5);
    let mut event_loop = EventLoop::builder().executor_threads(1).build().unwrap();
    let handle = event_loop.handle().clone();
    let (release, released) = mpsc::channel::<()>();
    let running = handle.run_in_executor(move || released.recv().is_ok());
    let (ran, has_run) = mpsc::channel();
    let waiting = handle.run_in_executor(move || ran.send(()));
    let start = Instant::now();
    let error = event_loop.run_until_within(waiting, LIMIT).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= LIMIT);
    assert_eq!((handle.stats().jobs, handle.stats().timers), (1, 0));
    // The loop goes on, and so does what was not waited for.
    release.send(()).unwrap();
    assert!(event_loop.run_until_within(running, BOUND).unwrap());
    assert!(has_run.recv().is_err(), "a cancelled job ran");
}
