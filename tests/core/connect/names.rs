//! Names of hosts: the resolver that is asked, and the fate of its result.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::{
    BOUND, Gate, Kind, Log, Recorder, Seen, Served, TempDir, adopted, drive, each_kind, knows,
    settle, v4,
};
use tidegate::{Completion, EventLoop, LoopClosed};

const MS: Duration = Duration::from_millis(1);

fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Returns the result of a completion that must be there already.
#[track_caller]
fn answered<T: fmt::Debug>(mut completion: Completion<T>) -> io::Result<T> {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut completion).poll(&mut context) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("no answer yet"),
    }
}

#[track_caller]
fn assert_idle(event_loop: &EventLoop) {
    let now = event_loop.handle().stats();
    assert_eq!((now.jobs, now.completions, now.timers), (0, 0, 0));
}

#[test]
fn a_numeric_host_is_answered_at_once_and_nobody_is_asked() {
    let gate = Gate::new();
    let event_loop = EventLoop::builder()
        .resolver(gate.before(|_, _| Ok(Vec::new())))
        .build()
        .unwrap();
    for (host, expected) in [
        ("127.0.0.7", "127.0.0.7:81"),
        ("::1", "[::1]:81"),
        ("[::1]", "[::1]:81"),
        ("::ffff:127.0.0.1", "[::ffff:127.0.0.1]:81"),
    ] {
        let resolving = event_loop.handle().resolve(host, 81);
        assert_idle(&event_loop);
        assert_eq!(answered(resolving).unwrap(), addrs(&[expected]));
    }
    assert_eq!(gate.asked(), [""; 0]);
}

#[test]
fn a_known_answer_too_reaches_a_closure_from_the_loop_only() {
    let mut event_loop = EventLoop::new().unwrap();
    let told = Rc::new(Cell::new(false));
    let tell = told.clone();
    event_loop
        .handle()
        .resolve("127.0.0.1", 1)
        .then(move |_, answer| tell.set(answer.is_ok()));
    assert!(!told.get());
    drive(&mut event_loop, "the answer", || told.get());
}

#[test]
fn the_answer_keeps_its_order_and_each_address_comes_once() {
    let given = addrs(&[
        "127.0.0.9:5",
        "[::1]:5",
        "127.0.0.9:5",
        "127.0.0.2:5",
        "127.0.0.2:6",
        "[::1]:5",
    ]);
    let mut event_loop = EventLoop::builder()
        .resolver(knows([("many.test", given)]))
        .build()
        .unwrap();
    let resolving = event_loop.handle().resolve("many.test", 5);
    assert_eq!(event_loop.handle().stats().jobs, 1);
    let answer = event_loop.run_until(resolving).unwrap();
    let expected = addrs(&["127.0.0.9:5", "[::1]:5", "127.0.0.2:5", "127.0.0.2:6"]);
    assert_eq!(answer, expected);
    assert_idle(&event_loop);
}

#[test]
fn the_resolver_is_given_the_host_and_the_port_as_they_were_written() {
    let mut event_loop = EventLoop::builder()
        .resolver(|host, port| Err(io::Error::other(format!("<{host}> <{port}>"))))
        .build()
        .unwrap();
    for (host, port, says) in [
        ("Some-Host.test.", 0, "<Some-Host.test.> <0>"),
        ("_a.b", 65535, "<_a.b> <65535>"),
        ("xn--bcher-kva.test", 80, "<xn--bcher-kva.test> <80>"),
        ("1.example", 80, "<1.example> <80>"),
        ("0xcafe.test", 80, "<0xcafe.test> <80>"),
    ] {
        let resolving = event_loop.handle().resolve(host, port);
        let error = event_loop.run_until(resolving).unwrap_err();
        assert_eq!(error.to_string(), says);
    }
}

#[test]
fn a_name_without_addresses_is_not_found() {
    let mut event_loop = EventLoop::builder()
        .resolver(|_, _| Ok(Vec::new()))
        .build()
        .unwrap();
    let resolving = event_loop.handle().resolve("empty.test", 80);
    let error = event_loop.run_until(resolving).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("empty.test"), "{error}");
}

#[derive(Debug)]
struct Unlisted(u32);

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} does not list it", self.0)
    }
}

impl Error for Unlisted {}

#[test]
fn the_error_of_a_resolver_arrives_as_it_is() {
    let mut event_loop = EventLoop::builder()
        .resolver(|_, _| Err(io::Error::new(io::ErrorKind::HostUnreachable, Unlisted(7))))
        .build()
        .unwrap();
    let resolving = event_loop.handle().resolve("name.test", 80);
    let error = event_loop.run_until(resolving).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    let inner = error.get_ref().unwrap().downcast_ref::<Unlisted>();
    assert_eq!(inner.unwrap().0, 7);
}

