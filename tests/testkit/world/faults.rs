//! Every fault of a simulated world strikes, and connections live through those that they can.

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use support::datagrams::Asker;
use support::processes::Told;
use support::{Log, Recorder, pattern};
use tidegate::{ConnectOptions, OnEof, Transport};
use tidegate_testkit::{DatagramRecorder, Fault, Faults, Host, Link, Program, World};

const LEN: usize = 20_000;
const CLIENTS: usize = 3;
const SEEDS: u64 = 15;

/// Echoes through the network with these faults, over connections and by datagrams, and through a program; returns the
/// number of clients to which all came back, and how often `fault` struck.
fn echo(seed: u64, faults: &Faults, fault: Fault) -> (usize, u64) {
    let link = Link::new().send_buffer(3000).receive_buffer(2000);
    let mut world = World::builder().seed(seed).link(link).build();
    let (a, b) = (world.add_host("a").unwrap(), world.add_host("b").unwrap());
    let protocol = || Recorder::echo(&Log::new());
    let server = b.handle().create_server(b.addr(7), protocol).unwrap();
    let echo = DatagramRecorder::echo(&Log::new());
    let datagrams = b
        .handle()
        .create_datagram_endpoint(b.addr(7), echo)
        .unwrap();
    let asked = Rc::new(Cell::new(false));
    a.handle()
        .create_datagram_endpoint("0.0.0.0:0", Asker::new(b.addr(7), 20, &asked))
        .unwrap();
    let told = Told::default();
    world
        .network()
        .program(&b, "cat", |_| Program::new().copy());
    let mut command = Command::new("cat");
    let cat = b.handle().subprocess_exec(&mut command, told.protocol());
    let stdin = cat.unwrap().stdin().unwrap();
    stdin.write(&pattern(0, LEN)).unwrap();
    stdin.write_eof().unwrap();
    world.network().set_faults(faults);
    let clients: [Log; CLIENTS] = std::array::from_fn(|_| Log::new());
    for client in &clients {
        let recorder = Recorder::new(client)
            .on_made(|transport: &Transport| {
                transport.write(&pattern(0, LEN))?;
                transport.write_eof()?;
                Ok(())
            })
            .on_eof(|_| Ok(OnEof::Close));
        let options = ConnectOptions::new("b:7").timeout(Duration::from_secs(3600));
        // How it ends is in the log.
        a.handle().create_connection(options, recorder).detach();
    }
    world.run_until_idle().unwrap();
    world.network().set_faults(&Faults::none());
    server.close();
    datagrams.close();
    world.network().heal_all();
    world.run_until_idle().unwrap();
    assert!(asked.get(), "{fault}, seed {seed}: an echo is missing");
    let copied = told.with(|notes| notes.stdout == pattern(0, LEN));
    assert!(copied && told.has("lost"), "{fault}, seed {seed}: {told:?}");
    let mut whole = 0;
    for client in clients {
        let got = client.data();
        assert_eq!(got, pattern(0, got.len()), "{fault}, seed {seed}");
        whole += usize::from(got.len() == LEN);
    }
    for host in [&a, &b] {
        let left = host.handle().stats();
        let counts = [
            left.connections,
            left.datagram_endpoints,
            left.lingering,
            left.connecting,
            left.jobs,
        ];
        assert_eq!(counts, [0; 5], "{fault}, seed {seed}: {left:?}");
        assert_eq!(world.network().descriptors(host), 0, "{fault}, seed {seed}");
    }
    assert_eq!(world.network().sockets(), 0, "{fault}, seed {seed}");
    (whole, world.fault_counts().times(fault))
}

/// How likely, and whether every connection lives through it.
fn row(fault: Fault) -> (f64, bool) {
    match fault {
        Fault::ShortRead
        | Fault::ShortWrite
        | Fault::ReadAgain
        | Fault::WriteAgain
        | Fault::Interrupted
        | Fault::SpuriousEvent
        | Fault::FewEvents
        | Fault::Crowd
        | Fault::Reorder
        | Fault::Stall
        | Fault::SlowJob
        | Fault::NoMemory
        | Fault::SlowHost
        | Fault::SlowProgram
        | Fault::DatagramLost
        | Fault::DatagramDoubled
        | Fault::DatagramLate
        | Fault::DatagramsTogether
        | Fault::NoSegmentation
        | Fault::AcceptAgain => (0.7, true),
        Fault::Partition | Fault::ClockJump => (0.01, true),
        Fault::Reset => (0.05, false),
        Fault::ResetDiscards => (1.0, false),
        _ => (0.5, false),
    }
}

