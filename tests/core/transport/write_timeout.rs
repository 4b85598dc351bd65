//! A peer that takes nothing for the time of the write timeout is cut, one that takes something
//! is not. How exact the time is: `write_timeout_clock.rs`.

use std::time::{Duration, Instant};
use support::{
    BOUND, Kind, Log, MIB, Peer, Recorder, Scene, Served, TempDir, adopted, drive, each_kind,
    never_paused, note_answer, settle, stall, text,
};
use tidegate::{CloseReason, EventLoop, OnEof, TimeoutKind, Transport};

const LIMIT: Duration = Duration::from_millis(100);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

#[track_caller]
fn assert_timed_out(log: &Log) {
    assert!(
        matches!(
            log.closed().reason(),
            CloseReason::Timeout(TimeoutKind::Write)
        ),
        "{}",
        log.closed()
    );
}

/// While the loop stands still.
#[track_caller]
fn read(peer: &mut Peer, count: usize) {
    let begun = Instant::now();
    let enough = peer.received().len() + count;
    while peer.received().len() < enough {
        peer.read_some(enough - peer.received().len());
        assert!(begun.elapsed() < BOUND && !peer.is_ended());
    }
}

fn timers(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().timers
}

each_kind!(a_peer_that_stops_reading_is_cut_when_the_limit_is_over);
fn a_peer_that_stops_reading_is_cut_when_the_limit_is_over(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind)
        .connected()
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    note_answer(&log, "drain", transport.drain());
    note_answer(&log, "flush", transport.flush());
    let set = Instant::now();
    transport.set_write_timeout(Some(LIMIT));
    assert_eq!(timers(&event_loop), 1);
    drive(&mut event_loop, "the cut", || log.is_lost());
    let elapsed = set.elapsed();
    assert!(elapsed >= LIMIT && elapsed < BOUND, "{elapsed:?}");
    assert_timed_out(&log);
    let closed = log.closed();
    assert_eq!(closed.unsent(), transport.written() - transport.sent());
    assert!(closed.unsent() > 0);
    settle(&mut event_loop);
    let told = ["drain", "flush"].map(|name| format!("{name}: {closed}"));
    assert!(log.words().ends_with(&told), "{:?}", log.words());
    assert_eq!(timers(&event_loop), 0);
    // The peer can still read what the kernel had.
    let sent = transport.sent();
    peer.expect_end(&mut event_loop);
    assert!(peer.received().len() as u64 <= sent);
    assert_eq!(peer.received(), text(0, peer.received().len()));
}

#[test]
fn a_peer_that_reads_a_little_within_every_limit_is_not_cut() {
    // On a Unix socket every read makes room at once; TCP tells of it late, and not of a little.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = Scene::of(Kind::Unix)
        .connected()
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    let begun = Instant::now();
    transport.set_write_timeout(Some(LIMIT));
    let mut steps = 0;
    while steps < 8 || begun.elapsed() < 4 * LIMIT {
        if transport.write_buffer_size() < MIB {
            never_paused(&transport);
            transport.write(&text(transport.written(), MIB)).unwrap();
        }
        let before = transport.sent();
        // Too little for the kernel to report the room, often: then the bytes go when the time is
        // over and they are offered once more.
        read(&mut peer, 64 * 1024);
        drive(&mut event_loop, "progress", || {
            transport.sent() > before || log.is_lost()
        });
        assert!(!log.is_lost(), "{}, after {steps} steps", log.closed());
        steps += 1;
    }
    // Now it takes nothing any more.
    drive(&mut event_loop, "the cut", || log.is_lost());
    assert_timed_out(&log);
}

each_kind!(a_peer_that_goes_on_reading_gets_all_and_the_timer_is_gone);
fn a_peer_that_goes_on_reading_gets_all_and_the_timer_is_gone(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = Scene::of(kind)
        .connected()
        .stalled(MIB)
        .on(&mut event_loop, Recorder::new(&log));
    transport.set_write_timeout(Some(LONG));
    assert_eq!(timers(&event_loop), 1);
    let written = transport.written() as usize;
    peer.expect(&mut event_loop, written);
    settle(&mut event_loop);
    assert_eq!(timers(&event_loop), 0);
    // So it is cut by none when it is closed.
    transport.set_write_timeout(Some(Duration::ZERO));
    transport.close();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert!(log.closed().is_clean());
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), text(0, written));
}

