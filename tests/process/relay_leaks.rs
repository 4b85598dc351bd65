//! Counts the descriptors of the process.
//!
//! However a relay ends, no descriptor is left of it.

use std::fs;
use support::{Kind, Peer, TempDir, Tied, drive, relay_server, settle, splicing_from};
use tidegate::{EventLoop, WriteLimits};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Lets one relay live and end.
fn one(event_loop: &mut EventLoop, kind: Kind, way: usize) {
    let mut tied = Tied::new(event_loop, kind);
    tied.front.send(b"to the back");
    tied.back.expect(event_loop, 11);
    match way {
        0 => {
            tied.front.shutdown_write();
            tied.back.shutdown_write();
        }
        1 => tied.front.reset(),
        2 => tied.back.reset(),
        3 => tied.front.close(),
        4 => tied.server.close_clients(),
        _ => tied.server.abort_clients(),
    }
    if matches!(way, 1..=3) {
        // A Unix peer that closes only ends its stream.
        [&mut tied.front, &mut tied.back]
            .into_iter()
            .for_each(Peer::close);
    }
    drive(event_loop, "the report", || {
        !tied.reports.borrow().is_empty()
    });
    tied.server.close();
}

/// Lets a relay end while its back is being connected, or because it cannot be.
fn unconnected(event_loop: &mut EventLoop, kind: Kind, hanging: bool) {
    let dir = TempDir::new();
    let (listener, address) = kind.listen(&dir);
    listener.listen(0).unwrap();
    let _filler = Peer::connect(&address);
    if !hanging {
        drop(listener);
    }
    let handle = event_loop.handle().clone();
    let (server, reports) = relay_server(&handle, "127.0.0.1:0", WriteLimits::new(), &address);
    let mut front = Peer::connect(&server.local_addrs()[0]);
    if hanging {
        drive(event_loop, "connecting", || handle.stats().connecting == 1);
        front.reset();
    }
    drive(event_loop, "the report", || !reports.borrow().is_empty());
    server.close();
}

#[test]
fn however_a_relay_ends_no_descriptor_is_left() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    settle(&mut event_loop);
    let before = descriptors();
    for kind in Kind::ALL {
        println!("{kind:?}");
        for round in 0..2 {
            for way in 0..6 {
                one(&mut event_loop, kind, way);
                splicing_from(0, || one(&mut event_loop, kind, way));
            }
            unconnected(&mut event_loop, kind, round % 2 == 0);
        }
    }
    drive(&mut event_loop, "the end of lingering", || {
        handle.stats().lingering == 0
    });
    drive(
        &mut event_loop,
        "the pipes of the relays to be closed",
        || descriptors() <= before,
    );
    settle(&mut event_loop);
    let stats = handle.stats();
    assert_eq!((stats.connections, stats.connecting), (0, 0));
    assert_eq!((stats.listeners, stats.completions), (0, 0));
    assert_eq!((stats.timers, descriptors()), (0, before));
}
