//! Filling what lies between two ends, one of which does not read.

use crate::{Peer, no_limits, pattern, put, settle};
use tidegate::{EventLoop, Transport};

/// A mebibyte: more than the default high-water mark.
pub const MIB: usize = 1024 * 1024;

/// Lifts the limits for writing; returns the transport, to be filled.
#[track_caller]
pub fn never_paused(transport: &Transport) -> &Transport {
    if let Err(error) = transport.set_write_limits(no_limits()) {
        panic!("{error}");
    }
    transport
}

/// Writes [`text`](crate::text) to a peer that does not read, until the kernel takes nothing more
/// and `least` bytes or more stay behind in the transport.
///
/// The limits hold only at the end, so there is one pause at most, however slowly the kernel moves
/// bytes on to the peer.
#[track_caller]
pub fn stall(event_loop: &mut EventLoop, transport: &Transport, least: usize) {
    let limits = transport.write_limits();
    never_paused(transport);
    while transport.write_buffer_size() < least {
        while transport.write_buffer_size() == 0 {
            put(transport, 256 * 1024);
        }
        put(transport, least);
        // The kernel may move what it has and find room again.
        settle(event_loop);
    }
    if let Err(error) = transport.set_write_limits(limits) {
        panic!("{error}");
    }
    settle(event_loop);
}

/// Writes until the kernel takes no more and the transport is paused, far above its low-water
/// mark; nothing when writing is over. For callbacks, which cannot run the loop.
pub fn flood(transport: &Transport) {
    let chunk = vec![7; 256 * 1024];
    while transport.write(&chunk).is_ok_and(|flow| !flow.is_paused()) {}
    // Refused when writing is over.
    let _ = transport.write(&chunk);
}

impl Peer {
    /// Sends [`pattern`] until neither kernel nor the reader takes more. Returns the number of bytes.
    pub fn fill(&mut self, event_loop: &mut EventLoop) -> usize {
        let mut sent: usize = 0;
        loop {
            let before = sent;
            loop {
                let n = self.write(&pattern(sent as u64, 64 * 1024));
                sent += n;
                if n == 0 {
                    break;
                }
            }
            settle(event_loop);
            if sent == before {
                return sent;
            }
        }
    }
}
