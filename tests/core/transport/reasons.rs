//! Which of several causes `connection_lost` names. Before our `close`, and after it as long as not
//! everything is sent, the first failure is it. Without one it is whichever came first: the end of
//! stream, if it was delivered, or `close`.

use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, adopted, drive, each_kind, settle, stalled};
use tidegate::{CloseReason, EventLoop, OnEof, TimeoutKind, Transport};

const HOUR: Duration = Duration::from_secs(3600);

/// A fresh connection that the loop has seen.
fn fresh(event_loop: &mut EventLoop, kind: Kind, protocol: Recorder) -> (Transport, Peer) {
    let (transport, peer) = adopted(event_loop.handle(), kind, protocol);
    settle(event_loop);
    (transport, peer)
}

/// One whose peer has ended its stream, which was delivered and kept open.
fn kept_open(event_loop: &mut EventLoop, kind: Kind, log: &Log) -> (Transport, Peer) {
    let (transport, peer) = fresh(event_loop, kind, Recorder::new(log).keep_open());
    peer.shutdown_write();
    drive(event_loop, "eof", || log.words() == ["made", "eof"]);
    (transport, peer)
}

#[track_caller]
fn ends(event_loop: &mut EventLoop, log: &Log, reason: &str) -> u64 {
    drive(event_loop, "lost", || log.is_lost());
    let closed = log.closed();
    assert_eq!(log.reason(), reason, "{closed}");
    let graceful = ["local-close", "peer-eof"].contains(&reason);
    assert_eq!(closed.is_clean(), graceful && closed.unsent() == 0);
    assert_eq!(closed.is_reset(), reason == "io");
    closed.unsent()
}

each_kind!(a_close_with_nothing_else_is_a_local_close);
fn a_close_with_nothing_else_is_a_local_close(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);

    // The peer's reply to our close, and its EOF, come too late to be a reason.
    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    peer.shutdown_write();
    settle(&mut event_loop);
    peer.expect_end(&mut event_loop);
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);

    // So does an end of stream that was there, but not delivered.
    let log = Log::new();
    let (transport, peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    transport.pause_reading();
    peer.shutdown_write();
    settle(&mut event_loop);
    transport.close();
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);
    assert_eq!(log.words(), ["made", "lost"]);
}

each_kind!(an_end_of_stream_that_was_delivered_before_close_is_the_reason);
fn an_end_of_stream_that_was_delivered_before_close_is_the_reason(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_, peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    peer.shutdown_write();
    assert_eq!(ends(&mut event_loop, &log, "peer-eof"), 0);

    let log = Log::new();
    let (transport, _peer) = kept_open(&mut event_loop, kind, &log);
    transport.close();
    assert_eq!(ends(&mut event_loop, &log, "peer-eof"), 0);

    let log = Log::new();
    let protocol = Recorder::new(&log).on_eof(|transport| {
        transport.close();
        Ok(OnEof::KeepOpen)
    });
    let (_, peer) = fresh(&mut event_loop, kind, protocol);
    peer.shutdown_write();
    assert_eq!(ends(&mut event_loop, &log, "peer-eof"), 0);
}

each_kind!(an_abort_before_close_is_the_reason_whatever_is_buffered);
fn an_abort_before_close_is_the_reason_whatever_is_buffered(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    transport.abort();
    transport.close();
    assert_eq!(ends(&mut event_loop, &log, "local-abort"), 0);

    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.abort();
    assert!(ends(&mut event_loop, &log, "local-abort") > 0);

    // Also after an end of stream that was kept open.
    let log = Log::new();
    let (transport, _peer) = kept_open(&mut event_loop, kind, &log);
    transport.abort();
    assert_eq!(ends(&mut event_loop, &log, "local-abort"), 0);
}

each_kind!(an_abort_after_close_is_the_reason_if_bytes_were_unsent);
fn an_abort_after_close_is_the_reason_if_bytes_were_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    settle(&mut event_loop);
    assert!(!log.is_lost());
    transport.abort();
    assert!(ends(&mut event_loop, &log, "local-abort") > 0);

    // Even one byte that a callback has just written.
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.write(b"x")?;
        transport.close();
        transport.abort();
        Ok(())
    });
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "local-abort"), 1);
}

