//! Backpressure: watermarks, the cap, and waiting for room.

use support::datagrams::{DatagramPeer, Datagrams, Heard, assert_accounted, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{DatagramTransport, EventLoop, OnPause, WhenFull, WriteError, WriteLimits};
use tidegate_testkit::Seen;

/// An endpoint of a Unix socket, with the peer as its remote address or without one.
fn beside_a_peer(connected: bool) -> (EventLoop, TempDir, DatagramPeer, Heard, DatagramTransport) {
    let event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let protocol = Heard::default();
    let mut options = Datagrams::Unix.local(&dir, "a");
    if connected {
        options = options.remote(peer.address());
    }
    let transport = endpoint(&event_loop, options, &protocol);
    (event_loop, dir, peer, protocol, transport)
}

#[test]
fn a_full_receiver_pauses_the_writer_and_room_resumes_it() {
    for connected in [true, false] {
        let (mut event_loop, _dir, peer, protocol, transport) = beside_a_peer(connected);
        let mut sent = 0_u64;
        while !transport.flow().is_paused() {
            transport
                .send_to(&sent.to_be_bytes().repeat(100), &peer.address())
                .unwrap();
            sent += 1;
            assert!(sent < 10_000);
        }
        settle(&mut event_loop);
        assert!(protocol.seen().contains(&Seen::Pause));
        assert!(!protocol.seen().contains(&Seen::Resume));
        let mut received = 0_u64;
        drive(&mut event_loop, "all arrive", || {
            if transport.stats().sent > received {
                assert_eq!(peer.receive(), received.to_be_bytes().repeat(100));
                received += 1;
            }
            received == sent
        });
        settle(&mut event_loop);
        assert_eq!(
            protocol.seen().last(),
            Some(&Seen::Resume),
            "connected: {connected}"
        );
        assert_accounted(&transport);
    }
}

#[test]
fn a_receiver_that_takes_nothing_makes_no_busy_loop() {
    for connected in [true, false] {
        let (mut event_loop, _dir, peer, _protocol, transport) = beside_a_peer(connected);
        while !transport.flow().is_paused() {
            transport.send_to(&[0; 1_000], &peer.address()).unwrap();
        }
        let (_completer, never) = event_loop.handle().completion::<()>();
        let before = event_loop.handle().stats().polls;
        let _ = event_loop.run_until_within(never, std::time::Duration::from_millis(300));
        let polls = event_loop.handle().stats().polls - before;
        assert!(
            polls < 40,
            "connected: {connected}: {polls} polls in 300 ms"
        );
    }
}

#[test]
fn at_the_cap_a_datagram_is_refused_or_the_oldest_dropped_and_both_are_counted() {
    for when_full in [WhenFull::Refuse, WhenFull::DropOldest] {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
        let protocol = Heard::default();
        let limits = WriteLimits::new()
            .with_high(1_000)
            .with_low(0)
            .with_cap(10_000);
        let options = Datagrams::Unix
            .local(&dir, "a")
            .remote(peer.address())
            .write_limits(limits)
            .when_full(when_full);
        let transport = endpoint(&event_loop, options, &protocol);
        let mut taken = 0_u64;
        for i in 0..2_000_u64 {
            match transport.send(&i.to_be_bytes().repeat(10)) {
                Ok(_) => taken += 1,
                Err(WriteError::BufferFull { .. }) => assert_eq!(when_full, WhenFull::Refuse),
                Err(error) => panic!("{error}"),
            }
            assert!(transport.write_buffer_size() < 10_000 + 80 + 64);
        }
        let stats = transport.stats();
        assert_eq!(stats.taken, taken);
        let (refused, dropped) = (stats.refused > 0, stats.dropped > 0);
        assert_eq!(
            (refused, dropped),
            match when_full {
                WhenFull::Refuse => (true, false),
                _ => (false, true),
            }
        );
        assert_accounted(&transport);
        let last = stats.sent + stats.queued;
        let mut received = Vec::new();
        drive(&mut event_loop, "what is left", || {
            if transport.stats().sent > received.len() as u64 {
                received.push(peer.receive());
            }
            received.len() as u64 == last
        });
        let newest = received.last().unwrap()[..8] == 1_999_u64.to_be_bytes();
        assert_eq!(newest, when_full == WhenFull::DropOldest);
    }
}

#[test]
fn a_datagram_above_the_cap_is_taken_by_an_empty_queue() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let limits = WriteLimits::new().with_high(10).with_cap(10);
    let options = Datagrams::V4.local(&dir, "a").write_limits(limits);
    let transport = endpoint(&event_loop, options, &protocol);
    transport.send_to(&[1; 2_000], &peer.address()).unwrap();
    drive(&mut event_loop, "it is sent", || {
        transport.stats().sent == 1
    });
    assert_eq!(peer.receive(), [1; 2_000]);
}

