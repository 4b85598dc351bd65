//! Code of a layer is code of the user: it may call any method of any transport, its own among them.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Calls, Seal};
use support::{
    Hooked, Kind, Log, METHODS, Recorder, SHORT, Scene, drive, each_kind, limits, settle,
    strict_loop,
};
use tidegate::{Closed, Transport, WithProtocolError, WriteError};

/// A call that code of a layer makes on its own transport.
type Call = fn(&Transport);

#[track_caller]
fn assert_refused(result: Result<tidegate::Flow, WriteError>) {
    match result {
        Err(
            WriteError::InLayer { .. }
            | WriteError::Closing { .. }
            | WriteError::AfterEof { .. }
            | WriteError::Closed { .. },
        ) => {}
        other => panic!("{other:?}"),
    }
}

const CALLS: [(&str, Call); 26] = [
    ("write", |own| assert_refused(own.write(b"refused"))),
    ("a large write", |own| {
        assert_refused(own.write(&[1; 100_000]))
    }),
    ("write_owned", |own| {
        assert_refused(own.write_owned(vec![1; 9]))
    }),
    ("write_fmt", |own| {
        assert_refused(own.write_fmt(format_args!("{}", 1)))
    }),
    ("drain", |own| own.drain().detach()),
    ("flush", |own| own.flush().detach()),
    ("wait_closed", |own| own.wait_closed().detach()),
    ("pause and resume", |own| {
        own.pause_reading();
        own.resume_reading();
    }),
    ("set_write_limits", |own| {
        own.set_write_limits(limits(10, 0)).unwrap()
    }),
    ("set_write_timeout", |own| {
        own.set_write_timeout(Some(SHORT))
    }),
    ("set_nodelay", |own| {
        let error = own.set_nodelay(true).unwrap_err();
        let closed = Closed::of(&error).is_some();
        assert!(closed || error.kind() == ErrorKind::ResourceBusy, "{error}");
    }),
    ("with_fd", |own| assert!(own.with_fd(|_| Ok(())).is_err())),
    ("local_addr", |own| {
        let _ = own.local_addr();
    }),
    ("numbers", |own| {
        let _ = (
            own.stats(),
            own.flow(),
            own.is_reading(),
            format!("{own:?}"),
        );
    }),
    ("with_protocol", |own| {
        let error = own.with_protocol(|_: &mut Recorder, _| ()).unwrap_err();
        let expected = [WithProtocolError::InCallback, WithProtocolError::Ended];
        assert!(expected.contains(&error), "{error}");
    }),
    ("with_layer", |own| {
        assert!(own.with_layer(|_: &mut Hooked, _| ()).is_none());
    }),
    ("push_layer", |own| {
        own.push_layer(Seal::server(), b"").then(|_, answer| {
            assert!(answer.is_err());
        });
    }),
    ("call_soon", |own| {
        own.call_soon(|_: &mut Recorder, _| Ok(()));
    }),
    ("set_linger_limits", |own| {
        own.set_linger_limits(own.linger_limits())
    }),
    ("close of the others", |own| {
        let _ = own.handle().stats();
    }),
    ("pause", Transport::pause_reading),
    ("write_eof", |own| {
        let _ = own.write_eof();
    }),
    ("close", Transport::close),
    ("close_within", |own| {
        own.close_within(Duration::from_secs(1))
    }),
    ("abort", Transport::abort),
    ("reset", Transport::reset),
];

/// The first of these calls that stops something.
const STOPPING: &str = "pause";

fn a_call_on_its_own_transport_neither_panics_nor_corrupts(kind: Kind) {
    let first_stopping = CALLS
        .iter()
        .position(|(name, _)| *name == STOPPING)
        .unwrap();
    for method in METHODS {
        for (n, (name, call)) in CALLS.into_iter().enumerate() {
            let what = format!("{name} within {method}");
            let mut event_loop = strict_loop();
            let log = Log::new();
            let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::echo(&log));
            let called = Rc::new(Cell::new(0));
            let (own, counted) = (transport.clone(), called.clone());
            let layer = Hooked::new(move |within, io| {
                if within == "start" {
                    io.wake_after(SHORT);
                }
                if within == method && counted.replace(1) == 0 {
                    call(&own);
                }
                Ok(())
            });
            transport.push_layer(layer, b"").then(|_, _| {});
            settle(&mut event_loop);
            // Some end the connection at once.
            let _ = peer.try_write(b"one");
            if method == "input_ended" {
                peer.shutdown_write();
            } else if method == "end" {
                drive(&mut event_loop, "the data", || log.data() == b"one");
                transport.close();
            }
            drive(&mut event_loop, &what, || called.get() == 1);
            settle(&mut event_loop);
            if n < first_stopping && method != "input_ended" && method != "end" {
                peer.send(b" two");
                peer.expect(&mut event_loop, 7);
                assert_eq!(peer.received(), b"one two", "{what}");
                assert_eq!((transport.written(), transport.sent()), (7, 7), "{what}");
            }
            if !transport.is_closing() {
                transport.abort();
            }
            drive(&mut event_loop, &what, || log.is_lost());
            let closed = log.closed();
            let counted = closed.unsent() + transport.sent();
            assert_eq!(counted, transport.written(), "{what}: {closed}");
            assert_eq!(log.take_violations(), [""; 0], "{what}");
        }
    }
}
each_kind!(a_call_on_its_own_transport_neither_panics_nor_corrupts);

