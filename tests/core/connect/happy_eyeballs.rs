//! A name with several addresses: which are tried when, which one wins, and what is left of the
//! others.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::{
    BOUND, Gate, Host, Log, Peer, Recorder, Seen, Served, V6, drive, has_ipv6, knows, settle, v4,
};
use tidegate::{Address, Closed, ConnectError, ConnectOptions, EventLoop, Transport};

const MS: Duration = Duration::from_millis(1);
/// A delay that no test can have waited for.
const HOUR: Duration = Duration::from_secs(3600);

fn addrs(hosts: &[&Host]) -> Vec<SocketAddr> {
    hosts.iter().map(|host| host.addr()).collect()
}

/// A loop in which `many.test` has these addresses.
fn knowing(hosts: &[&Host]) -> EventLoop {
    EventLoop::builder()
        .resolver(knows([("many.test", addrs(hosts))]))
        .build()
        .unwrap()
}

fn many() -> ConnectOptions {
    ConnectOptions::new("many.test:80")
}

/// Connects, and returns the time that it took.
#[track_caller]
fn connect(
    event_loop: &mut EventLoop,
    options: ConnectOptions,
    log: &Log,
) -> (io::Result<Transport>, Duration) {
    let begun = Instant::now();
    let connecting = event_loop
        .handle()
        .create_connection(options, Recorder::new(log))
        .within(BOUND);
    let result = event_loop.run_until(connecting);
    (result, begun.elapsed())
}

/// The winner is at `host`, and nothing else is left of the connect.
#[track_caller]
fn assert_won(event_loop: &mut EventLoop, transport: &Transport, host: &Host, log: &Log) -> Peer {
    assert_eq!(*transport.peer_addr(), host.address());
    let (mut peer, from) = host.accepted();
    assert_eq!(*transport.local_addr(), Address::Inet(from));
    transport.write(b"the winner").unwrap();
    peer.expect(event_loop, 10);
    assert_eq!(peer.received(), b"the winner");
    assert_eq!(log.words(), ["made"]);
    let now = event_loop.handle().stats();
    let left = (now.connecting, now.timers, now.completions, now.jobs);
    assert_eq!(left, (0, 0, 0, 0));
    assert_eq!(now.connections, 1);
    peer
}

#[track_caller]
fn assert_nothing_left(event_loop: &mut EventLoop) {
    settle(event_loop);
    let now = event_loop.handle().stats();
    let left = (now.connecting, now.timers, now.completions, now.jobs);
    assert_eq!(left, (0, 0, 0, 0));
    assert_eq!(now.connections, 0);
}

#[test]
fn localhost_connects_in_every_form() {
    let mut event_loop = EventLoop::new().unwrap();
    let served = Served::echo(event_loop.handle(), "127.0.0.1:0");
    let port = served.address().as_inet().unwrap().port();
    let forms: [ConnectOptions; 3] = [
        format!("localhost:{port}").into(),
        format!("localhost:{port}").as_str().into(),
        ("localhost", port).into(),
    ];
    for options in forms {
        let log = Log::new();
        let (result, _) = connect(&mut event_loop, options, &log);
        let transport = result.unwrap();
        assert_eq!(*transport.peer_addr(), served.address());
        transport.write(b"ping").unwrap();
        drive(&mut event_loop, "the echo", || log.data() == b"ping");
        transport.abort();
        drive(&mut event_loop, "lost", || log.is_lost());
    }
}

#[test]
fn a_name_leads_to_its_address_and_the_transport_says_to_which() {
    let mut ips = vec![v4(1), v4(2), v4(250)];
    if has_ipv6() {
        ips.push(V6);
    }
    for ip in ips {
        let host = Host::good(ip);
        let mut event_loop = knowing(&[&host]);
        let log = Log::new();
        let (result, _) = connect(&mut event_loop, many(), &log);
        assert_won(&mut event_loop, &result.unwrap(), &host, &log);
    }
}

