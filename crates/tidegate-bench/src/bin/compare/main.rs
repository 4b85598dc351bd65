//! Tidegate beside every peer that a user would weigh: raw epoll in C, raw mio, libuv, tokio,
//! asyncio, uvloop.
//!
//! All servers run from the start, stopped but for the one that is measured; client and server
//! share one processor, because what waking a sleeping processor costs would hide the rest. In
//! each round every server is measured in every cell, in random order, and compared with the raw
//! epoll server of the same round. That one takes part twice, under two names: a difference that
//! is smaller than between those two is none.
//!
//! Run (20 minutes; `--help` tells of shorter runs):
//!
//!     cargo run --release -p tidegate-bench --bin compare

mod arguments;
mod cells;
mod chart;
mod measure;
mod report;
mod results;

use arguments::{Arguments, USAGE};
use cells::{Cell, cells, matches};
use measure::Bench;
use report::Report;
use results::Results;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::record::Record;
use tidegate_bench::{machine, usage};

const CPU: &str = "client and server on CPU";
const SECONDS: &str = "seconds for each measurement";

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("compare: {error}");
            return ExitCode::from(2);
        }
    };
    let done = if arguments.report {
        report(&arguments)
    } else {
        compare(&arguments)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let programs = peers::build_programs()?;
    let found = peers::find(&programs, arguments.quick);
    let mut peers = found.found;
    peers.extend(arguments.extra.iter().cloned());
    for (name, why) in &found.left_out {
        eprintln!("left out: {name} ({why})");
    }
    let mut cells = cells(arguments.quick, usage::raise_descriptor_limit());
    let baseline = baseline_of(peers.iter().map(Peer::name));
    select(&arguments.only, baseline, &mut cells, &mut peers)?;
    let cpu = pin(arguments.cpu)?;

    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => programs.with_file_name("compare"),
    };
    fs::create_dir_all(&out)?;
    let raw = out.join("raw.jsonl");
    let mut results = Results::open(&raw, arguments.resume)
        .map_err(|error| format!("{}: {error}", raw.display()))?;
    let now = about_this_run(arguments, cpu);
    if let Some(before) = results.run() {
        same_run(before, &now)?;
    } else {
        results.add(now)?;
        for (name, why) in &found.left_out {
            let record = Record::new().with("kind", "left-out");
            results.add(record.with("name", name.as_str()).with("why", why.as_str()))?;
        }
    }
    let seed = results.run().and_then(|run| run.number("seed"));
    let seed = seed.ok_or("the raw figures have no seed")? as u64;
    eprintln!("seed {seed}, CPU {cpu}, raw figures in {}", raw.display());

    let bench = Bench::new(arguments.seconds);
    rounds(arguments, seed, bench, &cells, &peers, &mut results)?;

    let servers: Vec<String> = peers.iter().map(|peer| peer.name().to_owned()).collect();
    let report = Report {
        results: &results,
        cells: &cells,
        servers: &servers,
        baseline,
    };
    write(&report, &out)?;
    Ok(())
}

/// What was measured before, once more as a table and a chart.
fn report(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let out = arguments.out.as_deref().ok_or("--out is missing")?;
    let raw = out.join("raw.jsonl");
    let results = Results::read(&raw).map_err(|error| format!("{}: {error}", raw.display()))?;
    let servers = results.servers();
    let mut cells = cells(arguments.quick, u64::from(u16::MAX));
    cells.retain(|cell| {
        servers
            .iter()
            .any(|server| results.has(1, &cell.name, server))
    });
    let report = Report {
        results: &results,
        cells: &cells,
        servers: &servers,
        baseline: baseline_of(servers.iter().map(String::as_str)),
    };
    write(&report, out)?;
    Ok(())
}

/// Either of the two stands for what a loop costs at the least.
fn baseline_of<'a>(mut servers: impl Iterator<Item = &'a str>) -> &'static str {
    if servers.any(|server| server == "epoll") {
        "epoll"
    } else {
        "mio"
    }
}

fn write(report: &Report<'_>, out: &Path) -> io::Result<()> {
    let page = report.markdown();
    println!("{page}");
    fs::write(out.join("report.md"), page)?;
    if let Some(svg) = chart::throughput(report) {
        fs::write(out.join("throughput.svg"), svg)?;
    }
    eprintln!(
        "report.md, throughput.svg and raw.jsonl are in {}",
        out.display()
    );
    Ok(())
}

