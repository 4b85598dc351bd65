//! Servers of async handlers on several loops.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use tidegate::{EventLoop, ListenOptions, Result};
use tidegate_service::{Spread, Workers, WorkersServer};
use tidegate_streams::{StreamReader, StreamWriter};

const BOUND: Duration = Duration::from_secs(30);

const SPREADS: [Spread; 3] = [
    Spread::LeastConnections,
    Spread::RoundRobin,
    Spread::ReusePort,
];

/// A server that replies to each line with the number of lines that its loop has had, and its thread.
fn serve(spread: Spread) -> (Workers, WorkersServer) {
    let workers = Workers::start(2, "web", EventLoop::builder).unwrap();
    let options = |options: ListenOptions| options.max_connections(8);
    let server = workers.start_server("127.0.0.1:0", options, spread, |_| {
        let lines = Rc::new(Cell::new(0));
        async move |mut reader: StreamReader, writer: StreamWriter| -> Result {
            let mut own = reader.lines();
            while own.next().await?.is_some() {
                lines.set(lines.get() + 1);
                let thread = thread::current();
                writeln!(
                    writer,
                    "{} {}",
                    lines.get(),
                    thread.name().unwrap_or_default()
                )?;
                writer.drain().await?;
            }
            Ok(())
        }
    });
    (workers, server.unwrap())
}

fn dial(server: &WorkersServer) -> TcpStream {
    let addr = server.local_addrs()[0].as_inet().unwrap();
    let peer = TcpStream::connect(addr).unwrap();
    peer.set_read_timeout(Some(BOUND)).unwrap();
    peer
}

fn ask(peer: &mut TcpStream) -> String {
    peer.write_all(b"?\n").unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_handler_runs_for_each_connection_and_shares_what_its_loop_has() {
    for spread in SPREADS {
        let (workers, server) = serve(spread);
        let mut peers: Vec<_> = (0..8).map(|_| dial(&server)).collect();
        let mut next = [1, 1];
        for peer in &mut peers {
            let reply = ask(peer);
            let (number, name) = reply.trim().split_once(' ').unwrap();
            let next = &mut next[usize::from(name == "web-1")];
            assert_eq!(number.parse(), Ok(*next), "{reply}");
            *next += 1;
        }
        assert_eq!(server.connections().iter().sum::<usize>(), 8);
        drop(peers);
        // The places of these are free again.
        for _ in 0..16 {
            ask(&mut dial(&server));
        }
        workers.shutdown(BOUND);
    }
}

#[test]
fn a_shutdown_waits_for_the_handlers_within_its_grace() {
    for spread in SPREADS {
        let (workers, server) = serve(spread);
        let mut peers: Vec<_> = (0..4).map(|_| dial(&server)).collect();
        for peer in &mut peers {
            ask(peer);
        }
        // These end by themselves while the shutdown waits for them.
        let ending = thread::spawn(move || {
            for peer in &mut peers {
                ask(peer);
                peer.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(peer.read(&mut [0]).unwrap(), 0);
            }
        });
        let (report, _) = workers.shutdown(BOUND);
        assert_eq!((report.aborted, report.unsent), (0, 0), "{spread:?}");
        ending.join().unwrap();

        let (workers, server) = serve(spread);
        let mut stays = dial(&server);
        ask(&mut stays);
        let (report, _) = workers.shutdown(Duration::ZERO);
        assert_eq!((report.closed, report.aborted), (0, 1), "{spread:?}");
    }
}