#[test]
fn the_default_pause_stops_reading_without_a_remote_address_and_not_with_one() {
    use tidegate::{Address, DatagramProtocol, DatagramTransport, Result};
    struct Plain;
    impl DatagramProtocol for Plain {
        fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
            Ok(())
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    for (options, expected) in [
        (Datagrams::V4.local(&dir, "a"), OnPause::StopReading),
        (
            Datagrams::V4.local(&dir, "a").remote(peer.address()),
            OnPause::KeepReading,
        ),
    ] {
        let transport = event_loop
            .handle()
            .create_datagram_endpoint(options, Plain)
            .unwrap();
        settle(&mut event_loop);
        let answer = transport
            .with_protocol(|plain: &mut Plain, transport| plain.pause_writing(transport))
            .unwrap();
        assert_eq!(answer.unwrap(), expected);
    }
}

#[test]
fn an_echo_whose_peer_reads_nothing_is_bounded() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let DatagramPeer::Unix(socket) = &peer else {
        unreachable!("it was made so");
    };
    socket.set_nonblocking(true).unwrap();
    let protocol = Heard::echo();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    let mut refused = 0;
    drive(&mut event_loop, "the endpoint stops reading", || {
        match peer.try_send_to(&[0; 2_000], transport.local_addr()) {
            Ok(_) => refused = 0,
            Err(_) => refused += 1,
        }
        let most = 64 * 1024 + 2 * (2_000 + 64);
        assert!(transport.write_buffer_size() < most, "{transport:?}");
        refused > 20 && transport.flow().is_paused()
    });
    assert!(!transport.is_reading());
    assert!(protocol.closed().is_none());
}

#[test]
fn a_receiver_that_reads_is_not_kept_waiting_by_the_refusals_before() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    let all = 4_000_u64;
    for i in 0..all {
        transport
            .send_to(&i.to_be_bytes(), &peer.address())
            .unwrap();
    }
    let mut received = 0_u64;
    // At the longest pause this would take longer than the bound.
    drive(&mut event_loop, "all arrive", || {
        while transport.stats().sent > received {
            assert_eq!(peer.receive(), received.to_be_bytes());
            received += 1;
        }
        received == all
    });
}

#[test]
fn the_kernel_is_asked_to_report_room_once_an_episode_and_not_without() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let protocol = Heard::default();
    let options = Datagrams::Unix.local(&dir, "a").remote(peer.address());
    let transport = endpoint(&event_loop, options, &protocol);
    settle(&mut event_loop);
    let before = event_loop.handle().stats().registrations;
    for episode in 1..=2 {
        for _ in 0..50 {
            transport.send(&[0; 100]).unwrap();
        }
        let all = 50 * episode;
        let mut received = all - 50;
        drive(&mut event_loop, "all arrive", || {
            if transport.stats().sent > received {
                peer.receive();
                received += 1;
            }
            received == all
        });
        settle(&mut event_loop);
        let asked = event_loop.handle().stats().registrations - before;
        assert_eq!(asked, 2 * episode);
    }
}

