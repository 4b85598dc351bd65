//! Options of a connect: its local address, and its time limit.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{
    BOUND, Gate, Host, Kind, Log, Recorder, TempDir, V6, failures, has_ipv6, knows, occupy, settle,
    v4,
};
use tidegate::{Address, ConnectError, ConnectOptions, EventLoop, Transport};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn knowing(hosts: &[&Host]) -> EventLoop {
    let addresses = hosts.iter().map(|host| host.addr()).collect();
    EventLoop::builder()
        .resolver(knows([("many.test", addresses)]))
        .build()
        .unwrap()
}

fn many() -> ConnectOptions {
    ConnectOptions::new("many.test:80").happy_eyeballs_delay(HOUR)
}

#[track_caller]
fn connect(event_loop: &mut EventLoop, options: ConnectOptions) -> io::Result<Transport> {
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(&log))
        .within(BOUND);
    let result = event_loop.run_until(connecting);
    settle(event_loop);
    let now = event_loop.handle().stats();
    let left = (now.connecting, now.timers, now.completions, now.jobs);
    assert_eq!(left, (0, 0, 0, 0));
    match &result {
        Ok(_) => assert_eq!(log.words(), ["made"]),
        Err(_) => assert_eq!((log.words().len(), log.dropped()), (0, 1)),
    }
    result
}

fn refusal(addr: SocketAddr) -> String {
    format!("{addr}: Connection refused")
}

/// A port of this address that nobody uses.
fn free_port(last: u8) -> SocketAddr {
    Host::refusing(v4(last)).addr()
}

#[test]
fn the_peer_sees_the_local_address_that_was_asked_for() {
    let good = Host::good(v4(2));
    let mut event_loop = knowing(&[&good]);
    for to in [many(), good.addr().into()] {
        let from = SocketAddr::new(v4(5), 0);
        let transport = connect(&mut event_loop, to.local_addr(from)).unwrap();
        let (_, seen) = good.accepted();
        assert_eq!(seen.ip(), from.ip());
        assert_ne!(seen.port(), 0);
        assert_eq!(*transport.local_addr(), Address::Inet(seen));
    }
    for to in [many(), good.addr().into()] {
        let from = free_port(81);
        let transport = connect(&mut event_loop, to.local_addr(from)).unwrap();
        assert_eq!(good.accepted().1, from);
        assert_eq!(*transport.local_addr(), Address::Inet(from));
    }
}

#[test]
fn the_local_address_may_be_of_ipv6() {
    if !has_ipv6() {
        return;
    }
    let good = Host::good(V6);
    let mut event_loop = knowing(&[&good]);
    let from = SocketAddr::new(V6, 0);
    let transport = connect(&mut event_loop, many().local_addr(from)).unwrap();
    assert_eq!(*transport.local_addr(), Address::Inet(good.accepted().1));
}

#[test]
fn a_local_address_that_is_in_use_is_named_in_the_error() {
    let goods = [Host::good(v4(2)), Host::good(v4(3))];
    for busy in [Host::refusing(v4(5)), Host::good(v4(5))] {
        let mut event_loop = knowing(&[&goods[0], &goods[1]]);
        let result = connect(&mut event_loop, many().local_addr(busy.addr()));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let text = error.to_string();
        for good in &goods {
            let line = format!("{}: the local address {} ", good.addr(), busy.addr());
            assert!(text.contains(&line), "{text}");
            assert!(good.accept().is_none());
        }
    }
}

