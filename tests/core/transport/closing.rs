//! `close`, `close_within`, `abort` and `reset`: what still arrives, and when it ends.

use std::io::ErrorKind;
use std::time::{Duration, Instant};
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, adopted, drive, each_kind, never_paused, settle,
    stalled, text,
};
use tidegate::{EventLoop, Transport, WriteError};

const HOUR: Duration = Duration::from_secs(3600);

each_kind!(close_sends_all_that_is_buffered_to_a_slow_peer);
fn close_sends_all_that_is_buffered_to_a_slow_peer(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    never_paused(&transport);
    let data = text(0, 24 << 20);
    transport.write(&data).unwrap();
    transport.close();
    settle(&mut event_loop);
    assert!(transport.write_buffer_size() > 0);
    drive(&mut event_loop, "the end of the stream", || {
        // Until the kernel has the last byte, the connection is there.
        assert!(!log.is_lost() || transport.sent() == transport.written());
        peer.read_some(300_000);
        peer.is_ended()
    });
    assert!(peer.saw_eof());
    assert!(peer.received() == data);
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(log.closed().is_clean());
}

each_kind!(close_sends_many_small_writes_of_its_own_callback_and_of_others);
fn close_sends_many_small_writes_of_its_own_callback_and_of_others(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        for i in 100..1000 {
            transport.write(&text(i, 1))?;
        }
        transport.close();
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    for i in 0..100 {
        transport.write(&text(i, 1)).unwrap();
    }
    peer.send(b"go");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), text(0, 1000));
    assert!(peer.saw_eof());
}

each_kind!(close_stops_reading_at_once);
fn close_stops_reading_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    peer.send(b"in the kernel already");
    transport.close();
    assert!(!transport.is_reading());
    transport.resume_reading();
    peer.send(b"after the close");
    peer.shutdown_write();
    settle(&mut event_loop);
    assert!(!log.is_lost());
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    assert!(log.closed().is_clean());

    // Within data_received, what a further read would have brought.
    let log = Log::new();
    let protocol = Recorder::new(&log).buffered(4).on_data(|transport, _| {
        transport.close();
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"12345678");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"1234");
}

each_kind!(from_close_on_only_connection_lost_comes);
fn from_close_on_only_connection_lost_comes(kind: Kind) {
    for end in [Transport::close, Transport::abort] {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).stalled(MIB).set();
        assert_eq!(log.words(), ["made", "pause"]);
        end(&transport);
        peer.write(b"data");
        peer.shutdown_write();
        // The buffer drains, or is dropped: no resume, no data, no eof.
        peer.expect_end(&mut event_loop);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "pause", "lost"]);
    }
}

each_kind!(a_pause_that_close_overtakes_is_not_delivered);
fn a_pause_that_close_overtakes_is_not_delivered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_made(|transport| {
        while !transport
            .write(&text(transport.written(), 1 << 20))?
            .is_paused()
        {}
        transport.close();
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    settle(&mut event_loop);
    peer.expect_end(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
}

each_kind!(callbacks_of_the_transport_run_until_connection_lost);
fn callbacks_of_the_transport_run_until_connection_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    let (completer, completion) = event_loop.handle().completion();
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.note(what)
    };
    transport.close();
    let soon = note("call_soon");
    transport.call_soon::<Recorder>(move |_, _| {
        soon();
        Ok(())
    });
    let later = note("call_later");
    transport.call_later::<Recorder>(Duration::ZERO, move |_, _| {
        later();
        Ok(())
    });
    let then = note("then_on");
    completion.then_on::<Recorder>(&transport, move |_, _, answer: std::io::Result<()>| {
        answer?;
        then();
        Ok(())
    });
    let never = note("after an hour");
    transport.call_later::<Recorder>(HOUR, move |_, _| {
        never();
        Ok(())
    });
    completer.complete(Ok(()));
    drive(&mut event_loop, "the callbacks", || log.words().len() == 4);
    let words = log.words();
    for name in ["call_soon", "call_later", "then_on"] {
        assert!(words.contains(&name.to_owned()), "{words:?}");
    }
    let after = note("after the end");
    transport.call_soon::<Recorder>({
        let transport = transport.clone();
        move |_, _| {
            transport.abort();
            transport.call_soon::<Recorder>(move |_, _| {
                after();
                Ok(())
            });
            Ok(())
        }
    });
    peer.read_some(1);
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(log.words().len(), 5);
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(a_write_after_close_says_closing_and_is_not_sent);
fn a_write_after_close_says_closing_and_is_not_sent(kind: Kind) {
    // asyncio takes it as long as the buffer is not empty, and drops it silently afterwards.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    let written = transport.written();
    transport.close();
    let refusal = transport.write(b"one thing more").unwrap_err();
    assert!(matches!(refusal, WriteError::Closing { .. }));
    let refusal = transport.write_eof().unwrap_err();
    assert!(matches!(refusal, WriteError::Closing { .. }));
    assert_eq!(transport.written(), written);
    peer.expect_end(&mut event_loop);
    assert!(peer.received() == text(0, written as usize));
}

each_kind!(a_callback_that_writes_after_close_leaves_the_close_graceful);
fn a_callback_that_writes_after_close_leaves_the_close_graceful(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.write(b"goodbye")?;
        transport.close();
        transport.write(b"and")?;
        unreachable!("the write is refused");
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"go");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"goodbye");
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "local-close");
}

