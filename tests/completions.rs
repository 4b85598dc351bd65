//! Completions: as futures, with callbacks, with a limit, left alone.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tests::{BOUND, Kind, Log, Recorder, adopted, drive, settle};
use tidegate::{
    CloseReason, Closed, Completer, Completion, EventLoop, Handle, LoopClosed, Protocol, Transport,
};

const MS: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll<T>(completion: &mut Completion<T>, wakes: &Arc<Wakes>) -> Poll<io::Result<T>> {
    let waker = Waker::from(wakes.clone());
    Pin::new(completion).poll(&mut Context::from_waker(&waker))
}

fn turn(event_loop: &mut EventLoop) {
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
}

/// An adopted connection that has bytes the kernel did not take, and is paused.
fn stalled(event_loop: &mut EventLoop, log: &Log) -> (Transport, tests::Peer) {
    let (transport, peer) = adopted(event_loop.handle(), Kind::Unix, Recorder::new(log));
    settle(event_loop);
    while !transport.write(&[0; 100_000]).unwrap().is_paused() {}
    settle(event_loop);
    (transport, peer)
}

#[test]
fn a_future_is_woken_once_and_then_has_the_answer() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    let wakes = Arc::new(Wakes::default());
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
    let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    assert!(poll(&mut completion, &first).is_pending());
    assert!(poll(&mut completion, &second).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "the first waker was kept");
    drop(completer);
    assert_eq!((first.count(), second.count()), (0, 1));
}

#[test]
fn an_answer_that_is_known_already_is_ready_at_once() {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    let wakes = Arc::new(Wakes::default());
    assert!(matches!(
        poll(&mut transport.drain(), &wakes),
        Poll::Ready(Ok(()))
    ));
    assert!(matches!(
        poll(&mut transport.flush(), &wakes),
        Poll::Ready(Ok(()))
    ));
    assert_eq!(event_loop.handle().snapshot().completions, 0);
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
    turn(&mut event_loop);
    assert_eq!(order.words(), ["known", "answered", "waiting"]);
}

#[test]
fn then_on_is_a_callback_of_the_protocol() {
    for kind in Kind::ALL {
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
                transport.with_protocol(|_: &mut Recorder, _| ()).is_none(),
                "the protocol is free"
            );
            transport.write(b"gathered ")?;
            transport.write(b"bytes")?;
            Err("on purpose".into())
        });
        completer.complete(Ok("then_on"));
        assert_eq!(log.words(), ["made"]);
        let writes = handle.snapshot().writes;
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"gathered bytes");
        assert_eq!(handle.snapshot().writes, writes + 1);
        assert_eq!(log.words(), ["made", "then_on", "lost"]);
        assert_eq!(log.reason(), "callback");
    }
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
        assert_eq!(handle.snapshot().timers, 1, "{limits:?}");
        let start = std::time::Instant::now();
        let error = event_loop.run_until(completion).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= MS && start.elapsed() < BOUND / 2);
        assert!(completer.is_cancelled());
        assert_eq!(handle.snapshot().timers, 0);
    }
}

#[test]
fn an_answer_within_the_limit_stops_the_timer() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, completion) = handle.completion();
    let completion = completion.within(BOUND);
    completer.complete(Ok(5));
    assert_eq!(handle.snapshot().timers, 0);
    assert_eq!(event_loop.run_until(completion).unwrap(), 5);

    let (completer, completion) = handle.completion::<()>();
    drop(completion.within(BOUND));
    assert_eq!(handle.snapshot().timers, 0, "nobody waits any more");
    drop(completer);

    // A known answer is not taken back by a limit that is over.
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&Log::new()));
    let drained = transport.drain().within(Duration::ZERO);
    turn(&mut event_loop);
    event_loop.run_until(drained).unwrap();
}

#[test]
fn a_limit_ends_the_waiting_and_not_what_is_waited_for() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, &log);
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
    assert_eq!(event_loop.handle().snapshot().completions, 0);
}

