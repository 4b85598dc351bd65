//! No connection, and no listener, can starve the others: what one of them gets in a tick of the
//! loop is bounded, and the rest comes in the next ticks without a sleep.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{
    Kind, Log, Peer, Recorder, Scene, Served, TempDir, adopted, drive, each_kind, settle,
};
use tidegate::{EventLoop, LingerLimits, LoopStats, WriteLimits};

/// The time that a tick with nothing to do sleeps, which no tick in here may.
const SLEEP: Duration = Duration::from_secs(5);

const MIB: u64 = 1024 * 1024;

/// A connection that asks one byte at a time, while others keep the loop busy.
struct Quiet {
    peer: Peer,
    asked: usize,
}

impl Quiet {
    fn new(event_loop: &mut EventLoop, kind: Kind) -> Self {
        let (_, peer) = adopted(event_loop.handle(), kind, Recorder::echo(&Log::new()));
        settle(event_loop);
        Self { peer, asked: 0 }
    }

    fn ask(&mut self) {
        self.peer.read_available();
        if self.peer.received().len() == self.asked {
            self.peer.send(b"?");
            self.asked += 1;
        }
    }

    /// In the same tick, but for what the kernel was slow to pass on.
    #[track_caller]
    fn assert_was_answered_in_time(&mut self, ticks: usize) {
        self.peer.read_available();
        let answered = self.peer.received().len();
        assert!(2 * answered >= ticks, "{answered} answers in {ticks} ticks");
    }
}

/// Runs one tick, which must find something to do; returns the counters before and after it.
#[track_caller]
fn tick(event_loop: &mut EventLoop) -> (LoopStats, LoopStats) {
    let before = event_loop.handle().stats();
    let begun = Instant::now();
    event_loop.run_once(Some(SLEEP)).unwrap();
    assert!(begun.elapsed() < SLEEP, "it slept");
    (before, event_loop.handle().stats())
}

each_kind!(a_long_backlog_is_accepted_over_several_ticks_that_serve_others_too);
fn a_long_backlog_is_accepted_over_several_ticks_that_serve_others_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let mut quiet = Quiet::new(&mut event_loop, kind);
    let backlog = 400;
    let _waiting: Vec<_> = (0..backlog)
        .map(|_| Peer::connect(&served.address()))
        .collect();
    let fired = Rc::new(Cell::new(0));
    let (mut ticks, mut most) = (0, 0);
    while served.accepted() < backlog {
        quiet.ask();
        let count = fired.clone();
        event_loop
            .handle()
            .call_later(Duration::ZERO, move |_| count.set(count.get() + 1));
        let (before, after) = tick(&mut event_loop);
        ticks += 1;
        assert!(ticks < 1000, "{} accepted", served.accepted());
        most = most.max(after.accepts - before.accepts);
        assert_eq!(fired.get(), ticks, "the timer fired in the same tick");
    }
    quiet.assert_was_answered_in_time(ticks);
    assert!(ticks >= 4, "{backlog} accepted in {ticks} ticks");
    assert!(most as usize <= backlog / 4, "{most} accepted in one tick");
    settle(&mut event_loop);
    assert_eq!(served.server.connection_count(), backlog);
}

each_kind!(connects_that_keep_coming_do_not_raise_what_a_tick_accepts);
fn connects_that_keep_coming_do_not_raise_what_a_tick_accepts(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let served = Served::echo(event_loop.handle(), kind.somewhere(&dir));
    let connect = || Peer::connect(&served.address());
    let mut peers: Vec<_> = (0..400).map(|_| connect()).collect();
    let (before, after) = tick(&mut event_loop);
    let first = after.accepts - before.accepts;
    assert!(served.accepted() < peers.len());
    // Each new one is a readiness event beside the tick's left-over.
    while served.accepted() < peers.len() {
        if peers.len() < 440 {
            peers.push(connect());
        }
        let (before, after) = tick(&mut event_loop);
        assert!(after.accepts - before.accepts <= first);
    }
}

