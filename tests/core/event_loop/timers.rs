//! Timers, and the loop's time.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Log, Recorder, TempDir, adopted, drive, each_kind, settle, tick};
use tidegate::{ConnectOptions, EventLoop, Handle};

const MS: Duration = Duration::from_millis(1);

/// Slow work: keeps the processor until the clock has moved by `for_at_least`.
fn work(for_at_least: Duration) {
    let start = Instant::now();
    while start.elapsed() <= for_at_least {
        std::hint::spin_loop();
    }
}

#[test]
fn the_time_stands_still_within_a_tick_and_moves_between_ticks() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let times = Rc::new(RefCell::new(Vec::new()));
    let (transport, mut peer) = {
        let times = times.clone();
        let protocol = Recorder::new(&Log::new()).on_data(move |transport, _| {
            times.borrow_mut().push(transport.handle().now());
            work(2 * MS);
            Ok(())
        });
        adopted(&handle, Kind::Unix, protocol)
    };
    settle(&mut event_loop);
    for round in 0..2 {
        let start = Instant::now();
        peer.send(b"x");
        let timer = times.clone();
        handle.call_later(Duration::ZERO, move |handle| {
            timer.borrow_mut().push(handle.now());
            work(2 * MS);
        });
        let ready = times.clone();
        handle.call_soon(move |handle| ready.borrow_mut().push(handle.now()));
        tick(&mut event_loop);
        let times = times.borrow();
        let tick = &times[3 * round..];
        assert_eq!(tick.len(), 3, "I/O, timer and callback in one tick");
        assert!(tick.iter().all(|time| *time == tick[0]), "{tick:?}");
        assert!(tick[0] >= start, "the time of an earlier tick");
    }
    assert_eq!(transport.stats().received, 2);
}

#[test]
fn between_ticks_the_time_is_the_clock() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    for _ in 0..2 {
        let first = handle.now();
        work(MS);
        let clock = Instant::now();
        assert!(handle.now() >= clock, "the time stopped outside of a tick");
        assert!(handle.now() > first);
        tick(&mut event_loop);
    }
}

/// Ways to start a timer. Each calls back with the tick's handle.
type Start = fn(&Handle, &Setup, Duration, Box<dyn FnOnce()>);

struct Setup {
    transport: tidegate::Transport,
    stalled: tidegate::Address,
}

const STARTS: [(&str, Start); 5] = [
    ("Handle::call_later", |handle, _, delay, call| {
        handle.call_later(delay, move |_| call());
    }),
    ("Transport::call_later", |_, setup, delay, call| {
        setup
            .transport
            .call_later(delay, move |_: &mut Recorder, _| {
                call();
                Ok(())
            });
    }),
    ("Completion::within", |handle, _, delay, call| {
        let (completer, completion) = handle.completion::<()>();
        completion.within(delay).then(move |_, answer| {
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut);
            call();
            drop(completer);
        });
    }),
    ("ConnectOptions::timeout", |handle, setup, delay, call| {
        let options = ConnectOptions::new(&setup.stalled).timeout(delay);
        handle
            .create_connection(options, Recorder::new(&Log::new()))
            .then(move |_, answer| {
                assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::TimedOut);
                call();
            });
    }),
    ("Transport::close_within", |_, setup, delay, call| {
        setup.transport.wait_closed().then(move |_, closed| {
            let reason = closed.unwrap().reason().to_string();
            assert!(!reason.contains("closed here"), "{reason}");
            call();
        });
        setup.transport.close_within(delay);
    }),
];

