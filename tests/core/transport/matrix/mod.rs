//! Every callback calls every method of its transport; every callback fails.
//!
//! One scenario is played again and again: the peer sends, we flood it, it reads, closures run for
//! the protocol, the peer ends its stream. In one of the callbacks one thing is done, while a
//! `RefCell` is borrowed that every callback borrows too: a call back before the method returns
//! would panic.

mod scene;

use scene::{Action, CALLBACKS, Scene, TRACE, for_each_callback, place, quiesce, up_to};
use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, TempDir, drive, each_kind, failures};
use tidegate::{EventLoop, Result, Transport, WriteLimits};

const LONG: Duration = Duration::from_secs(3600);

fn action(call: impl Fn(&Transport) -> Result + 'static) -> Action {
    Rc::new(call)
}

/// A name and what it does; its result does not matter.
macro_rules! actions {
    ($($name:literal: |$transport:ident| $call:expr;)*) => {
        [$(($name, action(|$transport: &Transport| {
            let _ = $call;
            Ok(())
        })),)*]
    };
}

each_kind!(asking_writing_and_waiting_in_any_callback_leave_the_order_of_callbacks);
fn asking_writing_and_waiting_in_any_callback_leave_the_order_of_callbacks(kind: Kind) {
    let neutral = actions! {
        "write": |t| t.write(b"written");
        "write_owned": |t| t.write_owned(vec![1; 10]);
        "write_vectored": |t| t.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"c")]);
        "write_fmt": |t| write!(t, "{}", 12);
        "an empty write": |t| t.write(b"");
        "flow": |t| t.flow();
        "refused_write": |t| assert_eq!(t.refused_write(), None);
        "written": |t| t.written();
        "sent": |t| t.sent();
        "write_buffer_size": |t| t.write_buffer_size();
        "drain": |t| t.drain().detach();
        "drain, dropped": |t| drop(t.drain());
        "flush": |t| t.flush().detach();
        "wait_closed": |t| t.wait_closed().detach();
        "wait_closed, then": |t| t.wait_closed().then(|_, closed| assert!(closed.is_ok()));
        "is_closing": |t| t.is_closing();
        "closed": |t| t.closed();
        "resume_reading": |t| t.resume_reading();
        "is_reading": |t| t.is_reading();
        "set_write_limits": |t| t.set_write_limits(WriteLimits::new());
        "wrong limits": |t| t.set_write_limits(WriteLimits::new().with_cap(0)).unwrap_err();
        "write_limits": |t| t.write_limits();
        "set_unsent_low_water": |t| t.set_unsent_low_water(Some(1 << 20));
        "set_nodelay": |t| t.set_nodelay(false);
        "with_protocol": |t| assert!(t.with_protocol(|_: &mut Recorder, _| ()).is_err());
        "call_soon": |t| t.call_soon(|_: &mut Recorder, _| Ok(()));
        "call_later": |t| t.call_later(LONG, |_: &mut Recorder, _| Ok(()));
        "call_later, cancelled": |t| t.call_later(LONG, |_: &mut Recorder, _| Ok(())).cancel();
        "peer_addr": |t| t.peer_addr();
        "local_addr": |t| t.local_addr();
        "is_accepted": |t| assert!(t.is_accepted());
        "id": |t| assert_eq!(t.id(), t.clone().id());
        "handle": |t| t.handle().transport(t.id());
        "stats": |t| t.stats();
        "Debug": |t| format!("{t:?}");
    };
    for_each_callback(kind, &neutral, |_, scene, _, _| {
        assert_eq!(scene.log.words(), TRACE);
        assert_eq!(scene.log.reason(), "peer-eof");
        assert_eq!(scene.log.data(), b"ping");
    });
}

each_kind!(pause_and_resume_of_reading_in_any_callback_only_delay_what_is_read);
fn pause_and_resume_of_reading_in_any_callback_only_delay_what_is_read(kind: Kind) {
    let pausing = actions! {
        "pause_reading": |t| t.pause_reading();
        "pause_reading twice": |t| (t.pause_reading(), t.pause_reading());
    };
    for_each_callback(kind, &pausing, |callback, scene, _, _| {
        let delayed = callback == "made" || callback == "get_buffer";
        if delayed {
            let late = [
                "made", "pause", "resume", "soon", "then", "data", "eof", "lost",
            ];
            assert_eq!(scene.log.words(), late);
        } else {
            assert_eq!(scene.log.words(), TRACE);
        }
        assert_eq!(scene.log.reason(), "peer-eof");
        assert_eq!(scene.log.data(), b"ping");
    });
}

