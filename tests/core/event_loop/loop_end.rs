//! Dropping the loop: everybody is told, nothing outlives it, and later calls fail.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{
    BOUND, Kind, Log, MIB, Peer, Recorder, Scene, TempDir, adopted, answer, drive, each_kind,
    settle, stall,
};
use tidegate::{
    Address, Completion, EventLoop, Handle, ListenOptions, LoopClosed, OnPause, Transport,
    WriteError,
};

each_kind!(every_protocol_is_told_of_the_shutdown_whatever_its_state);
fn every_protocol_is_told_of_the_shutdown_whatever_its_state(kind: Kind) {
    type State = (
        &'static str,
        fn(&mut EventLoop, &Transport),
        &'static [&'static str],
    );
    let states: [State; 7] = [
        (
            "idle",
            |event_loop, _| settle(event_loop),
            &["made", "lost"],
        ),
        ("not made yet", |_, _| {}, &["made", "lost"]),
        (
            "paused",
            |event_loop, t| stall(event_loop, t, MIB),
            &["made", "pause", "lost"],
        ),
        (
            "closing",
            |event_loop, t| {
                stall(event_loop, t, MIB);
                t.close();
                settle(event_loop);
            },
            &["made", "pause", "lost"],
        ),
        (
            "reading paused",
            |event_loop, t| {
                t.pause_reading();
                settle(event_loop);
            },
            &["made", "lost"],
        ),
        (
            "half closed",
            |event_loop, t| {
                settle(event_loop);
                t.write_eof().unwrap();
                settle(event_loop);
            },
            &["made", "lost"],
        ),
        (
            "written to",
            |event_loop, t| {
                settle(event_loop);
                t.write(b"unsent").unwrap();
            },
            &["made", "lost"],
        ),
    ];
    for (name, prepare, words) in states {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let current = Rc::new(Cell::new(false));
        let seen = current.clone();
        let protocol = Recorder::new(&log)
            .on_pause(|_| Ok(OnPause::KeepReading))
            .on_lost(move |_, _| seen.set(Handle::current().is_some()));
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        prepare(&mut event_loop, &transport);
        drop(event_loop);
        assert_eq!(log.words(), words, "{name}");
        assert_eq!(log.reason(), "shutdown", "{name}");
        assert_eq!(log.dropped(), 1, "{name}");
        assert!(current.get(), "the ending loop is the current one");
        peer.read_available();
        assert!(peer.is_ended(), "{name}: the socket is open");
        let closed = transport.closed().unwrap();
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
    }
}

each_kind!(sockets_without_a_protocol_are_closed_too);
fn sockets_without_a_protocol_are_closed_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    // One that waits for its peer's end of stream.
    let log = Log::new();
    let (transport, mut lingering) = adopted(&handle, kind, Recorder::new(&log));
    settle(&mut event_loop);
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(handle.stats().lingering, 1);
    // A listener, and one that does not listen yet.
    let dir = TempDir::new();
    let (spare, address) = kind.listen(&dir);
    drop(spare);
    let server = handle.create_server(&address, || Recorder::new(&Log::new()));
    // A connect under way.
    let dir = TempDir::new();
    let (listener, full) = kind.listen(&dir);
    listener.listen(0).unwrap();
    let _filler = Peer::connect(&full);
    let protocol = Log::new();
    let connect = handle.create_connection(&full, Recorder::new(&protocol));
    settle(&mut event_loop);
    assert_eq!(handle.stats().connecting, 1);

    drop(event_loop);
    lingering.read_available();
    assert!(lingering.is_ended());
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(!server.unwrap().is_serving());
    if let Address::Unix(path) = &address {
        assert!(!path.exists(), "the socket file stayed");
    }
    assert_eq!((protocol.words().len(), protocol.dropped()), (0, 1));
    let error = finished(connect).unwrap_err();
    assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}");
    let now = handle.stats();
    assert_eq!(now.connections + now.listeners + now.connecting, 0);
    assert_eq!(now.lingering + now.timers + now.completions, 0);
}

/// Returns the result of a completion that must be there.
#[track_caller]
fn finished<T>(mut completion: Completion<T>) -> std::io::Result<T> {
    answer(&mut completion).expect("the completion was left without an answer")
}

