//! When handlers run, and for which signals.

use super::{Told, assert_ends_well, note, raise};
use signal_hook::flag;
use std::cell::{Cell, RefCell};
use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, alone, descriptors, drive, failures, settle, tick};
use tidegate::{CloseReason, EventLoop, LoopClosed, Signal, SignalHandle};

#[test]
fn a_handler_runs_on_the_loop_after_the_poll_and_before_timers_and_ready_callbacks() {
    assert_ends_well(alone(
        a_handler_runs_on_the_loop_after_the_poll_and_before_timers_and_ready_callbacks,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            let order: Rc<RefCell<Vec<&str>>> = Rc::default();
            let noting = |what| {
                let order = order.clone();
                move || order.borrow_mut().push(what)
            };
            let (ready, timer, signal) = (noting("ready"), noting("timer"), noting("signal"));
            handle.call_soon(move |_| ready());
            handle.call_later(Duration::ZERO, move |_| timer());
            let own = handle.clone();
            let added = handle.add_signal_handler(Signal::SIGUSR1, move |handle, _| {
                assert_eq!(handle, &own);
                signal();
            });
            added.unwrap();
            raise(Signal::SIGUSR1);
            assert!(order.borrow().is_empty(), "within the system's handler");
            tick(&mut event_loop);
            assert_eq!(*order.borrow(), ["signal", "timer", "ready"]);
        },
    ));
}

/// Returns the state of a thread of this process, as the kernel tells it: `S` asleep.
fn state(thread: &str) -> char {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

#[test]
fn a_signal_to_the_process_wakes_a_loop_that_sleeps() {
    assert_ends_well(alone(
        a_signal_to_the_process_wakes_a_loop_that_sleeps,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let link = fs::read_link("/proc/thread-self").unwrap();
            let own = link.to_str().unwrap().to_owned();
            let waiting = event_loop.handle().wait_signal(&[Signal::SIGTERM]);
            let killer = thread::spawn(move || {
                let begun = Instant::now();
                while state(&own) != 'S' {
                    assert!(begun.elapsed() < BOUND, "the loop never sleeps");
                    thread::yield_now();
                }
                let pid = std::process::id().to_string();
                let killed = Command::new("kill").args(["-TERM", &pid]).status();
                assert!(killed.unwrap().success());
            });
            let signal = event_loop.run_until_within(waiting, BOUND).unwrap();
            assert_eq!(signal, Signal::SIGTERM);
            killer.join().unwrap();
        },
    ));
}

#[test]
fn a_thousand_raises_before_the_loop_looks_are_one_call() {
    assert_ends_well(alone(
        a_thousand_raises_before_the_loop_looks_are_one_call,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let told = Told::default();
            note(event_loop.handle(), Signal::SIGUSR1, &told);
            for _ in 0..1000 {
                raise(Signal::SIGUSR1);
            }
            settle(&mut event_loop);
            assert_eq!(*told.borrow(), [Signal::SIGUSR1]);
            raise(Signal::SIGUSR1);
            tick(&mut event_loop);
            assert_eq!(told.borrow().len(), 2, "one that comes later is another");
        },
    ));
}

#[test]
fn several_signals_are_told_by_number_and_each_to_its_handlers_in_their_order() {
    assert_ends_well(alone(
        several_signals_are_told_by_number_and_each_to_its_handlers_in_their_order,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            let told: Rc<RefCell<Vec<(Signal, u32)>>> = Rc::default();
            let (usr2, usr1, hup) = (Signal::SIGUSR2, Signal::SIGUSR1, Signal::SIGHUP);
            for (number, signal) in [(1, usr2), (2, usr1), (3, hup), (4, usr1)] {
                let told = told.clone();
                let call = move |_: &_, signal| told.borrow_mut().push((signal, number));
                handle.add_signal_handler(signal, call).unwrap();
            }
            assert_eq!(handle.stats().signals, 3);
            for signal in [usr1, usr2, hup] {
                raise(signal);
            }
            tick(&mut event_loop);
            assert_eq!(*told.borrow(), [(hup, 3), (usr1, 2), (usr1, 4), (usr2, 1)]);
        },
    ));
}

