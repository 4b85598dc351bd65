//! Counts the descriptors of the process.
//!
//! Names with random addresses.

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{BOUND, Fate, Host, Log, Recorder, V6, descriptors, drive, has_ipv6, settle, v4};
use tidegate::{Address, ConnectError, ConnectOptions, EventLoop};

const CASES: u32 = 250;
const MS: Duration = Duration::from_millis(1);

/// The addresses of a name, and their behaviour.
struct World {
    hosts: Vec<(Fate, Host)>,
    event_loop: EventLoop,
    /// The addresses that the name stands for now.
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
}

impl World {
    fn new() -> Self {
        let mut hosts = Vec::new();
        for fate in [Fate::Good, Fate::Refusing, Fate::Hanging] {
            let mut ips = vec![v4(2), v4(3)];
            if has_ipv6() {
                ips.push(V6);
            }
            hosts.extend(ips.into_iter().map(|ip| (fate, Host::new(fate, ip))));
        }
        let addresses: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let known = addresses.clone();
        let event_loop = EventLoop::builder()
            .resolver(move |_, _| Ok(known.lock().unwrap().clone()))
            .executor_threads(1)
            .build()
            .unwrap();
        Self {
            hosts,
            event_loop,
            addresses,
        }
    }

    fn fate(&self, address: &Address) -> Option<Fate> {
        let mut hosts = self.hosts.iter();
        let (fate, _) = hosts.find(|(_, host)| host.address() == *address)?;
        Some(*fate)
    }

    fn run(&mut self, case: &Case) -> Result<(), TestCaseError> {
        let chosen: Vec<_> = case
            .hosts
            .iter()
            .map(|index| index.get(&self.hosts))
            .collect();
        let has = |fate| chosen.iter().any(|(other, _)| *other == fate);
        *self.addresses.lock().unwrap() = chosen.iter().map(|(_, host)| host.addr()).collect();
        let expected: Result<Fate, io::ErrorKind> = if chosen.is_empty() {
            Err(io::ErrorKind::NotFound)
        } else if has(Fate::Good) {
            Ok(Fate::Good)
        } else if has(Fate::Hanging) {
            Err(io::ErrorKind::TimedOut)
        } else {
            Err(io::ErrorKind::ConnectionRefused)
        };
        // Where a result must come, none is cut off.
        let limit = match expected {
            Err(io::ErrorKind::TimedOut) => 12 * MS,
            _ => BOUND,
        };
        let log = Log::new();
        let begun = Instant::now();
        let options = ConnectOptions::new("name.test:80")
            .happy_eyeballs_delay(case.delay)
            .timeout(limit);
        let connecting = self
            .event_loop
            .handle()
            .create_connection(options, Recorder::new(&log));
        let given_up = case.given_up_after;
        if let Some(ticks) = given_up {
            for _ in 0..ticks {
                self.event_loop.run_once(Some(MS)).unwrap();
            }
            drop(connecting);
        } else {
            let result = self.event_loop.run_until(connecting);
            match &result {
                Ok(transport) => {
                    prop_assert_eq!(expected, Ok(Fate::Good));
                    prop_assert_eq!(self.fate(transport.peer_addr()), Some(Fate::Good));
                    prop_assert_eq!(log.words(), ["made"]);
                    // The first to hang before it has had its time.
                    let first = chosen[0].0;
                    prop_assert!(first != Fate::Hanging || begun.elapsed() >= case.delay);
                    transport.abort();
                }
                Err(error) => {
                    prop_assert_eq!(expected, Err(error.kind()), "{}", error);
                    self.check_attempts(error)?;
                }
            }
        }
        self.check_end(&log)
    }

    /// Each address that was tried has the reason of its kind.
    fn check_attempts(&self, error: &io::Error) -> Result<(), TestCaseError> {
        let in_time = error.kind() != io::ErrorKind::TimedOut;
        let Some(error) = ConnectError::of(error) else {
            return Err(TestCaseError::fail(format!("{error} is not of a connect")));
        };
        for (address, reason) in error.attempts() {
            let possible = match self.fate(address) {
                // It may have been tried in the last moment only.
                Some(Fate::Refusing) if in_time => [io::ErrorKind::ConnectionRefused].as_slice(),
                Some(Fate::Refusing) => {
                    &[io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut]
                }
                _ => &[io::ErrorKind::TimedOut],
            };
            prop_assert!(possible.contains(&reason.kind()), "{}", error);
        }
        Ok(())
    }

    /// Lets what is left end, and sees that nothing is.
    fn check_end(&mut self, log: &Log) -> Result<(), TestCaseError> {
        let handle = self.event_loop.handle().clone();
        let hosts = &self.hosts;
        drive(&mut self.event_loop, "the end of the connection", || {
            for (fate, host) in hosts {
                while *fate == Fate::Good && host.accept().is_some() {}
            }
            let now = handle.stats();
            now.connections + now.lingering == 0
        });
        settle(&mut self.event_loop);
        let now = handle.stats();
        let left = (now.connecting, now.timers, now.completions, now.jobs);
        prop_assert_eq!(left, (0, 0, 0, 0));
        prop_assert_eq!(log.dropped(), 1);
        let made = log.words().first().is_some_and(|word| word == "made");
        prop_assert_eq!(made, log.is_lost());
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Case {
    hosts: Vec<prop::sample::Index>,
    delay: Duration,
    given_up_after: Option<u8>,
}

fn cases() -> impl Strategy<Value = Case> {
    let hosts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    let delay = prop_oneof![
        Just(Duration::ZERO),
        (1..4_u32).prop_map(|n| n * MS),
        (1..900_u32).prop_map(|n| Duration::from_micros(n.into())),
    ];
    let given_up_after = prop::option::weighted(0.25, 0..6_u8);
    (hosts, delay, given_up_after).prop_map(|(hosts, delay, given_up_after)| Case {
        hosts,
        delay,
        given_up_after,
    })
}

#[test]
fn a_name_connects_exactly_when_one_of_its_addresses_does() {
    let world = std::cell::RefCell::new(World::new());
    // Once, for the thread and what the first connect allocates.
    let warm = Case {
        hosts: Vec::new(),
        delay: MS,
        given_up_after: None,
    };
    world.borrow_mut().run(&warm).unwrap();
    let before = descriptors();
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&cases(), |case| {
        world.borrow_mut().run(&case)?;
        prop_assert_eq!(descriptors(), before);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
