//! Counts the resident memory of the process.
//!
//! A peer that never reads and a writer that ignores every `Paused`: memory stays under the cap
//! and one write.

use bytes::Bytes;
use std::io::IoSlice;
use std::time::Duration;
use support::{Kind, Log, Recorder, adopted, drive, resident, settle};
use tidegate::{EventLoop, Flow, Transport, WriteError, WriteLimits};

const MIB: u64 = 1024 * 1024;
const CAP: u64 = 24 * MIB;

/// The number of bytes, and so of writes, after which the loop ticks: it, not a write, drops owned bytes that were
/// sent.
const TICK: u64 = MIB / 4;
const PER_WRITE: u64 = 256;

/// The maximum memory of the loop, the allocator and the test itself beside the buffer.
const CONSTANT: u64 = 6 * MIB;

type Write = fn(&Transport) -> Result<Flow, WriteError>;

fn large(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write(&LARGE)
}

fn medium(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write(&LARGE[..10_000])
}

fn tiny(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write(&LARGE[..16])
}

fn vectored(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write_vectored(&[IoSlice::new(&LARGE[..1000]); 50])
}

fn owned(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write_owned(vec![1; 100_000])
}

/// Shares memory that is there anyway; only the queue itself can grow.
fn owned_tiny(transport: &Transport) -> Result<Flow, WriteError> {
    transport.write_owned(Bytes::from_static(&LARGE[..1]))
}

static LARGE: [u8; MIB as usize] = [7; MIB as usize];

#[test]
fn a_writer_that_ignores_paused_takes_no_more_than_the_cap_and_one_write() {
    let writes: [(&str, Write); 6] = [
        ("large", large),
        ("medium", medium),
        ("tiny", tiny),
        ("vectored", vectored),
        ("owned", owned),
        ("owned_tiny", owned_tiny),
    ];
    let mut event_loop = EventLoop::new().unwrap();
    settle(&mut event_loop);
    let before = resident();
    for kind in Kind::ALL {
        for (name, write) in writes {
            let log = Log::new();
            let (transport, _peer) = adopted(event_loop.handle(), kind, Recorder::new(&log));
            transport
                .set_write_limits(WriteLimits::new().with_cap(CAP as usize))
                .unwrap();
            settle(&mut event_loop);
            let mut paused = false;
            let (mut written, mut last, mut since) = (0, 0, 0);
            let full = loop {
                match write(&transport) {
                    Ok(flow) => paused = flow.is_paused(),
                    Err(error) => break error,
                }
                assert!(
                    transport.write_buffer_size() as u64 <= 2 * CAP,
                    "no end to it"
                );
                last = transport.written() - written;
                written = transport.written();
                since += last + PER_WRITE;
                if since > TICK {
                    event_loop.run_once(Some(Duration::ZERO)).unwrap();
                    since = 0;
                }
            };
            assert!(matches!(full, WriteError::BufferFull { .. }), "{full}");
            assert!(paused, "it was told so");
            let buffered = transport.write_buffer_size() as u64;
            assert_eq!(transport.written(), written, "nothing of it was taken");
            assert!(buffered < CAP + last, "{kind:?} {name}: {buffered}");
            settle(&mut event_loop);
            let grown = resident().saturating_sub(before);
            assert!(
                grown <= CAP + last + CONSTANT,
                "{kind:?} {name}: {} KiB for {} KiB buffered",
                grown / 1024,
                buffered / 1024
            );
            // Still refused, for ever; and it costs nothing.
            for _ in 0..500 {
                write(&transport).unwrap_err();
                event_loop.run_once(Some(Duration::ZERO)).unwrap();
            }
            assert!(resident().saturating_sub(before) <= CAP + last + CONSTANT);
            transport.abort();
            drive(&mut event_loop, "lost", || log.is_lost());
            assert_eq!(log.closed().unsent(), buffered);
            assert_eq!(log.words(), ["made", "pause", "lost"]);
        }
    }
}