each_kind!(write_eof_in_any_callback_ends_writing_and_nothing_else);
fn write_eof_in_any_callback_ends_writing_and_nothing_else(kind: Kind) {
    let ending = actions! {
        "write_eof": |t| t.write_eof();
        "write_eof twice": |t| (t.write_eof(), t.write_eof());
    };
    for_each_callback(kind, &ending, |callback, scene, _, _| {
        if place(callback) < place("pause") {
            // There was nothing to flood with.
            assert_eq!(
                scene.log.words(),
                ["made", "data", "soon", "then", "eof", "lost"]
            );
        } else {
            assert_eq!(scene.log.words(), TRACE);
        }
        assert_eq!(scene.log.reason(), "peer-eof");
    });
}

each_kind!(after_close_in_any_callback_only_connection_lost_comes);
fn after_close_in_any_callback_only_connection_lost_comes(kind: Kind) {
    let closing = actions! {
        "close": |t| t.close();
        "close twice": |t| (t.close(), t.close());
        "write and close": |t| (t.write(b"last words"), t.close());
        "close_within": |t| t.close_within(LONG);
        "close_within after close": |t| (t.close(), t.close_within(LONG));
        "close and resume_reading": |t| (t.close(), t.resume_reading());
        "close and write": |t| (t.close(), assert!(t.write(b"late").is_err()));
    };
    for_each_callback(kind, &closing, |callback, scene, _, _| {
        let mut trace = up_to(callback);
        if callback != "lost" {
            trace.push("lost");
        }
        assert_eq!(scene.log.words(), trace);
        let after_eof = place(callback) >= place("eof");
        let reason = if after_eof { "peer-eof" } else { "local-close" };
        assert_eq!(scene.log.reason(), reason);
        assert!(scene.log.closed().is_clean());
    });
}

each_kind!(after_abort_in_any_callback_only_connection_lost_comes_and_at_once);
fn after_abort_in_any_callback_only_connection_lost_comes_and_at_once(kind: Kind) {
    let ending = actions! {
        "abort": |t| t.abort();
        "reset": |t| t.reset();
        "abort twice": |t| (t.abort(), t.abort());
        "abort and reset": |t| (t.abort(), t.reset());
        "abort and close": |t| (t.abort(), t.close());
        "write and abort": |t| (t.write(b"lost words"), t.abort());
    };
    for_each_callback(kind, &ending, |callback, scene, transport, _| {
        let mut trace = up_to(callback);
        if callback == "lost" {
            assert_eq!(scene.log.reason(), "peer-eof");
        } else {
            trace.push("lost");
            assert_eq!(scene.log.reason(), "local-abort");
        }
        assert_eq!(scene.log.words(), trace);
        if callback == "pause" {
            assert!(transport.closed().unwrap().unsent() > 0);
        }
    });
}

each_kind!(fail_in_any_callback_ends_the_connection_as_an_error_of_the_callback_would);
fn fail_in_any_callback_ends_the_connection_as_an_error_of_the_callback_would(kind: Kind) {
    let failing = actions! {
        "fail": |t| t.fail("on purpose");
        "fail twice": |t| (t.fail("on purpose"), t.fail("once more"));
        "fail and close": |t| (t.fail("on purpose"), t.close());
        "write and fail": |t| (t.write(b"last words"), t.fail("on purpose"));
    };
    for_each_callback(kind, &failing, |callback, scene, _, _| {
        let mut trace = up_to(callback);
        if callback == "lost" {
            assert_eq!(scene.log.reason(), "peer-eof");
        } else {
            trace.push("lost");
            assert_eq!(scene.log.reason(), "callback");
        }
        assert_eq!(scene.log.words(), trace);
    });
}

each_kind!(a_reset_in_any_callback_is_seen_as_one_by_a_tcp_peer);
fn a_reset_in_any_callback_is_seen_as_one_by_a_tcp_peer(kind: Kind) {
    let resetting = actions! { "reset": |t| t.reset(); };
    for_each_callback(kind, &resetting, |callback, _, transport, peer| {
        let is_tcp = transport.peer_addr().as_inet().is_some();
        if is_tcp && callback != "lost" {
            assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
        }
    });
}