#[test]
fn a_listener_keeps_its_port_to_itself() {
    let good = Host::good(v4(2));
    // As the standard library makes it: with SO_REUSEADDR.
    let busy = std::net::TcpListener::bind((v4(5), 0)).unwrap();
    let from = busy.local_addr().unwrap();
    let mut event_loop = knowing(&[&good]);
    let error = connect(&mut event_loop, many().local_addr(from)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(good.accept().is_none());
}

#[test]
fn one_local_port_reaches_several_peers_but_each_of_them_once() {
    let (good, other) = (Host::good(v4(2)), Host::good(v4(3)));
    let mut event_loop = EventLoop::new().unwrap();
    let from = free_port(83);
    let to = |host: &Host| ConnectOptions::new(host.addr()).local_addr(from);
    let first = connect(&mut event_loop, to(&good)).unwrap();
    let second = connect(&mut event_loop, to(&other)).unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    let error = connect(&mut event_loop, to(&good)).unwrap_err();
    let text = error.to_string();
    let says = format!("the local address {from} cannot be used");
    assert!(text.contains(&says), "{text}");
    assert!(good.accept().is_some() && good.accept().is_none());
}

#[test]
fn an_address_of_the_other_family_is_passed_over_with_a_reason() {
    if !has_ipv6() {
        return;
    }
    let (good6, good4) = (Host::good(V6), Host::good(v4(2)));
    let refusing = Host::refusing(v4(3));
    let from = SocketAddr::new(v4(5), 0);

    let mut event_loop = knowing(&[&good6, &good4]);
    let transport = connect(&mut event_loop, many().local_addr(from)).unwrap();
    assert_eq!(*transport.peer_addr(), good4.address());
    let from6 = SocketAddr::new(V6, 0);
    let mut event_loop = knowing(&[&good4, &good6]);
    let transport = connect(&mut event_loop, many().local_addr(from6)).unwrap();
    assert_eq!(*transport.peer_addr(), good6.address());
    assert!(good6.accept().is_some() && good6.accept().is_none());

    let mut event_loop = knowing(&[&good6, &refusing]);
    let error = connect(&mut event_loop, many().local_addr(from)).unwrap_err();
    let text = error.to_string();
    let reason = format!("{}: it cannot be reached from the local", good6.addr());
    assert!(text.contains(&reason), "{text}");
    assert!(text.contains(&refusal(refusing.addr())), "{text}");
    assert_eq!(ConnectError::of(&error).unwrap().attempts().count(), 2);

    let direct = ConnectOptions::new(good6.addr()).local_addr(from);
    let error = connect(&mut event_loop, direct).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(text.contains("127.0.0.5:0"), "{text}");
    assert!(good6.accept().is_none());
}

#[test]
fn a_unix_socket_cannot_be_reached_from_an_ip_address() {
    let mut event_loop = EventLoop::new().unwrap();
    let dir = TempDir::new();
    let (listener, address) = Kind::Unix.listen(&dir);
    listener.set_nonblocking(true).unwrap();
    let from = SocketAddr::new(v4(5), 0);
    let options = ConnectOptions::new(&address).local_addr(from);
    let error = connect(&mut event_loop, options).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(text.contains("127.0.0.5:0"), "{text}");
    assert!(listener.accept().is_err());
}

#[test]
fn every_address_is_tried_from_the_same_local_port() {
    for first in [Host::refusing(v4(2)), Host::hanging(v4(2))] {
        let good = Host::good(v4(3));
        let mut event_loop = knowing(&[&first, &good]);
        let from = free_port(82);
        let options = many().happy_eyeballs_delay(20 * MS).local_addr(from);
        let transport = connect(&mut event_loop, options).unwrap();
        assert_eq!(*transport.peer_addr(), good.address());
        assert_eq!(good.accepted().1, from);
    }
}

#[test]
fn resolving_that_takes_too_long_is_a_timeout() {
    let gate = Gate::new();
    let good = Host::good(v4(2));
    let mut event_loop = EventLoop::builder()
        .resolver(gate.before(knows([("slow.test", vec![good.addr()])])))
        .build()
        .unwrap();
    let begun = Instant::now();
    let options = ConnectOptions::new("slow.test:80").timeout(40 * MS);
    let error = connect(&mut event_loop, options).unwrap_err();
    assert!(begun.elapsed() >= 40 * MS);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        "cannot connect to slow.test:80: no connection within 40ms: \
         the name was still being resolved"
    );
    assert_eq!(ConnectError::of(&error).unwrap().attempts().count(), 0);
    // Its result, when it comes, starts nothing.
    gate.open();
    let next = event_loop.handle().resolve("slow.test", 80);
    event_loop.run_until(next).unwrap();
    settle(&mut event_loop);
    assert_eq!(event_loop.handle().stats().connecting, 0);
    assert!(good.accept().is_none());
}

#[test]
fn a_timeout_behind_jobs_that_hold_every_thread_says_that_the_name_was_not_resolved() {
    let good = Host::good(v4(2));
    let mut event_loop = EventLoop::builder()
        .executor_threads(1)
        .resolver(knows([("many.test", vec![good.addr()])]))
        .build()
        .unwrap();
    let busy = occupy(event_loop.handle());
    let handle = event_loop.handle().clone();
    let connecting = handle.create_connection(many().timeout(20 * MS), Recorder::default());
    let text = event_loop.run_until(connecting).unwrap_err().to_string();
    assert!(
        text.ends_with(": the name was still being resolved"),
        "{text}"
    );
    drop(busy);
    connect(&mut event_loop, many().timeout(BOUND)).unwrap();
}

