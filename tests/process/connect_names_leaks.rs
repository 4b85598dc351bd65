//! Counts the descriptors and the threads of the process.
//!
//! Whatever becomes of a connect by name, nothing of it stays.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};
use support::{
    BOUND, Gate, Host, Log, Recorder, V6, descriptors, drive, has_ipv6, knows, settle, v4,
};
use tidegate::{Completion, ConnectOptions, EventLoop, Protocol, Transport};

const MS: Duration = Duration::from_millis(1);
const ROUNDS: usize = 15;
const THREADS: usize = 3;

fn job_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("tidegate-job"))
        .count()
}

/// The slots of the registry that the next sources get; one that leaked is not among them.
fn free_slots(event_loop: &mut EventLoop) -> BTreeSet<String> {
    let adopt = |_| {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let protocol = Recorder::new(&Log::new());
        event_loop.handle().adopt(ours, protocol).unwrap()
    };
    let transports: Vec<_> = (0..4).map(adopt).collect();
    let slots = transports.iter().map(|transport| {
        transport.abort();
        let id = transport.id().to_string();
        id.split_once('.').unwrap().0.to_owned()
    });
    let slots = slots.collect();
    settle(event_loop);
    slots
}

type Ending = fn(&mut EventLoop, Completion<Transport>) -> io::Result<()>;

/// Ways in which a connect may end before, or without, its own result.
const ENDINGS: [(&str, Ending); 5] = [
    ("dropped at once", |_, connecting| {
        drop(connecting);
        Ok(())
    }),
    ("dropped after a tick", |event_loop, connecting| {
        event_loop.run_once(Some(MS))?;
        drop(connecting);
        Ok(())
    }),
    ("dropped after three ticks", |event_loop, connecting| {
        for _ in 0..3 {
            event_loop.run_once(Some(MS))?;
        }
        drop(connecting);
        Ok(())
    }),
    ("out of time", |event_loop, connecting| {
        let result = event_loop.run_until(connecting.within(6 * MS));
        result.map(|transport| transport.abort())
    }),
    ("answered", |event_loop, connecting| {
        let result = event_loop.run_until(connecting);
        result.map(|transport| transport.abort())
    }),
];

#[test]
fn no_end_of_a_connect_by_name_leaves_anything_behind() {
    let goods = [Host::good(v4(2)), Host::good(v4(3))];
    let refusing = [Host::refusing(v4(4)), Host::refusing(v4(5))];
    let hanging = [Host::hanging(v4(6)), Host::hanging(v4(7))];
    let good6 = has_ipv6().then(|| Host::good(V6));
    let at6: Vec<SocketAddr> = good6.iter().map(Host::addr).collect();
    let all =
        |hosts: &[&Host]| -> Vec<SocketAddr> { hosts.iter().map(|host| host.addr()).collect() };
    let lists = [
        ("refused.test", all(&[&refusing[0], &refusing[1]])),
        ("silent.test", all(&[&hanging[0], &hanging[1]])),
        ("mixed.test", all(&[&refusing[0], &hanging[0], &goods[0]])),
        ("late.test", all(&[&hanging[0], &goods[0]])),
        ("both.test", all(&[&goods[0], &goods[1]])),
        (
            "families.test",
            [all(&[&hanging[0], &goods[0]]), at6].concat(),
        ),
        ("nowhere.test", Vec::new()),
        ("slow.test", all(&[&goods[0]])),
    ];
    let gate = Gate::new();
    let mut event_loop = EventLoop::builder()
        .executor_threads(THREADS)
        .resolver(gate.before(knows(lists.clone())))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    // The threads are there from the first question on, and a slot has been used.
    for _ in 0..THREADS {
        handle.resolve("slow.test", 1).detach();
    }
    gate.wait_for(THREADS);
    gate.open();
    drive(&mut event_loop, "the answers", || handle.stats().jobs == 0);
    let slots = free_slots(&mut event_loop);
    let before = (descriptors(), job_threads());
    assert_eq!(before.1, THREADS);

    let log = Log::new();
    let mut protocols = 0;
    let drain = || {
        for good in goods.iter().chain(&good6) {
            while good.accept().is_some() {}
        }
    };
    for (name, _) in &lists {
        for (how, end) in ENDINGS {
            for round in 0..ROUNDS {
                let limit = if how == "answered" { 40 * MS } else { BOUND };
                let mut options = ConnectOptions::new((*name, 80))
                    .timeout(limit)
                    .happy_eyeballs_delay(MS * (round % 3) as u32);
                if round % 4 == 3 {
                    options = options.local_addr(SocketAddr::new(v4(9), 0));
                }
                let connecting = handle.create_connection(options, Quiet::new(&log));
                protocols += 1;
                // Some fail, which is one of the ways to end.
                drop(end(&mut event_loop, connecting));
                // One that won although nobody took it is closed, and waits for its peer.
                drive(&mut event_loop, "the end of a connection", || {
                    drain();
                    let now = handle.stats();
                    now.connections + now.lingering == 0
                });
                settle(&mut event_loop);
                let now = handle.stats();
                assert_eq!((now.connecting, now.connections), (0, 0), "{name}: {how}");
                let left = (now.jobs, now.timers, now.completions);
                assert_eq!(left, (0, 0, 0), "{name}: {how}");
            }
            assert_eq!((descriptors(), job_threads()), before, "{name}: {how}");
            assert_eq!(free_slots(&mut event_loop), slots, "{name}: {how}");
            assert_eq!(log.dropped(), protocols, "{name}: {how}");
        }
    }

    // The loop takes its descriptors and threads along, also in the middle of many connects.
    let logs: Vec<_> = (0..lists.len()).map(|_| Log::new()).collect();
    let connecting: Vec<_> = lists
        .iter()
        .zip(&logs)
        .map(|((name, _), log)| handle.create_connection((*name, 80), Quiet::new(log)))
        .collect();
    event_loop.run_once(Some(MS)).unwrap();
    drop(event_loop);
    drain();
    // The kernel may list a thread for a moment after it was joined.
    let begun = Instant::now();
    while job_threads() > 0 {
        assert!(begun.elapsed() < BOUND, "threads are left");
        thread::yield_now();
    }
    drop((connecting, handle));
    for log in logs {
        assert_eq!(log.dropped(), 1);
    }
    // The poll, a second descriptor of it, and the waker's.
    let own = before.0 - descriptors();
    assert!((2..=4).contains(&own), "the loop itself had {own}");
}

/// Counts its drops; the record itself is of one connection.
struct Quiet {
    _counted: Recorder,
}

impl Quiet {
    fn new(log: &Log) -> Self {
        Self {
            _counted: Recorder::new(log),
        }
    }
}

impl Protocol for Quiet {}
