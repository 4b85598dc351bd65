//! Receiving: the share of a tick, stopped reading, what is too long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams, Heard, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{DatagramOptions, EventLoop};
use tidegate_testkit::Seen;

#[test]
fn at_most_64_datagrams_are_received_in_a_tick_and_the_rest_in_the_next_without_a_sleep() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let protocol = Heard::default();
        let options = wire.local(&dir, "a").receive_buffer(1 << 20);
        let transport = endpoint(&event_loop, options, &protocol);
        settle(&mut event_loop);
        let peer = DatagramPeer::new(wire, &dir, "b");
        for i in 0..150_u8 {
            peer.send_to(&[i], transport.local_addr());
        }
        let mut counts = Vec::new();
        for _ in 0..3 {
            event_loop.run_once(Some(Duration::from_secs(20))).unwrap();
            counts.push(protocol.datagrams().len());
        }
        assert_eq!(counts, [64, 128, 150]);
    }
}

#[test]
fn a_flood_leaves_the_timers_of_the_loop_their_turn() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let protocol = Heard::echo();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let beats = Rc::new(Cell::new(0));
    let beat = beats.clone();
    let _every = event_loop
        .handle()
        .call_every(Duration::from_millis(1), move |_| beat.set(beat.get() + 1));
    drive(&mut event_loop, "twenty beats in a flood", || {
        for _ in 0..300 {
            peer.send_to(&[0; 10], transport.local_addr());
        }
        beats.get() >= 20
    });
    assert!(
        transport.stats().received > 1_000,
        "{:?}",
        transport.stats()
    );
}

#[test]
fn a_paused_endpoint_receives_nothing_until_it_is_resumed() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let protocol = Heard::default().on_datagram(|transport, data, _| {
            if data == b"stop" {
                transport.pause_reading();
            }
            Ok(())
        });
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        let peer = DatagramPeer::new(wire, &dir, "b");
        for data in [&b"one"[..], b"stop", b"two"] {
            peer.send_to(data, transport.local_addr());
        }
        settle(&mut event_loop);
        assert_eq!(protocol.datagrams(), [&b"one"[..], b"stop"], "{wire:?}");
        assert!(!transport.is_reading());
        transport.resume_reading();
        drive(&mut event_loop, "the last", || {
            protocol.datagrams().len() == 3
        });
    }
}

#[test]
fn a_datagram_longer_than_the_loops_buffer_is_told_of_and_not_delivered() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let DatagramPeer::Unix(socket) = &peer else {
        unreachable!("it was made so");
    };
    let path = transport.local_addr().as_unix().unwrap().to_owned();
    socket2::SockRef::from(socket)
        .set_send_buffer_size(1 << 20)
        .unwrap();
    socket.send_to(&vec![1; 140_000], &path).unwrap();
    socket.send_to(&vec![2; 100_000], &path).unwrap();
    drive(&mut event_loop, "both", || protocol.seen().len() == 3);
    let errors = protocol.errors();
    assert!(errors[0].0.contains("at least"), "{errors:?}");
    assert_eq!(protocol.datagrams(), [vec![2; 100_000]]);
    assert_eq!(
        (transport.stats().truncated, transport.stats().received),
        (1, 1)
    );
}

#[test]
fn an_unnamed_sender_is_told_as_one() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    let nobody = std::os::unix::net::UnixDatagram::unbound().unwrap();
    nobody
        .send_to(b"x", transport.local_addr().as_unix().unwrap())
        .unwrap();
    drive(&mut event_loop, "a datagram", || protocol.seen().len() == 2);
    let expected = Seen::Datagram(b"x".into(), tidegate::Address::Unnamed);
    assert_eq!(protocol.seen()[1], expected);
}

#[test]
fn at_most_a_mebibyte_and_one_datagram_is_received_in_a_tick() {
    const LEN: usize = 60_000;
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = Rc::new(DatagramPeer::new(wire, &dir, "b"));
        // Each datagram is followed by another one, so the socket is never empty.
        let source = peer.clone();
        let protocol = Heard::default().on_datagram(move |transport, _, _| {
            source.send_to(&[0; LEN], transport.local_addr());
            Ok(())
        });
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        settle(&mut event_loop);
        peer.send_to(&[0; LEN], transport.local_addr());
        let share = (1_usize << 20).div_ceil(LEN) as u64;
        for ticks in 1..=3 {
            event_loop.run_once(Some(support::BOUND)).unwrap();
            assert_eq!(transport.stats().received, share * ticks, "{wire:?}");
        }
    }
}

#[test]
fn what_others_sent_before_the_connect_is_dropped_and_counted() {
    for wire in Datagrams::each() {
        for coalesce in [false, true] {
            if coalesce && wire == Datagrams::Unix {
                continue;
            }
            let mut event_loop = EventLoop::new().unwrap();
            let dir = TempDir::new();
            let peer = DatagramPeer::new(wire, &dir, "b");
            let other = DatagramPeer::new(wire, &dir, "c");
            let given = DatagramPeer::new(wire, &dir, "a");
            let at = given.address();
            other.send_to(b"stranger", &at);
            other.send_to(b"", &at);
            peer.send_to(b"first", &at);
            let options: DatagramOptions = match given {
                DatagramPeer::Udp(socket) => socket.into(),
                DatagramPeer::Unix(socket) => socket.into(),
            };
            let options = options.coalesce(coalesce).remote(peer.address());
            let protocol = Heard::default();
            let transport = endpoint(&event_loop, options, &protocol);
            peer.send_to(b"second", &at);
            drive(&mut event_loop, "those of the peer", || {
                protocol.datagrams().len() > 1
            });
            settle(&mut event_loop);
            let expected: [&[u8]; 2] = [b"first", b"second"];
            assert_eq!(protocol.datagrams(), expected, "{wire:?}");
            let stats = transport.stats();
            assert_eq!((stats.received, stats.strangers), (2, 2), "{wire:?}");
            assert_eq!(protocol.errors(), []);
        }
    }
}
