//! Signals that interrupt the loop. Stopping and continuing a process interrupts epoll_wait(2)
//! even without a handler (signal(7)); it stops the whole process, so this test is alone in its
//! own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tests::{Kind, Log, Recorder, adopted};
use tidegate::EventLoop;

/// Stops and continues this process a number of times.
fn interrupter(times: u32) -> Child {
    let pid = std::process::id();
    let script = format!(
        "for i in $(seq {times}); do \
           kill -STOP {pid}; kill -CONT {pid}; \
           read line < /proc/{pid}/stat; \
         done"
    );
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn an_interrupted_poll_is_neither_an_error_nor_the_end_of_a_sleep() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (_, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
        let delay = Duration::from_millis(30);
        let before = event_loop.handle().snapshot();
        let mut child = interrupter(100);
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
        // An undisturbed sleep is one poll, or two when it came back a little early.
        let polls = event_loop.handle().snapshot().polls - before.polls;
        assert!(polls > 2 * sleeps, "{polls} polls: nothing interrupted it");
        peer.send(b"still here");
        peer.expect(&mut event_loop, 10);
    }
}
