//! Runs simulated worlds, one for each seed: twenty hosts that echo, relay and stream under every
//! fault there is. Prints each rule that was violated, and the command that repeats the run.
//!
//! `tidegate-worlds --seeds N [--from N] [--jobs N]` runs many, `tidegate-worlds --seed N [--trace]`
//! one.

mod accepting;
mod asker;
mod client;
mod datagram_checks;
mod datagrams;
mod layers;
mod ledger;
mod limits;
mod meter;
mod outcome;
mod programs;
mod scenario;
mod servers;
mod service;
mod stream_client;
mod talker;
mod watched;

use outcome::Outcome;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tidegate_testkit::FaultCounts;

const USAGE: &str = "usage: tidegate-worlds [--seeds N] [--from N] [--jobs N] | --seed N [--trace]";

/// Each world whose seed is a multiple of this is run twice, and its traces are compared.
const TWICE: u64 = 20;

/// Maximum number of lines that are shown of the trace of a failed world.
const LAST_LINES: usize = 100;

enum Task {
    Many { seeds: Range<u64>, jobs: usize },
    One { seed: u64, trace: bool },
}

fn task() -> Result<Task, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut count, mut from, mut jobs) = (None, None, None);
    let (mut seed, mut trace) = (None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seeds") => count = Some(parser.value()?.parse::<u64>()?),
            Long("from") => from = Some(parser.value()?.parse::<u64>()?),
            Long("jobs") => jobs = Some(parser.value()?.parse::<usize>()?),
            Long("seed") => seed = Some(parser.value()?.parse()?),
            Long("trace") => trace = true,
            _ => return Err(argument.unexpected()),
        }
    }
    match seed {
        Some(seed) if count.is_none() && from.is_none() && jobs.is_none() => {
            Ok(Task::One { seed, trace })
        }
        Some(_) => Err("--seed runs one world: leave --seeds, --from and --jobs out".into()),
        None if trace => Err("--trace shows one world: name it with --seed".into()),
        None => {
            let from = from.unwrap_or(0);
            let end = from.checked_add(count.unwrap_or(200));
            let seeds = from..end.ok_or("there are no seeds so large")?;
            if seeds.is_empty() || jobs == Some(0) {
                return Err("no world would be run: --seeds and --jobs are at least 1".into());
            }
            let cpus = || thread::available_parallelism().map_or(1, |cpus| cpus.get());
            let jobs = jobs.unwrap_or_else(cpus);
            Ok(Task::Many { seeds, jobs })
        }
    }
}

#[derive(Default)]
struct Sums {
    worlds: u64,
    twice: u64,
    failed: Vec<u64>,
    struck: FaultCounts,
    elapsed: Duration,
    events: u64,
    connections: u64,
    bytes: u64,
    whole: u64,
    refused: u64,
    from_backlog: u64,
    cuts: u64,
    told_ends: u64,
    replies: u64,
    torn: u64,
    throttled: u64,
    filled: u64,
    datagrams: datagrams::Counts,
    programs: programs::Counts,
    reasons: BTreeMap<&'static str, u64>,
    stacks: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, outcome: &Outcome) {
        self.worlds += 1;
        self.struck.add(&outcome.struck);
        self.elapsed += outcome.elapsed;
        self.events += outcome.trace.events();
        self.connections += outcome.connections;
        self.bytes += outcome.bytes;
        self.whole += outcome.whole;
        self.refused += outcome.refused;
        self.from_backlog += outcome.from_backlog;
        self.cuts += outcome.cuts;
        self.told_ends += outcome.told_ends;
        self.replies += outcome.replies;
        self.torn += outcome.torn;
        self.throttled += outcome.throttled;
        self.filled += outcome.filled;
        self.datagrams += outcome.datagrams;
        self.programs += outcome.programs;
        for (layers, count) in &outcome.stacks {
            *self.stacks.entry(layers.clone()).or_default() += count;
        }
        for (reason, count) in &outcome.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }

    fn print(&self, took: Duration) {
        let Self {
            worlds,
            twice,
            events,
            connections,
            bytes,
            whole,
            refused,
            from_backlog,
            cuts,
            told_ends,
            replies,
            torn,
            throttled,
            filled,
            ..
        } = self;
        println!(
            "{worlds} worlds in {:.1} s, {twice} of them twice",
            took.as_secs_f64()
        );
        println!(
            "{events} events in {:.0} simulated hours",
            self.elapsed.as_secs_f64() / 3600.0
        );
        println!("{connections} ends of connections, {bytes} bytes received, {whole} echoes whole");
        println!("{refused} peers refused, {from_backlog} served from the backlog of a shutdown");
        println!("{replies} replies of services, {throttled} bytes throttled");
        println!("{torn} services that another one took over in the middle of a frame");
        println!("{filled} connections that filled a server to its maximum");
        println!("{cuts} ends that lost bytes, with a peer to see it");
        println!("{told_ends} ends of stream told by layers, with a peer that ended its own");
        println!("{}", self.datagrams);
        println!("{}", self.programs);
        println!("\nconnections ended by");
        for (reason, count) in &self.reasons {
            println!("{reason:<24} {count:>12}");
        }
        println!("\nlayers of clients, from the wire up (t: TLS; f, s, h: layers of a user's)");
        let all: u64 = self.stacks.values().sum();
        for (layers, count) in &self.stacks {
            let share = 100.0 * *count as f64 / all as f64;
            println!("{layers:<24} {count:>12} {share:>5.1} %");
        }
        println!("\nfaults that struck\n{}", self.struck);
    }
}

