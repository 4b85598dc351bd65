//! The default action of a signal, which is back when nobody wants the signal any more.

use super::{Told, assert_ends_well, note, raise};
use rustix::process::{
    Pid, Resource, Rlimit, Signal as System, getrlimit, kill_process, setrlimit,
};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};
use support::child::{Child, Commands, part, say};
use support::{BOUND, WITH_DEFAULT_SIGNALS, alone, alone_under, tick};
use tidegate::{EventLoop, Signal};

/// Raises SIGTERM, which ends the process if it has its default action.
fn raise_last() -> ! {
    raise(Signal::SIGTERM);
    panic!("SIGTERM did not end the process");
}

#[track_caller]
fn assert_was_ended_by(signal: Signal, status: ExitStatus) {
    assert_eq!(status.signal(), Some(signal.raw()), "{status}");
}

#[test]
fn the_default_action_is_back_when_the_handler_was_removed() {
    let status = alone(
        the_default_action_is_back_when_the_handler_was_removed,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let told = Told::default();
            // Twice: taken anew, the signal does not end the process.
            for count in 1..=2 {
                let handler = note(event_loop.handle(), Signal::SIGTERM, &told);
                raise(Signal::SIGTERM);
                tick(&mut event_loop);
                assert_eq!(told.borrow().len(), count);
                assert!(handler.remove());
            }
            raise_last();
        },
    );
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn the_default_action_is_back_when_a_wait_has_completed() {
    let status = alone(the_default_action_is_back_when_a_wait_has_completed, || {
        let mut event_loop = EventLoop::new().unwrap();
        let both = [Signal::SIGINT, Signal::SIGTERM];
        let waiting = event_loop.handle().wait_signal(&both);
        raise(Signal::SIGINT);
        assert_eq!(event_loop.run_until(waiting).unwrap(), Signal::SIGINT);
        // The other one too.
        raise_last();
    });
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn the_default_action_is_back_when_a_wait_was_dropped() {
    let status = alone(the_default_action_is_back_when_a_wait_was_dropped, || {
        let event_loop = EventLoop::new().unwrap();
        drop(event_loop.handle().wait_signal(&[Signal::SIGTERM]));
        raise_last();
    });
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn the_default_action_is_back_when_the_time_of_a_wait_is_over() {
    let status = alone(
        the_default_action_is_back_when_the_time_of_a_wait_is_over,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let waiting = event_loop.handle().wait_signal(&[Signal::SIGTERM]);
            let limit = Duration::from_millis(1);
            event_loop.run_until_within(waiting, limit).unwrap_err();
            raise_last();
        },
    );
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn the_default_action_is_back_when_the_loop_was_dropped() {
    let status = alone(the_default_action_is_back_when_the_loop_was_dropped, || {
        let event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        note(&handle, Signal::SIGTERM, &Told::default());
        let waiting = handle.wait_signal(&[Signal::SIGTERM]);
        drop(event_loop);
        assert!(waiting.is_ready());
        // Handles of a loop outlive it.
        assert_eq!(handle.stats().signals, 0);
        raise_last();
    });
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn a_wait_that_could_not_take_all_its_signals_gives_back_the_others() {
    let status = alone(
        a_wait_that_could_not_take_all_its_signals_gives_back_the_others,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let signals = [Signal::SIGTERM, Signal::from_raw(1000)];
            let waiting = event_loop.handle().wait_signal(&signals);
            event_loop.run_until(waiting).unwrap_err();
            raise_last();
        },
    );
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn the_default_action_stays_away_while_another_handler_wait_or_loop_wants_the_signal() {
    let status = alone(
        the_default_action_stays_away_while_another_handler_wait_or_loop_wants_the_signal,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let told = Told::default();
            let first = note(event_loop.handle(), Signal::SIGTERM, &told);
            let second = note(event_loop.handle(), Signal::SIGTERM, &told);
            let waiting = event_loop.handle().wait_signal(&[Signal::SIGTERM]);
            let mut other = EventLoop::new().unwrap();
            note(other.handle(), Signal::SIGTERM, &told);
            let comes_to = |event_loop: &mut EventLoop| {
                raise(Signal::SIGTERM);
                tick(event_loop);
                std::mem::take(&mut *told.borrow_mut()).len()
            };
            assert!(first.remove());
            assert_eq!(comes_to(&mut event_loop), 1);
            assert!(waiting.is_ready());
            let waiting = event_loop.handle().wait_signal(&[Signal::SIGTERM]);
            assert!(second.remove());
            assert_eq!(comes_to(&mut event_loop), 0);
            assert!(waiting.is_ready());
            assert_eq!(comes_to(&mut other), 1);
            drop(event_loop);
            assert_eq!(comes_to(&mut other), 1);
            drop(other);
            raise_last();
        },
    );
    assert_was_ended_by(Signal::SIGTERM, status);
}

#[test]
fn a_signal_that_nohup_ignores_stays_ignored() {
    let status = alone_under(
        &["nohup"],
        a_signal_that_nohup_ignores_stays_ignored,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let told = Told::default();
            let handler = note(event_loop.handle(), Signal::SIGHUP, &told);
            raise(Signal::SIGHUP);
            tick(&mut event_loop);
            assert_eq!(*told.borrow(), [Signal::SIGHUP], "while it is wanted");
            assert!(handler.remove());
            raise(Signal::SIGHUP);
        },
    );
    assert_ends_well(status);
}

#[test]
fn a_signal_that_could_not_be_taken_for_want_of_descriptors_stays_ignored() {
    let status = alone_under(
        &["nohup"],
        a_signal_that_could_not_be_taken_for_want_of_descriptors_stays_ignored,
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let usual = getrlimit(Resource::Nofile);
            let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
            let (mut refused, told) = (0, Told::default());
            // Each step of taking it fails once.
            for room in 0..8 {
                let limit = Rlimit {
                    current: Some(next + room),
                    maximum: usual.maximum,
                };
                setrlimit(Resource::Nofile, limit).unwrap();
                let handle = event_loop.handle();
                let added = handle.add_signal_handler(Signal::SIGHUP, |_, _| {});
                setrlimit(Resource::Nofile, usual).unwrap();
                match added {
                    Ok(handler) => assert!(handler.remove()),
                    Err(_) => refused += 1,
                }
                tick(&mut event_loop);
            }
            assert!((1..8).contains(&refused), "{refused} were refused");
            assert!(note(event_loop.handle(), Signal::SIGHUP, &told).remove());
            raise(Signal::SIGHUP);
        },
    );
    assert_ends_well(status);
}

