//! The example `key_value` beside redis-server, with redis-benchmark as the client of both.
//!
//! As in `compare`: client and server share one processor, the server that is not measured is stopped,
//! and a figure is the median of the ratios within each round. redis-server takes part twice, and the
//! difference of the two is the noise.
//!
//! Run (5 minutes):
//!
//!     cargo run --release -p tidegate-bench --bin compare_redis

use std::fmt::Write;
use std::io;
use std::process::ExitCode;
use tidegate_bench::machine;
use tidegate_bench::peers::{self, Peer, run, twin_of};
use tidegate_bench::program::{self, Result};
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::statistics::{median, noise};
use tidegate_bench::table::{list, table};

const USAGE: &str = "\
usage: compare_redis [--quick] [--rounds N] [--requests N] [--cpu N] [--only TEXT]

Measures the example key_value beside redis-server. Needs redis-server and redis-benchmark.

--quick     two short rounds
--requests  of each measurement (50000), and 4 times this number with -P 16
--only      cells whose names have this text in them";

const BENCHMARK: &str = "redis-benchmark";
const REDIS: &str = "redis-server";
const OURS: &str = "key_value";

/// A test of redis-benchmark: its arguments, and the number of its requests for each of `-n`. That of
/// `-t lrange_100` fills a list first; its command is measured alone.
const TESTS: [(&str, &[&str], u32); 4] = [
    ("PING", &["-t", "ping"], 2),
    ("GET", &["-t", "get"], 1),
    ("SET", &["-t", "set"], 1),
    ("LRANGE_100", &["LRANGE", "mylist", "0", "99"], 1),
];

struct Arguments {
    rounds: u32,
    requests: u32,
    cpu: Option<usize>,
    only: String,
}

fn parse(words: &mut pico_args::Arguments) -> Result<Arguments> {
    let quick = words.contains("--quick");
    let (rounds, requests) = if quick { (2, 5_000) } else { (9, 50_000) };
    Ok(Arguments {
        rounds: words.opt_value_from_str("--rounds")?.unwrap_or(rounds),
        requests: words.opt_value_from_str("--requests")?.unwrap_or(requests),
        cpu: words.opt_value_from_str("--cpu")?,
        only: words.opt_value_from_str("--only")?.unwrap_or_default(),
    })
}

/// The figures of one measurement.
#[derive(Clone, Copy)]
struct Figures {
    /// Microseconds of the server's processor time.
    cpu_us: f64,
    per_second: f64,
}

struct Cell {
    name: String,
    test: &'static [&'static str],
    depth: &'static str,
    count: u32,
    requests: f64,
    /// By server, in the order of the servers, then by round.
    figures: [Vec<Figures>; 3],
}

impl Cell {
    /// Returns the ratios of two servers within each round.
    fn ratios(&self, of: usize, to: usize, figure: fn(&Figures) -> f64) -> Vec<f64> {
        let pairs = self.figures[of].iter().zip(&self.figures[to]);
        pairs.map(|(of, to)| figure(of) / figure(to)).collect()
    }