#[test]
fn a_drain_completes_at_a_close_whose_queue_has_gone() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let options = Datagrams::Unix.local(&dir, "a").remote(peer.address());
    let transport = endpoint(&event_loop, options, &Heard::default());
    let mut sent = 0_u64;
    while !transport.flow().is_paused() {
        transport.send(&[0; 1_000]).unwrap();
        sent += 1;
    }
    let drained = support::answer_of(transport.drain());
    transport.close();
    let mut received = 0;
    drive(&mut event_loop, "the end", || {
        if transport.stats().sent > received {
            peer.receive();
            received += 1;
        }
        transport.closed().is_some()
    });
    assert_eq!(transport.stats().sent, sent);
    settle(&mut event_loop);
    assert!(drained.borrow().is_some(), "it has no result, or an error");
}

#[test]
fn the_marks_are_64_and_16_kib_and_the_cap_is_a_mebibyte_unless_set_whatever_else_is() {
    let event_loop = EventLoop::new().unwrap();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    let limits = transport.write_limits();
    let defaults = (64 << 10, 16 << 10, 1 << 20);
    assert_eq!((limits.high(), limits.low(), limits.cap()), defaults);
    let limits = WriteLimits::new().with_high(128 << 10);
    let options = Datagrams::V4
        .local(&TempDir::new(), "a")
        .write_limits(limits);
    let transport = endpoint(&event_loop, options, &Heard::default());
    assert_eq!(transport.write_limits().cap(), 1 << 20);
    transport
        .set_write_limits(WriteLimits::new().with_high(2 << 20))
        .unwrap();
    assert_eq!(transport.write_limits().cap(), 2 << 20);
}

#[test]
fn dropping_the_oldest_may_open_the_flow_again() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let limits = WriteLimits::new().with_high(1_000).with_cap(1_000);
    let options = Datagrams::Unix
        .local(&dir, "a")
        .remote(peer.address())
        .write_limits(limits)
        .when_full(WhenFull::DropOldest);
    let transport = endpoint(&event_loop, options, &Heard::default());
    while transport.try_send(&[0; 10]).is_ok() {}
    transport.send(&[0; 2_000]).unwrap();
    assert!(transport.flow().is_paused());
    transport.send(&[0; 10]).unwrap();
    assert!(!transport.flow().is_paused(), "{transport:?}");
    assert_eq!(transport.stats().dropped, 1);
    settle(&mut event_loop);
}

#[test]
fn each_datagram_costs_its_bytes_and_64_an_empty_one_too() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &Heard::default());
        settle(&mut event_loop);
        for (len, cost) in [(0, 64), (10, 64 + 74), (0, 2 * 64 + 74)] {
            transport.send_to(&vec![0; len], &peer.address()).unwrap();
            assert_eq!(transport.write_buffer_size(), cost, "{wire:?}");
        }
        drive(&mut event_loop, "all are sent", || {
            transport.stats().sent == 3
        });
        assert_eq!(transport.write_buffer_size(), 0);
    }
}

#[test]
fn a_receiver_that_takes_nothing_holds_up_the_datagrams_behind_its_own() {
    let (mut event_loop, dir, slow, _protocol, transport) = beside_a_peer(false);
    let other = DatagramPeer::new(Datagrams::Unix, &dir, "c");
    let DatagramPeer::Unix(socket) = &other else {
        unreachable!("it was made so");
    };
    let mut sent = 0_u64;
    while !transport.flow().is_paused() {
        transport.send_to(&[0; 1_000], &slow.address()).unwrap();
        sent += 1;
    }
    transport.send_to(b"behind", &other.address()).unwrap();
    settle(&mut event_loop);
    socket.set_nonblocking(true).unwrap();
    let early = socket.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    let mut received = 0;
    drive(&mut event_loop, "the last is sent", || {
        while transport.stats().sent.min(sent) > received {
            slow.receive();
            received += 1;
        }
        transport.stats().sent > sent
    });
    assert_eq!(other.receive(), b"behind");
}
