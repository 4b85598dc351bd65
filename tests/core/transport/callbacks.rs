//! When callbacks come, and the closures and borrows that act for a protocol.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Log, Recorder, Scene, Seen, adopted, drive, each_kind, failures, flood, settle,
};
use tidegate::{
    Closed, EventLoop, OnEof, OnPause, Protocol, Result, Transport, TransportId, WriteLimits,
};

/// What several connections saw, in one order.
type Order = Rc<RefCell<Vec<String>>>;

fn notes(order: &Order) -> impl Fn(&str, &str) + Clone + use<> {
    let order = order.clone();
    move |who, what| order.borrow_mut().push(format!("{who} {what}"))
}

/// Two connections that are readable in the same poll, whose data callback does `act`.
fn two_in_one_poll(kind: Kind, act: fn(&Transport), until: &str) -> (Vec<String>, [Log; 2]) {
    let mut event_loop = EventLoop::new().unwrap();
    let order = Order::default();
    let logs = [Log::new(), Log::new()];
    let mut peers = Vec::new();
    for (who, log) in ["a", "b"].into_iter().zip(&logs) {
        let note = notes(&order);
        let (data, pause, resume, lost) = (note.clone(), note.clone(), note.clone(), note);
        let protocol = Recorder::new(log)
            .buffered(4)
            .on_data(move |transport, _| {
                data(who, "data");
                act(transport);
                data(who, "data returns");
                Ok(())
            })
            .on_pause(move |_| {
                pause(who, "pause");
                Ok(OnPause::KeepReading)
            })
            .on_resume(move |_| {
                resume(who, "resume");
                Ok(())
            })
            .on_lost(move |_, _| lost(who, "lost"));
        let (_, peer) = adopted(event_loop.handle(), kind, protocol);
        peers.push(peer);
    }
    settle(&mut event_loop);
    // Two reads for each.
    for peer in &mut peers {
        peer.send(b"8 bytes.");
    }
    let last = |who: &str| format!("{who} {until}");
    drive(&mut event_loop, until, || {
        let order = order.borrow();
        ["a", "b"].iter().all(|who| order.contains(&last(who)))
    });
    (order.take(), logs)
}

/// Checks that after each return of a data callback its own consequence is next.
fn check_next(order: &[String], consequence: &str) {
    for (place, note) in order.iter().enumerate() {
        if let Some(who) = note.strip_suffix(" data returns") {
            let expected = format!("{who} {consequence}");
            assert_eq!(order.get(place + 1), Some(&expected), "{order:?}");
        }
    }
}

each_kind!(effects_of_a_callback_on_its_own_transport_come_before_any_other_event);
fn effects_of_a_callback_on_its_own_transport_come_before_any_other_event(kind: Kind) {
    for end in [Transport::close, Transport::abort, Transport::reset] {
        let (order, logs) = two_in_one_poll(kind, end, "lost");
        check_next(&order, "lost");
        assert_eq!(order.len(), 6, "{order:?}");
        for log in logs {
            assert_eq!(log.words(), ["made", "data", "lost"]);
        }
    }
    let once = |transport: &Transport| {
        if !transport.flow().is_paused() {
            flood(transport);
        }
    };
    let (order, logs) = two_in_one_poll(kind, once, "pause");
    let first: Vec<_> = order.iter().take(3).cloned().collect();
    check_next(&first, "pause");
    for log in logs {
        let expected = [Seen::Made, Seen::Data(b"8 by".into()), Seen::Pause];
        assert_eq!(log.seen()[..3], expected);
    }
    // Raising the limits ends a pause that has begun in the same callback: both are told.
    let (order, _) = two_in_one_poll(
        kind,
        |transport| {
            flood(transport);
            let limits = WriteLimits::new().with_high(1 << 20).with_low(1 << 20);
            transport.set_write_limits(limits).unwrap();
            assert!(!transport.flow().is_paused());
        },
        "resume",
    );
    let first: Vec<_> = order.iter().take(4).cloned().collect();
    check_next(&first, "pause");
    assert!(first[3].ends_with("resume"), "{order:?}");
}

