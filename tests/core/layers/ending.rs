//! How a connection with layers ends.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use support::seal::{Calls, Said, Seal, alert, end_of_seal, hello, record_of, sealed};
use support::{
    Hooked, Kind, Log, METHODS, Peer, Recorder, Scene, closed_of, drive, each_kind, failures,
    pattern, settle,
};
use tidegate::{CloseReason, EventLoop, OnEof, Transport};

fn data(bytes: &[u8]) -> Said {
    Said::Data(bytes.to_vec())
}

/// A connection whose one layer is open.
#[track_caller]
pub(super) fn sealed_scene(
    scene: Scene,
    make: impl FnOnce(Recorder) -> Recorder,
) -> (EventLoop, Log, Transport, Peer) {
    let (mut event_loop, log, transport, mut peer) = scene.strict().set_with(make);
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    (event_loop, log, transport, peer)
}

fn reason_of(log: &Log) -> (ErrorKind, String) {
    match log.closed().reason() {
        CloseReason::Io(error) => (error.kind(), error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn a_close_sends_the_queue_then_the_end_of_each_layer_from_the_top_then_eof(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    let calls = Calls::default();
    let low = transport.push_layer(Seal::server().noted_in(&calls), b"");
    let noted = calls.clone();
    let end = Hooked::on("end", move |_| {
        noted.borrow_mut().push("end of the upper");
        Ok(())
    });
    let high = transport.push_layer(end, b"");
    peer.send(&hello());
    event_loop.run_until(low).unwrap();
    event_loop.run_until(high).unwrap();
    let bytes = pattern(0, 3_000_000);
    transport.write(&bytes).unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert_eq!(
        peer.said_behind(0),
        [Said::Hello, Said::Data(bytes), Said::End]
    );
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(
        *calls.borrow(),
        ["start", "open", "end of the upper", "end"]
    );
    assert!(log.closed().is_clean());
}
each_kind!(a_close_sends_the_queue_then_the_end_of_each_layer_from_the_top_then_eof);

/// A layer that does not open any more has nothing to end; those below it have.
fn a_close_while_a_pushed_layer_opens_ends_those_below(kind: Kind) {
    for speaks in [false, true] {
        let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
        let calls = Calls::default();
        let mut expected = vec![Said::Hello];
        let layer = if speaks {
            expected.push(Said::Data(hello()));
            Seal::client()
        } else {
            Seal::server()
        };
        let pushed = transport.push_layer(layer.noted_in(&calls), b"");
        settle(&mut event_loop);
        transport.close();
        expected.push(Said::End);
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        assert_eq!(peer.said_behind(0), expected);
        drive(&mut event_loop, "the end", || log.is_lost());
        assert_eq!(log.words(), ["made", "lost"]);
        assert!(log.closed().is_clean());
        assert!(closed_of(event_loop.run_until(pushed)).is_clean());
        assert_eq!(*calls.borrow(), ["start"]);
    }
}
each_kind!(a_close_while_a_pushed_layer_opens_ends_those_below);

/// The end of the lower layer waits for one below it that takes no bytes, while the peer says what would
/// open the upper one. Nobody would finish that handshake.
fn an_end_that_waits_opens_no_layer(kind: Kind) {
    for speaks in [false, true] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
        let takes = Rc::new(Cell::new(usize::MAX));
        let slow = Hooked::new(|_, _| Ok(())).taking(&takes);
        transport.push_layer(slow, b"").detach();
        let low = transport.push_layer(Seal::server(), b"");
        peer.send(&hello());
        event_loop.run_until(low).unwrap();
        settle(&mut event_loop);
        takes.set(0);
        let mut expected = vec![Said::Hello];
        let layer = if speaks {
            expected.push(Said::Data(hello()));
            Seal::client()
        } else {
            Seal::server()
        };
        expected.push(Said::End);
        let calls = Calls::default();
        let pushed = transport.push_layer(layer.noted_in(&calls), b"");
        settle(&mut event_loop);
        transport.close();
        settle(&mut event_loop);
        peer.send(&sealed(&hello()));
        settle(&mut event_loop);
        assert!(transport.closed().is_none() && !pushed.is_ready());
        takes.set(usize::MAX);
        transport.with_layer(|_: &mut Hooked, _| ()).unwrap();
        peer.expect_end(&mut event_loop);
        assert!(peer.saw_eof(), "{:?}", peer.saw_error());
        assert_eq!(peer.said_behind(0), expected);
        assert!(closed_of(event_loop.run_until(pushed)).is_clean());
        assert_eq!(*calls.borrow(), ["start"]);
        assert!(log.closed().is_clean());
        assert_eq!(log.words(), ["made", "lost"]);
    }
}
each_kind!(an_end_that_waits_opens_no_layer);

fn a_peer_that_still_sends_gets_the_end_and_no_reset(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    transport.pause_reading();
    peer.fill(&mut event_loop);
    transport.write(b"enough").unwrap();
    transport.close();
    drive(&mut event_loop, "the end", || log.is_lost());
    drive(&mut event_loop, "the linger", || {
        let _ = peer.try_write(&[0; 1000]);
        peer.read_available();
        peer.is_ended()
    });
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    assert_eq!(
        peer.said_behind(0),
        [Said::Hello, data(b"enough"), Said::End]
    );
    assert_eq!(event_loop.handle().stats().lingering, 1);
    peer.close();
    drive(&mut event_loop, "its end", || {
        event_loop_lingers(&transport) == 0
    });
}
each_kind!(a_peer_that_still_sends_gets_the_end_and_no_reset);

fn event_loop_lingers(transport: &Transport) -> usize {
    transport.handle().stats().lingering
}

fn write_eof_ends_the_layer_and_reading_goes_on(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    transport.write(b"a request").unwrap();
    transport.write_eof().unwrap();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    let all = [Said::Hello, data(b"a request"), Said::End];
    assert_eq!(peer.said_behind(0), all);
    peer.send(&sealed(b"the reply"));
    drive(&mut event_loop, "the reply", || log.data() == b"the reply");
    peer.send(&end_of_seal());
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert!(log.closed().is_clean());
}
each_kind!(write_eof_ends_the_layer_and_reading_goes_on);

fn both_ends_of_stream_end_a_connection_that_was_kept_open(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) =
        sealed_scene(Scene::of(kind), Recorder::keep_open);
    peer.send(&end_of_seal());
    drive(&mut event_loop, "the end of stream", || {
        log.words() == ["made", "eof"]
    });
    transport.write(b"behind it").unwrap();
    transport.write_eof().unwrap();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
    peer.expect_end(&mut event_loop);
    assert_eq!(
        peer.said_behind(0),
        [Said::Hello, data(b"behind it"), Said::End]
    );
}
each_kind!(both_ends_of_stream_end_a_connection_that_was_kept_open);

fn the_end_of_a_layer_is_one_eof_behind_which_input_is_ignored(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |recorder| {
        recorder.on_eof(|transport| {
            transport.write(b"what is left")?;
            Ok(OnEof::Close)
        })
    });
    let late = [
        sealed(b"before"),
        end_of_seal(),
        sealed(b"late"),
        b"garbage".to_vec(),
    ];
    peer.send(&late.concat());
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.data(), b"before");
    assert_eq!(log.reason(), "peer-eof");
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    let all = [Said::Hello, data(b"what is left"), Said::End];
    assert_eq!(peer.said_behind(0), all);
    assert!(transport.closed().is_some());
}
each_kind!(the_end_of_a_layer_is_one_eof_behind_which_input_is_ignored);

