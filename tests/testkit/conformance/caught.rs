//! Transports that break a rule, and what the suite says of them.

use super::broken::{Broken, Fault};
use std::collections::BTreeSet;
use tidegate_testkit::conformance::{self, Case, Violation};

fn case(name: &str) -> Case {
    let mut cases = conformance::THEMES.iter().flat_map(|(_, cases)| *cases);
    *cases.find(|case| case.name() == name).unwrap()
}

#[track_caller]
fn found(fault: Fault, name: &str) -> Violation {
    match case(name).run(&mut Broken::new(fault)) {
        Ok(()) => panic!("{name} did not find that the transport {fault:?}"),
        Err(violation) => violation,
    }
}

/// Each fault, the case that finds it, and what of the rule it names.
#[track_caller]
fn assert_found(table: &[(Fault, &str, &str)]) {
    for &(fault, name, rule) in table {
        let violation = found(fault, name);
        assert_eq!(violation.case(), name, "{fault:?}");
        assert!(violation.rule().contains(rule), "{fault:?}: {violation}");
    }
}

const ORDER: &str = "callbacks come one at a time";

#[test]
fn a_callback_that_is_missing_or_too_much_or_out_of_order_is_found() {
    assert_found(&[
        (Fault::SkipsMade, "just_made", "connection_made comes"),
        (Fault::DeliversEmptyData, "request_and_answer", ORDER),
        (Fault::SwallowsEof, "one_way", "connection_lost comes"),
        (
            Fault::SwallowsEof,
            "answer_after_eof",
            "an end of stream comes",
        ),
        (
            Fault::RepeatsEof,
            "write_eof_ends_writing",
            "one end of stream",
        ),
        (Fault::RepeatsEof, "close_after_kept_open", ORDER),
        (Fault::DeliversAfterEof, "flush_means_sent", ORDER),
        (
            Fault::SwallowsPause,
            "pause_and_resume_once",
            "pause_writing comes once",
        ),
        (Fault::RepeatsPause, "write_tells_of_the_pause", ORDER),
        (
            Fault::SwallowsResume,
            "pause_and_resume_once",
            "resume_writing comes once",
        ),
        (Fault::SwallowsLost, "just_made", "connection_lost comes"),
        (Fault::RepeatsLost, "request_and_answer", ORDER),
    ]);
}

#[test]
fn bytes_that_are_missing_changed_or_added_are_found() {
    assert_found(&[
        (Fault::DropsAByte, "one_way", "close sends all"),
        (
            Fault::DropsAByte,
            "answer_within_eof",
            "what is written in eof_received",
        ),
        (Fault::DropsAByte, "small_writes", "small writes arrive"),
        (Fault::SwapsBytes, "many_slices", "in order"),
        (Fault::SwapsBytes, "two_ways_at_once", "in order"),
        (Fault::SwapsBytes, "paused_reading", "in order"),
        (
            Fault::AddsAByte,
            "paused_at_both_ends",
            "what is written is sent",
        ),
        (Fault::AddsAByte, "just_made", "in order"),
    ]);
}

#[test]
fn an_end_that_is_told_wrong_or_comes_too_early_is_found() {
    assert_found(&[
        (Fault::TellsAnotherEnd, "answer_after_eof", "ends by itself"),
        (Fault::TellsAnotherEnd, "lost_already", "the reason is"),
        (
            Fault::CutsTheClose,
            "close_sends_the_rest",
            "close waits until all is sent",
        ),
        (
            Fault::CutsTheClose,
            "paused_for_writing",
            "close waits until all is sent",
        ),
        (Fault::CutsTheClose, "with_buffered_bytes", "the reason is"),
        (
            Fault::IgnoresKeepOpen,
            "answer_after_eof",
            "leaves the connection as it is",
        ),
        (
            Fault::ClaimsResets,
            "in_data_received",
            "the peer sees a reset",
        ),
    ]);
}

#[test]
fn reading_that_stops_or_goes_on_when_it_should_not_is_found() {
    assert_found(&[
        (
            Fault::LiftsThePause,
            "paused_reading",
            "nothing is delivered",
        ),
        (
            Fault::LiftsThePause,
            "stop_within_data_received",
            "pause_reading holds at once",
        ),
        (
            Fault::LiftsThePause,
            "cap_refuses",
            "at the cap writes are refused",
        ),
        (
            Fault::NeverReadsOn,
            "own_read_buffer",
            "connection_lost comes",
        ),
        (
            Fault::IgnoresStopReading,
            "hold_on_reading",
            "StopReading holds",
        ),
    ]);
}

#[test]
fn the_suite_finds_a_value_that_is_left_behind() {
    const LEFT: &str = "leaves nothing in its loop";
    assert_found(&[
        (Fault::LeavesATimer, "just_made", LEFT),
        (Fault::LeavesACompletion, "one_way", LEFT),
        (Fault::LeavesAConnection, "write_eof_at_both_ends", LEFT),
        (
            Fault::KeepsTheProtocol,
            "request_and_answer",
            "a protocol is dropped",
        ),
    ]);
}

#[test]
fn a_ground_that_does_not_work_fails_every_case_under_the_cases_own_name() {
    for fault in [Fault::CannotConnect, Fault::RefusesToRun] {
        let mut names = BTreeSet::new();
        let mut count = 0;
        for (_, cases) in conformance::THEMES {
            for case in *cases {
                let violation = case.run(&mut Broken::new(fault)).unwrap_err();
                assert_eq!(violation.case(), case.name());
                assert!(violation.rule().contains("a harness"), "{violation}");
                names.insert(case.name());
                count += 1;
            }
        }
        assert_eq!(names.len(), count, "two cases have the same name");
        let all = conformance::all(&mut Broken::new(fault)).unwrap_err();
        assert_eq!(all.iter().count(), count);
    }
}

#[test]
fn a_violation_says_the_case_the_scene_the_rule_and_what_was_expected_and_seen() {
    let violation = found(Fault::TellsAnotherEnd, "close_after_kept_open");
    let text = violation.to_string();
    for part in [
        "close_after_kept_open (write_eof by the Connecting end): ",
        "expected: \"peer-eof\"",
        "seen: \"shutdown\"",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn a_case_that_fails_leaves_the_ground_fit_for_the_next() {
    for (fault, name) in [
        (Fault::DropsAByte, "pause_and_resume_once"),
        (Fault::SwallowsEof, "answer_after_eof"),
        (Fault::SwallowsLost, "in_data_received"),
        (Fault::IgnoresStopReading, "hold_on_reading"),
        (Fault::RepeatsLost, "closing_and_clogged"),
    ] {
        let mut harness = Broken::new(fault);
        case(name).run(&mut harness).unwrap_err();
        harness.repair();
        if let Err(violation) = case(name).run(&mut harness) {
            panic!("after {fault:?}: {violation}");
        }
    }
}