each_kind!(an_abort_after_close_changes_nothing_once_everything_was_sent);
fn an_abort_after_close_changes_nothing_once_everything_was_sent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    // Large enough to go to the kernel within the call.
    transport.write(&[7; 32 * 1024]).unwrap();
    assert_eq!(transport.sent(), 32 * 1024);
    transport.close();
    transport.abort();
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);

    let log = Log::new();
    let (transport, _peer) = kept_open(&mut event_loop, kind, &log);
    transport.close();
    transport.abort();
    assert_eq!(ends(&mut event_loop, &log, "peer-eof"), 0);
}

each_kind!(a_timeout_is_the_reason_if_bytes_were_unsent);
fn a_timeout_is_the_reason_if_bytes_were_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close_within(Duration::from_millis(1));
    assert!(ends(&mut event_loop, &log, "timeout") > 0);
    let closed = log.closed();
    assert!(matches!(
        closed.reason(),
        CloseReason::Timeout(TimeoutKind::Close)
    ));

    // Also after the peer's end of stream.
    let log = Log::new();
    let (transport, peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    peer.shutdown_write();
    drive(&mut event_loop, "eof", || log.words() == ["made", "eof"]);
    transport.close_within(Duration::from_millis(1));
    assert!(ends(&mut event_loop, &log, "timeout") > 0);

    let log = Log::new();
    let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    transport.close_within(Duration::ZERO);
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);
}

each_kind!(a_reset_is_the_reason_before_close_and_while_bytes_are_unsent);
fn a_reset_is_the_reason_before_close_and_while_bytes_are_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
    transport.write(b"never read").unwrap();
    settle(&mut event_loop);
    peer.close();
    assert_eq!(ends(&mut event_loop, &log, "io"), 0);

    let log = Log::new();
    let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    settle(&mut event_loop);
    peer.close();
    assert!(ends(&mut event_loop, &log, "io") > 0);

    // After the peer's end of stream, which alone would have been a fair end.
    let log = Log::new();
    let (_, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    peer.shutdown_write();
    drive(&mut event_loop, "eof", || log.words() == ["made", "eof"]);
    peer.close();
    assert!(ends(&mut event_loop, &log, "io") > 0);
}

each_kind!(a_callback_s_error_is_the_reason_before_close_and_while_bytes_are_unsent);
fn a_callback_s_error_is_the_reason_before_close_and_while_bytes_are_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let failing = |log: &Log| Recorder::new(log).on_data(|_, _| Err("bad request".into()));
    let (_, mut peer) = fresh(&mut event_loop, kind, failing(&log));
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "callback"), 0);
    let CloseReason::Callback(error) = log.closed().reason().clone() else {
        panic!("{}", log.closed());
    };
    assert_eq!(error.to_string(), "bad request");

    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    transport.call_soon::<Recorder>(|_, _| Err("too late?".into()));
    assert!(ends(&mut event_loop, &log, "callback") > 0);

    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.close();
        Err("the close was first, and everything is sent".into())
    });
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);
}

each_kind!(a_panic_of_a_callback_is_the_reason_before_close_and_while_bytes_are_unsent);
fn a_panic_of_a_callback_is_the_reason_before_close_and_while_bytes_are_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|_, _| panic!("index out of bounds"));
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "panic"), 0);
    let CloseReason::Panic(message) = log.closed().reason().clone() else {
        panic!("{}", log.closed());
    };
    assert_eq!(&*message, "index out of bounds");

    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.close();
    transport.call_soon::<Recorder>(|_, _| panic!("too late?"));
    assert!(ends(&mut event_loop, &log, "panic") > 0);

    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.close();
        panic!("the close was first, and everything is sent");
    });
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "local-close"), 0);
}

