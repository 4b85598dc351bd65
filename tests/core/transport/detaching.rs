//! Connections that leave their loop, and arrive in another.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use support::{
    Hooked, Kind, Log, MIB, Peer, Recorder, Scene, Seen, closed_of, drive, each_kind, failures,
    once, settle, tick,
};
use tidegate::{
    CloseReason, Detached, EventLoop, OnEof, Transport, WithProtocolError, WriteError, WriteLimits,
};

/// A loop with a connection of a recorder that does more, and its peer.
fn connected(
    kind: Kind,
    make: impl FnOnce(Recorder) -> Recorder,
) -> (EventLoop, Log, Transport, Peer) {
    Scene::of(kind).set_with(make)
}

/// Takes the connection out of its loop.
fn detach(event_loop: &mut EventLoop, transport: &Transport) -> Detached {
    event_loop.run_until(transport.detach()).unwrap()
}

fn attach(detached: Detached) -> (EventLoop, Log, Transport) {
    let event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let attached = event_loop.handle().attach(detached, Recorder::new(&log));
    (event_loop, log, attached.unwrap())
}

fn unsent_len(detached: &Detached) -> u64 {
    detached
        .unsent()
        .iter()
        .map(|bytes| bytes.len() as u64)
        .sum()
}

each_kind!(unsent_bytes_go_along_and_are_sent_before_all_else);
fn unsent_bytes_go_along_and_are_sent_before_all_else(kind: Kind) {
    let (mut first, log, transport, mut peer) = Scene::of(kind).stalled(MIB).set();
    transport.write(b"the last").unwrap();
    let written = transport.written();
    let detached = detach(&mut first, &transport);
    let closed = transport.closed().unwrap();
    assert_eq!(closed.reason(), &CloseReason::Detached);
    assert_eq!(closed.unsent(), unsent_len(&detached));
    assert_eq!(transport.sent() + closed.unsent(), written);
    assert!(!log.is_lost());
    assert_eq!(first.handle().stats().buffered, 0);

    let (mut second, log, transport) = attach(detached);
    assert_eq!(second.handle().stats().buffered, closed.unsent());
    assert_eq!(transport.written(), written);
    assert!(transport.flow().is_paused());
    drive(&mut second, "connection_made", || !log.seen().is_empty());
    transport.write(b", and a new one").unwrap();
    let total = transport.written() as usize;
    peer.expect(&mut second, total);
    assert!(peer.received().ends_with(b"the last, and a new one"));
    assert_eq!(transport.sent(), transport.written());
    assert_eq!(second.handle().stats().buffered, 0);
}

each_kind!(bytes_arrive_in_the_order_set_protocol_leftover_given_back_kernel);
fn bytes_arrive_in_the_order_set_protocol_leftover_given_back_kernel(kind: Kind) {
    struct Keeps(Recorder);
    impl tidegate::Wrap for Keeps {
        type Inner = Recorder;
        fn wrapped(&mut self) -> &mut Recorder {
            &mut self.0
        }
        fn leftover(&mut self) -> Vec<u8> {
            b"leftover, ".to_vec()
        }
    }
    let mut first = EventLoop::new().unwrap();
    let (log, replaced) = (Log::new(), Log::new().switched_in());
    let completion = Rc::new(RefCell::new(None));
    let kept = completion.clone();
    let mut next = once(Recorder::new(&replaced));
    let protocol = Keeps(Recorder::new(&log).on_data(move |transport, data| {
        transport.unread(&data[1..]);
        transport.set_protocol(next().unwrap(), b"unread, ")?;
        kept.replace(Some(transport.detach()));
        Ok(())
    }));
    let (_, mut peer) = Scene::of(kind).on(&mut first, protocol);
    peer.send(b"|given back, ");
    drive(&mut first, "the detach", || {
        completion
            .borrow()
            .as_ref()
            .is_some_and(tidegate::Completion::is_ready)
    });
    peer.send(b"kernel");
    let detached = first.run_until(completion.take().unwrap()).unwrap();
    assert_eq!(detached.unread(), b"unread, leftover, given back, ");
    assert_eq!(replaced.data_len(), 0);
    let (mut second, log, _) = attach(detached);
    drive(&mut second, "all bytes", || log.data_len() == 36);
    assert_eq!(log.data(), b"unread, leftover, given back, kernel");
}

