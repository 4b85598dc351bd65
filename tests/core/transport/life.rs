//! The order of a connection's callbacks, from `connection_made` to `connection_lost`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Log, MIB, Peer, Recorder, Scene, TempDir, adopted, drive, each_kind, settle};
use tidegate::{EventLoop, Transport};

/// Notes its own drop.
struct NoteDrop(Log);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

type End = fn(&Transport);

/// The ways to end a connection from this side.
const ENDS: [(&str, End); 4] = [
    ("close", Transport::close),
    ("close_within", |transport| {
        transport.close_within(Duration::from_secs(3600));
    }),
    ("abort", Transport::abort),
    ("reset", Transport::reset),
];

each_kind!(callbacks_come_in_the_order_made_data_eof_lost);
fn callbacks_come_in_the_order_made_data_eof_lost(kind: Kind) {
    let (mut event_loop, log, _, mut peer) = Scene::of(kind).set();
    peer.send(b"all at");
    peer.send(b" once");
    peer.shutdown_write();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
    assert_eq!(log.data(), b"all at once");
}

each_kind!(connection_made_comes_first_on_accepted_and_on_opened_connections);
fn connection_made_comes_first_on_accepted_and_on_opened_connections(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("server").display()),
    };
    let accepted = Log::new();
    let log = accepted.clone();
    let server = event_loop
        .handle()
        .create_server(at, move || Recorder::new(&log))
        .unwrap();
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    peer.send(b"before it was accepted");
    peer.shutdown_write();
    drive(&mut event_loop, "lost", || accepted.is_lost());
    assert_eq!(accepted.words(), ["made", "data", "eof", "lost"]);

    let opened = Log::new();
    let (_, mut peer) = Scene::of(kind)
        .connected()
        .on(&mut event_loop, Recorder::new(&opened));
    assert_eq!(opened.words(), ["made"]);
    peer.send(b"hello");
    peer.shutdown_write();
    drive(&mut event_loop, "lost", || opened.is_lost());
    assert_eq!(opened.words(), ["made", "data", "eof", "lost"]);
}

each_kind!(connection_made_comes_even_when_the_connection_ended_before_the_loop_ran);
fn connection_made_comes_even_when_the_connection_ended_before_the_loop_ran(kind: Kind) {
    for (name, end) in ENDS {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        peer.send(b"nobody reads this");
        end(&transport);
        assert!(log.seen().is_empty(), "{name} called back");
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "lost"], "{name}");
    }
}

each_kind!(connection_made_comes_even_when_the_loop_never_runs);
fn connection_made_comes_even_when_the_loop_never_runs(kind: Kind) {
    let event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    drop(event_loop);
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.reason(), "shutdown");
}

