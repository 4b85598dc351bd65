//! `batch_received`: behind the datagrams of one tick, and at no cost where nobody listens.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::{DatagramPeer, Datagrams};
use support::{BOUND, TempDir, drive, failures, settle};
use tidegate::{
    Address, CloseReason, DatagramOptions, DatagramProtocol, DatagramTransport, EventLoop, Result,
};
use tidegate_testkit::{DatagramRecorder, Fault, Log, World};

/// A protocol that notes the ends of batches.
fn noting(log: &Log) -> DatagramRecorder {
    let noted = log.clone();
    DatagramRecorder::new(log).on_batch(move |_| {
        noted.note("batch");
        Ok(())
    })
}

fn endpoint(
    event_loop: &EventLoop,
    options: impl Into<DatagramOptions>,
    protocol: impl DatagramProtocol,
) -> DatagramTransport {
    let handle = event_loop.handle();
    handle.create_datagram_endpoint(options, protocol).unwrap()
}

/// The words of a record from `connection_made` on, each datagram as `d`.
fn words(log: &Log) -> String {
    let words: Vec<_> = log.words().into_iter().skip(1).collect();
    words.join(" ").replace("datagram", "d")
}

#[test]
fn a_batch_ends_once_behind_the_datagrams_of_a_tick() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let log = Log::new();
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), noting(&log));
        let peers = ["b", "c"].map(|name| DatagramPeer::new(wire, &dir, name));
        for (expected, from) in [("d d d batch", [0, 1, 0]), ("d d d batch", [1, 1, 0])] {
            let before = words(&log);
            for n in from {
                peers[n].send_to(&[n as u8], transport.local_addr());
            }
            drive(&mut event_loop, "the batch", || words(&log) != before);
            settle(&mut event_loop);
            let all = words(&log);
            let new = all.strip_prefix(&before).unwrap();
            assert_eq!(new.trim(), expected, "{wire:?}");
        }
    }
}

#[test]
fn a_share_of_a_tick_is_a_batch() {
    for wire in Datagrams::of_udp() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let log = Log::new();
        let options = wire.local(&dir, "a").receive_buffer(1 << 20);
        let transport = endpoint(&event_loop, options, noting(&log));
        settle(&mut event_loop);
        let peer = DatagramPeer::new(wire, &dir, "b");
        for _ in 0..100 {
            peer.send_to(b"x", transport.local_addr());
        }
        for expected in [64, 36] {
            event_loop.run_once(Some(BOUND)).unwrap();
            let expected = format!("{}batch", "d ".repeat(expected));
            assert!(words(&log).ends_with(&expected), "{wire:?} {log:?}");
        }
    }
}

#[test]
fn replies_to_a_batch_leave_together() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let log = Log::new();
        let peer = DatagramPeer::new(wire, &dir, "b");
        let to = peer.address();
        let seen = log.clone();
        let protocol = DatagramRecorder::new(&log).on_batch(move |transport| {
            for data in seen.datagrams() {
                transport.send_to(&data, &to)?;
            }
            Ok(())
        });
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), protocol);
        settle(&mut event_loop);
        for i in 0..5 {
            peer.send_to(&[i; 100], transport.local_addr());
        }
        let before = event_loop.handle().stats();
        drive(&mut event_loop, "the replies", || {
            transport.stats().sent == 5
        });
        for i in 0..5 {
            assert_eq!(peer.receive(), [i; 100], "{wire:?}");
        }
        let after = event_loop.handle().stats();
        let calls = if wire == Datagrams::Unix { 5 } else { 1 };
        assert_eq!(after.writes - before.writes, calls, "{wire:?}");
    }
}

#[test]
fn no_batch_ends_after_a_close_or_an_abort_and_none_without_a_datagram() {
    for (abort, reason) in [(false, "local-close"), (true, "local-abort")] {
        for wire in Datagrams::each() {
            let mut event_loop = EventLoop::new().unwrap();
            let dir = TempDir::new();
            let log = Log::new();
            let protocol = noting(&log).on_datagram(move |transport, _, _| {
                match abort {
                    true => transport.abort(),
                    false => transport.close(),
                }
                Ok(())
            });
            let transport = endpoint(&event_loop, wire.local(&dir, "a"), protocol);
            let peer = DatagramPeer::new(wire, &dir, "b");
            peer.send_to(b"x", transport.local_addr());
            drive(&mut event_loop, "the end", || log.is_lost());
            assert_eq!(
                (words(&log).as_str(), log.reason().as_str()),
                ("d lost", reason)
            );
        }
    }
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let nobody = DatagramPeer::new(Datagrams::V4, &dir, "b").address();
    let log = Log::new();
    let options = DatagramOptions::connected(nobody);
    let transport = endpoint(&event_loop, options, noting(&log));
    transport.send(b"x").unwrap();
    drive(&mut event_loop, "the refusal", || words(&log) == "error");
    settle(&mut event_loop);
    assert_eq!(words(&log), "error");
}

