//! Code of users that runs while a connection leaves its loop: every callback may detach, and `leftover` may do
//! anything.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use support::{Hooked, Kind, Log, MIB, Peer, Recorder, Scene, closed_of, drive, each_kind, settle};
use tidegate::{
    CloseReason, Completion, Detached, EventLoop, OnEof, OnPause, Transport, Wrap, WriteError,
};

type Leaving = Rc<RefCell<Option<Completion<Detached>>>>;

type Code = Box<dyn FnOnce(&Transport)>;

/// A protocol that runs code in its `leftover`, the first time.
struct Keeps {
    recorder: Recorder,
    transport: Rc<RefCell<Option<Transport>>>,
    code: Option<Code>,
}

impl Wrap for Keeps {
    type Inner = Recorder;

    fn wrapped(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn leftover(&mut self) -> Vec<u8> {
        match (self.code.take(), &*self.transport.borrow()) {
            (Some(code), Some(transport)) => {
                code(transport);
                b"left over".to_vec()
            }
            _ => Vec::new(),
        }
    }
}

struct Left {
    event_loop: EventLoop,
    log: Log,
    transport: Transport,
    peer: Peer,
    result: io::Result<Detached>,
}

/// Detaches a connection whose `leftover` runs `code`.
fn leave(kind: Kind, code: impl FnOnce(&Transport) + 'static) -> Left {
    let mut event_loop = EventLoop::new().unwrap();
    let (log, place) = (Log::new(), Rc::default());
    let keeps = Keeps {
        recorder: Recorder::new(&log),
        transport: Rc::clone(&place),
        code: Some(Box::new(code)),
    };
    let (transport, peer) = Scene::of(kind).on(&mut event_loop, keeps);
    place.replace(Some(transport.clone()));
    let result = event_loop.run_until(transport.detach());
    Left {
        event_loop,
        log,
        transport,
        peer,
        result,
    }
}

each_kind!(a_leftover_that_closes_or_aborts_keeps_the_connection_which_then_ends);
fn a_leftover_that_closes_or_aborts_keeps_the_connection_which_then_ends(kind: Kind) {
    type End = fn(&Transport);
    let ends: [(End, &str); 2] = [
        (Transport::close, "local-close"),
        (Transport::abort, "local-abort"),
    ];
    for (end, reason) in ends {
        let mut left = leave(kind, end);
        let error = left.result.unwrap_err();
        assert!(WriteError::of(&error).is_some(), "{error:?}");
        drive(&mut left.event_loop, "the end", || left.log.is_lost());
        assert_eq!(left.log.reason(), reason);
        left.peer.expect_end(&mut left.event_loop);
    }
}

each_kind!(a_leftover_that_writes_has_its_bytes_go_along);
fn a_leftover_that_writes_has_its_bytes_go_along(kind: Kind) {
    let left = leave(kind, |transport| {
        transport.write(b"last words").unwrap();
    });
    let (mut event_loop, mut peer) = (EventLoop::new().unwrap(), left.peer);
    let detached = left.result.unwrap();
    assert_eq!(detached.unread(), b"left over");
    let log = Log::new();
    let handle = event_loop.handle();
    handle.attach(detached, Recorder::new(&log)).unwrap();
    peer.expect(&mut event_loop, 10);
    assert_eq!(peer.received(), b"last words");
    drive(&mut event_loop, "the rest", || log.data() == b"left over");
}

each_kind!(a_second_detach_within_leftover_is_told_that_it_has_left);
fn a_second_detach_within_leftover_is_told_that_it_has_left(kind: Kind) {
    let second = Leaving::default();
    let into = second.clone();
    let mut left = leave(kind, move |transport| {
        into.replace(Some(transport.detach()));
    });
    assert_eq!(left.result.unwrap().unread(), b"left over");
    let second = second.take().unwrap();
    assert!(second.is_ready());
    let closed = closed_of(left.event_loop.run_until(second));
    assert_eq!(closed.reason(), &CloseReason::Detached);
}

each_kind!(the_bytes_of_a_protocol_that_leftover_sets_go_along_without_it);
fn the_bytes_of_a_protocol_that_leftover_sets_go_along_without_it(kind: Kind) {
    let other = Log::new().switched_in();
    let recorder = Recorder::new(&other);
    let mut left = leave(kind, move |transport| {
        transport.set_protocol(recorder, b"unread, ").unwrap();
    });
    assert_eq!(left.result.unwrap().unread(), b"unread, left over");
    settle(&mut left.event_loop);
    assert_eq!((other.dropped(), other.words()), (1, vec!["made".into()]));
    drop(left.transport);
}

each_kind!(a_leftover_that_puts_a_layer_on_keeps_the_connection);
fn a_leftover_that_puts_a_layer_on_keeps_the_connection(kind: Kind) {
    let layer = Hooked::new(|_, _| Ok(()));
    let mut left = leave(kind, move |transport| {
        transport.push_layer(layer, b"").detach();
    });
    let error = left.result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    left.peer.send(b", more");
    drive(&mut left.event_loop, "bytes through the layer", || {
        left.log.data() == b"left over, more"
    });
}

each_kind!(every_callback_but_the_last_may_detach);
fn every_callback_but_the_last_may_detach(kind: Kind) {
    for callback in ["made", "data", "eof", "pause", "resume", "lost"] {
        let leaving = Leaving::default();
        let into = leaving.clone();
        let here = move |own: &str, transport: &Transport| {
            if own == callback && into.borrow().is_none() {
                into.replace(Some(transport.detach()));
            }
        };
        let heres: [_; 6] = std::array::from_fn(|_| here.clone());
        let [made, data, eof, pause, resume, lost] = heres;
        let log = Log::new();
        let recorder = Recorder::new(&log)
            .on_made(move |transport| {
                made("made", transport);
                Ok(())
            })
            .on_data(move |transport, _| {
                data("data", transport);
                Ok(())
            })
            .on_eof(move |transport| {
                eof("eof", transport);
                Ok(OnEof::KeepOpen)
            })
            .on_pause(move |transport| {
                pause("pause", transport);
                Ok(OnPause::StopReading)
            })
            .on_resume(move |transport| {
                resume("resume", transport);
                Ok(())
            })
            .on_lost(move |transport, _| lost("lost", transport));
        let mut event_loop = EventLoop::new().unwrap();
        let scene = match callback {
            "pause" | "resume" => Scene::of(kind).stalled(MIB),
            _ => Scene::of(kind),
        };
        let (transport, mut peer) = scene.on(&mut event_loop, recorder);
        let written = transport.written() as usize;
        match callback {
            "data" => peer.send(b"?"),
            "eof" => peer.shutdown_write(),
            "lost" => transport.abort(),
            _ => {}
        }
        drive(&mut event_loop, callback, || {
            if callback == "resume" {
                peer.read_available();
            }
            leaving.borrow().is_some()
        });
        let result = event_loop.run_until(leaving.take().unwrap());
        if callback == "lost" {
            closed_of(result);
            continue;
        }
        assert!(!log.is_lost(), "{callback}");
        let log = Log::new();
        let handle = event_loop.handle();
        let moved = handle.attach(result.unwrap(), Recorder::echo(&log));
        moved.unwrap();
        if callback == "eof" {
            drive(&mut event_loop, "the end", || log.is_lost());
            assert_eq!(log.reason(), "peer-eof");
            continue;
        }
        peer.send(b"!");
        peer.expect(&mut event_loop, written + 1);
        assert!(peer.received().ends_with(b"!"), "{callback}");
    }
}

each_kind!(a_callback_that_detaches_and_fails_ends_the_connection);
fn a_callback_that_detaches_and_fails_ends_the_connection(kind: Kind) {
    for panics in [false, true] {
        let leaving = Leaving::default();
        let into = leaving.clone();
        let (mut event_loop, log, _, mut peer) = Scene::of(kind).set_with(|recorder| {
            recorder.on_data(move |transport, _| {
                into.replace(Some(transport.detach()));
                assert!(!panics, "panicking on purpose");
                Err("failing on purpose".into())
            })
        });
        peer.send(b"?");
        drive(&mut event_loop, "the end", || log.is_lost());
        let closed = closed_of(event_loop.run_until(leaving.take().unwrap()));
        assert_eq!(closed, log.closed());
        peer.expect_end(&mut event_loop);
    }
}

each_kind!(pauses_and_holds_of_reading_stay_behind);
fn pauses_and_holds_of_reading_stay_behind(kind: Kind) {
    let (mut first, _, transport, mut peer) = Scene::of(kind).set();
    let hold = transport.hold_reading();
    transport.pause_reading();
    peer.send(b"waits");
    settle(&mut first);
    let detached = first.run_until(transport.detach()).unwrap();
    let mut second = EventLoop::new().unwrap();
    let log = Log::new();
    let handle = second.handle();
    let moved = handle.attach(detached, Recorder::new(&log)).unwrap();
    drive(&mut second, "bytes", || log.data() == b"waits");
    // One of the new connection's own is not lifted by the end of an old one.
    let own = moved.hold_reading();
    drop(hold);
    transport.resume_reading();
    peer.send(b", more");
    settle(&mut second);
    settle(&mut first);
    assert_eq!(log.data(), b"waits");
    drop(own);
    drive(&mut second, "the rest", || log.data() == b"waits, more");
}
