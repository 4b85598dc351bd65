//! Completions: as futures, with callbacks, with a limit, left alone.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use support::wakers::{Wakes, leave, waker_fn};
use support::{BOUND, Kind, Log, MIB, Recorder, Scene, adopted, drive, each_kind, settle, tick};
use tidegate::{Closed, Completion, EventLoop, Handle, LoopClosed, Protocol};

const MS: Duration = Duration::from_millis(1);

fn poll<T>(completion: &mut Completion<T>, wakes: &Wakes) -> Poll<io::Result<T>> {
    wakes.poll(Pin::new(completion))
}

#[test]
fn a_future_is_woken_once_and_then_has_the_answer() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    let wakes = Wakes::new();
    assert!(poll(&mut completion, &wakes).is_pending());
    assert!(poll(&mut completion, &wakes).is_pending());
    assert_eq!(wakes.count(), 0);
    completer.complete(Ok("answer"));
    assert_eq!(wakes.count(), 1);
    assert!(matches!(
        poll(&mut completion, &wakes),
        Poll::Ready(Ok("answer"))
    ));
    assert!(matches!(poll(&mut completion, &wakes), Poll::Ready(Err(_))));
    assert_eq!(wakes.count(), 1);
}

#[test]
fn the_waker_of_the_last_poll_is_the_one_that_is_woken() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion::<()>();
    let (first, second) = (Wakes::new(), Wakes::new());
    assert!(poll(&mut completion, &first).is_pending());
    assert!(poll(&mut completion, &second).is_pending());
    assert_eq!(first.kept(), 0, "the first waker was kept");
    drop(completer);
    assert_eq!((first.count(), second.count()), (0, 1));
}

#[test]
fn an_answer_that_is_known_already_is_ready_at_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    let wakes = Wakes::new();
    assert!(matches!(
        poll(&mut transport.drain(), &wakes),
        Poll::Ready(Ok(()))
    ));
    assert!(matches!(
        poll(&mut transport.flush(), &wakes),
        Poll::Ready(Ok(()))
    ));
    assert_eq!(event_loop.handle().stats().completions, 0);
}

#[test]
fn then_never_runs_inside_a_call() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    let order = Log::new();
    let noted = |text: &'static str| {
        let order = order.clone();
        move |_: &Handle, answer: io::Result<()>| {
            assert!(answer.is_ok());
            order.note(text);
        }
    };
    transport.drain().then(noted("known"));
    let (completer, completion) = handle.completion();
    completer.complete(Ok(()));
    completion.then(noted("answered"));
    let (completer, completion) = handle.completion();
    completion.then(noted("waiting"));
    completer.complete(Ok(()));
    assert_eq!(order.words(), [""; 0], "called inside of then or complete");
    tick(&mut event_loop);
    assert_eq!(order.words(), ["known", "answered", "waiting"]);
}

each_kind!(then_on_is_a_callback_of_the_protocol);
fn then_on_is_a_callback_of_the_protocol(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, mut peer) = adopted(&handle, kind, Recorder::new(&log));
    settle(&mut event_loop);
    let (completer, completion) = handle.completion();
    let seen = log.clone();
    completion.then_on(&transport, move |_: &mut Recorder, transport, answer| {
        seen.note(answer?);
        assert!(
            transport.with_protocol(|_: &mut Recorder, _| ()).is_err(),
            "the protocol is free"
        );
        transport.write(b"gathered ")?;
        transport.write(b"bytes")?;
        Err("on purpose".into())
    });
    completer.complete(Ok("then_on"));
    assert_eq!(log.words(), ["made"]);
    let writes = handle.stats().writes;
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"gathered bytes");
    assert_eq!(handle.stats().writes, writes + 1);
    assert_eq!(log.words(), ["made", "then_on", "lost"]);
    assert_eq!(log.reason(), "callback");
}

#[test]
fn then_on_is_dropped_when_the_connection_or_its_type_has_gone() {
    struct Other;
    impl Protocol for Other {}
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    let alive = Rc::new(());
    let ask = || {
        let (completer, completion) = handle.completion::<()>();
        let alive = alive.clone();
        completion.then_on(&transport, move |_: &mut Recorder, _, _| {
            panic!("{alive:?} ran without its protocol")
        });
        completer
    };
    let completer = ask();
    transport.set_protocol(Other, b"").unwrap();
    completer.complete(Ok(()));
    settle(&mut event_loop);
    assert_eq!(Rc::strong_count(&alive), 1);
    assert!(transport.closed().is_none());

    let completer = ask();
    transport.abort();
    settle(&mut event_loop);
    assert!(!completer.is_cancelled(), "it still waits for the answer");
    completer.complete(Ok(()));
    settle(&mut event_loop);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn of_several_limits_the_earliest_holds() {
    let far = BOUND;
    for limits in [vec![MS], vec![MS, far], vec![far, MS], vec![far, MS, far]] {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle().clone();
        let (completer, mut completion) = handle.completion::<()>();
        for limit in &limits {
            completion = completion.within(*limit);
        }
        assert_eq!(handle.stats().timers, 1, "{limits:?}");
        let start = std::time::Instant::now();
        let error = event_loop.run_until(completion).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= MS && start.elapsed() < BOUND / 2);
        assert!(completer.is_cancelled());
        assert_eq!(handle.stats().timers, 0);
    }
}

#[test]
fn an_answer_within_the_limit_stops_the_timer() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion();
    let completion = completion.within(BOUND);
    completer.complete(Ok(5));
    assert_eq!(handle.stats().timers, 0);
    assert_eq!(event_loop.run_until(completion).unwrap(), 5);

    let (completer, completion) = handle.completion::<()>();
    drop(completion.within(BOUND));
    assert_eq!(handle.stats().timers, 0, "nobody waits any more");
    drop(completer);

    // A known result is not taken back by a limit that is over.
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&Log::new()));
    let drained = transport.drain().within(Duration::ZERO);
    tick(&mut event_loop);
    event_loop.run_until(drained).unwrap();
}