/// Runs the world of a seed. A panic is a violation too.
fn run(seed: u64, trace: bool) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| scenario::run(seed, trace))).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Outcome::failed(format!("a panic: {}", said.unwrap_or("of another type")))
    })
}

/// Runs a world, and some twice; prints what is wrong.
fn try_seed(seed: u64, sums: &Mutex<Sums>) {
    let mut outcome = run(seed, false);
    let twice = seed.is_multiple_of(TWICE);
    if twice {
        let (one, other) = (run(seed, true).trace, run(seed, true).trace);
        if one.lines() != other.lines() || one.digest() != outcome.trace.digest() {
            outcome
                .violations
                .push("the same seed gave another trace".into());
        }
    }
    let mut sums = locked(sums);
    sums.add(&outcome);
    sums.twice += u64::from(twice);
    if !outcome.violations.is_empty() {
        sums.failed.push(seed);
        println!("\nseed {seed}: {} violations", outcome.violations.len());
        outcome
            .violations
            .iter()
            .for_each(|violation| println!("  {violation}"));
        let lines = run(seed, true).trace;
        let lines = lines.lines();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        println!(
            "the last {} of {} lines of its trace:",
            last.len(),
            lines.len()
        );
        last.iter().for_each(|line| println!("  {line}"));
        println!("again: {}", command(seed));
    }
}

fn command(seed: u64) -> String {
    format!("cargo run --release -p tidegate-worlds -- --seed {seed} --trace")
}

fn many(seeds: Range<u64>, jobs: usize) -> bool {
    let start = Instant::now();
    let count = seeds.end - seeds.start;
    let next = Mutex::new(seeds.enumerate());
    let sums = Mutex::new(Sums::default());
    let progress = (count as usize / 20).max(1);
    let take = || locked(&next).next();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((n, seed)) = take() {
                    try_seed(seed, &sums);
                    if (n + 1).is_multiple_of(progress) {
                        let took = start.elapsed().as_secs_f64();
                        eprintln!("{} of {count} worlds, {took:.0} s", n + 1);
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    sums.print(start.elapsed());
    println!(
        "\n{} of {} worlds have violations",
        sums.failed.len(),
        sums.worlds
    );
    for seed in &sums.failed {
        println!("{}", command(*seed));
    }
    sums.failed.is_empty()
}

fn one(seed: u64, trace: bool) -> bool {
    let outcome = run(seed, trace);
    if trace {
        print!("{}", outcome.trace);
    }
    outcome
        .violations
        .iter()
        .for_each(|violation| println!("{violation}"));
    println!(
        "seed {seed}: {} events, digest {:016x}, {} violations",
        outcome.trace.events(),
        outcome.trace.digest(),
        outcome.violations.len()
    );
    outcome.violations.is_empty()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let fine = match task() {
        Ok(Task::Many { seeds, jobs }) => many(seeds, jobs),
        Ok(Task::One { seed, trace }) => one(seed, trace),
        Err(error) => {
            eprintln!("tidegate-worlds: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