#[test]
fn a_panic_of_the_resolver_is_an_error_and_costs_no_thread() {
    let healthy = AtomicBool::new(false);
    let mut event_loop = EventLoop::builder()
        .executor_threads(1)
        .resolver(move |_, port| {
            assert!(healthy.swap(true, Ordering::Relaxed), "on purpose");
            Ok(vec![(v4(1), port).into()])
        })
        .build()
        .unwrap();
    let resolving = event_loop.handle().resolve("name.test", 80);
    let error = event_loop.run_until(resolving).unwrap_err();
    assert_eq!(error.to_string(), "the resolver panicked: on purpose");
    let again = event_loop.handle().resolve("name.test", 80);
    assert_eq!(
        event_loop.run_until(again).unwrap(),
        addrs(&["127.0.0.1:80"])
    );
    assert_idle(&event_loop);
}

#[test]
fn what_cannot_be_a_host_is_invalid_and_nobody_is_asked() {
    let gate = Gate::new();
    let mut event_loop = EventLoop::builder()
        .resolver(gate.before(|_, _| Ok(Vec::new())))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    for host in [
        "",
        ".",
        "a b",
        "a:b",
        "a\0b",
        "[name.test]",
        "[]",
        "name.test/",
        "user@name.test",
        "::1::",
        "*",
        "b\u{fc}cher.test",
        "::1%",
        "unix:/tmp/socket",
        // inet_aton(3) takes these for addresses.
        "1.2.3",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "0177.0.0.1",
    ] {
        let error = answered(handle.resolve(host, 80)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host:?}");
        let log = Log::new();
        let connecting = handle.create_connection((host, 80), Recorder::new(&log));
        let error = answered(connecting).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host:?}");
        assert_idle(&event_loop);
        settle(&mut event_loop);
        assert_eq!((log.words().len(), log.dropped()), (0, 1));
    }
    assert_eq!(gate.asked(), [""; 0]);
}

#[test]
fn a_loop_that_is_gone_resolves_nothing() {
    let gate = Gate::new();
    let event_loop = EventLoop::builder()
        .executor_grace(10 * MS)
        .resolver(gate.before(knows([("slow.test", addrs(&["127.0.0.1:1"]))])))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let pending = handle.resolve("slow.test", 80);
    gate.wait_for(1);
    let log = Log::new();
    let noted = log.clone();
    handle
        .resolve("slow.test", 80)
        .then(move |_, _| noted.note("called"));
    drop(event_loop);
    for completion in [
        pending,
        handle.resolve("slow.test", 80),
        handle.resolve("127.0.0.1", 80),
        handle.resolve("", 80),
    ] {
        let error = answered(completion).unwrap_err();
        assert!(error.get_ref().unwrap().is::<LoopClosed>(), "{error}");
    }
    assert_eq!(handle.stats().jobs, 0);
    gate.open();
    assert_eq!(log.words(), [""; 0]);
}

/// A resolver of one thread: the last question completes last.
fn one_at_a_time(gate: &Gate) -> EventLoop {
    let names = knows([
        ("slow.test", addrs(&["127.0.0.1:1"])),
        ("second.test", addrs(&["127.0.0.2:1"])),
        ("last.test", addrs(&["127.0.0.3:1"])),
    ]);
    EventLoop::builder()
        .executor_threads(1)
        .resolver(gate.before(names))
        .build()
        .unwrap()
}

#[test]
fn the_late_answer_to_a_dropped_question_reaches_nobody() {
    let gate = Gate::new();
    let mut event_loop = one_at_a_time(&gate);
    let handle = event_loop.handle().clone();
    let dropped = handle.resolve("slow.test", 80);
    gate.wait_for(1);
    drop(dropped);
    assert_idle(&event_loop);
    gate.open();
    let last = handle.resolve("last.test", 80);
    assert_eq!(event_loop.run_until(last).unwrap(), addrs(&["127.0.0.3:1"]));
    settle(&mut event_loop);
    assert_idle(&event_loop);
    assert_eq!(gate.asked(), ["slow.test", "last.test"]);
}

#[test]
fn a_question_whose_time_is_up_is_answered_once() {
    let gate = Gate::new();
    let mut event_loop = one_at_a_time(&gate);
    let handle = event_loop.handle().clone();
    let log = Log::new();
    let noted = log.clone();
    handle
        .resolve("slow.test", 80)
        .within(5 * MS)
        .then(move |_, answer| noted.note(format!("{:?}", answer.unwrap_err().kind())));
    gate.wait_for(1);
    drive(&mut event_loop, "the end of the time", || {
        !log.seen().is_empty()
    });
    assert_idle(&event_loop);
    gate.open();
    let last = handle.resolve("last.test", 80);
    event_loop.run_until(last).unwrap();
    settle(&mut event_loop);
    assert_eq!(log.words(), ["TimedOut"]);
}

