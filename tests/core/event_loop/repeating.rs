//! Callbacks that run again and again, and deadlines that move.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{Kind, Log, Recorder, Scene, drive, each_kind, failures, settle, tick};
use tidegate::{CallbackHandle, EventLoop, Handle, Protocol, Transport};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A count, and a closure that counts up and holds `held`.
fn counting<T: 'static>(held: &Rc<T>) -> (Rc<Cell<u32>>, impl FnMut(&Handle) + use<T>) {
    let count = Rc::new(Cell::new(0));
    let (counted, held) = (count.clone(), held.clone());
    let call = move |_: &Handle| {
        let _ = &held;
        counted.set(counted.get() + 1);
    };
    (count, call)
}

#[test]
fn a_repeating_timer_never_comes_before_its_time_and_skips_what_a_slow_run_missed() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let period = 10 * MS;
    let times: Rc<RefCell<Vec<Instant>>> = Rc::default();
    let noted = times.clone();
    let earliest = Instant::now();
    handle.call_every(period, move |_| {
        let began = Instant::now();
        noted.borrow_mut().push(began);
        // The second takes three periods.
        while noted.borrow().len() == 2 && began.elapsed() < 3 * period {
            std::hint::spin_loop();
        }
    });
    drive(&mut event_loop, "five runs", || times.borrow().len() == 5);
    let times = times.borrow();
    for (n, time) in (1..).zip(&times[..2]) {
        assert!(*time >= earliest + n * period, "run {n} was early");
    }
    // Not at once, as often as it was missed: each is at a multiple of the period again.
    for time in &times[2..] {
        let since = time.duration_since(earliest);
        assert!(
            since >= 5 * period,
            "{since:?}: a missed run was made up for"
        );
    }
    assert!(times[4] >= earliest + 7 * period, "{times:?}");
}

#[test]
fn the_shortest_period_lets_the_loop_sleep() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (count, call) = counting(&Rc::new(()));
    handle.call_every(Duration::ZERO, call);
    let (start, before) = (Instant::now(), handle.stats().polls);
    while count.get() < 20 {
        event_loop.run_once(None).unwrap();
    }
    assert!(
        start.elapsed() >= 20 * MS,
        "{:?} for 20 runs",
        start.elapsed()
    );
    let polls = handle.stats().polls - before;
    assert!(polls <= 60, "{polls} polls for 20 runs");
}

#[test]
fn a_repeating_timer_ends_when_it_is_cancelled_also_by_itself() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let held = Rc::new(());
    let (count, call) = counting(&held);
    let timer = handle.call_every(MS, call);
    drive(&mut event_loop, "three runs", || count.get() == 3);
    assert_eq!(handle.stats().timers, 1);
    timer.cancel();
    timer.cancel();
    assert_eq!(handle.stats().timers, 0);
    tick(&mut event_loop);
    assert_eq!(Rc::strong_count(&held), 1, "the closure was kept");
    assert!(!timer.reset(Duration::ZERO));

    let own: Rc<RefCell<Option<CallbackHandle>>> = Rc::default();
    let (itself, (count, mut call)) = (own.clone(), counting(&held));
    let timer = handle.call_every(MS, move |handle| {
        call(handle);
        if let Some(timer) = itself.borrow().as_ref() {
            timer.cancel();
            assert!(!timer.reset(MS), "it was cancelled");
        }
    });
    own.replace(Some(timer));
    drive(&mut event_loop, "the end", || Rc::strong_count(&held) == 1);
    settle(&mut event_loop);
    assert_eq!((count.get(), handle.stats().timers), (1, 0));
}

#[test]
fn a_repeating_timer_goes_on_after_a_panic_and_is_dropped_with_its_loop() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failures = failures(&handle);
    let held = Rc::new(());
    let (count, mut call) = counting(&held);
    let timer = handle.call_every(MS, move |handle| {
        call(handle);
        panic!("on purpose");
    });
    drive(&mut event_loop, "three runs", || count.get() == 3);
    assert_eq!(failures.borrow().len(), 3);
    assert!(
        failures
            .borrow()
            .iter()
            .all(|failure| failure.context() == "call_every")
    );
    drop(event_loop);
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!timer.reset(MS));
    let (_, call) = counting(&held);
    let late = handle.call_every(MS, call);
    assert_eq!(Rc::strong_count(&held), 1, "the loop is gone");
    assert!(!late.reset_at(Instant::now()));
    late.cancel();
}

