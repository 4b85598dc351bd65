//! Sending: order, whole datagrams, runs in one system call, destinations.

use support::datagrams::{DatagramPeer, Datagrams, Heard, assert_accounted, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{Address, DatagramOptions, EventLoop, WriteError};

#[test]
fn datagrams_arrive_whole_and_in_order_also_empty_ones() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let protocol = Heard::default();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        let lengths = [5, 5, 5, 0, 5, 3, 5, 900, 900, 10, 0, 0, 1];
        for (i, len) in lengths.iter().enumerate() {
            transport
                .send_to(&vec![i as u8; *len], &peer.address())
                .unwrap();
        }
        for (i, len) in lengths.iter().enumerate() {
            drive(&mut event_loop, "another is sent", || {
                transport.stats().sent > i as u64
            });
            assert_eq!(peer.receive(), vec![i as u8; *len], "{wire:?} {i}");
        }
        assert_accounted(&transport);
        assert_eq!(transport.write_buffer_size(), 0);
    }
}

#[test]
fn a_connected_endpoint_sends_without_an_address_and_hears_its_peer_alone() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (peer, other) = (
            DatagramPeer::new(wire, &dir, "b"),
            DatagramPeer::new(wire, &dir, "c"),
        );
        let protocol = Heard::default();
        let options = wire.local(&dir, "a").remote(peer.address());
        let transport = endpoint(&event_loop, options, &protocol);
        assert_eq!(transport.remote_addr(), Some(&peer.address()));
        transport.send(b"one").unwrap();
        transport.send_to(b"two", &peer.address()).unwrap();
        let refused = transport.send_to(b"x", &other.address());
        assert!(
            matches!(refused, Err(WriteError::Destination { .. })),
            "{refused:?}"
        );
        drive(&mut event_loop, "both are sent", || {
            transport.stats().sent == 2
        });
        assert_eq!(
            (peer.receive(), peer.receive()),
            (b"one".into(), b"two".into())
        );
        // Unix refuses the sender.
        let _ = other.try_send_to(b"stranger", transport.local_addr());
        peer.send_to(b"reply", transport.local_addr());
        drive(&mut event_loop, "a reply", || {
            !protocol.datagrams().is_empty()
        });
        assert_eq!(protocol.datagrams(), [b"reply"]);
    }
}

#[test]
fn one_call_sends_datagrams_of_one_length_to_one_address() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        for (segmentation, calls) in [(true, 1), (false, 20)] {
            let protocol = Heard::default();
            let options = wire.local(&dir, "a").segmentation(segmentation);
            let transport = endpoint(&event_loop, options, &protocol);
            settle(&mut event_loop);
            let before = event_loop.handle().stats().writes;
            for i in 0..20_u8 {
                transport.send_to(&[i; 1_200], &peer.address()).unwrap();
            }
            drive(&mut event_loop, "all are sent", || {
                transport.stats().sent == 20
            });
            for i in 0..20_u8 {
                assert_eq!(peer.receive(), [i; 1_200]);
            }
            assert_eq!(event_loop.handle().stats().writes - before, calls);
        }
    }
}

#[test]
fn datagrams_go_in_one_call_also_after_an_empty_one() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    transport.send_to(&[], &peer.address()).unwrap();
    settle(&mut event_loop);
    let before = event_loop.handle().stats().writes;
    for i in 0..20_u8 {
        transport.send_to(&[i; 100], &peer.address()).unwrap();
    }
    drive(&mut event_loop, "all are sent", || {
        transport.stats().sent == 21
    });
    assert_eq!(event_loop.handle().stats().writes - before, 1);
}

#[test]
fn the_replies_to_a_burst_of_one_sender_go_in_one_call_and_before_those_to_another() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let (one, two) = (
            DatagramPeer::new(wire, &dir, "b"),
            DatagramPeer::new(wire, &dir, "c"),
        );
        let protocol = Heard::echo();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        settle(&mut event_loop);
        for peer in [&one, &two] {
            for i in 0..8_u8 {
                peer.send_to(&[i; 100], transport.local_addr());
            }
        }
        let before = event_loop.handle().stats();
        drive(&mut event_loop, "all echoes", || {
            transport.stats().sent == 16
        });
        let after = event_loop.handle().stats();
        assert_eq!(after.writes - before.writes, 2);
        for peer in [&one, &two] {
            for i in 0..8_u8 {
                assert_eq!(peer.receive(), [i; 100]);
            }
        }
        assert_eq!(
            after.registrations, before.registrations,
            "the kernel was asked for events"
        );
    }
}

