//! The numbers: every datagram that was taken is somewhere, at every moment.

use std::net::IpAddr;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams, Heard, assert_accounted, endpoint};
use support::{Rng, TempDir};
use tidegate::{Address, DatagramOptions, Departure, Ecn, EventLoop, WhenFull, WriteLimits};

#[test]
fn taken_is_sent_and_failed_and_dropped_and_queued_whatever_comes() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let wire = if seed % 2 == 0 {
            Datagrams::V4
        } else {
            Datagrams::Unix
        };
        let peers: Vec<_> = (0..2)
            .map(|i| DatagramPeer::new(wire, &dir, &format!("b{i}")))
            .collect();
        for peer in &peers {
            match peer {
                DatagramPeer::Udp(socket) => socket.set_nonblocking(true).unwrap(),
                DatagramPeer::Unix(socket) => socket.set_nonblocking(true).unwrap(),
            }
        }
        let protocol = Heard::echo().keeps_reading();
        let options: DatagramOptions = wire.local(&dir, "a");
        let options = options
            .write_limits(WriteLimits::new().with_high(5_000).with_cap(20_000))
            .when_full(if rng.below(2) == 0 {
                WhenFull::Refuse
            } else {
                WhenFull::DropOldest
            });
        let transport = endpoint(&event_loop, options, &protocol);
        let mut buffer = [0; 2_000];
        for _ in 0..300 {
            let peer = &peers[rng.below(2)];
            let data = vec![0; rng.below(1_500)];
            match rng.below(8) {
                0 | 1 => drop(transport.send_to(&data, &peer.address())),
                2 => drop(transport.try_send_to(&data, &peer.address())),
                3 => drop(peer.try_send_to(&data, transport.local_addr())),
                4 => {
                    let gone = Address::Unix(dir.path("nobody"));
                    drop(transport.send_to(&data, &gone));
                }
                5 => match peer {
                    DatagramPeer::Udp(socket) => drop(socket.recv(&mut buffer)),
                    DatagramPeer::Unix(socket) => drop(socket.recv(&mut buffer)),
                },
                6 => {
                    let segment = rng.below(400);
                    let departure = match rng.below(3) {
                        0 => Departure::new().ecn(Ecn::Capable0),
                        // An address of none, which the system refuses.
                        1 => Departure::new().source(IpAddr::from([192, 0, 2, 1])),
                        _ => Departure::new(),
                    };
                    drop(transport.send_run_to(&data, segment, &peer.address(), departure));
                }
                _ => event_loop.run_once(Some(Duration::ZERO)).unwrap(),
            }
            assert_accounted(&transport);
        }
        transport.close_within(Duration::from_millis(1));
        let closed = event_loop.run_until(transport.wait_closed()).unwrap();
        assert_accounted(&transport);
        let stats = transport.stats();
        assert_eq!(stats.queued, 0, "seed {seed}");
        assert_eq!(closed.unsent(), stats.taken_bytes - stats.sent_bytes);
    }
}
