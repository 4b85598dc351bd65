//! Connections that the peer broke: writing ends at once, what had arrived is delivered, and of
//! several errors the first one is told.

use std::io::ErrorKind;
use std::time::Duration;
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, Seen, adopted, drive, each_kind, never_paused,
    note_answer, settle, stall,
};
use tidegate::{CloseReason, Closed, EventLoop, Transport};

/// A connection whose peer has bytes of ours unread: when it closes, both TCP and Unix sockets
/// report a reset here.
fn unread(event_loop: &mut EventLoop, kind: Kind, protocol: Recorder) -> (Transport, Peer) {
    let (transport, peer) = adopted(event_loop.handle(), kind, protocol);
    transport.write(b"never read").unwrap();
    settle(event_loop);
    assert_eq!(transport.sent(), 10);
    (transport, peer)
}

/// The same, with reading paused, and `pending` unread in our kernel when the peer has gone. The
/// reset was noticed when this returns.
fn broken_while_paused(
    event_loop: &mut EventLoop,
    kind: Kind,
    log: &Log,
    pending: &[u8],
) -> (Transport, Peer) {
    let (transport, mut peer) = unread(event_loop, kind, Recorder::new(log));
    transport.pause_reading();
    if !pending.is_empty() {
        peer.send(pending);
    }
    settle(event_loop);
    peer.close();
    drive(event_loop, "the reset to be noticed", || {
        transport.closed().is_some()
    });
    settle(event_loop);
    assert_eq!(log.words(), ["made"]);
    (transport, peer)
}

fn error_kind(closed: &Closed) -> Option<ErrorKind> {
    match closed.reason() {
        CloseReason::Io(error) => Some(error.kind()),
        _ => None,
    }
}

/// All ways to ask whether writing is over; each must say so with this `Closed`.
#[track_caller]
fn expect_writing_is_over(event_loop: &mut EventLoop, transport: &Transport) -> Closed {
    let closed = transport.closed().unwrap();
    assert!(closed.is_reset(), "{closed}");
    assert!(transport.is_closing());
    assert_eq!(transport.write_buffer_size(), 0);
    assert_eq!(closed.unsent(), transport.written() - transport.sent());
    let written = transport.written();
    for refusal in [
        transport.write(b"x").unwrap_err(),
        transport.write(&[0; 100_000]).unwrap_err(),
        transport.write_eof().unwrap_err(),
    ] {
        let told = refusal.closed().unwrap();
        assert_eq!(error_kind(told), error_kind(&closed));
        assert_eq!(told.unsent(), closed.unsent());
    }
    assert_eq!(transport.written(), written);
    let error = event_loop.run_until(transport.drain()).unwrap_err();
    assert!(Closed::of(&error).is_some());
    closed
}

each_kind!(a_write_and_a_read_tell_the_same_reset_whichever_meets_it_first);
fn a_write_and_a_read_tell_the_same_reset_whichever_meets_it_first(kind: Kind) {
    for pending in [&b""[..], b"last words of the peer"] {
        for write_first in [false, true] {
            let mut event_loop = EventLoop::new().unwrap();
            let log = Log::new();
            let (transport, mut peer) = unread(&mut event_loop, kind, Recorder::new(&log));
            if !pending.is_empty() {
                peer.send(pending);
            }
            peer.close();
            let mut unsent = 0;
            if write_first {
                // The loop does not know yet; a write this large asks the kernel at once.
                let refusal = transport.write(&[0; 100_000]).unwrap_err();
                let closed = refusal.closed().unwrap();
                unsent = 100_000;
                assert!(closed.is_reset());
                assert_eq!(closed.unsent(), unsent);
                expect_writing_is_over(&mut event_loop, &transport);
            }
            drive(&mut event_loop, "lost", || log.is_lost());
            let words = if pending.is_empty() {
                vec!["made", "lost"]
            } else {
                vec!["made", "data", "lost"]
            };
            assert_eq!(log.words(), words, "{kind:?} {write_first}");
            assert_eq!(log.data(), pending);
            assert!(log.closed().is_reset());
            assert_eq!(log.closed().unsent(), unsent);
            assert_eq!(transport.written(), 10 + unsent);
            assert_eq!(transport.sent(), 10);
            expect_writing_is_over(&mut event_loop, &transport);
        }
    }
}

each_kind!(a_small_write_that_meets_the_reset_when_it_is_sent_counts_as_unsent);
fn a_small_write_that_meets_the_reset_when_it_is_sent_counts_as_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = unread(&mut event_loop, kind, Recorder::new(&log));
    transport.pause_reading();
    peer.close();
    transport.write(b"fourteen bytes").unwrap();
    note_answer(&log, "flush", transport.flush());
    drive(&mut event_loop, "the end of writing", || {
        transport.closed().is_some()
    });
    settle(&mut event_loop);
    assert_eq!(transport.closed().unwrap().unsent(), 14);
    let told = format!("flush: {}", transport.closed().unwrap());
    assert_eq!(log.words(), ["made".to_owned(), told]);
}

