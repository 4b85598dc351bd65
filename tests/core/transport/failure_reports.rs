//! Failures of user code that belong to no callback of a protocol, and the reports of failures.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::logs::{Line, keep_log, logged};
use support::{Kind, Log, Recorder, Seen, adopted, drive, each_kind, failures, settle};
use tidegate::{CloseReason, EventLoop, Failure, PanicPolicy};

#[test]
fn panics_of_closures_factories_and_timers_are_reported_and_stop_nothing() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    handle.call_soon(|_| panic!("in call_soon"));
    handle.call_later(Duration::ZERO, |_| panic!("in call_later"));
    handle.callback(|_| panic!("in a callback")).schedule();
    let panics = |_: &tidegate::Handle| panic!("from another thread");
    handle.remote().call_soon_threadsafe(panics).unwrap();
    let (completer, completion) = handle.completion::<()>();
    completion.then(|_, _| panic!("in then"));
    completer.complete(Ok(()));
    let factory = || -> Recorder { panic!("in the factory") };
    let server = handle.create_server("127.0.0.1:0", factory).unwrap();
    let mut peer = support::Peer::connect(&server.local_addrs()[0]);
    let mut second = support::Peer::connect(&server.local_addrs()[0]);
    peer.expect_end(&mut event_loop);
    second.expect_end(&mut event_loop);
    settle(&mut event_loop);
    let mut said: Vec<_> = failures
        .borrow()
        .iter()
        .map(|failure| match failure.reason() {
            CloseReason::Panic(message) => message.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    said.sort();
    let expected = [
        "from another thread",
        "in a callback",
        "in call_later",
        "in call_soon",
        "in the factory",
        "in the factory",
        "in then",
    ];
    assert_eq!(said, expected);
    assert!(server.is_serving());
}

struct PanicsInDrop(Rc<Cell<u32>>);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        panic!("panicking in drop on purpose");
    }
}

each_kind!(a_panic_while_a_value_of_the_user_is_dropped_is_reported_and_stops_nothing);
fn a_panic_while_a_value_of_the_user_is_dropped_is_reported_and_stops_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    let drops = Rc::new(Cell::new(0));
    let bomb = || PanicsInDrop(drops.clone());
    let (log, bystander) = (Log::new(), Log::new());
    let held = bomb();
    let protocol = Recorder::new(&log).on_resume(move |_| {
        let _held = &held;
        Ok(())
    });
    let (transport, _peer) = adopted(&handle, kind, protocol);
    let (_, mut other) = adopted(&handle, kind, Recorder::echo(&bystander));
    settle(&mut event_loop);
    // Cancelled, for a connection that has ended, for another type, and the protocol's own.
    let held = bomb();
    handle.call_soon(move |_| drop(held)).cancel();
    let held = bomb();
    let timer = transport.call_later(Duration::from_secs(3600), move |_: &mut Recorder, _| {
        drop(held);
        Ok(())
    });
    timer.cancel();
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    let held = bomb();
    transport.call_soon(move |_: &mut Recorder, _| {
        drop(held);
        Ok(())
    });
    drive(&mut event_loop, "the drops", || drops.get() == 4);
    other.send(b"hello");
    other.expect(&mut event_loop, 5);
    assert_eq!(failures.borrow().len(), 4, "{failures:?}");
    assert!(
        failures
            .borrow()
            .iter()
            .all(|failure| { failure.to_string().contains("panicking in drop on purpose") })
    );
    assert_eq!(log.reason(), "local-abort");
}

#[test]
fn a_closure_whose_connection_ends_just_before_it_may_panic_when_dropped() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    let drops = Rc::new(Cell::new(0));
    let log = Log::new();
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::default());
    settle(&mut event_loop);
    transport
        .set_protocol(Recorder::new(&log.clone().switched_in()), b"")
        .unwrap();
    transport.abort();
    let held = PanicsInDrop(drops.clone());
    transport.call_soon(move |_: &mut Recorder, _| {
        drop(held);
        panic!("it ran");
    });
    drive(&mut event_loop, "the drop", || drops.get() == 1);
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(failures.borrow().len(), 1);
    assert_eq!(failures.borrow()[0].context(), "a drop");
}

