//! Two protocols on one connection, without a network to think of.

use std::time::{Duration, Instant};
use support::{Log, Recorder, Seen, pattern};
use tidegate::{OnEof, Protocol, Result, Transport};
use tidegate_testkit::{Fault, Link, Pair, Watched, World, pair};

const MINUTE: Duration = Duration::from_secs(60);

/// Hangs up ten minutes after the last byte.
#[derive(Default)]
struct Idle {
    timer: Option<tidegate::CallbackHandle>,
}

impl Idle {
    fn wait(&mut self, transport: &Transport) {
        let hang_up = |_: &mut Self, transport: &Transport| {
            transport.close();
            Ok(())
        };
        let timer = transport.call_later(10 * MINUTE, hang_up);
        if let Some(before) = self.timer.replace(timer) {
            before.cancel();
        }
    }
}

impl Protocol for Idle {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.wait(transport);
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result {
        self.wait(transport);
        Ok(())
    }
}

#[test]
fn both_ends_are_made_and_say_which_side_they_are() {
    let logs = [Log::new(), Log::new()];
    let pair = pair(Recorder::new(&logs[0]), Recorder::new(&logs[1])).unwrap();
    assert!(!pair.a().is_accepted());
    assert!(pair.b().is_accepted());
    for log in logs.iter().chain([pair.log_a(), pair.log_b()]) {
        assert_eq!(log.words(), ["made"]);
    }
    assert_eq!(pair.a().peer_addr(), pair.b().local_addr());
}