each_kind!(set_protocol_in_any_callback_hands_over_and_is_refused_in_connection_lost);
fn set_protocol_in_any_callback_hands_over_and_is_refused_in_connection_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    for callback in CALLBACKS {
        // The action needs the scene that holds it.
        let slot: Rc<RefCell<Option<Rc<Scene>>>> = Rc::default();
        let scene = Scene::new(callback, {
            let slot = slot.clone();
            action(move |transport| {
                let scene = slot.borrow_mut().take().unwrap();
                let switched = transport.set_protocol(scene.recorder(&scene.new), b"un");
                assert_eq!(
                    switched.is_err(),
                    transport.handle().transport(transport.id()).is_none()
                );
                scene.switched.set(true);
                Ok(())
            })
        });
        slot.replace(Some(scene.clone()));
        scene.play(&mut event_loop, kind);
        assert_eq!(scene.log.words(), up_to(callback), "{kind:?} {callback}");
        let after: &[&str] = match callback {
            "made" | "get_buffer" | "data" | "buffer_updated" => &[
                "made", "data", "pause", "resume", "soon", "then", "eof", "lost",
            ],
            // The hold on reading is the new one's own.
            "pause" => &[
                "made", "pause", "resume", "data", "soon", "then", "eof", "lost",
            ],
            "resume" => &["made", "data", "soon", "then", "eof", "lost"],
            "soon" => &["made", "data", "then", "eof", "lost"],
            "then" => &["made", "data", "eof", "lost"],
            // The old one's return value was to close.
            "eof" => &["made", "lost"],
            _ => &["made"],
        };
        assert_eq!(scene.new.words(), after, "{kind:?} {callback}");
        let data: &[u8] = match callback {
            "made" | "get_buffer" => b"unping",
            "eof" | "lost" => b"",
            _ => b"un",
        };
        assert_eq!(scene.new.data(), data, "{kind:?} {callback}");
        let last = if callback == "lost" {
            &scene.log
        } else {
            &scene.new
        };
        assert_eq!(last.reason(), "peer-eof");
    }
}

each_kind!(a_failure_in_any_callback_ends_that_connection_alone_and_leaves_nothing);
fn a_failure_in_any_callback_ends_that_connection_alone_and_leaves_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    for panics in [false, true] {
        for callback in CALLBACKS {
            if !panics && matches!(callback, "get_buffer" | "lost") {
                continue;
            }
            let scene = Scene::new(callback, {
                action(move |transport| {
                    if let Err(error) = transport.write(b"bye") {
                        assert_eq!(callback, "lost", "{error}");
                    }
                    match panics {
                        true => panic_any("the test's own panic"),
                        false => Err("the test's own error".into()),
                    }
                })
            });
            let (transport, peer) = scene.play(&mut event_loop, kind);
            let mut trace = up_to(callback);
            if callback == "lost" {
                assert_eq!(scene.log.reason(), "peer-eof");
            } else {
                trace.push("lost");
                let reason = if panics { "panic" } else { "callback" };
                assert_eq!(scene.log.reason(), reason, "{kind:?} {callback}");
                if callback != "pause" {
                    assert!(peer.received().ends_with(b"bye"), "{kind:?} {callback}");
                    assert_eq!(transport.closed().unwrap().unsent(), 0);
                }
            }
            assert_eq!(scene.log.words(), trace, "{kind:?} {callback}");
            let failures = failures.take();
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert_eq!(failures[0].transport(), Some(transport.id()));
            assert!(failures[0].to_string().contains("the test's own"));
        }
    }
    a_thousand_connections_work(&mut event_loop, kind);
    assert!(failures.take().is_empty());
}

fn a_thousand_connections_work(event_loop: &mut EventLoop, kind: Kind) {
    let dir = TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("s").display()),
    };
    let lost = Rc::new(Cell::new(0));
    let count = lost.clone();
    let factory = move || {
        let count = count.clone();
        Recorder::echo(&Log::new()).on_lost(move |_, closed| {
            assert!(closed.is_clean(), "{closed}");
            count.set(count.get() + 1);
        })
    };
    let server = event_loop.handle().create_server(at, factory).unwrap();
    for round in 0..10 {
        let mut peers: Vec<_> = (0..100)
            .map(|_| Peer::connect(&server.local_addrs()[0]))
            .collect();
        for peer in &mut peers {
            peer.send(b"hello");
        }
        for peer in &mut peers {
            peer.expect(event_loop, 5);
            peer.shutdown_write();
        }
        for peer in &mut peers {
            peer.expect_end(event_loop);
            assert_eq!(peer.received(), b"hello");
        }
        drive(event_loop, "lost", || lost.get() == (round + 1) * 100);
    }
    server.close();
    quiesce(event_loop);
    let left = event_loop.handle().stats();
    assert_eq!(
        left.connections + left.listeners + left.lingering + left.timers,
        0
    );
}
