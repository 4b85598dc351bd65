//! No connection, and no listener, can starve the others: what one of them gets in a turn of the
//! loop is bounded, and the rest comes in the next turns without a sleep.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tests::{Kind, Log, Peer, Recorder, Served, TempDir, adopted, connected, drive, settle};
use tidegate::{EventLoop, Snapshot, WriteLimits};

/// Enough to hang a test that sleeps where it must not.
const SLEEP: Option<Duration> = Some(Duration::from_secs(60));

const MIB: u64 = 1024 * 1024;

/// Runs one turn; answers the counters before and after it.
fn turn(event_loop: &mut EventLoop) -> (Snapshot, Snapshot) {
    let before = event_loop.handle().snapshot();
    event_loop.run_once(SLEEP).unwrap();
    (before, event_loop.handle().snapshot())
}

#[test]
fn a_long_backlog_is_accepted_over_several_turns_that_serve_others_too() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let log = Log::new();
        let (_, mut quiet) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
        settle(&mut event_loop);
        let backlog = 400;
        let _waiting: Vec<_> = (0..backlog)
            .map(|_| Peer::connect(&served.address()))
            .collect();
        let fired = Rc::new(Cell::new(0));
        let (mut turns, mut most) = (0, 0);
        while served.accepted() < backlog {
            quiet.send(b"?");
            let count = fired.clone();
            event_loop
                .handle()
                .call_later(Duration::ZERO, move |_| count.set(count.get() + 1));
            let (before, after) = turn(&mut event_loop);
            turns += 1;
            most = most.max(after.accepts - before.accepts);
            quiet.read_available();
            assert_eq!(quiet.received().len(), turns, "answered in the same turn");
            assert_eq!(fired.get(), turns, "the timer fired in the same turn");
        }
        assert!(turns >= 4, "{backlog} accepted in {turns} turns");
        assert!(most as usize <= backlog / 4, "{most} accepted in one turn");
        settle(&mut event_loop);
        assert_eq!(served.server.connection_count(), backlog);
    }
}

#[test]
fn connects_that_keep_coming_do_not_raise_what_a_turn_accepts() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
        let connect = || Peer::connect(&served.address());
        let mut peers: Vec<_> = (0..400).map(|_| connect()).collect();
        let (before, after) = turn(&mut event_loop);
        let first = after.accepts - before.accepts;
        assert!(served.accepted() < peers.len());
        // Each new one is a readiness event beside the turn's left-over.
        while served.accepted() < peers.len() {
            if peers.len() < 440 {
                peers.push(connect());
            }
            let (before, after) = turn(&mut event_loop);
            assert!(after.accepts - before.accepts <= first);
        }
    }
}

#[test]
fn a_flood_does_not_starve_a_quiet_connection() {
    for kind in Kind::ALL {
        for buffered in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let count = Rc::new(Cell::new(0));
            let flood_log = Log::new();
            let counted = count.clone();
            let mut recorder = Recorder::new(&flood_log).on_data(move |_, data| {
                counted.set(counted.get() + data.len());
                Ok(())
            });
            if buffered {
                // Small reads, of which the kernel holds far more than a turn may make.
                recorder = recorder.buffered(512);
            }
            let (_, mut flood) = adopted(event_loop.handle(), kind, recorder);
            let log = Log::new();
            let (_, mut quiet) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
            settle(&mut event_loop);
            let mut sent = 0;
            let mut refill = |sent: &mut usize| {
                loop {
                    match flood.write(&[7; 64 * 1024]) {
                        0 => break,
                        n => *sent += n,
                    }
                }
            };
            let mut left_over = 0;
            for turns in 1..=20 {
                refill(&mut sent);
                quiet.send(b"?");
                let (before, after) = turn(&mut event_loop);
                quiet.read_available();
                assert_eq!(quiet.received().len(), turns, "answered in the same turn");
                // Both of them together.
                assert!(after.reads - before.reads <= 40);
                left_over += usize::from(count.get() < sent);
            }
            if buffered {
                assert_eq!(left_over, 20, "the flood had more in every turn");
            }
            // Without a further event, and without a sleep.
            while count.get() < sent {
                let (before, after) = turn(&mut event_loop);
                assert!(after.reads > before.reads);
            }
        }
    }
}

#[test]
fn the_input_that_a_closed_connection_discards_is_bounded_per_turn_too() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, mut flood) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        transport.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        let chunk = vec![0; 256 * 1024];
        let mut most = 0;
        let mut received = 0;
        for _ in 0..40 {
            while flood.write(&chunk) > 0 {}
            let (before, after) = turn(&mut event_loop);
            most = most.max(after.reads - before.reads);
            received += after.bytes_received - before.bytes_received;
        }
        assert!(most <= 20, "{most} reads in one turn");
        assert!(received > 4 * MIB, "it was a flood: {received}");
        flood.close();
        let handle = event_loop.handle().clone();
        drive(&mut event_loop, "the end of lingering", || {
            handle.snapshot().lingering == 0
        });
    }
}

#[test]
fn a_turn_sends_at_most_one_mebibyte_for_one_connection() {
    let mut event_loop = EventLoop::new().unwrap();
    let limits = WriteLimits::new().with_cap(128 << 20);
    let log = Log::new();
    let (transport, mut reader) = connected(
        &mut event_loop,
        Kind::Tcp,
        |options| options.write_limits(limits),
        Recorder::new(&log),
    );
    let quiet_log = Log::new();
    let (_, mut quiet) = adopted(event_loop.handle(), Kind::Tcp, Recorder::echo(&quiet_log));
    settle(&mut event_loop);
    let total = 64 * MIB;
    transport.write(&vec![1; total as usize]).unwrap();
    let (mut turns, mut most) = (0, 0);
    while transport.sent() < total {
        reader.read_available();
        quiet.send(b"?");
        let sent = transport.sent();
        turn(&mut event_loop);
        turns += 1;
        most = most.max(transport.sent() - sent);
        quiet.read_available();
        assert_eq!(quiet.received().len(), turns, "answered in the same turn");
    }
    assert!(most <= MIB, "{most} bytes in one turn");
    assert!(most > MIB / 2, "the bound was what held it back: {most}");
    reader.expect(&mut event_loop, total as usize);
}

#[test]
fn one_system_call_is_offered_at_most_one_mebibyte() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, mut reader) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        let _ = reader.as_sock().set_recv_buffer_size(8 << 20);
        settle(&mut event_loop);
        let before = event_loop.handle().snapshot();
        let total = 16 * MIB;
        transport.write(&vec![1; total as usize]).unwrap();
        let after = event_loop.handle().snapshot();
        assert_eq!(after.bytes_sent - before.bytes_sent, transport.sent());
        assert!(after.bytes_sent - before.bytes_sent <= (after.writes - before.writes) * MIB);
        if kind == Kind::Tcp {
            assert!(transport.sent() > MIB, "several calls were needed");
        }
        reader.expect(&mut event_loop, total as usize);
    }
}

#[test]
fn what_was_left_over_goes_on_without_a_sleep() {
    for kind in Kind::ALL {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let recorder = Recorder::new(&log).buffered(16);
        let (_, mut peer) = adopted(event_loop.handle(), kind, recorder);
        settle(&mut event_loop);
        peer.send(&[9; 10_000]);
        // No event comes any more; each of these turns would sleep for a minute.
        while log.data_len() < 10_000 {
            turn(&mut event_loop);
        }
    }
}