/// Leaves the cells and servers that a pattern names. Patterns that name no cell (no server)
/// leave all of them. The baseline always takes part.
fn select(
    only: &[String],
    baseline: &str,
    cells: &mut Vec<Cell>,
    peers: &mut Vec<Peer>,
) -> Result<(), String> {
    let named = |name: &str| only.iter().any(|pattern| matches(pattern, name));
    for pattern in only {
        let used = cells.iter().any(|cell| matches(pattern, &cell.name))
            || peers.iter().any(|peer| matches(pattern, peer.name()));
        if !used {
            let cells: Vec<&str> = cells.iter().map(|cell| &cell.name[..]).collect();
            let peers: Vec<&str> = peers.iter().map(Peer::name).collect();
            return Err(format!(
                "nothing is called {pattern}; cells: {}; servers: {}",
                cells.join(" "),
                peers.join(" ")
            ));
        }
    }
    if cells.iter().any(|cell| named(&cell.name)) {
        cells.retain(|cell| named(&cell.name));
    }
    if peers.iter().any(|peer| named(peer.name())) {
        let always = [baseline, peers::TWIN];
        peers.retain(|peer| named(peer.name()) || always.contains(&peer.name()));
    }
    Ok(())
}

/// This process, and so all that it starts, on one processor.
fn pin(cpu: Option<usize>) -> Result<usize, Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let cpu = cpu.or(last).ok_or("no processor")?;
    if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
        return Err(format!("there is no CPU {cpu} for us").into());
    }
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    Ok(cpu)
}

fn about_this_run(arguments: &Arguments, cpu: usize) -> Record {
    // What a JSON number holds exactly.
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut record = Record::new()
        .with("kind", "run")
        .with("command", machine::command().as_str());
    for (name, value) in machine::facts().entries() {
        record = record.with(name, value.clone());
    }
    record
        .with(CPU, cpu as f64)
        .with("rounds", f64::from(arguments.rounds))
        .with(SECONDS, arguments.seconds)
        .with("seed", seed as f64)
}

/// What was measured elsewhere, or of other code, cannot stand in one table with what comes now.
fn same_run(before: &Record, now: &Record) -> Result<(), String> {
    const SAME: [&str; 6] = ["commit", "kernel", "cpu", "rustc", CPU, SECONDS];
    let differs = |name: &&&str| {
        let of = |record: &Record| (record.text(name).map(str::to_owned), record.number(name));
        of(before) != of(now)
    };
    match SAME.iter().find(differs) {
        Some(name) => Err(format!(
            "the run to be resumed has another {name}: begin a new one"
        )),
        None => Ok(()),
    }
}

fn rounds(
    arguments: &Arguments,
    seed: u64,
    mut bench: Bench,
    cells: &[Cell],
    peers: &[Peer],
    results: &mut Results,
) -> io::Result<()> {
    let started = Instant::now();
    let mut longest = Duration::ZERO;
    for round in 1..=arguments.rounds {
        let round_started = Instant::now();
        if round_started + longest > started + arguments.limit {
            eprintln!("the time is up after {} rounds", round - 1);
            break;
        }
        // A round has its own numbers, so that a resumed run has the same order.
        let mut random = fastrand::Rng::with_seed(seed + u64::from(round));
        let mut order: Vec<&Cell> = cells.iter().collect();
        random.shuffle(&mut order);
        for (index, cell) in order.iter().enumerate() {
            let mut servers: Vec<&Peer> = peers.iter().collect();
            random.shuffle(&mut servers);
            for peer in servers {
                let name = peer.name();
                let is_done = !peer.serves(cell.server)
                    || results.has(round, &cell.name, name)
                    || (!cell.every_round() && results.has(1, &cell.name, name))
                    || results.error(&cell.name, name).is_some();
                if is_done {
                    continue;
                }
                eprintln!(
                    "round {round}/{}, cell {}/{}: {} {name}",
                    arguments.rounds,
                    index + 1,
                    order.len(),
                    cell.name
                );
                results.add(one(&mut bench, round, cell, peer))?;
            }
        }
        longest = longest.max(round_started.elapsed());
    }
    Ok(())
}

/// A measurement as a record; one that failed says why, and is not tried again.
fn one(bench: &mut Bench, round: u32, cell: &Cell, peer: &Peer) -> Record {
    let mut record = Record::new()
        .with("kind", "figures")
        .with("round", f64::from(round))
        .with("cell", cell.name.as_str())
        .with("server", peer.name());
    match bench.measure(peer, cell) {
        Ok(figures) => {
            for (name, value) in figures.entries() {
                record = record.with(name, value.clone());
            }
        }
        Err(error) => {
            eprintln!("no figure: {error}");
            record = record.with("error", error.to_string().as_str());
        }
    }
    record
}