each_kind!(it_leaves_when_the_running_callback_has_returned_and_its_protocol_gets_nothing_more);
fn it_leaves_when_the_running_callback_has_returned_and_its_protocol_gets_nothing_more(kind: Kind) {
    let detached = Rc::new(RefCell::new(None));
    let into = detached.clone();
    let (mut first, log, transport, mut peer) = connected(kind, |recorder| {
        recorder.on_data(move |transport, _| {
            let into = into.clone();
            transport.detach().then(move |_, result| {
                into.replace(Some(result.unwrap()));
            });
            assert!(!transport.wants_input());
            assert_eq!(transport.closed(), None);
            transport.call_soon(|_: &mut Recorder, _| panic!("it is gone"));
            transport.write(b"still here")?;
            Ok(())
        })
    });
    peer.send(b"go");
    drive(&mut first, "the detach", || detached.borrow().is_some());
    settle(&mut first);
    assert_eq!(log.words(), ["made", "data"]);
    assert_eq!(log.dropped(), 1);
    assert!(first.handle().transport(transport.id()).is_none());
    assert_eq!(first.handle().stats().connections, 0);
    let (mut second, log, _) = attach(detached.take().unwrap());
    peer.expect(&mut second, 10);
    assert_eq!(peer.received(), b"still here");
    peer.send(b"more");
    drive(&mut second, "bytes in the new loop", || {
        log.data() == b"more"
    });
}

each_kind!(waiters_and_later_calls_see_that_it_was_detached);
fn waiters_and_later_calls_see_that_it_was_detached(kind: Kind) {
    let (mut first, _, transport, _peer) = Scene::of(kind).stalled(MIB).set();
    let (drain, flush, lost) = (
        transport.drain(),
        transport.flush(),
        transport.wait_closed(),
    );
    let timer = transport.call_later(Duration::ZERO, |_: &mut Recorder, _| panic!("it is gone"));
    let detached = detach(&mut first, &transport);
    for waiting in [drain, flush, transport.drain(), transport.flush()] {
        let closed = closed_of(first.run_until(waiting));
        assert_eq!(closed.reason(), &CloseReason::Detached);
        assert_eq!(closed.unsent(), unsent_len(&detached));
    }
    assert_eq!(first.run_until(lost).unwrap(), transport.closed().unwrap());
    let refused = transport.write(b"late").unwrap_err();
    assert_eq!(refused.closed(), transport.closed().as_ref());
    assert_eq!(
        transport.with_protocol(|_: &mut Recorder, _| ()),
        Err(WithProtocolError::Ended)
    );
    transport.close();
    transport.abort();
    settle(&mut first);
    assert!(!timer.reset(Duration::ZERO));
    assert_eq!(first.handle().stats().timers, 0);
}

each_kind!(a_connection_that_is_ending_cannot_be_detached);
fn a_connection_that_is_ending_cannot_be_detached(kind: Kind) {
    type End = fn(&Transport);
    let ends: [End; 3] = [Transport::close, Transport::abort, Transport::reset];
    for end in ends {
        // Before the call, and between the call and its effect.
        let (mut event_loop, log, transport, _peer) = Scene::of(kind).stalled(MIB).set();
        end(&transport);
        let error = event_loop.run_until(transport.detach()).unwrap_err();
        assert!(WriteError::of(&error).is_some(), "{error:?}");

        let (mut other, other_log, transport, _peer) = Scene::of(kind).stalled(MIB).set();
        let detaching = transport.detach();
        end(&transport);
        let error = other.run_until(detaching).unwrap_err();
        assert!(WriteError::of(&error).is_some(), "{error:?}");
        transport.abort();
        drive(&mut other, "the end", || other_log.is_lost());
        drop(event_loop);
        assert!(log.is_lost());
    }
}

