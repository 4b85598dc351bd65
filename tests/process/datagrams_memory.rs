//! Counts the allocations of the process.
//!
//! The memory of an endpoint of datagrams that has nothing to do.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::datagrams::{DatagramPeer, Datagrams};
use support::{TempDir, drive, settle, that_fit};
use tidegate::{Address, DatagramProtocol, DatagramTransport, EventLoop, Result};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The maximum for each endpoint beside its protocol, with its part of the loop's tables.
const IDLE: usize = 512;

struct Echo([u8; 100]);

impl DatagramProtocol for Echo {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport,
        data: &[u8],
        from: &Address,
    ) -> Result {
        self.0[0] = data[0];
        transport.send_to(data, from)?;
        Ok(())
    }
}

/// One test, because others would be counted.
#[test]
fn an_endpoint_that_has_sent_its_replies_has_little_memory_beside_its_protocol() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    let mut endpoints = Vec::with_capacity(2000);
    // The lists of the loop get their memory, and the queue that the loop keeps.
    for _ in 0..3 {
        endpoints.push(used(&mut event_loop, &peer));
    }
    let count = that_fit(1000, 1);
    let region = Region::new(GLOBAL);
    for _ in 0..count {
        endpoints.push(used(&mut event_loop, &peer));
    }
    let change = region.change();
    let kept = change.bytes_allocated - change.bytes_deallocated;
    let of_protocols = count * size_of::<Echo>();
    assert!(kept > of_protocols, "nothing was measured");
    let each = (kept - of_protocols) / count;
    assert!(each <= IDLE, "{each} bytes for each of {count}");
}

/// Makes an endpoint that has echoed a burst.
fn used(event_loop: &mut EventLoop, peer: &DatagramPeer) -> DatagramTransport {
    let transport = event_loop
        .handle()
        .create_datagram_endpoint("127.0.0.1:0", Echo([0; 100]))
        .unwrap();
    settle(event_loop);
    for _ in 0..16 {
        peer.send_to(&[7; 1000], transport.local_addr());
    }
    drive(event_loop, "the echoes", || transport.stats().sent == 16);
    for _ in 0..16 {
        assert_eq!(peer.receive(), [7; 1000]);
    }
    settle(event_loop);
    transport
}
