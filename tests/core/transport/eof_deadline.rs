//! `OnEof::CloseWithin`: a peer that has ended its stream and does not read holds the connection up to
//! a deadline.

use super::timed::{CAPACITY, INSTANT, STALLING, Timed};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use support::{Kind, Log, MIB, Recorder, Scene, drive, each_kind, settle, text};
use tidegate::{CloseReason, OnEof, TimeoutKind};

const MOMENT: Duration = Duration::from_millis(60);
const HOUR: Duration = Duration::from_secs(3600);

each_kind!(a_peer_that_ended_its_stream_and_does_not_read_is_cut_at_the_deadline);
fn a_peer_that_ended_its_stream_and_does_not_read_is_cut_at_the_deadline(kind: Kind) {
    for scene in [Scene::of(kind), Scene::of(kind).connected()] {
        let within = |it: Recorder| it.on_eof(|_| Ok(OnEof::CloseWithin(MOMENT)));
        let (mut event_loop, log, transport, mut peer) = scene.stalled(MIB).set_with(within);
        // A paused acceptor does not read; it shall hear of the end.
        transport.set_write_limits(support::no_limits()).unwrap();
        settle(&mut event_loop);
        let start = Instant::now();
        peer.shutdown_write();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert!(start.elapsed() >= MOMENT);
        let closed = log.closed();
        assert_eq!(*closed.reason(), CloseReason::Timeout(TimeoutKind::Close));
        assert_eq!(closed.unsent(), transport.written() - transport.sent());
        assert!(closed.unsent() > 0);
        assert!(log.words().contains(&"eof".to_owned()));
        // And the peer can tell that something is missing, where there is a way to tell it.
        peer.expect_end(&mut event_loop);
        let reset = (kind == Kind::Tcp).then_some(ErrorKind::ConnectionReset);
        assert_eq!(peer.saw_error(), reset);
        assert_eq!(event_loop.handle().stats().timers, 0);
    }
}

each_kind!(a_peer_that_reads_in_time_gets_all_and_no_timer_stays);
fn a_peer_that_reads_in_time_gets_all_and_no_timer_stays(kind: Kind) {
    let within = |it: Recorder| it.on_eof(|_| Ok(OnEof::CloseWithin(HOUR)));
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set_with(within);
    peer.shutdown_write();
    drive(&mut event_loop, "eof", || {
        log.words().contains(&"eof".to_owned())
    });
    assert!(transport.is_closing() && !log.is_lost());
    assert_eq!(event_loop.handle().stats().timers, 1);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert!(peer.received() == text(0, transport.written() as usize));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "peer-eof");
    assert!(log.closed().is_clean());
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(with_nothing_buffered_it_ends_at_once_as_close_does);
fn with_nothing_buffered_it_ends_at_once_as_close_does(kind: Kind) {
    for limit in [Duration::ZERO, HOUR, Duration::MAX] {
        let within = move |it: Recorder| it.on_eof(move |_| Ok(OnEof::CloseWithin(limit)));
        let (mut event_loop, log, _, peer) = Scene::of(kind).set_with(within);
        peer.shutdown_write();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "eof", "lost"]);
        assert_eq!(log.reason(), "peer-eof");
        assert_eq!(event_loop.handle().stats().timers, 0);
    }
}

/// In the simulated world, where time is exact: a connection whose kernel is full, and whose peer
/// ends its stream now.
fn ended(recorder: impl FnOnce(Recorder) -> Recorder) -> Timed {
    let log = Log::new();
    let protocol = recorder(Recorder::new(&log));
    let mut timed = Timed::with(log, protocol);
    timed.transport.write(&[1; STALLING]).unwrap();
    timed.run();
    timed.peer.send_eof().unwrap();
    timed.run();
    assert!(timed.transport.is_closing());
    timed
}

#[track_caller]
fn assert_lost_in(timed: &mut Timed, time: Duration) {
    timed.pass(time - INSTANT);
    assert!(!timed.log.is_lost(), "early: {}", timed.log.closed());
    timed.pass(INSTANT);
    assert!(timed.log.is_lost(), "late: {:?}", timed.transport);
    assert_eq!(timed.ending(), TimeoutKind::Close);
    assert_eq!(timed.log.closed().unsent(), (STALLING - CAPACITY) as u64);
    assert_eq!(timed.timers(), 0);
}

#[test]
fn it_ends_at_the_deadline_and_not_before() {
    let limit = Duration::from_secs(5);
    let mut timed = ended(|it| it.on_eof(move |_| Ok(OnEof::CloseWithin(limit))));
    assert_lost_in(&mut timed, limit);
    // The bytes of the kernel arrive; then the peer sees a reset, and no end of the stream.
    timed.read(STALLING);
    assert!(timed.received.len() <= CAPACITY);
    assert!(timed.peer.is_reset());
    assert!(!timed.peer.is_ended());
}

#[test]
fn of_it_and_other_deadlines_the_earliest_holds() {
    let (early, late) = (Duration::from_secs(5), Duration::from_secs(50));
    for (first, second) in [(early, late), (late, early)] {
        let mut timed = ended(|it| {
            it.on_eof(move |transport| {
                transport.close_within(first);
                Ok(OnEof::CloseWithin(second))
            })
        });
        assert_lost_in(&mut timed, early);
    }
    let mut timed = ended(|it| it.on_eof(move |_| Ok(OnEof::CloseWithin(late))));
    timed.transport.close_within(early);
    assert_lost_in(&mut timed, early);
    // The peer's progress moves no deadline.
    let mut timed = ended(|it| it.on_eof(move |_| Ok(OnEof::CloseWithin(late))));
    timed.pass(late - early);
    timed.read(1);
    timed.pass(early - INSTANT);
    assert!(!timed.log.is_lost());
    timed.pass(INSTANT);
    assert!(timed.log.is_lost());
}
