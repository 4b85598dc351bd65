//! Futures of a writer that are dropped while they wait: nothing is lost, written twice or left
//! behind.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;
use support::{
    Kind, Peer, Rng, drive, each_kind, finish, never_paused, opened, poll_once, settle, stall,
};
use tidegate::{EventLoop, WriteLimits};
use tidegate_streams::{StreamReader, StreamWriter, spawn_on, timeout};

const KIB: usize = 1024;

/// A paused writer with a peer that does not read yet.
fn paused(event_loop: &mut EventLoop, kind: Kind) -> (StreamReader, StreamWriter, Peer) {
    let (reader, writer, peer) = opened(event_loop, kind);
    stall(event_loop, never_paused(writer.transport()), 1000);
    let limits = WriteLimits::new().with_high(KIB).with_low(100);
    writer.transport().set_write_limits(limits).unwrap();
    writer.write(&[b'-'; 4 * KIB]).unwrap();
    settle(event_loop);
    assert!(writer.transport().flow().is_paused());
    (reader, writer, peer)
}

fn completions(event_loop: &EventLoop) -> usize {
    event_loop.handle().stats().completions
}

/// Returns the bytes behind the first `before`, when all that was written has come.
fn rest(
    event_loop: &mut EventLoop,
    writer: &StreamWriter,
    peer: &mut Peer,
    before: u64,
) -> Vec<u8> {
    let total = writer.transport().written() as usize;
    peer.expect(event_loop, total);
    settle(event_loop);
    peer.read_available();
    peer.received()[before as usize..].to_vec()
}

each_kind!(waits_that_are_dropped_leave_nothing_behind_and_later_ones_are_answered);
fn waits_that_are_dropped_leave_nothing_behind_and_later_ones_are_answered(kind: Kind) {
    type Wait = for<'w> fn(&'w StreamWriter) -> Pin<Box<dyn Future<Output = io::Result<()>> + 'w>>;
    let waits: [(&str, Wait); 3] = [
        ("drain", |writer| Box::pin(writer.drain())),
        ("flush", |writer| Box::pin(writer.flush())),
        ("write_all", |writer| Box::pin(writer.write_all(b"!"))),
    ];
    for (name, wait) in waits {
        let mut event_loop = EventLoop::new().unwrap();
        let (_reader, writer, mut peer) = paused(&mut event_loop, kind);
        let (written, before) = (writer.transport().written(), completions(&event_loop));
        // More than it takes to come to the point where it gives way.
        for _ in 0..1000 {
            assert!(poll_once(wait(&writer).as_mut()).is_pending());
            assert_eq!(completions(&event_loop), before, "{kind:?} {name}");
        }
        // One that nobody has polled does nothing either.
        drop(wait(&writer));
        assert_eq!(writer.transport().written(), written, "{kind:?} {name}");
        let writer = Rc::new(writer);
        let one = writer.clone();
        let last = spawn_on(event_loop.handle(), async move { wait(&one).await });
        drive(&mut event_loop, name, || {
            peer.read_available();
            last.is_finished()
        });
        finish(&mut event_loop, name, last).unwrap().unwrap();
        let expected: &[u8] = if name == "write_all" { b"!" } else { b"" };
        let rest = rest(&mut event_loop, &writer, &mut peer, written);
        assert_eq!(rest, expected, "{kind:?} {name}");
    }
}

each_kind!(a_drain_that_gives_way_without_need_may_be_dropped_there);
fn a_drain_that_gives_way_without_need_may_be_dropped_there(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    let mut gave_way = 0;
    for _ in 0..300 {
        gave_way += usize::from(poll_once(pin!(writer.drain())).is_pending());
        gave_way += usize::from(poll_once(pin!(writer.flush())).is_pending());
        // The first poll is either at that point, or it takes all and completes later.
        let written = writer.transport().written();
        if poll_once(pin!(writer.write_all(b"x"))).is_pending() {
            gave_way += usize::from(writer.transport().written() == written);
        }
        settle(&mut event_loop);
        peer.read_available();
    }
    assert!((5..=30).contains(&gave_way), "{kind:?}: {gave_way}");
    let rest = rest(&mut event_loop, &writer, &mut peer, 0);
    assert_eq!(rest.len() as u64, writer.transport().written(), "{kind:?}");
    assert!(rest.len() >= 270 && rest.iter().all(|byte| *byte == b'x'));
}