each_kind!(reading_starts_after_connection_made_has_returned);
fn reading_starts_after_connection_made_has_returned(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let inside = log.clone();
    let protocol = Recorder::new(&log).on_made(move |transport| {
        // Asking for it makes no difference.
        transport.resume_reading();
        inside.note("made returns");
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"early");
    drive(&mut event_loop, "data", || log.data() == b"early");
    assert_eq!(log.words(), ["made", "made returns", "data"]);
}

each_kind!(a_pause_in_connection_made_holds_back_the_first_byte);
fn a_pause_in_connection_made_holds_back_the_first_byte(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_made(|transport| {
        transport.pause_reading();
        Ok(())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    peer.send(b"early");
    peer.shutdown_write();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made"]);
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "eof", "lost"]);
}

/// Ends a connection in every way, which has unread bytes; nothing of what is done before and after
/// may cause a callback once `connection_lost` has been called.
#[track_caller]
fn assert_nothing_comes(
    kind: Kind,
    before: fn(&Transport, Log),
    after: fn(&Transport, &mut Peer, Log),
) {
    for (name, end) in ENDS {
        let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
        settle(&mut event_loop);
        peer.send(b"unread");
        before(&transport, log.clone());
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        let words = log.words();
        after(&transport, &mut peer, log.clone());
        // Longer than the timers.
        let (_unanswered, never) = event_loop.handle().completion::<()>();
        let waited = event_loop.run_until(never.within(Duration::from_millis(5)));
        assert_eq!(waited.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        settle(&mut event_loop);
        assert_eq!(log.words(), words, "after {name}");
        assert_eq!(log.dropped(), 1);
    }
}

each_kind!(a_timer_that_is_due_after_connection_lost_is_not_called);
fn a_timer_that_is_due_after_connection_lost_is_not_called(kind: Kind) {
    let before = |transport: &Transport, log: Log| {
        transport.call_later::<Recorder>(Duration::from_millis(1), move |_, _| {
            log.note("a timer");
            Ok(())
        });
    };
    assert_nothing_comes(kind, before, |_, _, _| {});
}

each_kind!(a_closure_that_is_scheduled_after_connection_lost_is_not_called);
fn a_closure_that_is_scheduled_after_connection_lost_is_not_called(kind: Kind) {
    assert_nothing_comes(
        kind,
        |_, _| {},
        |transport, _, log| {
            let late = log.clone();
            transport.call_soon::<Recorder>(move |_, _| {
                late.note("call_soon");
                Ok(())
            });
            transport.call_later::<Recorder>(Duration::ZERO, move |_, _| {
                log.note("call_later");
                Ok(())
            });
        },
    );
}

each_kind!(a_write_or_an_end_after_connection_lost_causes_no_callback);
fn a_write_or_an_end_after_connection_lost_causes_no_callback(kind: Kind) {
    assert_nothing_comes(
        kind,
        |_, _| {},
        |transport, _, _| {
            transport.pause_reading();
            transport.resume_reading();
            transport.write(b"too late").unwrap_err();
            transport.write_eof().unwrap_err();
            for (_, end) in ENDS {
                end(transport);
            }
        },
    );
}

each_kind!(a_peer_s_bytes_and_end_after_connection_lost_cause_no_callback);
fn a_peer_s_bytes_and_end_after_connection_lost_cause_no_callback(kind: Kind) {
    assert_nothing_comes(
        kind,
        |_, _| {},
        |_, peer, _| {
            // The peer's socket may be cut off by now.
            let _ = peer.as_sock().send(b"more");
            peer.close();
        },
    );
}

each_kind!(the_protocol_is_dropped_right_after_connection_lost);
fn the_protocol_is_dropped_right_after_connection_lost(kind: Kind) {
    for (name, end) in ENDS {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let owned = NoteDrop(log.clone());
        let protocol = Recorder::new(&log).on_lost(move |_, _| owned.0.note("lost returns"));
        let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
        let after = log.clone();
        transport
            .wait_closed()
            .then(move |_, _| after.note("wait_closed"));
        end(&transport);
        drive(&mut event_loop, "the answer", || {
            log.words().contains(&"wait_closed".to_owned())
        });
        let words = ["made", "lost", "lost returns", "dropped", "wait_closed"];
        assert_eq!(log.words(), words, "{name}");
    }
}

each_kind!(the_loop_keeps_a_connection_alive_without_any_transport);
fn the_loop_keeps_a_connection_alive_without_any_transport(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::echo(&log));
    drop(transport);
    settle(&mut event_loop);
    peer.send(b"still there?");
    peer.expect(&mut event_loop, 12);
    assert_eq!(log.words(), ["made", "data"]);
}

each_kind!(a_transport_keeps_neither_protocol_nor_descriptor_of_an_ended_connection);
fn a_transport_keeps_neither_protocol_nor_descriptor_of_an_ended_connection(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    let held = transport.clone();
    transport.abort();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.dropped(), 1);
    peer.expect_end(&mut event_loop);
    assert!(peer.saw_eof());
    assert_eq!(event_loop.handle().stats().connections, 0);
    assert!(event_loop.handle().transport(held.id()).is_none());
    assert!(held.closed().is_some());
}