/// Starts a timer of each kind in a callback that has asked for the time and then worked.
fn start_after_slow_work(
    delay: Duration,
    mut check: impl FnMut(&mut EventLoop, &str, &Rc<Cell<bool>>),
) {
    for (name, start) in STARTS {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let log = Log::new();
        let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&log));
        settle(&mut event_loop);
        // Bytes that will not go, so that `close_within` has something to wait for.
        while !transport.write(&[0; 100_000]).unwrap().is_paused() {}
        settle(&mut event_loop);
        let dir = TempDir::new();
        let (listener, stalled) = Kind::Unix.listen(&dir);
        listener.listen(0).unwrap();
        let first = handle.create_connection(&stalled, Recorder::new(&Log::new()));
        let _first = event_loop.run_until(first.within(BOUND)).unwrap();
        let setup = Setup { transport, stalled };
        let fired = Rc::new(Cell::new(false));
        let done = fired.clone();
        handle.call_soon(move |handle| {
            handle.now();
            work(10 * MS);
            let due = Instant::now().checked_add(delay);
            start(
                handle,
                &setup,
                delay,
                Box::new(move || {
                    assert!(due.is_some_and(|due| Instant::now() >= due), "early");
                    done.set(true);
                }),
            );
        });
        check(&mut event_loop, name, &fired);
    }
}

#[test]
fn a_timer_counts_from_its_creation_also_after_slow_work() {
    start_after_slow_work(5 * MS, |event_loop, name, fired| {
        drive(event_loop, name, || fired.get());
    });
}

#[test]
fn a_timer_of_the_longest_duration_never_fires_and_overflows_nothing() {
    start_after_slow_work(Duration::MAX, |event_loop, name, fired| {
        settle(event_loop);
        assert!(!fired.get(), "{name}");
    });
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let endless = handle.call_later(Duration::MAX, |_| panic!("the end of time"));
    handle.call_later(Duration::ZERO, |handle| handle.stop());
    event_loop.run_once(Some(Duration::MAX)).unwrap();
    assert_eq!(handle.stats().timers, 1);
    endless.cancel();
    assert_eq!(handle.stats().timers, 0);
}

#[test]
fn timers_fire_by_deadline_and_equal_ones_in_the_order_of_creation() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let base = Instant::now();
    let fired = Rc::new(RefCell::new(Vec::new()));
    let mut expected = Vec::new();
    for n in 0..500_u32 {
        // Scattered over four milliseconds, a hundred deadlines five times each.
        let at = base + Duration::from_micros(u64::from(n * 37 % 100) * 40);
        expected.push((at, n));
        let fired = fired.clone();
        handle.call_at(at, move |_| {
            assert!(Instant::now() >= at, "early");
            fired.borrow_mut().push((at, n));
        });
    }
    expected.sort();
    drive(&mut event_loop, "500 timers", || {
        fired.borrow().len() == 500
    });
    assert_eq!(*fired.borrow(), expected);
    assert_eq!(handle.stats().timers, 0);
}

#[test]
fn a_timer_is_never_early() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let fired = Rc::new(Cell::new(0));
    for n in 0..300 {
        let delay = Duration::from_nanos(n * 33_333);
        let due = Instant::now() + delay;
        let fired = fired.clone();
        handle.call_later(delay, move |_| {
            assert!(Instant::now() >= due, "early");
            fired.set(fired.get() + 1);
        });
    }
    while fired.get() < 300 {
        event_loop.run_once(None).unwrap();
    }
}

#[test]
fn a_time_that_is_over_fires_in_this_tick_before_ready_callbacks() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let ready = log.clone();
    handle.call_soon(move |_| ready.note("ready"));
    let now = Instant::now();
    for (at, name) in [(now, "second"), (now - MS, "first")] {
        let log = log.clone();
        handle.call_at(at, move |_| log.note(name));
    }
    tick(&mut event_loop);
    assert_eq!(log.words(), ["first", "second", "ready"]);
}