#[test]
fn a_batch_that_stops_reading_ends_behind_the_last_delivered_datagram() {
    for wire in Datagrams::each() {
        let mut event_loop = EventLoop::new().unwrap();
        let dir = TempDir::new();
        let log = Log::new();
        let seen = log.clone();
        let protocol = noting(&log).on_datagram(move |transport, _, _| {
            if seen.datagrams().len() == 2 {
                transport.pause_reading();
            }
            Ok(())
        });
        let transport = endpoint(&event_loop, wire.local(&dir, "a"), protocol);
        let peer = DatagramPeer::new(wire, &dir, "b");
        for i in 0..5 {
            peer.send_to(&[i], transport.local_addr());
        }
        drive(&mut event_loop, "the pause", || !transport.is_reading());
        settle(&mut event_loop);
        assert_eq!(words(&log), "d d batch", "{wire:?}");
        transport.resume_reading();
        drive(&mut event_loop, "the rest", || log.datagrams().len() == 5);
        settle(&mut event_loop);
        assert_eq!(words(&log), "d d batch d d d batch", "{wire:?}");
    }
}

/// Has the default implementation of `batch_received`.
struct Plain;

impl DatagramProtocol for Plain {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }
}

/// Counts the batches, and hands them on to a protocol that ignores them.
struct Around(Plain, Rc<Cell<u32>>);

impl DatagramProtocol for Around {
    fn datagram_received(&mut self, _: &DatagramTransport, _: &[u8], _: &Address) -> Result {
        Ok(())
    }

    fn batch_received(&mut self, transport: &DatagramTransport) -> Result {
        self.1.set(self.1.get() + 1);
        self.0.batch_received(transport)
    }

    fn inner(&mut self) -> Option<&mut dyn DatagramProtocol> {
        Some(&mut self.0)
    }
}

/// Sends a datagram in each of four ticks. Returns the number of callbacks of these.
fn callbacks(event_loop: &mut EventLoop, transport: &DatagramTransport) -> [u64; 4] {
    let dir = TempDir::new();
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    settle(event_loop);
    [1, 2, 3, 4].map(|count| {
        let before = event_loop.handle().stats().callbacks;
        peer.send_to(b"x", transport.local_addr());
        drive(event_loop, "a datagram", || {
            transport.stats().received == count
        });
        event_loop.handle().stats().callbacks - before
    })
}

#[test]
fn the_default_implementation_is_called_no_more_once_it_was() {
    let mut event_loop = EventLoop::new().unwrap();
    let transport = endpoint(&event_loop, "127.0.0.1:0", Plain);
    assert_eq!(callbacks(&mut event_loop, &transport), [2, 1, 1, 1]);
}

#[test]
fn a_protocol_around_one_with_the_default_implementation_is_called_each_time() {
    let mut event_loop = EventLoop::new().unwrap();
    let count = Rc::new(Cell::new(0));
    let protocol = Around(Plain, count.clone());
    let transport = endpoint(&event_loop, "127.0.0.1:0", protocol);
    assert_eq!(callbacks(&mut event_loop, &transport), [2; 4]);
    assert_eq!(count.get(), 4);
}

#[test]
fn an_error_of_it_is_reported_with_its_name_and_a_panic_ends_the_endpoint() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let reports = failures(event_loop.handle());
    let log = Log::new();
    let seen = log.clone();
    let protocol = DatagramRecorder::new(&log).on_batch(move |_| {
        assert!(seen.datagrams().len() == 1, "a planned panic");
        Err("a planned error".into())
    });
    let transport = endpoint(&event_loop, "127.0.0.1:0", protocol);
    let peer = DatagramPeer::new(Datagrams::V4, &dir, "b");
    for count in [1, 2] {
        peer.send_to(b"x", transport.local_addr());
        drive(&mut event_loop, "a report", || {
            reports.borrow().len() == count
        });
        assert_eq!(reports.borrow()[count - 1].context(), "batch_received");
    }
    drive(&mut event_loop, "the end", || log.is_lost());
    assert!(matches!(log.closed().reason(), CloseReason::Panic(_)));
    assert_eq!(words(&log), "d d lost");
}

#[test]
fn a_simulated_network_has_batches_too() {
    let mut world = World::new();
    let hosts = ["a", "b"].map(|name| world.add_host(name).unwrap());
    let log = Log::new();
    let to = hosts[1].addr(7);
    let receiver = hosts[1].handle().create_datagram_endpoint(to, noting(&log));
    let sender = hosts[0]
        .handle()
        .create_datagram_endpoint(hosts[0].addr(7), DatagramRecorder::new(&Log::new()));
    let (receiver, sender) = (receiver.unwrap(), sender.unwrap());
    world.run_until_idle().unwrap();
    for together in [0, 1] {
        world.network().force(Fault::DatagramsTogether, together);
        receiver.pause_reading();
        for _ in 0..3 {
            sender.send_to(b"x", &to).unwrap();
        }
        world.advance(Duration::from_secs(1)).unwrap();
        receiver.resume_reading();
        world.advance(Duration::from_secs(1)).unwrap();
    }
    assert_eq!(receiver.stats().received, 6);
    assert_eq!(words(&log), "d d d batch d d d batch");
}
