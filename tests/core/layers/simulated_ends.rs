//! How connections with layers end in the simulated world.

use super::simulated::{INSTANT, LIMIT, Stage, assert_nothing_left};
use std::io::ErrorKind;
use support::seal::{Said, Seal, alert, end_of_seal, hello, record_of, sealed, unsealed};
use support::{Hooked, Log, METHODS, Recorder, closed_of, failures, pattern};
use tidegate::CloseReason;
use tidegate_testkit::{Link, World};

/// Pauses with the first data.
fn pausing(recorder: Recorder) -> Recorder {
    recorder.on_data(|transport, _| {
        transport.pause_reading();
        Ok(())
    })
}

#[track_caller]
fn assert_lost_by(log: &Log, kind: ErrorKind, text: &str) {
    match log.closed().reason() {
        CloseReason::Io(error) => {
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        }
        other => panic!("{other:?}"),
    }
}

fn bad_record() -> Said {
    Said::Alert("a bad record".to_owned())
}

/// The buffers of the kernels are small, so most of what the peer has sent is not read.
#[test]
fn a_bad_record_ends_the_connection_once_and_its_alert_arrives_before_the_end() {
    let link = Link::new().send_buffer(1).receive_buffer(900);
    let mut stage = Stage::sealed(World::builder().link(link).build(), |recorder| recorder);
    let rest = pattern(0, 200_000);
    let wire = [&sealed(b"good")[..], &record_of(b'x', b"bad"), &rest].concat();
    let (mut sent, mut heard) = (0, Vec::new());
    // The peer reads a byte each time, and goes on sending.
    while sent < wire.len() {
        sent += stage.peer.send(&wire[sent..]).unwrap();
        stage.settle();
        let mut one = [0];
        if stage.peer.read(&mut one).is_ok_and(|len| len == 1) {
            heard.extend(one);
        }
    }
    assert!(stage.peer.is_ended() && !stage.peer.is_reset());
    assert_eq!(unsealed(&heard), [bad_record()]);
    assert_eq!(stage.log.words(), ["made", "data", "lost"]);
    assert_eq!(stage.log.data(), b"good");
    assert_lost_by(&stage.log, ErrorKind::InvalidData, "a bad record");
    drop(stage.peer);
    stage.world.run_until_idle().unwrap();
    assert_nothing_left(&stage.host);
}

#[test]
fn behind_a_pause_the_alert_goes_out_at_once_and_the_error_is_told_on_resume() {
    for writes in [false, true] {
        let mut stage = Stage::sealed(World::new(), pausing);
        stage.send(&[sealed(b"good"), record_of(b'x', b"bad")].concat());
        assert_eq!(stage.said(), [bad_record()]);
        stage.world.advance(LIMIT).unwrap();
        assert_eq!(stage.log.words(), ["made", "data"]);
        if writes {
            stage.transport.write(b"too late").unwrap();
            stage.settle();
            let closed = closed_of(stage.world.run_until(stage.transport.drain()));
            assert_eq!(closed.unsent(), 8);
            assert_eq!(stage.log.words(), ["made", "data"]);
        }
        stage.transport.resume_reading();
        stage.settle();
        assert_eq!(stage.log.words(), ["made", "data", "lost"]);
        assert_lost_by(&stage.log, ErrorKind::InvalidData, "a bad record");
        assert_eq!(stage.said(), []);
    }
}

