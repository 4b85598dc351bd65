//! The check of protocols: protocols that pass, protocols that fail, and its reports.

mod broken;
mod held_up;
mod right;

use broken::*;
use right::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, pattern};
use tidegate::Protocol;
use tidegate_testkit::{
    Case, Conversation, Report, Rule, Variation, Violation, check_case, check_protocol,
};

fn lines() -> Conversation {
    Conversation::new().say(b"one\ntwo\nxyz\n")
}

/// The check of a broken protocol, which must fail; and the case that it names must fail in the
/// same way when it is run alone.
#[track_caller]
fn caught<P: Protocol>(factory: fn() -> P, conversation: &Conversation) -> Violation {
    let broken = check_protocol(factory, conversation).unwrap_err();
    let text = broken.to_string();
    for part in [
        broken.rule().to_string(),
        format!("\"{}\".parse()", broken.case()),
        broken.expected().to_owned(),
        broken.seen().to_owned(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text}");
    }
    let parsed: Case = broken.case().to_string().parse().unwrap();
    assert_eq!(parsed, *broken.case());
    let again = check_case(factory, conversation, &parsed).unwrap_err();
    assert_eq!(again.to_string(), text);
    broken
}

#[track_caller]
fn assert_caught<P: Protocol>(
    factory: fn() -> P,
    conversation: &Conversation,
    rule: Rule,
    case: &str,
) -> Violation {
    let broken = caught(factory, conversation);
    assert_eq!(
        (broken.rule(), broken.case().to_string().as_str()),
        (rule, case),
        "{broken}"
    );
    broken
}

// Right protocols.

#[test]
fn a_short_conversation_is_tried_in_all_chunkings_and_cut_everywhere() {
    let seen: Rc<RefCell<Vec<Log>>> = Rc::default();
    let logs = seen.clone();
    let factory = move || {
        let log = Log::new();
        logs.borrow_mut().push(log.clone());
        Recorder::echo(&log)
    };
    let report = check_protocol(factory, &Conversation::new().say(b"12345")).unwrap();
    assert_eq!(report.chunkings(), 16);
    for count in [report.resets(), report.early_ends(), report.silences()] {
        assert_eq!(count, 6, "{report}");
    }
    assert!(report.paused() >= 3 && report.pauses() > 0, "{report}");
    // The first run is the one that the others are compared with.
    let runs = seen.take();
    assert_eq!(runs.len() as u64, report.runs() + 1);
    // As the protocol saw it: each chunking once, and the plain one twice.
    let mut chunkings: Vec<Vec<usize>> = runs[..17]
        .iter()
        .map(|log| {
            let seen = log.seen();
            let lens = seen.iter().filter_map(|seen| match seen {
                support::Seen::Data(data) => Some(data.len()),
                _ => None,
            });
            lens.collect()
        })
        .collect();
    chunkings.sort();
    chunkings.dedup();
    assert_eq!(chunkings.len(), 16, "{chunkings:?}");
    assert!(chunkings.iter().all(|lens| lens.iter().sum::<usize>() == 5));
}

#[test]
fn a_line_protocol_that_keeps_the_rest_for_later_passes() {
    let report = check_protocol(Lines::default, &lines()).unwrap();
    assert_eq!(report.chunkings(), 2048);
}

#[test]
fn a_protocol_with_a_buffer_of_its_own_passes() {
    let conversation = Conversation::new().say(b"hello world");
    for size in [1, 4, 4096] {
        check_protocol(move || OwnBuffer::new(size), &conversation).unwrap();
    }
}

#[test]
fn a_length_prefixed_protocol_that_may_complain_about_half_a_message_passes() {
    let conversation = Conversation::new().say(b"\0\x03abc\0\0\0\x05hello\0\x01x");
    let broken = assert_caught(Prefixed::default, &conversation, Rule::NoNewError, "eof 1");
    assert_eq!(broken.seen(), "eof_received failed: half a message");
    let report = check_protocol(Prefixed::default, &conversation.may_fail_when_cut_short());
    assert_eq!(report.unwrap().resets(), 18);
}

