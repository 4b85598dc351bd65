//! Counts the allocations of the process.
//!
//! The cost of an echoed message once everything is warm: one read, one write, nothing else.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::time::Duration;
use support::{Kind, Log, Recorder, TempDir, drive, settle};
use tidegate::{EventLoop, Handle, LoopStats, Protocol, Result, Transport};
use tidegate_framing::{Fixed, framed};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZE: usize = 64;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// The same with a limit on a stall, of which there is none.
struct TimedEcho;

impl Protocol for TimedEcho {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        transport.set_write_timeout(Some(Duration::from_secs(60)));
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        Echo.data_received(transport, data)
    }
}

/// The same through `get_buffer`.
struct BufferedEcho([u8; 1024]);

impl Protocol for BufferedEcho {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result {
        unreachable!("bytes go into the buffer")
    }

    fn get_buffer(&mut self, _: &Transport, _: usize) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }

    fn buffer_updated(&mut self, transport: &Transport, len: usize) -> Result {
        transport.write(&self.0[..len])?;
        Ok(())
    }
}

/// A plain blocking socket, so that the loop under measure serves nothing else.
struct Client(socket2::Socket);

impl Client {
    fn send(&mut self) {
        assert_eq!(self.0.write(&[7; SIZE]).unwrap(), SIZE);
    }

    fn receive(&mut self) {
        let mut answer = [0; SIZE];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [7; SIZE]);
    }
}

/// The counters that moved, as (reads, writes, registrations, callbacks).
fn moved(before: &LoopStats, after: &LoopStats) -> [u64; 4] {
    [
        after.reads - before.reads,
        after.writes - before.writes,
        after.registrations - before.registrations,
        after.callbacks - before.callbacks,
    ]
}

/// Sends one message of each client there and back; returns the loop's allocations, reallocations and
/// frees for it.
fn round(event_loop: &mut EventLoop, clients: &mut [Client]) -> usize {
    let answered = event_loop.handle().stats().writes + clients.len() as u64;
    clients.iter_mut().for_each(Client::send);
    let mut changes = 0;
    while event_loop.handle().stats().writes < answered {
        let region = Region::new(GLOBAL);
        event_loop.run_once(Some(Duration::from_secs(60))).unwrap();
        let change = region.change();
        changes += change.allocations + change.reallocations + change.deallocations;
    }
    clients.iter_mut().for_each(Client::receive);
    changes
}

type Serve = fn(&Handle, String) -> tidegate::Server;

#[test]
fn an_echoed_message_costs_one_read_and_one_write_and_no_allocation() {
    let servers: [(&str, Serve); 4] = [
        ("plain", |handle, at| {
            handle.create_server(at, || Echo).unwrap()
        }),
        ("timed", |handle, at| {
            handle.create_server(at, || TimedEcho).unwrap()
        }),
        ("buffered", |handle, at| {
            handle
                .create_server(at, || BufferedEcho([0; 1024]))
                .unwrap()
        }),
        ("framed", |handle, at| {
            let echo = || {
                framed(Fixed::new(SIZE), |transport, message| {
                    transport.write(message)?;
                    Ok(())
                })
            };
            handle.create_server(at, echo).unwrap()
        }),
    ];
    for kind in Kind::ALL {
        for (name, serve) in servers {
            for peers in [1, 16] {
                let mut event_loop = EventLoop::new().unwrap();
                let dir = TempDir::new();
                let server = serve(event_loop.handle(), kind.somewhere(&dir));
                let address = server.local_addrs()[0].clone();
                let mut clients: Vec<_> = (0..peers).map(|_| connect(&address)).collect();
                drive(&mut event_loop, "accepted", || {
                    server.connection_count() == peers
                });
                // Once for the memory that is kept.
                for _ in 0..3 {
                    round(&mut event_loop, &mut clients);
                }
                let before = event_loop.handle().stats();
                let rounds = 200;
                let mut allocations = 0;
                for _ in 0..rounds {
                    allocations += round(&mut event_loop, &mut clients);
                }
                let after = event_loop.handle().stats();
                let messages = rounds * peers as u64;
                assert_eq!(
                    moved(&before, &after),
                    [messages, messages, 0, messages],
                    "{kind:?} {name}, {peers} peers"
                );
                // Almost always one a round.
                let polls = after.polls - before.polls;
                assert!(polls <= 2 * rounds, "{polls} polls in {rounds} rounds");
                assert_eq!(allocations, 0, "{kind:?} {name}, {peers} peers");
                // The listener and each connection, once in their lives.
                drop(clients);
                drive(&mut event_loop, "the end", || {
                    server.connection_count() == 0
                });
                settle(&mut event_loop);
                let registrations = event_loop.handle().stats().registrations;
                assert_eq!(registrations, 1 + peers as u64);
            }
        }
        a_connection_is_registered_once_in_its_life(kind);
    }
}

fn connect(address: &tidegate::Address) -> Client {
    let (domain, addr) = match address {
        tidegate::Address::Inet(addr) => (socket2::Domain::IPV4, (*addr).into()),
        tidegate::Address::Unix(path) => (
            socket2::Domain::UNIX,
            socket2::SockAddr::unix(path).unwrap(),
        ),
        _ => unreachable!("servers have addresses"),
    };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.connect(&addr).unwrap();
    if matches!(address, tidegate::Address::Inet(_)) {
        socket.set_tcp_nodelay(true).unwrap();
    }
    Client(socket)
}

/// Whatever it lives through: pauses of either side, a protocol's change, a close that lingers.
fn a_connection_is_registered_once_in_its_life(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let server = event_loop
        .handle()
        .create_server(kind.somewhere(&dir), || Echo)
        .unwrap();
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(&server.local_addrs()[0], Recorder::new(&log));
    let transport = event_loop.run_until(connecting).unwrap();
    let total = 4 << 20;
    // More than the kernel holds, so both ends pause.
    transport.pause_reading();
    transport.write(&vec![1; total]).unwrap();
    settle(&mut event_loop);
    assert!(transport.flow().is_paused() || transport.write_buffer_size() == 0);
    transport.resume_reading();
    drive(&mut event_loop, "the echo", || log.data_len() == total);
    let switched = Log::new().switched_in();
    transport
        .set_protocol(Recorder::new(&switched), b"")
        .unwrap();
    settle(&mut event_loop);
    transport.close();
    drive(&mut event_loop, "the end", || {
        switched.is_lost() && server.connection_count() == 0
    });
    settle(&mut event_loop);
    // The listener, the connection that we opened, and the one that was accepted.
    assert_eq!(event_loop.handle().stats().registrations, 3, "{kind:?}");
}