#[test]
fn of_several_panics_in_a_tick_the_first_propagates_and_all_are_reported() {
    let mut event_loop = EventLoop::builder()
        .panic_policy(PanicPolicy::Propagate)
        .build()
        .unwrap();
    let failures = failures(event_loop.handle());
    let handle = event_loop.handle().clone();
    let drops = Arc::new(AtomicU32::new(0));
    for number in 0..3 {
        let drops = drops.clone();
        handle.call_soon(move |_| panic_any(Payload(number, drops)));
    }
    let tick = AssertUnwindSafe(|| event_loop.run_once(Some(Duration::ZERO)));
    let payload = catch_unwind(tick).unwrap_err();
    assert_eq!(payload.downcast_ref::<Payload>().unwrap().0, 0);
    // Its drop panics as that of the others did; it is the caller's.
    assert!(catch_unwind(AssertUnwindSafe(|| drop(payload))).is_err());
    settle(&mut event_loop);
    assert_eq!(drops.load(Ordering::Relaxed), 3);
    assert_eq!(failures.borrow().len(), 3 + 2);
}

/// Panics when dropped, with an ordinary message.
struct Payload(u32, Arc<AtomicU32>);

impl Drop for Payload {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        panic!("panicking in the drop of a payload on purpose");
    }
}

/// Panics when dropped, with another one of itself.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        panic_any(Self);
    }
}

#[test]
fn a_payload_whose_drop_always_panics_is_reported_twice_and_the_loop_sleeps() {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    event_loop.handle().call_soon(|_| panic_any(Endless));
    settle(&mut event_loop);
    let contexts: Vec<_> = failures.borrow().iter().map(Failure::context).collect();
    assert_eq!(contexts, ["call_soon", "a drop"]);
}

each_kind!(an_error_handler_that_panics_or_replaces_itself_harms_nothing);
fn an_error_handler_that_panics_or_replaces_itself_harms_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let told: Rc<RefCell<Vec<&str>>> = Rc::default();
    let (first, second) = (told.clone(), told.clone());
    handle.set_error_handler(move |handle, _| {
        first.borrow_mut().push("first");
        let second = second.clone();
        handle.set_error_handler(move |_, _| {
            second.borrow_mut().push("second");
            panic!("the handler panics on purpose");
        });
    });
    let logs = [(); 3].map(|()| Log::new());
    let mut peers = Vec::new();
    for log in &logs {
        let protocol = Recorder::new(log).on_data(|_, _| Err("failing on purpose".into()));
        let (_, mut peer) = adopted(&handle, kind, protocol);
        peer.send(b"go");
        peers.push(peer);
    }
    drive(&mut event_loop, "all lost", || {
        logs.iter().all(Log::is_lost)
    });
    assert_eq!(*told.borrow(), ["first", "second", "second"]);
    assert!(logs.iter().all(|log| !log.has(&Seen::Pause)));
    assert!(logs.iter().all(|log| log.reason() == "callback"));
}

#[test]
fn without_an_error_handler_failures_are_logged_and_a_flood_of_them_is_cut() {
    keep_log(log::LevelFilter::Info);
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|_, _| Err("failing on purpose".into()));
    let (transport, mut peer) = adopted(event_loop.handle(), Kind::Tcp, protocol);
    peer.send(b"go");
    drive(&mut event_loop, "lost", || log.is_lost());
    let lines = logged();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let Line { level, text, .. } = &lines[0];
    assert_eq!(*level, log::Level::Error);
    for part in ["data_received", "Recorder", "failing on purpose"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains(&transport.id().to_string()), "{text}");

    let start = Instant::now();
    for _ in 0..1000 {
        event_loop.handle().call_soon(|_| panic!("one of many"));
    }
    settle(&mut event_loop);
    // The next one in a quieter time says how many were left out.
    event_loop
        .handle()
        .call_later(Duration::from_millis(1100), |_| panic!("late"));
    let mut lines = Vec::new();
    drive(&mut event_loop, "the late one", || {
        lines.extend(logged());
        lines.iter().any(|line: &Line| line.text.contains("late"))
    });
    let most = 20 * (1 + start.elapsed().as_secs() as usize);
    assert!(lines.len() <= most, "{} lines", lines.len());
    let logged = lines.iter().filter(|line| line.text.contains("many"));
    let left_out = lines.iter().filter_map(|line| {
        let number = line.text.strip_suffix(" failures were not logged")?;
        number.split(' ').next_back()?.parse::<usize>().ok()
    });
    assert_eq!(logged.count() + left_out.sum::<usize>(), 1000);
}

#[test]
fn a_failure_that_a_panicking_error_handler_was_told_of_is_logged() {
    keep_log(log::LevelFilter::Info);
    let mut event_loop = EventLoop::new().unwrap();
    event_loop
        .handle()
        .set_error_handler(|_, _| panic!("the handler panics"));
    event_loop.handle().call_soon(|_| panic!("the first cause"));
    settle(&mut event_loop);
    let lines = logged();
    for part in ["the first cause", "the handler panics"] {
        assert!(
            lines.iter().any(|line| line.text.contains(part)),
            "{lines:?}"
        );
    }
}