#[test]
fn a_protocol_that_asks_and_answers_in_turn_passes() {
    let conversation = Conversation::new()
        .say(b"one\n")
        .answer(b"one\n")
        .wait(Duration::from_secs(2))
        .say(b"two\n")
        .answer(b"two\n")
        .stay();
    let report = check_protocol(Lines::default, &conversation).unwrap();
    assert_eq!(report.chunkings(), 64, "three places in each message");
}

#[test]
fn a_protocol_may_hang_up_on_silence_and_its_last_words_count() {
    let conversation = Conversation::new().say(b"one\n").stay();
    check_protocol(Impatient::default, &conversation).unwrap();
    let patient = conversation.patience(Duration::from_secs(3600));
    check_protocol(Impatient::default, &patient).unwrap();
}

#[test]
fn a_protocol_that_closes_at_a_command_passes_also_when_the_peer_says_more() {
    let conversation = Conversation::new().say(b"one\nQUIT\nxy\n");
    check_protocol(Quits::default, &conversation).unwrap();
}

#[test]
fn a_protocol_that_gives_its_place_to_another_passes() {
    check_protocol(|| Switches, &Conversation::new().say(b"upgrade!")).unwrap();
}

#[test]
fn an_error_that_the_plain_run_has_too_is_no_new_one() {
    let factory = || {
        Recorder::new(&Log::new()).on_eof(|transport| {
            transport.write(b"so soon?")?;
            Err("the peer left".into())
        })
    };
    let conversation = Conversation::new().may_fail().may_fail_when_cut_short();
    let report = check_protocol(factory, &conversation).unwrap();
    assert_eq!(report.reply(), b"so soon?");
    assert_eq!(report.errors(), ["eof_received failed: the peer left"]);
}

#[test]
fn a_long_conversation_is_cut_at_each_place_and_by_seed() {
    let conversation = Conversation::new().say(pattern(0, 300)).seed(7);
    let echo = || Recorder::echo(&Log::new());
    let report = check_protocol(echo, &conversation).unwrap();
    assert_eq!(report.chunkings(), 1 + 299 + 1 + 100);
    assert_eq!(report.resets(), 301);
    let more = conversation.random_chunkings(150);
    assert_eq!(check_protocol(echo, &more).unwrap().chunkings(), 451);
    // Of more than a thousand places there is a sample.
    let long = Conversation::new()
        .say(pattern(0, 2000))
        .random_chunkings(1);
    let report: Report = check_protocol(|| Recorder::new(&Log::new()), &long).unwrap();
    assert_eq!(report.silences(), 1000);
}

// Wrong protocols.