/// Bytes that are read when the layer stops reading are not lost.
fn bytes_of_the_read_in_which_a_layer_pauses_come_on_resume(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let own = transport.clone();
    let layer = Hooked::on("receive", move |_| {
        own.pause_reading();
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"waiting");
    drive(&mut event_loop, "the pause", || !transport.is_reading());
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "the data", || log.data() == b"waiting");
    assert_eq!(transport.stats().received, 7);
}
each_kind!(bytes_of_the_read_in_which_a_layer_pauses_come_on_resume);

/// A close in the code of a layer holds when that has returned: no data comes behind it.
fn nothing_is_delivered_behind_an_end_that_a_layer_asked_for(kind: Kind) {
    for end in [Transport::close, Transport::abort, Transport::reset] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        let own = transport.clone();
        let layer = Hooked::on("receive", move |_| {
            end(&own);
            assert!(own.is_closing());
            Ok(())
        });
        event_loop
            .run_until(transport.push_layer(layer, b""))
            .unwrap();
        peer.send(b"late");
        drive(&mut event_loop, "the end", || log.is_lost());
        assert_eq!(log.words(), ["made", "lost"]);
    }
}
each_kind!(nothing_is_delivered_behind_an_end_that_a_layer_asked_for);

fn a_layer_may_write_to_another_connection(kind: Kind) {
    for method in METHODS {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::echo(&log));
        let (other, mut other_peer) =
            Scene::of(kind).on(&mut event_loop, Recorder::new(&Log::new()));
        let to = other.clone();
        let layer = Hooked::new(move |within, io| {
            if within == "start" {
                io.wake_after(SHORT);
            }
            if within == method {
                to.write(within.as_bytes())?;
                to.close();
            }
            Ok(())
        });
        transport.push_layer(layer, b"").detach();
        settle(&mut event_loop);
        peer.send(b"hello");
        drive(&mut event_loop, "the data", || log.data() == b"hello");
        match method {
            "input_ended" => peer.shutdown_write(),
            "end" => transport.close(),
            _ => {}
        }
        other_peer.expect_end(&mut event_loop);
        assert_eq!(other_peer.received(), method.as_bytes());
        assert!(other_peer.saw_eof());
    }
}
each_kind!(a_layer_may_write_to_another_connection);

/// The writes that a callback has gathered are not lost, nor sent by others, when code of a layer runs
/// in the middle of it.
fn what_a_callback_has_gathered_stays_its_own_while_a_layer_runs(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (other, mut other_peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&Log::new()));
    let recorder = Recorder::new(&log).on_data(|transport, _| {
        transport.write(b"small, ")?;
        // Through the layer within this call.
        transport.write(&[b'x'; 20_000])?;
        transport.write(b", small")?;
        Ok(())
    });
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, recorder);
    let to = other.clone();
    let layer = Hooked::on("send", move |_| {
        to.write(b"y")?;
        Ok(())
    });
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"go");
    peer.expect(&mut event_loop, 20_014);
    let expected = [&b"small, "[..], &[b'x'; 20_000], b", small"].concat();
    assert!(peer.received() == expected);
    settle(&mut event_loop);
    other_peer.read_available();
    assert!(other_peer.received().iter().all(|byte| *byte == b'y'));
    assert!(!other_peer.received().is_empty());
}
each_kind!(what_a_callback_has_gathered_stays_its_own_while_a_layer_runs);