fn an_end_below_without_the_layers_own_is_a_cut_behind_the_data(kind: Kind) {
    for tail in [&b""[..], &sealed(b"half a record")[..7]] {
        let (mut event_loop, log, _transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
        peer.send(&[&sealed(b"whole")[..], tail].concat());
        peer.shutdown_write();
        drive(&mut event_loop, "the end", || log.is_lost());
        assert_eq!(log.words(), ["made", "data", "lost"]);
        assert_eq!(log.data(), b"whole");
        assert_eq!(reason_of(&log).0, ErrorKind::UnexpectedEof);
    }
}
each_kind!(an_end_below_without_the_layers_own_is_a_cut_behind_the_data);

fn an_abort_does_not_end_the_layer(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    transport.write(b"sent").unwrap();
    settle(&mut event_loop);
    transport.abort();
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof(), "nothing was lost: {:?}", peer.saw_error());
    assert_eq!(peer.said_behind(0), [Said::Hello, data(b"sent")]);
    assert_eq!(log.closed().reason(), &CloseReason::LocalAbort);
    assert_eq!(event_loop_lingers(&transport), 0);
}
each_kind!(an_abort_does_not_end_the_layer);

#[test]
fn an_abort_that_loses_bytes_and_a_reset_reset_a_tcp_connection() {
    for resets in [false, true] {
        let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(Kind::Tcp), |r| r);
        if resets {
            transport.reset();
        } else {
            support::stall(&mut event_loop, &transport, 1000);
            transport.abort();
        }
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
        let said = peer.said_behind(0);
        assert!(!said.contains(&Said::End), "resets: {resets}");
        let closed = log.closed();
        assert_eq!(closed.unsent() + transport.sent(), transport.written());
    }
}