each_kind!(of_a_servers_connections_only_that_of_a_peer_that_does_not_read_is_cut);
fn of_a_servers_connections_only_that_of_a_peer_that_does_not_read_is_cut(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::new(event_loop.handle(), kind.somewhere(&dir), |recorder| {
        recorder.on_data(|transport, data| {
            // Longer than TCP may pause while its peer reads.
            transport.set_write_timeout(Some(10 * LIMIT));
            never_paused(transport);
            for _ in 0..64 {
                transport.write(&vec![data[0]; 256 * 1024])?;
            }
            Ok(())
        })
    });
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(&served.address())).collect();
    drive(&mut event_loop, "accepted", || served.accepted() == 3);
    let total = 64 * 256 * 1024;
    peers[0].send(b"a");
    peers[0].expect(&mut event_loop, total);
    peers[1].send(b"b");
    drive(&mut event_loop, "the cut", || {
        served.server.connection_count() == 2
    });
    let lost: Vec<_> = (0..3).map(|n| served.log(n).is_lost()).collect();
    assert_eq!(lost.iter().filter(|lost| **lost).count(), 1);
    let cut = served.log(lost.iter().position(|lost| *lost).unwrap());
    assert_eq!(cut.data(), b"b");
    assert_timed_out(&cut);
}

each_kind!(the_rest_of_a_close_is_cut_too_ours_and_the_one_that_the_peer_began);
fn the_rest_of_a_close_is_cut_too_ours_and_the_one_that_the_peer_began(kind: Kind) {
    for ours in [true, false] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let recorder = Recorder::new(&log);
        let (transport, peer) = Scene::of(kind)
            .connected()
            .stalled(MIB)
            .on(&mut event_loop, recorder);
        if ours {
            transport.close();
        } else {
            // The default `eof_received` closes.
            peer.shutdown_write();
            drive(&mut event_loop, "closing", || transport.is_closing());
        }
        settle(&mut event_loop);
        assert!(!log.is_lost(), "without a limit it waits");
        transport.set_write_timeout(Some(LIMIT));
        drive(&mut event_loop, "the cut", || log.is_lost());
        assert_timed_out(&log);
        assert!(log.closed().unsent() > 0);
    }
}

#[test]
fn when_writing_has_failed_there_is_nothing_to_time() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log).on_eof(|_| Ok(OnEof::KeepOpen));
    let (transport, mut peer) = Scene::of(Kind::Tcp)
        .connected()
        .stalled(MIB)
        .on(&mut event_loop, recorder);
    transport.set_write_timeout(Some(LONG));
    assert_eq!(timers(&event_loop), 1);
    transport.pause_reading();
    peer.reset();
    drive(&mut event_loop, "the error", || {
        transport.closed().is_some()
    });
    assert!(!log.is_lost(), "reading is paused");
    assert_eq!(timers(&event_loop), 0);
    transport.set_write_timeout(Some(Duration::ZERO));
    settle(&mut event_loop);
    assert!(!log.is_lost());
    transport.resume_reading();
    drive(&mut event_loop, "the end", || log.is_lost());
    assert!(log.closed().is_reset());
}

each_kind!(a_limit_times_nothing_while_the_kernel_has_refused_none_of_the_buffered_bytes);
fn a_limit_times_nothing_while_the_kernel_has_refused_none_of_the_buffered_bytes(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    // The loop offers the bytes at the end of the tick.
    transport.write(b"small").unwrap();
    assert_eq!(transport.write_buffer_size(), 5);
    transport.set_write_timeout(Some(LONG));
    assert_eq!(timers(&event_loop), 0);
    settle(&mut event_loop);
    // The kernel refuses all of a write, and nothing is buffered.
    peer.reset();
    transport.write(&text(0, MIB)).unwrap_err();
    assert_eq!(transport.write_buffer_size(), 0);
    transport.set_write_timeout(Some(LONG));
    assert_eq!(timers(&event_loop), 0);
    drive(&mut event_loop, "the end", || log.is_lost());
}

each_kind!(a_stalled_connection_that_ends_otherwise_leaves_no_timer);
fn a_stalled_connection_that_ends_otherwise_leaves_no_timer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    for end in [Transport::abort, Transport::reset] {
        let log = Log::new();
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        stall(&mut event_loop, &transport, MIB);
        transport.set_write_timeout(Some(LONG));
        assert_eq!(timers(&event_loop), 1);
        end(&transport);
        assert_eq!(timers(&event_loop), 0);
        drive(&mut event_loop, "the end", || log.is_lost());
        assert_eq!(log.reason(), "local-abort");
    }
}
