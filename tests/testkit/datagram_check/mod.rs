//! The check of protocols of datagrams: protocols that pass, protocols that fail, and its reports.

mod broken;
mod right;

use broken::*;
use right::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tidegate::DatagramProtocol;
use tidegate_testkit::{
    DatagramCase, DatagramConversation, DatagramRecorder, DatagramRule, DatagramViolation, Log,
    Watched, check_datagram_case, check_datagram_protocol,
};

fn two() -> DatagramConversation {
    DatagramConversation::new().say("\x03one").say("\x05three")
}

/// The check of a broken protocol, which must fail; and the case that it names must fail in the same way when it is
/// run alone.
#[track_caller]
fn assert_caught<P: DatagramProtocol>(
    factory: fn() -> P,
    conversation: &DatagramConversation,
    rule: DatagramRule,
    case: &str,
) -> DatagramViolation {
    let broken = check_datagram_protocol(factory, conversation).unwrap_err();
    let found = (broken.rule(), broken.case().to_string());
    assert_eq!(found, (rule, case.to_owned()), "{broken}");
    let text = broken.to_string();
    for part in [rule.to_string(), format!("\"{case}\".parse()")] {
        assert!(text.contains(&part), "{part:?} is not in {text}");
    }
    let parsed: DatagramCase = case.parse().unwrap();
    let again = check_datagram_case(factory, conversation, &parsed).unwrap_err();
    assert_eq!(again.rule(), rule);
    broken
}

// Right protocols.

#[test]
fn a_protocol_that_replies_at_the_end_of_a_batch_passes() {
    let conversation = DatagramConversation::new()
        .say("one")
        .answer("one")
        .say("two")
        .answer("two");
    check_datagram_protocol(InBatches::default, &conversation).unwrap();
}

#[test]
fn an_echo_passes_and_each_datagram_is_treated_in_every_way() {
    let logs: Rc<RefCell<Vec<Log>>> = Rc::default();
    let made = logs.clone();
    let factory = move || {
        let log = Log::new();
        made.borrow_mut().push(log.clone());
        DatagramRecorder::echo(&log)
    };
    let conversation = DatagramConversation::new().say("ab").say("").say("c");
    let report = check_datagram_protocol(factory, &conversation).unwrap();
    assert_eq!(report.replies(), [&b"ab"[..], b"", b"c"]);
    for (word, count) in [
        ("plain", 1),
        ("lost", 3),
        ("doubled", 3),
        ("late", 3),
        ("refused", 3),
        ("empty", 4),
        ("long", 4),
        ("closed", 4),
        ("aborted", 4),
        ("cut", 3),
        ("paused", 3),
        ("storm", 50),
    ] {
        assert_eq!(report.runs_of(word), count, "{word}: {report}");
    }
    assert!(report.pauses() > 0, "{report}");
    let logs = logs.take();
    assert_eq!(logs.len() as u64, report.runs() + 1);
    assert!(logs.iter().all(Log::is_lost));
    // As the protocol saw it: the first of them lost, and then the conversation once more.
    let lost = &logs[2].datagrams();
    assert_eq!(lost[..], [&b""[..], b"c", b"ab", b"", b"c"]);
}

#[test]
fn protocols_that_keep_the_rules_pass() {
    let answered = DatagramConversation::new()
        .say("\x03one")
        .answer("one")
        .say("nonsense")
        .say("\x05three")
        .answer("three");
    check_datagram_protocol(|| Counted, &answered).unwrap();
    check_datagram_protocol(|| Complains, &two().may_fail_on_junk()).unwrap();
    check_datagram_protocol(LeavesOut::default, &two()).unwrap();
    check_datagram_protocol(Tied::default, &two().connected()).unwrap();
}

#[test]
fn a_reply_may_take_its_time_if_the_conversation_waits_for_it() {
    let slow = DatagramConversation::new()
        .say("one")
        .answer("one")
        .say("two")
        .answer("two");
    let report = check_datagram_protocol(|| Slow, &slow).unwrap();
    assert_eq!(report.replies(), [b"one", b"two"]);
    let hasty = slow.patience(Duration::from_millis(999));
    let late = check_datagram_protocol(|| Slow, &hasty).unwrap_err();
    assert_eq!(
        (late.rule(), late.seen()),
        (DatagramRule::Answer, "nothing")
    );
}

#[test]
fn a_protocol_that_remembers_passes_when_the_conversation_says_so() {
    let visits = DatagramConversation::new()
        .say("a")
        .answer("1")
        .say("b")
        .answer("2");
    let broken = check_datagram_protocol(Visits::default, &visits).unwrap_err();
    assert_eq!(broken.rule(), DatagramRule::Reply, "{broken}");
    check_datagram_protocol(Visits::default, &visits.remembers()).unwrap();
}

#[test]
fn a_client_that_asks_and_closes_by_itself_passes() {
    let asked = DatagramConversation::new()
        .connected()
        .answer("hello?")
        .wait(Duration::from_secs(1))
        .say("hello");
    check_datagram_protocol(|| Asks, &asked).unwrap_err();
    let asked = DatagramConversation::new()
        .connected()
        .answer("hello?")
        .say("nonsense")
        .say("hello");
    check_datagram_protocol(|| Asks, &asked).unwrap();
}

// Wrong ones.

#[test]
fn a_panic_about_a_strange_datagram_is_caught() {
    use DatagramRule::NoPanic;
    assert_caught(|| NeedsByte, &two(), NoPanic, "empty 0");
    assert_caught(|| NeedsWhole, &two(), NoPanic, "cut 0 1");
}

