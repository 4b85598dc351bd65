//! Counts that are the same on every machine, beside a recorded baseline: system calls,
//! instructions and heap allocations for each message, and the memory of an idle connection.
//!
//! Instructions are those of user code, as callgrind counts them, and are compared as a multiple
//! of what the raw mio server takes for the same traffic in the same run: another compiler changes
//! both. Allocations are the calls of malloc and its kin that callgrind saw. System calls are those
//! that strace saw. Each is the difference of two runs of different length, so that start and end
//! do not count.
//!
//! Run (a minute; with `--record` the figures become the baseline):
//!
//!     cargo run --release -p tidegate-bench --bin counts
//!
//! Expect a table, and status 1 when a figure is worse than it may be, which is named.

mod baseline;
mod tools;

use baseline::{ALLOCATIONS, Figures, IDLE, INSTRUCTIONS, SYSTEM_CALLS};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_bench::load::Mode;
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::program::{self, Result};
use tidegate_bench::{machine, memory, usage};
use tools::Traffic;

const USAGE: &str = "\
usage: counts [--record] [--baseline FILE] [--all]

--record   makes the figures the baseline
--all      counts instructions and allocations of the other peers too, which takes some minutes;
           they have no baseline";

const PING_PONG: Traffic = Traffic {
    name: "echo-x1",
    load: Mode::PingPong,
    server: "echo",
    connections: 1,
    depth: 1,
};

const TRAFFIC: [Traffic; 3] = [
    PING_PONG,
    Traffic {
        name: "echo-x64",
        connections: 64,
        ..PING_PONG
    },
    Traffic {
        name: "lines-x64-depth16",
        load: Mode::Lines,
        server: "lines",
        connections: 64,
        depth: 16,
    },
];

/// Messages of the two runs: many, because how the connections come together costs some dozens of
/// allocations more or less. Under callgrind a message takes some 50 µs.
const RUNS: [u64; 2] = [6_400, 38_400];
/// Idle connections before and after: as many as 1,024 descriptors allow.
const IDLE_CONNECTIONS: [usize; 2] = [100, 900];

struct Arguments {
    record: bool,
    baseline: PathBuf,
    all: bool,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |arguments| {
        let faults = run(arguments)?;
        for fault in &faults {
            eprintln!("worse: {fault}");
        }
        Ok(ExitCode::from(u8::from(!faults.is_empty())))
    })
}

fn parse(words: &mut pico_args::Arguments) -> Result<Arguments> {
    let path = |text: &std::ffi::OsStr| Ok::<_, Infallible>(PathBuf::from(text));
    let baseline = words.opt_value_from_os_str("--baseline", path)?;
    let recorded = || peers::workspace().join("crates/tidegate-bench/baseline.toml");
    Ok(Arguments {
        record: words.contains("--record"),
        baseline: baseline.unwrap_or_else(recorded),
        all: words.contains("--all"),
    })
}

/// Counts, and returns the figures that are worse than recorded.
fn run(arguments: &Arguments) -> Result<Vec<String>> {
    for (tool, option) in [("valgrind", "--version"), ("strace", "--version")] {
        println!("{}", tools::version(tool, option)?);
    }
    let facts = machine::facts();
    for name in ["kernel", "rustc", "mio"] {
        if let Some(text) = facts.get(name).and_then(|fact| fact.as_str()) {
            println!("{name}: {text}");
        }
    }
    let programs = peers::build_programs()?;
    let scratch = tools::scratch(&programs)?;
    let servers = peers::rust_peers(&programs);
    let find = |name: &str| servers.iter().find(|peer| peer.name() == name);
    let mio = find("mio").ok_or("there is no mio server")?;
    let [protocol, buffered, streams] = peers::OURS;
    let timed = peers::with_write_timeout(&programs);
    let mut ours: Vec<&Peer> = [protocol, streams].into_iter().filter_map(find).collect();
    ours.push(&timed);
    let mut others = Vec::new();
    if arguments.all {
        let known = [protocol, buffered, streams, mio.name(), peers::TWIN];
        let found = peers::find(&programs, false);
        for (name, why) in &found.left_out {
            println!("left out: {name} ({why})");
        }
        others = found.found;
        others.retain(|peer| !known.contains(&peer.name()));
    }

    let mut figures = Figures::new();
    per_message(&scratch, mio, &ours, &others, &mut figures)?;
    system_calls(&scratch, mio, &ours, &mut figures)?;
    idle(mio, &ours, &mut figures)?;
    if arguments.record {
        fs::write(&arguments.baseline, baseline::write(&figures))?;
        println!("recorded in {}", arguments.baseline.display());
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&arguments.baseline)
        .map_err(|error| format!("{}: {error}", arguments.baseline.display()))?;
    Ok(baseline::judge(&baseline::read(&text)?, &figures))
}

fn per_message(
    scratch: &Path,
    mio: &Peer,
    ours: &[&Peer],
    others: &[Peer],
    figures: &mut Figures,
) -> io::Result<()> {
    println!("\nuser-space instructions and heap allocations for each message (callgrind):");
    for traffic in TRAFFIC {
        let floor = tools::callgrind(scratch, mio, traffic, RUNS)?;
        show(traffic.name, mio, floor, 1.0);
        let others = others.iter().filter(|peer| peer.serves(traffic.server));
        let measured = ours.iter().map(|peer| (*peer, true));
        for (peer, has_baseline) in measured.chain(others.map(|peer| (peer, false))) {
            let counted = tools::callgrind(scratch, peer, traffic, RUNS)?;
            let ratio = counted.instructions / floor.instructions;
            show(traffic.name, peer, counted, ratio);
            if has_baseline {
                let name = format!("{}.{}", peer.name(), traffic.name);
                figures.insert(format!("{name}.{INSTRUCTIONS}"), ratio);
                figures.insert(format!("{name}.{ALLOCATIONS}"), counted.allocations);
            }
        }
    }
    Ok(())
}

fn show(traffic: &str, peer: &Peer, counted: tools::Counted, ratio: f64) {
    println!(
        "{traffic:17} {:17} {:8.1} instructions, {ratio:.3} x mio, {:6.3} allocations",
        peer.name(),
        counted.instructions,
        counted.allocations
    );
}

fn system_calls(
    scratch: &Path,
    mio: &Peer,
    ours: &[&Peer],
    figures: &mut Figures,
) -> io::Result<()> {
    println!("\nsystem calls for each message of one connection (strace):");
    for peer in [&[mio], ours].concat() {
        let (calls, names) = tools::strace(scratch, peer, PING_PONG, RUNS)?;
        let names: Vec<String> = names
            .iter()
            .map(|(name, calls)| format!("{name} {calls:.2}"))
            .collect();
        println!("{:17} {calls:.3}: {}", peer.name(), names.join(", "));
        if peer.name() != mio.name() {
            let name = format!("{}.{}.{SYSTEM_CALLS}", peer.name(), PING_PONG.name);
            figures.insert(name, calls);
        }
    }
    Ok(())
}

fn idle(mio: &Peer, ours: &[&Peer], figures: &mut Figures) -> io::Result<()> {
    usage::raise_descriptor_limit();
    println!("\nresident bytes of the process for each idle connection:");
    for peer in [&[mio], ours].concat() {
        let server = peer.start("echo")?;
        let bytes = memory::idle(&server, IDLE_CONNECTIONS[0], IDLE_CONNECTIONS[1])?;
        println!("{:17} {bytes:.0}", peer.name());
        if peer.name() != mio.name() {
            figures.insert(format!("{}.idle.{IDLE}", peer.name()), bytes);
        }
    }
    Ok(())
}
