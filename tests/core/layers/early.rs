//! Callbacks that are queued before `connection_made`, while layers are opening.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::seal::{Calls, Seal, hello};
use support::{Kind, Log, Recorder, SHORT, adopted, drive, each_kind, settle, strict_loop};
use tidegate::{CallbackHandle, EventLoop, Handle, Transport};

/// Runs the loop for a time that is long beside a period of a millisecond. Returns the number of its
/// polls.
pub(super) fn polls_in_a_while(event_loop: &mut EventLoop) -> u64 {
    let before = event_loop.handle().stats().polls;
    let over = Rc::new(Cell::new(false));
    let set = over.clone();
    event_loop
        .handle()
        .call_later(SHORT, move |_| set.set(true));
    drive(event_loop, "the time to pass", || over.get());
    event_loop.handle().stats().polls - before
}

/// Queues a callback, which notes itself.
type Queue = fn(&Handle, &Transport, Log);

const EVERY: Duration = Duration::from_millis(1);

const HOUR: Duration = Duration::from_secs(3600);

fn every(transport: &Transport, period: Duration, log: Log) -> CallbackHandle {
    transport.call_every(period, move |_: &mut Recorder, _| {
        log.note("called");
        Ok(())
    })
}

const QUEUES: [(&str, Queue); 4] = [
    ("call_every", |_, transport, log| {
        every(transport, EVERY, log);
    }),
    ("call_later", |_, transport, log| {
        transport.call_later(EVERY, move |_: &mut Recorder, _| {
            log.note("called");
            Ok(())
        });
    }),
    ("call_soon", |_, transport, log| {
        transport.call_soon(move |_: &mut Recorder, _| {
            log.note("called");
            Ok(())
        });
    }),
    ("then_on", |handle, transport, log| {
        let (completer, completion) = handle.completion::<()>();
        completion.then_on(transport, move |_: &mut Recorder, _, _| {
            log.note("called");
            Ok(())
        });
        completer.complete(Ok(()));
    }),
];

fn they_wait_for_connection_made_and_the_loop_sleeps(kind: Kind) {
    for (name, queue) in QUEUES {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        transport.push_layer(Seal::server(), b"").detach();
        queue(event_loop.handle(), &transport, log.clone());
        let polls = polls_in_a_while(&mut event_loop);
        assert!(polls < 50, "{name}: {polls} polls");
        assert_eq!(log.words(), [""; 0], "{name}");
        peer.send(&hello());
        drive(&mut event_loop, name, || log.words().len() >= 2);
        assert_eq!(log.words()[..2], ["made", "called"], "{name}");
    }
}
each_kind!(they_wait_for_connection_made_and_the_loop_sleeps);

fn one_that_repeats_goes_on_with_its_period_behind_connection_made(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    transport.push_layer(Seal::server(), b"").detach();
    every(&transport, EVERY, log.clone());
    polls_in_a_while(&mut event_loop);
    peer.send(&hello());
    drive(&mut event_loop, "the calls", || log.words().len() > 10);
    assert!(log.words()[1..].iter().all(|word| *word == "called"));
    transport.abort();
    drive(&mut event_loop, "the end", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().timers, 0);
}
each_kind!(one_that_repeats_goes_on_with_its_period_behind_connection_made);

/// One whose deadline has come twice, and one that waits for its new deadline alone.
fn one_that_repeats_and_waits_can_be_moved_and_is_called_once(kind: Kind) {
    for (deadlines, called) in [([EVERY, EVERY], true), ([EVERY, HOUR], false)] {
        let mut event_loop = strict_loop();
        let log = Log::new();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        transport.push_layer(Seal::server(), b"").detach();
        let handle = every(&transport, HOUR, log.clone());
        for deadline in deadlines {
            assert!(handle.reset(deadline));
            polls_in_a_while(&mut event_loop);
        }
        peer.send(&hello());
        drive(&mut event_loop, "connection_made", || {
            !log.words().is_empty()
        });
        settle(&mut event_loop);
        let words: &[&str] = if called {
            &["made", "called"]
        } else {
            &["made"]
        };
        assert_eq!(log.words(), words);
        assert!(handle.reset(EVERY));
        drive(&mut event_loop, "the next call", || {
            log.words().len() > words.len()
        });
    }
}
each_kind!(one_that_repeats_and_waits_can_be_moved_and_is_called_once);

fn those_of_a_connection_that_is_not_made_are_dropped(kind: Kind) {
    let mut event_loop = strict_loop();
    let log = Log::new();
    let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    let calls = Calls::default();
    let layer = Seal::server().noted_in(&calls);
    transport.push_layer(layer, b"").detach();
    let held = Rc::new(());
    let [soon, often] = [held.clone(), held.clone()];
    transport.call_soon(move |_: &mut Recorder, _| {
        let _ = &soon;
        Ok(())
    });
    transport.call_every(EVERY, move |_: &mut Recorder, _| {
        let _ = &often;
        Ok(())
    });
    polls_in_a_while(&mut event_loop);
    transport.abort();
    drive(&mut event_loop, "the drops", || {
        Rc::strong_count(&held) == 1
    });
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    assert_eq!(event_loop.handle().stats().timers, 0);
}
each_kind!(those_of_a_connection_that_is_not_made_are_dropped);
