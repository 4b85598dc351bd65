//! Handles a signal of the process.
//!
//! splice(2) into a broken connection raises SIGPIPE. A process that does not ignore it is not to see it
//! because of a relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Kind, pattern, splicing_from, tie, untied};
use tidegate::EventLoop;

#[test]
fn relays_of_a_process_that_handles_sigpipe_copy() {
    let raised = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, raised.clone()).unwrap();
    let mut event_loop = EventLoop::new().unwrap();
    let [(a, mut a_peer), (b, mut b_peer)] = untied(&mut event_loop, Kind::Tcp);
    splicing_from(0, || tie(&a, &b).detach());
    let sent = a_peer.fill(&mut event_loop);
    assert!(b.write_buffer_size() > 0);
    assert!(!format!("{b:?}").contains("piped"), "{b:?}");
    b_peer.expect(&mut event_loop, sent);
    assert!(b_peer.received() == pattern(0, sent));
    assert!(!raised.load(Ordering::Relaxed));
}
