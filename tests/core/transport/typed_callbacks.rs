//! Closures and borrows that act for a protocol, which they find by its type.

use std::any::type_name;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Recorder, Scene, adopted, drive, each_kind, failures, flood, settle};
use tidegate::{
    CloseReason, Closed, EventLoop, OnEof, Protocol, Result, Transport, WithProtocolError,
};

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

    /// Runs `call` for the protocol; the first tick of the loop that may is yet to come.
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

each_kind!(a_closure_for_a_protocol_before_or_an_ended_connection_is_dropped_unrun_in_silence);
fn a_closure_for_a_protocol_before_or_an_ended_connection_is_dropped_unrun_in_silence(kind: Kind) {
    for by in By::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let (log, new) = (Log::new(), Log::new().switched_in());
        let dropped = Rc::new(Cell::new(0));
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        by.run(&transport, uncalled::<Recorder>(&dropped));
        transport.set_protocol(Foreign, b"").unwrap();
        drive(&mut event_loop, "one drop", || dropped.get() == 1);
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
        drive(&mut event_loop, "three drops", || dropped.get() == 3);
        settle(&mut event_loop);
        assert!(failures.borrow().is_empty(), "{failures:?}");
        let left = event_loop.handle().stats();
        assert_eq!(left.timers + left.completions, 0);
    }
}

/// Has a protocol that nobody finds.
struct Opaque(#[expect(dead_code, reason = "it is not to be found")] Recorder);

impl Protocol for Opaque {}

each_kind!(a_closure_that_finds_a_protocol_of_another_type_is_reported_with_both_types);
fn a_closure_that_finds_a_protocol_of_another_type_is_reported_with_both_types(kind: Kind) {
    for (by, context) in By::ALL
        .into_iter()
        .zip(["call_soon", "call_later", "then_on"])
    {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let dropped = Rc::new(Cell::new(0));
        let hidden = Opaque(Recorder::default());
        let (transport, mut peer) = adopted(event_loop.handle(), kind, hidden);
        settle(&mut event_loop);
        by.run(&transport, uncalled::<Recorder>(&dropped));
        drive(&mut event_loop, "the drop", || dropped.get() == 1);
        settle(&mut event_loop);
        let told = failures.take();
        let [failure] = &told[..] else {
            panic!("{by:?}: {told:?}");
        };
        assert_eq!(failure.context(), context);
        assert_eq!(failure.transport(), Some(transport.id()));
        let CloseReason::Callback(error) = failure.reason() else {
            panic!("{failure}");
        };
        let other_type = WithProtocolError::clone(error.downcast_ref().unwrap());
        let WithProtocolError::OtherType {
            expected, found, ..
        } = other_type
        else {
            panic!("{other_type}");
        };
        assert_eq!(
            (expected, found),
            (type_name::<Recorder>(), type_name::<Opaque>())
        );
        assert!(
            failure.to_string().contains("`Protocol::inner`"),
            "{failure}"
        );
        // The connection goes on.
        peer.send(b"more");
        drive(&mut event_loop, "the data", || {
            transport.stats().received == 4
        });
        assert!(!transport.is_closing());
        // One that is ending has other things to say.
        by.run(&transport, uncalled::<Recorder>(&dropped));
        transport.abort();
        drive(&mut event_loop, "the drop", || dropped.get() == 2);
        settle(&mut event_loop);
        assert!(failures.borrow().is_empty(), "{failures:?}");
    }
}

each_kind!(a_closure_for_the_protocol_of_a_switch_is_told_of_another_type_after_it);
fn a_closure_for_the_protocol_of_a_switch_is_told_of_another_type_after_it(kind: Kind) {
    for by in By::ALL {
        let (mut event_loop, _log, transport, _peer) = Scene::of(kind).set();
        let failures = failures(event_loop.handle());
        let dropped = Rc::new(Cell::new(0));
        settle(&mut event_loop);
        // The completion, the timer and the closure are made after the switch was asked for.
        transport.set_protocol(Foreign, b"").unwrap();
        by.run(&transport, uncalled::<Recorder>(&dropped));
        drive(&mut event_loop, "the drop", || dropped.get() == 1);
        settle(&mut event_loop);
        assert_eq!(failures.borrow().len(), 1, "{by:?}: {failures:?}");
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

each_kind!(with_protocol_says_that_it_is_in_a_callback_after_the_end_or_for_another_type);
fn with_protocol_says_that_it_is_in_a_callback_after_the_end_or_for_another_type(kind: Kind) {
    use WithProtocolError::{Ended, InCallback, OtherType};
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
            assert_eq!(reach(transport), Err(InCallback));
            assert_eq!(reach(&target), Ok(target.id()));
            // Within it, as within a callback.
            let nested = target.with_protocol(|_: &mut Recorder, target| reach(target));
            assert_eq!(nested, Ok(Err(InCallback)));
            Ok(())
        })
        .on_lost(move |transport, _| assert_eq!(reach(transport), Err(Ended)));
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    assert_eq!(reach(&transport), Ok(transport.id()));
    assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_err());
    peer.send(b"go");
    drive(&mut event_loop, "data", || log.data_len() == 2);
    transport.set_protocol(Foreign, b"").unwrap();
    // The new one is there already, as the old one is not running.
    assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_ok());
    let Err(OtherType {
        expected, found, ..
    }) = reach(&transport)
    else {
        panic!("{:?}", reach(&transport));
    };
    assert_eq!(
        (expected, found),
        (type_name::<Recorder>(), type_name::<Foreign>())
    );
    other.abort();
    drive(&mut event_loop, "lost", || other_log.is_lost());
    assert_eq!(reach(&other), Err(Ended));
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
        let found = transport.with_protocol(|_: &mut Recorder, transport| transport.id());
        assert_eq!(found, Ok(transport.id()), "{place}");
        assert!(transport.with_protocol(|_: &mut Foreign, _| ()).is_err());
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
