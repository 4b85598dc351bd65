//! Bad use: an error or nothing at all, never a panic.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{
    Kind, Log, Peer, Recorder, Scene, Seen, adopted, answer, drive, each_kind, failures, flood,
    settle, tick,
};
use tidegate::{
    CloseReason, Closed, EventLoop, Handle, ListenOptions, LoopClosed, Protocol, Result, Server,
    Transport, WriteError, WriteLimits,
};

#[track_caller]
fn is_loop_closed(error: &io::Error) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    assert_eq!(inner, Some(&LoopClosed), "{error}");
}

each_kind!(a_write_after_close_is_refused_as_closing_and_after_the_end_as_closed);
fn a_write_after_close_is_refused_as_closing_and_after_the_end_as_closed(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    transport.write(b"before").unwrap();
    transport.close();
    transport.close();
    for _ in 0..2 {
        let refused = transport.write(b"after").unwrap_err();
        assert!(matches!(refused, WriteError::Closing { .. }), "{refused}");
        assert_eq!(refused.transport(), transport.id());
        assert!(transport.write_eof().is_err());
    }
    // Nothing to write is no write.
    transport.write(b"").unwrap();
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(peer.received(), b"before");
    let refused = transport.write(b"after").unwrap_err();
    assert!(refused.closed().unwrap().is_clean());
    transport.close();
    transport.abort();
    transport.close_within(Duration::ZERO);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.reason(), "local-close");
}

#[test]
fn wrong_limits_are_refused_and_change_nothing() {
    let (transport, _peer) = adopted(
        EventLoop::new().unwrap().handle(),
        Kind::Tcp,
        Recorder::default(),
    );
    let before = transport.write_limits();
    let wrong = [
        WriteLimits::new().with_high(1).with_low(2),
        WriteLimits::new().with_cap(0).with_high(0),
        WriteLimits::new().with_high(11).with_cap(10),
        WriteLimits::new().with_low(usize::MAX),
    ];
    for limits in wrong {
        let refused = transport.set_write_limits(limits).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(transport.write_limits(), before);
    }
}

#[test]
fn stopping_a_stopped_loop_ends_one_later_run_at_most() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    handle.stop();
    handle.stop();
    event_loop.run_forever().unwrap();
    // Both were used up: this run ends by its own stop.
    let start = Instant::now();
    let pause = Duration::from_millis(5);
    handle.call_later(pause, |handle| {
        handle.stop();
        handle.stop();
    });
    event_loop.run_forever().unwrap();
    assert!(start.elapsed() >= pause);
}

#[test]
fn a_server_may_be_closed_within_any_callback_of_its_own() {
    type Close = fn(&Server);
    let closes: [Close; 6] = [
        Server::close,
        |server| server.finish_accepting().detach(),
        |server| {
            (
                server.pause_accepting(),
                server.close(),
                server.resume_accepting(),
            )
                .1
        },
        |server| server.shutdown(Duration::ZERO).detach(),
        |server| (server.abort_clients(), server.close()).1,
        |server| (server.close_clients(), server.close(), server.close()).2,
    ];
    for close in closes {
        for place in ["factory", "made", "data", "eof", "lost"] {
            let mut event_loop = EventLoop::new().unwrap();
            let failures = failures(event_loop.handle());
            let slot: Rc<RefCell<Option<Server>>> = Rc::default();
            let closed = Rc::new(Cell::new(false));
            let here = {
                let (slot, closed) = (slot.clone(), closed.clone());
                move |at| {
                    if at == place {
                        close(slot.borrow().as_ref().unwrap());
                        closed.set(true);
                    }
                }
            };
            let factory = move || {
                here("factory");
                let (made, data, eof, lost) =
                    (here.clone(), here.clone(), here.clone(), here.clone());
                Recorder::new(&Log::new())
                    .on_made(move |_| {
                        made("made");
                        Ok(())
                    })
                    .on_data(move |_, _| {
                        data("data");
                        Ok(())
                    })
                    .on_eof(move |_| {
                        eof("eof");
                        Ok(tidegate::OnEof::Close)
                    })
                    .on_lost(move |_, _| lost("lost"))
            };
            let server = event_loop
                .handle()
                .create_server("127.0.0.1:0", factory)
                .unwrap();
            slot.replace(Some(server.clone()));
            // Its slot keeps the server alive in its own factory: taken out below.
            let mut peers = [(); 2].map(|()| Peer::connect(&server.local_addrs()[0]));
            for peer in &mut peers {
                peer.send(b"go");
                peer.shutdown_write();
            }
            event_loop.run_until(server.wait_closed()).unwrap();
            assert!(closed.get(), "{place}");
            assert!(!server.is_serving());
            assert_eq!(server.connection_count(), 0);
            assert_eq!(
                server.start_serving().unwrap_err().kind(),
                ErrorKind::NotConnected
            );
            for peer in &mut peers {
                peer.expect_end(&mut event_loop);
            }
            settle(&mut event_loop);
            let left = event_loop.handle().stats();
            assert_eq!(left.connections + left.listeners + left.timers, 0);
            assert!(failures.borrow().is_empty(), "{failures:?}");
            slot.take();
        }
    }
}

