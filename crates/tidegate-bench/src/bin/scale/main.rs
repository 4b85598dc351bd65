//! Work that keeps the processor busy, on one loop and on two, beside tokio's runtime with one thread and with
//! two workers.
//!
//! A message is 16 KiB, and the reply is its SHA-256, computed ten times over. There are 8 connections with one
//! message under way on each, and the client is one thread that blocks. Each round starts every server anew, and
//! the ratios are those within a round. Servers and client may run on all processors: a second loop shows on two
//! that are free.
//!
//! Run (a quarter of a minute for each round):
//!
//!     cargo run --release -p tidegate-bench --bin scale
//!
//! Expect a table in Markdown, with medians. The work for each second of processor time says whether a second
//! loop costs something, also beside other programs, which take their share of the messages in a second.

mod client;
mod servers;

use pico_args::Arguments;
use serde::Deserialize;
use std::env;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_bench::machine;
use tidegate_bench::program::{self, Result, named};
use tidegate_bench::server_process::{Listening, ServerProcess, tied_to_us};
use tidegate_bench::statistics::median;
use tidegate_bench::table::{list, table};

const USAGE: &str = "usage: scale [--rounds N] [--seconds S] | --serve SERVER";

/// Number of bytes of a message.
const MESSAGE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Server {
    OneLoop,
    LeastConnections,
    ReusePort,
    CurrentThread,
    MultiThread,
}

/// The servers: the name on the command line, and what it is. The others are compared with the first.
const SERVERS: [(&str, &str); 5] = [
    ("one-loop", "tidegate, 1 loop"),
    ("least-connections", "2 loops, `LeastConnections`"),
    ("reuse-port", "2 loops, `ReusePort`"),
    ("current-thread", "tokio, `current_thread`"),
    ("multi-thread", "tokio, `multi_thread`, 2 workers"),
];

enum Task {
    Serve(Server),
    Measure { rounds: usize, time: Duration },
}

/// The figures of one server in one round.
#[derive(Debug, Clone, Copy)]
struct Figures {
    per_second: f64,
    /// Processors that the server kept busy.
    server: f64,
    /// Those of the client.
    client: f64,
}

impl Figures {
    fn per_processor_second(&self) -> f64 {
        self.per_second / self.server
    }
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

fn parse(words: &mut Arguments) -> Result<Task> {
    if let Some(server) = words.opt_value_from_fn("--serve", named)? {
        return Ok(Task::Serve(server));
    }
    let rounds = words.opt_value_from_str("--rounds")?.unwrap_or(7);
    let seconds = words.opt_value_from_str("--seconds")?.unwrap_or(1.5);
    let time = Duration::try_from_secs_f64(seconds)?;
    if rounds == 0 || time.is_zero() {
        return Err("--rounds and --seconds must be more than 0".into());
    }
    Ok(Task::Measure { rounds, time })
}

fn run(task: &Task) -> Result<ExitCode> {
    match *task {
        Task::Serve(server) => servers::run(server)?,
        Task::Measure { rounds, time } => measure(rounds, time)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(rounds: usize, time: Duration) -> Result<()> {
    let program = env::current_exe()?;
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); SERVERS.len()];
    for round in 1..=rounds {
        for (figures, (name, _)) in figures.iter_mut().zip(SERVERS) {
            eprintln!("round {round}/{rounds}: {name}");
            let mut command = tied_to_us(&program);
            command.args(["--serve", name]);
            let server = ServerProcess::start(command, Listening::Says)?;
            figures.push(client::run(&server, time)?);
        }
    }
    println!("{}", list(&machine::facts()));
    println!("{}", report(&figures));
    Ok(())
}

/// Returns the median of a value of a server.
fn middle(own: &[Figures], value: fn(&Figures) -> f64) -> f64 {
    let values: Vec<f64> = own.iter().map(value).collect();
    median(&values)
}

/// Returns the median of the ratios to the first server, within each round.
fn beside(own: &[Figures], first: &[Figures], value: fn(&Figures) -> f64) -> f64 {
    let rounds = own.iter().zip(first);
    let ratios: Vec<f64> = rounds
        .map(|(own, first)| value(own) / value(first))
        .collect();
    median(&ratios)
}

fn report(figures: &[Vec<Figures>]) -> String {
    let first = &figures[0];
    let mut rows = Vec::new();
    for (own, (_, title)) in figures.iter().zip(SERVERS) {
        rows.push(vec![
            title.to_owned(),
            format!("{:.0}", middle(own, |it| it.per_second)),
            format!("{:.2}", beside(own, first, |it| it.per_second)),
            format!("{:.2}", middle(own, |it| it.server)),
            format!("{:.2}", middle(own, |it| it.client)),
            format!("{:.0}", middle(own, Figures::per_processor_second)),
            format!("{:.3}", beside(own, first, Figures::per_processor_second)),
        ]);
    }
    let head = [
        "SHA-256 ten times over 16 KiB, 8 connections",
        "messages/s",
        "of the first row's",
        "processors of the server",
        "of the client",
        "messages for each second of processor time",
        "of the first row's",
    ];
    table(&head, &rows)
}