#[test]
fn a_limit_ends_the_waiting_and_not_what_is_waited_for() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = Scene::of(Kind::Unix)
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    let total = transport.written() as usize;
    for waiting in [transport.drain(), transport.flush()] {
        let error = event_loop.run_until(waiting.within(MS)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
    let closed = transport.wait_closed().within(MS);
    assert!(event_loop.run_until(closed).is_err());
    drop((
        transport.drain(),
        transport.flush(),
        transport.wait_closed(),
    ));
    peer.expect(&mut event_loop, total);
    assert!(transport.closed().is_none());
    assert_eq!(event_loop.handle().stats().completions, 0);
}

#[test]
fn a_detached_error_other_than_a_closed_connection_goes_to_the_error_handler() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failures = Rc::new(RefCell::new(Vec::new()));
    let seen = failures.clone();
    handle.set_error_handler(move |_, failure| seen.borrow_mut().push(failure.to_string()));
    let log = Log::new();
    let (transport, _peer) = Scene::of(Kind::Unix)
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    transport.drain().detach();
    transport.flush().detach();
    transport.wait_closed().detach();
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    transport.flush().detach();
    settle(&mut event_loop);
    assert!(failures.borrow().is_empty(), "{failures:?}");

    let (completer, completion) = handle.completion();
    completion.detach();
    completer.complete(Ok("not an error"));
    let (completer, completion) = handle.completion::<()>();
    completion.detach();
    completer.complete(Err(io::Error::other("nobody waits")));
    settle(&mut event_loop);
    assert_eq!(failures.borrow().len(), 1);
    assert!(failures.borrow()[0].contains("nobody waits"));
}

#[test]
fn a_completer_that_is_dropped_breaks_the_pipe() {
    let mut event_loop = EventLoop::new().unwrap();
    let (completer, completion) = event_loop.handle().completion::<()>();
    let completion = completion.within(BOUND);
    drop(completer);
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn dropping_a_completion_tells_its_completer_and_drops_the_answer() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion::<Rc<()>>();
    assert!(!completer.is_cancelled());
    assert_eq!(handle.stats().completions, 1);
    drop(completion);
    assert!(completer.is_cancelled());
    assert_eq!(handle.stats().completions, 0);
    let answer = Rc::new(());
    completer.complete(Ok(answer.clone()));
    tick(&mut event_loop);
    assert_eq!(Rc::strong_count(&answer), 1);

    // Completed, then dropped without being looked at.
    let (completer, completion) = handle.completion::<Rc<()>>();
    completer.complete(Ok(answer.clone()));
    drop(completion);
    tick(&mut event_loop);
    assert_eq!(Rc::strong_count(&answer), 1);
}

#[test]
fn the_end_of_the_loop_fails_every_completion() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, _peer) = Scene::of(Kind::Unix)
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    let wakes = Wakes::new();
    let (completer, mut own) = handle.completion::<()>();
    let mut limited = handle.completion::<()>().1.within(BOUND);
    let (mut drain, mut flush) = (transport.drain(), transport.flush());
    let mut lost = transport.wait_closed();
    for completion in [&mut own, &mut drain, &mut flush] {
        assert!(poll(completion, &wakes).is_pending());
    }
    assert!(poll(&mut lost, &wakes).is_pending());
    let called = Rc::new(Cell::new(false));
    let uncalled = called.clone();
    let (answer, completion) = handle.completion::<()>();
    completion.then(move |_, _| uncalled.set(true));
    let uncalled = called.clone();
    transport.flush().then(move |_, _| uncalled.set(true));

    drop(event_loop);
    assert_eq!(wakes.count(), 4);
    let Poll::Ready(Err(error)) = poll(&mut own, &wakes) else {
        panic!("no error")
    };
    assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error:?}");
    assert!(completer.is_cancelled() && answer.is_cancelled());
    // The other completer was dropped at once.
    assert!(matches!(poll(&mut limited, &wakes), Poll::Ready(Err(_))));
    for mut completion in [drain, flush] {
        let Poll::Ready(Err(error)) = poll(&mut completion, &wakes) else {
            panic!("no error")
        };
        let unsent = Closed::of(&error).unwrap().unsent();
        assert_eq!(unsent, transport.written() - transport.sent());
    }
    assert!(matches!(poll(&mut lost, &wakes), Poll::Ready(Ok(_))));
    assert!(!called.get());
    assert_eq!(Rc::strong_count(&called), 1, "closures were kept");

    // A later request fails at once.
    let (_completer, mut late) = handle.completion::<()>();
    assert!(matches!(poll(&mut late, &wakes), Poll::Ready(Err(_))));
    assert_eq!(handle.stats().completions, 0);
    assert_eq!(handle.stats().timers, 0);
}

#[test]
fn a_waker_that_panics_disturbs_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    leave(&mut completion, &waker_fn(|| panic!("on purpose")));
    completer.complete(Ok(3));
    assert_eq!(event_loop.run_until(completion).unwrap(), 3);
}

#[test]
fn an_answer_that_was_taken_by_a_poll_is_an_error_to_whoever_asks_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    completer.complete(Ok(7));
    assert_eq!(support::answer(&mut completion).unwrap().unwrap(), 7);
    assert!(support::answer(&mut completion).unwrap().is_err());
    let told = Rc::new(Cell::new(false));
    let tell = told.clone();
    completion.then(move |_, answer| tell.set(answer.is_err()));
    assert!(!told.get(), "never inside the call");
    drive(&mut event_loop, "the error", || told.get());
}
