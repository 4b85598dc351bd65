//! Lowers the limit on descriptors of the process.
//!
//! Connecting by name when the process may open few or no descriptors more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;
use support::{BOUND, Host, Log, Recorder, drive, knows, settle, v4};
use tidegate::{ConnectError, ConnectOptions, EventLoop};

/// Allows `count` descriptors beyond those that are open; returns the limit before.
fn leave(count: u64) -> Rlimit {
    let before = getrlimit(Resource::Nofile);
    // Those above this lowest free number are free too: nothing was closed since the start.
    let next = File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let limit = Rlimit {
        current: Some(next + count),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let more: Vec<_> = (0..=count).map(|_| File::open("/dev/null")).collect();
    let opened = more.iter().filter(|file| file.is_ok()).count();
    assert_eq!(opened as u64, count);
    before
}

#[test]
fn a_race_makes_do_with_the_descriptors_that_it_gets() {
    let hosts = [Host::good(v4(2)), Host::good(v4(3)), Host::good(v4(4))];
    let addresses = hosts.iter().map(Host::addr).collect();
    let mut event_loop = EventLoop::builder()
        .resolver(knows([("many.test", addresses)]))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let options = || ConnectOptions::new("many.test:80").happy_eyeballs_delay(Duration::ZERO);

    let usual = leave(0);
    let log = Log::new();
    let connecting = handle.create_connection(options(), Recorder::new(&log));
    let result = event_loop.run_until(connecting.within(BOUND));
    setrlimit(Resource::Nofile, usual).unwrap();
    let error = result.unwrap_err();
    let attempts: Vec<_> = ConnectError::of(&error).unwrap().attempts().collect();
    assert_eq!(attempts.len(), hosts.len(), "{error}");
    for ((address, reason), host) in attempts.into_iter().zip(&hosts) {
        assert_eq!(*address, host.address());
        assert!(reason.to_string().contains("open files"), "{reason}");
    }
    settle(&mut event_loop);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
    let now = handle.stats();
    assert_eq!((now.connecting, now.timers, now.completions), (0, 0, 0));

    // One is enough for the first address, and the others do not count against it.
    leave(1);
    let log = Log::new();
    let connecting = handle.create_connection(options(), Recorder::new(&log));
    let result = event_loop.run_until(connecting.within(BOUND));
    setrlimit(Resource::Nofile, usual).unwrap();
    let transport = result.unwrap();
    assert_eq!(*transport.peer_addr(), hosts[0].address());
    transport.write(b"made it").unwrap();
    let (mut peer, _) = hosts[0].accepted();
    peer.expect(&mut event_loop, 7);
    assert!(hosts[1..].iter().all(|host| host.accept().is_none()));
    peer.close();
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(log.words(), ["made", "eof", "lost"]);
}
