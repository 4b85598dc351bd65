//! Every callback calls every method of its transport; every callback fails.
//!
//! One scenario is played again and again: the peer sends, we flood it, it reads, closures run for
//! the protocol, the peer ends its stream. In one of the callbacks one thing is done, while a
//! `RefCell` is borrowed that every callback borrows too: a call back before the method returns
//! would panic.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::net::Shutdown;
use std::panic::panic_any;
use std::rc::Rc;
use std::time::Duration;
use tests::{Kind, Log, Peer, Recorder, TempDir, adopted, drive, failures, flood};
use tidegate::{EventLoop, OnEof, OnPause, Result, Transport, WriteLimits};

/// The callbacks, by their place in the trace of the undisturbed scenario.
const TRACE: [&str; 8] = [
    "made", "data", "pause", "resume", "soon", "then", "eof", "lost",
];
const CALLBACKS: [&str; 10] = [
    "made",
    "get_buffer",
    "buffer_updated",
    "data",
    "pause",
    "resume",
    "soon",
    "then",
    "eof",
    "lost",
];
const LONG: Duration = Duration::from_secs(3600);

/// Where in [`TRACE`] a callback stands; `get_buffer` comes before the data.
fn place(callback: &str) -> usize {
    let word = match callback {
        "get_buffer" | "buffer_updated" => "data",
        word => word,
    };
    TRACE.iter().position(|at| *at == word).unwrap()
}

/// The trace up to the callback, this included.
fn up_to(callback: &str) -> Vec<&'static str> {
    let delivered = place(callback) + usize::from(callback != "get_buffer");
    TRACE[..delivered].to_vec()
}

type Action = Rc<dyn Fn(&Transport) -> Result>;

struct Scene {
    target: &'static str,
    action: Action,
    done: Cell<bool>,
    switched: Cell<bool>,
    own: RefCell<()>,
    log: Log,
    /// Of the protocol that `set_protocol` brings.
    new: Log,
}

impl Scene {
    fn new(target: &'static str, action: Action) -> Rc<Self> {
        Rc::new(Self {
            target,
            action,
            done: Cell::new(false),
            switched: Cell::new(false),
            own: RefCell::new(()),
            log: Log::new(),
            new: Log::new().switched_in(),
        })
    }

    fn enter(&self, callback: &str, transport: &Transport) -> Result {
        let _own = self.own.borrow_mut();
        if callback != self.target || self.done.replace(true) {
            return Ok(());
        }
        let before = (self.log.seen(), self.new.seen());
        let result = (self.action)(transport);
        assert_eq!((self.log.seen(), self.new.seen()), before, "{callback}");
        result
    }

    fn recorder(self: &Rc<Self>, log: &Log) -> Recorder {
        let scene = || self.clone();
        let (made, data, eof, pause, resume) = (scene(), scene(), scene(), scene(), scene());
        let (lost, get_buffer) = (scene(), scene());
        let buffered = self.target == "get_buffer" || self.target == "buffer_updated";
        let recorder = Recorder::new(log)
            .on_made(move |transport| made.enter("made", transport))
            .on_data(move |transport, _| {
                data.enter("data", transport)?;
                data.enter("buffer_updated", transport)
            })
            .on_eof(move |transport| {
                eof.enter("eof", transport)?;
                Ok(OnEof::Close)
            })
            .on_pause(move |transport| {
                pause.enter("pause", transport)?;
                Ok(OnPause::StopReading)
            })
            .on_resume(move |transport| resume.enter("resume", transport))
            .on_lost(move |transport, _| {
                // It has no answer; what fails here panics.
                let _ = lost.enter("lost", transport);
            })
            .on_get_buffer(move |transport, _| {
                let _ = get_buffer.enter("get_buffer", transport);
            });
        if buffered {
            recorder.buffered(64)
        } else {
            recorder
        }
    }

    /// Notes a closure that ran for the protocol.
    fn closure(&self, name: &'static str, transport: &Transport) -> Result {
        let log = if self.switched.get() {
            &self.new
        } else {
            &self.log
        };
        log.note(name);
        self.enter(name, transport)
    }

    fn is_lost(&self) -> bool {
        self.log.is_lost() || self.new.is_lost()
    }

    fn saw(&self, what: &str) -> bool {
        let saw = |log: &Log| log.words().iter().any(|word| word == what);
        saw(&self.log) || saw(&self.new)
    }

    /// Plays the scenario to the end of the connection.
    fn play(self: &Rc<Self>, event_loop: &mut EventLoop, kind: Kind) -> (Transport, Peer) {
        let protocol = self.recorder(&self.log);
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        peer.send(b"ping");
        drive(event_loop, "the ping", || {
            self.saw("data") || transport.is_closing() || self.done.get() && !transport.is_reading()
        });
        quiesce(event_loop);

        flood(&transport);
        if transport.flow().is_paused() && !transport.is_closing() {
            drive(event_loop, "the pause", || {
                self.saw("pause") || transport.is_closing()
            });
        }
        quiesce(event_loop);
        drive(event_loop, "the buffer to drain", || {
            peer.read_available();
            transport.write_buffer_size() == 0
        });
        quiesce(event_loop);

        let scene = self.clone();
        transport.call_soon(move |_: &mut Recorder, transport| scene.closure("soon", transport));
        quiesce(event_loop);
        let (completer, completion) = event_loop.handle().completion::<()>();
        let scene = self.clone();
        completion.then_on(&transport, move |_: &mut Recorder, transport, answer| {
            answer?;
            scene.closure("then", transport)
        });
        completer.complete(Ok(()));
        quiesce(event_loop);

        transport.resume_reading();
        quiesce(event_loop);
        // It fails when the connection was reset.
        let _ = peer.as_sock().shutdown(Shutdown::Write);
        drive(event_loop, "the end", || {
            peer.read_available();
            self.is_lost()
        });
        peer.expect_end(event_loop);
        self.check_nothing_is_left(event_loop, &transport, &peer);
        (transport, peer)
    }