#[test]
fn sigpipe_which_rust_ignores_stays_ignored() {
    assert_ends_well(alone(sigpipe_which_rust_ignores_stays_ignored, || {
        let mut event_loop = EventLoop::new().unwrap();
        let told = Told::default();
        let handler = note(event_loop.handle(), Signal::SIGPIPE, &told);
        raise(Signal::SIGPIPE);
        tick(&mut event_loop);
        assert_eq!(*told.borrow(), [Signal::SIGPIPE]);
        assert!(handler.remove());
        raise(Signal::SIGPIPE);
    }));
}

/// Takes a signal, gives it back, and raises it, which ends the process.
fn raise_when_given_back(signal: Signal) {
    let mut event_loop = EventLoop::new().unwrap();
    let told = Told::default();
    let handler = note(event_loop.handle(), signal, &told);
    raise(signal);
    tick(&mut event_loop);
    assert_eq!(*told.borrow(), [signal]);
    assert!(handler.remove());
    raise(signal);
    panic!("it did not end the process");
}

#[test]
fn a_signal_without_a_name_ends_the_process_with_128_and_its_number() {
    let status = alone(
        a_signal_without_a_name_ends_the_process_with_128_and_its_number,
        // A real-time signal.
        || raise_when_given_back(Signal::from_raw(40)),
    );
    assert_eq!(status.code(), Some(168), "{status}");
}

#[test]
fn sigio_ends_the_process_with_128_and_its_number() {
    let status = alone(sigio_ends_the_process_with_128_and_its_number, || {
        raise_when_given_back(Signal::SIGIO);
    });
    assert_eq!(status.code(), Some(128 + Signal::SIGIO.raw()), "{status}");
}

/// Returns the state of a process, as the kernel tells it: `T` stopped.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

#[track_caller]
fn send(child: &Child, signal: System) {
    let pid = Pid::from_raw(child.pid() as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Takes SIGTSTP, and gives it back.
fn take_and_give_back() {
    let mut event_loop = EventLoop::new().unwrap();
    let commands = Commands::of(&event_loop);
    let handler = note(event_loop.handle(), Signal::SIGTSTP, &Told::default());
    assert!(handler.remove());
    say("ready");
    loop {
        say(commands.next(&mut event_loop));
    }
}

#[test]
fn a_signal_that_stops_the_process_stops_it_again() {
    if part().is_some() {
        return take_and_give_back();
    }
    let mut child = Child::start_under(
        WITH_DEFAULT_SIGNALS,
        "default_action::a_signal_that_stops_the_process_stops_it_again",
        "stop",
    );
    assert_eq!(child.line(), "ready");
    send(&child, System::TSTP);
    let begun = Instant::now();
    while state(child.pid()) != 'T' {
        assert!(begun.elapsed() < BOUND, "in state {}", state(child.pid()));
        thread::yield_now();
    }
    send(&child, System::CONT);
    assert_eq!(child.ask("goes on"), "goes on");
}

/// A shutdown that takes too long.
fn end_slowly() {
    let mut event_loop = EventLoop::new().unwrap();
    let _commands = Commands::of(&event_loop);
    let both = [Signal::SIGINT, Signal::SIGTERM];
    let waiting = event_loop.handle().wait_signal(&both);
    say("ready");
    say(event_loop.run_until(waiting).unwrap());
    event_loop.run_forever().unwrap();
}

#[test]
fn the_second_ctrl_c_ends_a_program_whose_shutdown_takes_too_long() {
    if part().is_some() {
        return end_slowly();
    }
    let name = "default_action::the_second_ctrl_c_ends_a_program_whose_shutdown_takes_too_long";
    for (first, said) in [(System::INT, "SIGINT"), (System::TERM, "SIGTERM")] {
        let mut child = Child::start_under(WITH_DEFAULT_SIGNALS, name, "slow");
        assert_eq!(child.line(), "ready");
        send(&child, first);
        assert_eq!(child.line(), said);
        send(&child, System::INT);
        assert_was_ended_by(Signal::SIGINT, child.ended());
    }
}
