//! Counts the allocations of the process.
//!
//! The memory of an endpoint of datagrams that has nothing to do, or nothing more to do.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::datagrams::{DatagramPeer, Datagrams};
use support::{TempDir, drive, settle, that_fit};
use tidegate::{
    Address, DatagramOptions, DatagramProtocol, DatagramTransport, EventLoop, OnPause, Result,
};

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
fn an_endpoint_without_a_queue_has_little_memory_beside_its_protocol() {
    that_have_sent_their_replies();
    that_had_a_long_queue();
}

fn that_have_sent_their_replies() {
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

/// The size of each queue, in datagrams of 1,000 bytes.
const LONG: usize = 150;

struct Silent;

impl DatagramProtocol for Silent {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }

    fn pause_writing(&mut self, _: &DatagramTransport) -> Result<OnPause> {
        Ok(OnPause::KeepReading)
    }
}

/// Endpoints whose receiver took nothing for a time.
fn that_had_a_long_queue() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::Unix, &dir, "b");
    let count = that_fit(20, 1);
    let endpoints: Vec<_> = (0..count)
        .map(|_| {
            let options = DatagramOptions::connected(peer.address());
            let handle = event_loop.handle();
            handle.create_datagram_endpoint(options, Silent).unwrap()
        })
        .collect();
    settle(&mut event_loop);
    let allocated = |region: &Region<'_, System>| {
        let change = region.change();
        change.bytes_allocated as isize - change.bytes_deallocated as isize
    };
    let region = Region::new(GLOBAL);
    for transport in &endpoints {
        for _ in 0..LONG {
            transport.send(&[7; 1000]).unwrap();
        }
    }
    settle(&mut event_loop);
    let queued = |of: &[DatagramTransport]| of.iter().map(|one| one.stats().queued).sum::<u64>();
    assert!(
        queued(&endpoints) as usize > count * (LONG - 20),
        "{endpoints:?}"
    );
    let full = allocated(&region);
    assert!(full > 100_000 * count as isize, "{full} bytes of queues");
    for _ in 0..count * LONG {
        let sent = || endpoints.iter().map(|one| one.stats().sent).sum::<u64>();
        let before = sent();
        peer.receive();
        if queued(&endpoints) > 0 {
            drive(&mut event_loop, "another is sent", || sent() > before);
        }
    }
    settle(&mut event_loop);
    assert_eq!(queued(&endpoints), 0);
    // The loop keeps one queue, of at most 128 KiB.
    let left = allocated(&region) - 128 * 1024;
    let each = left / count as isize;
    assert!(each <= 1024, "{each} bytes for each of {count}");
}
