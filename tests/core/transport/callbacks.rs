//! When callbacks come.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, Recorder, Seen, adopted, drive, each_kind, flood, settle};
use tidegate::{EventLoop, OnPause, Transport, WriteLimits};

/// The callbacks of several connections, in one order.
type Order = Rc<RefCell<Vec<String>>>;

fn notes(order: &Order) -> impl Fn(&str, &str) + Clone + use<> {
    let order = order.clone();
    move |who, what| order.borrow_mut().push(format!("{who} {what}"))
}

/// Two connections that are readable in the same poll, whose data callback does `act`.
fn two_in_one_poll(kind: Kind, act: fn(&Transport), until: &str) -> (Vec<String>, [Log; 2]) {
    let mut event_loop = EventLoop::new().unwrap();
    let order = Order::default();
    let logs = [Log::new(), Log::new()];
    let mut peers = Vec::new();
    for (who, log) in ["a", "b"].into_iter().zip(&logs) {
        let note = notes(&order);
        let (data, pause, resume, lost) = (note.clone(), note.clone(), note.clone(), note);
        let protocol = Recorder::new(log)
            .buffered(4)
            .on_data(move |transport, _| {
                data(who, "data");
                act(transport);
                data(who, "data returns");
                Ok(())
            })
            .on_pause(move |_| {
                pause(who, "pause");
                Ok(OnPause::KeepReading)
            })
            .on_resume(move |_| {
                resume(who, "resume");
                Ok(())
            })
            .on_lost(move |_, _| lost(who, "lost"));
        let (_, peer) = adopted(event_loop.handle(), kind, protocol);
        peers.push(peer);
    }
    settle(&mut event_loop);
    // Two reads for each.
    for peer in &mut peers {
        peer.send(b"8 bytes.");
    }
    let last = |who: &str| format!("{who} {until}");
    drive(&mut event_loop, until, || {
        let order = order.borrow();
        ["a", "b"].iter().all(|who| order.contains(&last(who)))
    });
    (order.take(), logs)
}

/// Checks that after each return of a data callback its own consequence is next.
fn check_next(order: &[String], consequence: &str) {
    for (place, note) in order.iter().enumerate() {
        if let Some(who) = note.strip_suffix(" data returns") {
            let expected = format!("{who} {consequence}");
            assert_eq!(order.get(place + 1), Some(&expected), "{order:?}");
        }
    }
}

each_kind!(effects_of_a_callback_on_its_own_transport_come_before_any_other_event);
fn effects_of_a_callback_on_its_own_transport_come_before_any_other_event(kind: Kind) {
    for end in [Transport::close, Transport::abort, Transport::reset] {
        let (order, logs) = two_in_one_poll(kind, end, "lost");
        check_next(&order, "lost");
        assert_eq!(order.len(), 6, "{order:?}");
        for log in logs {
            assert_eq!(log.words(), ["made", "data", "lost"]);
        }
    }
    let once = |transport: &Transport| {
        if !transport.flow().is_paused() {
            flood(transport);
        }
    };
    let (order, logs) = two_in_one_poll(kind, once, "pause");
    let first: Vec<_> = order.iter().take(3).cloned().collect();
    check_next(&first, "pause");
    for log in logs {
        let expected = [Seen::Made, Seen::Data(b"8 by".into()), Seen::Pause];
        assert_eq!(log.seen()[..3], expected);
    }
    // Raising the limits ends a pause that has begun in the same callback: both are told.
    let (order, _) = two_in_one_poll(
        kind,
        |transport| {
            flood(transport);
            let limits = WriteLimits::new().with_high(1 << 20).with_low(1 << 20);
            transport.set_write_limits(limits).unwrap();
            assert!(!transport.flow().is_paused());
        },
        "resume",
    );
    let first: Vec<_> = order.iter().take(4).cloned().collect();
    check_next(&first, "pause");
    assert!(first[3].ends_with("resume"), "{order:?}");
}

each_kind!(effects_of_a_callback_on_another_transport_come_this_tick_or_the_next);
fn effects_of_a_callback_on_another_transport_come_this_tick_or_the_next(kind: Kind) {
    type Cause = (fn(&Transport), &'static str);
    let causes: [Cause; 4] = [
        (Transport::close, "lost"),
        (Transport::abort, "lost"),
        (flood, "pause"),
        (
            |transport| {
                let note = transport.clone();
                let next = Recorder::default().on_data(move |_, _| {
                    note.pause_reading();
                    Ok(())
                });
                transport.set_protocol(next, b"un").unwrap();
            },
            "reading paused",
        ),
    ];
    for (cause, what) in causes {
        let mut event_loop = EventLoop::new().unwrap();
        let (log, other_log) = (Log::new(), Log::new());
        let (other, _other_peer) = adopted(event_loop.handle(), kind, Recorder::new(&other_log));
        let (target, within) = (other.clone(), other_log.clone());
        let protocol = Recorder::new(&log).on_data(move |_, _| {
            let before = within.seen();
            cause(&target);
            assert_eq!(within.seen(), before);
            Ok(())
        });
        let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        peer.send(b"go");
        while log.data_len() == 0 {
            event_loop.run_once(Some(Duration::from_secs(1))).unwrap();
        }
        let came = || {
            let words = other_log.words();
            match what {
                "reading paused" => !other.is_reading(),
                what => words.last().is_some_and(|last| last == what),
            }
        };
        if !came() {
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        assert!(came(), "{kind:?} {what}: {other_log:?}");
    }
}