each_kind!(dropping_every_handle_within_a_callback_ends_nothing);
fn dropping_every_handle_within_a_callback_ends_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let all: Rc<RefCell<Option<(Handle, Transport, Server)>>> = Rc::default();
    let dropping = all.clone();
    let protocol = Recorder::new(&log).on_data(move |transport, data| {
        drop(dropping.take());
        transport.write(data)?;
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    let handle = event_loop.handle().clone();
    let server_log = Log::new();
    let factory = {
        let log = server_log.clone();
        move || Recorder::echo(&log)
    };
    let server = handle.create_server("127.0.0.1:0", factory).unwrap();
    let address = server.local_addrs()[0].clone();
    all.replace(Some((handle, transport, server)));
    for len in [5, 10] {
        peer.send(b"hello");
        peer.expect(&mut event_loop, len);
    }
    assert!(all.borrow().is_none());
    let mut client = Peer::connect(&address);
    client.send(b"served");
    client.expect(&mut event_loop, 6);
    assert_eq!(log.words(), ["made", "data"]);
}

thread_local! {
    /// The transport that dropped owners write to (they must be `Send`), and their number.
    static OWNERS: RefCell<Option<(Transport, u32)>> = const { RefCell::new(None) };
}

fn owners_dropped() -> u32 {
    OWNERS.with_borrow(|owners| owners.as_ref().map_or(0, |(_, drops)| *drops))
}

/// Bytes whose owner writes when it is dropped.
struct WritesOnDrop(&'static [u8]);

impl AsRef<[u8]> for WritesOnDrop {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl Drop for WritesOnDrop {
    fn drop(&mut self) {
        OWNERS.with_borrow_mut(|owners| {
            let (transport, drops) = owners.as_mut().unwrap();
            *drops += 1;
            // Refused in some of the cases.
            let _ = transport.write(b" dropped");
        });
    }
}

each_kind!(an_owner_of_bytes_may_write_to_the_same_transport_when_it_is_dropped);
fn an_owner_of_bytes_may_write_to_the_same_transport_when_it_is_dropped(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    OWNERS.set(Some((transport.clone(), 0)));
    let owned = |text| Bytes::from_owner(WritesOnDrop(text));
    // Sent, small and large; empty; and of no use any more.
    transport.write_owned(owned(b"small")).unwrap();
    peer.expect(&mut event_loop, 13);
    assert_eq!(peer.received(), b"small dropped");
    transport.write_owned(owned(&[b'x'; 100_000])).unwrap();
    peer.expect(&mut event_loop, 100_021);
    assert!(peer.received().ends_with(b"x dropped"));
    transport.write_owned(owned(b"")).unwrap();
    peer.expect(&mut event_loop, 100_029);
    assert_eq!(owners_dropped(), 3);
    flood(&transport);
    transport.write_owned(owned(b"queued")).unwrap();
    transport.abort();
    transport.write_owned(owned(b"refused")).unwrap_err();
    assert_eq!(owners_dropped(), 3);
    drive(&mut event_loop, "the drops", || owners_dropped() == 5);
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(event_loop.handle().stats().connections, 0);
}

each_kind!(a_loop_may_be_dropped_with_connections_alive_in_every_state);
fn a_loop_may_be_dropped_with_connections_alive_in_every_state(kind: Kind) {
    type Prepare = fn(&Transport);
    let states: [(Prepare, &str); 6] = [
        (|_| {}, "shutdown"),
        (flood, "shutdown"),
        (|transport| transport.pause_reading(), "shutdown"),
        (|transport| drop(transport.write_eof()), "shutdown"),
        (
            |transport| {
                flood(transport);
                transport.close();
            },
            "shutdown",
        ),
        (Transport::abort, "local-abort"),
    ];
    for turned in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let mut all = Vec::new();
        for (prepare, reason) in states {
            let log = Log::new();
            let (transport, peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
            if turned {
                settle(&mut event_loop);
            }
            prepare(&transport);
            all.push((log, transport, peer, reason));
        }
        drop(event_loop);
        for (log, transport, mut peer, reason) in all {
            // A tick in between told of the pause.
            let words = log.words().into_iter().filter(|word| word != "pause");
            assert_eq!(words.collect::<Vec<_>>(), ["made", "lost"]);
            assert_eq!((log.reason().as_str(), log.dropped()), (reason, 1));
            assert!(transport.is_closing());
            drive(&mut EventLoop::new().unwrap(), "the end", || {
                peer.read_available();
                peer.is_ended()
            });
        }
    }
}

each_kind!(the_loop_may_run_within_with_protocol_and_leaves_the_protocol_alone);
fn the_loop_may_run_within_with_protocol_and_leaves_the_protocol_alone(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (log, other_log) = (Log::new(), Log::new());
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
    let (_, mut other) = adopted(event_loop.handle(), kind, Recorder::echo(&other_log));
    settle(&mut event_loop);
    peer.send(b"hello");
    let closures = log.clone();
    let note = move |what: &'static str| {
        let log = closures.clone();
        move |_: &mut Recorder, _: &Transport| -> Result {
            log.note(what);
            Ok(())
        }
    };
    transport.call_soon(note("soon"));
    transport.call_later(Duration::ZERO, note("later"));
    let flushed = note("then");
    let then = move |this: &mut Recorder, transport: &Transport, _| flushed(this, transport);
    transport.flush().then_on(&transport, then);
    let ran = transport.with_protocol(|_: &mut Recorder, transport| {
        other.send(b"other");
        other.expect(&mut event_loop, 5);
        flood(transport);
        for _ in 0..10 {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        log.words()
    });
    // The other connection went on; this one's callbacks wait, and none of them is lost.
    assert_eq!(ran.unwrap(), ["made"]);
    drive(&mut event_loop, "all of it", || {
        peer.read_available();
        log.words().len() >= 6 && log.has(&Seen::Resume) && log.data_len() == 5
    });
    let words = log.words();
    for what in ["soon", "later", "then", "pause", "data", "resume"] {
        assert_eq!(
            words.iter().filter(|word| *word == what).count(),
            1,
            "{words:?}"
        );
    }
}

each_kind!(reading_resumes_after_a_pause_and_a_run_of_the_loop_within_with_protocol);
fn reading_resumes_after_a_pause_and_a_run_of_the_loop_within_with_protocol(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    transport.pause_reading();
    peer.send(b"hello");
    settle(&mut event_loop);
    // One tick notes that it is to be read, and the next one would read it.
    transport.resume_reading();
    tick(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport
        .with_protocol(|_: &mut Recorder, transport| {
            transport.pause_reading();
            tick(&mut event_loop);
        })
        .unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "the bytes", || log.data_len() == 5);
}

each_kind!(after_the_loop_was_dropped_everything_fails_and_nothing_panics);
fn after_the_loop_was_dropped_everything_fails_and_nothing_panics(kind: Kind) {
    struct Plain;
    impl Protocol for Plain {}
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let dropped = Rc::new(Cell::new(0));
    let (transport, _peer) = adopted(&handle, kind, Plain);
    let server = handle.create_server("127.0.0.1:0", || Plain).unwrap();
    let idle = ListenOptions::new("127.0.0.1:0").start_serving(false);
    let idle = handle.create_server(idle, || Plain).unwrap();
    let remote = handle.remote();
    let (completer, mut pending) = handle.completion::<u32>();
    settle(&mut event_loop);
    drop(event_loop);

    is_loop_closed(&answer(&mut pending).unwrap().unwrap_err());
    assert!(completer.is_cancelled());
    completer.complete(Ok(1));
    let tell = || Tell(dropped.clone());
    let held = tell();
    handle.call_soon(move |_| drop(held)).cancel();
    let held = tell();
    handle.call_later(Duration::ZERO, move |_| drop(held));
    let held = tell();
    handle.call_at(Instant::now(), move |_| drop(held));
    let held = tell();
    transport.call_soon(move |_: &mut Plain, _| {
        drop(held);
        Ok(())
    });
    let held = tell();
    transport.call_later(Duration::ZERO, move |_: &mut Plain, _| {
        drop(held);
        Ok(())
    });
    let held = tell();
    let (_completer, completion) = handle.completion::<u32>();
    completion.then(move |_, _| drop(held));
    let held = tell();
    handle.set_error_handler(move |_, _| {
        let _ = &held;
    });
    assert_eq!(dropped.get(), 7);
    handle.callback(|_| panic!("it ran")).schedule();
    assert_eq!(remote.call_soon_threadsafe(|_| ()), Err(LoopClosed));
    remote.stop();
    handle.stop();

    let refused = handle.create_server("127.0.0.1:0", || Plain);
    is_loop_closed(&refused.unwrap_err());
    is_loop_closed(&idle.start_serving().unwrap_err());
    let mut connecting = handle.create_connection("127.0.0.1:9", Plain);
    is_loop_closed(&answer(&mut connecting).unwrap().unwrap_err());
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    is_loop_closed(&handle.adopt(stream, Plain).unwrap_err());

    let closed = transport.closed().unwrap();
    assert!(matches!(closed.reason(), CloseReason::Shutdown));
    assert!(transport.write(b"x").unwrap_err().closed().is_some());
    let drained = answer(&mut transport.drain()).unwrap().unwrap_err();
    assert!(Closed::of(&drained).is_some());
    answer(&mut transport.flush()).unwrap().unwrap();
    answer(&mut transport.wait_closed()).unwrap().unwrap();
    assert!(transport.set_protocol(Plain, b"un").is_err());
    assert!(transport.with_protocol(|_: &mut Plain, _| ()).is_err());
    transport.close_within(Duration::ZERO);
    assert!(handle.transport(transport.id()).is_none());
    for server in [server, idle] {
        assert!(!server.is_serving());
        server.close_clients();
        server.abort_clients();
        server.close();
        server.shutdown(Duration::ZERO).detach();
    }
    assert_eq!(handle.stats().connections + handle.stats().listeners, 0);
}

/// Tells when it is dropped.
struct Tell(Rc<Cell<u32>>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}