    fn middle(&self, server: usize) -> f64 {
        let figures = self.figures[server].iter();
        median(&figures.map(|one| one.cpu_us).collect::<Vec<_>>())
    }
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |arguments| {
        compare(arguments)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn compare(arguments: &Arguments) -> Result<()> {
    let version = run(REDIS, &["--version"])
        .and_then(|version| run(BENCHMARK, &["--version"]).map(|_| version))
        .map_err(|why| {
            format!("redis is not there ({why}): install redis-server and redis-tools")
        })?;
    let ours = peers::build_example(OURS)?;
    let cpu = machine::pin(arguments.cpu)?;
    let ours = format!("{OURS}={} --listen 127.0.0.1:0", ours.display());
    let theirs = "redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no";
    let mut servers = Vec::new();
    for command in [
        ours,
        format!("{REDIS}={theirs}"),
        format!("{}={theirs}", twin_of(REDIS)),
    ] {
        let server = Peer::extra(&command)?.start("")?;
        for fill in [
            ["SET", "key:__rand_int__", "xxx"],
            ["LPUSH", "mylist", "xxx"],
        ] {
            benchmark(&server, &[&["-c", "1", "-n", "1000"], &fill[..]].concat())?;
        }
        server.pause();
        servers.push(server);
    }
    let mut cells = cells(arguments);
    for round in 1..=arguments.rounds {
        let mut order: Vec<_> = (0..cells.len())
            .flat_map(|cell| [0, 1, 2].map(|at| (cell, at)))
            .collect();
        // A round has its own order, but the servers of a cell stay beside each other.
        let mut random = fastrand::Rng::with_seed(u64::from(round));
        order
            .chunks_mut(3)
            .for_each(|servers| random.shuffle(servers));
        eprintln!("round {round}/{}", arguments.rounds);
        for (cell, at) in order {
            let cell = &mut cells[cell];
            let figures = measure(&servers[at], cell)?;
            cell.figures[at].push(figures);
        }
    }
    let mut facts = machine::facts();
    facts.insert("redis".to_owned(), version.into());
    facts.insert("client and server on CPU".to_owned(), cpu.into());
    facts.insert("rounds".to_owned(), arguments.rounds.into());
    facts.insert("requests".to_owned(), arguments.requests.into());
    println!("{}\n{}", list(&facts), report(&cells));
    Ok(())
}

fn cells(arguments: &Arguments) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (depth, factor, behind) in [("1", 1, ""), ("16", 4, " -P 16")] {
        for (name, test, tests) in TESTS {
            let count = arguments.requests.saturating_mul(factor);
            cells.push(Cell {
                name: format!("{name}{behind}"),
                test,
                depth,
                count,
                requests: f64::from(count) * f64::from(tests),
                figures: Default::default(),
            });
        }
    }
    cells.retain(|cell| cell.name.contains(&arguments.only));
    cells
}

fn measure(server: &ServerProcess, cell: &Cell) -> io::Result<Figures> {
    let count = cell.count.to_string();
    let arguments = ["-c", "50", "-P", cell.depth, "-n", &count];
    let arguments = [&arguments, cell.test].concat();
    let (rates, used) = server.run_for(|| benchmark(server, &arguments))?;
    let seconds: f64 = rates?.iter().map(|rate| f64::from(cell.count) / rate).sum();
    Ok(Figures {
        cpu_us: used.as_secs_f64() * 1e6 / cell.requests,
        per_second: cell.requests / seconds,
    })
}

/// Runs the client, and returns the requests a second of each of its tests.
fn benchmark(server: &ServerProcess, arguments: &[&str]) -> io::Result<Vec<f64>> {
    let port = server.address().port().to_string();
    let at = ["-h", "127.0.0.1", "-p", &port, "--csv"];
    let text = run(BENCHMARK, &[&at, arguments].concat()).map_err(io::Error::other)?;
    let rate = |line: &str| {
        let (_, behind) = line.strip_prefix('"')?.split_once("\",\"")?;
        behind.split('"').next()?.parse::<f64>().ok()
    };
    let rates: Vec<f64> = text.lines().filter_map(rate).collect();
    match rates.iter().all(|rate| *rate > 0.0) && !rates.is_empty() {
        true => Ok(rates),
        false => Err(io::Error::other(format!(
            "{BENCHMARK} has no figures: {text}"
        ))),
    }
}

fn report(cells: &[Cell]) -> String {
    let mut rows = Vec::new();
    let mut won = 0;
    for cell in cells {
        let cpu = median(&cell.ratios(0, 1, |one| one.cpu_us));
        let rate = median(&cell.ratios(0, 1, |one| one.per_second));
        won += u32::from(cpu <= 1.0);
        let noise = noise(&cell.ratios(2, 1, |one| one.cpu_us));
        rows.push(vec![
            cell.name.clone(),
            format!("{cpu:.2}"),
            format!("{:.2}", cell.middle(0)),
            format!("{:.2}", cell.middle(1)),
            format!("{rate:.2}"),
            format!("{:.1} %", 100.0 * noise),
        ]);
    }
    let head = [
        "50 connections",
        "processor time a request, of redis-server's",
        "key_value, µs",
        "redis-server, µs",
        "requests a second, of redis-server's",
        "noise",
    ];
    let mut page = table(&head, &rows);
    let _ = writeln!(
        page,
        "\nkey_value takes at most as much processor time in {won} of {} cells.",
        cells.len()
    );
    page
}
