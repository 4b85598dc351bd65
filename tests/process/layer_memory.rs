//! Counts the allocations of the process.
//!
//! The memory of a connection with layers: idle, and with a peer that does not read, or sends half a
//! record, or takes no replies of the layer's own.

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use support::seal::{Seal, hello, sealed};
use support::{Hooked, Kind, MIB, Peer, Scene, drive, no_limits, pattern, settle, stall};
use tidegate::{EventLoop, Layer, LayerIo, Protocol, Result, Transport};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The bytes that are encoded and not taken by the kernel, at most.
const BATCH: i64 = 128 * 1024;

/// The bytes that a layer may leave unconsumed.
const INPUT: i64 = 112 * 1024;

/// The bytes that a layered connection has when nothing waits, beside those of a plain one: its
/// layers, with all that the transport keeps about them, and the lists of the loop.
const IDLE: i64 = 2_000;

/// One test, because others would be counted.
#[test]
fn a_layer_has_memory_only_for_what_waits() {
    for kind in Kind::ALL {
        idle(kind);
        left(kind);
        stalled(kind);
        half_a_record(kind);
        too_much_of_half_a_record(kind);
        replies(kind, Scene::of(kind), 2 * BATCH);
        replies(kind, Scene::of(kind).connected(), MIB as i64);
    }
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

fn kept(region: &Region<'_, System>) -> i64 {
    let change = region.change();
    change.bytes_allocated as i64 - change.bytes_deallocated as i64
}

#[track_caller]
fn connect(event_loop: &mut EventLoop, kind: Kind) -> (Transport, Peer, Count) {
    let count = Count::default();
    let (transport, peer) = Scene::of(kind)
        .limits(no_limits())
        .on(event_loop, count.clone());
    settle(event_loop);
    (transport, peer, count)
}

#[track_caller]
fn seal(event_loop: &mut EventLoop, transport: &Transport, peer: &mut Peer) {
    let pushed = transport.push_layer(Seal::server(), b"");
    peer.send(&hello());
    event_loop.run_until(pushed).unwrap();
    discard(event_loop, peer, hello().len());
    settle(event_loop);
}

/// Has the peer read `len` bytes, and keep none of them.
#[track_caller]
fn discard(event_loop: &mut EventLoop, peer: &Peer, len: usize) {
    let mut left = len;
    drive(event_loop, "bytes at the peer", || {
        left -= read_all(peer);
        left == 0
    });
}

/// Returns the number of bytes that were there.
fn read_all(peer: &Peer) -> usize {
    let (mut buffer, mut all) = ([0; 32 * 1024], 0);
    while let Ok(n @ 1..) = (&*peer.as_sock()).read(&mut buffer) {
        all += n;
    }
    all
}

/// 300,000 bytes in records.
const WIRE: usize = 300_000 + 3 * 293;

/// Sends and receives enough that everything was needed once.
#[track_caller]
fn use_once(event_loop: &mut EventLoop, transport: &Transport, peer: &mut Peer, count: &Count) {
    let got = count.0.get();
    peer.send(&sealed(&[1; 50_000]));
    transport
        .write_owned(Bytes::from_static(&[2; 300_000]))
        .unwrap();
    discard(event_loop, peer, WIRE);
    drive(event_loop, "the data", || count.0.get() == got + 50_000);
    settle(event_loop);
}

/// Returns the least that `measure` finds in some connections of one loop: the memory that it lends to
/// layers is counted where it is first needed.
fn least(
    kind: Kind,
    mut measure: impl FnMut(&mut EventLoop, &Transport, &mut Peer, &Count) -> i64,
) -> i64 {
    let mut event_loop = EventLoop::new().unwrap();
    let mut connections = Vec::new();
    let mut least = i64::MAX;
    for _ in 0..10 {
        let (transport, mut peer, count) = connect(&mut event_loop, kind);
        least = least.min(measure(&mut event_loop, &transport, &mut peer, &count));
        connections.push((transport, peer));
    }
    least
}

fn idle(kind: Kind) {
    let bytes = least(kind, |event_loop, transport, peer, count| {
        let region = Region::new(GLOBAL);
        seal(event_loop, transport, peer);
        use_once(event_loop, transport, peer, count);
        kept(&region)
    });
    assert!((1..IDLE).contains(&bytes), "{kind:?}: {bytes} bytes");
}

/// A layer that has left is kept, and nothing of its bytes.
fn left(kind: Kind) {
    let bytes = least(kind, |event_loop, transport, peer, count| {
        let leaves = Hooked::on("receive", |io| {
            io.leave();
            Ok(())
        });
        let region = Region::new(GLOBAL);
        let pushed = transport.push_layer(leaves, b"");
        event_loop.run_until(pushed).unwrap();
        peer.send(&[1; 5_000]);
        drive(event_loop, "the data", || count.0.get() == 5_000);
        settle(event_loop);
        kept(&region)
    });
    assert!((1..IDLE).contains(&bytes), "{kind:?}: {bytes} bytes");
}

fn stalled(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer, count) = connect(&mut event_loop, kind);
    seal(&mut event_loop, &transport, &mut peer);
    use_once(&mut event_loop, &transport, &mut peer, &count);
    let region = Region::new(GLOBAL);
    stall(&mut event_loop, &transport, MIB);
    let plain = transport.write_buffer_size() as i64;
    let bytes = kept(&region);
    assert!(bytes > plain, "nothing was measured");
    // The memory of a queue of some bytes is an eighth more.
    let most = plain + plain / 8 + BATCH + IDLE;
    assert!(bytes <= most, "{kind:?}: {bytes} bytes for {plain}");
    drive(&mut event_loop, "all of it", || {
        read_all(&peer);
        transport.write_buffer_size() == 0
    });
    settle(&mut event_loop);
    let bytes = kept(&region);
    assert!(bytes <= 2 * BATCH, "{kind:?}: {bytes} bytes are kept");
}

