//! Counts the allocations of the process.
//!
//! Clients that send very many small requests at once and read the long replies late: the example
//! `key_value`, and the programs at the front of both READMEs.

#[path = "../../examples/key_value.rs"]
#[expect(dead_code, reason = "the main program")]
mod key_value;

use key_value::{CAP, clients};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use support::{BOUND, Kind, Peer, Scene};
use tidegate::{EventLoop, Protocol, Result, Transport, WriteLimits};
use tidegate_framing::{Lines, framed};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 2;
const REQUESTS: usize = 1000;
const REPLY: usize = 100_000;

/// The size of the loop's read buffer.
const ONE_READ: usize = 128 * 1024;

/// The maximum memory beside that of connections: the value, the memory of a reply, that of reads, and
/// blocks of buffers that are not full.
const CONSTANT: usize = 2 * REPLY + 3 * ONE_READ;

fn held() -> isize {
    let stats = GLOBAL.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// One test, because others would be counted.
#[test]
fn a_client_that_reads_late_gets_all_replies_and_the_server_holds_two_at_most_above_the_mark() {
    let value = vec![b'x'; REPLY];
    for kind in Kind::ALL {
        let set = [
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n",
            &value[..],
            b"\r\n",
        ]
        .concat();
        let reply = [b"$100000\r\n", &value[..], b"\r\n"].concat();
        let store = clients(1 << 20);
        // The first request sets the value.
        let mut talks = Talks::new(kind, &store, b"GET a\n", &reply);
        talks.first(&set, b"+OK\r\n");
        talks.run("key_value");

        let write = |transport: &Transport, _: &[u8]| {
            transport.write(&[b'x'; REPLY])?;
            Ok(())
        };
        let lines = move || framed(Lines::new().max(1000), write);
        Talks::new(kind, lines, b"a\n", &value).run("the README of tidegate-framing");

        Talks::new(kind, || Echo, &value, &value).run("the README");
    }
}

/// The program at the front of the README.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        transport.write(data)?;
        Ok(())
    }
}

struct Talk<'a> {
    transport: Transport,
    peer: Peer,
    requests: Repeated<'a>,
    replies: Repeated<'a>,
}

/// The same bytes a thousand times.
struct Repeated<'a> {
    bytes: &'a [u8],
    done: usize,
}

impl<'a> Repeated<'a> {
    fn rest(&self) -> &'a [u8] {
        match self.done < REQUESTS * self.bytes.len() {
            true => &self.bytes[self.done % self.bytes.len()..],
            false => &[],
        }
    }
}

struct Talks<'a> {
    event_loop: EventLoop,
    talks: Vec<Talk<'a>>,
    before: isize,
    buffer: Vec<u8>,
    largest: usize,
}

impl<'a> Talks<'a> {
    fn new<P: Protocol>(
        kind: Kind,
        protocol: impl Fn() -> P,
        request: &'a [u8],
        reply: &'a [u8],
    ) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let limits = WriteLimits::new().with_cap(CAP);
        let talks = (0..CONNECTIONS).map(|_| {
            let scene = Scene::of(kind).limits(limits);
            let (transport, peer) = scene.on(&mut event_loop, protocol());
            let [requests, replies] = [request, reply].map(|bytes| Repeated { bytes, done: 0 });
            Talk {
                transport,
                peer,
                requests,
                replies,
            }
        });
        Self {
            talks: talks.collect(),
            event_loop,
            before: 0,
            buffer: vec![0; 256 * 1024],
            largest: 0,
        }
    }

    fn first(&mut self, request: &[u8], reply: &[u8]) {
        let talk = &mut self.talks[0];
        talk.peer.send(request);
        talk.peer.expect(&mut self.event_loop, reply.len());
        assert_eq!(talk.peer.received(), reply);
    }

    fn run(&mut self, name: &str) {
        self.before = held();
        // The peers send, until nothing moves, and read nothing.
        let mut idle = 0;
        while idle < 10 {
            idle = if self.send() > 0 { 0 } else { idle + 1 };
            self.tick(name);
        }
        let high = WriteLimits::new().high();
        assert!(self.largest > high, "{name}: they were paused");
        let start = Instant::now();
        while self
            .talks
            .iter()
            .any(|talk| !talk.replies.rest().is_empty())
        {
            assert!(
                start.elapsed() < 2 * BOUND,
                "{name}: {:?}",
                self.event_loop.handle().stats()
            );
            self.send();
            self.receive(name);
            self.tick(name);
        }
        let bound = high + 2 * self.talks[0].replies.bytes.len();
        println!(
            "{name}: at most {} of {bound} bytes in a write buffer",
            self.largest
        );
    }

    fn send(&mut self) -> usize {
        let mut moved = 0;
        for talk in &mut self.talks {
            while let rest @ [_, ..] = talk.requests.rest()
                && let Ok(n) = (&*talk.peer.as_sock()).write(rest)
            {
                talk.requests.done += n;
                moved += n;
            }
        }
        moved
    }

    fn receive(&mut self, name: &str) {
        for talk in &mut self.talks {
            let Ok(n @ 1..) = (&*talk.peer.as_sock()).read(&mut self.buffer) else {
                continue;
            };
            let mut got = &self.buffer[..n];
            while let [_, ..] = got {
                let rest = talk.replies.rest();
                let len = rest.len().min(got.len());
                assert!(len > 0 && got[..len] == rest[..len], "{name}: other bytes");
                talk.replies.done += len;
                got = &got[len..];
            }
        }
    }

    fn tick(&mut self, name: &str) {
        self.event_loop
            .run_once(Some(Duration::from_millis(1)))
            .unwrap();
        let each = WriteLimits::new().high() + 2 * self.talks[0].replies.bytes.len();
        for talk in &self.talks {
            let buffered = talk.transport.stats().write_buffer_size;
            self.largest = self.largest.max(buffered);
            assert!(buffered <= each, "{name}: {:?}", talk.transport.stats());
            assert!(
                talk.transport.closed().is_none(),
                "{name}: {:?}",
                talk.transport.closed()
            );
        }
        let grown = held() - self.before;
        let bound = CONNECTIONS * (each + ONE_READ) + CONSTANT;
        assert!(grown <= bound as isize, "{name}: {grown} bytes of {bound}");
    }
}