#[test]
fn an_error_that_only_some_runs_have_is_caught() {
    let rule = DatagramRule::NoNewError;
    let broken = assert_caught(|| HatesLength, &two(), rule, "long 0");
    assert_eq!(broken.seen(), "datagram_received failed: too long");
    assert_caught(|| Complains, &two(), rule, "empty 0");
    assert_caught(|| Fails, &two(), DatagramRule::NoError, "plain");
    let report = check_datagram_protocol(|| Fails, &two().may_fail()).unwrap();
    assert_eq!(report.errors().len(), 2);
}

#[test]
fn sends_without_a_bound_are_caught() {
    let rule = DatagramRule::Bounded;
    assert_caught(|| IgnoresPause, &two(), rule, "paused 0");
    check_datagram_protocol(|| IgnoresPause, &two().may_drop()).unwrap();
    assert_caught(|| FillsQueue, &two(), rule, "plain");
    assert_caught(|| Endless(None), &two(), DatagramRule::Rest, "plain");
}

#[test]
fn a_protocol_that_does_not_go_on_after_a_pause_is_caught() {
    let rule = DatagramRule::Recovers;
    let broken = assert_caught(NeverResumes::default, &two(), rule, "paused 0");
    assert_eq!(broken.seen(), "nothing");
}

#[test]
fn replies_that_depend_on_other_datagrams_are_caught() {
    let broken = assert_caught(|| Counts(0), &two(), DatagramRule::Recovers, "plain");
    assert_eq!(broken.seen(), "\"\\x03\"");
    check_datagram_protocol(|| Counts(0), &two().remembers()).unwrap();
    assert_caught(|| OnePeer(None), &two(), DatagramRule::Recovers, "plain");
    assert_caught(|| Moody, &two(), DatagramRule::Repeatable, "plain");
}

#[test]
fn an_endpoint_that_a_peer_or_the_network_can_end_is_caught() {
    assert_caught(|| GivesUp, &two(), DatagramRule::GoesOn, "empty 0");
    let tied = two().connected();
    let broken = assert_caught(|| NeedsPeer, &tied, DatagramRule::GoesOn, "refused 0");
    assert!(broken.dialogue().to_string().contains("peer 0 leaves"));
    assert_caught(|| NeedsLength, &tied, DatagramRule::NoPanic, "refused 0");
}

#[test]
fn a_protocol_that_needs_an_order_a_network_does_not_keep_is_caught() {
    use DatagramRule::NoPanic;
    let numbers = DatagramConversation::new().say([1]).say([2]).remembers();
    assert_caught(InOrder::default, &numbers, NoPanic, "doubled 0");
    let repeats = || InOrder {
        may_repeat: true,
        ..InOrder::default()
    };
    assert_caught(repeats, &numbers, NoPanic, "late 0");
}

#[test]
fn a_protocol_that_some_error_or_end_takes_by_surprise_is_caught() {
    use DatagramRule::NoPanic;
    let broken = check_datagram_protocol(|| NeedsRefusal, &two()).unwrap_err();
    assert_eq!(broken.rule(), NoPanic, "{broken}");
    assert!(broken.case().to_string().starts_with("storm"), "{broken}");
    let needy = |may_be_idle| NeedsUse {
        was_used: false,
        may_be_idle,
    };
    let broken = check_datagram_protocol(move || needy(false), &two()).unwrap_err();
    let found = (broken.rule(), broken.case().to_string());
    assert_eq!(found, (NoPanic, "closed 0".to_owned()));
    let broken = check_datagram_protocol(move || needy(true), &two()).unwrap_err();
    let found = (broken.rule(), broken.case().to_string());
    assert_eq!(found, (NoPanic, "aborted 0".to_owned()));
}

#[test]
fn what_stays_in_the_loop_and_what_comes_too_late_are_caught() {
    let rule = DatagramRule::NothingLeft;
    let broken = assert_caught(|| LeavesTimer, &two(), rule, "plain");
    assert_eq!(broken.seen(), "2 timers");
    assert_caught(|| SendsWhenClosed, &two(), DatagramRule::NoPanic, "plain");
}

#[test]
fn callbacks_out_of_order_are_caught() {
    let factory = || Again(Watched::new(Counted, &Log::new()));
    assert_caught(factory, &two(), DatagramRule::Grammar, "plain");
}

#[test]
fn a_reply_that_is_not_the_expected_one_is_caught() {
    let conversation = two().answer("three").say("\x01x").answer("y");
    let rule = DatagramRule::Answer;
    let broken = assert_caught(|| Counted, &conversation, rule, "plain");
    // The first datagram has a reply that the conversation does not have.
    assert_eq!((broken.expected(), broken.seen()), ("nothing", "\"one\""));
}

// Cases.

#[test]
fn a_case_reads_its_text_back_and_one_of_another_conversation_is_a_violation() {
    for text in [
        "plain",
        "lost 0",
        "doubled 1",
        "late 1",
        "refused 1",
        "empty 2",
        "long 2",
        "cut 1 6",
        "paused 100",
        "storm 18446744073709551615",
        "closed 2",
        "aborted 2",
    ] {
        let case: DatagramCase = text.parse().unwrap();
        assert_eq!(case.to_string(), text);
        check_datagram_case(|| Counted, &two(), &case).unwrap();
    }
    for text in [
        "", "lost", "lost x", "lost 1 2", "found 1", "cut 1", "lost -1",
    ] {
        let error = text.parse::<DatagramCase>().unwrap_err().to_string();
        assert!(error.contains(&format!("\"{text}\" is no case")), "{error}");
    }
    for text in ["lost 2", "late 2", "closed 3", "cut 1 7", "cut 2 0"] {
        let case = text.parse().unwrap();
        let broken = check_datagram_case(|| Counted, &two(), &case).unwrap_err();
        assert_eq!(broken.rule(), DatagramRule::Case, "{text}");
    }
}