#[test]
fn a_detached_error_goes_to_the_error_handler_unless_it_is_the_end_of_a_connection() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let failures = Rc::new(RefCell::new(Vec::new()));
    let seen = failures.clone();
    handle.set_error_handler(move |_, failure| seen.borrow_mut().push(failure.to_string()));
    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, &log);
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
    assert_eq!(handle.snapshot().completions, 1);
    drop(completion);
    assert!(completer.is_cancelled());
    assert_eq!(handle.snapshot().completions, 0);
    let answer = Rc::new(());
    completer.complete(Ok(answer.clone()));
    turn(&mut event_loop);
    assert_eq!(Rc::strong_count(&answer), 1);

    // Answered, then dropped without being looked at.
    let (completer, completion) = handle.completion::<Rc<()>>();
    completer.complete(Ok(answer.clone()));
    drop(completion);
    turn(&mut event_loop);
    assert_eq!(Rc::strong_count(&answer), 1);
}

#[test]
fn the_end_of_the_loop_fails_whoever_waits() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, &log);
    let wakes = Arc::new(Wakes::default());
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

    // What is asked for afterwards fails at once.
    let (_completer, mut late) = handle.completion::<()>();
    assert!(matches!(poll(&mut late, &wakes), Poll::Ready(Err(_))));
    assert_eq!(handle.snapshot().completions, 0);
    assert_eq!(handle.snapshot().timers, 0);
}

#[test]
fn a_waker_that_panics_disturbs_nothing() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    let waker = Waker::from(Arc::new(Bomb));
    assert!(
        Pin::new(&mut completion)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    completer.complete(Ok(3));
    assert_eq!(event_loop.run_until(completion).unwrap(), 3);
}

#[test]
fn an_answer_that_was_taken_by_a_poll_is_an_error_to_whoever_asks_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let (completer, mut completion) = event_loop.handle().completion();
    completer.complete(Ok(7));
    assert_eq!(tests::answer(&mut completion).unwrap().unwrap(), 7);
    assert!(tests::answer(&mut completion).unwrap().is_err());
    let told = Rc::new(Cell::new(false));
    let tell = told.clone();
    completion.then(move |_, answer| tell.set(answer.is_err()));
    assert!(!told.get(), "never inside the call");
    drive(&mut event_loop, "the error", || told.get());
}

/// A completion whose value is doubled, its completer, and how often that was done.
fn doubled(handle: &Handle) -> (Completer<u32>, Completion<u32>, Rc<Cell<u32>>) {
    let calls = Rc::new(Cell::new(0));
    let (completer, completion) = handle.completion();
    let count = calls.clone();
    let doubled = completion.map(move |value: u32| {
        count.set(count.get() + 1);
        2 * value
    });
    (completer, doubled, calls)
}

#[test]
fn a_mapped_value_goes_through_the_closure_when_it_is_taken() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let wakes = Arc::new(Wakes::default());
    let (completer, mut mapped, calls) = doubled(&handle);
    assert!(poll(&mut mapped, &wakes).is_pending());
    completer.complete(Ok(4));
    assert_eq!((wakes.count(), calls.get()), (1, 0), "taken by nobody yet");
    assert!(matches!(poll(&mut mapped, &wakes), Poll::Ready(Ok(8))));
    assert!(matches!(poll(&mut mapped, &wakes), Poll::Ready(Err(_))));
    assert_eq!(calls.get(), 1);

    let (completer, mapped, _) = doubled(&handle);
    completer.complete(Ok(5));
    assert_eq!(event_loop.run_until(mapped).unwrap(), 10);

    let (completer, mapped, calls) = doubled(&handle);
    let told = Rc::new(Cell::new(0));
    let tell = told.clone();
    mapped
        .map(|value| value + 1)
        .then(move |_, answer| tell.set(answer.unwrap()));
    completer.complete(Ok(6));
    assert_eq!((told.get(), calls.get()), (0, 0), "run inside of complete");
    drive(&mut event_loop, "the answer", || told.get() == 13);
}

#[test]
fn an_error_passes_a_mapped_completion_by() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (completer, mapped, calls) = doubled(&handle);
    completer.complete(Err(io::ErrorKind::NotFound.into()));
    let error = event_loop.run_until(mapped).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let (completer, mapped, more_calls) = doubled(&handle);
    let error = event_loop.run_until(mapped.within(MS)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(completer.is_cancelled());
    assert_eq!((calls.get(), more_calls.get()), (0, 0));
}