#[test]
fn whatever_is_asked_for_after_the_end_fails_and_nothing_panics() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let (transport, _peer) = adopted(&handle, Kind::Tcp, Recorder::new(&log));
    let server = handle
        .create_server("127.0.0.1:0", || Recorder::new(&Log::new()))
        .unwrap();
    let later = handle
        .create_server(
            ListenOptions::new("127.0.0.1:0").start_serving(false),
            || Recorder::new(&Log::new()),
        )
        .unwrap();
    let callback = handle.callback(|_| panic!("called after the end"));
    let scheduled = handle.call_later(BOUND, |_| {});
    let (completer, completion) = handle.completion::<()>();
    settle(&mut event_loop);
    drop(event_loop);

    let alive = Rc::new(());
    let kept = || {
        let alive = alive.clone();
        move || panic!("{alive:?} was called after the end")
    };
    let call = kept();
    handle.call_soon(move |_| call()).cancel();
    let call = kept();
    handle.call_later(Duration::ZERO, move |_| call()).cancel();
    let call = kept();
    handle.call_at(Instant::now(), move |_| call()).cancel();
    let call = kept();
    let late = handle.callback(move |_| call());
    let call = kept();
    handle.set_error_handler(move |_, _| call());
    assert!(handle.now() <= Instant::now());
    handle.stop();
    assert!(handle.transport(transport.id()).is_none());
    assert_eq!(handle.stats().connections, 0);
    let call = kept();
    let error = handle
        .create_server("127.0.0.1:0", move || {
            call();
            Recorder::new(&Log::new())
        })
        .unwrap_err();
    assert!(error.get_ref().unwrap().is::<LoopClosed>());
    let log = Log::new();
    let connect = handle.create_connection("127.0.0.1:1", Recorder::new(&log));
    assert!(finished(connect).is_err());
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = handle.adopt(stream, Recorder::new(&log)).unwrap_err();
    assert!(error.get_ref().unwrap().is::<LoopClosed>());
    assert_eq!(log.dropped(), 2);
    assert_eq!(log.words(), [""; 0]);

    completer.complete(Ok(()));
    assert!(finished(completion).is_err());
    let (_completer, completion) = handle.completion::<()>();
    completion.within(Duration::ZERO).detach();
    callback.schedule();
    scheduled.cancel();

    assert!(matches!(
        transport.write(b"x"),
        Err(WriteError::Closed { .. })
    ));
    assert!(transport.write_eof().is_err());
    assert!(transport.set_protocol(Recorder::new(&log), b"x").is_err());
    assert!(transport.set_nodelay(true).is_err());
    assert!(finished(transport.drain()).is_err());
    assert!(finished(transport.wait_closed()).is_ok());
    let call = kept();
    transport.call_soon(move |_: &mut Recorder, _| {
        call();
        Ok(())
    });
    let call = kept();
    transport.call_later(Duration::ZERO, move |_: &mut Recorder, _| {
        call();
        Ok(())
    });
    transport.pause_reading();
    transport.resume_reading();
    transport.close();
    transport.close_within(Duration::ZERO);
    transport.abort();
    transport.reset();
    assert!(transport.with_protocol(|_: &mut Recorder, _| ()).is_err());

    for server in [&server, &later] {
        assert!(server.start_serving().is_err());
        assert!(!server.is_serving());
        server.close();
        server.close_clients();
        server.abort_clients();
        assert!(finished(server.wait_closed()).is_ok(), "it is closed");
        let report = server.shutdown(Duration::ZERO);
        assert!(finished(report).is_err());
    }
    assert!(handle.remote().call_soon_threadsafe(|_| {}).is_err());
    assert_eq!(Rc::strong_count(&alive), 1, "closures were kept");
    late.schedule();
}

#[test]
fn whatever_connection_lost_asks_for_during_the_end_fails_and_nothing_panics() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let alive = Rc::new(());
    let log = Log::new();
    let (other, _other_peer) = adopted(&handle, Kind::Unix, Recorder::new(&Log::new()));
    let kept = alive.clone();
    let protocol = Recorder::new(&log).on_lost(move |transport, _| {
        let handle = transport.handle();
        for _ in 0..2 {
            let alive = kept.clone();
            handle.call_soon(move |_| panic!("{alive:?}"));
            let alive = kept.clone();
            handle.call_later(Duration::ZERO, move |_| panic!("{alive:?}"));
            let alive = kept.clone();
            handle.callback(move |_| panic!("{alive:?}")).schedule();
            let alive = kept.clone();
            handle.set_error_handler(move |_, _| panic!("{alive:?}"));
            let alive = kept.clone();
            transport
                .wait_closed()
                .then(move |_, _| panic!("{alive:?}"));
        }
        assert!(transport.write(b"x").is_err());
        assert!(
            handle
                .create_server("127.0.0.1:0", || Recorder::new(&Log::new()))
                .is_err()
        );
        let connect = handle.create_connection("127.0.0.1:1", Recorder::new(&Log::new()));
        assert!(finished(connect).is_err());
        other.abort();
        transport.close();
    });
    let (_transport, _peer) = adopted(&handle, Kind::Unix, protocol);
    settle(&mut event_loop);
    drop(event_loop);
    assert_eq!(log.reason(), "shutdown");
    assert_eq!(Rc::strong_count(&alive), 1, "closures were kept");
}

#[test]
fn the_end_survives_drops_that_panic_and_drops_that_ask_for_more() {
    struct Bomb(Handle, Rc<()>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            let alive = self.1.clone();
            self.0.call_soon(move |_| panic!("{alive:?} was called"));
            panic!("on purpose");
        }
    }
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let alive = Rc::new(());
    let bomb = || Bomb(handle.clone(), alive.clone());
    let value = bomb();
    handle.call_soon(move |_| drop(value));
    let value = bomb();
    handle.call_later(BOUND, move |_| drop(value));
    let value = bomb();
    handle.set_error_handler(move |_, _| {
        let _ = &value;
    });
    let value = bomb();
    let (_transport, _peer) = adopted(
        &handle,
        Kind::Unix,
        Recorder::new(&Log::new()).on_lost(move |_, _| {
            let _ = &value;
            panic!("on purpose");
        }),
    );
    drop(event_loop);
    assert_eq!(Rc::strong_count(&alive), 1);
}

#[test]
fn a_loop_that_is_a_thread_local_value_ends_with_its_thread() {
    struct Told(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            assert!(Handle::current().is_none_or(|handle| handle.stats().connections == 0));
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    thread_local! {
        static LOOP: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
    }
    let dropped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Told(dropped.clone());
    let thread = std::thread::spawn(move || {
        // The thread's variables are dropped in the opposite order of their first use.
        LOOP.with_borrow_mut(|own| {
            let event_loop = own.insert(EventLoop::new().unwrap());
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
            event_loop.handle().call_soon(move |_| drop(told));
        });
    });
    thread.join().unwrap();
    assert!(dropped.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn a_protocol_that_is_in_use_when_the_loop_is_dropped_is_told_afterwards() {
    let (mut event_loop, log, transport, _peer) = Scene::of(Kind::Unix).set();
    settle(&mut event_loop);
    let used = transport.with_protocol(|_: &mut Recorder, _| drop(event_loop));
    assert!(used.is_ok());
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.dropped(), 1);
}
