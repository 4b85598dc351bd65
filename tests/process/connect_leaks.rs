//! Counts the descriptors of the process.
//!
//! Whatever becomes of a connect, nothing of it stays.

use std::time::Duration;
use support::{Kind, Log, Peer, Recorder, TempDir, settle};
use tidegate::{Address, ConnectOptions, EventLoop};

/// The descriptor that reads the directory is counted each time.
fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}

#[test]
fn no_way_in_which_a_connect_ends_leaks_a_descriptor() {
    type Way = (&'static str, fn(&mut EventLoop, &Address, Recorder));
    let ways: [Way; 4] = [
        ("given up at once", |event_loop, address, protocol| {
            drop(event_loop.handle().create_connection(address, protocol));
        }),
        ("given up under way", |event_loop, address, protocol| {
            let connect = event_loop.handle().create_connection(address, protocol);
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
            drop(connect);
        }),
        ("timed out", |event_loop, address, protocol| {
            let options = ConnectOptions::new(address).timeout(Duration::from_millis(1));
            let connect = event_loop.handle().create_connection(options, protocol);
            drop(event_loop.run_until(connect));
        }),
        ("limited from outside", |event_loop, address, protocol| {
            let connect = event_loop.handle().create_connection(address, protocol);
            drop(event_loop.run_until(connect.within(Duration::from_millis(1))));
        }),
    ];
    for kind in Kind::ALL {
        println!("{kind:?}");
        let dir = TempDir::new();
        let (refusing, refused) = kind.listen(&dir);
        drop(refusing);
        let dir = TempDir::new();
        let (full, waiting) = kind.listen(&dir);
        full.listen(0).unwrap();
        let _filler = Peer::connect(&waiting);
        let dir = TempDir::new();
        let (listener, open) = kind.listen(&dir);
        let mut event_loop = EventLoop::new().unwrap();
        let before = descriptors();
        for address in [&refused, &waiting, &open] {
            for (name, way) in ways {
                for _ in 0..10 {
                    let log = Log::new();
                    way(&mut event_loop, address, Recorder::new(&log));
                    if address == &open {
                        // Those that won are closed: a transport that was taken, by the loop's
                        // end of this round.
                        listener.set_nonblocking(true).unwrap();
                        while let Ok((peer, _)) = listener.accept() {
                            drop(peer);
                        }
                    }
                    settle(&mut event_loop);
                    let now = event_loop.handle().stats();
                    assert_eq!(now.connecting + now.connections, 0, "{name}: {address}");
                    assert_eq!(log.dropped(), 1);
                }
                assert_eq!(descriptors(), before, "{name}: {address}");
            }
        }
    }
}
