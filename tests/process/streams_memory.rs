//! Counts the resident memory of the process.
//!
//! A peer that does not read, and what a writer may take of memory meanwhile: the cap when it never
//! drains, about the high-water mark when it does.

use std::cell::Cell;
use std::rc::Rc;
use support::{Kind, drive, finish, opened, resident, settle};
use tidegate::{EventLoop, WriteError, WriteLimits};
use tidegate_streams::spawn_on;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const CAP: usize = 24 * MIB;

/// The maximum size of one write.
const PIECE: usize = 32 * KIB;

/// The maximum memory of the loop, the allocator and the test itself beside the buffer.
const CONSTANT: usize = 6 * MIB;

#[test]
fn a_writer_takes_the_cap_without_drain_and_the_high_water_mark_with_it() {
    let mut event_loop = EventLoop::new().unwrap();
    settle(&mut event_loop);
    let before = resident();
    let grown = || resident().saturating_sub(before) as usize;
    // Memory that was freed may stay with the process: what takes little comes first.
    for kind in Kind::ALL {
        who_drains(&mut event_loop, kind, &grown);
    }
    for kind in Kind::ALL {
        who_never_drains(&mut event_loop, kind, &grown);
    }
}

fn who_drains(event_loop: &mut EventLoop, kind: Kind, grown: &dyn Fn() -> usize) {
    const TOTAL: usize = 200 * MIB;
    let (_reader, writer, mut peer) = opened(event_loop, kind);
    let high = WriteLimits::new().high();
    let transport = writer.transport().clone();
    let largest = Rc::new(Cell::new(0));
    let seen = largest.clone();
    let writing = spawn_on(event_loop.handle(), async move {
        let piece = [7; PIECE];
        for _ in 0..TOTAL / PIECE {
            writer.write(&piece).unwrap();
            let buffered = writer.transport().write_buffer_size();
            seen.set(seen.get().max(buffered));
            writer.drain().await.unwrap();
        }
        writer.close().await.unwrap();
    });
    settle(event_loop);
    assert!(transport.flow().is_paused() && !writing.is_finished());
    let mut most = grown();
    let mut read = 0;
    let mut buffer = vec![0; 256 * KIB];
    drive(event_loop, "all of it", || {
        // Not through the peer, which keeps what it reads.
        match std::io::Read::read(&mut &*peer.as_sock(), &mut buffer) {
            Ok(n) => read += n,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        most = most.max(grown());
        writing.is_finished() && read == TOTAL
    });
    finish(event_loop, "the writer", writing).unwrap();
    let largest = largest.get();
    assert!(
        high < largest && largest <= high + PIECE,
        "{kind:?}: {largest}"
    );
    assert!(
        most <= high + PIECE + CONSTANT,
        "{kind:?}: {} KiB",
        most / KIB
    );
    peer.close();
}

fn who_never_drains(event_loop: &mut EventLoop, kind: Kind, grown: &dyn Fn() -> usize) {
    let (_reader, writer, _peer) = opened(event_loop, kind);
    let limits = WriteLimits::new().with_cap(CAP);
    writer.transport().set_write_limits(limits).unwrap();
    let writer = finish(event_loop, "the refusal", async move {
        let piece = [7; PIECE];
        let mut paused = false;
        let refused = loop {
            match writer.write(&piece) {
                Ok(flow) => paused = flow.is_paused(),
                Err(error) => break error,
            }
            assert!(
                writer.transport().write_buffer_size() <= 2 * CAP,
                "no end to it"
            );
            // As it would between other things to do.
            tidegate_streams::yield_now().await;
        };
        assert!(paused, "it was told so");
        assert!(
            matches!(refused, WriteError::BufferFull { .. }),
            "{refused}"
        );
        writer
    });
    let buffered = writer.transport().write_buffer_size();
    assert!(
        buffered > CAP / 2 && buffered <= CAP + PIECE,
        "{kind:?}: {buffered}"
    );
    let written = writer.transport().written();
    let most = finish(event_loop, "the same for ever", async move {
        for _ in 0..500 {
            writer.write(&[7; PIECE]).unwrap_err();
            tidegate_streams::yield_now().await;
        }
        assert_eq!(writer.transport().written(), written, "nothing was taken");
        writer
    });
    let grown = grown();
    assert!(
        grown >= CAP / 2,
        "{kind:?}: {grown} is not what was measured"
    );
    assert!(
        grown <= CAP + PIECE + CONSTANT,
        "{kind:?}: {} KiB",
        grown / KIB
    );
    most.abort();
    drive(event_loop, "the end", || most.closed().is_some());
}