each_kind!(effects_of_a_callback_on_another_transport_come_this_turn_or_the_next);
fn effects_of_a_callback_on_another_transport_come_this_turn_or_the_next(kind: Kind) {
    type Cause = (fn(&Transport), &'static str);
    let causes: [Cause; 4] = [
        (Transport::close, "lost"),
        (Transport::abort, "lost"),
        (flood, "pause"),
        (
            |transport| {
                let note = transport.clone();
                let next = Recorder::default().on_data(move |_, _| {
                    note.pause_reading();
                    Ok(())
                });
                transport.set_protocol(next, b"un").unwrap();
            },
            "reading paused",
        ),
    ];
    for (cause, what) in causes {
        let mut event_loop = EventLoop::new().unwrap();
        let (log, other_log) = (Log::new(), Log::new());
        let (other, _other_peer) = adopted(event_loop.handle(), kind, Recorder::new(&other_log));
        let (target, within) = (other.clone(), other_log.clone());
        let protocol = Recorder::new(&log).on_data(move |_, _| {
            let before = within.seen();
            cause(&target);
            assert_eq!(within.seen(), before);
            Ok(())
        });
        let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        peer.send(b"go");
        while log.data_len() == 0 {
            event_loop.run_once(Some(Duration::from_secs(1))).unwrap();
        }
        let came = || {
            let words = other_log.words();
            match what {
                "reading paused" => !other.is_reading(),
                what => words.last().is_some_and(|last| last == what),
            }
        };
        if !came() {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(came(), "{kind:?} {what}: {other_log:?}");
    }
}

/// A protocol of another type than `Recorder`, that holds one.
struct Wrapper<P>(P);

impl<P: Protocol> Protocol for Wrapper<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.0.connection_made(transport)
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.0.data_received(transport, data)
    }
    fn eof_received(&mut self, transport: &Transport) -> Result<OnEof> {
        self.0.eof_received(transport)
    }
    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.0.connection_lost(transport, closed);
    }
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.0)
    }
}

struct Foreign;

impl Protocol for Foreign {}

#[derive(Clone, Copy, Debug)]
enum By {
    Soon,
    Later,
    Then,
}

impl By {
    const ALL: [Self; 3] = [Self::Soon, Self::Later, Self::Then];

    /// Runs `call` for the protocol; the first turn of the loop that may is yet to come.
    fn run<P: Protocol>(
        self,
        transport: &Transport,
        call: impl FnOnce(&mut P, &Transport) -> Result + 'static,
    ) {
        match self {
            Self::Soon => drop(transport.call_soon(call)),
            Self::Later => drop(transport.call_later(Duration::ZERO, call)),
            Self::Then => {
                let (completer, completion) = transport.handle().completion::<()>();
                completion.then_on(transport, move |this, transport, _| call(this, transport));
                completer.complete(Ok(()));
            }
        }
    }
}

each_kind!(writes_of_a_closure_for_a_protocol_are_gathered_and_its_effects_come_next);
fn writes_of_a_closure_for_a_protocol_are_gathered_and_its_effects_come_next(kind: Kind) {
    for by in By::ALL {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        settle(&mut event_loop);
        let before = event_loop.handle().stats().writes;
        by.run(&transport, |_: &mut Recorder, transport| {
            for part in [&b"one, "[..], b"two, ", b"three"] {
                transport.write(part)?;
            }
            Ok(())
        });
        peer.expect(&mut event_loop, 15);
        assert_eq!(peer.received(), b"one, two, three");
        assert_eq!(event_loop.handle().stats().writes, before + 1, "{by:?}");

        let (first, second) = (log.clone(), log.clone());
        by.run(&transport, move |_: &mut Recorder, transport| {
            flood(transport);
            first.note("first");
            Ok(())
        });
        by.run(&transport, move |_: &mut Recorder, transport| {
            second.note("second");
            transport.abort();
            Ok(())
        });
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "first", "pause", "second", "lost"]);
    }
}