/// A cut over TCP is a reset, which may destroy what the kernel had. Over a Unix socket that arrives.
#[track_caller]
fn expect_cut(event_loop: &mut EventLoop, kind: Kind, peer: &mut Peer, transport: &Transport) {
    peer.expect_end(event_loop);
    let received = peer.received();
    assert!(received == text(0, received.len()));
    match kind {
        Kind::Tcp => assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset)),
        Kind::Unix => {
            assert!(peer.saw_eof());
            assert_eq!(received.len() as u64, transport.sent());
        }
    }
}

each_kind!(abort_drops_the_buffer_at_once);
fn abort_drops_the_buffer_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.abort();
    assert_eq!(transport.write_buffer_size(), 0);
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(log.words(), ["made", "lost"]);
    expect_cut(&mut event_loop, kind, &mut peer, &transport);
    assert!(log.closed().unsent() > 0);
}

each_kind!(abort_after_close_cuts_the_wait);
fn abort_after_close_cuts_the_wait(kind: Kind) {
    for cut in [Transport::abort, Transport::reset] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
        transport.close();
        settle(&mut event_loop);
        assert!(!log.is_lost());
        cut(&transport);
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.reason(), "local-abort");
    }
}

each_kind!(reset_shows_as_a_reset_at_a_tcp_peer_and_an_abort_that_loses_nothing_does_not);
fn reset_shows_as_a_reset_at_a_tcp_peer_and_an_abort_that_loses_nothing_does_not(kind: Kind) {
    type End = fn(&Transport);
    let reset = (kind == Kind::Tcp).then_some(ErrorKind::ConnectionReset);
    let ends: [(End, Option<ErrorKind>); 2] = [(Transport::abort, None), (Transport::reset, reset)];
    for (end, error) in ends {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        transport.write(&text(0, 1000)).unwrap();
        settle(&mut event_loop);
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.reason(), "local-abort");
        peer.expect_end(&mut event_loop);
        assert_eq!(peer.saw_error(), error);
        assert_eq!(peer.saw_eof(), error.is_none());
    }
}

#[test]
fn a_reset_that_follows_an_abort_in_the_same_callback_still_shows() {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.abort();
        transport.reset();
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), Kind::Tcp, protocol);
    peer.send(b"go");
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.saw_error(), Some(ErrorKind::ConnectionReset));
    assert_eq!(log.reason(), "local-abort");
}

