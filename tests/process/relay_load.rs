//! Raises the limit on descriptors of the process.
//!
//! Many connections at once through a relay to an echo server.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use support::{BOUND, Rng, drive, pattern, relay_server, settle, splicing_from};
use tidegate::{
    Address, Closed, Completion, EventLoop, OnEof, Protocol, Result, Transport, WriteLimits,
};

const MOST: usize = 1000;
const LARGEST: f64 = 1024.0 * 1024.0;

/// A connection through the relay: the client's, the front, the back, the echo server's, and a pipe each way.
const DESCRIPTORS_EACH: u64 = 8;
/// For the loops, the listeners and whatever the test harness has open.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Sends its message, checks each byte of the echo, and ends when it has all.
struct Client {
    message: Vec<u8>,
    echoed: usize,
    done: Rc<RefCell<Vec<usize>>>,
}

impl Protocol for Client {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        let rest = &self.message[self.echoed..];
        if !rest.starts_with(data) {
            return Err(format!("a wrong byte within {} after {}", data.len(), self.echoed).into());
        }
        self.echoed += data.len();
        if self.echoed == self.message.len() {
            transport.write_eof()?;
        }
        Ok(())
    }

    fn eof_received(&mut self, _: &Transport) -> Result<OnEof> {
        if self.echoed < self.message.len() {
            return Err(format!("the end after {} bytes", self.echoed).into());
        }
        Ok(OnEof::Close)
    }

    fn connection_lost(&mut self, _: &Transport, closed: &Closed) {
        assert!(closed.is_clean(), "{closed}");
        self.done.borrow_mut().push(self.echoed);
    }
}

/// As many as the descriptors allow.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let free = limit.maximum.map_or(MOST, |hard| {
        (hard.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH) as usize
    });
    free.min(MOST)
}

/// From 1 byte to 1 MiB, each order of magnitude as often as the others.
fn sizes(count: usize) -> Vec<usize> {
    let mut rng = Rng::new(1);
    let mut sizes: Vec<_> = (0..count).map(|_| rng.magnitude(LARGEST)).collect();
    sizes[0] = 1;
    sizes[1] = LARGEST as usize;
    sizes
}

/// Runs all clients at once, on a loop of its own; returns the number of bytes that came back.
fn run_clients(address: &Address, sizes: &[usize]) -> usize {
    let mut event_loop = EventLoop::new().unwrap();
    let done: Rc<RefCell<Vec<usize>>> = Rc::default();
    let connecting: Vec<Completion<Transport>> = sizes
        .iter()
        .enumerate()
        .map(|(n, &size)| {
            let client = Client {
                message: pattern((n as u64) << 32, size),
                echoed: 0,
                done: done.clone(),
            };
            event_loop.handle().create_connection(address, client)
        })
        .collect();
    let connected: Vec<_> = connecting
        .into_iter()
        .map(|connecting| event_loop.run_until(connecting).unwrap())
        .collect();
    for transport in connected {
        // All are there before the first byte goes.
        let written = transport.with_protocol(|client: &mut Client, transport| {
            transport.write(&client.message).unwrap();
        });
        assert!(written.is_ok());
    }
    let begun = Instant::now();
    while done.borrow().len() < sizes.len() {
        assert!(begun.elapsed() < 3 * BOUND, "{:#?}", event_loop.handle());
        event_loop.run_once(Some(Duration::from_millis(5))).unwrap();
    }
    settle(&mut event_loop);
    let stats = event_loop.handle().stats();
    assert_eq!((stats.connections, stats.timers), (0, 0));
    done.borrow().iter().sum()
}

#[test]
fn a_thousand_connections_at_once_get_their_own_bytes_back_and_leave_nothing() {
    for splice_from in [usize::MAX, 0] {
        splicing_from(splice_from, all_at_once);
    }
}

fn all_at_once() {
    let sizes = sizes(connections());
    let count = sizes.len();
    let bytes: usize = sizes.iter().sum();
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let echo = handle.create_server("127.0.0.1:0", || Echo).unwrap();
    let (relay, reports) = relay_server(
        &handle,
        "127.0.0.1:0",
        WriteLimits::new(),
        &echo.local_addrs()[0],
    );
    let address = relay.local_addrs()[0].clone();
    let remote = handle.remote();
    let begun = Instant::now();
    let clients = thread::spawn(move || {
        let _stop = StopAtEnd(remote);
        run_clients(&address, &sizes)
    });
    event_loop.run_forever().unwrap();
    let echoed = clients.join().unwrap();
    println!(
        "{count} connections at once, {bytes} bytes each way in {:?}",
        begun.elapsed()
    );
    assert_eq!(echoed, bytes);
    drive(&mut event_loop, "all reports", || {
        reports.borrow().len() == count
    });
    for report in reports.borrow().iter() {
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.to_back.sent, report.to_front.sent);
    }
    let sent: u64 = reports.borrow().iter().map(|one| one.to_back.sent).sum();
    assert_eq!(sent, bytes as u64);
    settle(&mut event_loop);
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.connecting), (0, 0));
    assert_eq!((stats.lingering, stats.timers), (0, 0));
    assert_eq!(stats.completions, 0);
}

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

/// Also when the clients fail.
struct StopAtEnd(tidegate::RemoteHandle);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}