#[test]
fn a_destination_that_cannot_be_is_refused_and_says_why() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let path = Address::Unix(dir.path("x"));
    let v6 = Address::Inet("[::1]:9".parse().unwrap());
    let v4 = Address::Inet("127.0.0.1:9".parse().unwrap());
    let protocol = Heard::default();
    let udp = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    let unix_protocol = Heard::default();
    let unix = endpoint(
        &event_loop,
        Datagrams::Unix.local(&dir, "a"),
        &unix_protocol,
    );
    for (transport, to, why) in [
        (&udp, &path, "paths"),
        (&udp, &v6, "IPv4 endpoint"),
        (&udp, &Address::Unnamed, "unnamed"),
        (&unix, &v4, "paths"),
        (&unix, &Address::Unnamed, "unnamed"),
    ] {
        let error = transport.send_to(b"x", to).unwrap_err();
        assert!(matches!(error, WriteError::Destination { .. }));
        assert!(error.to_string().contains(why), "{error}");
        let error = transport.try_send_to(b"x", to).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    assert!(
        udp.send(b"x")
            .unwrap_err()
            .to_string()
            .contains("use send_to")
    );
    assert_eq!((udp.stats().taken, unix.stats().taken), (0, 0));
    settle(&mut event_loop);
    assert_eq!(protocol.errors(), []);
}

#[test]
fn try_send_has_the_systems_verdict_and_takes_nothing_that_would_block() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let protocol = Heard::default();
    let options = Datagrams::Unix.local(&dir, "a").remote(peer.address());
    let transport = endpoint(&event_loop, options, &protocol);
    let mut sent = 0_u64;
    let refused = loop {
        match transport.try_send(&[7; 1_000]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(
        (transport.stats().taken, transport.stats().sent),
        (sent, sent)
    );
    let writable = support::answer_of(transport.writable());
    settle(&mut event_loop);
    assert!(writable.borrow().is_none(), "nothing was read");
    for _ in 0..sent {
        assert_eq!(peer.receive().len(), 1_000);
    }
    drive(&mut event_loop, "room", || writable.borrow().is_some());
    transport.try_send(b"last").unwrap();
    assert_eq!(peer.receive(), b"last");
    // A queued datagram is never overtaken.
    transport.send(b"first").unwrap();
    transport.try_send(b"second").unwrap();
    assert_eq!(
        (peer.receive(), peer.receive()),
        (b"first".into(), b"second".into())
    );
    let too_long = transport.try_send(&vec![0; 10_000_000]).unwrap_err();
    assert_ne!(too_long.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(transport.stats().failed, 1);
    assert_accounted(&transport);
}

#[test]
fn a_send_loop_that_waits_for_open_flow_ends_though_the_kernel_takes_everything() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    settle(&mut event_loop);
    let mut calls = 0;
    while !transport.flow().is_paused() {
        transport.send_to(&[0; 1_200], &peer.address()).unwrap();
        calls += 1;
        assert!(calls < 10_000, "flow never pauses");
    }
    assert!(calls > 500, "a share of a tick is more than {calls}");
    let drained = support::answer_of(transport.drain());
    drive(&mut event_loop, "the next tick's share", || {
        drained.borrow().is_some()
    });
    while transport.try_send_to(&[0; 1_200], &peer.address()).is_ok() {
        calls += 1;
        assert!(calls < 20_000, "try_send_to never has enough");
    }
    let writable = support::answer_of(transport.writable());
    drive(&mut event_loop, "the next tick's share", || {
        writable.borrow().is_some()
    });
    assert_accounted(&transport);
}

#[test]
fn flush_completes_when_what_was_taken_has_gone_and_fails_when_the_end_came_first() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let protocol = Heard::default();
    let options = Datagrams::Unix.local(&dir, "a").remote(peer.address());
    let transport = endpoint(&event_loop, options, &protocol);
    for _ in 0..50 {
        transport.send(&[0; 1_000]).unwrap();
    }
    let flushed = support::answer_of(transport.flush());
    settle(&mut event_loop);
    assert!(flushed.borrow().is_none(), "{transport:?}");
    let all = 50;
    for _ in 0..all {
        drive(&mut event_loop, "some room", || transport.stats().sent > 0);
        assert_eq!(peer.receive().len(), 1_000);
        event_loop
            .run_once(Some(std::time::Duration::ZERO))
            .unwrap();
    }
    drive(&mut event_loop, "all have gone", || {
        flushed.borrow().is_some()
    });
    assert_eq!(transport.stats().sent, all);
    for _ in 0..50 {
        transport.send(&[0; 1_000]).unwrap();
    }
    let completion = transport.flush();
    transport.abort();
    let error = event_loop.run_until(completion).unwrap_err();
    assert_eq!(tidegate::Closed::of(&error), transport.closed());
}