each_kind!(a_connection_with_a_layer_says_that_it_cannot_move);
fn a_connection_with_a_layer_says_that_it_cannot_move(kind: Kind) {
    let layer = || Hooked::new(|_, _| Ok(()));
    let (mut event_loop, log, transport, _peer) = connected(kind, |recorder| recorder);
    // A layer that is put on before the detach takes effect counts, too.
    let detaching = transport.detach();
    transport.push_layer(layer(), b"").detach();
    for completion in [detaching, transport.detach()] {
        let error = event_loop.run_until(completion).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("layer"), "{error}");
    }
    assert!(!log.is_lost() && !transport.is_closing());
}

each_kind!(one_detach_waits_at_a_time_and_a_dropped_one_leaves_the_connection_where_it_is);
fn one_detach_waits_at_a_time_and_a_dropped_one_leaves_the_connection_where_it_is(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = connected(kind, |recorder| recorder);
    let waiting = transport.detach();
    let second = event_loop.run_until(transport.detach());
    // The run above has carried out the first.
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    let (mut event_loop, log2, transport, mut peer2) = {
        drop((event_loop.run_until(waiting).unwrap(), log));
        peer.expect_end(&mut event_loop);
        connected(kind, |recorder| recorder)
    };
    drop(transport.detach());
    peer2.send(b"here");
    drive(&mut event_loop, "bytes", || log2.data() == b"here");
    assert!(!transport.is_closing());
}

each_kind!(the_end_of_the_peers_stream_is_told_again_and_our_own_stays);
fn the_end_of_the_peers_stream_is_told_again_and_our_own_stays(kind: Kind) {
    let (mut first, log, transport, mut peer) =
        connected(kind, |recorder| recorder.on_eof(|_| Ok(OnEof::KeepOpen)));
    transport.write(b"all").unwrap();
    transport.write_eof().unwrap();
    peer.expect_end(&mut first);
    let detached = detach(&mut first, &transport);
    let (mut second, second_log, moved) = attach(detached);
    assert!(matches!(
        moved.write(b"x"),
        Err(WriteError::AfterEof { .. })
    ));
    assert!(moved.is_accepted());
    peer.shutdown_write();
    drive(&mut second, "the end", || second_log.is_lost());
    assert_eq!(second_log.words(), ["made", "eof", "lost"]);
    assert_eq!(peer.received(), b"all");
    drop(log);

    let (mut first, log, transport, peer) =
        connected(kind, |recorder| recorder.on_eof(|_| Ok(OnEof::KeepOpen)));
    peer.shutdown_write();
    drive(&mut first, "eof_received", || log.has(&Seen::Eof));
    let (mut second, log, _) = attach(detach(&mut first, &transport));
    drive(&mut second, "the end", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
}

each_kind!(an_end_that_was_asked_for_comes_behind_the_unsent_bytes);
fn an_end_that_was_asked_for_comes_behind_the_unsent_bytes(kind: Kind) {
    let (mut first, _, transport, mut peer) = Scene::of(kind).stalled(MIB).set();
    transport.write_eof().unwrap();
    let written = transport.written() as usize;
    let (mut second, _, _) = attach(detach(&mut first, &transport));
    peer.expect_end(&mut second);
    assert_eq!(peer.received().len(), written);
    assert!(peer.saw_eof());
}

each_kind!(settings_go_along);
fn settings_go_along(kind: Kind) {
    let (mut first, _, transport, _peer) = Scene::of(kind).stalled(MIB).set();
    let limits = WriteLimits::new().with_high(2 * MIB).with_low(17);
    transport.set_write_limits(limits).unwrap();
    transport.set_write_timeout(Some(Duration::from_millis(30)));
    let (mut second, log, moved) = attach(detach(&mut first, &transport));
    assert_eq!(moved.write_limits().high(), 2 * MIB);
    assert_eq!(moved.write_limits().low(), 17);
    drive(&mut second, "the write timeout", || log.is_lost());
    assert_eq!(log.reason(), "timeout");
}

each_kind!(dropped_without_a_loop_it_is_closed_and_reset_if_bytes_are_unsent);
fn dropped_without_a_loop_it_is_closed_and_reset_if_bytes_are_unsent(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = connected(kind, |recorder| recorder);
    drop(detach(&mut event_loop, &transport));
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());

    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).stalled(MIB).set();
    drop(detach(&mut event_loop, &transport));
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.saw_eof(), !peer.is_tcp());
}

