//! Errors of single datagrams: told with the address, and the endpoint goes on.

use support::datagrams::{DatagramPeer, Datagrams, Heard, assert_accounted, endpoint};
use support::{TempDir, drive, settle};
use tidegate::{Address, DatagramOptions, EventLoop};

#[test]
fn a_refusal_is_told_and_eats_no_later_datagram() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let gone = DatagramPeer::new(wire, &dir, "b");
        let remote = gone.address();
        let protocol = Heard::default();
        let options = wire.local(&dir, "a").remote(&remote);
        let transport = endpoint(&event_loop, options, &protocol);
        settle(&mut event_loop);
        drop(gone);
        transport.send(b"nobody there").unwrap();
        drive(&mut event_loop, "a refusal", || {
            !protocol.errors().is_empty()
        });
        let (text, to, _) = &protocol.errors()[0];
        assert!(text.contains("refused"), "{wire:?}: {text}");
        assert_eq!(to.as_ref(), Some(&remote));
        assert!(protocol.closed().is_none());
        assert_accounted(&transport);
    }
}

#[test]
fn the_error_of_an_earlier_datagram_is_told_and_the_present_one_is_sent() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let remote = peer.address();
        let protocol = Heard::default();
        let options = DatagramOptions::connected(&remote);
        let transport = endpoint(&event_loop, options, &protocol);
        settle(&mut event_loop);
        drop(peer);
        // The kernel reports the refusal at once; the loop does not look in between.
        transport.try_send(b"lost").unwrap();
        let again = std::net::UdpSocket::bind(remote.as_inet().unwrap()).unwrap();
        again.set_read_timeout(Some(support::BOUND)).unwrap();
        transport.try_send(b"arrives").unwrap();
        let mut buffer = [0; 100];
        let len = again.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"arrives");
        drive(&mut event_loop, "the refusal", || {
            !protocol.errors().is_empty()
        });
        let errors = protocol.errors();
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].1.clone(), errors[0].2), (Some(remote), None));
        assert_eq!(transport.stats().sent, 2);
    }
}

#[test]
fn a_datagram_that_is_too_long_is_told_with_its_length_and_the_others_go_on() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let protocol = Heard::default();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), &protocol);
        let to = peer.address();
        transport.send_to(b"before", &to).unwrap();
        // One byte more than each of both takes.
        let len = if wire == Datagrams::V4 {
            65_508
        } else {
            65_528
        };
        transport.send_to(&vec![0; len], &to).unwrap();
        transport.send_to(b"behind", &to).unwrap();
        drive(&mut event_loop, "an error", || {
            !protocol.errors().is_empty()
        });
        assert_eq!(
            (peer.receive(), peer.receive()),
            (b"before".into(), b"behind".into())
        );
        let errors = protocol.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!((errors[0].1.clone(), errors[0].2), (Some(to), Some(len)));
        let stats = transport.stats();
        assert_eq!((stats.taken, stats.sent, stats.failed), (3, 2, 1));
    }
}

#[test]
fn each_datagram_of_a_run_that_is_refused_has_a_verdict_of_its_own() {
    let mut event_loop = EventLoop::new().unwrap();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    // Broadcast was not asked for, so the kernel refuses each.
    let broadcast = Address::Inet("255.255.255.255:9".parse().unwrap());
    for _ in 0..5 {
        transport.send_to(&[0; 100], &broadcast).unwrap();
    }
    drive(&mut event_loop, "five errors", || {
        protocol.errors().len() == 5
    });
    for (text, to, len) in protocol.errors() {
        assert_eq!((to.as_ref(), len), (Some(&broadcast), Some(100)), "{text}");
    }
    assert_eq!(transport.stats().failed, 5);
}

#[test]
fn of_many_errors_64_wait_and_the_rest_are_counted() {
    let mut event_loop = EventLoop::new().unwrap();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &protocol);
    let broadcast = Address::Inet("255.255.255.255:9".parse().unwrap());
    for i in 0..100 {
        transport.send_to(&vec![0; i], &broadcast).unwrap();
    }
    drive(&mut event_loop, "all have failed", || {
        transport.stats().failed == 100
    });
    settle(&mut event_loop);
    assert_eq!(protocol.errors().len(), 64);
    assert_eq!(transport.stats().errors_left_out, 36);
}

#[test]
fn refusals_without_end_do_not_end_an_endpoint() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let gone = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let protocol = Heard::default();
    let transport = endpoint(
        &event_loop,
        DatagramOptions::connected(gone.address()),
        &protocol,
    );
    drop(gone);
    for i in 1..=200 {
        transport.send(b"x").unwrap();
        drive(&mut event_loop, "a refusal", || {
            protocol.errors().len() >= i
        });
    }
    assert!(protocol.closed().is_none());
    assert_accounted(&transport);
}

#[test]
fn a_broadcast_is_refused_unless_it_was_asked_for() {
    let event_loop = EventLoop::new().unwrap();
    let everywhere: std::net::SocketAddr = "255.255.255.255:9".parse().unwrap();
    let transport = endpoint(&event_loop, "127.0.0.1:0", &Heard::default());
    let refused = transport.try_send_to(b"x", &everywhere).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    transport.set_broadcast(true).unwrap();
    transport.try_send_to(b"x", &everywhere).unwrap();
}

#[test]
fn errors_of_datagrams_that_a_close_sends_are_counted_and_not_told() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let protocol = Heard::default();
    let transport = endpoint(&event_loop, Datagrams::Unix.local(&dir, "a"), &protocol);
    settle(&mut event_loop);
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    transport
        .send_to(b"nobody", &Address::Unix(dir.path("nobody")))
        .unwrap();
    transport.send_to(b"somebody", &peer.address()).unwrap();
    transport.close();
    drive(&mut event_loop, "the end", || protocol.closed().is_some());
    assert_eq!(peer.receive(), b"somebody");
    assert_eq!(protocol.errors(), []);
    let stats = transport.stats();
    assert_eq!((stats.failed, stats.errors_left_out), (1, 1));
    assert_eq!(protocol.closed().unwrap().unsent(), 6);
}
