//! The linger of a gracefully closed socket whose peer may still be sending: a reset must not
//! destroy our last bytes (RFC 1122, 4.2.2.13), nothing waits for it, and it does not last.

use std::time::{Duration, Instant};
use support::{
    Kind, Log, MIB, Peer, Recorder, Scene, TempDir, adopted, drive, each_kind, never_paused,
    pattern, settle, stall,
};
use tidegate::{EventLoop, Server, Transport};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a reply that the kernel takes from us at once. On TCP most of it does not fit into the peer's
/// receive buffer: a reset would destroy it.
fn answer(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Tcp => pattern(0, 1 << 20),
        Kind::Unix => pattern(0, 100_000),
    }
}

fn lingering(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().lingering
}

#[track_caller]
fn expect_no_lingering(event_loop: &mut EventLoop) {
    let handle = event_loop.handle().clone();
    drive(event_loop, "the end of the lingering", || {
        handle.stats().lingering == 0
    });
    assert_eq!(handle.stats().timers, 0);
}

/// A connection that was closed after a reply; its peer has read nothing and ended nothing.
fn answered(event_loop: &mut EventLoop, kind: Kind, log: &Log) -> (Transport, Peer) {
    let (transport, peer) = adopted(event_loop.handle(), kind, Recorder::new(log));
    never_paused(&transport);
    transport.write(&answer(kind)).unwrap();
    transport.close();
    drive(event_loop, "lost", || log.is_lost());
    assert!(log.closed().is_clean());
    (transport, peer)
}

#[track_caller]
fn expect_answer(event_loop: &mut EventLoop, kind: Kind, peer: &mut Peer) {
    peer.expect_end(event_loop);
    assert_eq!(peer.saw_error(), None);
    assert!(peer.received() == answer(kind));
}

/// Whether the descriptor at the other end is closed: it refuses what we send. On TCP the first
/// byte causes the reset that fails the second.
fn is_cut_off(peer: &Peer) -> bool {
    (0..2).any(|_| peer.as_sock().send(b"x").is_err())
}

/// Waits without running the loop under test.
fn let_time_pass(duration: Duration) {
    let mut other = EventLoop::new().unwrap();
    let (_unanswered, never) = other.handle().completion::<()>();
    other.run_until(never.within(duration)).unwrap_err();
}

/// Replies to the first byte and closes.
fn one_answer_server(event_loop: &EventLoop, kind: Kind, dir: &TempDir, log: &Log) -> Server {
    let at = match kind {
        Kind::Tcp => "127.0.0.1:0".to_owned(),
        Kind::Unix => format!("unix:{}", dir.path("server").display()),
    };
    let log = log.clone();
    let factory = move || {
        Recorder::new(&log).on_data(|transport, _| {
            transport.write(b"answer")?;
            transport.close();
            Ok(())
        })
    };
    event_loop.handle().create_server(at, factory).unwrap()
}

each_kind!(a_peer_that_keeps_sending_after_our_close_gets_all_bytes_and_then_the_end);
fn a_peer_that_keeps_sending_after_our_close_gets_all_bytes_and_then_the_end(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_, mut peer) = answered(&mut event_loop, kind, &log);
    for _ in 0..10 {
        peer.send(&[7; 10_000]);
        settle(&mut event_loop);
    }
    assert_eq!(lingering(&event_loop), 1);
    expect_answer(&mut event_loop, kind, &mut peer);
    assert_eq!(log.words(), ["made", "lost"]);
}

each_kind!(input_that_waits_unread_at_close_does_not_destroy_the_answer);
fn input_that_waits_unread_at_close_does_not_destroy_the_answer(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    never_paused(&transport);
    transport.pause_reading();
    peer.send(&[7; 50_000]);
    settle(&mut event_loop);
    transport.write(&answer(kind)).unwrap();
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "lost"]);
    expect_answer(&mut event_loop, kind, &mut peer);
}