each_kind!(a_reset_is_noticed_while_reading_is_paused);
fn a_reset_is_noticed_while_reading_is_paused(kind: Kind) {
    // An asyncio transport that is paused learns nothing of it.
    for pending in [&b""[..], b"still in the kernel"] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, _peer) = broken_while_paused(&mut event_loop, kind, &log, pending);
        let closed = expect_writing_is_over(&mut event_loop, &transport);
        assert!(!transport.is_reading());
        assert_eq!(log.words(), ["made"]);

        transport.resume_reading();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.data(), pending);
        assert_eq!(log.words().len(), if pending.is_empty() { 2 } else { 3 });
        // The end of stream or other error of the read is not reported.
        assert_eq!(error_kind(&log.closed()), error_kind(&closed));
        assert_eq!(log.closed().unsent(), closed.unsent());
    }
}

each_kind!(a_reset_that_was_there_before_the_pause_is_noticed_too);
fn a_reset_that_was_there_before_the_pause_is_noticed_too(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.pause_reading();
        Ok(())
    });
    let (transport, mut peer) = unread(&mut event_loop, kind, protocol);
    // One event tells of the data and of the reset, and reading stops in between.
    peer.send(b"data");
    peer.close();
    drive(&mut event_loop, "data", || log.data() == b"data");
    drive(&mut event_loop, "the reset to be noticed", || {
        transport.closed().is_some()
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "data"]);
    expect_writing_is_over(&mut event_loop, &transport);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "lost"]);
}

each_kind!(what_the_kernel_holds_is_delivered_as_far_as_reading_is_on);
fn what_the_kernel_holds_is_delivered_as_far_as_reading_is_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    // Four bytes at a time, with a pause after each.
    let protocol = Recorder::new(&log).buffered(4).on_data(|transport, _| {
        transport.pause_reading();
        Ok(())
    });
    let (transport, mut peer) = unread(&mut event_loop, kind, protocol);
    transport.pause_reading();
    peer.send(b"12345678");
    peer.close();
    drive(&mut event_loop, "the reset to be noticed", || {
        transport.closed().is_some()
    });
    for expected in [&b"1234"[..], b"12345678"] {
        transport.resume_reading();
        settle(&mut event_loop);
        assert_eq!(log.data(), expected);
        assert!(!log.is_lost());
    }
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data(), b"12345678");
    assert!(log.closed().is_reset());
}

each_kind!(a_reset_while_held_ends_the_hold_and_all_flow_control);
fn a_reset_while_held_ends_the_hold_and_all_flow_control(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    // The default of an accepted connection is to stop reading.
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    stall(&mut event_loop, &transport, MIB);
    assert_eq!(log.words(), ["made", "pause"]);
    assert!(!transport.is_reading());
    peer.send(b"still in the kernel");
    settle(&mut event_loop);
    note_answer(&log, "drain", transport.drain());
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    let words = log.words();
    let told = format!("drain: {}", log.closed());
    assert_eq!(log.data(), b"still in the kernel");
    assert!(words.contains(&told));
    let callbacks: Vec<_> = words.into_iter().filter(|word| *word != told).collect();
    assert_eq!(callbacks, ["made", "pause", "data", "lost"]);
    assert!(log.closed().unsent() > 0);
    expect_writing_is_over(&mut event_loop, &transport);
}

each_kind!(a_paused_writer_gets_no_resume_and_its_waiters_fail_at_once);
fn a_paused_writer_gets_no_resume_and_its_waiters_fail_at_once(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    transport.pause_reading();
    stall(&mut event_loop, &transport, MIB);
    assert_eq!(log.words(), ["made", "pause"]);
    let unsent = transport.write_buffer_size() as u64;
    note_answer(&log, "drain", transport.drain());
    note_answer(&log, "flush", transport.flush());
    let after = log.clone();
    let waiting = transport.wait_closed();
    waiting.then(move |_, _| after.note("wait_closed"));
    peer.close();
    drive(&mut event_loop, "the waiters", || log.words().len() == 4);
    settle(&mut event_loop);
    let closed = expect_writing_is_over(&mut event_loop, &transport);
    assert_eq!(closed.unsent(), unsent);
    assert!(!transport.flow().is_paused());
    let words = ["made", "pause"].map(str::to_owned);
    let answers = [format!("drain: {closed}"), format!("flush: {closed}")];
    // Reading is paused, so the end itself waits.
    assert_eq!(log.words(), [&words[..], &answers].concat());
    transport.resume_reading();
    drive(&mut event_loop, "wait_closed", || log.words().len() == 6);
    assert_eq!(log.words()[4..], ["lost", "wait_closed"]);
}