#[test]
fn every_loop_that_asked_is_told_once() {
    assert_ends_well(alone(every_loop_that_asked_is_told_once, || {
        let (ready, started) = mpsc::channel();
        let other = thread::spawn(move || {
            let mut event_loop = EventLoop::new().unwrap();
            let waiting = event_loop.handle().wait_signal(&[Signal::SIGUSR1]);
            ready.send(()).unwrap();
            event_loop.run_until_within(waiting, BOUND).unwrap()
        });
        started.recv().unwrap();
        let mut loops = [(); 2].map(|()| (EventLoop::new().unwrap(), Told::default()));
        for (event_loop, told) in &loops {
            note(event_loop.handle(), Signal::SIGUSR1, told);
        }
        raise(Signal::SIGUSR1);
        for (event_loop, told) in &mut loops {
            settle(event_loop);
            assert_eq!(*told.borrow(), [Signal::SIGUSR1]);
        }
        assert_eq!(other.join().unwrap(), Signal::SIGUSR1);
    }));
}

#[test]
fn a_handler_of_the_system_that_was_there_before_is_called_too_and_stays() {
    assert_ends_well(alone(
        a_handler_of_the_system_that_was_there_before_is_called_too_and_stays,
        || {
            let flag = Arc::new(AtomicBool::new(false));
            flag::register(Signal::SIGTERM.raw(), flag.clone()).unwrap();
            let mut event_loop = EventLoop::new().unwrap();
            let told = Told::default();
            let handler = note(event_loop.handle(), Signal::SIGTERM, &told);
            raise(Signal::SIGTERM);
            tick(&mut event_loop);
            assert_eq!(*told.borrow(), [Signal::SIGTERM]);
            assert!(flag.swap(false, SeqCst));
            assert!(handler.remove());
            raise(Signal::SIGTERM);
            assert!(flag.load(SeqCst), "it is all that the signal does now");
        },
    ));
}

#[test]
fn a_signal_handler_disturbs_no_child_of_the_loop() {
    assert_ends_well(alone(
        a_signal_handler_disturbs_no_child_of_the_loop,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            let told = Told::default();
            note(&handle, Signal::SIGCHLD, &told);
            let child = handle.watch_child(Command::new("true").spawn().unwrap());
            let exited = child.unwrap().wait();
            assert!(
                event_loop
                    .run_until_within(exited, BOUND)
                    .unwrap()
                    .success()
            );
            drive(&mut event_loop, "SIGCHLD", || !told.borrow().is_empty());
        },
    ));
}

#[test]
fn a_handler_that_panics_is_reported_and_stays() {
    assert_ends_well(alone(a_handler_that_panics_is_reported_and_stays, || {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let failures = failures(&handle);
        let calls = Rc::new(Cell::new(0));
        let counted = calls.clone();
        let added = handle.add_signal_handler(Signal::SIGUSR1, move |_, _| {
            counted.set(counted.get() + 1);
            panic!("of the handler");
        });
        added.unwrap();
        for count in 1..=2 {
            raise(Signal::SIGUSR1);
            tick(&mut event_loop);
            assert_eq!(calls.get(), count);
            let failures = failures.borrow();
            assert_eq!(failures.len(), count);
            let last = failures.last().unwrap();
            assert_eq!(last.context(), "a signal handler");
            let message =
                matches!(last.reason(), CloseReason::Panic(text) if &**text == "of the handler");
            assert!(message, "{last}");
        }
    }));
}

#[test]
fn a_handler_may_remove_itself_and_one_that_it_adds_waits_for_the_next_signal() {
    assert_ends_well(alone(
        a_handler_may_remove_itself_and_one_that_it_adds_waits_for_the_next_signal,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            let (first, second) = (Told::default(), Told::default());
            let own: Rc<RefCell<Option<SignalHandle>>> = Rc::default();
            let (noted, added, itself) = (first.clone(), second.clone(), own.clone());
            let call = move |handle: &_, signal| {
                noted.borrow_mut().push(signal);
                assert!(itself.take().unwrap().remove());
                note(handle, signal, &added);
            };
            let handler = handle.add_signal_handler(Signal::SIGUSR1, call).unwrap();
            own.replace(Some(handler.clone()));
            raise(Signal::SIGUSR1);
            tick(&mut event_loop);
            assert_eq!((first.borrow().len(), second.borrow().len()), (1, 0));
            assert_eq!(Rc::strong_count(&first), 1, "the closure was dropped");
            raise(Signal::SIGUSR1);
            tick(&mut event_loop);
            assert_eq!((first.borrow().len(), second.borrow().len()), (1, 1));
            assert!(!handler.remove());
        },
    ));
}