each_kind!(an_error_or_a_panic_of_a_closure_for_a_protocol_ends_its_connection);
fn an_error_or_a_panic_of_a_closure_for_a_protocol_ends_its_connection(kind: Kind) {
    for by in By::ALL {
        for panics in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let failures = failures(event_loop.handle());
            let log = Log::new();
            let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
            settle(&mut event_loop);
            by.run(&transport, move |_: &mut Recorder, transport| {
                transport.write(b"before it")?;
                assert!(!panics, "panicking on purpose");
                Err("failing on purpose".into())
            });
            peer.expect_end(&mut event_loop);
            assert_eq!(peer.received(), b"before it");
            assert_eq!(log.reason(), if panics { "panic" } else { "callback" });
            assert_eq!(failures.borrow().len(), 1);
            assert_eq!(failures.borrow()[0].transport(), Some(transport.id()));
        }
    }
}

/// Tells when a closure was dropped.
struct Tell(Rc<Cell<u32>>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A closure that must not run.
fn uncalled<P: Protocol>(
    dropped: &Rc<Cell<u32>>,
) -> impl FnOnce(&mut P, &Transport) -> Result + use<P> {
    let tell = Tell(dropped.clone());
    move |_, _| {
        drop(tell);
        panic!("it ran")
    }
}

each_kind!(a_closure_for_another_type_or_an_ended_connection_is_dropped_unrun);
fn a_closure_for_another_type_or_an_ended_connection_is_dropped_unrun(kind: Kind) {
    for by in By::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let (log, new) = (Log::new(), Log::new().switched_in());
        let dropped = Rc::new(Cell::new(0));
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        // Never the type; the type of the old protocol.
        by.run(&transport, uncalled::<Foreign>(&dropped));
        drive(&mut event_loop, "one drop", || dropped.get() == 1);
        by.run(&transport, uncalled::<Recorder>(&dropped));
        transport.set_protocol(Foreign, b"").unwrap();
        drive(&mut event_loop, "two drops", || dropped.get() == 2);
        transport.set_protocol(Recorder::new(&new), b"").unwrap();
        settle(&mut event_loop);
        assert_eq!(new.words(), ["made"]);
        // Ended before the loop comes to it, and long ago.
        transport.abort();
        let closure = uncalled::<Recorder>(&dropped);
        event_loop.handle().call_soon({
            let transport = transport.clone();
            move |_| {
                transport.call_soon(|_: &mut Recorder, _| Ok(()));
                by.run(&transport, closure);
            }
        });
        drive(&mut event_loop, "lost", || new.is_lost());
        by.run(&transport, uncalled::<Recorder>(&dropped));
        drive(&mut event_loop, "four drops", || dropped.get() == 4);
        settle(&mut event_loop);
        assert!(failures.borrow().is_empty(), "{failures:?}");
        let left = event_loop.handle().stats();
        assert_eq!(left.timers + left.completions, 0);
    }
}

each_kind!(a_timer_of_a_transport_dies_with_the_connection_and_runs_while_it_closes);
fn a_timer_of_a_transport_dies_with_the_connection_and_runs_while_it_closes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let dropped = Rc::new(Cell::new(0));
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    settle(&mut event_loop);
    let hour = Duration::from_secs(3600);
    transport.call_later(hour, uncalled::<Recorder>(&dropped));
    transport.call_later(Duration::MAX, uncalled::<Recorder>(&dropped));
    flood(&transport);
    transport.close();
    let ran = log.clone();
    transport.call_later(Duration::ZERO, move |_: &mut Recorder, _| {
        ran.note("timer");
        Ok(())
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "timer"]);
    assert_eq!((event_loop.handle().stats().timers, dropped.get()), (2, 0));
    drive(&mut event_loop, "lost", || {
        peer.read_available();
        log.is_lost()
    });
    drive(&mut event_loop, "the drops", || dropped.get() == 2);
    peer.close();
    drive(&mut event_loop, "no timers", || {
        transport.handle().stats().timers == 0
    });
}