#[test]
fn a_race_that_takes_too_long_is_a_timeout_that_names_the_addresses() {
    let hosts = [Host::hanging(v4(2)), Host::hanging(v4(3))];
    let mut event_loop = knowing(&[&hosts[0], &hosts[1]]);
    let begun = Instant::now();
    let options = many().happy_eyeballs_delay(MS).timeout(200 * MS);
    let error = connect(&mut event_loop, options).unwrap_err();
    assert!(begun.elapsed() >= 200 * MS);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot connect to many.test:80: no connection within 200ms; \
             {}: no reply yet; {}: no reply yet",
            hosts[0].addr(),
            hosts[1].addr()
        )
    );
    assert!(hosts.iter().all(|host| host.waiting_for_it() == 0));
}

#[test]
fn the_time_limit_is_one_for_resolving_and_racing_together() {
    let gate = Gate::new();
    let hanging = Host::hanging(v4(2));
    let mut event_loop = EventLoop::builder()
        .resolver(gate.before(knows([("slow.test", vec![hanging.addr()])])))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let options = ConnectOptions::new("slow.test:80").timeout(HOUR);
    let connecting = handle.create_connection(options, Recorder::new(&Log::new()));
    assert_eq!(handle.stats().timers, 1);
    gate.open();
    support::drive(&mut event_loop, "the race", || {
        hanging.waiting_for_it() == 1
    });
    // Still the one from the beginning; nothing follows that it would have to wait for.
    assert_eq!(handle.stats().timers, 1);
    drop(connecting);
    assert_eq!(handle.stats().timers, 0);
}

#[test]
fn a_limit_or_a_delay_beyond_what_the_clock_can_say_is_none() {
    let good = Host::good(v4(2));
    let mut event_loop = knowing(&[&good]);
    for to in [many(), good.addr().into()] {
        let options = to
            .timeout(Duration::MAX)
            .happy_eyeballs_delay(Duration::MAX);
        let transport = connect(&mut event_loop, options).unwrap();
        assert_eq!(*transport.peer_addr(), good.address());
    }
}

#[test]
fn without_time_a_connect_has_timed_out_at_once() {
    let hanging = Host::hanging(v4(2));
    let mut event_loop = knowing(&[&hanging]);
    for to in [many(), hanging.addr().into()] {
        let error = connect(&mut event_loop, to.timeout(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(hanging.waiting_for_it(), 0);
    }
}

#[test]
fn an_address_is_named_once_when_it_was_all_that_was_asked_for() {
    let refusing = Host::refusing(v4(2));
    let mut event_loop = knowing(&[&refusing]);
    let error = connect(&mut event_loop, refusing.addr().into()).unwrap_err();
    let text = error.to_string();
    let expected = format!("cannot connect to {}", refusal(refusing.addr()));
    assert!(text.starts_with(&expected), "{text}");
    let error = ConnectError::of(&error).unwrap();
    let (address, reason) = error.attempts().next().unwrap();
    assert_eq!(*address, refusing.address());
    assert_eq!(reason.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_error_of_a_detached_connect_is_reported() {
    let refusing = [Host::refusing(v4(2)), Host::refusing(v4(3))];
    let mut event_loop = knowing(&[&refusing[0], &refusing[1]]);
    let told = failures(event_loop.handle());
    event_loop
        .handle()
        .create_connection(many(), Recorder::new(&Log::new()))
        .detach();
    support::drive(&mut event_loop, "the report", || !told.borrow().is_empty());
    let text = told.borrow()[0].to_string();
    for host in &refusing {
        assert!(text.contains(&refusal(host.addr())), "{text}");
    }
    assert_eq!(told.borrow().len(), 1);
}

#[test]
fn options_tell_the_host_that_they_connect_to_if_there_is_one() {
    for (to, host) in [
        ("localhost:80", Some("localhost")),
        ("127.0.0.1:80", Some("127.0.0.1")),
        ("[::1]:80", Some("::1")),
        ("[fe80::1%eth0]:80", Some("fe80::1")),
        ("[fe80::1%3]:80", Some("fe80::1")),
        ("unix:/tmp/server.sock", None),
        ("nonsense", None),
    ] {
        assert_eq!(ConnectOptions::new(to).host().as_deref(), host, "{to}");
    }
    assert_eq!(ConnectOptions::new(Address::Unnamed).host(), None);
}

#[test]
fn a_connect_fails_with_the_error_that_it_was_given_unless_its_address_is_wrong() {
    let good = Host::good(v4(2));
    let mut event_loop = knowing(&[&good]);
    let error = || io::Error::new(io::ErrorKind::Unsupported, "not like this");
    let options = many()
        .fail_with(error())
        .fail_with(io::Error::other("later"));
    assert_eq!(options.validate().unwrap_err().to_string(), "not like this");
    let failed = connect(&mut event_loop, options).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::Unsupported);
    assert_eq!(good.waiting_for_it(), 0);
    let options = ConnectOptions::new("nonsense").fail_with(error());
    assert_eq!(
        options.validate().unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}
