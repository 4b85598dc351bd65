//! Bytes given to `set_protocol`: the way they go, and `get_buffer` on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use support::{
    Kind, Log, Recorder, Seen, adopted, drive, each_kind, failures, flood, once, settle,
};
use tidegate::{EventLoop, Transport};

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

each_kind!(unread_goes_through_get_buffer_piece_by_piece_when_its_buffer_is_smaller);
fn unread_goes_through_get_buffer_piece_by_piece_when_its_buffer_is_smaller(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let new = Log::new().switched_in();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    let hints: Rc<RefCell<Vec<usize>>> = Rc::default();
    let hinted = hints.clone();
    let recorder = Recorder::new(&new)
        .buffered(3)
        .on_get_buffer(move |_, hint| hinted.borrow_mut().push(hint));
    peer.send(b"ij");
    transport.set_protocol(recorder, b"abcdefgh").unwrap();
    drive(&mut event_loop, "all of it", || new.data_len() == 10);
    let pieces = [data(b"abc"), data(b"def"), data(b"gh"), data(b"ij")];
    assert_eq!(new.seen()[1..], pieces);
    assert_eq!(hints.borrow()[..4], [8, 5, 2, 0]);
}

each_kind!(later_unread_goes_in_front_of_what_is_still_undelivered);
fn later_unread_goes_in_front_of_what_is_still_undelivered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let logs = [(); 3].map(|()| Log::new().switched_in());
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    transport.pause_reading();
    peer.send(b"!");
    // The first one sits in its place before the second comes.
    transport
        .set_protocol(Recorder::new(&logs[0]), b"the world")
        .unwrap();
    settle(&mut event_loop);
    let mut next = once(Recorder::new(&logs[2]));
    let second = Recorder::new(&logs[1])
        .buffered(4)
        .on_data(move |transport, _| {
            // It was given "hell" and leaves the last two for the next.
            transport.set_protocol(next().unwrap(), b"ll")?;
            Ok(())
        });
    transport.set_protocol(second, b"hello ").unwrap();
    settle(&mut event_loop);
    transport.resume_reading();
    drive(&mut event_loop, "all of it", || {
        logs[2].data().ends_with(b"!")
    });
    assert_eq!(logs[0].words(), ["made"]);
    assert_eq!(logs[1].data(), b"hell");
    assert_eq!(logs[2].seen()[1], data(b"llo the world"));
    assert_eq!(logs[2].data(), b"llo the world!");
}

each_kind!(a_buffer_of_a_get_buffer_that_paused_closed_or_switched_is_not_used);
fn a_buffer_of_a_get_buffer_that_paused_closed_or_switched_is_not_used(kind: Kind) {
    type Stop = fn(&Transport, Recorder);
    let stops: [(Stop, &str); 4] = [
        (|transport, _| transport.pause_reading(), ""),
        (|transport, _| transport.close(), "local-close"),
        (|transport, _| transport.abort(), "local-abort"),
        (
            |transport, next| transport.set_protocol(next, b"").unwrap(),
            "",
        ),
    ];
    for (place, (stop, reason)) in stops.into_iter().enumerate() {
        for unread in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let (log, new) = (Log::new().switched_in(), Log::new().switched_in());
            let calls = Rc::new(Cell::new(0));
            let count = calls.clone();
            let mut next = once(Recorder::new(&new));
            let recorder = Recorder::new(&log)
                .buffered(64)
                .on_get_buffer(move |transport, _| {
                    count.set(count.get() + 1);
                    if let Some(next) = next() {
                        stop(transport, next);
                    }
                });
            let (transport, mut peer) =
                adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
            settle(&mut event_loop);
            if unread {
                transport.set_protocol(recorder, b"bytes").unwrap();
            } else {
                transport.set_protocol(recorder, b"").unwrap();
                peer.send(b"bytes");
            }
            drive(&mut event_loop, "get_buffer", || calls.get() == 1);
            settle(&mut event_loop);
            assert_eq!((log.data(), calls.get()), (Vec::new(), 1));
            match place {
                0 => {
                    transport.resume_reading();
                    drive(&mut event_loop, "bytes", || log.data() == b"bytes");
                }
                3 => drive(&mut event_loop, "bytes", || new.data() == b"bytes"),
                _ => {
                    drive(&mut event_loop, "lost", || log.is_lost());
                    assert_eq!((log.data(), log.reason()), (Vec::new(), reason.to_owned()));
                }
            }
        }
    }
}