each_kind!(with_protocol_is_none_in_its_own_callback_after_the_end_or_for_another_type);
fn with_protocol_is_none_in_its_own_callback_after_the_end_or_for_another_type(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (log, other_log) = (Log::new(), Log::new());
    let (other, _other_peer) = adopted(event_loop.handle(), kind, Recorder::new(&other_log));
    let target = other.clone();
    let reach = |transport: &Transport| {
        let id = |_: &mut Recorder, transport: &Transport| transport.id();
        transport.with_protocol(id)
    };
    let protocol = Recorder::new(&log)
        .on_data(move |transport, _| {
            assert_eq!(reach(transport), None);
            assert_eq!(reach(&target), Some(target.id()));
            // Within it, as within a callback.
            let nested = target.with_protocol(|_: &mut Recorder, target| reach(target));
            assert_eq!(nested, Some(None));
            Ok(())
        })
        .on_lost(move |transport, _| assert_eq!(reach(transport), None));
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    assert_eq!(reach(&transport), Some(transport.id()));
    assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_none());
    peer.send(b"go");
    drive(&mut event_loop, "data", || log.data_len() == 2);
    transport.set_protocol(Foreign, b"").unwrap();
    // The new one is there already, as the old one is not running.
    assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_some());
    assert_eq!(reach(&transport), None);
    other.abort();
    drive(&mut event_loop, "lost", || other_log.is_lost());
    assert_eq!(reach(&other), None);
}

each_kind!(a_panic_of_with_protocol_goes_to_its_caller_and_leaves_the_connection_alone);
fn a_panic_of_with_protocol_goes_to_its_caller_and_leaves_the_connection_alone(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
    settle(&mut event_loop);
    let call = std::panic::AssertUnwindSafe(|| {
        transport.with_protocol(|_: &mut Recorder, _| panic!("the caller's own"))
    });
    assert!(std::panic::catch_unwind(call).is_err());
    peer.send(b"hello");
    peer.expect(&mut event_loop, 5);
    assert_eq!(log.words(), ["made", "data"]);
}

each_kind!(a_protocol_is_found_inside_its_wrappers_and_boxes);
fn a_protocol_is_found_inside_its_wrappers_and_boxes(kind: Kind) {
    let boxed = |log: &Log| -> Box<dyn Protocol> { Box::new(Recorder::echo(log)) };
    type Wrap = Box<dyn Fn(&Log) -> Box<dyn Protocol>>;
    let wraps: [Wrap; 5] = [
        Box::new(boxed),
        Box::new(move |log| Box::new(boxed(log))),
        Box::new(|log| Box::new(Wrapper(Recorder::echo(log)))),
        Box::new(move |log| Box::new(Wrapper(boxed(log)))),
        Box::new(move |log| Box::new(Wrapper(Wrapper(boxed(log))))),
    ];
    for (place, wrap) in wraps.iter().enumerate() {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, wrap(&log));
        peer.send(b"hello");
        peer.expect(&mut event_loop, 5);
        let found: Option<TransportId> =
            transport.with_protocol(|_: &mut Recorder, transport| transport.id());
        assert_eq!(found, Some(transport.id()), "{place}");
        assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_none());
        for by in By::ALL {
            let ran = log.clone();
            by.run(&transport, move |_: &mut Recorder, _| {
                ran.note("ran");
                Ok(())
            });
            settle(&mut event_loop);
        }
        peer.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        let trace = ["made", "data", "ran", "ran", "ran", "eof", "lost"];
        assert_eq!(log.words(), trace);
        assert_eq!(log.dropped(), 1);
    }
}
