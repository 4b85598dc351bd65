//! Counts the allocated bytes of the process.
//!
//! The memory of connections with TLS: idle, with peers that do not read, with half a record, and after
//! a burst of them.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;
use support::{
    Authority, Kind, MIB, Peer, TlsPeer, adopted, drive, never_paused, pattern, settle, stall,
};
use tidegate::{EventLoop, Protocol, Result, Transport};
use tidegate_tls::prelude::*;
use tidegate_tls::rustls::client::{ClientConfig, Resumption};
use tidegate_tls::rustls::server::{NoServerSessionStorage, ServerConfig};
use tidegate_tls::rustls::version::{TLS12, TLS13};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The bytes that are encrypted and not taken by the kernel, at most.
const BATCH: isize = 128 * 1024;

/// The bytes of a connection with TLS for which nothing waits, with its transport and protocol.
const IDLE: isize = 6_000;

/// One test, because others would be counted.
#[test]
fn tls_has_memory_only_for_what_waits_and_a_burst_of_it_is_given_back() {
    for versions in [&[&TLS12], &[&TLS13]] {
        let authority = Authority::new();
        let mut server = authority.server_of(versions);
        let mut client = authority.client_of(versions);
        // Sessions that a server keeps are no memory of a connection.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        let configs = (Arc::new(server), Arc::new(client));
        for kind in Kind::ALL {
            let mut ends = Ends::new(kind, &configs);
            ends.idle();
            ends.half_a_record();
            ends.stalled();
        }
        Ends::new(Kind::Unix, &configs).burst();
    }
}

/// Bytes that are allocated now.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    // A reallocation that grows counts as allocated, one that shrinks as deallocated.
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Keeps no bytes.
#[derive(Clone, Default)]
struct Count(Rc<Cell<usize>>);

impl Protocol for Count {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result {
        self.0.set(self.0.get() + data.len());
        Ok(())
    }
}

/// A connection of the loop, and its peer, which has a session of its own.
struct Connection {
    transport: Transport,
    peer: TlsPeer,
    count: Count,
}

/// Makes both ends of connections.
struct Ends {
    event_loop: EventLoop,
    kind: Kind,
    configs: (Arc<ServerConfig>, Arc<ClientConfig>),
}

impl Ends {
    fn new(kind: Kind, configs: &(Arc<ServerConfig>, Arc<ClientConfig>)) -> Self {
        let mut ends = Self {
            event_loop: EventLoop::new().unwrap(),
            kind,
            configs: configs.clone(),
        };
        // The loop gets the memory that it lends to layers.
        let first = ends.connection();
        ends.end(first);
        ends
    }

    /// Begins a connection.
    fn begin(&self) -> Connection {
        let count = Count::default();
        let (transport, peer) = adopted(self.event_loop.handle(), self.kind, count.clone());
        transport
            .start_tls_server(self.configs.0.clone(), b"")
            .detach();
        never_paused(&transport);
        Connection {
            transport,
            peer: TlsPeer::client(peer, &self.configs.1),
            count,
        }
    }

    /// Makes a connection that has sent and received enough that everything was needed once.
    fn connection(&mut self) -> Connection {
        let mut connection = self.begin();
        let event_loop = &mut self.event_loop;
        let Connection {
            transport,
            peer,
            count,
        } = &mut connection;
        peer.shake_hands(event_loop);
        peer.send(&[1; 50_000]);
        peer.until(event_loop, "the data", |_| count.0.get() == 50_000);
        transport.write(&[2; 300_000]).unwrap();
        peer.expect(event_loop, 300_000);
        settle(event_loop);
        connection
    }

    /// Ends a connection. Returns the number of bytes that this gives back, of the loop's end alone.
    fn end(&mut self, connection: Connection) -> isize {
        let Connection {
            transport,
            peer,
            count,
        } = connection;
        let before = held();
        transport.abort();
        settle(&mut self.event_loop);
        drop((transport, count));
        settle(&mut self.event_loop);
        let given_back = before - held();
        drop(peer);
        given_back
    }