/// The error with which a connection is lost.
type Lost = Option<(ErrorKind, &'static str)>;

/// A name, what a peer sends last, whether it ends its stream behind that, and the error of it.
type Last = (&'static str, fn() -> Vec<u8>, bool, Lost);

const LASTS: [Last; 5] = [
    (
        "an alert",
        || alert("goodbye"),
        false,
        Some((ErrorKind::PermissionDenied, "goodbye")),
    ),
    (
        "an alert and the end below",
        || alert("goodbye"),
        true,
        Some((ErrorKind::PermissionDenied, "goodbye")),
    ),
    (
        "the end below",
        Vec::new,
        true,
        Some((ErrorKind::UnexpectedEof, "a cut stream")),
    ),
    (
        "the end below within a record",
        || sealed(b"half")[..5].to_vec(),
        true,
        Some((ErrorKind::UnexpectedEof, "a cut stream")),
    ),
    (
        "its end, and more",
        || [end_of_seal(), sealed(b"late")].concat(),
        false,
        None,
    ),
];

#[test]
fn the_end_of_a_stream_is_told_once_behind_the_data_also_behind_a_pause() {
    for (name, last, ends, error) in LASTS {
        for pauses in [false, true] {
            let make = if pauses { pausing } else { |recorder| recorder };
            let mut stage = Stage::sealed(World::new(), make);
            stage.send(&[sealed(b"good"), last()].concat());
            if ends {
                stage.peer.send_eof().unwrap();
                stage.settle();
            }
            if pauses {
                stage.world.advance(LIMIT).unwrap();
                assert_eq!(stage.log.words(), ["made", "data"], "{name}");
                stage.transport.resume_reading();
                stage.settle();
            }
            let words: &[&str] = match error {
                Some(_) => &["made", "data", "lost"],
                None => &["made", "data", "eof", "lost"],
            };
            assert_eq!(stage.log.words(), words, "{name}");
            assert_eq!(stage.log.data(), b"good", "{name}");
            match error {
                Some((kind, text)) => assert_lost_by(&stage.log, kind, text),
                None => {
                    assert!(stage.log.closed().is_clean(), "{name}");
                    assert_eq!(stage.said(), [Said::End], "{name}");
                }
            }
            drop(stage.peer);
            stage.world.run_until_idle().unwrap();
            assert_nothing_left(&stage.host);
        }
    }
}

#[test]
fn a_panic_in_a_layer_ends_its_connection_alone() {
    for method in METHODS {
        let mut stage = Stage::new();
        let told = failures(stage.host.handle());
        let listener = stage.world.network().listen(8).unwrap();
        let others = Log::new();
        let connect = stage
            .host
            .handle()
            .create_connection(listener.addr(), Recorder::echo(&others));
        let other = stage.world.run_until(connect).unwrap();
        let other_peer = listener.accept().unwrap();
        other.push_layer(Seal::server(), b"").detach();
        other_peer.send(&hello()).unwrap();
        let layer = Hooked::new(move |called, io| {
            if called == "start" {
                io.wake_after(LIMIT);
            }
            assert_ne!(called, method, "provoked");
            Ok(())
        });
        stage.transport.push_layer(layer, b"").then(|_, _| {});
        stage.settle();
        match method {
            "receive" => stage.send(b"hello"),
            "input_ended" => stage.peer.send_eof().unwrap(),
            "send" => {
                let _ = stage.transport.write(b"hello");
            }
            "end" => stage.transport.close(),
            "timer" => {
                stage.world.advance(LIMIT - INSTANT).unwrap();
                assert_eq!(stage.log.words(), ["made"]);
                stage.world.advance(INSTANT).unwrap();
            }
            _ => {}
        }
        stage.settle();
        let closed = stage.log.closed();
        let CloseReason::Panic(message) = closed.reason() else {
            panic!("{method}: {closed:?}");
        };
        assert!(message.contains("provoked"), "{message}");
        let counted = closed.unsent() + stage.transport.sent();
        assert_eq!(counted, stage.transport.written(), "{method}");
        let told: Vec<_> = told
            .borrow()
            .iter()
            .map(|failure| (failure.context(), failure.transport()))
            .collect();
        assert_eq!(told, [("a layer", Some(stage.transport.id()))], "{method}");
        other_peer.send(&sealed(b"still served")).unwrap();
        stage.settle();
        let all = [Said::Hello, Said::Data(b"still served".to_vec())];
        assert_eq!(unsealed(&other_peer.take()), all, "{method}");
        assert_eq!(others.words(), ["made", "data"], "{method}");
    }
}