fn with_layer_reaches_the_topmost_of_its_type_also_after_the_end(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    assert!(transport.with_layer(|_: &mut Seal, _| ()).is_none());
    let passing = Hooked::new(|_, _| Ok(()));
    transport.push_layer(Seal::server(), b"").detach();
    transport.push_layer(passing, b"").detach();
    let ended = |transport: &Transport| transport.with_layer(|seal: &mut Seal, _| seal.has_ended());
    assert_eq!(ended(&transport), Some(false));
    peer.send(&[support::seal::hello(), support::seal::end_of_seal()].concat());
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(ended(&transport), Some(true));
    let nothing = transport.with_layer(|_: &mut Seal, io| {
        io.send(b"to nobody");
        (io.input().len(), io.room())
    });
    assert_eq!(nothing, Some((0, 0)));
    drop(event_loop);
    assert_eq!(ended(&transport), None);
}
each_kind!(with_layer_reaches_the_topmost_of_its_type_also_after_the_end);

fn output_of_with_layer_is_sent_by_the_loop(kind: Kind) {
    let (mut event_loop, _log, transport, mut peer) = Scene::of(kind).strict().set();
    let layer = Hooked::new(|_, _| Ok(()));
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    let refused = transport
        .with_layer(|_: &mut Hooked, io| {
            io.send(b"a word of the layer");
            transport.write(b"refused").unwrap_err()
        })
        .unwrap();
    assert!(matches!(refused, WriteError::InLayer { .. }), "{refused}");
    peer.expect(&mut event_loop, 19);
    assert_eq!(peer.received(), b"a word of the layer");
    transport.write(b", taken").unwrap();
    peer.expect(&mut event_loop, 26);
}
each_kind!(output_of_with_layer_is_sent_by_the_loop);

#[test]
fn a_panic_of_a_call_with_a_layer_goes_to_the_caller_and_changes_nothing() {
    let (mut event_loop, log, transport, mut peer) = Scene::of(Kind::Tcp).strict().set();
    let layer = Hooked::new(|_, _| Ok(()));
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        transport.with_layer(|_: &mut Hooked, io| {
            io.send(b"said before");
            panic!("provoked");
        })
    }));
    assert!(called.is_err());
    transport.write(b", and behind").unwrap();
    peer.expect(&mut event_loop, 23);
    assert_eq!(peer.received(), b"said before, and behind");
    assert!(!log.is_lost());
}

/// The loop is run from within the code of a layer, which other code called from outside of it.
#[test]
fn a_loop_that_is_run_within_a_call_with_a_layer_leaves_the_connection_alone() {
    let (mut event_loop, log, transport, mut peer) =
        Scene::of(Kind::Tcp).strict().set_with(Recorder::keep_open);
    let layer = Hooked::new(|_, _| Ok(()));
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    peer.send(b"meanwhile");
    peer.shutdown_write();
    transport.call_later(Duration::ZERO, |_: &mut Recorder, transport| {
        transport.write(b"timed")?;
        Ok(())
    });
    let ticks = RefCell::new(&mut event_loop);
    transport.with_layer(|_: &mut Hooked, _| {
        for _ in 0..10 {
            support::tick(&mut ticks.borrow_mut());
        }
        assert_eq!(log.words(), ["made"]);
    });
    peer.expect(&mut event_loop, 5);
    assert_eq!(log.words(), ["made", "data", "eof"]);
}

#[test]
fn a_loop_that_is_dropped_within_a_call_with_a_layer_ends_the_connection_behind_it() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Tcp).strict().set();
    let layer = Hooked::new(|_, _| Ok(()));
    event_loop
        .run_until(transport.push_layer(layer, b""))
        .unwrap();
    let mut event_loop = Some(event_loop);
    transport.with_layer(|_: &mut Hooked, _| {
        event_loop = None;
        assert_eq!(log.words(), ["made"]);
    });
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.reason(), "shutdown");
    assert_eq!(log.dropped(), 1);
}

/// Also in a call with a layer of a connection that has ended before.
#[test]
fn its_layers_are_dropped_when_that_call_has_returned() {
    for ended in [false, true] {
        let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Tcp).strict().set();
        settle(&mut event_loop);
        let calls = Calls::default();
        for _ in 0..2 {
            let layer = Seal::client().noted_in(&calls);
            transport.push_layer(layer, b"").detach();
        }
        settle(&mut event_loop);
        if ended {
            transport.abort();
            drive(&mut event_loop, "the end", || log.is_lost());
        }
        assert_eq!(*calls.borrow(), ["start"]);
        let mut event_loop = Some(event_loop);
        let called = transport.with_layer(|_: &mut Seal, _| {
            event_loop = None;
            calls.borrow().len()
        });
        assert_eq!(called, Some(1), "ended: {ended}");
        assert_eq!(*calls.borrow(), ["start", "drop", "drop"], "ended: {ended}");
        assert_eq!(log.words(), ["made", "lost"]);
        let found = transport.with_layer(|_: &mut Seal, _| ());
        assert_eq!(found, None, "ended: {ended}");
    }
}