#[test]
fn dropping_a_mapped_completion_cancels_as_dropping_the_original_does() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mapped, calls) = doubled(event_loop.handle());
    assert!(!completer.is_cancelled());
    drop(mapped);
    assert!(completer.is_cancelled());
    assert_eq!(Rc::strong_count(&calls), 1, "the closure was kept");
    assert_eq!(calls.get(), 0);
}

#[test]
fn a_connection_that_a_mapped_completion_never_took_is_closed() {
    for kind in Kind::ALL {
        for by_then in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = tests::TempDir::new();
            let (_listener, address) = kind.listen(&dir);
            let (log, taken) = (Log::new(), Rc::new(Cell::new(false)));
            let take = taken.clone();
            let connect = event_loop
                .handle()
                .create_connection(&address, Recorder::new(&log));
            let mapped = connect.map(move |_| take.set(true));
            drive(&mut event_loop, "the connection", || mapped.is_ready());
            if by_then {
                let (gone, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
                gone.abort();
                settle(&mut event_loop);
                mapped.then_on(&gone, |_: &mut Recorder, _, _| panic!("too late"));
            } else {
                drop(mapped);
            }
            drive(&mut event_loop, "lost", || log.is_lost());
            assert_eq!(log.reason(), "local-close");
            assert!(!taken.get());
        }
    }
}

#[test]
fn a_panic_of_a_mapping_closure_is_reported_and_what_follows_is_dropped() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = tests::failures(event_loop.handle());
    let (completer, completion) = event_loop.handle().completion::<()>();
    completion
        .map(|()| panic!("cannot be mapped"))
        .then(|_, _: io::Result<()>| unreachable!("there is no value"));
    completer.complete(Ok(()));
    settle(&mut event_loop);
    let reasons = || {
        failures
            .borrow()
            .iter()
            .map(|f| f.reason().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(reasons(), [CloseReason::Panic("cannot be mapped".into())]);
}

#[test]
fn the_end_of_the_loop_drops_the_closure_of_a_mapped_completion_uncalled() {
    let event_loop = EventLoop::new().unwrap();
    let (completer, mapped, calls) = doubled(event_loop.handle());
    mapped.then(|_, _| panic!("after the end"));
    drop(event_loop);
    assert_eq!((Rc::strong_count(&calls), calls.get()), (1, 0));
    drop(completer);
}

#[test]
fn a_completion_is_ready_when_the_next_poll_does_not_wait() {
    let event_loop = EventLoop::new().unwrap();
    let wakes = Arc::new(Wakes::default());
    let (completer, mut completion) = event_loop.handle().completion();
    let (mapped_completer, mut mapped, _) = doubled(event_loop.handle());
    assert!(!completion.is_ready() && !mapped.is_ready());
    assert!(poll(&mut completion, &wakes).is_pending() && poll(&mut mapped, &wakes).is_pending());
    assert!(!completion.is_ready() && !mapped.is_ready());
    completer.complete(Ok(()));
    mapped_completer.complete(Ok(1));
    assert!(completion.is_ready() && mapped.is_ready());
    assert!(poll(&mut completion, &wakes).is_ready() && poll(&mut mapped, &wakes).is_ready());
    assert!(completion.is_ready() && mapped.is_ready(), "taken");
}

#[test]
fn a_ready_completion_has_its_answer_from_the_start() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let ready = Completion::ready(&handle, Ok(3));
    assert!(ready.is_ready());
    assert_eq!(
        event_loop.run_until(ready.within(Duration::ZERO)).unwrap(),
        3
    );
    let failed = Completion::<u32>::ready(&handle, Err(io::ErrorKind::NotFound.into()));
    let error = event_loop
        .run_until(failed.map(|value| value + 1))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let told = Rc::new(Cell::new(0));
    let tell = told.clone();
    Completion::ready(&handle, Ok(4)).then(move |_, answer| tell.set(answer.unwrap()));
    assert_eq!(told.get(), 0, "never inside the call");
    drive(&mut event_loop, "the answer", || told.get() == 4);
}
