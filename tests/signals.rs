//! Signals that interrupt the loop. Stopping and continuing a process interrupts epoll_wait(2)
//! even without a handler (signal(7)); it stops the whole process, so this test is alone in its
//! own.

use std::cell::Cell;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tests::{Kind, Log, Recorder, adopted, drive};
use tidegate::EventLoop;

/// Stops and continues this process a number of times, once the process waits for something.
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
        let delay = Duration::from_millis(300);
        let fired: Rc<Cell<Option<Duration>>> = Rc::default();
        let begun = Instant::now();
        let end = fired.clone();
        let before = event_loop.handle().snapshot();
        event_loop.handle().call_later(delay, move |handle| {
            end.set(Some(begun.elapsed()));
            handle.stop();
        });
        let mut child = interrupter(100);
        event_loop.run_forever().unwrap();
        assert!(fired.get().unwrap() >= delay, "never early");
        let after = event_loop.handle().snapshot();
        assert!(after.polls - before.polls > 3, "nothing interrupted it");
        peer.send(b"still here");
        peer.expect(&mut event_loop, 10);
        drive(&mut event_loop, "the child", || {
            child.try_wait().unwrap().is_some()
        });
    }
}
