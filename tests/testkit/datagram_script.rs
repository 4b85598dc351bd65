//! Scripts of datagrams: what they send and expect, and what a mismatch says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tidegate::{CloseReason, DatagramOptions};
use tidegate_testkit::{DatagramRecorder, DatagramScript, Fault, Log, Seen, Watched, World};

const SECOND: Duration = Duration::from_secs(1);

fn echo() -> DatagramRecorder {
    DatagramRecorder::echo(&Log::new())
}

#[test]
fn each_peer_has_an_address_of_its_own_and_keeps_what_came_for_it() {
    let script = DatagramScript::new()
        .send("one")
        .peer(2)
        .send("")
        .peer(0)
        .send("two")
        .expect("one")
        .peer(2)
        .expect("")
        .peer(0)
        .expect("two")
        .expect_nothing(SECOND);
    let played = script.play(echo()).unwrap();
    assert_eq!(played.elapsed(), SECOND);
    assert_eq!(
        played.log().words().join(" "),
        "made datagram datagram datagram lost"
    );
    assert_eq!(played.closed().unwrap().reason(), &CloseReason::LocalClose);
    let said = played.dialogue().to_string();
    for line in ["peer 0 -> \"one\"", "peer 2 -> \"\"", "peer 2 <- \"\""] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_batch_ends_behind_the_datagrams_of_a_tick() {
    let log = Log::new();
    let noted = log.clone();
    let protocol = DatagramRecorder::new(&log).on_batch(move |_| {
        noted.note("batch");
        Ok(())
    });
    let script = DatagramScript::new().send("one").wait(SECOND).send("two");
    script.play(protocol).unwrap();
    let words = log.words().join(" ");
    assert_eq!(words, "made datagram batch datagram batch lost");
}

#[test]
fn an_endpoint_with_a_remote_address_hears_peer_0_alone_and_is_told_when_it_is_gone() {
    let greeter = DatagramRecorder::new(&Log::new())
        .on_made(|transport| {
            transport.send(b"hello")?;
            Ok(())
        })
        .on_datagram(|transport, _, _| {
            transport.send(b"lost")?;
            Ok(())
        })
        .on_error(|transport, error| {
            assert!(error.is_refused());
            transport.close();
            Ok(())
        });
    let script = DatagramScript::new()
        .expect("hello")
        .peer(1)
        .send("not for it")
        .peer(0)
        .send("again")
        .expect("lost")
        .leave()
        .send("nobody is there to send this")
        .wait(SECOND);
    let played = script.clone().play_connected(greeter).unwrap();
    assert_eq!(played.log().datagrams(), [b"again"]);
    // Nothing was sent to the peer that had left, so nothing told of it.
    assert_eq!(played.log().words(), ["made", "datagram", "lost"]);
    let answers_late = DatagramRecorder::new(&Log::new())
        .on_datagram(|transport, _, _| {
            transport.call_later(SECOND, |_: &mut DatagramRecorder, transport| {
                transport.send(b"late")?;
                Ok(())
            });
            Ok(())
        })
        .on_error(|transport, error| {
            assert!(error.is_refused());
            transport.close();
            Ok(())
        });
    let script = DatagramScript::new().send("x").leave().expect_closed();
    let played = script.play_connected(answers_late).unwrap();
    assert_eq!(played.log().words(), ["made", "datagram", "error", "lost"]);
}

#[test]
fn a_mismatch_names_the_step_and_shows_what_came_and_what_was_said() {
    let hello = || DatagramScript::new().send("hello");
    let rows: [(DatagramScript, usize, &str, &str); 6] = [
        (hello().expect("HELLO"), 2, "\"HELLO\"", "\"hello\""),
        (hello().expect("hello").expect("x"), 3, "\"x\"", "nothing"),
        (
            hello().expect_nothing(SECOND),
            2,
            "nothing for 1s",
            "\"hello\"",
        ),
        (hello(), 2, "nothing more", "at peer 0: \"hello\""),
        (
            hello().expect("hello").expect_closed(),
            3,
            "the end of the endpoint",
            "the endpoint is still there",
        ),
        (
            hello().send("you").expect("you"),
            3,
            "\"you\"",
            "\"hello\", \"you\"",
        ),
    ];
    for (script, step, expected, seen) in rows {
        let mismatch = script.play(echo()).unwrap_err();
        assert_eq!(mismatch.step(), Some(step), "{mismatch}");
        assert_eq!((mismatch.expected(), mismatch.seen()), (expected, seen));
        let text = format!("{mismatch:?}");
        assert!(text.contains("peer 0 -> \"hello\""), "{text}");
    }
}

#[test]
fn a_failure_of_a_callback_is_a_mismatch_unless_it_is_allowed_and_a_panic_goes_on() {
    let picky = || {
        DatagramRecorder::new(&Log::new()).on_datagram(|_, data, _| {
            assert_ne!(data, b"panic");
            Err("no such question".into())
        })
    };
    let script = DatagramScript::new().send("x");
    let mismatch = script.play(picky()).unwrap_err();
    assert!(
        mismatch.to_string().contains("no such question"),
        "{mismatch}"
    );
    let played = script.clone().may_fail().play(picky()).unwrap();
    assert_eq!(played.failures()[0].context(), "datagram_received");
    let panics = script.send("panic").may_fail();
    catch_unwind(AssertUnwindSafe(|| panics.play(picky()))).unwrap_err();
}

#[test]
fn the_patience_bounds_an_expectation() {
    let slow = || {
        DatagramRecorder::new(&Log::new()).on_datagram(|transport, data, from| {
            let (data, from) = (data.to_vec(), from.clone());
            transport.call_later(2 * SECOND, move |_: &mut DatagramRecorder, transport| {
                transport.send_to(&data, &from)?;
                Ok(())
            });
            Ok(())
        })
    };
    let script = DatagramScript::new().send("x").expect("x");
    assert_eq!(script.play(slow()).unwrap().elapsed(), 2 * SECOND);
    let mismatch = script.patience(SECOND).play(slow()).unwrap_err();
    assert_eq!(mismatch.seen(), "nothing");
}

// Peers and records, by hand.

#[test]
fn a_datagram_peer_sends_takes_and_is_refused_when_it_is_gone() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let peer = world.network().bind_datagrams(9).unwrap();
    assert_eq!(peer.addr().port(), 9);
    let taken = world.network().bind_datagrams(9).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let log = Log::new();
    let options = DatagramOptions::new(host.addr(7)).remote(peer.addr());
    let protocol = Watched::new(echo(), &log);
    let endpoint = host.handle().create_datagram_endpoint(options, protocol);
    let endpoint = endpoint.unwrap();
    world.pump().unwrap();
    assert_eq!(log.endpoint().unwrap().id(), endpoint.id());
    // No fault strikes its calls.
    for fault in [Fault::NoMemory, Fault::WriteAgain, Fault::Interrupted] {
        world.network().force(fault, 1);
        peer.send_to(b"x", host.addr(7)).unwrap();
        world.network().force(fault, 0);
    }
    let too_long = peer.send_to(&[0; 65_508], host.addr(7)).unwrap_err();
    assert_eq!(too_long.raw_os_error(), Some(90), "EMSGSIZE");
    world.pump().unwrap();
    assert_eq!(peer.waiting(), 3);
    assert_eq!(peer.take(), Some((b"x".to_vec(), host.addr(7))));
    assert_eq!(world.network().descriptors(&host), 1);
    drop(peer);
    endpoint.send(b"gone").unwrap();
    world.run_until_idle().unwrap();
    assert_eq!(log.words().last().unwrap(), "error");
    endpoint.abort();
    world.run_until_idle().unwrap();
    assert_eq!(world.network().datagram_sockets(), 0);
}

