//! Counts the allocations of the process.
//!
//! Peers that come and go without a whole message, and peers that announce much and send little: no
//! memory stays of those, and none is taken for these.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use support::{Kind, Scene, drive, settle, strict_loop};
use tidegate::{ListenOptions, Server};
use tidegate_framing::{
    Decode, Delimiter, Fixed, LengthPrefix, Lines, Netstring, Prefix, TokioCodec, framed,
};
use tidegate_testkit::{Host, Peer, World};
use tokio_util::codec::LinesCodec;

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KIB: i64 = 1024;

/// One test, because others would be counted.
#[test]
fn memory_follows_what_hostile_peers_have_sent_and_goes_back_with_them() {
    for kind in Kind::ALL {
        announced_lengths(kind);
    }
    come_and_go();
}

fn kept(region: &Region<'_, System>) -> i64 {
    let change = region.change();
    change.bytes_allocated as i64 - change.bytes_deallocated as i64
}

/// A TiB is announced.
fn announced_lengths(kind: Kind) {
    const TIB: u64 = 1 << 40;
    let most = usize::MAX;
    let prefix = |prefix| LengthPrefix::new(prefix).max(most);
    let varint = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
    announced(kind, prefix(Prefix::Big(8)), &TIB.to_be_bytes());
    announced(kind, prefix(Prefix::Little(8)), &TIB.to_le_bytes());
    announced(kind, prefix(Prefix::Varint), &varint);
    announced(kind, Netstring::new().max(most), b"1099511627776:");
    announced(kind, Fixed::new(TIB as usize), b"");
    announced(kind, Delimiter::new(b"--").max(most), b"");
    announced(kind, Lines::new().max(most), b"");
    announced(kind, TokioCodec::new(LinesCodec::new()), b"");
}

fn announced<C: Decode + Clone + 'static>(kind: Kind, codec: C, head: &[u8]) {
    const PIECE: usize = 100;
    const REST: usize = 200_000;
    let mut event_loop = strict_loop();
    // The first gives the loop, and the pools of the thread, what they keep.
    for measured in [false, true] {
        let protocol = framed(codec.clone(), |_, _| Ok(())).limit(usize::MAX);
        let (transport, mut peer) = Scene::of(kind).on(&mut event_loop, protocol);
        settle(&mut event_loop);
        let region = Region::new(GLOBAL);
        let received = |len: usize| transport.stats().received as usize == len;
        peer.send(&[head, &[b'x'; PIECE]].concat());
        drive(&mut event_loop, "the first piece", || {
            received(head.len() + PIECE)
        });
        let change = region.change();
        // Also no memory for a moment.
        let all = change.bytes_allocated as i64;
        assert!(all < 8 * KIB || !measured, "{kind:?}: {all} bytes");
        let mut sent = 0;
        drive(&mut event_loop, "the rest", || {
            sent += peer.write(&[b'x'; REST][sent..]);
            received(head.len() + PIECE + REST)
        });
        let bytes = kept(&region);
        // A buffer doubles, and tokio's decoder has one of its own.
        let most = 4 * (PIECE + REST) as i64 + 8 * KIB;
        assert!(bytes < most || !measured, "{kind:?}: {bytes} bytes");
        assert!(bytes > REST as i64, "nothing was measured: {bytes} bytes");
        peer.reset();
        drive(&mut event_loop, "the end", || transport.closed().is_some());
        settle(&mut event_loop);
        let bytes = kept(&region);
        assert!(bytes < 8 * KIB || !measured, "{kind:?}: {bytes} bytes stay");
    }
}

/// The number of peers that come at once.
const CROWD: usize = 100;

/// The maximum of a server that has others wait, below [`PER_PEER`].
const FEW: usize = 50;

/// All of them have one address.
const PER_PEER: usize = 60;

const FRAME: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);

/// The number of crowds after which everything that is kept for good has been allocated.
const WARM: usize = 50;

/// A million peers in all.
const CROWDS: usize = 5_000;

struct Churn {
    world: World,
    host: Host,
    /// The number of whole lines that came.
    lines: Rc<Cell<usize>>,
    waits: Server,
    refuses: Server,
}

fn come_and_go() {
    let mut world = World::new();
    let host = world.add_host("host").unwrap();
    let lines = Rc::new(Cell::new(0));
    let serve = |port, most| {
        let counted = lines.clone();
        let make = move || {
            let counted = counted.clone();
            let count = move |_: &_, _: &[u8]| {
                counted.set(counted.get() + 1);
                Ok(())
            };
            framed(Lines::new(), count).frame_timeout(FRAME)
        };
        let options = ListenOptions::new(host.addr(port))
            .max_connections(most)
            .max_connections_per_peer(PER_PEER)
            .idle_timeout(IDLE);
        host.handle().create_server(options, make).unwrap()
    };
    // An end by a limit is reported.
    host.handle().set_error_handler(|_, _| {});
    let (waits, refuses) = (serve(7, FEW), serve(8, 10 * CROWD));
    let mut churn = Churn {
        world,
        host,
        lines,
        waits,
        refuses,
    };
    let region = Region::new(GLOBAL);
    for crowd in 0..WARM {
        churn.crowd(crowd);
    }
    let warm = kept(&region);
    for crowd in WARM..CROWDS {
        churn.crowd(crowd);
    }
    let end = kept(&region);
    println!("{warm} bytes after {WARM} crowds, {end} after {CROWDS}");
    assert!(end <= warm + 16 * KIB, "{warm} bytes, then {end}");
    let refused = churn.refuses.refused_count();
    assert_eq!(refused as usize, CROWDS * (CROWD - PER_PEER));
    assert_eq!(churn.waits.refused_count(), 0);
    assert_eq!(churn.host.handle().stats().refused, refused);
    assert!(churn.lines.get() >= CROWDS * FEW / 4);
}

impl Churn {
    /// A crowd comes to each server, sends no whole message or one and a part, and leaves, or stays until it
    /// is cut.
    fn crowd(&mut self, number: usize) {
        let dial = |port| self.world.network().dial(self.host.addr(port)).unwrap();
        let mut peers: Vec<_> = (0..2 * CROWD)
            .map(|n| Some(dial(7 + (n % 2) as u16)))
            .collect();
        self.world.settle().unwrap();
        assert_eq!(self.waits.connection_count(), FEW);
        assert_eq!(self.refuses.connection_count(), PER_PEER);
        for (n, peer) in peers.iter().enumerate() {
            let bytes: &[u8] = match n / 2 % 4 {
                0 => b"half a message",
                1 => b"one\nand a half",
                _ => b"",
            };
            // It may have been refused.
            let _ = peer.as_ref().unwrap().send(bytes);
        }
        self.world.settle().unwrap();
        for (n, peer) in peers.iter_mut().enumerate() {
            match (n / 2 + number) % 3 {
                0 => peer.take().into_iter().for_each(Peer::reset),
                1 => drop(peer.take()),
                _ => {}
            }
        }
        self.world.settle().unwrap();
        assert!(self.waits.connection_count() > 0);
        self.world.advance(2 * FRAME).unwrap();
        self.world.advance(2 * IDLE).unwrap();
        assert_eq!(self.waits.connection_count(), 0);
        assert_eq!(self.refuses.connection_count(), 0);
        drop(peers);
        self.world.settle().unwrap();
        let stats = self.host.handle().stats();
        let left = (stats.connections, stats.lingering, stats.timers);
        assert_eq!(left, (0, 0, 0), "{stats:#?}");
        assert_eq!(self.world.network().sockets(), 0);
    }
}
