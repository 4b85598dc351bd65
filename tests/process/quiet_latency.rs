//! Measures latency, so nothing else may run in the process.
//!
//! Round trips of a quiet connection while another one floods the loop with all it can, with the
//! loop on a thread of its own.
//!
//! It measures the machine as well: the loop, the flood and the quiet client are more
//! threads than there may be cores, and others may want those too. So a measurement that is over
//! the bound is taken again, up to three times in all, and the best one counts. That shows what a
//! user gets of the loop, and would show a loop that sleeps or spins when it should serve; that
//! the flood is held to its share, whether or not the loop is faster than it, is shown without
//! time by `quiet_beside_flood`.

use socket2::Socket;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, Kind, TempDir, dial};
use tidegate::{Address, EventLoop, Handle, Protocol, RemoteHandle, Result, Transport};

const ROUND_TRIPS: usize = 1000;

const BOUND_OF_P99: Duration = Duration::from_millis(10);

const TRIES: usize = 3;

/// The minimum number of bytes a second of a flood.
const FLOOD: u64 = 16 << 20;

struct Sink;

impl Protocol for Sink {}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// A server of its own for each of them, on one loop.
struct Servers {
    echo: Address,
    sink: Address,
    remote: RemoteHandle,
}

impl Servers {
    fn start(kind: Kind) -> (Self, thread::JoinHandle<()>) {
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let (one, other) = (TempDir::new(), TempDir::new());
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle();
            let echo = handle.create_server(kind.somewhere(&one), || Echo).unwrap();
            let sink = handle
                .create_server(kind.somewhere(&other), || Sink)
                .unwrap();
            let servers = Self {
                echo: echo.local_addrs()[0].clone(),
                sink: sink.local_addrs()[0].clone(),
                remote: handle.remote(),
            };
            ready.send(servers).unwrap();
            event_loop.run_forever().unwrap();
        });
        (is_ready.recv_timeout(BOUND).unwrap(), thread)
    }

    /// Returns the number of bytes that the loop has received so far.
    fn received(&self) -> u64 {
        let (sender, answer) = mpsc::channel();
        let ask = move |handle: &Handle| {
            let _ = sender.send(handle.stats().bytes_received);
        };
        self.remote.call_soon_threadsafe(ask).unwrap();
        answer.recv_timeout(BOUND).unwrap()
    }
}

/// Writes as much as its transport takes.
struct Flooder {
    block: Vec<u8>,
}

impl Flooder {
    fn write(&self, transport: &Transport) -> Result {
        while !transport.write(&self.block)?.is_paused() {}
        Ok(())
    }
}

impl Protocol for Flooder {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.write(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.write(transport)
    }
}

/// A flood on a loop and a thread of its own, until it is dropped.
struct Flooding {
    remote: RemoteHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flooding {
    fn start(address: &Address) -> Self {
        let address = address.clone();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut event_loop = EventLoop::new().unwrap();
            let flooder = Flooder {
                block: vec![7; 128 * 1024],
            };
            let connect = event_loop.handle().create_connection(&address, flooder);
            let _flooder = event_loop.run_until(connect).unwrap();
            ready.send(event_loop.handle().remote()).unwrap();
            event_loop.run_forever().unwrap();
        });
        Self {
            remote: is_ready.recv_timeout(BOUND).unwrap(),
            thread: Some(thread),
        }
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        self.remote.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The 99th percentile of the round trips of a small message.
fn p99(quiet: &mut Socket) -> Duration {
    let mut times: Vec<_> = (0..ROUND_TRIPS)
        .map(|n| {
            let message = [n as u8; 64];
            let mut answer = [0; 64];
            let begun = Instant::now();
            quiet.write_all(&message).unwrap();
            quiet.read_exact(&mut answer).unwrap();
            assert_eq!(answer, message);
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[ROUND_TRIPS * 99 / 100]
}

/// Returns the percentile beside the flood, and the flood's bytes per second.
fn beside_a_flood(servers: &Servers, quiet: &mut Socket) -> (Duration, u64) {
    let _flooding = Flooding::start(&servers.sink);
    let begun = Instant::now();
    let before = servers.received();
    while servers.received() < before + FLOOD {
        assert!(begun.elapsed() < BOUND, "that is no flood");
    }
    // It is under way.
    let (begun, before) = (Instant::now(), servers.received());
    let p99 = p99(quiet);
    let received = servers.received() - before;
    (
        p99,
        (received as f64 / begun.elapsed().as_secs_f64()) as u64,
    )
}

#[test]
fn a_round_trip_beside_a_flood_takes_under_10_ms_in_99_of_100_cases() {
    for kind in Kind::ALL {
        let (servers, thread) = Servers::start(kind);
        let mut quiet = dial(&servers.echo);
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let alone = p99(&mut quiet);
            let (p99, rate) = beside_a_flood(&servers, &mut quiet);
            println!(
                "{kind:?}: p99 {alone:?} alone, {p99:?} beside a flood of {} MiB/s",
                rate >> 20
            );
            assert!(rate >= FLOOD, "that is no flood");
            best = best.min(p99);
            if best < BOUND_OF_P99 {
                break;
            }
        }
        assert!(best < BOUND_OF_P99, "{kind:?}: {best:?} at best");
        servers.remote.stop();
        thread.join().unwrap();
    }
}
