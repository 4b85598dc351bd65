//! Another protocol for a connection: what it gets, in which order, and what the old one does not.

use std::cell::RefCell;
use std::rc::Rc;
use support::{Kind, Log, Recorder, Seen, adopted, drive, each_kind, flood, once, settle};
use tidegate::{EventLoop, OnEof, OnPause, Transport, WriteLimits};

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

each_kind!(the_new_protocol_gets_unread_first_and_then_what_the_kernel_has);
fn the_new_protocol_gets_unread_first_and_then_what_the_kernel_has(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let mut next = once(Recorder::new(&new));
    let dropped = old.clone();
    let protocol = Recorder::new(&old)
        .buffered(4)
        .on_data(move |transport, _| {
            transport.set_protocol(next().unwrap(), b"unread ")?;
            assert_eq!(dropped.dropped(), 0);
            Ok(())
        });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"HEADfrom the kernel");
    drive(&mut event_loop, "all of it", || new.data_len() == 22);
    assert_eq!(old.seen(), [Seen::Made, data(b"HEAD")]);
    assert_eq!(
        new.seen(),
        [Seen::Made, data(b"unread "), data(b"from the kernel")]
    );
    settle(&mut event_loop);
    assert_eq!(old.dropped(), 1);
    peer.close();
    drive(&mut event_loop, "lost", || new.is_lost());
    assert_eq!(new.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(old.words(), ["made", "data"]);
}

each_kind!(it_may_come_from_outside_from_another_connection_and_from_with_protocol);
fn it_may_come_from_outside_from_another_connection_and_from_with_protocol(kind: Kind) {
    for from in 0..3 {
        let mut event_loop = EventLoop::new().unwrap();
        let (old, new) = (Log::new(), Log::new().switched_in());
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&old));
        settle(&mut event_loop);
        let recorder = Recorder::new(&new);
        match from {
            0 => transport.set_protocol(recorder, b"un").unwrap(),
            1 => {
                let transport = transport.clone();
                let mut next = once(recorder);
                let other = Recorder::default().on_made(move |_| {
                    transport.set_protocol(next().unwrap(), b"un")?;
                    Ok(())
                });
                let (other, _peer) = adopted(event_loop.handle(), kind, other);
                other.close();
            }
            _ => transport
                .with_protocol(|_: &mut Recorder, transport| {
                    transport.set_protocol(recorder, b"un").unwrap();
                    assert_eq!(old.dropped(), 0);
                })
                .unwrap(),
        }
        assert!(new.data().is_empty());
        drive(&mut event_loop, "unread", || new.data() == b"un");
        peer.send(b"more");
        drive(&mut event_loop, "more", || new.data() == b"unmore");
        assert_eq!((old.words(), old.dropped()), (vec!["made".to_owned()], 1));
    }
}

each_kind!(after_eof_the_new_protocol_gets_unread_and_an_eof_of_its_own);
fn after_eof_the_new_protocol_gets_unread_and_an_eof_of_its_own(kind: Kind) {
    for unread in [&b"un"[..], b""] {
        for paused in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let (old, new) = (Log::new(), Log::new().switched_in());
            let (transport, mut peer) =
                adopted(event_loop.handle(), kind, Recorder::new(&old).keep_open());
            peer.shutdown_write();
            drive(&mut event_loop, "the end", || old.has(&Seen::Eof));
            if paused {
                transport.pause_reading();
            }
            let recorder = Recorder::new(&new).keep_open();
            transport.set_protocol(recorder, unread).unwrap();
            settle(&mut event_loop);
            if paused {
                assert_eq!(new.words(), ["made"]);
                transport.resume_reading();
            }
            drive(&mut event_loop, "its own end", || new.has(&Seen::Eof));
            assert_eq!(new.data(), unread);
            // It keeps it open; writing works until we end it too.
            transport.write(b"still here").unwrap();
            peer.expect(&mut event_loop, 10);
            transport.write_eof().unwrap();
            drive(&mut event_loop, "lost", || new.is_lost());
            assert_eq!(new.reason(), "peer-eof");
            assert_eq!(old.words(), ["made", "eof"]);
        }
    }
}

each_kind!(a_protocol_that_comes_in_eof_received_is_told_of_the_end_too);
fn a_protocol_that_comes_in_eof_received_is_told_of_the_end_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let mut next = once(Recorder::new(&new));
    let protocol = Recorder::new(&old).on_eof(move |transport| {
        transport.set_protocol(next().unwrap(), b"un")?;
        Ok(OnEof::KeepOpen)
    });
    let (_, peer) = adopted(event_loop.handle(), kind, protocol);
    peer.shutdown_write();
    drive(&mut event_loop, "lost", || new.is_lost());
    assert_eq!(new.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(old.words(), ["made", "eof"]);
}

