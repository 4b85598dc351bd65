//! Callbacks that fail: the end of their connection, the effect on others, and the reports.

use std::any::type_name;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use support::{Kind, Log, Recorder, TempDir, adopted, drive, each_kind, failures, flood, settle};
use tidegate::{
    CloseReason, Closed, EventLoop, OnEof, OnPause, PanicPolicy, Result, Transport, WriteError,
    WriteLimits,
};

fn message(closed: &Closed) -> String {
    closed.source().map(ToString::to_string).unwrap_or_default()
}

each_kind!(what_was_written_before_an_error_is_offered_to_the_kernel_once);
fn what_was_written_before_an_error_is_offered_to_the_kernel_once(kind: Kind) {
    type Write = fn(&Transport);
    let writes: [(Write, usize); 4] = [
        (|t| drop(t.write(b"by").and(t.write(b"e"))), 3),
        (|t| drop(t.write_owned(vec![1; 3])), 3),
        (|t| drop(t.write(&[2; 20_000])), 20_000),
        (|t| drop(t.write_fmt(format_args!("{}", 123))), 3),
    ];
    for (write, len) in writes {
        for panics in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let failures = failures(event_loop.handle());
            let log = Log::new();
            let protocol = Recorder::new(&log).on_data(move |transport, _| {
                write(transport);
                assert!(!panics, "panicking on purpose");
                Err("failing on purpose".into())
            });
            let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
            settle(&mut event_loop);
            let before = event_loop.handle().stats().writes;
            peer.send(b"go");
            peer.expect_end(&mut event_loop);
            assert_eq!((peer.received().len(), peer.saw_eof()), (len, true));
            assert_eq!(event_loop.handle().stats().writes, before + 1);
            assert_eq!(log.words(), ["made", "data", "lost"]);
            assert_eq!(log.reason(), if panics { "panic" } else { "callback" });
            assert_eq!(log.closed().unsent(), 0);
            assert_eq!(failures.borrow().len(), 1);
        }
    }
}

each_kind!(an_error_does_not_wait_for_a_peer_that_reads_nothing);
fn an_error_does_not_wait_for_a_peer_that_reads_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        flood(transport);
        Err("failing on purpose".into())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"go");
    drive(&mut event_loop, "lost", || log.is_lost());
    // No pause comes any more.
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert!(log.closed().unsent() > 0);
    assert_eq!(message(&log.closed()), "failing on purpose");
    peer.expect_end(&mut event_loop);
    let received = peer.received().len() as u64;
    match kind {
        Kind::Tcp => assert_eq!(peer.saw_error(), Some(io::ErrorKind::ConnectionReset)),
        Kind::Unix => assert_eq!(received, transport.sent()),
    }
}

each_kind!(the_error_goes_to_the_error_handler_with_its_place_and_to_connection_lost);
fn the_error_goes_to_the_error_handler_with_its_place_and_to_connection_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let log = Log::new();
    let protocol = Recorder::new(&log)
        .on_data(|_, _| Err(io::Error::new(io::ErrorKind::InvalidData, "not a number").into()));
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"x");
    drive(&mut event_loop, "lost", || log.is_lost());
    let CloseReason::Callback(error) = log.closed().reason().clone() else {
        panic!("{:?}", log.closed());
    };
    let error = error.downcast_ref::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let failures = failures.borrow();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].context(), "data_received");
    assert_eq!(failures[0].transport(), Some(transport.id()));
    assert_eq!(failures[0].protocol(), Some(type_name::<Recorder>()));
    let line = failures[0].to_string();
    assert!(line.contains("not a number") && line.contains("data_received"));
    assert!(!log.closed().is_clean());
}

each_kind!(a_failure_in_connection_made_fails_create_connection_with_the_same_closed);
fn a_failure_in_connection_made_fails_create_connection_with_the_same_closed(kind: Kind) {
    for panics in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let dir = TempDir::new();
        let (listener, address) = kind.listen(&dir);
        let log = Log::new();
        let protocol = Recorder::new(&log).on_made(move |transport| {
            transport.write(b"before it")?;
            assert!(!panics, "panicking on purpose");
            Err("failing on purpose".into())
        });
        let connecting = event_loop.handle().create_connection(&address, protocol);
        let error = event_loop.run_until(connecting).unwrap_err();
        let closed = Closed::of(&error).unwrap();
        assert_eq!(log.words(), ["made", "lost"]);
        assert_eq!(closed.to_string(), log.closed().to_string());
        assert_eq!(log.reason(), if panics { "panic" } else { "callback" });
        assert!(closed.to_string().contains("on purpose"));
        assert_eq!(failures.borrow().len(), 1);
        assert_eq!(failures.borrow()[0].context(), "connection_made");
        let mut peer = support::Peer::new(listener.accept().unwrap().0);
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.received(), b"before it");
        settle(&mut event_loop);
        assert_eq!(event_loop.handle().stats().connections, 0);
    }
}