each_kind!(a_connection_is_not_kept_alive_by_a_transport_when_its_loop_ends);
fn a_connection_is_not_kept_alive_by_a_transport_when_its_loop_ends(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    settle(&mut event_loop);
    drop(event_loop);
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.dropped(), 1);
    peer.read_available();
    assert!(peer.saw_eof());
    assert!(transport.closed().is_some());
}

each_kind!(connection_lost_never_comes_from_inside_the_call_that_ends_the_connection);
fn connection_lost_never_comes_from_inside_the_call_that_ends_the_connection(kind: Kind) {
    for (name, end) in ENDS {
        // From outside of any callback.
        let (mut event_loop, log, transport, _peer) = Scene::of(kind).set();
        settle(&mut event_loop);
        end(&transport);
        assert_eq!(log.words(), ["made"], "{name}");
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        assert_eq!(log.words(), ["made", "lost"], "{name}");

        // From the connection's own callback, and from a callback of the loop.
        let log = Log::new();
        let inside = log.clone();
        let protocol = Recorder::new(&log).on_data(move |transport, _| {
            end(transport);
            inside.note("callback returns");
            Ok(())
        });
        let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
        peer.send(b"go");
        drive(&mut event_loop, "lost", || log.is_lost());
        let words = ["made", "data", "callback returns", "lost"];
        assert_eq!(log.words(), words, "{name}");

        let log = Log::new();
        let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
        settle(&mut event_loop);
        let inside = log.clone();
        event_loop.handle().call_soon(move |_| {
            end(&transport);
            inside.note("call_soon returns");
        });
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "call_soon returns", "lost"], "{name}");
    }
}

each_kind!(connection_lost_never_comes_from_inside_a_write_that_fails);
fn connection_lost_never_comes_from_inside_a_write_that_fails(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let inside = log.clone();
    let protocol = Recorder::new(&log).on_data(move |transport, _| {
        // The peer is gone; a write this large goes to the kernel at once.
        let error = transport.write(&[0; 100_000]).unwrap_err();
        assert!(error.closed().is_some());
        inside.note("write returned");
        Err(error.into())
    });
    let (transport, mut peer) = adopted(event_loop.handle(), kind, protocol);
    transport.write(b"never read").unwrap();
    transport.pause_reading();
    settle(&mut event_loop);
    peer.send(b"go");
    peer.close();
    transport.resume_reading();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "data", "write returned", "lost"]);
    assert_eq!(log.reason(), "io");

    // From outside.
    let log = Log::new();
    let (transport, mut peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
    transport.write(b"never read").unwrap();
    settle(&mut event_loop);
    peer.close();
    transport.write(&[0; 100_000]).unwrap_err();
    assert_eq!(log.words(), ["made"]);
    drive(&mut event_loop, "lost", || log.is_lost());
}

each_kind!(a_caller_may_hold_its_own_borrow_across_every_call_that_ends_a_connection);
fn a_caller_may_hold_its_own_borrow_across_every_call_that_ends_a_connection(kind: Kind) {
    for (_, end) in ENDS {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let shared = Rc::new(RefCell::new(0));
        let counted = shared.clone();
        let protocol = Recorder::new(&log).on_lost(move |_, _| *counted.borrow_mut() += 1);
        let (transport, _peer) = adopted(event_loop.handle(), kind, protocol);
        settle(&mut event_loop);
        {
            let _mine = shared.borrow_mut();
            end(&transport);
        }
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(*shared.borrow(), 1);
    }
}

each_kind!(everything_owed_to_a_stalled_writer_is_settled_by_connection_lost_alone);
fn everything_owed_to_a_stalled_writer_is_settled_by_connection_lost_alone(kind: Kind) {
    // asyncio leaves a paused protocol as it is: a task that waits for resume_writing waits for ever
    // unless connection_lost is minded too. Here it is the same one end for all.
    let (mut event_loop, log, _transport, mut peer) = Scene::of(kind).stalled(MIB).set();
    assert_eq!(log.words(), ["made", "pause"]);
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "pause", "lost"]);
    assert!(log.closed().unsent() > 0);
}