each_kind!(the_end_of_the_loop_is_the_reason_before_close_and_while_bytes_are_unsent);
fn the_end_of_the_loop_is_the_reason_before_close_and_while_bytes_are_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (fresh_log, stalled_log, closing_log) = (Log::new(), Log::new(), Log::new());
    let (_, _peer) = fresh(&mut event_loop, kind, Recorder::new(&fresh_log));
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&stalled_log));
    transport.close_within(HOUR);
    let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&closing_log));
    transport.close();
    drop(event_loop);
    assert_eq!(fresh_log.reason(), "shutdown");
    assert_eq!(fresh_log.closed().unsent(), 0);
    assert!(!fresh_log.closed().is_clean());
    assert_eq!(stalled_log.reason(), "shutdown");
    assert!(stalled_log.closed().unsent() > 0);
    // Everything was sent, and we had closed it.
    assert_eq!(closing_log.reason(), "local-close");
    assert!(closing_log.closed().is_clean());
}

each_kind!(of_several_causes_the_first_is_the_reason);
fn of_several_causes_the_first_is_the_reason(kind: Kind) {
    // An abort, then an error and the end of the loop.
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.abort();
        Err("afterwards".into())
    });
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    ends(&mut event_loop, &log, "local-abort");

    let log = Log::new();
    let (transport, _peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
    transport.abort();
    drop(event_loop);
    assert_eq!(log.reason(), "local-abort");

    // A reset that was noticed, then everything else.
    let mut event_loop = EventLoop::new().unwrap();
    for later in [Transport::abort, Transport::close, Transport::reset] {
        let log = Log::new();
        let (transport, mut peer) = stalled(&mut event_loop, kind, Recorder::new(&log));
        transport.pause_reading();
        peer.close();
        drive(&mut event_loop, "the reset", || {
            transport.closed().is_some()
        });
        assert!(!log.is_lost());
        later(&transport);
        assert!(ends(&mut event_loop, &log, "io") > 0);
    }
}

each_kind!(an_error_of_a_callback_comes_before_what_sending_its_last_words_meets);
fn an_error_of_a_callback_comes_before_what_sending_its_last_words_meets(kind: Kind) {
    // Small writes go out when the callback has returned, large ones within it.
    for size in [17, 100_000] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let protocol = Recorder::new(&log).on_data(move |transport, _| {
            let written = transport.write(&vec![0; size]);
            assert_eq!(written.is_ok(), size == 17);
            Err("bad request".into())
        });
        let (transport, mut peer) = fresh(&mut event_loop, kind, protocol);
        transport.write(b"never read").unwrap();
        transport.pause_reading();
        settle(&mut event_loop);
        peer.send(b"go");
        peer.close();
        transport.resume_reading();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "data", "lost"]);
        let first = if size == 17 { "callback" } else { "io" };
        assert_eq!(log.reason(), first);
        assert_eq!(log.closed().unsent(), size as u64);
    }
}

each_kind!(an_error_after_close_is_the_reason_when_its_callback_had_bytes_unsent);
fn an_error_after_close_is_the_reason_when_its_callback_had_bytes_unsent(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(|transport, _| {
        transport.write(b"goodbye")?;
        transport.close();
        Err("bad request".into())
    });
    let (_, mut peer) = fresh(&mut event_loop, kind, protocol);
    peer.send(b"go");
    assert_eq!(ends(&mut event_loop, &log, "callback"), 0);
    // They are offered to the kernel all the same.
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received(), b"goodbye");
}

each_kind!(the_end_is_told_apart_where_asyncio_says_none);
fn the_end_is_told_apart_where_asyncio_says_none(kind: Kind) {
    // asyncio calls connection_lost(None) after close() and after abort() alike.
    let mut event_loop = EventLoop::new().unwrap();
    let mut reasons = Vec::new();
    for end in [Transport::close, Transport::abort] {
        let log = Log::new();
        let (transport, _peer) = fresh(&mut event_loop, kind, Recorder::new(&log));
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        reasons.push((log.reason(), log.closed().is_clean()));
    }
    let expected = [("local-close", true), ("local-abort", false)];
    assert_eq!(
        reasons,
        expected.map(|(reason, clean)| (reason.to_owned(), clean))
    );
}