#[test]
fn a_cancelled_timer_costs_no_wake_up_and_no_memory() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let alive = Rc::new(());
    let timers: Vec<_> = (1..=20)
        .map(|ms| {
            let alive = alive.clone();
            handle.call_later(ms * MS, move |_| panic!("{alive:?} was cancelled"))
        })
        .collect();
    assert_eq!(handle.stats().timers, 20);
    for timer in &timers {
        timer.cancel();
        timer.cancel();
    }
    assert_eq!(handle.stats().timers, 0);
    tick(&mut event_loop);
    assert_eq!(Rc::strong_count(&alive), 1, "the closures were kept");

    let (completer, completion) = handle.completion();
    handle.call_later(30 * MS, move |_| completer.complete(Ok(())));
    let before = handle.stats();
    event_loop.run_until(completion).unwrap();
    let after = handle.stats();
    assert_eq!(after.callbacks - before.callbacks, 1);
    let polls = after.polls - before.polls;
    assert!(polls <= 3, "{polls} polls for one timer");
}

#[test]
fn a_cancelled_callback_does_not_run_even_if_it_was_due() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let now = Instant::now();
    let note = |text: &'static str| {
        let log = log.clone();
        move |_: &Handle| log.note(text)
    };
    // The first of the tick's timers and callbacks cancel the second ones.
    let victims = Rc::new(RefCell::new(Vec::new()));
    let (doomed, seen) = (victims.clone(), log.clone());
    let killer = handle.call_at(now, move |_| {
        seen.note("timer");
        doomed
            .borrow_mut()
            .drain(..)
            .for_each(|victim: tidegate::CallbackHandle| victim.cancel());
    });
    victims
        .borrow_mut()
        .push(handle.call_at(now, note("cancelled timer")));
    handle.call_soon(note("ready"));
    victims
        .borrow_mut()
        .push(handle.call_soon(note("cancelled callback")));
    // Dropping a handle is not cancelling.
    drop(handle.call_at(now, note("dropped")));
    tick(&mut event_loop);
    killer.cancel();
    tick(&mut event_loop);
    assert_eq!(log.words(), ["timer", "dropped", "ready"]);
}

#[test]
fn a_handle_of_a_timer_that_fired_cancels_no_other() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (first, second) = (log.clone(), log.clone());
    let old = handle.call_later(Duration::ZERO, move |_| first.note("first"));
    tick(&mut event_loop);
    // Very likely in the memory of the first.
    handle.call_later(Duration::ZERO, move |_| second.note("second"));
    old.cancel();
    tick(&mut event_loop);
    assert_eq!(log.words(), ["first", "second"]);
}

each_kind!(a_timer_that_starts_itself_again_without_delay_starves_nothing);
fn a_timer_that_starts_itself_again_without_delay_starves_nothing(kind: Kind) {
    fn again(handle: &Handle, fired: Rc<Cell<u32>>) {
        handle.call_later(Duration::ZERO, move |handle| {
            fired.set(fired.get() + 1);
            again(handle, fired);
        });
    }
    fn soon_again(handle: &Handle, ran: Rc<Cell<u32>>) {
        handle.call_soon(move |handle| {
            ran.set(ran.get() + 1);
            soon_again(handle, ran);
        });
    }
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (fired, ran) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let log = Log::new();
    let (_, mut peer) = adopted(&handle, kind, Recorder::echo(&log));
    again(&handle, fired.clone());
    soon_again(&handle, ran.clone());
    for n in 1..=100 {
        tick(&mut event_loop);
        assert_eq!((fired.get(), ran.get()), (n, n), "one for each tick");
    }
    peer.send(b"still served");
    peer.expect(&mut event_loop, 12);
}

#[test]
fn a_timer_that_starts_itself_again_for_a_time_that_is_over_starves_no_other() {
    fn again(handle: &Handle, time: Instant, fired: Rc<Cell<u32>>) {
        handle.call_at(time, move |handle| {
            fired.set(fired.get() + 1);
            again(handle, time, fired);
        });
    }
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let start = Instant::now();
    let (fired, other) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    again(&handle, start, fired.clone());
    let ran = other.clone();
    handle.call_at(start + MS, move |_| ran.set(true));
    work(2 * MS);
    tick(&mut event_loop);
    assert!(other.get(), "it was due in the first tick");
    for n in 2..=100 {
        tick(&mut event_loop);
        assert_eq!(fired.get(), n, "one for each tick");
    }
}