#[test]
fn the_replies_to_one_sender_wait_for_sixteen_of_its_datagrams_at_the_most() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let protocol = Heard::echo();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        settle(&mut event_loop);
        for i in 0..40_u8 {
            peer.send_to(&[i; 100], transport.local_addr());
        }
        let before = event_loop.handle().stats().writes;
        drive(&mut event_loop, "all echoes", || {
            transport.stats().sent == 40
        });
        assert_eq!(event_loop.handle().stats().writes - before, 3);
    }
}

#[test]
fn a_flush_before_a_close_completes_although_an_earlier_datagram_has_failed() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    let forbidden: std::net::SocketAddr = "255.255.255.255:9".parse().unwrap();
    transport.send_to(b"forbidden", &forbidden).unwrap();
    drive(&mut event_loop, "a failure", || {
        transport.stats().failed == 1
    });
    transport.send_to(b"fine", &peer.address()).unwrap();
    let flush = transport.flush();
    transport.close();
    event_loop.run_until(flush).unwrap();
    assert_eq!(peer.receive(), b"fine");
}

#[test]
fn a_flush_of_empty_datagrams_fails_with_the_abort_that_drops_them() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let transport = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    settle(&mut event_loop);
    transport.send_to(b"", &peer.address()).unwrap();
    let flush = transport.flush();
    transport.abort();
    assert!(event_loop.run_until(flush).is_err());
    assert_accounted(&transport);
}

#[test]
fn a_connected_endpoint_replies_to_the_sender_however_its_address_is_spelled() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let port = peer.address().as_inet().unwrap().port();
    let protocol = Heard::echo();
    let options = DatagramOptions::connected(("0.0.0.0", port));
    let transport = endpoint(&event_loop, options, &protocol);
    let at = transport.local_addr().as_inet().unwrap();
    let to = std::net::SocketAddr::from(([127, 0, 0, 1], at.port()));
    peer.send_to(b"x", &Address::Inet(to));
    drive(&mut event_loop, "an echo", || transport.stats().sent == 1);
    assert_eq!(peer.receive(), b"x");
}

#[test]
fn an_endpoint_may_have_a_broadcast_address_as_its_remote_one() {
    let event_loop = EventLoop::new().unwrap();
    let to = "255.255.255.255:9";
    let refused = event_loop
        .handle()
        .create_datagram_endpoint(DatagramOptions::connected(to), Heard::default().protocol());
    let error = refused.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::PermissionDenied,
        "{error}"
    );
    let options = DatagramOptions::connected(to).broadcast(true);
    match event_loop
        .handle()
        .create_datagram_endpoint(options, Heard::default().protocol())
    {
        Ok(transport) => assert!(transport.remote_addr().is_some()),
        // A machine without a route to a network.
        Err(error) => assert_ne!(
            error.kind(),
            std::io::ErrorKind::PermissionDenied,
            "{error}"
        ),
    }
}

#[test]
fn at_most_a_mebibyte_is_sent_in_a_tick_and_a_short_datagram_counts_as_4_kib() {
    for wire in Datagrams::of_udp() {
        for (len, share) in [(1_200, 256), (60_000, 18)] {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = TempDir::new();
            let peer = DatagramPeer::new(wire, &dir, "b");
            let protocol = Heard::default();
            let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
            settle(&mut event_loop);
            for ticks in 1..=3 {
                while transport
                    .try_send_to(&vec![0; len], &peer.address())
                    .is_ok()
                {}
                assert_eq!(transport.stats().sent, share * ticks, "{wire:?}, {len}");
                let writable = transport.writable();
                event_loop.run_until(writable).unwrap();
            }
        }
    }
}
