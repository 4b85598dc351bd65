//! Counts the allocations of the process.
//!
//! The cost of an echoed datagram once everything is warm.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams};
use support::{TempDir, settle};
use tidegate::{Address, DatagramProtocol, DatagramTransport, EventLoop, Result};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: u64 = 200;

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

/// One test, because others would be counted. A Unix sender has a path, which is allocated.
#[test]
fn echoed_datagrams_of_one_sender_cost_a_write_and_no_allocation_and_no_registration() {
    for wire in Datagrams::each().filter(|wire| *wire != Datagrams::Unix) {
        for depth in [1, 16] {
            echo(wire, depth);
        }
    }
}

fn echo(wire: Datagrams, depth: u64) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let transport = event_loop
        .handle()
        .create_datagram_endpoint(wire.local(&dir, "a"), Echo)
        .unwrap();
    settle(&mut event_loop);
    let peer = DatagramPeer::new(wire, &dir, "b");
    // Once for the memory that is kept.
    for _ in 0..3 {
        round(&mut event_loop, &transport, &peer, depth);
    }
    let before = event_loop.handle().stats();
    let mut changes = 0;
    for _ in 0..ROUNDS {
        changes += round(&mut event_loop, &transport, &peer, depth);
    }
    let after = event_loop.handle().stats();
    let context = format!("{wire:?}, {depth} at a time: {after:?}");
    assert_eq!(changes, 0, "{context}");
    // One more read finds that there is nothing.
    let reads = after.reads - before.reads;
    assert_eq!(reads, ROUNDS * (depth + 1), "{context}");
    assert_eq!(after.writes - before.writes, ROUNDS, "{context}");
    assert_eq!(after.registrations, before.registrations, "{context}");
}

/// Has `depth` datagrams echoed in one tick; returns the allocations, reallocations and frees of it.
fn round(
    event_loop: &mut EventLoop,
    transport: &DatagramTransport,
    peer: &DatagramPeer,
    depth: u64,
) -> usize {
    let sent = transport.stats().sent;
    for _ in 0..depth {
        peer.send_to(&[7; 64], transport.local_addr());
    }
    let region = Region::new(GLOBAL);
    event_loop.run_once(Some(Duration::from_secs(60))).unwrap();
    let change = region.change();
    assert_eq!(transport.stats().sent, sent + depth, "{transport:?}");
    for _ in 0..depth {
        assert_eq!(peer.receive(), [7; 64]);
    }
    change.allocations + change.reallocations + change.deallocations
}
