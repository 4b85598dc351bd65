//! Handlers of streams in a check and in a script: the right ones pass, and each broken one is found.

use std::future::pending;
use std::time::Duration;
use tidegate::Result;
use tidegate_streams::{StreamReader, StreamWriter, sleep, spawn, timeout};
use tidegate_testkit::{
    Case, Conversation, Rule, Script, Violation, check_handler, check_handler_case,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends whole lines back.
async fn lines(mut reader: StreamReader, writer: StreamWriter) -> Result {
    while let Some(line) = reader.lines().next().await? {
        if line.ends_with(b"\n") {
            writer.write(&line)?;
            writer.drain().await?;
        }
    }
    Ok(())
}

fn conversation() -> Conversation {
    Conversation::new().say(b"one\ntwo\nxyz\n")
}

/// The check of a broken handler, which must fail, and fail again in the case that it names.
#[track_caller]
fn caught<F>(handler: F, conversation: &Conversation, rule: Rule, case: &str) -> Violation
where
    F: AsyncFn(StreamReader, StreamWriter) -> Result + Clone + 'static,
{
    let violation = check_handler(handler.clone(), conversation).unwrap_err();
    assert_eq!(violation.rule(), rule, "{violation}");
    assert_eq!(violation.case().to_string(), case, "{violation}");
    let text = violation.to_string();
    let again = format!("check_handler_case(handler, &conversation, &\"{case}\".parse()?)");
    assert!(text.contains(&again), "{text}");
    let parsed: Case = case.parse().unwrap();
    let again = check_handler_case(handler, conversation, &parsed).unwrap_err();
    assert_eq!(again.to_string(), text);
    violation
}

// The right ones.

#[test]
fn a_handler_of_lines_passes_in_all_cases() {
    let report = check_handler(lines, &conversation()).unwrap();
    assert_eq!(report.reply(), b"one\ntwo\nxyz\n");
    assert_eq!(report.chunkings(), 2048);
    assert!(report.pauses() > 0, "{report}");
    check_handler_case(lines, &conversation(), &"cut 1 2, reset 5".parse().unwrap()).unwrap();
}

#[test]
fn a_handler_may_ask_and_reply_in_turn_and_give_up_a_silent_peer() {
    let patient = async |mut reader: StreamReader, writer: StreamWriter| {
        loop {
            let Ok(line) = timeout(MINUTE, reader.read_line()).await else {
                writer.write_all(b"bye\n").await?;
                return Ok(());
            };
            let line = line?;
            if line.is_empty() {
                return Ok(());
            }
            if line.ends_with(b"\n") {
                writer.write_all(&line).await?;
            }
        }
    };
    let conversation = Conversation::new()
        .say(b"one\n")
        .answer(b"one\n")
        .wait(Duration::from_secs(2))
        .say(b"two\n")
        .answer(b"two\n");
    check_handler(patient, &conversation).unwrap();
}

#[test]
fn a_handler_that_returns_what_its_reads_and_writes_say_of_a_reset_passes() {
    let report = check_handler(
        async |mut reader: StreamReader, writer: StreamWriter| {
            loop {
                let chunk = reader.read_chunk(2).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
                writer.write_all(&chunk).await?;
            }
        },
        &conversation(),
    );
    assert!(report.unwrap().resets() > 0);
}

// The broken ones.

#[test]
fn a_handler_that_takes_a_read_for_a_line_is_caught() {
    let hasty = async |mut reader: StreamReader, writer: StreamWriter| {
        while !reader.at_eof() {
            let chunk = reader.read_chunk(100).await?;
            write!(writer, "{} ", chunk.len())?;
        }
        Ok(())
    };
    caught(hasty, &conversation(), Rule::Reply, "cut 1");
}

#[test]
fn a_handler_that_ignores_the_end_of_its_peer_is_caught() {
    let deaf = async |mut reader: StreamReader, writer: StreamWriter| {
        reader.read_line().await?;
        writer.write(b"ok\n")?;
        pending().await
    };
    caught(deaf, &conversation(), Rule::Ends, "plain");
}

#[test]
fn a_handler_that_goes_on_after_its_connection_is_caught() {
    let late = async |mut reader: StreamReader, writer: StreamWriter| {
        reader.read_to_end(100).await?;
        writer.close().await?;
        sleep(MINUTE).await;
        Ok(())
    };
    let violation = caught(late, &conversation(), Rule::NothingLeft, "plain");
    assert_eq!(violation.seen(), "1 timer, 1 handler");
    let stuck = async |mut reader: StreamReader, writer: StreamWriter| {
        reader.read_to_end(100).await?;
        writer.close().await?;
        pending().await
    };
    let violation = caught(stuck, &conversation(), Rule::NothingLeft, "plain");
    assert_eq!(violation.seen(), "1 handler");
}

#[test]
fn a_handler_that_fails_on_half_a_message_is_caught_unless_it_may() {
    let exact = async |mut reader: StreamReader, writer: StreamWriter| {
        let mut message = [0; 12];
        reader.read_exact(&mut message).await?;
        writer.write_all(b"ok\n").await?;
        Ok(())
    };
    let violation = caught(exact, &conversation(), Rule::NoNewError, "eof 0");
    let seen = "a stream handler failed: the stream ended after 0 bytes of 12";
    assert_eq!(violation.seen(), seen);
    let may = conversation().may_fail_when_cut_short();
    check_handler(exact, &may).unwrap();
}

#[test]
fn a_handler_that_fails_or_panics_when_all_is_well_is_caught() {
    let fails = async |mut reader: StreamReader, _: StreamWriter| {
        reader.read_to_end(100).await?;
        Err("on purpose".into())
    };
    let violation = caught(fails, &conversation(), Rule::NoError, "plain");
    assert_eq!(violation.seen(), "a stream handler failed: on purpose");
    let panics = async |mut reader: StreamReader, _: StreamWriter| {
        assert!(reader.read_line().await?.len() < 4, "on purpose");
        Ok(())
    };
    let violation = caught(panics, &conversation(), Rule::NoPanic, "plain");
    assert_eq!(violation.seen(), "a stream handler panicked: on purpose");
}

#[test]
fn a_handler_that_never_comes_to_rest_is_caught() {
    let busy = async |_: StreamReader, _writer: StreamWriter| {
        loop {
            sleep(Duration::ZERO).await;
        }
    };
    let violation = check_handler(busy, &conversation()).unwrap_err();
    assert_eq!(violation.rule(), Rule::Rest, "{violation}");
}

// Scripts.

#[test]
fn a_script_is_played_against_a_handler_that_accepts() {
    let played = Script::new()
        .send("one\ntw")
        .expect("one\n")
        .expect_nothing(MINUTE)
        .send("o\n")
        .expect("two\n")
        .send_eof()
        .expect_eof()
        .play_handler(lines)
        .unwrap();
    assert!(played.closed().unwrap().is_clean());
    assert!(played.failures().is_empty());
    assert_eq!(played.elapsed(), MINUTE);
}

#[test]
fn a_script_is_played_against_a_handler_that_connects() {
    let asks = async |mut reader: StreamReader, writer: StreamWriter| {
        writer.write_all(b"hello\n").await?;
        let reply = reader.read_line().await?;
        assert_eq!(&reply[..], b"welcome\n");
        spawn(async move { writer.close().await.unwrap() });
        Ok(())
    };
    let script = Script::new()
        .expect("hello\n")
        .send_bytewise("welcome\n")
        .expect_eof();
    script.play_client_handler(asks).unwrap();
}

#[test]
fn a_script_says_what_a_broken_handler_did_instead() {
    let script = Script::new().send("one\n").expect("one\n");
    let mismatch = script.play_handler(async |mut reader, writer| {
        let line = reader.read_line().await?;
        writer.write_all(&line[1..]).await?;
        Ok(())
    });
    let mismatch = mismatch.unwrap_err();
    assert_eq!(mismatch.step(), Some(2));
    assert!(mismatch.seen().starts_with("\"ne\\n\""), "{mismatch}");
}

#[test]
fn an_error_of_a_handler_is_a_mismatch_unless_it_may_fail_and_a_panic_is_one_always() {
    let script = Script::new().send("x\n").expect_closed();
    let fails = async |mut reader: StreamReader, _: StreamWriter| {
        reader.read_line().await?;
        Err("on purpose".into())
    };
    let mismatch = script.play_handler(fails).unwrap_err().to_string();
    assert!(mismatch.contains("failed: on purpose"), "{mismatch}");
    let played = script.clone().may_fail().play_handler(fails).unwrap();
    assert_eq!(played.failures()[0].context(), "a stream handler");
    let panics = async |mut reader: StreamReader, _: StreamWriter| {
        reader.read_line().await?;
        panic!("on purpose")
    };
    for script in [script.clone(), script.may_fail()] {
        let mismatch = script.play_handler(panics).unwrap_err().to_string();
        assert!(mismatch.contains("panicked: on purpose"), "{mismatch}");
    }
}