#[test]
fn an_address_that_hangs_is_joined_by_the_next_when_the_delay_is_over() {
    let (hanging, good) = (Host::hanging(v4(2)), Host::good(v4(3)));
    for delay in [Some(40 * MS), Some(120 * MS), None] {
        let mut event_loop = knowing(&[&hanging, &good]);
        let options = match delay {
            Some(delay) => many().happy_eyeballs_delay(delay),
            None => many(),
        };
        let log = Log::new();
        let (result, took) = connect(&mut event_loop, options, &log);
        // RFC 8305 recommends 250 ms.
        let delay = delay.unwrap_or(250 * MS);
        assert!(took >= delay, "{took:?} with a delay of {delay:?}");
        assert!(took < delay + BOUND / 2, "{took:?}");
        assert_won(&mut event_loop, &result.unwrap(), &good, &log);
    }
}

#[test]
fn the_delay_counts_anew_with_each_attempt() {
    let hosts = [
        Host::hanging(v4(2)),
        Host::hanging(v4(3)),
        Host::good(v4(4)),
    ];
    let mut event_loop = knowing(&[&hosts[0], &hosts[1], &hosts[2]]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(50 * MS);
    let (result, took) = connect(&mut event_loop, options, &log);
    assert!(took >= 100 * MS, "{took:?}");
    assert_won(&mut event_loop, &result.unwrap(), &hosts[2], &log);
}

#[test]
fn an_address_that_refuses_is_replaced_at_once() {
    let refusing: Vec<_> = (2..6).map(|last| Host::refusing(v4(last))).collect();
    let good = Host::good(v4(9));
    let mut hosts: Vec<_> = refusing.iter().collect();
    hosts.push(&good);
    for delay in [HOUR, Duration::MAX] {
        let mut event_loop = knowing(&hosts);
        let log = Log::new();
        let options = many().happy_eyeballs_delay(delay);
        let (result, took) = connect(&mut event_loop, options, &log);
        assert!(took < BOUND, "{took:?}");
        assert_won(&mut event_loop, &result.unwrap(), &good, &log);
    }
}

#[test]
fn the_delay_counts_from_the_replacement_of_an_address_that_refused() {
    let (refusing, hanging) = (Host::refusing(v4(2)), Host::hanging(v4(3)));
    let good = Host::good(v4(4));
    // An address that comes twice is tried once: a second refusal would cut the delay short.
    let mut event_loop = knowing(&[&refusing, &hanging, &refusing, &good]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(60 * MS);
    let (result, took) = connect(&mut event_loop, options, &log);
    assert!(took >= 60 * MS, "{took:?}");
    assert_won(&mut event_loop, &result.unwrap(), &good, &log);
}

#[test]
fn who_answers_before_the_delay_is_over_keeps_the_others_from_being_tried() {
    let (good, spare) = (Host::good(v4(2)), Host::good(v4(3)));
    let mut event_loop = knowing(&[&good, &spare]);
    let log = Log::new();
    let (result, _) = connect(&mut event_loop, many().happy_eyeballs_delay(HOUR), &log);
    assert_won(&mut event_loop, &result.unwrap(), &good, &log);
    // A connect on loopback stands at once, and would wait in the backlog.
    assert!(spare.accept().is_none());
}

#[test]
fn the_families_take_turns() {
    if !has_ipv6() {
        return;
    }
    let (hanging6, good6) = (Host::hanging(V6), Host::good(V6));
    let good4 = Host::good(v4(2));
    let mut event_loop = knowing(&[&hanging6, &good6, &good4]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(50 * MS);
    let (result, took) = connect(&mut event_loop, options, &log);
    assert!(took >= 50 * MS, "{took:?}");
    assert_won(&mut event_loop, &result.unwrap(), &good4, &log);
    assert!(good6.accept().is_none());

    let (hanging4, other4) = (Host::hanging(v4(2)), Host::good(v4(3)));
    let mut event_loop = knowing(&[&hanging4, &other4, &good6]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(50 * MS);
    let (result, _) = connect(&mut event_loop, options, &log);
    assert_won(&mut event_loop, &result.unwrap(), &good6, &log);
    assert!(other4.accept().is_none());
}

#[test]
fn the_longest_delay_tries_one_after_the_other() {
    let (hanging, good) = (Host::hanging(v4(2)), Host::good(v4(3)));
    let mut event_loop = knowing(&[&hanging, &good]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(Duration::MAX).timeout(30 * MS);
    let (result, _) = connect(&mut event_loop, options, &log);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        tried(&error),
        [(hanging.address(), io::ErrorKind::TimedOut)]
    );
    assert!(good.accept().is_none());
    assert_nothing_left(&mut event_loop);
}

/// The addresses that a failed connect has tried, and the kinds of their errors.
#[track_caller]
fn tried(error: &io::Error) -> Vec<(Address, io::ErrorKind)> {
    let Some(error) = ConnectError::of(error) else {
        panic!("{error:?} is not of a connect")
    };
    let attempts = error.attempts();
    attempts
        .map(|(address, error)| (address.clone(), error.kind()))
        .collect()
}

#[test]
fn when_every_address_fails_the_error_names_each_with_its_reason() {
    let refusing = [Host::refusing(v4(2)), Host::refusing(v4(3))];
    let mut hosts = vec![&refusing[0], &refusing[1]];
    let at_v6 = has_ipv6().then(|| Host::refusing(V6));
    hosts.extend(&at_v6);
    let mut event_loop = knowing(&hosts);
    let log = Log::new();
    let (result, took) = connect(&mut event_loop, many().happy_eyeballs_delay(HOUR), &log);
    assert!(took < BOUND, "{took:?}");
    let error = result.unwrap_err();
    let refused = io::ErrorKind::ConnectionRefused;
    assert_eq!(error.kind(), refused);
    let mut order: Vec<_> = hosts.iter().map(|host| (host.address(), refused)).collect();
    if at_v6.is_some() {
        order.swap(1, 2);
    }
    assert_eq!(tried(&error), order);
    let text = error.to_string();
    assert!(
        text.starts_with("cannot connect to many.test:80: "),
        "{text}"
    );
    for host in &hosts {
        let line = format!("{}: Connection refused", host.addr());
        assert_eq!(text.matches(&line).count(), 1, "{text}");
    }
    let source = ConnectError::of(&error).unwrap().source().unwrap();
    let source: &io::Error = source.downcast_ref().unwrap();
    assert_eq!(source.kind(), refused);
    assert_nothing_left(&mut event_loop);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
}

#[test]
fn the_addresses_of_an_error_stand_in_the_order_in_which_they_were_tried() {
    let (hanging, refusing) = (Host::hanging(v4(2)), Host::refusing(v4(3)));
    let also_hanging = Host::hanging(v4(4));
    let mut event_loop = knowing(&[&hanging, &refusing, &also_hanging]);
    let log = Log::new();
    let options = many().happy_eyeballs_delay(MS).timeout(300 * MS);
    let (result, _) = connect(&mut event_loop, options, &log);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(
        tried(&error),
        [
            (hanging.address(), io::ErrorKind::TimedOut),
            (refusing.address(), io::ErrorKind::ConnectionRefused),
            (also_hanging.address(), io::ErrorKind::TimedOut),
        ]
    );
    let text = error.to_string();
    let no_answer = format!("{}: no reply yet", hanging.addr());
    assert!(text.contains(&no_answer), "{text}");
}

#[test]
fn what_resolving_fails_with_is_what_connecting_fails_with() {
    let mut event_loop = knowing(&[]);
    for (name, kind, says) in [
        ("other.test:80", io::ErrorKind::NotFound, "no such name"),
        ("many.test:80", io::ErrorKind::NotFound, "no address"),
    ] {
        let log = Log::new();
        let (result, _) = connect(&mut event_loop, name.into(), &log);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(says), "{text}");
        assert_eq!(tried(&error), []);
        assert_nothing_left(&mut event_loop);
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
    }
}

#[test]
fn an_attempt_that_has_lost_gives_up_its_socket() {
    let (hanging, good) = (Host::hanging(v4(2)), Host::good(v4(3)));
    let mut event_loop = knowing(&[&hanging, &good]);
    let log = Log::new();
    let connecting = event_loop
        .handle()
        .create_connection(many().happy_eyeballs_delay(30 * MS), Recorder::new(&log));
    drive(&mut event_loop, "the first attempt", || {
        hanging.waiting_for_it() == 1
    });
    let transport = event_loop.run_until(connecting).unwrap();
    assert_eq!(hanging.waiting_for_it(), 0);
    assert_won(&mut event_loop, &transport, &good, &log);
}

#[test]
fn of_two_attempts_that_connect_at_once_one_wins_and_the_other_is_closed() {
    for round in 0..20 {
        let hosts = [Host::good(v4(2)), Host::good(v4(3))];
        let mut event_loop = knowing(&[&hosts[0], &hosts[1]]);
        let log = Log::new();
        let options = many().happy_eyeballs_delay(Duration::ZERO);
        let (result, _) = connect(&mut event_loop, options, &log);
        let transport = result.unwrap();
        let won = hosts
            .iter()
            .position(|host| host.address() == *transport.peer_addr())
            .unwrap();
        let (winner, loser) = (&hosts[won], &hosts[1 - won]);
        let mut peer = assert_won(&mut event_loop, &transport, winner, &log);
        let (mut other, _) = loser.accepted();
        other.expect_end(&mut event_loop);
        assert!(other.saw_eof() && other.received().is_empty(), "{round}");
        peer.close();
        drive(&mut event_loop, "lost", || log.is_lost());
        assert_eq!(log.words(), ["made", "eof", "lost"]);
        assert_eq!(log.dropped(), 1);
        assert_nothing_left(&mut event_loop);
    }
}

#[test]
fn a_protocol_that_fails_at_its_start_is_not_tried_at_another_address() {
    let (first, second) = (Host::good(v4(2)), Host::good(v4(3)));
    for delay in [HOUR, Duration::ZERO] {
        let mut event_loop = knowing(&[&first, &second]);
        let log = Log::new();
        let protocol = Recorder::new(&log).on_made(|_| Err("on purpose".into()));
        let connecting = event_loop
            .handle()
            .create_connection(many().happy_eyeballs_delay(delay), protocol);
        let error = event_loop.run_until(connecting).unwrap_err();
        assert!(Closed::of(&error).is_some(), "{error}");
        assert!(ConnectError::of(&error).is_none());
        assert_nothing_left(&mut event_loop);
        assert_eq!(log.words(), ["made", "lost"]);
        for host in [&first, &second] {
            while let Some((mut peer, _)) = host.accept() {
                peer.expect_end(&mut event_loop);
            }
        }
    }
}

#[test]
fn connects_to_one_name_do_not_disturb_each_other() {
    let gate = Gate::new();
    let (hanging, good) = (Host::hanging(v4(2)), Host::good(v4(3)));
    let names = knows([("slow.test", addrs(&[&hanging, &good]))]);
    let mut event_loop = EventLoop::builder()
        .resolver(gate.before(names))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let logs: Vec<_> = (0..12).map(|_| Log::new()).collect();
    let mut connecting: Vec<_> = logs
        .iter()
        .map(|log| {
            let options = ConnectOptions::new("slow.test:1").happy_eyeballs_delay(20 * MS);
            Some(handle.create_connection(options, Recorder::new(log)))
        })
        .collect();
    assert_eq!(handle.stats().connecting, 12);
    // A third of them are cancelled while they wait for the name, a third while they race.
    connecting
        .iter_mut()
        .step_by(3)
        .for_each(|slot| *slot = None);
    assert_eq!((handle.stats().connecting, handle.stats().jobs), (8, 8));
    gate.open();
    drive(&mut event_loop, "the answers", || handle.stats().jobs == 0);
    connecting[1..]
        .iter_mut()
        .step_by(3)
        .for_each(|slot| *slot = None);
    for completion in connecting.into_iter().flatten() {
        let transport = event_loop.run_until(completion).unwrap();
        assert_eq!(*transport.peer_addr(), good.address());
    }
    settle(&mut event_loop);
    for (number, log) in logs.iter().enumerate() {
        let stayed = number % 3 == 2;
        assert_eq!(log.has(&Seen::Made), stayed, "{number}");
        assert_eq!(log.dropped(), u32::from(!stayed), "{number}");
    }
    let now = handle.stats();
    assert_eq!((now.connecting, now.connections, now.timers), (0, 4, 0));
}
