//! Starts its own process again, and needs thousands of descriptors.
//!
//! Thousands of idle connections to a server in a process of its own: what they cost, and that
//! nothing of them stays.

use socket2::Socket;
use std::io::{Read, Write};
use std::time::Duration;
use support::child::{self, Child, Commands};
use support::{Kind, TempDir, descriptors, dial, drive, resident, that_fit};
use tidegate::{Address, EventLoop, Protocol, Result, Transport};

const CONNECTIONS: usize = 9000;

/// The number of connections that are opened before the first reply; the server's backlog takes them.
const AT_ONCE: usize = 100;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The maximum cost of an idle connection beside the kernel, in bytes: its state, a slot, its
/// protocol. No buffer.
const IDLE: usize = KIB;

const TEST: &str = "idle_connections_cost_little_and_leave_nothing_when_they_end";

const CLOSE: u8 = b'c';

/// Sends back what it receives; closes when it is told to.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        if data.contains(&CLOSE) {
            transport.close();
        } else {
            transport.write(data)?;
        }
        Ok(())
    }
}

/// Serves until the test ends.
fn serve(place: &str) {
    that_fit(CONNECTIONS, 1);
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let server = handle.create_server(place, || Echo).unwrap();
    let commands = Commands::of(&event_loop);
    child::say(&server.local_addrs()[0]);
    loop {
        match commands.next(&mut event_loop).as_str() {
            "report" => {}
            "report when empty" => drive(&mut event_loop, "the end of all connections", || {
                let now = handle.stats();
                now.connections + now.lingering == 0
            }),
            command => panic!("{command}?"),
        }
        let now = handle.stats();
        child::say(format_args!(
            "{} {} {} {} {}",
            now.connections,
            now.lingering + now.connecting + now.timers + now.completions,
            server.connection_count(),
            descriptors(),
            resident()
        ));
    }
}

#[derive(Debug)]
struct Report {
    connections: usize,
    /// Lingering sockets, connects, timers and completions.
    others: usize,
    counted_by_server: usize,
    descriptors: usize,
    resident: usize,
}

fn report(child: &mut Child, command: &str) -> Report {
    let [
        connections,
        others,
        counted_by_server,
        descriptors,
        resident,
    ] = child.numbers(command);
    Report {
        connections,
        others,
        counted_by_server,
        descriptors,
        resident,
    }
}

fn exchange(mut socket: &Socket) {
    socket.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

/// Opens all of them, has each exchange a message, leaves them idle, ends them. Returns the reports of the
/// server meanwhile, and afterwards.
fn round(child: &mut Child, address: &Address, connections: usize) -> (Report, Report) {
    let mut sockets = Vec::with_capacity(connections);
    while sockets.len() < connections {
        let opened = sockets.len();
        let more = AT_ONCE.min(connections - opened);
        sockets.extend((0..more).map(|_| dial(address)));
        sockets[opened..].iter().for_each(exchange);
    }
    let idle = report(child, "report");
    // A third each: the client resets (a Unix socket closes), the server closes, the client does.
    for (n, mut socket) in sockets.into_iter().enumerate() {
        match n % 3 {
            0 => socket.set_linger(Some(Duration::ZERO)).unwrap(),
            1 => {
                socket.write_all(&[CLOSE]).unwrap();
                assert_eq!(socket.read(&mut [0]).unwrap(), 0);
            }
            _ => {}
        }
    }
    (idle, report(child, "report when empty"))
}

/// The name is in [`TEST`] too.
#[test]
fn idle_connections_cost_little_and_leave_nothing_when_they_end() {
    if let Some(place) = child::part() {
        return serve(&place);
    }
    let connections = that_fit(CONNECTIONS, 1);
    for kind in Kind::ALL {
        let dir = TempDir::new();
        let mut child = Child::start(TEST, &kind.somewhere(&dir));
        let place = child.line();
        let address = kind.address(&place);
        let fresh = report(&mut child, "report");
        let (_, first) = round(&mut child, &address, connections);
        let (idle, second) = round(&mut child, &address, connections);

        assert_eq!(idle.connections, connections, "{idle:?}");
        assert_eq!(idle.counted_by_server, connections, "{idle:?}");
        assert_eq!(
            idle.descriptors,
            fresh.descriptors + connections,
            "{idle:?}"
        );
        assert_eq!(idle.others, 0, "{idle:?}");
        let each = idle.resident.saturating_sub(fresh.resident) / connections;
        println!(
            "{kind:?}: {connections} idle connections, {each} bytes resident each; {} KiB before \
             the first, {} KiB after one round, {} KiB after two",
            fresh.resident / KIB,
            first.resident / KIB,
            second.resident / KIB,
        );
        assert!(each <= IDLE, "{each} bytes each");
        for ended in [&first, &second] {
            assert_eq!(ended.connections + ended.counted_by_server, 0);
            assert_eq!(ended.others, 0, "{ended:?}");
            assert_eq!(ended.descriptors, fresh.descriptors, "{ended:?}");
        }
        assert!(
            second.resident <= first.resident + MIB,
            "memory grew from round to round"
        );
    }
}
