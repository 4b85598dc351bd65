//! Peers that do not read, and who waits for them.

use crate::{Log, pattern, settle};
use tidegate::{Closed, Completion, EventLoop, Transport, WriteLimits};

/// Raises the high-water mark so far that no test reaches it.
#[track_caller]
pub fn never_paused(transport: &Transport) {
    if let Err(error) = transport.set_write_limits(WriteLimits::new().with_high(32 << 20)) {
        panic!("{error}");
    }
}

/// Writes [`pattern`] to a peer that does not read, until the kernel takes nothing more and at
/// least 1 MiB stays behind in the transport.
///
/// The limits hold only at the end, so there is one pause at most, however slowly the kernel moves
/// bytes on to the peer.
#[track_caller]
pub fn stall(event_loop: &mut EventLoop, transport: &Transport) {
    const CHUNK: usize = 256 * 1024;
    let limits = transport.write_limits();
    never_paused(transport);
    while transport.write_buffer_size() < 4 * CHUNK {
        let written = transport.write(&pattern(transport.written(), CHUNK));
        if let Err(error) = written {
            panic!("the peer was to stall, but: {error}");
        }
        settle(event_loop);
    }
    if let Err(error) = transport.set_write_limits(limits) {
        panic!("{error}");
    }
    settle(event_loop);
}

/// Notes the answer in the log, when it comes: `NAME: ok`, or how the connection ended.
pub fn note_answer(log: &Log, name: &'static str, completion: Completion<()>) {
    let log = log.clone();
    completion.then(move |_, answer| {
        log.note(match answer.as_ref().map_err(Closed::of) {
            Ok(()) => format!("{name}: ok"),
            Err(Some(closed)) => format!("{name}: {closed}"),
            Err(None) => format!("{name}: {answer:?}"),
        });
    });
}
