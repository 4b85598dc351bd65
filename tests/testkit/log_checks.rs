//! A record whose callbacks came in the wrong order fails its test, wherever it is dropped.

use support::{Log, Recorder};
use tidegate::{OnPause, Protocol, Result, Transport};
use tidegate_testkit::{Conversation, Host, Rule, Script, World, check_protocol, pair};

/// Makes a callback that only the loop may make.
struct Wrong(Recorder);

impl Wrong {
    fn new(log: &Log) -> Self {
        Self(Recorder::new(log))
    }
}

impl Protocol for Wrong {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.0.connection_made(transport)?;
        let _: OnPause = self.0.pause_writing(transport)?;
        self.0.pause_writing(transport)?;
        Ok(())
    }
}

fn served(world: &mut World, log: Log) -> Host {
    let host = world.add_host("host").unwrap();
    let factory = move || Wrong::new(&log);
    host.handle().create_server(host.addr(7), factory).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.pump().unwrap();
    drop(peer);
    host
}

#[test]
#[should_panic(expected = "pause twice")]
fn a_violation_fails_the_test_when_the_loop_drops_the_last_clone() {
    let mut world = World::new();
    let log = Log::new();
    served(&mut world, log.clone());
}

#[test]
#[should_panic(expected = "pause twice")]
fn a_violation_fails_the_test_when_its_log_outlives_the_world() {
    let log = Log::new();
    let mut world = World::new();
    served(&mut world, log.clone());
}

#[test]
#[should_panic(expected = "pause twice")]
fn a_violation_in_a_pair_fails_the_test() {
    drop(pair(Recorder::new(&Log::new()), Wrong::new(&Log::new())));
}

#[test]
#[should_panic(expected = "pause twice")]
fn a_violation_in_a_script_fails_the_test() {
    drop(Script::new().play(Wrong::new(&Log::new())));
}

#[test]
fn a_violation_that_the_test_took_does_not_fail_it() {
    let mut world = World::new();
    let log = Log::new();
    served(&mut world, log.clone());
    assert_eq!(log.take_violations().len(), 1);
}

#[test]
fn a_check_reports_the_violation_of_a_log_that_the_protocol_has_itself() {
    let outer = World::new();
    let checked = check_protocol(|| Wrong::new(&Log::new()), &Conversation::new());
    let broken = checked.unwrap_err();
    assert_eq!(broken.rule(), Rule::Grammar);
    assert!(broken.seen().contains("pause twice"), "{broken}");
    drop(outer);
}

#[test]
fn a_log_that_two_connections_share_is_told_apart_from_a_connection_made_twice() {
    let log = Log::new();
    let both = pair(Recorder::new(&log), Recorder::new(&log)).unwrap();
    let violations = log.take_violations();
    assert_eq!(violations.len(), 1, "{violations:?}");
    let part = format!("already records connection {}", both.b().id());
    for part in [part.as_str(), "each connection needs a log of its own"] {
        assert!(violations[0].contains(part), "{violations:?}");
    }
    drop(both);
    log.take_violations();
}