each_kind!(an_early_answer_to_an_upload_arrives_although_the_upload_goes_on);
fn an_early_answer_to_an_upload_arrives_although_the_upload_goes_on(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let protocol = Recorder::new(&log).on_data(move |transport, _| {
        never_paused(transport);
        transport.write(&answer(kind))?;
        transport.close();
        Ok(())
    });
    let (_, mut peer) = adopted(event_loop.handle(), kind, protocol);
    // A plain client: it sends all of its request, and only then reads.
    let mut left = 16 << 20;
    let chunk = vec![7; 64 * 1024];
    drive(&mut event_loop, "the whole upload", || {
        while left > 0 {
            let sent = peer.write(&chunk[..chunk.len().min(left)]);
            left -= sent;
            if sent == 0 {
                break;
            }
        }
        left == 0
    });
    peer.shutdown_write();
    expect_answer(&mut event_loop, kind, &mut peer);
    expect_no_lingering(&mut event_loop);
    assert_eq!(log.words(), ["made", "data", "lost"]);
    assert!(log.data_len() < 1 << 20);
}

each_kind!(connection_lost_and_its_waiters_do_not_wait_for_the_peer);
fn connection_lost_and_its_waiters_do_not_wait_for_the_peer(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::of(kind).set();
    transport.write(b"bye").unwrap();
    transport.close();
    let start = Instant::now();
    let closed = event_loop.run_until(transport.wait_closed()).unwrap();
    assert!(start.elapsed() < SECOND / 2);
    assert!(closed.is_clean());
    assert_eq!(log.words(), ["made", "lost"]);
    assert_eq!(log.dropped(), 1);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connections, stats.lingering), (0, 1));
}

each_kind!(lingering_ends_at_the_end_of_the_peers_stream);
fn lingering_ends_at_the_end_of_the_peers_stream(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_, mut peer) = answered(&mut event_loop, kind, &log);
    peer.send(b"last words");
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    let start = Instant::now();
    peer.shutdown_write();
    expect_no_lingering(&mut event_loop);
    assert!(start.elapsed() < SECOND / 2);
    expect_answer(&mut event_loop, kind, &mut peer);
}

each_kind!(lingering_ends_with_a_reset);
fn lingering_ends_with_a_reset(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    // The peer leaves with our reply unread.
    let (_, mut peer) = answered(&mut event_loop, kind, &log);
    assert_eq!(lingering(&event_loop), 1);
    let start = Instant::now();
    peer.close();
    expect_no_lingering(&mut event_loop);
    assert!(start.elapsed() < SECOND / 2);
    assert!(log.closed().is_clean());
}

each_kind!(lingering_ends_after_a_second_even_if_the_peer_never_stops);
fn lingering_ends_after_a_second_even_if_the_peer_never_stops(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_, mut peer) = answered(&mut event_loop, kind, &log);
    let handle = event_loop.handle().clone();
    let start = Instant::now();
    // It reads everything and goes on sending.
    drive(&mut event_loop, "the end of the second", || {
        peer.read_available();
        if handle.stats().lingering == 0 {
            return true;
        }
        peer.send(b"more");
        false
    });
    // The connection was lost a moment before the start.
    assert!(start.elapsed() > SECOND * 9 / 10, "{:?}", start.elapsed());
    assert!(peer.saw_eof());
    assert!(peer.received() == answer(kind));
    assert!(is_cut_off(&peer));
}

each_kind!(what_came_at_the_very_end_is_read_before_the_descriptor_is_closed);
fn what_came_at_the_very_end_is_read_before_the_descriptor_is_closed(kind: Kind) {
    let (mut event_loop, log, transport, peer) = Scene::of(kind).set();
    never_paused(&transport);
    // Due before the lingering is over, but run in the same tick: after this tick has polled,
    // so only the last read can find what it sends.
    let (completer, completion) = event_loop.handle().completion::<Peer>();
    event_loop.handle().call_later(SECOND, move |_| {
        let mut peer = peer;
        peer.send(b"at the very end");
        completer.complete(Ok(peer));
    });
    transport.write(&answer(kind)).unwrap();
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    let_time_pass(SECOND + SECOND / 10);
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    assert_eq!(lingering(&event_loop), 0);
    let mut peer = event_loop.run_until(completion).unwrap();
    expect_answer(&mut event_loop, kind, &mut peer);
}