#[test]
fn a_deadline_moves_both_ways_and_the_closure_stays() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let ran = Rc::new(Cell::new(false));
    let done = ran.clone();
    let timer = handle.call_later(Duration::ZERO, move |_| done.set(true));
    assert!(timer.reset(HOUR), "it waits");
    tick(&mut event_loop);
    assert!(timer.reset(Duration::MAX));
    tick(&mut event_loop);
    assert!(!ran.get());
    let due = Instant::now() + 3 * MS;
    assert!(timer.clone().reset_at(due));
    drive(&mut event_loop, "the timer", || ran.get());
    assert!(Instant::now() >= due, "early");
    assert!(!timer.reset(Duration::ZERO), "it has run");
    assert_eq!(handle.stats().timers, 0);
    let soon = handle.call_soon(|_| {});
    assert!(!soon.reset(HOUR), "it has no deadline");
    let cancelled = handle.call_later(HOUR, |_| panic!("it was cancelled"));
    cancelled.cancel();
    assert!(!cancelled.reset(Duration::ZERO));
    settle(&mut event_loop);
}

#[test]
fn of_equal_deadlines_the_one_that_was_moved_comes_last() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let at = Instant::now() + 2 * MS;
    let timers = ["first", "second", "third"].map(|name| {
        let log = log.clone();
        handle.call_at(at, move |_| log.note(name))
    });
    assert!(timers[0].reset_at(at));
    drive(&mut event_loop, "all", || log.words().len() == 3);
    assert_eq!(log.words(), ["second", "third", "first"]);
}

each_kind!(a_repeating_timer_of_a_connection_is_a_callback_of_its_protocol_and_ends_with_it);
fn a_repeating_timer_of_a_connection_is_a_callback_of_its_protocol_and_ends_with_it(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    let held = Rc::new(());
    let kept = held.clone();
    transport.call_every(MS, move |_: &mut Recorder, transport| {
        let _ = &kept;
        transport.write(b"tick")?;
        Ok(())
    });
    peer.expect(&mut event_loop, 12);
    assert!(peer.received().starts_with(b"tickticktick"));
    assert_eq!(event_loop.handle().stats().timers, 1);
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    drive(&mut event_loop, "the drop", || Rc::strong_count(&held) == 1);
    assert_eq!(event_loop.handle().stats().timers, 0);
    // After the end.
    let kept = held.clone();
    let late = transport.call_every(MS, move |_: &mut Recorder, _| {
        panic!("{kept:?} ran after the end");
    });
    assert!(!late.reset(MS));
    drive(&mut event_loop, "the drop", || Rc::strong_count(&held) == 1);
}

each_kind!(an_error_of_a_repeating_timer_ends_its_connection);
fn an_error_of_a_repeating_timer_ends_its_connection(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).set();
    let mut left = 3;
    transport.call_every(MS, move |_: &mut Recorder, transport| {
        left -= 1;
        assert!(!transport.is_closing(), "it ran once more");
        (left > 0).then_some(()).ok_or_else(|| "on purpose".into())
    });
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "callback");
    assert_eq!(event_loop.handle().stats().timers, 0);
}

struct Other;

impl Protocol for Other {}

each_kind!(a_repeating_timer_ends_with_the_protocol_that_it_was_for);
fn a_repeating_timer_ends_with_the_protocol_that_it_was_for(kind: Kind) {
    for is_switched in [true, false] {
        let (mut event_loop, _log, transport, _peer) = Scene::of(kind).set();
        let failures = failures(event_loop.handle());
        let held = Rc::new(());
        let kept = held.clone();
        settle(&mut event_loop);
        if is_switched {
            transport.call_every(MS, move |_: &mut Recorder, transport| {
                let _ = &kept;
                transport.set_protocol(Other, b"")?;
                Ok(())
            });
        } else {
            transport.call_every(MS, move |_: &mut Other, _| panic!("{kept:?}: it ran"));
        }
        drive(&mut event_loop, "the drop", || Rc::strong_count(&held) == 1);
        settle(&mut event_loop);
        assert_eq!(event_loop.handle().stats().timers, 0);
        assert_eq!(
            failures.borrow().len(),
            usize::from(!is_switched),
            "{failures:?}"
        );
        assert!(!transport.is_closing());
    }
}

each_kind!(an_idle_timeout_of_a_connection_is_moved_at_each_read);
fn an_idle_timeout_of_a_connection_is_moved_at_each_read(kind: Kind) {
    let idle: Rc<RefCell<Option<CallbackHandle>>> = Rc::default();
    let (log, own) = (Log::new(), idle.clone());
    let protocol = Recorder::new(&log).on_data(move |_, _| {
        assert!(own.borrow().as_ref().unwrap().reset(HOUR));
        Ok(())
    });
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, protocol);
    let close = |_: &mut Recorder, transport: &Transport| {
        transport.close();
        Ok(())
    };
    let timer = transport.call_later(HOUR, close);
    idle.replace(Some(timer.clone()));
    for round in 1..=5 {
        peer.send(b"x");
        drive(&mut event_loop, "the data", || log.data_len() == round);
        assert_eq!(event_loop.handle().stats().timers, 1);
    }
    assert!(timer.reset(MS));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
    assert!(!timer.reset(MS));
}