fn half_a_record(kind: Kind) {
    const HALF: usize = 900;
    let record = sealed(&pattern(0, 1_000));
    let mut whole = i64::MAX;
    let half = least(kind, |event_loop, transport, peer, count| {
        seal(event_loop, transport, peer);
        use_once(event_loop, transport, peer, count);
        let region = Region::new(GLOBAL);
        let before = event_loop.handle().stats().events;
        peer.send(&record[..HALF]);
        let handle = event_loop.handle().clone();
        drive(event_loop, "half a record", || {
            handle.stats().events > before
        });
        settle(event_loop);
        let half = kept(&region);
        peer.send(&record[HALF..]);
        drive(event_loop, "the data", || count.0.get() == 51_000);
        settle(event_loop);
        whole = whole.min(kept(&region));
        half
    });
    assert!((900..2 * 900).contains(&half), "{kind:?}: {half} bytes");
    assert!(whole < 100, "{kind:?}: {whole} bytes");
}

/// Waits for ever.
struct Greedy;

impl Layer for Greedy {
    fn receive(&mut self, _: &mut LayerIo<'_>) -> Result {
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

fn too_much_of_half_a_record(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer, _count) = connect(&mut event_loop, kind);
    event_loop
        .run_until(transport.push_layer(Greedy, b""))
        .unwrap();
    let part = vec![1; 20_000];
    let region = Region::new(GLOBAL);
    let mut sent = 0;
    drive(&mut event_loop, "the end", || {
        let bytes = kept(&region);
        assert!(bytes <= 2 * INPUT + IDLE, "{kind:?}: {bytes} bytes");
        sent += peer.try_write(&part).unwrap_or(0);
        transport.closed().is_some()
    });
    assert!(sent as i64 > INPUT, "{sent}");
    let closed = transport.closed().unwrap();
    assert!(closed.to_string().contains("maximum"), "{closed}");
}

/// Replies to each byte with one.
struct Replies;

impl Layer for Replies {
    fn receive(&mut self, io: &mut LayerIo<'_>) -> Result {
        let (input, _, mut below) = io.parts();
        below.send(input);
        let len = input.len();
        io.consume(len);
        Ok(())
    }

    fn send(&mut self, data: &[u8], io: &mut LayerIo<'_>) -> Result<usize> {
        io.send(data);
        Ok(data.len())
    }
}

/// The peer goes on sending, and reads nothing: the layer's own output has a bound, and a connection that
/// we opened ends at it.
fn replies(kind: Kind, scene: Scene, most: i64) {
    let mut event_loop = EventLoop::new().unwrap();
    let (transport, mut peer) = scene.on(&mut event_loop, Count::default());
    event_loop
        .run_until(transport.push_layer(Replies, b""))
        .unwrap();
    // The memory that the loop lends is there from now on.
    peer.send(&[1; 1_000]);
    discard(&mut event_loop, &peer, 1_000);
    settle(&mut event_loop);
    let region = Region::new(GLOBAL);
    let part = vec![1; 64 * 1024];
    let mut largest = 0;
    loop {
        let sent = peer.write(&part);
        settle(&mut event_loop);
        largest = largest.max(kept(&region));
        if sent == 0 || transport.closed().is_some() {
            break;
        }
    }
    let lent = 4 * BATCH;
    assert!(largest > BATCH, "{kind:?}: {largest}: nothing was measured");
    assert!(largest <= most + lent + IDLE, "{kind:?}: {largest} bytes");
}