#[test]
fn a_timeout_of_ten_minutes_is_tested_to_the_second_and_takes_none() {
    let start = Instant::now();
    let mut pair = pair(Recorder::new(&Log::new()), Idle::default()).unwrap();
    pair.advance(9 * MINUTE).unwrap();
    pair.a().write(b"still there").unwrap();
    pair.advance(10 * MINUTE - Duration::from_secs(1)).unwrap();
    assert!(!pair.log_b().is_lost());
    pair.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(pair.log_b().reason(), "local-close");
    assert_eq!(pair.elapsed(), 19 * MINUTE);
    // A thousandth of the time that passed there would be a second.
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_pump_carries_bytes_both_ways_and_no_time_passes() {
    let log = Log::new();
    let mut pair = pair(Recorder::new(&log), Recorder::echo(&Log::new())).unwrap();
    let sent = pattern(0, 300_000);
    pair.a().write(&sent).unwrap();
    assert_eq!(log.data_len(), 0, "nothing happens by itself");
    pair.pump().unwrap();
    assert_eq!(log.data(), sent);
    assert_eq!(pair.elapsed(), Duration::ZERO);
}

#[test]
fn running_until_idle_comes_to_the_last_timer() {
    let mut pair = pair(Recorder::new(&Log::new()), Idle::default()).unwrap();
    pair.run_until_idle().unwrap();
    assert_eq!(pair.elapsed(), 10 * MINUTE);
    let closed = pair.a().wait_closed();
    assert!(pair.run_until(closed).unwrap().is_clean());
}

#[test]
fn the_protocols_are_found_by_their_types() {
    let pair = pair(Recorder::new(&Log::new()), Idle::default()).unwrap();
    let waits = |idle: &mut Idle, _: &Transport| idle.timer.is_some();
    assert_eq!(pair.b().with_protocol(waits), Ok(true));
    let other = pair.a().with_protocol(waits).unwrap_err().to_string();
    assert!(other.contains("Recorder, not a "), "{other}");
    let found = pair.a().with_protocol(|_: &mut Recorder, _| ());
    assert!(found.is_ok());
}

#[test]
fn a_reset_reaches_both_ends() {
    let mut pair = pair(Recorder::new(&Log::new()), Recorder::new(&Log::new())).unwrap();
    pair.reset().unwrap();
    for log in [pair.log_a(), pair.log_b()] {
        assert!(log.closed().is_reset(), "{:?}", log.closed());
    }
}

#[test]
fn a_slow_link_and_a_fault_are_set_on_the_world() {
    let link = Link::new().latency(Duration::from_millis(40));
    let world = World::builder().link(link);
    let log = Log::new();
    let mut pair = Pair::in_world(world, Recorder::new(&log), Recorder::echo(&Log::new())).unwrap();
    let start = pair.elapsed();
    pair.a().write(b"ping").unwrap();
    pair.advance(Duration::from_millis(79)).unwrap();
    assert_eq!(log.data(), b"");
    pair.run_until_idle().unwrap();
    assert_eq!(log.data(), b"ping");
    assert_eq!(pair.elapsed() - start, Duration::from_millis(80));
    pair.network().force(Fault::Reset, 1);
    pair.a().write(b"into the void").unwrap();
    pair.run_until_idle().unwrap();
    assert!(pair.log_a().closed().is_reset());
    let [a, b] = pair.hosts().clone();
    assert_eq!(pair.network().descriptors(&a), 0);
    assert_eq!(pair.network().descriptors(&b), 0);
}

#[test]
fn a_protocol_that_fails_in_connection_made_is_an_error_of_the_pair() {
    let fails = Recorder::new(&Log::new()).on_made(|_| Err("not today".into()));
    let error = pair(fails, Recorder::new(&Log::new())).unwrap_err();
    assert!(error.to_string().contains("not today"), "{error}");
}

#[test]
#[should_panic(expected = "too much")]
fn a_panic_of_a_protocol_is_one_of_the_test() {
    let panics = Recorder::new(&Log::new()).on_data(|_, _| panic!("too much"));
    let mut pair = pair(Recorder::new(&Log::new()), panics).unwrap();
    pair.a().write(b"x").unwrap();
    // The panic comes out of here.
    pair.pump().unwrap();
}

#[test]
fn a_watched_protocol_with_a_buffer_of_its_own_is_recorded_by_lengths() {
    let (log, own) = (Log::new(), Log::new());
    let watched = Watched::new(Recorder::new(&own).buffered(4).keep_open(), &log);
    let mut pair = pair(Recorder::new(&Log::new()), watched).unwrap();
    pair.a().write(b"123456").unwrap();
    pair.a().write_eof().unwrap();
    pair.pump().unwrap();
    assert_eq!(own.data(), b"123456");
    assert_eq!(
        log.seen(),
        [Seen::Made, Seen::Filled(4), Seen::Filled(2), Seen::Eof]
    );
    assert_eq!(log.data_len(), 6);
    let transport = log.transport().unwrap();
    assert_eq!(transport.id(), pair.b().id());
    assert!(transport.with_protocol(|_: &mut Recorder, _| ()).is_ok());
    pair.b().close();
    pair.pump().unwrap();
    assert_eq!(log.dropped(), 1);
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

/// A wrapper that calls back what must not come.
struct Wrong(Watched<Recorder>);

impl Protocol for Wrong {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.0.connection_made(transport)?;
        self.0.resume_writing(transport)?;
        self.0.buffer_updated(transport, 3)?;
        transport.close();
        assert_eq!(self.0.eof_received(transport)?, OnEof::Close);
        Ok(())
    }
}

#[test]
fn a_watched_protocol_that_is_called_out_of_order_is_reported() {
    let (log, inner) = (Log::new(), Log::new());
    let wrong = Wrong(Watched::new(Recorder::new(&inner).buffered(4), &log));
    let pair = pair(Recorder::new(&Log::new()), wrong).unwrap();
    let violations = log.take_violations();
    let expected = [
        "resume without pause",
        "a buffer of None",
        "the connection is ending",
    ];
    assert_eq!(violations.len(), expected.len(), "{violations:#?}");
    for (violation, part) in violations.iter().zip(expected) {
        assert!(violation.contains(part), "{violations:#?}");
    }
    // The recorder inside saw the first of them too.
    assert_eq!(inner.take_violations().len(), 1);
    drop(pair);
}

#[test]
fn an_error_of_either_connection_made_is_that_of_the_pair() {
    let good = || Recorder::new(&Log::new());
    let bad = || good().on_made(|_| Err("no room".into()));
    for pair in [pair(bad(), good()), pair(good(), bad())] {
        let error = pair.unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
    }
}