each_kind!(a_write_that_meets_the_reset_does_not_pause);
fn a_write_that_meets_the_reset_does_not_pause(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = unread(&mut event_loop, kind, Recorder::new(&log));
    transport.pause_reading();
    peer.close();
    // Far above the high-water mark.
    transport.write(&[0; 1 << 20]).unwrap_err();
    assert!(!transport.flow().is_paused());
    settle(&mut event_loop);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.closed().unsent(), 1 << 20);
    assert_eq!(transport.stats().pauses, 0);
}

each_kind!(a_reset_after_a_kept_open_end_of_stream_is_noticed);
fn a_reset_after_a_kept_open_end_of_stream_is_noticed(kind: Kind) {
    for buffered in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let protocol = Recorder::new(&log).keep_open();
        let (transport, mut peer) = unread(&mut event_loop, kind, protocol);
        never_paused(&transport);
        peer.shutdown_write();
        drive(&mut event_loop, "eof", || log.has(&Seen::Eof));
        if buffered {
            stall(&mut event_loop, &transport, MIB);
        }
        peer.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "eof", "lost"]);
        assert_eq!(log.reason(), "io");
        assert_eq!(log.closed().unsent() > 0, buffered);
        expect_writing_is_over(&mut event_loop, &transport);
    }
}

each_kind!(a_peer_that_left_without_a_reset_is_found_by_the_next_write);
fn a_peer_that_left_without_a_reset_is_found_by_the_next_write(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).keep_open();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.close();
    drive(&mut event_loop, "eof", || log.has(&Seen::Eof));
    settle(&mut event_loop);
    // A hang-up alone is no error: the peer may have left in good order.
    assert_eq!(log.words(), ["made", "eof"]);
    assert!(transport.closed().is_none());
    transport.write(b"anybody there?").unwrap();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
    assert!(log.closed().is_reset());
    // A Unix socket knows at once; TCP learns it from the reply to the bytes.
    assert_eq!(
        log.closed().unsent(),
        if kind == Kind::Tcp { 0 } else { 14 }
    );
}

each_kind!(close_and_abort_end_a_broken_connection_at_once);
fn close_and_abort_end_a_broken_connection_at_once(kind: Kind) {
    let ends: [fn(&Transport); 4] = [
        Transport::close,
        Transport::abort,
        Transport::reset,
        |transport| transport.close_within(Duration::from_secs(3600)),
    ];
    for end in ends {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let (transport, _peer) =
            broken_while_paused(&mut event_loop, kind, &log, b"never delivered");
        end(&transport);
        assert!(!log.is_lost());
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.words(), ["made", "lost"]);
        assert!(log.closed().is_reset());
        let stats = event_loop.handle().stats();
        assert_eq!((stats.lingering, stats.timers), (0, 0));
    }
}

each_kind!(callbacks_of_a_broken_connection_run_until_connection_lost);
fn callbacks_of_a_broken_connection_run_until_connection_lost(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = broken_while_paused(&mut event_loop, kind, &log, b"data");
    let soon = log.clone();
    transport.call_soon::<Recorder>(move |_, transport| {
        soon.note("call_soon");
        // The error of a connection that is ending anyway changes nothing.
        transport.write(b"x")?;
        Ok(())
    });
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "call_soon"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "call_soon", "data", "lost"]);
    assert!(log.closed().is_reset());
}

each_kind!(data_received_that_answers_a_broken_connection_gets_all_the_rest);
fn data_received_that_answers_a_broken_connection_gets_all_the_rest(kind: Kind) {
    // Its writes fail, with `?`, and still every byte that the peer sent is delivered.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).buffered(1000).on_data(|transport, _| {
        transport.write(&[0; 20_000])?;
        Ok(())
    });
    let (transport, mut peer) = unread(&mut event_loop, kind, protocol);
    transport.pause_reading();
    peer.send(&[7; 50_000]);
    peer.close();
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.data_len(), 50_000);
    assert_eq!(log.words(), ["made", "data", "lost"]);
    // Only the first was taken.
    assert_eq!(log.closed().unsent(), 20_000);
    assert!(log.closed().is_reset());
}

#[test]
fn connection_reset_and_broken_pipe_are_both_resets() {
    // A Unix socket whose peer has gone: the write says EPIPE, the read would say ECONNRESET.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = unread(&mut event_loop, Kind::Unix, Recorder::new(&log));
    peer.close();
    transport.write(&[0; 100_000]).unwrap_err();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log.closed()), Some(ErrorKind::BrokenPipe));
    assert!(log.closed().is_reset());

    let log = Log::new();
    let (_, mut peer) = unread(&mut event_loop, Kind::Tcp, Recorder::new(&log));
    peer.reset();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(error_kind(&log.closed()), Some(ErrorKind::ConnectionReset));
    assert!(log.closed().is_reset());

    for end in [Transport::close, Transport::abort] {
        let log = Log::new();
        let (transport, _peer) = adopted(event_loop.handle(), Kind::Tcp, Recorder::new(&log));
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert!(!log.closed().is_reset());
    }
}