#[test]
fn a_flood_of_input_to_discard_does_not_take_a_tick_for_itself() {
    let (mut event_loop, log, transport, mut peer) = Scene::of(Kind::Tcp).set();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    // As much as the kernel takes; that grows once some megabytes have gone.
    let mut fill = || {
        loop {
            let written = peer.write(&chunk) as u64;
            sent += written;
            if written == 0 {
                return sent;
            }
        }
    };
    let handle = event_loop.handle().clone();
    let received = || handle.stats().bytes_received;
    for _ in 0..50 {
        fill();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
    }
    transport.pause_reading();
    let sent = fill();
    let waiting = sent - received();
    assert!(waiting > 3 << 20, "{waiting} bytes are too few to tell");
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    while received() < sent {
        let before = received();
        event_loop.run_once(Some(Duration::ZERO)).unwrap();
        let discarded = received() - before;
        assert!(discarded < waiting / 4 * 3, "{discarded} of {waiting}");
    }
    assert_eq!(lingering(&event_loop), 1);
}

each_kind!(a_connection_whose_write_side_was_ended_before_lingers_as_well);
fn a_connection_whose_write_side_was_ended_before_lingers_as_well(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    never_paused(&transport);
    transport.write(&answer(kind)).unwrap();
    transport.write_eof().unwrap();
    settle(&mut event_loop);
    transport.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(lingering(&event_loop), 1);
    peer.send(b"still sending");
    settle(&mut event_loop);
    expect_answer(&mut event_loop, kind, &mut peer);
}

each_kind!(nothing_lingers_when_the_end_of_the_peers_stream_was_read);
fn nothing_lingers_when_the_end_of_the_peers_stream_was_read(kind: Kind) {
    for keep_open in [false, true] {
        let mut event_loop = EventLoop::new().unwrap();
        let log = Log::new();
        let mut protocol = Recorder::new(&log);
        if keep_open {
            protocol = protocol.keep_open();
        }
        let (transport, peer) = adopted(event_loop.handle(), kind, protocol);
        peer.shutdown_write();
        drive(&mut event_loop, "eof", || log.words().len() > 1);
        transport.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(lingering(&event_loop), 0);
        assert!(is_cut_off(&peer));
    }
}

each_kind!(nothing_lingers_after_an_abort_a_timeout_or_an_error);
fn nothing_lingers_after_an_abort_a_timeout_or_an_error(kind: Kind) {
    let ends: [fn(&Transport); 5] = [
        Transport::abort,
        Transport::reset,
        |transport| transport.close_within(Duration::from_millis(1)),
        |transport| {
            transport.call_soon::<Recorder>(|_, _| Err("no more".into()));
        },
        |transport| {
            transport.close();
            transport.abort();
        },
    ];
    for end in ends {
        let (mut event_loop, log, transport, peer) = Scene::of(kind).set();
        never_paused(&transport);
        stall(&mut event_loop, &transport, MIB);
        end(&transport);
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(lingering(&event_loop), 0, "{}", log.reason());
        assert!(is_cut_off(&peer));
    }
    // A reset by the peer.
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).set();
    never_paused(&transport);
    stall(&mut event_loop, &transport, MIB);
    transport.close();
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.reason(), "io");
    assert_eq!(lingering(&event_loop), 0);
}

each_kind!(dropping_the_loop_ends_what_lingers_at_once);
fn dropping_the_loop_ends_what_lingers_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let log = Log::new();
    let (_, peer) = answered(&mut event_loop, kind, &log);
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 1);
    assert!(!is_cut_off(&peer));
    let start = Instant::now();
    drop(event_loop);
    assert!(start.elapsed() < SECOND / 2);
    assert!(is_cut_off(&peer));
}

each_kind!(abort_clients_ends_what_lingers_of_its_own_server_at_once);
fn abort_clients_ends_what_lingers_of_its_own_server_at_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (first, second) = (Log::new(), Log::new());
    let (dir, other_dir) = (TempDir::new(), TempDir::new());
    let server = one_answer_server(&event_loop, kind, &dir, &first);
    let other = one_answer_server(&event_loop, kind, &other_dir, &second);
    let mut peer = Peer::connect(&server.local_addrs()[0]);
    let mut bystander = Peer::connect(&other.local_addrs()[0]);
    peer.send(b"ask");
    bystander.send(b"ask");
    drive(&mut event_loop, "lost", || {
        first.is_lost() && second.is_lost()
    });
    settle(&mut event_loop);
    assert_eq!(lingering(&event_loop), 2);
    assert_eq!(server.connection_count(), 0);
    assert!(!is_cut_off(&peer));
    server.abort_clients();
    assert_eq!(lingering(&event_loop), 1);
    assert!(is_cut_off(&peer));
    assert!(!is_cut_off(&bystander));
    for log in [first, second] {
        assert!(log.closed().is_clean());
    }
}