/// A paused connection whose old protocol returned `old`; the new one returns `new`.
fn switch_while_paused(kind: Kind, answers: (OnPause, OnPause)) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let protocol = Recorder::new(&old).on_pause(move |_| Ok(answers.0));
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    flood(&transport);
    drive(&mut event_loop, "paused", || old.has(&Seen::Pause));
    peer.send(b"input");
    settle(&mut event_loop);
    let keeps = |answer| answer == OnPause::KeepReading;
    assert_eq!(transport.is_reading(), keeps(answers.0));
    let recorder = Recorder::new(&new).on_pause(move |_| Ok(answers.1));
    transport.set_protocol(recorder, b"un").unwrap();
    settle(&mut event_loop);
    assert_eq!(transport.is_reading(), keeps(answers.1));
    if keeps(answers.1) {
        assert_eq!(new.words(), ["made", "pause", "data"]);
    } else {
        assert_eq!(new.words(), ["made", "pause"]);
    }
    drive(&mut event_loop, "resumed", || {
        peer.read_available();
        new.has(&Seen::Resume) && new.has(&data(b"un"))
    });
    assert!(transport.is_reading());
    let before = if keeps(answers.0) { "input" } else { "" };
    let after = format!("un{}", if before.is_empty() { "input" } else { "" });
    drive(&mut event_loop, "all of it", || {
        new.data() == after.as_bytes()
    });
    assert_eq!(old.data(), before.as_bytes());
    assert!(!old.has(&Seen::Resume));
}

each_kind!(on_a_paused_transport_the_new_protocol_is_paused_first_and_decides_the_hold);
fn on_a_paused_transport_the_new_protocol_is_paused_first_and_decides_the_hold(kind: Kind) {
    use OnPause::{KeepReading, StopReading};
    for old in [KeepReading, StopReading] {
        for new in [KeepReading, StopReading] {
            switch_while_paused(kind, (old, new));
        }
    }
}

