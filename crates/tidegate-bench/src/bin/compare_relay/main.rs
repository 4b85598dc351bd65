//! TCP proxies beside HAProxy: the processor time of the proxy alone, for bulk data, small and large
//! messages, and connections that live for one message.
//!
//! The back is `serve`, and the client is the load generator in this process. All three share one processor.
//! All proxies run from the start, stopped but for the one that is measured. In each round every proxy is
//! measured, in random order, and compared with HAProxy of the same round. HAProxy takes part twice: a
//! difference that is smaller than between the two is none.
//!
//! Run (four minutes):
//!
//!     apt-get install haproxy nginx libnginx-mod-stream
//!     cargo run --release -p tidegate-bench --bin compare_relay
//!
//! Expect a table in Markdown. A proxy that is not installed is left out. The first round warms up
//! and does not count.

mod proxies;

use pico_args::Arguments;
use proxies::{Proxy, REFERENCE};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::time::Duration;
use tidegate_bench::load::{self, Mode, Plan, Until};
use tidegate_bench::peers::{self, is_twin, rust_peers, twin_of};
use tidegate_bench::program::{self, Result};
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::statistics::{median, noise};
use tidegate_bench::table::{list, table};
use tidegate_bench::{machine, usage};

const USAGE: &str = "\
usage: compare_relay [--rounds N] [--seconds S] [--cpu N] [--cell NAME]";

/// One kind of traffic.
struct Cell {
    name: &'static str,
    back: &'static str,
    mode: Mode,
    connections: usize,
    size: usize,
}

impl Cell {
    const fn new(
        name: &'static str,
        back: &'static str,
        mode: Mode,
        connections: usize,
        size: usize,
    ) -> Self {
        Self {
            name,
            back,
            mode,
            connections,
            size,
        }
    }
}

const KIB: usize = 1024;

const CELLS: [Cell; 9] = [
    Cell::new("bulk to the client", "source", Mode::Source, 1, 64 * KIB),
    Cell::new(
        "the same, 16 connections",
        "source",
        Mode::Source,
        16,
        64 * KIB,
    ),
    Cell::new("bulk to the back", "sink", Mode::Sink, 1, 64 * KIB),
    Cell::new("64 B, 1 connection", "echo", Mode::PingPong, 1, 64),
    Cell::new("64 B, 64 connections", "echo", Mode::PingPong, 64, 64),
    Cell::new("16 KiB, 1 connection", "echo", Mode::PingPong, 1, 16 * KIB),
    Cell::new(
        "16 KiB, 64 connections",
        "echo",
        Mode::PingPong,
        64,
        16 * KIB,
    ),
    Cell::new(
        "256 KiB, 1 connection",
        "echo",
        Mode::PingPong,
        1,
        256 * KIB,
    ),
    Cell::new("connect, 64 B, close", "echo", Mode::Churn, 16, 64),
];

struct Options {
    rounds: usize,
    seconds: f64,
    cpu: Option<usize>,
    cell: Option<String>,
}

/// A folder for files of settings, removed in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A rest in the temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() -> ExitCode {
    program::main(USAGE, parse, compare)
}

fn parse(words: &mut Arguments) -> Result<Options> {
    Ok(Options {
        rounds: words.opt_value_from_str("--rounds")?.unwrap_or(9),
        seconds: words.opt_value_from_str("--seconds")?.unwrap_or(0.25),
        cpu: words.opt_value_from_str("--cpu")?,
        cell: words.opt_value_from_str("--cell")?,
    })
}

