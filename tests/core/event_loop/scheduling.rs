//! Repeated callbacks, and the error handler.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Recorder, adopted, settle, tick};
use tidegate::{Callback, CloseReason, EventLoop, Failure, Handle};

/// A counter, and a callback that counts.
fn counting(handle: &Handle) -> (Rc<Cell<u32>>, Callback) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let callback = handle.callback(move |_| counted.set(counted.get() + 1));
    (count, callback)
}

#[test]
fn a_callback_runs_once_a_tick_however_often_it_is_scheduled() {
    let mut event_loop = EventLoop::new().unwrap();
    let (count, callback) = counting(event_loop.handle());
    tick(&mut event_loop);
    assert_eq!(count.get(), 0, "it was not scheduled");
    for n in 1..=3 {
        callback.schedule();
        callback.clone().schedule();
        callback.schedule();
        tick(&mut event_loop);
        assert_eq!(count.get(), n);
    }
    tick(&mut event_loop);
    assert_eq!(count.get(), 3, "once scheduled is once run");
}

#[test]
fn a_callback_that_schedules_itself_runs_in_the_next_tick() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let own: Rc<RefCell<Option<Callback>>> = Rc::default();
    let count = Rc::new(Cell::new(0));
    let (itself, counted) = (own.clone(), count.clone());
    let callback = handle.callback(move |_| {
        counted.set(counted.get() + 1);
        if counted.get() < 5 {
            itself.borrow().as_ref().unwrap().schedule();
        }
    });
    callback.schedule();
    own.replace(Some(callback));
    for n in 1..=5 {
        tick(&mut event_loop);
        assert_eq!(count.get(), n);
    }
    tick(&mut event_loop);
    assert_eq!(count.get(), 5);
}

#[test]
fn dropping_a_scheduled_callback_cancels_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let (count, callback) = counting(event_loop.handle());
    callback.schedule();
    drop(callback);
    tick(&mut event_loop);
    assert_eq!(count.get(), 1);
    assert_eq!(
        Rc::strong_count(&count),
        1,
        "kept though nobody can schedule it"
    );
}

#[test]
fn a_callback_that_panics_runs_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let callback = event_loop.handle().callback(move |_| {
        counted.set(counted.get() + 1);
        assert!(counted.get() > 1, "on purpose");
    });
    for _ in 0..2 {
        callback.schedule();
        tick(&mut event_loop);
    }
    assert_eq!(count.get(), 2);
}

/// Failures, one line each.
fn failures(handle: &Handle) -> Rc<RefCell<Vec<String>>> {
    let failures: Rc<RefCell<Vec<String>>> = Rc::default();
    let seen = failures.clone();
    handle.set_error_handler(move |_, failure| seen.borrow_mut().push(failure.to_string()));
    failures
}

#[test]
fn the_error_handler_hears_of_every_failure_of_user_code_with_its_place() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failures = failures(&handle);
    let dir = support::TempDir::new();
    let path = dir.path("s");
    let _server = handle
        .create_server(format!("unix:{}", path.display()), || -> Recorder {
            panic!("factory")
        })
        .unwrap();
    let _client = std::os::unix::net::UnixStream::connect(path).unwrap();
    settle(&mut event_loop);
    assert_eq!(failures.take(), ["a server's factory panicked: factory"]);

    handle.call_later(Duration::ZERO, |_| panic!("timer"));
    handle.call_soon(|_| panic!("soon"));
    handle.callback(|_| panic!("repeated")).schedule();
    let remote = handle.remote();
    remote.call_soon_threadsafe(|_| panic!("remote")).unwrap();
    let (completer, completion) = handle.completion::<()>();
    completion.detach();
    completer.complete(Err(io::Error::other("detached")));
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("drop");
        }
    }
    let bomb = Bomb;
    handle
        .call_later(Duration::ZERO, move |_| drop(bomb))
        .cancel();
    let (transport, _peer) = adopted(
        &handle,
        Kind::Tcp,
        Recorder::new(&Log::new()).on_made(|_| Err("made".into())),
    );
    settle(&mut event_loop);
    let failures = failures.take();
    let made = format!("connection_made of {}", type_name::<Recorder>());
    let expected = [
        ("call_later", "timer"),
        ("call_soon", "soon"),
        ("a callback", "repeated"),
        ("call_soon_threadsafe", "remote"),
        ("a detached completion", "detached"),
        ("a drop", "drop"),
        (made.as_str(), "made"),
    ];
    assert_eq!(failures.len(), expected.len(), "{failures:?}");
    for (place, what) in expected {
        let found = |line: &&String| line.starts_with(place) && line.ends_with(what);
        assert!(
            failures.iter().find(found).is_some(),
            "{place}: {failures:?}"
        );
    }
    let of_transport = transport.id().to_string();
    assert!(failures.iter().any(|line| line.contains(&of_transport)));
}

#[test]
fn a_failure_tells_its_parts() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let seen: Rc<RefCell<Vec<Failure>>> = Rc::default();
    let kept = seen.clone();
    handle.set_error_handler(move |_, failure| kept.borrow_mut().push(failure.clone()));
    let (transport, mut peer) = adopted(
        &handle,
        Kind::Unix,
        Recorder::new(&Log::new()).on_data(|_, _| panic!("on purpose")),
    );
    peer.send(b"x");
    settle(&mut event_loop);
    let seen = seen.borrow();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].context(), "data_received");
    assert_eq!(seen[0].transport(), Some(transport.id()));
    assert_eq!(seen[0].protocol(), Some(type_name::<Recorder>()));
    assert!(matches!(seen[0].reason(), CloseReason::Panic(text) if &**text == "on purpose"));
}

#[test]
fn a_new_error_handler_takes_the_place_of_the_old_one_also_from_within_it() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let alive = Rc::new(());
    let (first, kept) = (log.clone(), alive.clone());
    handle.set_error_handler(move |handle, _| {
        let _ = &kept;
        first.note("first");
        let second = first.clone();
        handle.set_error_handler(move |_, _| second.note("second"));
        assert_eq!(Rc::strong_count(&kept), 2, "dropped while it runs");
    });
    for _ in 0..2 {
        handle.call_soon(|_| panic!("on purpose"));
        tick(&mut event_loop);
    }
    assert_eq!(log.words(), ["first", "second"]);
    assert_eq!(Rc::strong_count(&alive), 1, "the replaced one was kept");
}

#[test]
fn an_error_handler_that_panics_is_called_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let seen = log.clone();
    handle.set_error_handler(move |_, _| {
        seen.note("told");
        panic!("in the handler");
    });
    for _ in 0..2 {
        handle.call_soon(|_| panic!("on purpose"));
        tick(&mut event_loop);
    }
    assert_eq!(log.words(), ["told", "told"]);
}

#[test]
fn a_callback_whose_last_handle_is_gone_may_panic_when_it_is_dropped() {
    struct Held;
    impl Drop for Held {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let held = Held;
    let callback = event_loop.handle().callback(move |_| {
        let _ = &held;
    });
    callback.schedule();
    drop(callback);
    tick(&mut event_loop);
    assert_eq!(*failures.borrow(), ["a drop panicked: dropped"]);
}
