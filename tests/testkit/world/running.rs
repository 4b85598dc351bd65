//! The simulated world: time that jumps, bytes that arrive, faults that follow from the seed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use support::{Log, Recorder, pattern};
use tidegate::{ConnectOptions, OnEof, OnPause, Transport};
use tidegate_testkit::{Faults, Link, World};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn bytes_take_the_latency_of_their_link_and_timers_their_time() {
    let link = Link::new().latency(Duration::from_millis(40));
    let mut world = World::builder().link(link).build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let log = Log::new();
    let served = log.clone();
    b.handle()
        .create_server(b.addr(7), move || Recorder::echo(&served))
        .unwrap();
    let client = Log::new();
    let connect = a
        .handle()
        .create_connection(b.addr(7), Recorder::new(&client));
    let transport = world.run_until(connect).unwrap();
    assert_eq!(world.elapsed(), Duration::from_millis(80), "there and back");
    transport.write(b"hello").unwrap();
    world.advance(Duration::from_millis(39)).unwrap();
    assert_eq!(log.data(), b"");
    world.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(log.data(), b"hello");
    let fired = Rc::new(RefCell::new(Vec::new()));
    for hours in [2, 1] {
        let fired = fired.clone();
        let network = world.network().clone();
        a.handle().call_later(HOUR * hours, move |_| {
            fired.borrow_mut().push(network.elapsed())
        });
    }
    let start = world.elapsed();
    world.run_until_idle().unwrap();
    assert_eq!(*fired.borrow(), [start + HOUR, start + 2 * HOUR]);
    assert_eq!(client.data(), b"hello");
}

fn run(seed: u64) -> (u64, String, usize) {
    let link = Link::new()
        .latency(Duration::from_millis(5))
        .jitter(Duration::from_millis(5))
        .send_buffer(3000)
        .receive_buffer(2000);
    let mut world = World::builder()
        .seed(seed)
        .faults(Faults::all())
        .link(link)
        .trace(true)
        .build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let log = Log::new();
    let served = log.clone();
    let Ok(server) = b
        .handle()
        .create_server(b.addr(7), move || Recorder::echo(&served))
    else {
        return (0, String::new(), 0);
    };
    let client = Log::new();
    let total = 50_000;
    let recorder = Recorder::new(&client)
        .on_made(move |transport: &Transport| {
            transport.write(&pattern(0, total))?;
            transport.write_eof()?;
            Ok(())
        })
        .on_eof(|_| Ok(OnEof::Close));
    let options = ConnectOptions::new("b:7");
    let connect = a.handle().create_connection(options, recorder);
    let connected = world.run_until(connect);
    world.run_until_idle().unwrap();
    server.close();
    world.run_until_idle().unwrap();
    let got = client.data();
    assert_eq!(got, pattern(0, got.len()), "seed {seed}");
    if connected.is_ok() {
        assert!(
            client.is_lost(),
            "seed {seed}: {:?} {}",
            a.handle().stats(),
            world.trace().lines()[world.trace().lines().len().saturating_sub(45)..].join("\n")
        );
        if client.closed().is_clean() {
            assert_eq!(got.len(), total, "seed {seed}");
        }
    }
    for host in [&a, &b] {
        let left = host.handle().stats();
        assert_eq!(
            (
                left.connections,
                left.listeners,
                left.lingering,
                left.connecting,
                left.timers
            ),
            (0, 0, 0, 0, 0),
            "seed {seed}: {left:?}"
        );
        assert_eq!(world.network().descriptors(host), 0, "seed {seed}");
    }
    assert_eq!(
        world.network().sockets(),
        0,
        "seed {seed} {}",
        world.trace().lines()[world.trace().lines().len().saturating_sub(45)..].join("\n")
    );
    let trace = world.trace();
    (trace.digest(), trace.to_string(), got.len())
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let mut whole = 0;
    for seed in 0..300 {
        let one = run(seed);
        assert_eq!(one, run(seed));
        whole += usize::from(one.2 == 50_000);
    }
    assert!(whole > 30, "{whole} of 300 came through");
}

#[test]
fn a_pump_does_all_that_needs_no_time_and_lets_none_pass() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let served = || Recorder::echo(&Log::new());
    host.handle().create_server(host.addr(7), served).unwrap();
    host.handle().call_later(HOUR, |_| ());
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.pump().unwrap();
    peer.send(b"hello").unwrap();
    world.pump().unwrap();
    assert_eq!(peer.take(), b"hello");
    // With nothing to do it returns.
    world.pump().unwrap();
    assert_eq!(world.elapsed(), Duration::ZERO);
    assert_eq!(host.handle().stats().timers, 1);
}

#[test]
fn the_link_to_a_peer_holds_back_what_it_does_not_read_and_not_what_it_sends() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let narrow = Link::new().send_buffer(1).receive_buffer(1);
    world.network().set_link_to_peers(&host, narrow);
    let log = Log::new();
    let served = log.clone();
    let echo = move || Recorder::echo(&served).on_pause(|_| Ok(OnPause::KeepReading));
    host.handle().create_server(host.addr(7), echo).unwrap();
    let peer = world.network().dial(host.addr(7)).unwrap();
    world.pump().unwrap();
    assert_eq!(peer.send(b"hello").unwrap(), 5);
    world.pump().unwrap();
    assert_eq!(log.data(), b"hello");
    assert_eq!(peer.take(), b"h");
    world.pump().unwrap();
    assert_eq!(peer.take(), b"e");
}