fn compare(options: &Options) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    peers::build_program("serve")?;
    let programs = peers::build_program("serve_relay")?;
    let folder = Folder(env::temp_dir().join(format!("compare_relay-{}", process::id())));
    fs::create_dir_all(&folder.0)?;
    let (proxies, left_out) = proxies::find();
    let cpu = machine::pin(options.cpu)?;
    let mut facts = machine::facts();
    facts.insert("client, proxies and back on CPU".to_owned(), cpu.into());
    if !left_out.is_empty() {
        facts.insert("left out".to_owned(), left_out.join("; ").into());
    }
    println!("{}", list(&facts));
    let back = &rust_peers(&programs)[0];
    let mut rows = Vec::new();
    for service in ["source", "sink", "echo"] {
        let wanted = |cell: &&Cell| {
            let name = options.cell.as_deref();
            cell.back == service && name.is_none_or(|name| cell.name.contains(name))
        };
        let cells: Vec<_> = CELLS.iter().filter(wanted).collect();
        if cells.is_empty() {
            continue;
        }
        let back = back.start(service)?;
        let mut servers = Vec::new();
        for proxy in &proxies {
            let server = proxy
                .start(&programs, &folder.0, back.address())
                .map_err(|error| format!("{}: {error}", proxy.name))?;
            server.pause();
            servers.push((proxy.name, server));
        }
        for cell in cells {
            let figures = measure_cell(cell, options, &mut servers)?;
            rows.push(row(cell, &proxies, &figures));
        }
    }
    let head = head(&proxies);
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    println!("{}", table(&head, &rows));
    Ok(ExitCode::SUCCESS)
}

/// Returns the processor times of a message, of each proxy in each round.
fn measure_cell(
    cell: &Cell,
    options: &Options,
    servers: &mut [(&'static str, ServerProcess)],
) -> Result<BTreeMap<&'static str, Vec<f64>>> {
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // The first round warms up.
    for round in 0..=options.rounds {
        eprintln!("{}, round {round}/{}", cell.name, options.rounds);
        fastrand::shuffle(servers);
        for (name, server) in servers.iter() {
            server.resume();
            let measured = measure(cell, options.seconds, server);
            server.settle();
            server.pause();
            let used = measured.map_err(|error| format!("{name}, {}: {error}", cell.name))?;
            if round > 0 {
                figures.entry(name).or_default().push(used);
            }
        }
    }
    Ok(figures)
}

/// Returns the proxy's processor time for a message, in microseconds.
fn measure(cell: &Cell, seconds: f64, server: &ServerProcess) -> Result<f64> {
    let mut plan = Plan::new(cell.mode, server.address());
    plan.connections = cell.connections;
    plan.size = cell.size;
    plan.until = Until::Seconds(Duration::from_secs_f64(seconds));
    // So that every connection stands, and what the proxy learns of the traffic is learned.
    plan.warmup = 4 * cell.connections as u64;
    let (report, used) = load::measure(plan, server.pid())?;
    let messages = if cell.mode.is_stream() {
        report.bytes as f64 / cell.size as f64
    } else {
        report.messages as f64
    };
    if messages <= 0.0 {
        return Err(format!("nothing done: {report}").into());
    }
    Ok(used.as_secs_f64() * 1e6 / messages)
}

fn head(proxies: &[Proxy]) -> Vec<String> {
    let names = proxies.iter().map(|proxy| proxy.name);
    let names = names.filter(|name| !is_twin(name) && *name != REFERENCE);
    let columns = names.map(str::to_owned);
    let reference = format!("{REFERENCE}, µs");
    [String::new(), reference]
        .into_iter()
        .chain(columns)
        .chain(["noise".to_owned()])
        .collect()
}

/// Returns the line of a cell: the multiples of HAProxy's processor time, or the times themselves without
/// it.
fn row(cell: &Cell, proxies: &[Proxy], figures: &BTreeMap<&str, Vec<f64>>) -> Vec<String> {
    let reference = figures.get(REFERENCE);
    let ratios = |times: &[f64]| -> Vec<f64> {
        let Some(reference) = reference else {
            return times.to_vec();
        };
        times.iter().zip(reference).map(|(a, b)| a / b).collect()
    };
    let time = reference.map_or("-".to_owned(), |times| format!("{:.2}", median(times)));
    let mut row = vec![cell.name.to_owned(), time];
    for proxy in proxies {
        if !is_twin(proxy.name) && proxy.name != REFERENCE {
            row.push(format!("{:.2}", median(&ratios(&figures[proxy.name]))));
        }
    }
    let twin = figures.get(&twin_of(REFERENCE)[..]);
    row.push(twin.map_or("-".to_owned(), |twin| {
        format!("{:.1} %", 100.0 * noise(&ratios(twin)))
    }));
    row
}