    fn idle(&mut self) {
        let connection = self.connection();
        let bytes = self.end(connection);
        println!("{:?}: {bytes} bytes of an idle one", self.kind);
        assert!((1_000..IDLE).contains(&bytes), "{bytes} bytes");
    }

    fn half_a_record(&mut self) {
        let mut connection = self.connection();
        let record = connection.peer.records_of(&pattern(0, 16_000));
        let (half, rest) = record.split_at(9_000);
        let before = held();
        self.pass(&mut connection, half);
        let bytes = held() - before;
        assert!((9_000..2 * 9_000).contains(&bytes), "{bytes} bytes");
        self.pass(&mut connection, rest);
        assert_eq!(connection.count.0.get(), 50_000 + 16_000);
        let bytes = held() - before;
        assert!(bytes < 100, "{bytes} bytes are kept");
    }

    /// Has the loop read this.
    fn pass(&mut self, connection: &mut Connection, wire: &[u8]) {
        let handle = self.event_loop.handle().clone();
        let before = handle.stats().events;
        connection.peer.wire().send(wire);
        drive(&mut self.event_loop, "the bytes", || {
            handle.stats().events > before
        });
        settle(&mut self.event_loop);
    }

    /// Each peer is owed plenty.
    fn stalled(&mut self) {
        const COUNT: usize = 10;
        let connections: Vec<_> = (0..COUNT).map(|_| self.connection()).collect();
        let before = held();
        for connection in &connections {
            stall(&mut self.event_loop, &connection.transport, MIB);
        }
        let waiting = |connection: &Connection| connection.transport.write_buffer_size() as isize;
        let plain: isize = connections.iter().map(waiting).sum();
        let bytes = held() - before;
        println!("{:?}: {bytes} bytes for {plain}", self.kind);
        assert!(bytes > plain / 2, "nothing was measured");
        // The memory of a queue of some bytes is an eighth more.
        let most = plain + plain / 8 + COUNT as isize * (BATCH + IDLE);
        assert!(bytes <= most, "{bytes} bytes for {plain}");
        let peers: Vec<_> = connections
            .into_iter()
            .map(|connection| (connection.transport, connection.peer.into_parts().0))
            .collect();
        drive(&mut self.event_loop, "all of it", || {
            peers.iter().for_each(|(_, peer)| discard(peer));
            peers
                .iter()
                .all(|(transport, _)| transport.write_buffer_size() == 0)
        });
        settle(&mut self.event_loop);
        let bytes = held() - before;
        assert!(bytes <= 2 * BATCH, "{bytes} bytes are kept");
    }

    /// Some are left, which go on.
    fn burst(&mut self) {
        const COUNT: usize = 300;
        const LEFT: usize = 3;
        let before = held();
        let mut all: Vec<_> = (0..COUNT).map(|_| self.begin()).collect();
        drive(&mut self.event_loop, "the handshakes", || {
            all.iter_mut().for_each(|connection| connection.peer.step());
            all.iter().all(|connection| {
                connection.transport.tls().is_some() && !connection.peer.tls.is_handshaking()
            })
        });
        settle(&mut self.event_loop);
        let peak = held() - before;
        let mut left = all.split_off(COUNT - LEFT);
        for connection in &all {
            connection.transport.close();
        }
        drop(all);
        settle(&mut self.event_loop);
        let kept = held() - before;
        println!("{COUNT} with both ends: {peak} bytes at the peak, {kept} left");
        assert!(peak > COUNT as isize * IDLE, "only {peak} bytes");
        let most = 256 * 1024;
        assert!(kept < most, "{kept} bytes are left of {peak}");
        for Connection {
            transport, peer, ..
        } in &mut left
        {
            transport.write(b"still here").unwrap();
            peer.expect(&mut self.event_loop, 10);
            assert_eq!(peer.received(), b"still here");
        }
    }
}

/// Reads what there is, and keeps nothing of it.
fn discard(peer: &Peer) {
    let mut buffer = [0; 32 * 1024];
    while let Ok(1..) = (&*peer.as_sock()).read(&mut buffer) {}
}
