//! Counts the descriptors of the process, and takes the last ones.
//!
//! The pipes of relays that splice: open while there are bytes in them, few besides, and none when there are
//! no descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use support::{Kind, Peer, descriptors, drive, pattern, settle, splicing_from, tie, untied};
use tidegate::{EventLoop, Transport};

const RELAYS: usize = 10;

/// Maximum number of bytes in a pipe.
const PIPE: usize = 128 * 1024;

/// Maximum number of pipes that a loop keeps for the next splice.
const SPARE: usize = 4;

fn tied(event_loop: &mut EventLoop) -> [(Transport, Peer); 2] {
    let [a, b] = untied(event_loop, Kind::Tcp);
    splicing_from(0, || tie(&a.0, &b.0).detach());
    [a, b]
}

/// Lowers the limit to what is open, and opens what is left below it.
fn take_all() -> (Rlimit, Vec<File>) {
    let usual = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(descriptors() as u64 + 8),
        maximum: usual.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    (usual, taken)
}

#[test]
fn pipes_are_open_while_they_are_used_and_without_descriptors_relays_copy() {
    let mut event_loop = EventLoop::new().unwrap();
    let mut relays: Vec<_> = (0..RELAYS).map(|_| tied(&mut event_loop)).collect();
    settle(&mut event_loop);
    let before = descriptors();
    let mut sent = Vec::new();
    for [(_, a_peer), _] in &mut relays {
        sent.push(a_peer.fill(&mut event_loop));
    }
    let (open, stats) = (descriptors() - before, event_loop.handle().stats());
    assert!(open >= 2 * RELAYS, "{open} for {RELAYS} pipes with bytes");
    assert!(open <= 2 * (RELAYS + SPARE), "{open}");
    assert!(stats.buffered <= (RELAYS * PIPE) as u64, "{stats:?}");
    assert_eq!(stats.timers, 0, "none of a user's");
    for ([_, (_, b_peer)], sent) in relays.iter_mut().zip(&sent) {
        b_peer.expect(&mut event_loop, *sent);
        assert!(b_peer.received() == pattern(0, *sent));
    }
    let open = descriptors() - before;
    assert!(open <= 2 * SPARE, "{open} of empty pipes");
    drive(&mut event_loop, "the last pipe to be closed", || {
        descriptors() == before
    });
    let (usual, taken) = take_all();
    let [(a, a_peer), (b, b_peer)] = &mut relays[0];
    let more = {
        let mut more: usize = 0;
        while b.write_buffer_size() == 0 {
            more += a_peer.write(&pattern((sent[0] + more) as u64, 64 * 1024));
            settle(&mut event_loop);
        }
        more
    };
    assert!(!format!("{b:?}").contains("piped"), "{b:?}");
    b_peer.expect(&mut event_loop, sent[0] + more);
    assert!(b_peer.received() == pattern(0, sent[0] + more));
    drop(taken);
    setrlimit(Resource::Nofile, usual).unwrap();
    let (before, closing) = (descriptors(), a.clone());
    closing.abort();
    settle(&mut event_loop);
    assert!(descriptors() < before);
}
