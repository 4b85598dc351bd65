//! Tidegate beside every peer that a user would weigh: raw epoll in C, raw mio, libuv, tokio,
//! asyncio, uvloop; over TLS raw epoll with OpenSSL, and tokio-rustls; datagrams over UDP.
//!
//! All servers run from the start, stopped but for the one that is measured; client and server
//! share one processor, because what waking a sleeping processor costs would hide the rest. In
//! each round every server is measured in every cell, in random order, and compared with the raw
//! epoll server of the same round. That one takes part twice, under two names: a difference that
//! is smaller than between those two is none. Over TLS there are two tables: beside epoll with
//! OpenSSL, and beside tokio-rustls.
//!
//! Run (20 minutes; `--help` tells of shorter runs, and `--only 'tls-*'` is TLS alone, `--only
//! 'udp-*'` UDP):
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
use results::{Line, Measurement, Results};
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tidegate_bench::carrier::Carrier;
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::program::{self, Result};
use tidegate_bench::table::Facts;
use tidegate_bench::{machine, usage};

const CPU: &str = "client and server on CPU";
const SECONDS: &str = "seconds for each measurement";

fn main() -> ExitCode {
    program::main(USAGE, Arguments::parse, |arguments| {
        if arguments.report {
            report(arguments)?;
        } else {
            compare(arguments)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn compare(arguments: &Arguments) -> Result<()> {
    let programs = peers::build_programs()?;
    let found = peers::find(&programs, arguments.quick);
    let mut peers = found.found;
    peers.extend(arguments.extra.iter().cloned());
    for (name, why) in &found.left_out {
        eprintln!("left out: {name} ({why})");
    }
    let mut cells = cells(arguments.quick, usage::raise_descriptor_limit());
    select(&arguments.only, &mut cells, &mut peers)?;
    let cpu = machine::pin(arguments.cpu)?;

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
        results.add(Line::Run(now))?;
        for (name, why) in found.left_out {
            results.add(Line::LeftOut { name, why })?;
        }
    }
    let seed = results.run().and_then(|run| run.get("seed")?.as_u64());
    let seed = seed.ok_or("the raw figures have no seed")?;
    eprintln!("seed {seed}, CPU {cpu}, raw figures in {}", raw.display());

    let bench = Bench::new(arguments.seconds, &programs);
    rounds(arguments, seed, bench, &cells, &peers, &mut results)?;

    let servers: Vec<String> = peers.iter().map(|peer| peer.name().to_owned()).collect();
    write(&results, &report::reports(&results, &cells, &servers), &out)?;
    Ok(())
}

/// Writes the table and the chart of raw figures that are already there.
fn report(arguments: &Arguments) -> Result<()> {
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
    write(&results, &report::reports(&results, &cells, &servers), out)?;
    Ok(())
}

fn write(results: &Results, reports: &[Report<'_>], out: &Path) -> io::Result<()> {
    let page = report::markdown(results, reports);
    println!("{page}");
    fs::write(out.join("report.md"), page)?;
    for report in reports {
        let name = match report.carrier {
            Carrier::Tcp => "throughput.svg",
            Carrier::Tls => "throughput-tls.svg",
            Carrier::Udp => "throughput-udp.svg",
        };
        if let Some(svg) = chart::throughput(report) {
            fs::write(out.join(name), svg)?;
        }
    }
    eprintln!(
        "report.md, the charts and raw.jsonl are in {}",
        out.display()
    );
    Ok(())
}

/// Keeps the cells and servers that a pattern names. Patterns that name no cell (no server) keep
/// all of them. The baselines always take part.
fn select(only: &[String], cells: &mut Vec<Cell>, peers: &mut Vec<Peer>) -> Result<()> {
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
            )
            .into());
        }
    }
    if cells.iter().any(|cell| named(&cell.name)) {
        cells.retain(|cell| named(&cell.name));
    }
    if peers.iter().any(|peer| named(peer.name())) {
        let baselines = report::CARRIERS
            .map(|carrier| report::baselines(carrier, peers.iter().map(Peer::name)))
            .concat();
        let twins: Vec<String> = baselines.iter().copied().map(peers::twin_of).collect();
        peers.retain(|peer| {
            let name = peer.name();
            named(name) || baselines.contains(&name) || twins.iter().any(|twin| twin == name)
        });
    }
    Ok(())
}

fn about_this_run(arguments: &Arguments, cpu: usize) -> Facts {
    let mut facts = machine::facts();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    for (name, value) in [
        (CPU, cpu.into()),
        ("rounds", arguments.rounds.into()),
        (SECONDS, arguments.seconds.into()),
        ("seed", seed.into()),
    ] {
        facts.insert(name.to_owned(), value);
    }
    facts
}

/// Refuses to resume a run of another machine or of other code: its figures cannot stand in one
/// table with the new ones.
fn same_run(before: &Facts, now: &Facts) -> Result<()> {
    const SAME: [&str; 6] = ["commit", "kernel", "cpu", "rustc", CPU, SECONDS];
    match SAME
        .iter()
        .find(|name| before.get(**name) != now.get(**name))
    {
        Some(name) => {
            Err(format!("the run to be resumed has another {name}: begin a new one").into())
        }
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
                let is_done = !peer.serves(cell.server, cell.carrier)
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
                results.add(Line::Figures(one(&mut bench, round, cell, peer)))?;
            }
        }
        longest = longest.max(round_started.elapsed());
    }
    Ok(())
}

/// Measures once. A measurement that failed holds the reason, and is not tried again.
fn one(bench: &mut Bench, round: u32, cell: &Cell, peer: &Peer) -> Measurement {
    let measured = bench.measure(peer, cell);
    let error = measured.as_ref().err().map(ToString::to_string);
    if let Some(error) = &error {
        eprintln!("no figure: {error}");
    }
    Measurement {
        round,
        cell: cell.name.clone(),
        server: peer.name().to_owned(),
        error,
        figures: measured.unwrap_or_default(),
    }
}