#[test]
fn every_fault_strikes_and_leaves_nothing_behind() {
    for &fault in Fault::ALL {
        let (likely, harmless) = row(fault);
        let mut faults = Faults::none().with(fault, likely);
        if fault == Fault::ResetDiscards {
            faults = faults.with(Fault::Reset, 0.05);
        }
        let (mut whole, mut times) = (0, 0);
        for seed in 0..SEEDS {
            let (came_back, struck) = echo(seed, &faults, fault);
            whole += came_back;
            times += struck;
        }
        assert!(times > 0, "{fault} never struck");
        assert!(whole > 0, "{fault}: nothing came through");
        let all = CLIENTS * SEEDS as usize;
        assert_eq!(
            whole == all,
            harmless,
            "{fault}: {whole} of {all} came through"
        );
    }
}

#[test]
fn a_fault_of_zero_never_strikes_and_numbers_beyond_one_count_as_one() {
    let faults = Faults::none()
        .with(Fault::Reset, -1.0)
        .with(Fault::Stall, f64::NAN)
        .with(Fault::ShortRead, 7.0);
    assert_eq!(faults.probability(Fault::Reset), 0.0);
    assert_eq!(faults.probability(Fault::Stall), 0.0);
    assert_eq!(faults.probability(Fault::ShortRead), 1.0);
    let (whole, struck) = echo(1, &Faults::none(), Fault::ShortRead);
    assert_eq!((whole, struck), (CLIENTS, 0));
    for fault in Fault::ALL {
        assert!(Faults::all().probability(*fault) > 0.0, "{fault}");
    }
}

fn connect(world: &mut World, host: &Host, to: &str) -> std::io::Result<Transport> {
    let connect = host
        .handle()
        .create_connection(to, Recorder::new(&Log::new()));
    world.run_until(connect)
}

#[test]
fn a_fault_that_is_forced_strikes_as_often_as_it_was_told() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    world.network().force(Fault::ConnectUnreachable, 2);
    for refused in [true, true, false] {
        let error = connect(&mut world, &host, "127.0.0.1:1").unwrap_err();
        assert_eq!(error.to_string().contains("No route"), refused, "{error}");
    }
    assert_eq!(world.fault_counts().times(Fault::ConnectUnreachable), 2);
}

#[test]
fn a_forced_failure_of_the_resolver_is_that_of_the_next_name() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    world.network().force(Fault::ResolveFailed, 1);
    let error = world.run_until(host.handle().resolve("a", 1)).unwrap_err();
    assert!(error.to_string().contains("temporary failure"), "{error}");
    let found = world.run_until(host.handle().resolve("a", 1)).unwrap();
    assert_eq!(found.len(), 2);
}

#[test]
fn a_slow_job_answers_later_and_others_at_once() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    world.network().force(Fault::SlowJob, 1);
    let slow = host.handle().run_in_executor(|| 1);
    let fast = host.handle().run_in_executor(|| 2);
    assert_eq!(world.run_until(fast).unwrap(), 2);
    assert_eq!(world.elapsed(), Duration::ZERO);
    assert_eq!(world.run_until(slow).unwrap(), 1);
    let took = world.elapsed();
    assert!(
        took > Duration::ZERO && took <= Faults::SLOW_JOB,
        "{took:?}"
    );
}

#[test]
fn a_clock_that_jumps_makes_timers_late_and_forgets_none() {
    let mut world = World::builder().seed(3).build();
    let host = world.add_host("a").unwrap();
    let log = Log::new();
    for seconds in [1, 2] {
        let log = log.clone();
        host.handle()
            .call_later(Duration::from_secs(seconds), move |_| {
                log.note(seconds.to_string());
            });
    }
    world.network().force(Fault::ClockJump, 1);
    world.run_until_idle().unwrap();
    assert_eq!(world.fault_counts().times(Fault::ClockJump), 1);
    assert_eq!(log.words(), ["1", "2"]);
}

#[test]
fn a_server_without_descriptors_serves_the_waiting_once_there_are_some() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    let protocol = || Recorder::echo(&Log::new());
    host.handle().create_server(host.addr(7), protocol).unwrap();
    world.network().limit_descriptors(&host, Some(2));
    let peers: Vec<_> = (0..3)
        .map(|_| world.network().dial(host.addr(7)).unwrap())
        .collect();
    world.advance(Duration::from_secs(5)).unwrap();
    assert_eq!(world.network().descriptors(&host), 2);
    assert!(world.fault_counts().times(Fault::NoDescriptor) > 0);
    assert_eq!(host.handle().stats().connections, 1);
    world.network().limit_descriptors(&host, None);
    world.advance(Duration::from_secs(5)).unwrap();
    for peer in &peers {
        peer.send(b"hello").unwrap();
    }
    world.pump().unwrap();
    for peer in &peers {
        assert_eq!(peer.take(), b"hello");
    }
}