each_kind!(a_write_all_that_is_dropped_before_its_bytes_were_taken_writes_nothing);
fn a_write_all_that_is_dropped_before_its_bytes_were_taken_writes_nothing(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = paused(&mut event_loop, kind);
    let written = writer.transport().written();
    let mut given_up = Box::pin(writer.write_all(b"given up"));
    assert!(poll_once(given_up.as_mut()).is_pending());
    drop(given_up);
    // Also when it had completed already, and was not polled again.
    let mut given_up = Box::pin(writer.write_all(b"given up too"));
    assert!(poll_once(given_up.as_mut()).is_pending());
    drive(&mut event_loop, "room", || {
        peer.read_available();
        !writer.transport().flow().is_paused()
    });
    drop(given_up);
    assert_eq!(writer.transport().written(), written);
    writer.write(b"kept").unwrap();
    let rest = rest(&mut event_loop, &writer, &mut peer, written);
    assert_eq!(rest, b"kept", "{kind:?}");
}

each_kind!(a_write_all_that_is_dropped_after_its_bytes_were_taken_writes_them_all_once);
fn a_write_all_that_is_dropped_after_its_bytes_were_taken_writes_them_all_once(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    // More than the kernel takes at once.
    let data = vec![b'+'; 16 << 20];
    let mut writing = Box::pin(writer.write_all(&data));
    assert!(poll_once(writing.as_mut()).is_pending());
    assert_eq!(writer.transport().written(), data.len() as u64);
    drop(writing);
    writer.write(b"after").unwrap();
    let rest = rest(&mut event_loop, &writer, &mut peer, 0);
    assert_eq!(rest.len(), data.len() + 5, "{kind:?}");
    assert!(rest.ends_with(b"+after") && rest.starts_with(&data));
}

each_kind!(a_close_goes_on_when_its_answer_is_dropped);
fn a_close_goes_on_when_its_answer_is_dropped(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = paused(&mut event_loop, kind);
    let mut close = Box::pin(writer.close());
    assert!(poll_once(close.as_mut()).is_pending());
    drop(close);
    let total = writer.transport().written() as usize;
    peer.expect_end(&mut event_loop);
    assert_eq!(peer.received().len(), total, "{kind:?}");
    drive(&mut event_loop, "the end", || writer.closed().is_some());
    assert!(writer.closed().unwrap().is_clean(), "{kind:?}");
}

each_kind!(a_timeout_around_a_write_tells_by_the_count_whether_it_was_written);
fn a_timeout_around_a_write_tells_by_the_count_whether_it_was_written(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = paused(&mut event_loop, kind);
    let written = writer.transport().written();
    let writer = finish(&mut event_loop, "the timeout", async move {
        let writing = writer.write_all(b"late");
        let in_time = timeout(Duration::from_millis(5), writing).await.is_ok();
        assert!(!in_time, "nobody has read");
        writer
    });
    assert_eq!(writer.transport().written(), written);
    let rest = rest(&mut event_loop, &writer, &mut peer, written);
    assert_eq!(rest, b"", "{kind:?}");
}

each_kind!(under_any_schedule_of_drops_writes_arrive_whole_or_not_and_in_order);
fn under_any_schedule_of_drops_writes_arrive_whole_or_not_and_in_order(kind: Kind) {
    let mut rng = Rng::from_environment();
    for round in 0..8 {
        let mut event_loop = EventLoop::new().unwrap();
        let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
        let limits = WriteLimits::new()
            .with_high(rng.below(64 * KIB))
            .with_low(0);
        writer.transport().set_write_limits(limits).unwrap();
        let mut expected = Vec::new();
        for n in 0..60 {
            let data = vec![n; 1 + rng.below(400 * KIB)];
            let before = writer.transport().written();
            let mut writing = Box::pin(writer.write_all(&data));
            let mut answered = false;
            for _ in 0..rng.below(6) {
                answered = poll_once(writing.as_mut()).is_ready();
                if answered {
                    break;
                }
                if rng.below(2) == 0 {
                    peer.read_some(rng.below(KIB * KIB));
                }
                event_loop.run_once(Some(Duration::ZERO)).unwrap();
            }
            drop(writing);
            let taken = writer.transport().written() - before;
            assert!(taken == 0 || taken == data.len() as u64, "a part of it");
            assert!(!answered || taken > 0, "answered without writing");
            if taken > 0 {
                expected.extend_from_slice(&data);
            }
        }
        let rest = rest(&mut event_loop, &writer, &mut peer, 0);
        assert!(rest == expected, "{kind:?}, round {round} of {rng:?}");
    }
}
