//! The client: one thread that waits for any of its connections, and sends the next message on it.

use super::servers::digest;
use super::{Figures, MESSAGE};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process;
use std::time::{Duration, Instant};
use tidegate_bench::program::Result;
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::service::source_block;
use tidegate_bench::usage::cpu_time;

const CONNECTIONS: usize = 8;
/// The time before the measurement.
const WARM_UP: Duration = Duration::from_millis(200);
/// A reply that takes longer is an error.
const REPLY: Duration = Duration::from_secs(20);

/// The state of everything at a point in time.
struct Mark {
    at: Instant,
    messages: u64,
    server: Duration,
    client: Duration,
}

impl Mark {
    fn now(server: &ServerProcess, messages: u64) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            messages,
            server: cpu_time(server.pid())?,
            client: cpu_time(process::id())?,
        })
    }

    fn since(&self, before: &Self) -> Figures {
        let seconds = (self.at - before.at).as_secs_f64();
        Figures {
            per_second: (self.messages - before.messages) as f64 / seconds,
            server: self.server.saturating_sub(before.server).as_secs_f64() / seconds,
            client: self.client.saturating_sub(before.client).as_secs_f64() / seconds,
        }
    }
}

/// Keeps one message under way on each connection for this time.
pub(super) fn run(server: &ServerProcess, time: Duration) -> Result<Figures> {
    let message = &source_block()[..MESSAGE];
    let expected = digest(message)?;
    let mut poll = Poll::new()?;
    let mut peers = Vec::new();
    for number in 0..CONNECTIONS {
        // It blocks: a whole message is for the kernel to take, and a reply comes as a whole.
        let peer = TcpStream::connect(server.address())?;
        peer.set_nodelay(true)?;
        peer.set_read_timeout(Some(REPLY))?;
        peer.set_write_timeout(Some(REPLY))?;
        let registry = poll.registry();
        let fd = peer.as_raw_fd();
        registry.register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
        peers.push(peer);
    }
    for peer in &mut peers {
        peer.write_all(message)?;
    }
    let mut events = Events::with_capacity(CONNECTIONS);
    let mut reply = vec![0; expected.len()];
    let mut messages = 0;
    let mut begin: Option<Mark> = None;
    let warm = Instant::now() + WARM_UP;
    loop {
        poll.poll(&mut events, Some(REPLY))?;
        if events.is_empty() {
            return Err("no reply in time".into());
        }
        for event in &events {
            let peer = &mut peers[event.token().0];
            peer.read_exact(&mut reply)?;
            if reply != expected {
                return Err("a wrong digest".into());
            }
            peer.write_all(message)?;
            messages += 1;
        }
        if let Some(begin) = &begin {
            if begin.at.elapsed() >= time {
                return Ok(Mark::now(server, messages)?.since(begin));
            }
        } else if Instant::now() >= warm {
            begin = Some(Mark::now(server, messages)?);
        }
    }
}