each_kind!(every_end_may_be_asked_for_any_number_of_times_in_any_order);
fn every_end_may_be_asked_for_any_number_of_times_in_any_order(kind: Kind) {
    let ends: [fn(&Transport); 5] = [
        Transport::close,
        Transport::abort,
        Transport::reset,
        |transport| transport.close_within(Duration::ZERO),
        |transport| transport.close_within(Duration::MAX),
    ];
    for (i, first) in ends.iter().enumerate() {
        for (j, second) in ends.iter().enumerate() {
            for with_data in [false, true] {
                let mut event_loop = EventLoop::new().unwrap();
                let log = Log::new();
                let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
                if with_data {
                    transport.write(b"one word").unwrap();
                }
                first(&transport);
                first(&transport);
                second(&transport);
                first(&transport);
                assert!(transport.is_closing());
                drive(&mut event_loop, "lost", || log.is_lost());
                assert_eq!(log.words(), ["made", "lost"], "{i} {j}");
                let closed = log.closed().to_string();
                second(&transport);
                first(&transport);
                peer.close();
                settle(&mut event_loop);
                assert_eq!(log.words(), ["made", "lost"], "{i} {j}");
                assert_eq!(transport.closed().unwrap().to_string(), closed);
                assert_eq!(event_loop.handle().stats().timers, 0);
            }
        }
    }
}

each_kind!(close_within_ends_a_stalled_close_at_its_deadline_and_not_before);
fn close_within_ends_a_stalled_close_at_its_deadline_and_not_before(kind: Kind) {
    // asyncio's close() waits for ever for a peer that does not read.
    let limit = Duration::from_millis(60);
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    let start = Instant::now();
    transport.close_within(limit);
    settle(&mut event_loop);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert!(start.elapsed() >= limit);
    assert_eq!(log.reason(), "timeout");
    let unsent = transport.written() - transport.sent();
    assert!(unsent > 0);
    assert_eq!(log.closed().unsent(), unsent);
    expect_cut(&mut event_loop, kind, &mut peer, &transport);
}

each_kind!(close_within_lets_a_close_end_before_its_deadline_and_leaves_no_timer);
fn close_within_lets_a_close_end_before_its_deadline_and_leaves_no_timer(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close_within(HOUR);
    assert_eq!(event_loop.handle().stats().timers, 1);
    peer.expect_end(&mut event_loop);
    peer.close();
    settle(&mut event_loop);
    assert!(log.closed().is_clean());
    assert_eq!(event_loop.handle().stats().timers, 0);
}

each_kind!(of_several_deadlines_the_earliest_holds);
fn of_several_deadlines_the_earliest_holds(kind: Kind) {
    let early = Duration::from_millis(60);
    let orders: [&[Duration]; 4] = [
        &[early, HOUR],
        &[HOUR, early],
        &[HOUR, early, HOUR],
        &[Duration::MAX, early, Duration::MAX],
    ];
    for order in orders {
        for close_first in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let log = Log::new();
            let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
            let start = Instant::now();
            if close_first {
                transport.close();
                settle(&mut event_loop);
            }
            for limit in order {
                transport.close_within(*limit);
            }
            // A close says nothing about the deadline that is set.
            transport.close();
            drive(&mut event_loop, "lost", || log.is_lost());
            assert!(start.elapsed() >= early);
            assert_eq!(log.reason(), "timeout");
            assert_eq!(event_loop.handle().stats().timers, 0);
        }
    }
}

each_kind!(all_deadlines_of_a_close_have_one_timer);
fn all_deadlines_of_a_close_have_one_timer(kind: Kind) {
    let (event_loop, _, transport, _peer) = Scene::full(kind).set();
    for hours in [3, 4, 2, 5, 1] {
        transport.close_within(hours * HOUR);
        assert_eq!(event_loop.handle().stats().timers, 1);
    }
}

each_kind!(a_deadline_may_be_brought_forward_while_the_close_is_under_way);
fn a_deadline_may_be_brought_forward_while_the_close_is_under_way(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close_within(HOUR);
    settle(&mut event_loop);
    assert!(!log.is_lost());
    transport.close_within(Duration::from_millis(1));
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "timeout");
}

each_kind!(a_deadline_of_zero_leaves_time_for_what_the_kernel_takes_at_once);
fn a_deadline_of_zero_leaves_time_for_what_the_kernel_takes_at_once(kind: Kind) {
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    transport.write(b"goodbye").unwrap();
    transport.close_within(Duration::ZERO);
    drive(&mut event_loop, "the end", || transport.closed().is_some());
    let closed = transport.closed().unwrap();
    assert!(closed.is_clean(), "{closed}");
    peer.expect(&mut event_loop, 7);
}
