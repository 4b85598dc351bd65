//! Programs in worlds with faults: nothing that is promised of them depends on luck, and a seed repeats.

use super::{SECOND, TERM};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use support::pattern;
use support::processes::Told;
use tidegate_streams::{Process, timeout};
use tidegate_testkit::{Fault, Faults, Host, Program, World};

const OUTPUT: usize = 40_000;

/// All that can concern a program, but for a start that fails.
fn faults() -> Faults {
    [
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::ReadAgain,
        Fault::WriteAgain,
        Fault::Interrupted,
        Fault::NoMemory,
        Fault::SpuriousEvent,
        Fault::FewEvents,
        Fault::Reorder,
        Fault::Crowd,
        Fault::SlowHost,
        Fault::SlowProgram,
    ]
    .into_iter()
    .fold(Faults::none(), |faults, fault| faults.with(fault, 0.2))
}

fn world(seed: u64) -> (World, Host) {
    let builder = World::builder().seed(seed).faults(faults());
    let mut world = builder.build();
    let host = world.add_host("a").unwrap();
    (world, host)
}

/// Runs programs that write and end by themselves, copy, or are killed. Returns the digest of the trace.
fn run(seed: u64) -> u64 {
    let (mut world, host) = world(seed);
    let network = world.network().clone();
    let output = pattern(0, OUTPUT);
    let told: [Told; 3] = Default::default();
    network.program(&host, "writer", {
        let output = output.clone();
        move |_| Program::new().write(&output).exit(1)
    });
    network
        .program(&host, "cat", |_| Program::new().copy().exit(2))
        .pipe_capacity(1000);
    network.program(&host, "deaf", |_| Program::new().ignore_signal(TERM).hang());
    let [writer, cat, deaf] = ["writer", "cat", "deaf"].map(|name| {
        let told = &told[["writer", "cat", "deaf"]
            .iter()
            .position(|own| *own == name)
            .unwrap()];
        let handle = host.handle();
        handle
            .subprocess_exec(&mut Command::new(name), told.protocol())
            .unwrap()
    });
    cat.stdin().unwrap().write(&output).unwrap();
    cat.stdin().unwrap().write_eof().unwrap();
    let child = deaf.child().clone();
    child.terminate().unwrap();
    host.handle()
        .call_later(30 * SECOND, move |_| child.kill().unwrap());
    world.run_until_idle().unwrap();
    let ends = [&writer, &cat, &deaf].map(|process| {
        let status = process.status();
        status.map(|status| (status.code(), status.signal()))
    });
    let text = || format!("seed {seed}: {:?}", told.each_ref().map(Told::words));
    // Perhaps the first signal came before it was ignored.
    assert_eq!(
        ends[..2],
        [Some((Some(1), None)), Some((Some(2), None))],
        "{}",
        text()
    );
    assert!(
        matches!(ends[2], Some((None, Some(9 | TERM)))),
        "{}",
        text()
    );
    for told in &told {
        let words = told.words();
        assert_eq!(
            (&*words[0], &*words[words.len() - 1]),
            ("made", "lost"),
            "{}",
            text()
        );
    }
    for told in &told[..2] {
        assert_eq!(told.with(|notes| notes.at_exit), Some(OUTPUT), "{}", text());
        assert!(told.with(|notes| notes.stdout == output), "{}", text());
    }
    let stats = host.handle().stats();
    assert_eq!((stats.children, stats.connections), (0, 0), "{}", text());
    assert_eq!(
        (network.processes(), network.descriptors(&host)),
        (0, 0),
        "{}",
        text()
    );
    world.trace().digest()
}

#[test]
fn all_that_a_program_wrote_comes_before_its_exit_in_every_world() {
    for seed in 0..300 {
        run(seed);
    }
}

#[test]
fn a_seed_repeats_programs_and_another_one_has_another_run() {
    let digests: BTreeSet<_> = (0..20)
        .map(|seed| {
            let digest = run(seed);
            assert_eq!(digest, run(seed), "seed {seed}");
            digest
        })
        .collect();
    assert_eq!(digests.len(), 20);
}

#[test]
fn communicate_is_whole_in_every_world() {
    for seed in 0..100 {
        let (mut world, host) = world(seed);
        // It writes before it reads, and more than its pipes hold.
        world
            .network()
            .program(&host, "program", |_| {
                let before = Program::new().write(pattern(0, OUTPUT)).write_err("err");
                before.copy().exit(3)
            })
            .pipe_capacity(5000);
        let input = pattern(1, OUTPUT);
        let talk = async move {
            let mut process = Process::spawn(&mut Command::new("program"))?;
            process.communicate(&input, 1_000_000).await
        };
        let output = world.block_on(&host, talk).unwrap().unwrap();
        assert_eq!(output.status.code(), Some(3), "seed {seed}");
        assert_eq!(output.stderr, b"err", "seed {seed}");
        let whole = [pattern(0, OUTPUT), pattern(1, OUTPUT)].concat();
        assert!(output.stdout == whole, "seed {seed}");
        world.run_until_idle().unwrap();
        assert_eq!(world.network().processes(), 0, "seed {seed}");
    }
}

#[test]
fn an_async_wait_for_a_program_times_out_by_the_virtual_clock() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    world
        .network()
        .program(&host, "slow", |_| Program::new().wait(3600 * SECOND));
    let talk = async {
        let process = Process::spawn(&mut Command::new("slow"))?;
        let waited = timeout(600 * SECOND, process.wait()).await;
        assert!(waited.is_err());
        process.wait().await
    };
    let status: io::Result<_> = world.block_on(&host, talk).unwrap();
    assert!(status.unwrap().success());
    assert_eq!(world.elapsed(), 3600 * SECOND);
}

#[test]
fn a_slow_program_takes_up_to_a_second_more_for_a_step() {
    let mut world = World::new();
    let host = world.add_host("a").unwrap();
    world
        .network()
        .program(&host, "program", |_| Program::new());
    world.network().force(Fault::SlowProgram, 1);
    let mut command = Command::new("program");
    let process = host
        .handle()
        .subprocess_exec(&mut command, Told::default().protocol())
        .unwrap();
    world.run_until(process.wait_closed()).unwrap();
    let took = world.elapsed();
    assert!(took <= Faults::SLOW_PROGRAM && !took.is_zero(), "{took:?}");
}