each_kind!(a_connection_made_that_closes_and_then_fails_fails_create_connection_too);
fn a_connection_made_that_closes_and_then_fails_fails_create_connection_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let dir = TempDir::new();
    let (_listener, address) = kind.listen(&dir);
    let log = Log::new();
    let protocol = Recorder::new(&log).on_made(|transport| {
        transport.close();
        Err("not wanted".into())
    });
    let connecting = event_loop.handle().create_connection(&address, protocol);
    let error = event_loop.run_until(connecting).unwrap_err();
    assert!(Closed::of(&error).is_some() && error.to_string().contains("not wanted"));
    assert_eq!(
        log.reason(),
        "local-close",
        "nothing was unsent at the close"
    );
    assert_eq!(failures.borrow().len(), 1);
}

/// As `?` makes of a refused write.
fn refused(transport: &Transport, wrapped: bool) -> Result {
    let error = transport.write(b"late").unwrap_err();
    match wrapped {
        false => Err(error.into()),
        true => Err(io::Error::from(error).into()),
    }
}

each_kind!(a_write_after_our_own_close_leaves_it_graceful_from_whatever_callback);
fn a_write_after_our_own_close_leaves_it_graceful_from_whatever_callback(kind: Kind) {
    let places = [
        "made", "data", "updated", "eof", "pause", "resume", "soon", "later", "then",
    ];
    for place in places {
        for wrapped in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let failures = failures(event_loop.handle());
            let log = Log::new();
            let fail = move |at: &str, transport: &Transport| -> Result {
                if at != place {
                    return Ok(());
                }
                transport.write(b"last words")?;
                transport.close();
                refused(transport, wrapped)
            };
            let protocol = Recorder::new(&log)
                .on_made(move |transport| fail("made", transport))
                .on_data(move |transport, _| {
                    fail("data", transport)?;
                    fail("updated", transport)
                })
                .on_eof(move |transport| {
                    fail("eof", transport)?;
                    Ok(OnEof::KeepOpen)
                })
                .on_pause(move |transport| {
                    fail("pause", transport)?;
                    Ok(OnPause::KeepReading)
                })
                .on_resume(move |transport| fail("resume", transport));
            let protocol = match place {
                "updated" => protocol.buffered(10),
                _ => protocol,
            };
            let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
            if place != "made" {
                settle(&mut event_loop);
            }
            let call = move |_: &mut Recorder, transport: &Transport| fail(place, transport);
            match place {
                "data" | "updated" => peer.send(b"go"),
                "eof" => peer.shutdown_write(),
                "pause" | "resume" => flood(&transport),
                "soon" => drop(transport.call_soon(call)),
                "later" => drop(transport.call_later(Duration::ZERO, call)),
                "then" => transport
                    .flush()
                    .then_on(&transport, move |this, transport, _| call(this, transport)),
                _ => {}
            }
            peer.expect_end(&mut event_loop);
            assert!(peer.received().ends_with(b"last words"), "{kind:?} {place}");
            assert_eq!(peer.received().len() as u64, transport.written());
            let expected = if place == "eof" {
                "peer-eof"
            } else {
                "local-close"
            };
            assert_eq!(log.reason(), expected, "{kind:?} {place}");
            assert!(log.closed().is_clean());
            assert!(failures.borrow().is_empty(), "{failures:?}");
        }
    }
}

#[test]
fn a_write_after_the_end_of_writing_leaves_the_reading_of_the_rest_alone() {
    for wrapped in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let log = Log::new();
        // Four bytes at a time, so that there are callbacks after the one that fails.
        let protocol = Recorder::new(&log)
            .buffered(4)
            .on_data(move |transport, _| refused(transport, wrapped));
        let (transport, mut peer) = adopted(event_loop.handle(), Kind::Unix, protocol);
        transport.pause_reading();
        settle(&mut event_loop);
        peer.send(b"what the peer said before");
        peer.close();
        assert!(
            transport
                .write(&[0; 100_000])
                .unwrap_err()
                .closed()
                .is_some()
        );
        transport.resume_reading();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.data(), b"what the peer said before");
        assert!(log.closed().is_reset());
        assert_eq!(log.closed().unsent(), 100_000);
        assert!(failures.borrow().is_empty(), "{failures:?}");
    }
}