#[test]
fn a_handler_that_another_one_adds_is_not_told_of_a_signal_that_has_come_before() {
    assert_ends_well(alone(
        a_handler_that_another_one_adds_is_not_told_of_a_signal_that_has_come_before,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let (known, added) = (Told::default(), Told::default());
            note(event_loop.handle(), Signal::SIGUSR2, &known);
            let told = added.clone();
            let call = move |handle: &_, _| drop(note(handle, Signal::SIGUSR2, &told));
            let adding = event_loop
                .handle()
                .add_signal_handler(Signal::SIGUSR1, call);
            adding.unwrap();
            // The first is told first, by its number.
            for signal in [Signal::SIGUSR2, Signal::SIGUSR1] {
                raise(signal);
            }
            tick(&mut event_loop);
            assert_eq!((known.borrow().len(), added.borrow().len()), (1, 0));
            raise(Signal::SIGUSR2);
            tick(&mut event_loop);
            assert_eq!((known.borrow().len(), added.borrow().len()), (2, 1));
        },
    ));
}

#[test]
fn a_handler_that_was_removed_is_not_called_for_a_signal_that_has_come_before() {
    assert_ends_well(alone(
        a_handler_that_was_removed_is_not_called_for_a_signal_that_has_come_before,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let (told, other) = (Told::default(), Told::default());
            let handler = note(event_loop.handle(), Signal::SIGUSR1, &told);
            note(event_loop.handle(), Signal::SIGUSR1, &other);
            raise(Signal::SIGUSR1);
            assert!(handler.remove());
            assert!(!handler.remove());
            assert!(!handler.clone().remove());
            tick(&mut event_loop);
            assert!(told.borrow().is_empty());
            assert_eq!(other.borrow().len(), 1);
            assert_eq!(Rc::strong_count(&told), 1, "the closure was dropped");
        },
    ));
}

#[test]
fn a_thousand_handlers_and_waits_that_came_and_went_leave_nothing() {
    assert_ends_well(alone(
        a_thousand_handlers_and_waits_that_came_and_went_leave_nothing,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle().clone();
            let (before, stats) = (descriptors(), handle.stats());
            let told = Told::default();
            for _ in 0..1000 {
                let handler = note(&handle, Signal::SIGUSR1, &told);
                let waiting = handle.wait_signal(&[Signal::SIGUSR1, Signal::SIGUSR2]);
                assert!(descriptors() > before, "a socket wakes the loop");
                raise(Signal::SIGUSR2);
                assert_eq!(event_loop.run_until(waiting).unwrap(), Signal::SIGUSR2);
                assert!(handler.remove());
                drop(handle.wait_signal(&[Signal::SIGHUP]));
            }
            assert_eq!(descriptors(), before);
            assert!(told.borrow().is_empty());
            settle(&mut event_loop);
            let now = handle.stats();
            assert_eq!(
                (now.signals, now.completions),
                (stats.signals, stats.completions)
            );
        },
    ));
}

#[test]
fn the_end_of_the_loop_drops_handlers_and_refuses_new_ones() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let told = Told::default();
    // No other test of this process takes it.
    let handler = note(&handle, Signal::SIGURG, &told);
    drop(event_loop);
    assert_eq!(Rc::strong_count(&told), 1);
    assert!(!handler.remove());
    let refused = told.clone();
    let added = handle.add_signal_handler(Signal::SIGURG, move |_, _| drop(refused.take()));
    let error = added.unwrap_err();
    assert!(
        error
            .get_ref()
            .is_some_and(|error| error.is::<LoopClosed>()),
        "{error:?}"
    );
    assert_eq!(Rc::strong_count(&told), 1);
    assert_eq!(handle.stats().signals, 0);
}

#[test]
fn signals_that_no_handler_may_have_are_refused_with_the_reason() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let uncatchable = [Signal::SIGKILL, Signal::SIGSTOP];
    let faults = [
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
    ];
    let unknown = [-1, 0, 1000, i32::MIN, i32::MAX].map(Signal::from_raw);
    for (signals, reason) in [
        (&uncatchable[..], "lets no program catch it"),
        (&faults[..], "a fault of the code that runs"),
        (&unknown[..], "no such signal"),
    ] {
        for &signal in signals {
            let refused = handle.add_signal_handler(signal, |_, _| unreachable!());
            // Beside one that could be taken.
            let waiting = handle.wait_signal(&[Signal::SIGURG, signal]);
            let waited = event_loop.run_until(waiting);
            for error in [refused.unwrap_err(), waited.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let text = error.to_string();
                assert!(
                    text.contains(reason) && text.contains(&signal.to_string()),
                    "{text}"
                );
            }
        }
    }
    assert_eq!(handle.stats().signals, 0);
}
