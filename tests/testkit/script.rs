//! A peer that follows a script, and how it says that the protocol did not.

use std::time::Duration;
use support::{Log, Recorder, pattern};
use tidegate::{Protocol, Result, Transport};
use tidegate_testkit::{Mismatch, Script};

const SECOND: Duration = Duration::from_secs(1);

fn echo() -> impl Protocol {
    Recorder::echo(&Log::new())
}

/// Replies to each byte after a second of its own.
struct Slow;

impl Protocol for Slow {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        for (n, byte) in data.iter().copied().enumerate() {
            let delay = SECOND * (n as u32 + 1);
            transport.call_later(delay, move |_: &mut Self, transport| {
                transport.write(&[byte])?;
                Ok(())
            });
        }
        Ok(())
    }
}

#[track_caller]
fn assert_mismatch(played: std::result::Result<impl Sized, Mismatch>, step: usize, seen: &str) {
    let mismatch = played.map(drop).unwrap_err();
    assert_eq!((mismatch.step(), mismatch.seen()), (Some(step), seen));
    assert_eq!(mismatch.to_string(), format!("{mismatch:?}"));
}

// Scripts that pass.

#[test]
fn a_script_that_fits_is_played_to_its_end_and_answers_what_was_said() {
    let played = Script::new()
        .send("hello ")
        .send(b"world")
        .expect("hello")
        .expect(" world")
        .send_eof()
        .expect_eof()
        .expect_closed()
        .play(echo())
        .unwrap();
    assert!(played.closed().unwrap().is_clean());
    assert!(played.failures().is_empty());
    assert_eq!(played.log().words(), ["made", "data", "eof", "lost"]);
    let said = played.dialogue().to_string();
    let parts = [
        r#"peer -> "hello ""#,
        r#"peer <- "hello ""#,
        r#"peer -> "world""#,
        r#"peer <- "world""#,
        "peer -> end of stream",
        "peer <- end of stream",
    ];
    let places: Vec<_> = parts.iter().map(|part| said.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{said}");
}

#[test]
fn an_expectation_waits_for_all_its_pieces_in_the_worlds_time() {
    let played = Script::new()
        .send("four")
        .expect("four")
        .play(Slow)
        .unwrap();
    assert_eq!(played.elapsed(), SECOND * 4);
    // Or takes what came while the peer waited.
    let played = Script::new()
        .send("four")
        .wait(SECOND * 100)
        .expect("fo")
        .expect("ur")
        .play(Slow)
        .unwrap();
    assert_eq!(played.elapsed(), SECOND * 100);
}

#[test]
fn large_messages_pass_in_both_directions() {
    let sent = pattern(0, 1_000_000);
    let script = Script::new().send(&sent).expect(&sent);
    script.play(echo()).unwrap();
}

#[test]
fn what_is_sent_bytewise_is_read_bytewise() {
    let log = Log::new();
    let script = Script::new().send_bytewise("abc").expect("abc");
    script.play(Recorder::echo(&log)).unwrap();
    let data = |byte: &[u8]| support::Seen::Data(byte.to_vec());
    assert_eq!(log.seen()[1..4], [data(b"a"), data(b"b"), data(b"c")]);
}

#[test]
fn a_protocol_that_connects_is_played_against_a_peer_that_listens() {
    let log = Log::new();
    let client = Recorder::new(&log)
        .on_made(|transport| {
            transport.write(b"GET /\r\n")?;
            Ok(())
        })
        .on_data(|transport, _| {
            transport.close();
            Ok(())
        });
    let played = Script::new()
        .expect("GET /\r\n")
        .send("200 OK\r\n")
        .expect_eof()
        .play_client(client)
        .unwrap();
    assert_eq!(log.reason(), "local-close");
    assert!(played.closed().unwrap().is_clean());
}

#[test]
fn a_reset_of_either_side_is_seen_by_the_other() {
    let log = Log::new();
    let script = Script::new().send("x").expect("x").reset().expect_closed();
    script.play(Recorder::echo(&log)).unwrap();
    assert!(log.closed().is_reset());
    let resets = Recorder::new(&Log::new()).on_data(|transport, _| {
        transport.reset();
        Ok(())
    });
    Script::new().send("x").expect_reset().play(resets).unwrap();
}

#[test]
fn errors_of_callbacks_are_told() {
    let fails = Recorder::new(&Log::new()).on_data(|_, _| Err("not that".into()));
    let script = Script::new().send("x").expect_closed().may_fail();
    let played = script.play(fails).unwrap();
    let [failure] = played.failures() else {
        panic!("{:?}", played.failures());
    };
    assert_eq!(failure.context(), "data_received");
}

// Scripts that fail.

#[test]
fn a_mismatch_names_the_step_what_was_expected_what_came_and_all_that_was_said() {
    let script = Script::new()
        .send("one\n")
        .expect("one\n")
        .wait(SECOND)
        .send("two\n")
        .expect("TWO\n");
    let mismatch = script.play(echo()).unwrap_err();
    let expected = r#"step 5, expect "TWO\n"
  expected: "TWO\n"
      came: "two\n"
what was said:
       0.000 s  peer -> "one\n"
       0.000 s  peer <- "one\n"
       1.000 s  peer -> "two\n"
       1.000 s  peer <- "two\n"
"#;
    assert_eq!(mismatch.to_string(), expected);
    assert_eq!(format!("{mismatch:?}"), expected);
}

#[test]
fn bytes_that_differ_are_a_mismatch_at_once_and_too_few_after_the_patience() {
    let script = Script::new().send("four").expect("five");
    assert_mismatch(script.play(Slow), 2, r#""fo""#);
    let script = Script::new().send("fo").expect("four");
    assert_mismatch(script.play(Slow), 2, r#""fo""#);
    let patience = Script::new().patience(SECOND * 3).send("four");
    assert_mismatch(patience.expect("four").play(Slow), 2, r#""fou""#);
    let none = Script::new().patience(Duration::ZERO).send("x");
    assert_mismatch(none.expect("x").play(Slow), 2, "nothing");
}

#[test]
fn bytes_that_nobody_expected_are_a_mismatch_wherever_they_come() {
    assert_mismatch(Script::new().send("x").play(echo()), 2, r#""x""#);
    let script = Script::new().send("xy").expect("x");
    assert_mismatch(script.clone().play(echo()), 3, r#""y""#);
    let at_eof = script.clone().send_eof().expect_eof();
    assert_mismatch(at_eof.play(echo()), 4, r#""y", then the end of the stream"#);
    let silent = script.clone().expect_nothing(SECOND);
    assert_mismatch(silent.play(echo()), 3, r#""y""#);
    let at_end = script.send_eof().expect_closed();
    assert_mismatch(at_end.play(echo()), 4, r#""y", then the end of the stream"#);
    let soon = Script::new().send("x").expect_nothing(SECOND);
    assert_mismatch(soon.clone().play(Slow), 2, r#""x""#);
    Script::new()
        .send("x")
        .expect_nothing(SECOND - Duration::from_nanos(1))
        .expect("x")
        .play(Slow)
        .unwrap();
}

#[test]
fn an_end_of_another_kind_than_expected_is_a_mismatch() {
    let eof = Script::new().send_eof();
    let end = "the end of the stream";
    assert_mismatch(eof.clone().expect_reset().play(echo()), 2, end);
    assert_mismatch(eof.clone().expect_nothing(SECOND).play(echo()), 2, end);
    assert_mismatch(eof.expect("x").play(echo()), 2, end);
    assert_mismatch(Script::new().expect_eof().play(echo()), 1, "nothing");
    let there = "the connection is still there";
    assert_mismatch(Script::new().expect_closed().play(echo()), 1, there);
    let resets = Recorder::new(&Log::new()).on_made(|transport| {
        transport.reset();
        Ok(())
    });
    assert_mismatch(Script::new().expect_eof().play(resets), 1, "a reset");
}

#[test]
fn a_protocol_that_does_not_read_is_a_mismatch_of_the_send() {
    let deaf = Recorder::new(&Log::new()).on_made(|transport| {
        transport.pause_reading();
        Ok(())
    });
    let mismatch = Script::new()
        .send(vec![b'x'; 200_000])
        .play(deaf)
        .unwrap_err();
    assert_eq!(mismatch.step(), Some(1));
    assert!(
        mismatch.seen().starts_with("nobody read on after"),
        "{mismatch}"
    );
    let gone = Recorder::new(&Log::new()).on_made(|transport| {
        transport.reset();
        Ok(())
    });
    assert_mismatch(
        Script::new().send("x").play(gone),
        1,
        "a reset after 0 bytes of it",
    );
}

#[test]
fn a_small_message_that_is_not_read_is_a_mismatch_too() {
    let pauses = || {
        Recorder::new(&Log::new()).on_data(|transport, _| {
            transport.pause_reading();
            Ok(())
        })
    };
    let script = Script::new().send("x").send("yz");
    let seen = "nobody read on after 0 bytes of it were read";
    assert_mismatch(script.play(pauses()), 2, seen);
    let bytewise = Script::new().send_bytewise("xyz");
    assert_mismatch(bytewise.play(pauses()), 1, seen);
    // A script may be ahead of its protocol.
    let ahead = Script::new().send("x").send_ahead("yz");
    ahead.play(pauses()).unwrap();
    let aborts = Recorder::new(&Log::new()).on_made(|transport| {
        transport.abort();
        Ok(())
    });
    let mismatch = Script::new().send("x").play(aborts).unwrap_err();
    assert_eq!(mismatch.step(), Some(1), "{mismatch}");
}

#[test]
fn a_message_that_is_read_later_is_waited_for() {
    let naps = Recorder::new(&Log::new()).on_data(|transport, _| {
        transport.pause_reading();
        transport.call_later(SECOND, |_: &mut Recorder, transport| {
            transport.resume_reading();
            Ok(())
        });
        Ok(())
    });
    let played = Script::new().send("x").send("y").play(naps).unwrap();
    assert_eq!(played.elapsed(), SECOND);
    assert_eq!(played.log().data(), b"xy");
}

#[test]
fn a_script_that_sends_after_its_own_end_is_told_so() {
    let keeps = || Recorder::new(&Log::new()).keep_open();
    let script = Script::new().send_eof().send("x");
    let seen = "the script itself had ended the stream before";
    assert_mismatch(script.play(keeps()), 2, seen);
    let script = Script::new().reset().send("x");
    let seen = "the script itself had reset the connection before";
    assert_mismatch(script.play(keeps()), 2, seen);
}

#[test]
fn a_callback_that_failed_is_a_mismatch_even_if_the_peer_saw_what_it_expected() {
    let fails = Recorder::new(&Log::new()).on_eof(|_| Err("half a line".into()));
    let script = Script::new().send("x").send_eof().expect_closed();
    let mismatch = script.play(fails).unwrap_err();
    assert_eq!(mismatch.step(), Some(4));
    assert_eq!(mismatch.expected(), "no error");
    assert!(mismatch.to_string().contains("half a line"), "{mismatch}");
}

#[test]
fn a_mismatch_tells_of_a_callback_that_failed() {
    let fails = Recorder::new(&Log::new()).on_data(|_, _| Err("no such command".into()));
    let mismatch = Script::new().send("x").expect("y").play(fails).unwrap_err();
    assert!(
        mismatch.to_string().contains("no such command"),
        "{mismatch}"
    );
}

#[test]
#[should_panic(expected = "cannot happen")]
fn a_panic_of_the_protocol_goes_on() {
    let panics = Recorder::new(&Log::new()).on_data(|_, _| panic!("cannot happen"));
    // The panic comes out of here.
    drop(Script::new().send("x").play(panics));
}
