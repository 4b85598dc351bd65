//! The check of layers: layers that it lets through, and layers that it catches, with its messages.

mod broken;
mod right;

use broken::*;
use right::*;
use tidegate::Layer;
use tidegate_testkit::{
    LayerCase, LayerCheck, LayerRule, LayerVariation, LayerViolation, Side, check_layer,
};

/// The check of a broken layer at both ends, which must fail; and the case that it names must fail in
/// the same way when it is run alone.
#[track_caller]
fn assert_caught<L: Layer + Default>(rule: LayerRule, case: &str) -> LayerViolation {
    let violation = check_layer(L::default, L::default).unwrap_err();
    let text = violation.to_string();
    assert_eq!(
        (violation.rule(), violation.case().to_string().as_str()),
        (rule, case),
        "{text}"
    );
    let parsed: LayerCase = case.parse().unwrap();
    assert_eq!(parsed, *violation.case());
    let again = LayerCheck::new(L::default, L::default).run_case(&parsed);
    assert_eq!(again.unwrap_err().to_string(), text);
    for part in [
        rule.to_string(),
        format!("\"{case}\".parse()"),
        violation.expected().to_owned(),
        violation.seen().to_owned(),
        violation.calls().to_string(),
    ] {
        assert!(text.contains(&part), "{part:?} is not in {text}");
    }
    violation
}

// Right layers.

#[test]
fn layers_that_keep_every_rule_pass() {
    let report = check_layer(Frames::default, Frames::default).unwrap();
    // Eight frames of 1 to 100 bytes, and the last one.
    assert_eq!(report.bytes_to(Side::Server), 200 + 9 * 2, "{report}");
    let (to_server, to_client) = (report.bytes_to(Side::Server), report.bytes_to(Side::Client));
    assert_eq!(report.cuts() as usize, to_server + to_client, "{report}");
    assert!(report.runs() > 2 * report.cuts(), "{report}");
}

#[test]
fn layers_that_open_late_pass() {
    check_layer(Greets::default, Greets::default).unwrap();
}

#[test]
fn layers_that_take_little_and_wait_pass() {
    check_layer(Throttle::default, Throttle::default).unwrap();
}

#[test]
fn a_layer_without_a_word_for_the_end_passes_when_a_cut_may_be_one() {
    let violation = check_layer(|| Passes, || Passes).unwrap_err();
    assert_eq!(violation.rule(), LayerRule::Cut, "{violation}");
    LayerCheck::new(|| Passes, || Passes)
        .cut_is_end()
        .run()
        .unwrap();
}

#[test]
fn a_layer_that_leaves_passes() {
    LayerCheck::new(|| WritesHeader, || ReadsHeader)
        .cut_is_end()
        .run()
        .unwrap();
}

#[test]
fn the_messages_and_the_number_of_places_are_settings() {
    let check = LayerCheck::new(Frames::default, Frames::default)
        .messages("four", "")
        .places(2)
        .seed(7);
    let report = check.run().unwrap();
    assert_eq!(report.bytes_to(Side::Client), 2, "{report}");
    assert_eq!(report.cuts(), 4, "{report}");
}

// Wrong layers.

#[test]
fn a_layer_that_loses_a_byte_at_a_cut_is_caught() {
    let violation = assert_caught::<LosesAtCut>(LayerRule::Bytes, "to-server 1");
    assert!(violation.expected().starts_with("the server receives"));
}

#[test]
fn a_layer_that_delivers_twice_is_caught() {
    let violation = assert_caught::<DeliversTwice>(LayerRule::Bytes, "to-server 6");
    assert!(violation.expected().starts_with("the server receives"));
}

#[test]
fn a_layer_that_takes_more_than_it_sends_is_caught() {
    assert_caught::<TakesTooMuch>(LayerRule::Bytes, "plain");
}

#[test]
fn a_layer_that_takes_a_cut_for_an_end_is_caught() {
    let violation = assert_caught::<CutIsEnd>(LayerRule::Cut, "cut-to-server 0");
    assert_eq!(
        violation.seen(),
        "eof_received of the server after 0 of 200 bytes"
    );
}

#[test]
fn a_layer_that_forgets_to_send_the_end_is_caught() {
    let violation = assert_caught::<ForgetsEnd>(LayerRule::End, "plain");
    assert!(violation.seen().contains("no last frame"), "{violation}");
}

#[test]
fn a_layer_that_does_not_tell_of_the_end_is_caught() {
    let violation = assert_caught::<KeepsEnd>(LayerRule::End, "plain");
    let text = "the layer did not say what that means";
    assert!(violation.seen().contains(text), "{violation}");
}

#[test]
fn a_layer_that_asks_for_calls_and_does_nothing_is_caught() {
    let violation = assert_caught::<AsksAgain>(LayerRule::NoError, "to-server 1");
    let text = "a layer asks for calls and does nothing in them";
    assert!(violation.seen().contains(text), "{violation}");
}

#[test]
fn a_layer_that_wakes_itself_without_end_is_caught() {
    assert_caught::<LooksAgain>(LayerRule::Rest, "to-server 1");
}

#[test]
fn layers_that_send_ever_more_to_each_other_are_caught() {
    let violation = assert_caught::<SaysTooMuch>(LayerRule::NoError, "plain");
    let text = "a layer sent far more than below has taken";
    assert!(violation.seen().contains(text), "{violation}");
}

#[test]
fn a_layer_that_takes_nothing_and_waits_for_nothing_is_caught() {
    let violation = assert_caught::<TakesNothing>(LayerRule::Bytes, "client-first");
    assert!(violation.calls().to_string().contains(", took 0"));
}

#[test]
fn a_layer_that_never_opens_is_caught() {
    assert_caught::<StaysClosed>(LayerRule::Opens, "plain");
}

#[test]
fn a_layer_that_panics_is_caught() {
    let violation = assert_caught::<Panics>(LayerRule::NoPanic, "to-server 1");
    assert!(violation.seen().contains("half a length"), "{violation}");
}

#[test]
fn a_layer_that_fails_at_a_cut_is_caught() {
    let violation = assert_caught::<Fails>(LayerRule::NoError, "to-server 1");
    assert!(violation.seen().contains("half a length"), "{violation}");
}

#[test]
fn a_layer_that_loses_what_there_is_no_room_for_is_caught() {
    let violation = check_layer(LosesWithoutRoom::default, LosesWithoutRoom::default).unwrap_err();
    assert_eq!(violation.rule(), LayerRule::Bytes, "{violation}");
    let variation = violation.case().variation();
    assert_eq!(variation, LayerVariation::Room { size: 1 }, "{violation}");
}

// Cases as texts.

#[test]
fn a_case_is_read_back_from_its_text() {
    for text in [
        "plain",
        "to-server 1",
        "to-server 1 2, to-client 3",
        "to-client 3, tight 8",
        "room 7",
        "client-first",
        "to-server 9, server-first",
        "close",
        "long 1000",
        "cut-to-server 0",
        "to-client 4, cut-to-client 12",
    ] {
        let case: LayerCase = text.parse().unwrap();
        assert_eq!(case.to_string(), text);
    }
    for text in [
        "",
        "to-server",
        "to-server x",
        "to-server 1, to-server 2",
        "to-server 1, plain",
        "tight",
        "cut-to-server 1, close",
    ] {
        let error = text.parse::<LayerCase>().unwrap_err();
        assert!(error.to_string().contains("is no case of layers"), "{text}");
    }
}
