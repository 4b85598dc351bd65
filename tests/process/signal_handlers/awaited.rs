//! Signals in async code.

use super::{assert_ends_well, raise};
use std::cell::RefCell;
use std::io;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;
use support::{BOUND, alone, drive, finish, tick};
use tidegate::{EventLoop, LoopClosed, Signal};
use tidegate_streams::{
    NoEventLoop, Signals, block_on, ctrl_c, signal, spawn, spawn_on, timeout, wait_signal,
    yield_now,
};

#[test]
fn recv_returns_once_for_the_signals_since_the_last_call() {
    assert_ends_well(alone(
        recv_returns_once_for_the_signals_since_the_last_call,
        || {
            let ended = block_on(async {
                let mut hangups = signal(Signal::SIGHUP)?;
                // Before the first call too.
                for _ in 0..3 {
                    raise(Signal::SIGHUP);
                }
                hangups.recv().await?;
                let second = timeout(Duration::from_millis(1), hangups.recv()).await;
                assert!(second.is_err(), "they were one");
                let later = spawn(async { raise(Signal::SIGHUP) });
                hangups.recv().await?;
                later.await?;
                io::Result::Ok(())
            });
            ended.unwrap().unwrap();
        },
    ));
}

#[test]
fn a_recv_that_is_dropped_loses_no_signal() {
    assert_ends_well(alone(a_recv_that_is_dropped_loses_no_signal, || {
        let mut event_loop = EventLoop::new().unwrap();
        finish(&mut event_loop, "the signal", async {
            let mut hangups = signal(Signal::SIGHUP).unwrap();
            let waited = timeout(Duration::from_millis(1), hangups.recv()).await;
            assert!(waited.is_err());
            raise(Signal::SIGHUP);
            // It is told while nobody waits.
            for _ in 0..3 {
                yield_now().await;
            }
            hangups.recv().await.unwrap();
        });
    }));
}

#[track_caller]
fn assert_was_ended_by_sigint(status: ExitStatus) {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(Signal::SIGINT.raw()), "{status}");
}

#[test]
fn a_second_ctrl_c_ends_the_program() {
    assert_was_ended_by_sigint(alone(a_second_ctrl_c_ends_the_program, || {
        let ended = block_on(async {
            // Taken before it is awaited.
            let pressed = ctrl_c();
            raise(Signal::SIGINT);
            pressed.await.unwrap();
            raise(Signal::SIGINT);
        });
        panic!("it goes on: {ended:?}");
    }));
}

#[test]
fn a_signal_is_given_back_with_its_last_listener() {
    assert_was_ended_by_sigint(alone(a_signal_is_given_back_with_its_last_listener, || {
        let ended = block_on(async {
            let mut all = [(); 2].map(|()| signal(Signal::SIGINT).unwrap());
            raise(Signal::SIGINT);
            for listener in &mut all {
                listener.recv().await.unwrap();
            }
            let [first, mut second] = all;
            drop((first, wait_signal(&[Signal::SIGINT])));
            raise(Signal::SIGINT);
            second.recv().await.unwrap();
            drop(second);
            raise(Signal::SIGINT);
        });
        panic!("it goes on: {ended:?}");
    }));
}

#[test]
fn wait_signal_returns_the_first_of_several() {
    assert_ends_well(alone(wait_signal_returns_the_first_of_several, || {
        let first = block_on(async {
            let waiting = wait_signal(&[Signal::SIGTERM, Signal::SIGINT]);
            raise(Signal::SIGTERM);
            waiting.await
        });
        assert_eq!(first.unwrap().unwrap(), Signal::SIGTERM);
    }));
}

#[test]
fn recv_fails_when_the_loop_has_ended() {
    let mut event_loop = EventLoop::new().unwrap();
    let kept: Rc<RefCell<Option<Signals>>> = Rc::default();
    let slot = kept.clone();
    let task = spawn_on(event_loop.handle(), async move {
        // No other test of this process takes it.
        slot.replace(Some(signal(Signal::SIGURG).unwrap()));
    });
    drive(&mut event_loop, "the signal", || task.is_finished());
    tick(&mut event_loop);
    drop(event_loop);
    let mut left = kept.take().unwrap();
    let mut other = EventLoop::new().unwrap();
    let received = finish(&mut other, "the error", async move { left.recv().await });
    let error = received.unwrap_err();
    let is_closed = error
        .get_ref()
        .is_some_and(|error| error.is::<LoopClosed>());
    assert!(is_closed, "{error:?}");
}

#[test]
fn without_a_loop_a_signal_is_an_error_that_says_so() {
    let mut event_loop = EventLoop::new().unwrap();
    // Both find the loop of the thread when they are called.
    let (pressed, listener) = (ctrl_c(), signal(Signal::SIGURG));
    let pressed = finish(&mut event_loop, "the error", pressed);
    for error in [pressed.unwrap_err(), listener.unwrap_err()] {
        let is_no_loop = error
            .get_ref()
            .is_some_and(|error| error.is::<NoEventLoop>());
        assert!(is_no_loop, "{error:?}");
    }
    let refused = finish(&mut event_loop, "the error", async {
        let waiting = wait_signal(&[Signal::SIGKILL]);
        timeout(BOUND, waiting).await
    });
    assert!(refused.unwrap().is_err());
}