#[test]
fn a_question_that_is_given_up_before_its_turn_is_never_asked() {
    let gate = Gate::new();
    let mut event_loop = one_at_a_time(&gate);
    let handle = event_loop.handle().clone();
    let first = handle.resolve("slow.test", 80);
    gate.wait_for(1);
    let log = Log::new();
    drop(handle.resolve("second.test", 80));
    drop(handle.create_connection(("second.test", 80), Recorder::new(&log)));
    let limited = handle.resolve("second.test", 80).within(MS);
    let error = event_loop.run_until(limited).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(handle.stats().jobs, 1, "the first one");
    let last = handle.resolve("last.test", 80);
    gate.open();
    let last = event_loop.run_until(last).unwrap();
    assert_eq!(last, addrs(&["127.0.0.3:1"]));
    let first = event_loop.run_until(first).unwrap();
    assert_eq!(first, addrs(&["127.0.0.1:1"]));
    assert_eq!(gate.asked(), ["slow.test", "last.test"]);
    assert_eq!((log.words().len(), log.dropped()), (0, 1));
}

each_kind!(the_loop_serves_its_connections_while_a_resolver_blocks);
fn the_loop_serves_its_connections_while_a_resolver_blocks(kind: Kind) {
    let gate = Gate::new();
    let mut event_loop = EventLoop::builder()
        .resolver(gate.before(knows([("slow.test", addrs(&["127.0.0.1:1"]))])))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let dir = TempDir::new();
    let served = Served::echo(&handle, kind.somewhere(&dir));
    let resolving = handle.resolve("slow.test", 80);
    gate.wait_for(1);
    let log = Log::new();
    let connecting = handle.create_connection(served.address(), Recorder::new(&log));
    let transport = event_loop.run_until(connecting).unwrap();
    for round in 1..=100 {
        transport.write(b"ping").unwrap();
        drive(&mut event_loop, "the echo", || log.data_len() == 4 * round);
    }
    assert_eq!(handle.stats().jobs, 1, "still blocked");
    gate.open();
    let answer = event_loop.run_until(resolving).unwrap();
    assert_eq!(answer, addrs(&["127.0.0.1:1"]));
}

#[test]
fn names_are_asked_for_side_by_side() {
    let gate = Gate::new();
    let mut event_loop = EventLoop::builder()
        .executor_threads(2)
        .resolver(gate.before(knows([
            ("slow.test", addrs(&["127.0.0.1:1"])),
            ("quick.test", addrs(&["127.0.0.2:1"])),
        ])))
        .build()
        .unwrap();
    let handle = event_loop.handle().clone();
    let slow = handle.resolve("slow.test", 80);
    let quick = handle.resolve("quick.test", 80).within(BOUND);
    let quick = event_loop.run_until(quick).unwrap();
    assert_eq!(quick, addrs(&["127.0.0.2:1"]));
    assert_eq!(handle.stats().jobs, 1);
    gate.open();
    let slow = event_loop.run_until(slow).unwrap();
    assert_eq!(slow, addrs(&["127.0.0.1:1"]));
}

each_kind!(the_answer_may_be_taken_in_a_callback_of_a_connection);
fn the_answer_may_be_taken_in_a_callback_of_a_connection(kind: Kind) {
    let mut event_loop = EventLoop::builder()
        .resolver(knows([("name.test", addrs(&["127.0.0.4:9"]))]))
        .build()
        .unwrap();
    let (log, noted) = (Log::new(), Log::new());
    let recorder = {
        let noted = noted.clone();
        Recorder::new(&log).on_made(move |transport| {
            let noted = noted.clone();
            transport.handle().resolve("name.test", 9).then_on(
                transport,
                move |_: &mut Recorder, transport, answer| {
                    noted.note(format!("{:?}", answer?));
                    transport.close();
                    Ok(())
                },
            );
            Ok(())
        })
    };
    let handle = event_loop.handle().clone();
    let (_transport, mut peer) = adopted(&handle, kind, recorder);
    peer.expect_end(&mut event_loop);
    drop(peer);
    drive(&mut event_loop, "lost", || log.is_lost());
    assert_eq!(noted.words(), ["[127.0.0.4:9]"]);
    assert!(!log.has(&Seen::Eof));
    // The closed socket waits for the peer's end.
    drive(&mut event_loop, "the socket's end", || {
        handle.stats().lingering == 0
    });
    assert_idle(&event_loop);
}

#[test]
fn the_system_resolves_what_nothing_else_was_set_for() {
    let mut event_loop = EventLoop::new().unwrap();
    let resolving = event_loop.handle().resolve("localhost", 4321).within(BOUND);
    let answer = event_loop.run_until(resolving).unwrap();
    assert!(!answer.is_empty());
    for addr in answer {
        assert!(addr.ip().is_loopback() && addr.port() == 4321, "{addr}");
    }
    // A host that cannot be a name of the DNS either (RFC 1035, 63 octets a label): no query leaves.
    let long = "a".repeat(300);
    let resolving = event_loop.handle().resolve(&long, 1).within(BOUND);
    let error = event_loop.run_until(resolving).unwrap_err();
    assert_ne!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert_idle(&event_loop);
}
