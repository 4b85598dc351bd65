//! Counts the allocations of the process: those of echoed datagrams, and the memory of endpoints.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::net::UdpSocket;
use support::{drive, has_ipv6, settle};
use tidegate::{Address, DatagramProtocol, DatagramTransport, EventLoop, Result};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Echo;

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        transport.send_to(data, from)?;
        Ok(())
    }
}

fn echo(event_loop: &EventLoop, at: &str) -> DatagramTransport {
    let made = event_loop.handle().create_datagram_endpoint(at, Echo);
    made.unwrap()
}

/// Has bursts echoed.
fn rounds(event_loop: &mut EventLoop, transport: &DatagramTransport, peer: &UdpSocket, burst: u64) {
    for _ in 0..50 {
        let all = transport.stats().sent + burst;
        for _ in 0..burst {
            peer.send(&[7; 100]).unwrap();
        }
        drive(event_loop, "the echoes", || transport.stats().sent == all);
        for _ in 0..burst {
            assert_eq!(peer.recv(&mut [0; 200]).unwrap(), 100);
        }
    }
}

fn an_echoed_datagram_allocates_nothing(at: &str) {
    let mut event_loop = EventLoop::new().unwrap();
    let transport = echo(&event_loop, at);
    let peer = UdpSocket::bind(at).unwrap();
    peer.set_read_timeout(Some(support::BOUND)).unwrap();
    peer.connect(transport.local_addr().as_inet().unwrap())
        .unwrap();
    for burst in [1, 8] {
        rounds(&mut event_loop, &transport, &peer, burst);
        let region = Region::new(GLOBAL);
        rounds(&mut event_loop, &transport, &peer, burst);
        let change = region.change();
        let calls = change.allocations + change.reallocations;
        assert_eq!(calls, 0, "{at}, bursts of {burst}: {change:?}");
    }
}

fn memory(region: &Region<'_, System>) -> isize {
    let change = region.change();
    change.bytes_allocated.cast_signed() - change.bytes_deallocated.cast_signed()
}

fn an_emptied_queue_is_no_memory_of_its_endpoint() {
    const COUNT: usize = 100;
    let mut event_loop = EventLoop::new().unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = peer.local_addr().unwrap();
    // The loop and the first endpoint need some memory once.
    let first = echo(&event_loop, "127.0.0.1:0");
    first.send_to(&[0; 60_000], &to).unwrap();
    settle(&mut event_loop);
    let region = Region::new(GLOBAL);
    let endpoints: Vec<_> = (0..COUNT)
        .map(|_| echo(&event_loop, "127.0.0.1:0"))
        .collect();
    settle(&mut event_loop);
    let idle = memory(&region) / COUNT.cast_signed();
    assert!(idle < 800, "an idle endpoint has {idle} bytes");
    for endpoint in &endpoints {
        endpoint.send_to(&[0; 60_000], &to).unwrap();
    }
    let queued = memory(&region);
    assert!(queued > 6_000_000, "only {queued} bytes are queued");
    drive(&mut event_loop, "all are sent", || {
        endpoints.iter().all(|endpoint| endpoint.stats().sent == 1)
    });
    settle(&mut event_loop);
    let after = memory(&region) / COUNT.cast_signed();
    assert!(after < idle + 12_000, "{after} bytes each, idle {idle}");
    drop(endpoints);
}

#[test]
fn echoed_datagrams_allocate_nothing_and_emptied_queues_go_back() {
    an_echoed_datagram_allocates_nothing("127.0.0.1:0");
    if has_ipv6() {
        an_echoed_datagram_allocates_nothing("[::1]:0");
    }
    an_emptied_queue_is_no_memory_of_its_endpoint();
}