    #[track_caller]
    fn check_nothing_is_left(
        &self,
        event_loop: &mut EventLoop,
        transport: &Transport,
        peer: &Peer,
    ) {
        let handle = event_loop.handle().clone();
        drive(event_loop, "nothing left", || {
            let left = handle.snapshot();
            left.connections + left.lingering + left.timers + left.completions == 0
        });
        assert!(self.done.get(), "{} did not come", self.target);
        assert!(handle.transport(transport.id()).is_none());
        assert!(transport.is_closing() && transport.closed().is_some());
        assert_eq!(self.log.dropped(), 1);
        assert_eq!(self.new.dropped(), u32::from(self.switched.get()));
        let closed = transport.closed().unwrap();
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        if closed.is_clean() {
            assert!(peer.saw_eof(), "{:?}", peer.saw_error());
            assert_eq!(peer.received().len() as u64, transport.written());
        }
    }
}

/// Turns without waiting, until one does nothing.
fn quiesce(event_loop: &mut EventLoop) {
    let mut quiet = 0;
    while quiet < 2 {
        let before = event_loop.handle().snapshot();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let mut after = event_loop.handle().snapshot();
        after.polls = before.polls;
        quiet = if after == before { quiet + 1 } else { 0 };
    }
}

/// Plays it on both kinds of sockets with each callback and each action; `check` sees how it ended.
fn for_each_callback(
    actions: &[(&'static str, Action)],
    check: impl Fn(&'static str, &Scene, &Transport, &Peer),
) {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        event_loop.handle().set_error_handler(|_, failure| {
            // Escapes the isolation: nothing here may fail.
            eprintln!("{failure}");
            std::process::abort();
        });
        for (name, action) in actions {
            for callback in CALLBACKS {
                println!("{kind:?}: {name} in {callback}");
                let scene = Scene::new(callback, action.clone());
                let (transport, peer) = scene.play(&mut event_loop, kind);
                check(callback, &scene, &transport, &peer);
            }
        }
    }
}

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

#[test]
fn asking_writing_and_waiting_in_any_callback_change_nothing_in_the_order_of_callbacks() {
    let neutral = actions! {
        "write": |t| t.write(b"written");
        "write_owned": |t| t.write_owned(vec![1; 10]);
        "write_vectored": |t| t.write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"c")]);
        "write_fmt": |t| write!(t, "{}", 12);
        "an empty write": |t| t.write(b"");
        "flow": |t| t.flow();
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
        "with_protocol": |t| assert!(t.with_protocol(|_: &mut Recorder, _| ()).is_none());
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
    for_each_callback(&neutral, |_, scene, _, _| {
        assert_eq!(scene.log.words(), TRACE);
        assert_eq!(scene.log.reason(), "peer-eof");
        assert_eq!(scene.log.data(), b"ping");
    });
}

#[test]
fn pause_and_resume_of_reading_in_any_callback_only_delay_what_is_read() {
    let pausing = actions! {
        "pause_reading": |t| t.pause_reading();
        "pause_reading twice": |t| (t.pause_reading(), t.pause_reading());
    };
    for_each_callback(&pausing, |callback, scene, _, _| {
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

#[test]
fn write_eof_in_any_callback_ends_writing_and_nothing_else() {
    let ending = actions! {
        "write_eof": |t| t.write_eof();
        "write_eof twice": |t| (t.write_eof(), t.write_eof());
    };
    for_each_callback(&ending, |callback, scene, _, _| {
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

#[test]
fn after_close_in_any_callback_only_connection_lost_comes() {
    let closing = actions! {
        "close": |t| t.close();
        "close twice": |t| (t.close(), t.close());
        "write and close": |t| (t.write(b"last words"), t.close());
        "close_within": |t| t.close_within(LONG);
        "close_within after close": |t| (t.close(), t.close_within(LONG));
        "close and resume_reading": |t| (t.close(), t.resume_reading());
        "close and write": |t| (t.close(), assert!(t.write(b"late").is_err()));
    };
    for_each_callback(&closing, |callback, scene, _, _| {
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

#[test]
fn after_abort_in_any_callback_only_connection_lost_comes_and_at_once() {
    let ending = actions! {
        "abort": |t| t.abort();
        "reset": |t| t.reset();
        "abort twice": |t| (t.abort(), t.abort());
        "abort and reset": |t| (t.abort(), t.reset());
        "abort and close": |t| (t.abort(), t.close());
        "write and abort": |t| (t.write(b"lost words"), t.abort());
    };
    for_each_callback(&ending, |callback, scene, transport, _| {
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

#[test]
fn a_reset_in_any_callback_is_seen_as_one_by_a_tcp_peer() {
    let resetting = actions! { "reset": |t| t.reset(); };
    for_each_callback(&resetting, |callback, _, transport, peer| {
        let is_tcp = transport.peer_addr().as_inet().is_some();
        if is_tcp && callback != "lost" {
            assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
        }
    });
}

#[test]
fn set_protocol_in_any_callback_hands_over_and_is_refused_in_connection_lost() {
    for kind in Kind::ALL {
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
                // The old one's answer was to close.
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
}

#[test]
fn a_failure_in_any_callback_ends_that_connection_alone_and_leaves_nothing_behind() {
    for kind in Kind::ALL {
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
    let left = event_loop.handle().snapshot();
    assert_eq!(
        left.connections + left.listeners + left.lingering + left.timers,
        0
    );
}
