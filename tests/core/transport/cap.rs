//! The cap: a writer that ignores all else cannot grow the buffer without bound.

use bytes::Bytes;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{How, Kind, Scene, each_kind, never_paused, put, settle, stall};
use tidegate::{Flow, Transport, WriteError, WriteLimits};

fn capped(cap: usize) -> WriteLimits {
    WriteLimits::new().with_high(0).with_cap(cap)
}

fn is_full(result: Result<Flow, WriteError>, transport: &Transport) -> bool {
    match result {
        Err(WriteError::BufferFull { transport: id, .. }) => {
            assert_eq!(id, transport.id());
            true
        }
        Ok(flow) => {
            assert_eq!(flow, Flow::Paused);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

each_kind!(at_the_cap_every_way_to_write_takes_nothing_and_says_so);
fn at_the_cap_every_way_to_write_takes_nothing_and_says_so(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::full(kind).set();
    let full = transport.write_buffer_size();
    transport.set_write_limits(capped(full)).unwrap();
    let stats = transport.stats();
    for (how, len) in How::ALL
        .into_iter()
        .flat_map(|how| [(how, 1), (how, 100_000)])
    {
        assert!(
            is_full(how.put(&transport, len), &transport),
            "{how:?} {len}"
        );
        assert_eq!(transport.stats(), stats, "{how:?} {len}");
    }
    // No bytes are no write.
    assert!(!is_full(transport.write(b""), &transport));
    assert!(!is_full(transport.write_owned(Bytes::new()), &transport));
    assert!(!is_full(
        transport.write_vectored(&[IoSlice::new(b"")]),
        &transport
    ));
    // The refusal is over when the bytes are gone, and the stream has no gap.
    peer.expect(&mut event_loop, transport.written() as usize);
    assert_eq!(put(&transport, 1000), Flow::Open);
    peer.expect_text(&mut event_loop, &transport);
    settle(&mut event_loop);
    assert_eq!(log.words(), ["made", "pause", "resume"]);
}

each_kind!(the_write_that_crosses_the_cap_is_taken_whole_and_is_the_last);
fn the_write_that_crosses_the_cap_is_taken_whole_and_is_the_last(kind: Kind) {
    for how in How::ALL {
        let (mut event_loop, _, transport, mut peer) = Scene::full(kind).set();
        let full = transport.write_buffer_size();
        // Far enough above it that what chunks cost themselves does not matter.
        transport.set_write_limits(capped(full + 10_000)).unwrap();
        assert!(!is_full(how.put(&transport, 3_000_000), &transport));
        assert_eq!(transport.write_buffer_size(), full + 3_000_000);
        assert!(is_full(how.put(&transport, 1), &transport));
        assert_eq!(transport.write_buffer_size(), full + 3_000_000);
        peer.expect_text(&mut event_loop, &transport);
    }
}

each_kind!(a_writer_that_ignores_every_answer_is_bounded_by_the_cap_and_one_write);
fn a_writer_that_ignores_every_answer_is_bounded_by_the_cap_and_one_write(kind: Kind) {
    const CAP: usize = 1 << 20;
    const PIECE: usize = 7777;
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    transport.set_write_limits(capped(CAP)).unwrap();
    let mut refused = 0;
    for i in 0..4000 {
        let how = How::ALL[i % 4];
        refused += u32::from(how.put(&transport, PIECE).is_err());
        assert!(transport.write_buffer_size() < CAP + PIECE);
        if i % 100 == 0 {
            event_loop
                .run_once(Some(std::time::Duration::ZERO))
                .unwrap();
            peer.read_some(100_000);
        }
    }
    assert!(refused > 100, "{refused} writes were refused");
    peer.expect_text(&mut event_loop, &transport);
}

each_kind!(what_a_queued_chunk_costs_itself_counts_towards_the_cap);
fn what_a_queued_chunk_costs_itself_counts_towards_the_cap(kind: Kind) {
    const ROOM: usize = 64 * 1024;
    let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
    let mut until_full = |how: How| {
        stall(&mut event_loop, never_paused(&transport), 1000);
        let full = transport.write_buffer_size();
        transport.set_write_limits(capped(full + ROOM)).unwrap();
        let mut taken = 0;
        while !is_full(how.put(&transport, 1), &transport) {
            taken += 1;
            assert!(taken <= ROOM, "no cap");
        }
        assert_eq!(
            transport.write_buffer_size(),
            full + taken,
            "only payload is counted"
        );
        peer.expect(&mut event_loop, transport.written() as usize);
        taken
    };
    // Copied bytes share their chunks; each owned one is a chunk.
    let copied = until_full(How::Slice);
    assert!(copied > ROOM / 2, "{copied} copied bytes");
    let owned = until_full(How::Owned);
    assert!(owned < ROOM / 10, "{owned} owned bytes");
    assert!(owned > ROOM / 1000, "{owned} owned bytes");
}

each_kind!(a_buffer_that_is_full_only_because_nothing_was_offered_yet_refuses_nothing);
fn a_buffer_that_is_full_only_because_nothing_was_offered_yet_refuses_nothing(kind: Kind) {
    let (mut event_loop, log, transport, mut peer) = Scene::of(kind).strict().set();
    settle(&mut event_loop);
    let limits = WriteLimits::new().with_high(5000).with_cap(5000);
    transport.set_write_limits(limits).unwrap();
    let mut written = 0;
    for _ in 0..1000 {
        written += 1;
        How::Owned.put(&transport, 1).unwrap();
    }
    peer.expect(&mut event_loop, written);
    assert_eq!(log.words(), ["made"]);
}

/// Bytes whose owner wants to know when they are dropped.
struct Owner {
    bytes: &'static [u8],
    dropped: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

each_kind!(owned_bytes_are_dropped_by_the_loop_never_within_the_call);
fn owned_bytes_are_dropped_by_the_loop_never_within_the_call(kind: Kind) {
    enum Fate {
        Empty,
        Sent,
        Full,
        Queued,
        Refused,
        Failed,
    }
    use Fate::*;
    for fate in [Empty, Sent, Full, Queued, Refused, Failed] {
        let (mut event_loop, _, transport, mut peer) = Scene::of(kind).strict().set();
        settle(&mut event_loop);
        let mut bytes: &'static [u8] = b"owned";
        let mut taken = true;
        match fate {
            Empty => bytes = b"",
            // Nothing above this mark is queued when the kernel takes it.
            Sent => transport.set_write_limits(capped(1)).unwrap(),
            Full => {
                stall(&mut event_loop, never_paused(&transport), 1000);
                transport.set_write_limits(capped(1)).unwrap();
                taken = false;
            }
            Queued => stall(&mut event_loop, never_paused(&transport), 1000),
            Refused => {
                transport.close();
                taken = false;
            }
            // A large write goes to the kernel at once, and the kernel refuses it.
            Failed => {
                bytes = &[b'x'; 100_000];
                peer.reset();
                taken = false;
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let owner = Owner {
            bytes,
            dropped: dropped.clone(),
        };
        let result = transport.write_owned(Bytes::from_owner(owner));
        assert_eq!(result.is_ok(), taken);
        assert!(!dropped.load(Ordering::Relaxed), "dropped within the call");
        support::drive(&mut event_loop, "the drop", || {
            if !peer.is_closed() {
                peer.read_available();
            }
            dropped.load(Ordering::Relaxed)
        });
    }
}

each_kind!(a_full_buffer_is_counted_as_unsent_by_its_payload_alone);
fn a_full_buffer_is_counted_as_unsent_by_its_payload_alone(kind: Kind) {
    let (mut event_loop, log, transport, _peer) = Scene::full(kind).set();
    transport
        .set_write_limits(capped(transport.write_buffer_size() + 5000))
        .unwrap();
    let taken = (0..5000).take_while(|_| How::Owned.put(&transport, 3).is_ok());
    assert!(taken.count() < 5000, "no cap");
    let unsent = transport.write_buffer_size() as u64;
    transport.abort();
    settle(&mut event_loop);
    assert_eq!(log.closed().unsent(), unsent);
    assert_eq!(transport.written() - transport.sent(), unsent);
}
