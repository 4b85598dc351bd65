//! Writes that wait until the kernel has their bytes.

use std::cell::Cell;
use std::rc::Rc;
use support::{
    Kind, drive, each_kind, finish, never_paused, opened, pattern, poll_once, settle, stall,
};
use tidegate::{EventLoop, Flow, WriteError, WriteLimits};
use tidegate_streams::spawn_on;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

each_kind!(write_all_returns_when_the_kernel_has_its_bytes);
fn write_all_returns_when_the_kernel_has_its_bytes(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    for len in [1, 100, 64 * KIB, 16 * MIB] {
        let sent = writer.transport().sent();
        assert_eq!(writer.transport().write_buffer_size(), 0);
        let data = pattern(sent, len);
        let mut writing = Box::pin(writer.write_all(&data));
        drive(&mut event_loop, "write_all", || {
            let answer = poll_once(writing.as_mut());
            if answer.is_pending() {
                let all = writer.transport().sent() == sent + len as u64;
                assert!(!all || writer.transport().write_buffer_size() == 0);
                peer.read_some(MIB);
            }
            answer.is_ready()
        });
        drop(writing);
        assert_eq!(writer.transport().sent(), sent + len as u64, "{kind:?}");
    }
    let total = writer.transport().sent() as usize;
    peer.expect(&mut event_loop, total);
    assert!(peer.received() == pattern(0, total));
}

each_kind!(write_all_takes_nothing_while_paused_and_then_everything_in_one_piece);
fn write_all_takes_nothing_while_paused_and_then_everything_in_one_piece(kind: Kind) {
    const LEN: usize = 300 * KIB;
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let limits = WriteLimits::new().with_high(KIB).with_low(100);
    writer.transport().set_write_limits(limits).unwrap();
    writer.write(&[7; 4 * KIB]).unwrap();
    settle(&mut event_loop);
    let front = writer.transport().written() as usize;
    let writer = Rc::new(writer);
    let ended = Rc::new(Cell::new(0));
    for n in 0..10u8 {
        let (writer, ended) = (writer.clone(), ended.clone());
        drop(spawn_on(event_loop.handle(), async move {
            writer.write_all(&vec![n; LEN]).await.unwrap();
            ended.set(ended.get() + 1);
        }));
    }
    settle(&mut event_loop);
    assert_eq!(writer.transport().written() as usize, front, "{kind:?}");
    drive(&mut event_loop, "all ten", || {
        peer.read_some(64 * KIB);
        let whole = writer.transport().written() as usize - front;
        assert_eq!(whole % LEN, 0, "a part was taken");
        let buffered = writer.transport().write_buffer_size();
        assert!(buffered < 2 * LEN, "several were taken at once");
        ended.get() == 10
    });
    peer.expect(&mut event_loop, front + 10 * LEN);
    let pieces: Vec<_> = peer.received()[front..]
        .chunks(LEN)
        .map(|piece| {
            assert!(piece.iter().all(|byte| *byte == piece[0]), "mixed pieces");
            piece[0]
        })
        .collect();
    // The first to wait was first.
    assert_eq!(pieces, Vec::from_iter(0..10), "{kind:?}");
}

each_kind!(write_all_waits_also_for_a_buffer_that_is_full_without_a_pause);
fn write_all_waits_also_for_a_buffer_that_is_full_without_a_pause(kind: Kind) {
    let mut event_loop = EventLoop::new().unwrap();
    let (_reader, writer, mut peer) = opened(&mut event_loop, kind);
    stall(&mut event_loop, never_paused(writer.transport()), 1000);
    let cap = writer.transport().write_buffer_size();
    let limits = WriteLimits::new().with_cap(cap).with_high(cap).with_low(0);
    writer.transport().set_write_limits(limits).unwrap();
    assert_eq!(writer.transport().flow(), Flow::Open);
    let full = writer.write(b"?").unwrap_err();
    assert!(matches!(full, WriteError::BufferFull { .. }), "{full:?}");
    let before = writer.transport().written() as usize;
    let writing = spawn_on(event_loop.handle(), async move {
        writer.write_all(b"in the end").await.unwrap();
    });
    settle(&mut event_loop);
    assert!(!writing.is_finished());
    drive(&mut event_loop, "write_all", || {
        peer.read_available();
        writing.is_finished()
    });
    finish(&mut event_loop, "its answer", writing).unwrap();
    peer.expect(&mut event_loop, before + 10);
    assert!(peer.received().ends_with(b"in the end"), "{kind:?}");
}