each_kind!(a_flood_does_not_starve_a_quiet_connection);
fn a_flood_does_not_starve_a_quiet_connection(kind: Kind) {
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
            // Small reads, of which the kernel holds far more than a tick may make.
            recorder = recorder.buffered(512);
        }
        let (_, mut flood) = adopted(event_loop.handle(), kind, recorder);
        let mut quiet = Quiet::new(&mut event_loop, kind);
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
        for _ in 0..20 {
            refill(&mut sent);
            quiet.ask();
            let (before, after) = tick(&mut event_loop);
            // Both of them together.
            assert!(after.reads - before.reads <= 40);
            left_over += usize::from(count.get() < sent);
        }
        quiet.assert_was_answered_in_time(20);
        if buffered {
            assert_eq!(left_over, 20, "the flood had more in every tick");
        }
        // Without a further event, and without a sleep.
        while count.get() < sent {
            let (before, after) = tick(&mut event_loop);
            assert!(after.reads > before.reads);
        }
    }
}

each_kind!(the_input_that_a_closed_connection_discards_is_bounded_per_tick_too);
fn the_input_that_a_closed_connection_discards_is_bounded_per_tick_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut flood) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    settle(&mut event_loop);
    let hour = LingerLimits::new().with_time(Duration::from_secs(3600));
    transport.set_linger_limits(hour.with_bytes(u64::MAX));
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    let chunk = vec![0; 256 * 1024];
    let mut most = 0;
    let mut received = 0;
    for _ in 0..40 {
        while flood.write(&chunk) > 0 {}
        let (before, after) = tick(&mut event_loop);
        most = most.max(after.reads - before.reads);
        received += after.bytes_received - before.bytes_received;
    }
    assert!(most <= 20, "{most} reads in one tick");
    assert!(received > 4 * MIB, "it was a flood: {received}");
    flood.close();
    let handle = event_loop.handle().clone();
    drive(&mut event_loop, "the end of lingering", || {
        handle.stats().lingering == 0
    });
}

#[test]
fn a_tick_sends_at_most_one_mebibyte_for_one_connection() {
    let mut event_loop = EventLoop::new().unwrap();
    let limits = WriteLimits::new().with_cap(128 << 20);
    let log = Log::new();
    let (transport, mut reader) = Scene::of(Kind::Tcp)
        .connected_with(move |options| options.write_limits(limits))
        .on(&mut event_loop, Recorder::new(&log));
    let mut quiet = Quiet::new(&mut event_loop, Kind::Tcp);
    let total = 64 * MIB;
    transport.write(&vec![1; total as usize]).unwrap();
    let (mut ticks, mut most) = (0, 0);
    while transport.sent() < total {
        reader.read_available();
        quiet.ask();
        let sent = transport.sent();
        tick(&mut event_loop);
        ticks += 1;
        assert!(ticks < 10_000, "{} bytes sent", transport.sent());
        most = most.max(transport.sent() - sent);
    }
    quiet.assert_was_answered_in_time(ticks);
    assert!(most <= MIB, "{most} bytes in one tick");
    assert!(most > MIB / 2, "the bound was what held it back: {most}");
    reader.expect(&mut event_loop, total as usize);
}

each_kind!(one_system_call_is_offered_at_most_one_mebibyte);
fn one_system_call_is_offered_at_most_one_mebibyte(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut reader) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    let _ = reader.as_sock().set_recv_buffer_size(8 << 20);
    settle(&mut event_loop);
    let before = event_loop.handle().stats();
    let total = 16 * MIB;
    transport.write(&vec![1; total as usize]).unwrap();
    let after = event_loop.handle().stats();
    assert_eq!(after.bytes_sent - before.bytes_sent, transport.sent());
    assert!(after.bytes_sent - before.bytes_sent <= (after.writes - before.writes) * MIB);
    if kind == Kind::Tcp {
        assert!(transport.sent() > MIB, "several calls were needed");
    }
    reader.expect(&mut event_loop, total as usize);
}

each_kind!(what_was_left_over_goes_on_without_a_sleep);
fn what_was_left_over_goes_on_without_a_sleep(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let recorder = Recorder::new(&log).buffered(16);
    let (_, mut peer) = adopted(event_loop.handle(), kind, recorder);
    settle(&mut event_loop);
    peer.send(&[9; 10_000]);
    // No event comes any more.
    while log.data_len() < 10_000 {
        tick(&mut event_loop);
    }
}
