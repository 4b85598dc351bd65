//! Starts its own process again, and stops it by signals.
//!
//! Interrupted system calls. Stopping and continuing a process interrupts its epoll_wait with
//! EINTR although no signal handler is there: signal(7).

use rustix::process::{Pid, Signal, getppid, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Kind, Log, Recorder, adopted};
use tidegate::EventLoop;

const INTERRUPTER: &str = "TIDEGATE_INTERRUPTER";

/// This program once more, as the process that interrupts us.
fn interrupter() -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "an_interrupted_poll_is_neither_an_error_nor_the_end_of_a_sleep",
        ])
        .env(INTERRUPTER, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the state of a process, as the kernel tells it: `S` asleep, `T` stopped.
fn state(pid: Pid) -> char {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}

fn wait_for(pid: Pid, wanted: char) {
    let begun = Instant::now();
    while state(pid) != wanted {
        assert!(begun.elapsed() < support::BOUND, "never in state {wanted}");
        std::thread::yield_now();
    }
}

/// Stops and continues the parent while it sleeps. It sleeps in epoll_wait, or waits for us.
fn interrupt_parent() {
    let parent = getppid().unwrap();
    for _ in 0..20 {
        wait_for(parent, 'S');
        kill_process(parent, Signal::STOP).unwrap();
        wait_for(parent, 'T');
        kill_process(parent, Signal::CONT).unwrap();
    }
}

#[test]
fn an_interrupted_poll_is_neither_an_error_nor_the_end_of_a_sleep() {
    if std::env::var_os(INTERRUPTER).is_some() {
        interrupt_parent();
        return;
    }
    for kind in Kind::ALL {
        println!("{kind:?}");
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (_, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
        let delay = Duration::from_millis(30);
        let before = event_loop.handle().stats();
        let mut child = interrupter();
        let mut sleeps = 0;
        while child.try_wait().unwrap().is_none() {
            let begun = Instant::now();
            event_loop
                .handle()
                .call_later(delay, |handle| handle.stop());
            event_loop.run_forever().unwrap();
            assert!(begun.elapsed() >= delay, "never early");
            sleeps += 1;
        }
        assert!(child.wait().unwrap().success());
        // An undisturbed sleep is one poll, or two when it came back a little early.
        let polls = event_loop.handle().stats().polls - before.polls;
        assert!(
            polls > 2 * sleeps,
            "{polls} polls in {sleeps} sleeps: nothing interrupted them"
        );
        peer.send(b"still here");
        peer.expect(&mut event_loop, 10);
    }
}
