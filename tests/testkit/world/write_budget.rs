//! The write budget of a loop in simulated worlds, with faults and readers by their seeds.

use std::io::ErrorKind;
use support::{Log, Recorder, Rng, limits, no_limits, text};
use tidegate::{CloseReason, EventLoop, ListenOptions, OnPause, Result, Transport};
use tidegate_testkit::{Fault, Faults, Host, Peer, World};

/// A quarter of it has room for the small writes that each connection gathers before its pause.
const BUDGET: usize = 1024 * 1024;

/// The number of bytes that each producer has for its peer: more than the kernels hold.
const ALL: usize = 600_000;

/// The size of one of its writes.
const PIECE: usize = 2_000;

const PRODUCERS: usize = 3;

const PRODUCER: u16 = 7;
const ECHO: u16 = 8;
const DEAF: u16 = 9;

fn produce(transport: &Transport) -> Result {
    while transport.written() < ALL as u64 {
        let piece = text(transport.written(), PIECE);
        if transport.write(&piece)?.is_paused() {
            break;
        }
    }
    Ok(())
}

/// Writes a piece whenever it is asked to, whatever the flow.
fn deaf(transport: &Transport, _: &[u8]) -> Result {
    let piece = text(transport.written(), 10 * PIECE);
    transport.write(&piece)?;
    Ok(())
}

/// A host with three servers, under faults that lose nothing.
fn world(seed: u64, log: &Log) -> (World, Host) {
    let faults = Faults::none()
        .with(Fault::ShortWrite, 0.3)
        .with(Fault::ShortRead, 0.3)
        .with(Fault::WriteAgain, 0.1)
        .with(Fault::Interrupted, 0.05)
        .with(Fault::NoMemory, 0.01)
        .with(Fault::SpuriousEvent, 0.05)
        .with(Fault::FewEvents, 0.1)
        .with(Fault::Reorder, 0.1);
    let mut world = World::builder().seed(seed).faults(faults).build();
    let builder = EventLoop::builder().write_budget(BUDGET);
    let host = world.add_host_with("host", builder).unwrap();
    let serve = |port, limits, make: fn(&Log) -> Recorder| {
        let options = ListenOptions::new(host.addr(port)).write_limits(limits);
        let log = log.clone();
        host.handle()
            .create_server(options, move || make(&log))
            .unwrap();
    };
    serve(PRODUCER, limits(8 << 20, 8 << 20), |_| {
        Recorder::new(&Log::new())
            .on_made(produce)
            .on_resume(produce)
    });
    serve(ECHO, limits(8 << 20, 8 << 20), |_| {
        Recorder::echo(&Log::new())
    });
    serve(DEAF, no_limits(), |log| {
        Recorder::new(log)
            .on_data(deaf)
            .on_pause(|_| Ok(OnPause::KeepReading))
    });
    (world, host)
}

/// A peer, and what it has received.
struct Reader {
    peer: Peer,
    received: Vec<u8>,
}

fn readers(world: &mut World, host: &Host) -> Vec<Reader> {
    (0..PRODUCERS)
        .map(|_| Reader {
            peer: world.network().dial(host.addr(PRODUCER)).unwrap(),
            received: Vec::new(),
        })
        .collect()
}

fn used(host: &Host) -> usize {
    host.handle().stats().buffered as usize
}

/// The peers read in turns of chance, until all have all.
fn read_all(world: &mut World, host: &Host, readers: &mut [Reader], rng: &mut Rng) {
    while readers.iter().any(|reader| reader.received.len() < ALL) {
        let at = rng.below(readers.len());
        let reader = &mut readers[at];
        let mut some = vec![0; 1 + rng.below(100_000)];
        match reader.peer.read(&mut some) {
            Ok(0) => panic!("producer {at} has ended"),
            Ok(len) => reader.received.extend_from_slice(&some[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "producer {at}"),
        }
        world.run_until_idle().unwrap();
        assert!(used(host) < BUDGET, "{} bytes", used(host));
    }
    for reader in readers {
        assert!(reader.received == text(0, ALL));
    }
    assert_eq!(used(host), 0);
}

#[test]
fn producers_that_heed_flow_keep_the_budget_beside_an_echo_that_is_served() {
    for seed in 0..20 {
        let rng = &mut Rng::new(seed);
        let (mut world, host) = world(seed, &Log::new());
        let mut readers = readers(&mut world, &host);
        world.run_until_idle().unwrap();
        assert!(
            (BUDGET / 4..BUDGET).contains(&used(&host)),
            "{} bytes",
            used(&host)
        );
        let peer = world.network().dial(host.addr(ECHO)).unwrap();
        world.run_until_idle().unwrap();
        let request = text(0, 100_000);
        let (mut sent, mut reply) = (0, Vec::new());
        let began = world.elapsed();
        while reply.len() < request.len() {
            sent += peer.send(&request[sent..]).unwrap_or(0);
            world.run_until_idle().unwrap();
            reply.append(&mut peer.take());
            assert!(used(&host) < BUDGET);
        }
        assert!(reply == request, "seed {seed}");
        // Kernels without memory ask again after a time.
        let took = world.elapsed() - began;
        assert!(took.as_secs() < 2, "seed {seed}: the echo took {took:?}");
        read_all(&mut world, &host, &mut readers, rng);
    }
}

#[test]
fn one_that_ignores_flow_ends_and_the_others_get_all() {
    for seed in 0..20 {
        let rng = &mut Rng::new(seed);
        let log = Log::new();
        let (mut world, host) = world(seed, &log);
        let mut readers = readers(&mut world, &host);
        let asking = world.network().dial(host.addr(DEAF)).unwrap();
        world.run_until_idle().unwrap();
        while !log.is_lost() {
            // It may be refused for a fault, and later because the connection has ended.
            let _ = asking.send(b"more");
            world.run_until_idle().unwrap();
            assert!(used(&host) < BUDGET + 10 * PIECE, "{} bytes", used(&host));
        }
        assert_eq!(*log.closed().reason(), CloseReason::Memory, "seed {seed}");
        assert!(log.closed().unsent() > 0);
        assert!(asking.is_reset());
        read_all(&mut world, &host, &mut readers, rng);
    }
}