each_kind!(every_other_write_error_is_an_ordinary_error);
fn every_other_write_error_is_an_ordinary_error(kind: Kind) {
    type Fail = fn(&Transport, &Transport) -> WriteError;
    let fails: [(&str, Fail); 4] = [
        ("after write_eof", |own, _| {
            own.write_eof().unwrap();
            own.write(b"x").unwrap_err()
        }),
        ("at the cap", |own, _| {
            let limits = WriteLimits::new().with_high(0).with_cap(1);
            own.set_write_limits(limits).unwrap();
            flood(own);
            own.write(b"x").unwrap_err()
        }),
        ("of another transport", |own, other| {
            own.close();
            other.close();
            other.write(b"x").unwrap_err()
        }),
        ("of its like in another loop", |own, _| {
            let event_loop = EventLoop::new().unwrap();
            let adopt = || adopted(event_loop.handle(), Kind::Unix, Recorder::new(&Log::new()));
            let (_first, (like, _peer)) = (adopt(), adopt());
            assert_eq!(like.id(), own.id(), "not the same id");
            like.close();
            like.write(b"x").unwrap_err()
        }),
    ];
    for (name, fail) in fails {
        for wrapped in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let failures = failures(event_loop.handle());
            let (log, other_log) = (Log::new(), Log::new());
            let (other, _other_peer) =
                adopted(event_loop.handle(), kind, Recorder::new(&other_log));
            let protocol = Recorder::new(&log).on_data(move |transport, _| {
                let error = fail(transport, &other);
                Err(match wrapped {
                    false => error.into(),
                    true => io::Error::from(error).into(),
                })
            });
            let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
            peer.send(b"go");
            drive(&mut event_loop, "lost", || log.is_lost());
            assert_eq!(failures.borrow().len(), 1, "{name}");
            // With nothing unsent, a close that came first stays the reason.
            let expected = match name {
                "of another transport" => "local-close",
                _ => "callback",
            };
            assert_eq!(log.reason(), expected, "{name}");
        }
    }
}

each_kind!(a_failure_disturbs_no_other_connection_not_even_of_the_same_poll);
fn a_failure_disturbs_no_other_connection_not_even_of_the_same_poll(kind: Kind) {
    for policy in [PanicPolicy::Isolate, PanicPolicy::Propagate] {
        let mut event_loop = EventLoop::builder().panic_policy(policy).build().unwrap();
        let failures = failures(event_loop.handle());
        let mut echoes = Vec::new();
        let mut failing = Vec::new();
        for i in 0..20 {
            let log = Log::new();
            let protocol = match i % 4 {
                0 => Recorder::new(&log).on_data(|_, _| Err("failing on purpose".into())),
                2 => Recorder::new(&log).on_data(|_, _| panic!("panicking on purpose")),
                _ => Recorder::echo(&log),
            };
            let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
            peer.send(b"hello");
            let list = if i % 2 == 0 {
                &mut failing
            } else {
                &mut echoes
            };
            list.push((log, transport, peer));
        }
        let ticks = catch_unwind(AssertUnwindSafe(|| {
            drive(&mut event_loop, "all lost", || {
                failing.iter().all(|(log, ..)| log.is_lost())
            });
        }));
        if let Err(payload) = &ticks {
            let said = payload.downcast_ref::<&str>();
            assert_eq!(said, Some(&"panicking on purpose"));
        }
        assert_eq!(ticks.is_err(), policy == PanicPolicy::Propagate);
        // The loop goes on where it was, also after a panic went through.
        for (_, transport, peer) in &mut echoes {
            peer.expect(&mut event_loop, 5);
            transport.write(b", again").unwrap();
            peer.expect(&mut event_loop, 12);
            assert_eq!(peer.received(), b"hello, again");
        }
        drive(&mut event_loop, "all lost", || {
            failing.iter().all(|(log, ..)| log.is_lost())
        });
        for (place, (log, ..)) in failing.iter().enumerate() {
            let expected = ["callback", "panic"][place % 2];
            assert_eq!(log.reason(), expected);
            assert_eq!(log.words(), ["made", "data", "lost"]);
        }
        assert_eq!(failures.borrow().len(), 10);
        assert_eq!(event_loop.handle().stats().connections, 10);
    }
}

each_kind!(a_panic_that_is_to_propagate_does_so_at_the_end_of_the_tick_with_payload);
fn a_panic_that_is_to_propagate_does_so_at_the_end_of_the_tick_with_payload(kind: Kind) {
    let mut event_loop = EventLoop::builder()
        .panic_policy(PanicPolicy::Propagate)
        .build()
        .unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|_, _| std::panic::panic_any(Box::new(42_u32)));
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"go");
    let ticks = AssertUnwindSafe(|| drive(&mut event_loop, "the panic", || false));
    let payload = catch_unwind(ticks).unwrap_err();
    assert_eq!(**payload.downcast_ref::<Box<u32>>().unwrap(), 42);
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert_eq!(log.reason(), "panic");
    // It goes on once.
    settle(&mut event_loop);
}

each_kind!(a_panic_in_connection_lost_is_only_reported);
fn a_panic_in_connection_lost_is_only_reported(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let log = Log::new();
    let protocol = Recorder::new(&log).on_lost(|_, _| panic!("panicking on purpose"));
    let (transport, peer) = adopted(event_loop.handle(), kind, protocol);
    let waiting = transport.wait_closed();
    peer.shutdown_write();
    let closed = event_loop.run_until(waiting).unwrap();
    assert!(closed.is_clean());
    assert!(matches!(closed.reason(), CloseReason::PeerEof));
    assert_eq!(failures.borrow().len(), 1);
    assert_eq!(failures.borrow()[0].context(), "connection_lost");
    assert_eq!(log.dropped(), 1);
    settle(&mut event_loop);
    let left = event_loop.handle().stats();
    assert_eq!(left.connections + left.lingering + left.completions, 0);
}
