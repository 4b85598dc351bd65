//! A side of a relay that gets another protocol: from then on the relay does nothing to it.

use std::io;
use std::time::Duration;
use support::{BOUND, Kind, Log, Recorder, drive, each_way, flood, settle, tie, untied};
use tidegate::{EventLoop, OnPause, WriteLimits};

each_way!(what_the_other_side_still_sends_does_not_reach_a_side_that_has_left);
fn what_the_other_side_still_sends_does_not_reach_a_side_that_has_left(kind: Kind) {
    // The number of ticks after the change, during which the relay ends.
    for ticks in 0..3 {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
        tie(&a, &b).detach();
        settle(&mut event_loop);
        let log = Log::new().switched_in();
        a.set_protocol(Recorder::new(&log), b"").unwrap();
        for _ in 0..ticks {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        if !b.is_closing() {
            b_peer.send(b"late");
            b_peer.shutdown_write();
        }
        b_peer.expect_end(&mut event_loop);
        a.write(b"from the new one").unwrap();
        a_peer.expect(&mut event_loop, 16);
        assert_eq!(a_peer.received(), b"from the new one", "{ticks} ticks");
        settle(&mut event_loop);
        assert!(!a_peer.is_ended());
    }
}

each_way!(a_relay_that_has_lost_a_side_says_so_although_that_side_lives_on);
fn a_relay_that_has_lost_a_side_says_so_although_that_side_lives_on(kind: Kind) {
    for full in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, kind);
        a.set_write_limits(WriteLimits::new().with_cap(64 * 1024))
            .unwrap();
        let report = tie(&a, &b);
        settle(&mut event_loop);
        // Both wait for each other.
        flood(&a);
        flood(&b);
        if full {
            // And this waits for room at the side that will leave.
            b_peer.send(b"refused");
        }
        settle(&mut event_loop);
        let keep = Recorder::new(&Log::new().switched_in()).on_pause(|_| Ok(OnPause::KeepReading));
        a.set_protocol(keep, b"").unwrap();
        drive(&mut event_loop, "the end of the other side", || {
            b_peer.read_available();
            b_peer.is_ended()
        });
        let error = event_loop.run_until(report.within(BOUND)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(!a.is_closing());
        a_peer.close();
    }
}