#[test]
fn a_watched_protocol_of_datagrams_is_found_by_its_own_type() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let (inner, outer) = (Log::new(), Log::new());
    let protocol = Watched::new(DatagramRecorder::new(&inner), &outer);
    let made = host
        .handle()
        .create_datagram_endpoint(host.addr(7), protocol);
    let endpoint = made.unwrap();
    endpoint.call_soon(|_: &mut DatagramRecorder, transport| {
        transport.close();
        Ok(())
    });
    let seen = endpoint.with_protocol(|_: &mut Watched<DatagramRecorder>, _| ());
    assert_eq!(seen, Ok(()));
    world.run_until_idle().unwrap();
    assert_eq!(inner.seen(), [Seen::Made, Seen::Lost]);
    assert_eq!(inner.seen(), outer.seen());
    assert_eq!((inner.dropped(), outer.dropped()), (1, 1));
}

#[test]
fn a_record_of_two_endpoints_is_a_violation() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let log = Log::new();
    for _ in 0..2 {
        let protocol = DatagramRecorder::new(&log);
        let made = host
            .handle()
            .create_datagram_endpoint("127.0.0.1:0", protocol);
        drop(made.unwrap());
    }
    world.pump().unwrap();
    let violations = log.take_violations();
    assert_eq!(violations.len(), 1);
    assert!(
        violations[0].contains("needs a log of its own"),
        "{violations:?}"
    );
    drop(world);
    log.take_violations();
}