fn a_bad_record_ends_the_connection_behind_the_data_before_it(kind: Kind) {
    let (mut event_loop, log, _transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    peer.send(&[sealed(b"good"), record_of(b'x', b"bad"), sealed(b"late")].concat());
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert_eq!(log.data(), b"good");
    assert_eq!(
        reason_of(&log),
        (ErrorKind::InvalidData, "a bad record".to_owned())
    );
    peer.expect_end(&mut event_loop);
    let all = [Said::Hello, Said::Alert("a bad record".to_owned())];
    assert_eq!(peer.said_behind(0), all);
}
each_kind!(a_bad_record_ends_the_connection_behind_the_data_before_it);

fn its_alert_reaches_a_peer_of_which_much_is_unread(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |r| r);
    let mut rest = record_of(b'x', b"bad");
    rest.extend(pattern(0, 200_000));
    let mut sent = 0;
    drive(&mut event_loop, "the end", || {
        sent += peer.try_write(&rest[sent..]).unwrap_or(rest.len() - sent);
        log.is_lost() && sent == rest.len()
    });
    assert_eq!(event_loop_lingers(&transport), 1);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof(), "{:?}", peer.saw_error());
    let all = [Said::Hello, Said::Alert("a bad record".to_owned())];
    assert_eq!(peer.said_behind(0), all);
}
each_kind!(its_alert_reaches_a_peer_of_which_much_is_unread);

fn while_reading_is_paused_it_waits_and_a_write_fails_with_it(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |recorder| {
        recorder.on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(&[sealed(b"good"), record_of(b'x', b"bad")].concat());
    // The alert goes out at once.
    let all = [Said::Hello, Said::Alert("a bad record".to_owned())];
    peer.expect_said(&mut event_loop, &all);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    assert!(transport.closed().is_none());
    transport.write(b"too late").unwrap();
    settle(&mut event_loop);
    let closed = closed_of(event_loop.run_until(transport.drain()));
    assert_eq!(closed.unsent(), 8);
    assert_eq!(log.words(), ["made", "data"]);
    transport.resume_reading();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(
        reason_of(&log),
        (ErrorKind::InvalidData, "a bad record".to_owned())
    );
}
each_kind!(while_reading_is_paused_it_waits_and_a_write_fails_with_it);

fn without_a_write_it_is_told_on_resume(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = sealed_scene(Scene::of(kind), |recorder| {
        recorder.on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    });
    peer.send(&[sealed(b"good"), alert("goodbye")].concat());
    drive(&mut event_loop, "the data", || log.data() == b"good");
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    transport.resume_reading();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert_eq!(
        reason_of(&log),
        (ErrorKind::PermissionDenied, "goodbye".to_owned())
    );
}
each_kind!(without_a_write_it_is_told_on_resume);

/// Has a connection call a method of its layer, which fails.
#[track_caller]
fn provoke(event_loop: &mut EventLoop, transport: &Transport, peer: &mut Peer, method: &str) {
    settle(event_loop);
    match method {
        "receive" => peer.send(b"hello"),
        "input_ended" => peer.shutdown_write(),
        "send" => {
            let _ = transport.write(b"hello");
        }
        "end" => transport.close(),
        _ => {}
    }
    drive(event_loop, "the end", || transport.closed().is_some());
    settle(event_loop);
}

fn a_panic_in_a_layer_ends_its_connection_alone(kind: Kind) {
    for method in METHODS {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let log = Log::new();
        let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&log));
        let (other, mut other_peer) =
            Scene::of(kind).on(&mut event_loop, Recorder::echo(&Log::new()));
        let layer = Hooked::new(move |called, io| {
            if called == "start" {
                io.wake_after(support::SHORT);
            }
            assert_ne!(called, method, "provoked");
            Ok(())
        });
        transport.push_layer(layer, b"").detach();
        provoke(&mut event_loop, &transport, &mut peer, method);
        let closed = transport.closed().unwrap();
        let CloseReason::Panic(message) = closed.reason() else {
            panic!("{method}: {closed:?}");
        };
        assert!(message.contains("provoked"), "{message}");
        assert_eq!(closed.unsent() + transport.sent(), transport.written());
        let told: Vec<_> = told
            .borrow()
            .iter()
            .map(|failure| (failure.context(), failure.transport()))
            .collect();
        assert_eq!(told, [("a layer", Some(transport.id()))], "{method}");
        assert_eq!(log.words().last().unwrap(), "lost", "{method}");
        other_peer.send(b"still served");
        other_peer.expect(&mut event_loop, 12);
        assert!(other.closed().is_none());
    }
}
each_kind!(a_panic_in_a_layer_ends_its_connection_alone);

fn an_error_of_a_layer_is_the_reason_and_no_failure(kind: Kind) {
    for method in METHODS {
        let mut event_loop = EventLoop::new().unwrap();
        let told = failures(event_loop.handle());
        let log = Log::new();
        let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, Recorder::new(&log));
        let layer = Hooked::new(move |called, io| {
            if called == "start" {
                io.wake_after(support::SHORT);
            }
            if called == method {
                return Err("provoked".into());
            }
            Ok(())
        });
        transport.push_layer(layer, b"").detach();
        provoke(&mut event_loop, &transport, &mut peer, method);
        let closed = transport.closed().unwrap();
        assert_eq!(
            closed.to_string().matches("provoked").count(),
            1,
            "{method}: {closed}"
        );
        peer.close();
        drive(&mut event_loop, "the end", || log.is_lost());
        assert!(told.borrow().is_empty(), "{method}: {told:?}");
    }
}
each_kind!(an_error_of_a_layer_is_the_reason_and_no_failure);
