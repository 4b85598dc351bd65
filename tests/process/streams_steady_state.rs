//! Counts the allocations of the process.
//!
//! The cost of a message that a task echoes, once everything is warm: the system calls of the
//! callback echo, and no allocation.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::time::Duration;
use support::{BOUND, Kind, TempDir, dial, drive, settle};
use tidegate::{Address, EventLoop, Handle, LoopStats, Protocol, Result, Transport};
use tidegate_streams::{StreamReader, StreamWriter, start_server_on};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZE: usize = 64;
const ROUNDS: u64 = 300;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

type Serve = fn(&Handle, String) -> Address;

fn callbacks(handle: &Handle, at: String) -> Address {
    let server = handle.create_server(at, || Echo).unwrap();
    server.local_addrs()[0].clone()
}

/// `write` and `drain`, as most would write it.
fn drains(handle: &Handle, at: String) -> Address {
    let echo = async |mut reader: StreamReader, writer: StreamWriter| {
        let mut buffer = [0; 1024];
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok(()),
                len => writer.write(&buffer[..len])?,
            };
            writer.drain().await?;
        }
    };
    let server = start_server_on(handle, at, echo).unwrap();
    server.local_addrs()[0].clone()
}

/// The same with messages of a known length.
fn exact(handle: &Handle, at: String) -> Address {
    let echo = async |mut reader: StreamReader, writer: StreamWriter| {
        let mut message = [0; SIZE];
        loop {
            reader.read_exact(&mut message).await?;
            writer.write(&message)?;
            writer.drain().await?;
        }
    };
    let server = start_server_on(handle, at, echo).unwrap();
    server.local_addrs()[0].clone()
}

/// Sends one message of each client there and back; returns the allocations, reallocations and frees.
fn round(event_loop: &mut EventLoop, clients: &mut [socket2::Socket]) -> usize {
    let answered = event_loop.handle().stats().bytes_sent + (clients.len() * SIZE) as u64;
    for client in &mut *clients {
        assert_eq!(client.write(&[7; SIZE]).unwrap(), SIZE);
    }
    let mut changes = 0;
    while event_loop.handle().stats().bytes_sent < answered {
        let region = Region::new(GLOBAL);
        event_loop.run_once(Some(BOUND)).unwrap();
        let change = region.change();
        changes += change.allocations + change.reallocations + change.deallocations;
    }
    for client in clients {
        let mut answer = [0; SIZE];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [7; SIZE]);
    }
    changes
}

/// Returns the figures of all rounds: (reads, writes, registrations), and polls.
fn measure(kind: Kind, peers: usize, serve: Serve) -> ([u64; 3], u64, usize) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let address = serve(event_loop.handle(), kind.somewhere(&dir));
    let mut clients: Vec<_> = (0..peers).map(|_| dial(&address)).collect();
    drive(&mut event_loop, "accepted", || true);
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connections, peers);
    // For the memory that is kept, and past the points where a writer gives way.
    for _ in 0..3 {
        round(&mut event_loop, &mut clients);
    }
    let before = event_loop.handle().stats();
    let allocations = (0..ROUNDS)
        .map(|_| round(&mut event_loop, &mut clients))
        .sum();
    // The work after the last reply.
    event_loop.run_once(Some(Duration::ZERO)).unwrap();
    let after = event_loop.handle().stats();
    let (calls, polls) = moved(&before, &after);
    (calls, polls, allocations)
}

fn moved(before: &LoopStats, after: &LoopStats) -> ([u64; 3], u64) {
    let calls = [
        after.reads - before.reads,
        after.writes - before.writes,
        after.registrations - before.registrations,
    ];
    (calls, after.polls - before.polls)
}

#[test]
fn a_message_echoed_by_a_task_costs_what_a_callback_costs_and_no_allocation() {
    for kind in Kind::ALL {
        for peers in [1, 16] {
            let messages = ROUNDS * peers as u64;
            let (expected, polls, _) = measure(kind, peers, callbacks);
            assert_eq!(expected, [messages, messages, 0]);
            for (name, serve) in [("drains", drains as Serve), ("exact", exact)] {
                let (calls, with_tasks, allocations) = measure(kind, peers, serve);
                assert_eq!(calls, expected, "{kind:?} {name}, {peers} peers");
                assert_eq!(allocations, 0, "{kind:?} {name}, {peers} peers");
                // A tick now and then for a writer that gives way, and for what comes in pieces.
                let most = polls + polls / 8;
                assert!(
                    with_tasks <= most,
                    "{kind:?} {name}: {with_tasks} polls for {polls}"
                );
            }
        }
    }
}