#[test]
fn a_protocol_that_drops_a_byte_at_a_chunk_boundary_is_caught() {
    let broken = assert_caught(|| DropsFirst(0), &lines(), Rule::Reply, "cut 1");
    assert_eq!(broken.expected(), r#""one\ntwo\nxyz\n""#);
    assert_eq!(broken.seen(), r#""oe\ntwo\nxyz\n""#);
    let said = broken.dialogue().to_string();
    for part in [r#"peer -> "o""#, r#"peer -> "ne\n"#, r#"peer <- "e\n"#] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_reply_for_each_chunk_is_caught() {
    assert_caught(|| RepliesPerChunk, &lines(), Rule::Reply, "cut 1");
}

#[test]
fn a_half_line_that_is_forgotten_is_caught() {
    assert_caught(|| ForgetsHalf, &lines(), Rule::Reply, "cut 1");
}

#[test]
fn the_case_is_shortened_to_the_chunks_that_matter() {
    // Goes wrong from three chunks on; random chunkings of a text this long have many more.
    let long = Conversation::new().say(pattern(0, 40));
    let broken = caught(|| CountsChunks(0), &long);
    assert_eq!(broken.rule(), Rule::Reply);
    assert_eq!(broken.case().cuts().len(), 2, "{broken}");
    assert_eq!(broken.case().variation(), Variation::Whole);
}

#[test]
fn a_panic_at_an_early_end_is_caught() {
    let broken = assert_caught(PanicsOnEof::default, &lines(), Rule::NoPanic, "cut 1");
    assert_eq!(broken.seen(), "eof_received panicked: two chunks");
}

#[test]
fn a_panic_when_all_is_well_is_caught_in_the_plain_run() {
    let broken = assert_caught(|| WritesAfterClose, &lines(), Rule::NoPanic, "plain");
    assert!(broken.seen().contains("Closing"), "{broken}");
}

#[test]
fn bytes_that_are_lost_while_paused_are_caught() {
    let conversation = Conversation::new().say(b"hello world");
    let broken = assert_caught(|| LosesWhenPaused, &conversation, Rule::Reply, "pause 1");
    // The peer has said everything before it reads.
    let said = broken.dialogue().to_string();
    let end = said.find("peer -> end of stream").unwrap();
    assert!(end < said.find("peer <-").unwrap(), "{said}");
}

#[test]
fn a_timer_that_outlives_its_connection_is_caught() {
    let conversation = Conversation::new().say(b"a");
    let broken = assert_caught(|| LeavesTimer, &conversation, Rule::NothingLeft, "plain");
    assert_eq!(broken.seen(), "1 timer");
    // Also when it would have fired, and been forgotten, before the peer goes.
    let long = Conversation::new()
        .say(b"a")
        .wait(Duration::from_secs(3600));
    let broken = assert_caught(|| ClosesAndLeavesTimer, &long, Rule::NothingLeft, "plain");
    assert_eq!(broken.seen(), "1 timer");
}

#[test]
fn an_error_in_the_middle_is_caught() {
    let broken = assert_caught(ErrorAfterHalf::default, &lines(), Rule::NoNewError, "eof 1");
    assert!(broken.seen().contains("half a line"), "{broken}");
}

#[test]
fn a_connection_that_outlives_its_peer_is_caught() {
    let broken = assert_caught(|| NeverCloses, &lines(), Rule::Ends, "plain");
    assert!(broken.expected().contains("3600s"), "{broken}");
}

#[test]
fn an_end_that_depends_on_the_chunks_is_caught() {
    let conversation = Conversation::new().say(b"QUIT\n").stay();
    let broken = assert_caught(|| QuitsIfWhole, &conversation, Rule::Ending, "cut 1");
    assert_eq!(broken.expected(), "the protocol ends its stream");
    assert_eq!(broken.seen(), "the connection stays open");
}

#[test]
fn an_answer_to_half_a_line_is_caught_and_allowed_when_it_may() {
    let conversation = Conversation::new().say(b"one\n");
    assert_caught(AnswersHalf::default, &conversation, Rule::Prefix, "eof 1");
    check_protocol(
        AnswersHalf::default,
        &conversation.may_answer_when_cut_short(),
    )
    .unwrap();
}

#[test]
fn an_answer_that_is_not_the_expected_one_is_caught() {
    let conversation = Conversation::new().say(b"one\n").answer(b"ONE\n");
    let broken = assert_caught(Lines::default, &conversation, Rule::Answer, "plain");
    assert_eq!(
        (broken.expected(), broken.seen()),
        (r#""ONE\n""#, r#""one\n""#)
    );
}

#[test]
fn what_comes_after_the_last_answer_is_caught_unless_the_protocol_may_say_more() {
    let conversation = Conversation::new()
        .say(b"one\n")
        .answer(b"one\n")
        .say(b"two\nxyz\n")
        .answer(b"two\n");
    let broken = assert_caught(Lines::default, &conversation, Rule::Answer, "plain");
    assert_eq!(
        (broken.expected(), broken.seen()),
        (r#""one\ntwo\n""#, r#""one\ntwo\nxyz\n""#)
    );
    let report = check_protocol(Lines::default, &conversation.may_say_more()).unwrap();
    assert_eq!(report.reply(), b"one\ntwo\nxyz\n");
}

#[test]
fn an_error_when_all_is_well_is_caught_unless_the_conversation_may_fail() {
    fn fails() -> impl Protocol {
        Recorder::new(&Log::new()).on_data(|_, _| Err("no such command".into()))
    }
    let conversation = Conversation::new().say(b"x");
    let broken = assert_caught(fails, &conversation, Rule::NoError, "plain");
    assert_eq!(broken.seen(), "data_received failed: no such command");
    check_protocol(fails, &conversation.may_fail()).unwrap();
}

#[test]
fn a_reply_that_is_never_the_same_is_caught_as_that() {
    let mut count = 0;
    let factory = move || {
        count += 1;
        Counts(count)
    };
    let broken = check_protocol(factory, &lines()).unwrap_err();
    assert_eq!(broken.rule(), Rule::Repeatable);
}

#[test]
fn a_protocol_that_never_rests_is_caught() {
    let broken = assert_caught(|| Busy, &Conversation::new(), Rule::Rest, "plain");
    assert!(broken.seen().contains("still busy"), "{broken}");
}

#[test]
fn a_callback_that_nobody_but_the_loop_may_make_is_caught() {
    let broken = assert_caught(|| CallsItself, &lines(), Rule::Grammar, "plain");
    assert!(broken.seen().contains("resume without pause"), "{broken}");
}

#[test]
fn a_case_with_places_that_the_conversation_does_not_have_is_an_error() {
    let conversation = Conversation::new().say(b"hello");
    for (text, seen) in [
        ("cut 0", "a cut after 0 of them"),
        ("cut 1 5", "a cut after 5 of them"),
        ("reset 6", "a peer that breaks off after 6 of them"),
        ("cut 2, eof 60", "a peer that breaks off after 60 of them"),
    ] {
        let echo = || Recorder::echo(&Log::new());
        let broken = check_case(echo, &conversation, &text.parse().unwrap()).unwrap_err();
        assert_eq!((broken.rule(), broken.seen()), (Rule::Case, seen));
        assert_eq!(broken.expected(), "places within 5 bytes");
    }
}

#[test]
fn a_long_case_is_shortened_in_few_runs() {
    let runs = Rc::new(Cell::new(0));
    let counted = runs.clone();
    // Fails when the first twenty bytes come one by one.
    let factory = move || {
        counted.set(counted.get() + 1);
        let (mut chunks, mut bytes) = (0, 0);
        Recorder::new(&Log::new()).on_data(move |_, data| {
            chunks += 1;
            bytes += data.len();
            if chunks == 20 && bytes == 20 {
                return Err("too slow".into());
            }
            Ok(())
        })
    };
    let conversation = Conversation::new().say(pattern(0, 1500));
    let broken = check_protocol(factory, &conversation).unwrap_err();
    assert_eq!(broken.rule(), Rule::NoNewError);
    assert_eq!(broken.case().cuts(), (1..=20).collect::<Vec<_>>());
    // Two plain runs, a thousand with one cut, and that with all of them came before.
    let shrinks = runs.get() - 1003;
    assert!(shrinks < 300, "{shrinks}");
}

#[test]
fn a_text_that_is_no_case_says_how_one_reads() {
    for text in [
        "",
        "cut",
        "cut x",
        "reset",
        "reset 1 2",
        "eof -1",
        "cut 1, nonsense",
        "cut 1, cut 2",
        "reset 1, eof 2",
        "plain, plain",
        "cut 1, plain",
    ] {
        let error = text.parse::<Case>().unwrap_err();
        assert!(
            error.to_string().contains("\"cut 1 2, reset 3\""),
            "{error}"
        );
    }
    for text in ["plain", "cut 1 2", "pause 8", "cut 4, pause 1", "silence 0"] {
        assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
    }
}