each_kind!(the_error_of_a_loop_that_was_dropped_has_the_connection);
fn the_error_of_a_loop_that_was_dropped_has_the_connection(kind: Kind) {
    let (mut first, _, transport, mut peer) = connected(kind, |recorder| {
        recorder.on_data(|transport, data| {
            transport.unread(data);
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(b"kept");
    drive(&mut first, "bytes", || !transport.is_reading());
    let detached = detach(&mut first, &transport);
    let gone = EventLoop::new().unwrap().handle().clone();
    let log = Log::new();
    let refused = gone.attach(detached, Recorder::new(&log)).unwrap_err();
    assert_eq!(refused.error().kind(), io::ErrorKind::NotConnected);
    assert_eq!(log.seen(), []);
    let (mut second, log, _) = attach(refused.into_detached());
    drive(&mut second, "bytes", || log.data() == b"kept");
}

each_kind!(a_leftover_that_panics_ends_the_connection);
fn a_leftover_that_panics_ends_the_connection(kind: Kind) {
    struct Panics(Recorder);
    impl tidegate::Wrap for Panics {
        type Inner = Recorder;
        fn wrapped(&mut self) -> &mut Recorder {
            &mut self.0
        }
        fn leftover(&mut self) -> Vec<u8> {
            panic!("panicking on purpose")
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let told = failures(event_loop.handle());
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Panics(Recorder::new(&log)));
    let closed = closed_of(event_loop.run_until(transport.detach()));
    assert!(matches!(closed.reason(), CloseReason::Panic(_)));
    drive(&mut event_loop, "connection_lost", || log.is_lost());
    peer.expect_end(&mut event_loop);
    assert_eq!(told.borrow().len(), 1);
}

each_kind!(a_move_costs_one_registration_to_leave_and_one_to_arrive);
fn a_move_costs_one_registration_to_leave_and_one_to_arrive(kind: Kind) {
    let (mut first, _, transport, _peer) = connected(kind, |recorder| recorder);
    settle(&mut first);
    let before = first.handle().stats().registrations;
    let detached = detach(&mut first, &transport);
    assert_eq!(first.handle().stats().registrations - before, 1);
    let (second, _, _) = attach(detached);
    assert_eq!(second.handle().stats().registrations, 1);
}

each_kind!(before_connection_made_it_leaves_behind_that);
fn before_connection_made_it_leaves_behind_that(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (log, made) = (Log::new(), Rc::new(Cell::new(0)));
    let noted = made.clone();
    let recorder = Recorder::new(&log).on_made(move |_| {
        noted.set(noted.get() + 1);
        Ok(())
    });
    let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, recorder);
    let detaching = transport.detach();
    assert_eq!(made.get(), 0);
    peer.send(b"early");
    let detached = event_loop.run_until(detaching).unwrap();
    assert_eq!(made.get(), 1);
    let (mut second, log, _) = attach(detached);
    drive(&mut second, "bytes", || log.data() == b"early");
    tick(&mut event_loop);
}