each_kind!(an_empty_buffer_is_an_error_of_the_callback);
fn an_empty_buffer_is_an_error_of_the_callback(kind: Kind) {
    for unread in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let failures = failures(event_loop.handle());
        let log = Log::new().switched_in();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
        settle(&mut event_loop);
        let recorder = Recorder::new(&log).buffered(0);
        let bytes: &[u8] = if unread { b"bytes" } else { b"" };
        transport.set_protocol(recorder, bytes).unwrap();
        peer.send(b"bytes");
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "lost"]);
        assert_eq!(log.reason(), "callback");
        let failures = failures.borrow();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].to_string().contains("empty buffer"));
    }
}

each_kind!(get_buffer_the_read_and_buffer_updated_are_one_callback);
fn get_buffer_the_read_and_buffer_updated_are_one_callback(kind: Kind) {
    for unread in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new().switched_in();
        let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
        settle(&mut event_loop);
        let mut first = once(());
        let recorder = Recorder::new(&log)
            .buffered(64)
            .on_get_buffer(move |transport, _| {
                if first().is_some() {
                    transport.write(b"from get_buffer, ").unwrap();
                }
            })
            .on_data(|transport, _| {
                transport.write(b"from buffer_updated")?;
                Ok(())
            });
        let bytes: &[u8] = if unread { b"bytes" } else { b"" };
        let before = event_loop.handle().stats().writes;
        transport.set_protocol(recorder, bytes).unwrap();
        if !unread {
            peer.send(b"bytes");
        }
        peer.expect(&mut event_loop, 36);
        assert_eq!(peer.received(), b"from get_buffer, from buffer_updated");
        assert_eq!(event_loop.handle().stats().writes, before + 1);
    }
}

each_kind!(a_pause_that_get_buffer_causes_comes_after_buffer_updated);
fn a_pause_that_get_buffer_causes_comes_after_buffer_updated(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let mut first = once(());
    let protocol = Recorder::new(&log)
        .buffered(64)
        .on_get_buffer(move |transport, _| {
            if first().is_some() {
                flood(transport);
            }
        });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"bytes");
    drive(&mut event_loop, "paused", || log.has(&Seen::Pause));
    assert_eq!(log.seen(), [Seen::Made, data(b"bytes"), Seen::Pause]);
}

#[test]
fn unread_is_delivered_to_the_end_though_its_receiver_meets_the_end_of_writing() {
    let kind = Kind::Unix;
    let mut event_loop = EventLoop::new().unwrap();
    let failures = failures(event_loop.handle());
    let new = Log::new().switched_in();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&Log::new()));
    settle(&mut event_loop);
    transport.pause_reading();
    peer.send(b"from the kernel");
    peer.close();
    let refused = transport.write(&[0; 100_000]).unwrap_err();
    assert!(refused.closed().unwrap().is_reset());
    let recorder = Recorder::new(&new).buffered(4).on_data(|transport, data| {
        transport.write(data)?;
        Ok(())
    });
    transport.set_protocol(recorder, b"unread bytes, ").unwrap();
    transport.resume_reading();
    drive(&mut event_loop, "lost", || new.is_lost());
    assert_eq!(new.data(), b"unread bytes, from the kernel");
    assert!(new.closed().is_reset());
    assert!(failures.borrow().is_empty(), "{failures:?}");
}

each_kind!(unread_waits_while_reading_is_paused);
fn unread_waits_while_reading_is_paused(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (old, new) = (Log::new(), Log::new().switched_in());
    let mut next = once(Recorder::new(&new));
    let protocol = Recorder::new(&old).on_data(move |transport, _| {
        transport.pause_reading();
        transport.set_protocol(next().unwrap(), b"un")?;
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"1");
    drive(&mut event_loop, "the first", || old.data_len() == 1);
    peer.send(b"2");
    settle(&mut event_loop);
    assert_eq!(new.words(), ["made"]);
    transport.resume_reading();
    assert_eq!(new.words(), ["made"]);
    drive(&mut event_loop, "the rest", || new.data() == b"un2");
    assert_eq!(new.seen(), [Seen::Made, data(b"un"), data(b"2")]);
}