each_kind!(a_protocol_set_while_resume_writing_refills_is_paused_before_its_unread);
fn a_protocol_set_while_resume_writing_refills_is_paused_before_its_unread(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let recorder = Recorder::new(&new).on_pause(|_| Ok(OnPause::KeepReading));
    let mut next = once(recorder);
    let protocol = Recorder::new(&old).on_resume(move |transport| {
        flood(transport);
        transport.set_protocol(next().unwrap(), b"un")?;
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    flood(&transport);
    drive(&mut event_loop, "paused", || old.has(&Seen::Pause));
    // One event brings both: room to write, and input.
    peer.send(b"input");
    drive(&mut event_loop, "the switch", || {
        peer.read_available();
        old.has(&Seen::Resume)
    });
    drive(&mut event_loop, "all of it", || new.data() == b"uninput");
    assert_eq!(new.words()[..3], ["made", "pause", "data"]);
}

each_kind!(a_hold_ends_with_a_switch_once_the_buffer_has_drained);
fn a_hold_ends_with_a_switch_once_the_buffer_has_drained(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let mut next = once(Recorder::new(&new));
    let protocol = Recorder::new(&old).on_resume(move |transport| {
        transport.set_protocol(next().unwrap(), b"un")?;
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    flood(&transport);
    drive(&mut event_loop, "the switch", || {
        peer.read_available();
        new.data() == b"un"
    });
    assert!(transport.is_reading());
    assert_eq!(new.words(), ["made", "data"]);
    assert_eq!(old.words(), ["made", "pause", "resume"]);
}

each_kind!(while_closing_the_new_protocol_gets_connection_lost_alone);
fn while_closing_the_new_protocol_gets_connection_lost_alone(kind: Kind) {
    type End = fn(&Transport);
    let ends: [(End, &str); 3] = [
        (|transport| transport.close(), "local-close"),
        (|transport| transport.abort(), "local-abort"),
        (|transport| transport.reset(), "local-abort"),
    ];
    for (end, reason) in ends {
        for inside in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let (old, new) = (Log::new(), Log::new().switched_in());
            let switch = {
                let mut next = once(Recorder::new(&new));
                move |transport: &Transport| {
                    end(transport);
                    transport.set_protocol(next().unwrap(), b"un").unwrap();
                }
            };
            let switch = Rc::new(RefCell::new(switch));
            let within = switch.clone();
            let protocol = Recorder::new(&old).on_data(move |transport, _| {
                if inside {
                    within.borrow_mut()(transport);
                }
                Ok(())
            });
            let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
            settle(&mut event_loop);
            flood(&transport);
            peer.send(b"input");
            if inside {
                // The default return value of the pause would stop reading first.
                drive(&mut event_loop, "the callback", || {
                    peer.read_available();
                    old.data_len() == 5
                });
            } else {
                switch.borrow_mut()(&transport);
            }
            drive(&mut event_loop, "lost", || {
                peer.read_available();
                new.is_lost()
            });
            assert_eq!(new.words(), ["made", "lost"]);
            assert_eq!(new.reason(), reason);
            assert!(!old.is_lost());
            settle(&mut event_loop);
            assert_eq!((old.dropped(), new.dropped()), (1, 1));
        }
    }
}

each_kind!(the_last_set_protocol_of_a_callback_wins_and_gets_all_unread_in_order);
fn the_last_set_protocol_of_a_callback_wins_and_gets_all_unread_in_order(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let old = Log::new();
    let news = [(); 3].map(|()| Log::new().switched_in());
    let mut next = once(news.clone());
    let protocol = Recorder::new(&old).on_data(move |transport, _| {
        let news = next().unwrap();
        for (log, unread) in news.iter().zip([&b"one "[..], b"two ", b"three "]) {
            transport.set_protocol(Recorder::new(log), unread)?;
        }
        assert!(news.iter().all(|log| log.dropped() == 0));
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"go");
    drive(&mut event_loop, "unread", || news[2].data_len() > 0);
    settle(&mut event_loop);
    assert_eq!(news[2].seen(), [Seen::Made, data(b"one two three ")]);
    for replaced in &news[..2] {
        assert_eq!((replaced.seen(), replaced.dropped()), (vec![Seen::Made], 1));
    }
    assert_eq!((old.dropped(), news[2].dropped()), (1, 0));
}

each_kind!(unread_of_one_callback_is_joined_before_that_of_a_protocol_that_waited);
fn unread_of_one_callback_is_joined_before_that_of_a_protocol_that_waited(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (replaced, new) = (Log::new().switched_in(), Log::new().switched_in());
    let mut both = once((Recorder::default(), Recorder::new(&new)));
    let protocol = Recorder::default().on_made(move |transport| {
        let (second, third) = both().unwrap();
        transport.set_protocol(second, b"one ")?;
        transport.set_protocol(third, b"two ")?;
        Ok(())
    });
    let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
    transport
        .set_protocol(Recorder::new(&replaced), b"waited")
        .unwrap();
    drive(&mut event_loop, "unread", || new.data_len() > 0);
    assert_eq!(new.seen(), [Seen::Made, data(b"one two waited")]);
    assert_eq!(replaced.seen(), [Seen::Made]);
}

each_kind!(set_protocol_is_refused_in_connection_lost_and_after_it);
fn set_protocol_is_refused_in_connection_lost_and_after_it(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (log, new) = (Log::new(), Log::new());
    let late = new.clone();
    let protocol = Recorder::new(&log).on_lost(move |transport, closed| {
        let refused = transport.set_protocol(Recorder::new(&late), b"un");
        assert_eq!(refused.unwrap_err().to_string(), closed.to_string());
        // Dropped by the loop, not within the call.
        assert_eq!(late.dropped(), 0);
    });
    let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
    settle(&mut event_loop);
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!((log.dropped(), new.dropped()), (1, 1));
    assert!(transport.set_protocol(Recorder::new(&new), b"").is_err());
    assert_eq!(new.dropped(), 1);
    settle(&mut event_loop);
    assert_eq!((new.seen(), new.dropped()), (Vec::new(), 2));
}

each_kind!(a_hold_does_not_outlive_a_set_protocol_between_the_fall_and_its_resume);
fn a_hold_does_not_outlive_a_set_protocol_between_the_fall_and_its_resume(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&old));
    flood(&transport);
    drive(&mut event_loop, "paused", || old.has(&Seen::Pause));
    peer.send(b"input");
    settle(&mut event_loop);
    assert!(!transport.is_reading());
    let limits = WriteLimits::new().with_high(1 << 25).with_low(1 << 25);
    transport.set_write_limits(limits).unwrap();
    transport.set_protocol(Recorder::new(&new), b"un").unwrap();
    drive(&mut event_loop, "all of it", || new.data() == b"uninput");
    assert_eq!(new.words(), ["made", "data"]);
    assert_eq!(old.words(), ["made", "pause"]);
}
