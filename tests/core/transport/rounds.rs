//! A round of pause and resume: in which order it comes, and that it never holds the loop.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::wakers::{Wakes, leave};
use support::{
    Kind, Log, Peer, Recorder, Seen, adopted, drive, each_kind, limits, never_paused, no_limits,
    put, settle, stall, strict_loop, text,
};
use tidegate::{Completion, EventLoop, Flow, OnPause, Transport};

/// Woken when the completion completes.
fn wakes_of(completion: &mut Completion<()>) -> Wakes {
    let wakes = Wakes::new();
    leave(completion, &wakes.waker());
    wakes
}

each_kind!(drain_is_answered_at_the_fall_before_resume_writing_is_called);
fn drain_is_answered_at_the_fall_before_resume_writing_is_called(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let drained = Rc::new(Cell::new(None::<Wakes>));
    let seen = drained.clone();
    let protocol = Recorder::new(&log).on_resume(move |_| {
        let wakes = seen.take().unwrap();
        assert_eq!(wakes.count(), 1, "resumed before drain was answered");
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    // By sending.
    stall(&mut event_loop, never_paused(&transport), 1000);
    transport.set_write_limits(limits(0, 0)).unwrap();
    settle(&mut event_loop);
    let mut drain = transport.drain();
    let wakes = wakes_of(&mut drain);
    drained.set(Some(wakes.clone()));
    drive(&mut event_loop, "the fall", || {
        assert_eq!(wakes.count() > 0, !transport.flow().is_paused());
        peer.read_some(40_000);
        log.has(&Seen::Resume)
    });
    // By a change of the limits: within the call.
    stall(&mut event_loop, never_paused(&transport), 1000);
    transport.set_write_limits(limits(0, 0)).unwrap();
    let mut drain = transport.drain();
    let wakes = wakes_of(&mut drain);
    drained.set(Some(wakes.clone()));
    transport.set_write_limits(no_limits()).unwrap();
    assert_eq!(wakes.count(), 1);
    settle(&mut event_loop);
    assert_eq!(log.count(&Seen::Resume), 2);
}

/// Runs one tick; returns the numbers of pauses and resumes that `log` got in it.
fn tick(event_loop: &mut EventLoop, log: &Log) -> (usize, usize) {
    let before = (log.count(&Seen::Pause), log.count(&Seen::Resume));
    let polls = event_loop.handle().stats().polls;
    event_loop.run_once(Some(Duration::from_millis(5))).unwrap();
    assert_eq!(event_loop.handle().stats().polls, polls + 1);
    let after = (log.count(&Seen::Pause), log.count(&Seen::Resume));
    (after.0 - before.0, after.1 - before.1)
}

/// Checks that another connection and a timer are served while `log` records rounds.
fn others_are_served(event_loop: &mut EventLoop, kind: Kind, log: &Log, mut each: impl FnMut()) {
    let other_log = Log::new();
    let (_, mut other) = adopted(event_loop.handle(), kind, Recorder::echo(&other_log));
    for ping in 1..=50 {
        let fired = Rc::new(Cell::new(false));
        let at_fire = fired.clone();
        event_loop
            .handle()
            .call_later(Duration::ZERO, move |_| at_fire.set(true));
        other.send(b"?");
        let mut ticks = 0;
        while !fired.get() || other.received().len() < ping {
            assert!(ticks < 3, "nothing for the others in {ticks} ticks");
            ticks += 1;
            let (_, resumes) = tick(event_loop, log);
            assert!(resumes <= 1, "{resumes} resumes in one tick");
            other.read_available();
            each();
        }
    }
}

each_kind!(rounds_that_bring_about_each_other_come_one_a_tick);
fn rounds_that_bring_about_each_other_come_one_a_tick(kind: Kind) {
    for on_pause in [OnPause::KeepReading, OnPause::StopReading] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log)
            .on_pause(move |transport| {
                transport.set_write_limits(no_limits())?;
                Ok(on_pause)
            })
            .on_resume(|transport| {
                transport.set_write_limits(limits(0, 0))?;
                assert_eq!(transport.flow(), Flow::Paused);
                Ok(())
            });
        let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        others_are_served(&mut event_loop, kind, &log, || {});
        // It does not stand still either, nor does the loop sleep: each tick brings its round.
        for _ in 0..20 {
            assert_eq!(tick(&mut event_loop, &log), (1, 1));
            // Its pause was over when pause_writing returned: nothing to hold reading for.
            assert!(transport.is_reading());
        }
        transport.abort();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

each_kind!(a_crossing_while_a_resume_waits_is_held_as_the_pause_before_it_answered);
fn a_crossing_while_a_resume_waits_is_held_as_the_pause_before_it_answered(kind: Kind) {
    for on_pause in [OnPause::KeepReading, OnPause::StopReading] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let protocol = Recorder::new(&log)
            .on_pause(move |transport| {
                transport.set_write_limits(no_limits())?;
                Ok(on_pause)
            })
            .on_resume(|transport| {
                transport.set_write_limits(limits(0, 0))?;
                Ok(())
            });
        let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        tick(&mut event_loop, &log);
        assert_eq!(log.words(), ["made", "pause", "resume", "pause"]);
        assert!(!transport.flow().is_paused() && transport.is_reading());
        transport.set_write_limits(limits(0, 0)).unwrap();
        assert!(transport.flow().is_paused());
        assert_eq!(transport.is_reading(), on_pause == OnPause::KeepReading);
        transport.abort();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

each_kind!(a_producer_that_refills_in_resume_writing_does_not_hold_the_loop);
fn a_producer_that_refills_in_resume_writing_does_not_hold_the_loop(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let peer = Rc::new(std::cell::RefCell::new(None::<Peer>));
    let reader = peer.clone();
    let refill = move |transport: &Transport| {
        while !put(transport, 30_000).is_paused() {}
        // A peer that is always faster.
        if let Some(peer) = &mut *reader.borrow_mut() {
            peer.read_available();
        }
        Ok(())
    };
    let protocol = Recorder::new(&log).on_resume(refill.clone());
    let (transport, theirs) = adopted(event_loop.handle(), kind, protocol);
    *peer.borrow_mut() = Some(theirs);
    refill(&transport).unwrap();
    others_are_served(&mut event_loop, kind, &log, || {});
    assert!(
        log.count(&Seen::Resume) > 20,
        "{} rounds",
        log.count(&Seen::Resume)
    );
    let mut peer = peer.take().unwrap();
    transport.close();
    peer.expect_end(&mut event_loop);
    assert!(peer.received() == text(0, transport.written() as usize));
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
}

each_kind!(a_pause_in_the_tick_of_a_resume_comes_before_the_next_data);
fn a_pause_in_the_tick_of_a_resume_comes_before_the_next_data(kind: Kind) {
    for on_pause in [OnPause::KeepReading, OnPause::StopReading] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        // The fall comes by sending, then each byte causes one crossing.
        let protocol = Recorder::new(&log)
            .buffered(1)
            .on_pause(move |_| Ok(on_pause))
            .on_resume(|transport| Ok(transport.set_write_limits(no_limits())?))
            .on_data(|transport, _| {
                if transport.flow() == Flow::Open {
                    while transport.write_buffer_size() == 0 {
                        put(transport, 100_000);
                    }
                    transport.set_write_limits(limits(0, 0))?;
                    assert_eq!(transport.flow(), Flow::Paused);
                }
                Ok(())
            });
        let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
        stall(&mut event_loop, never_paused(&transport), 1000);
        transport.set_write_limits(limits(0, 0)).unwrap();
        settle(&mut event_loop);
        assert_eq!(log.words(), ["made", "pause"]);
        transport.pause_reading();
        peer.send(b"abc");
        settle(&mut event_loop);
        transport.resume_reading();
        peer.read_available();
        drive(&mut event_loop, "the answer to the first byte", || {
            log.has(&Seen::Data(b"a".to_vec()))
        });
        drive(&mut event_loop, "the second pause", || {
            log.count(&Seen::Pause) == 2
        });
        let words: Vec<_> = log.words().into_iter().take(5).collect();
        assert_eq!(words, ["made", "pause", "resume", "data", "pause"]);
        let before = log.seen()[..5].to_vec();
        assert_eq!(before[3..], [Seen::Data(b"a".to_vec()), Seen::Pause]);
        transport.abort();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}
