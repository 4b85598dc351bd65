//! The example `http` beside a server on tokio and httparse, and beside hyper on tokio: the processor time
//! of a request, one at a time on each of 64 connections, and 16 at a time (pipelining).
//!
//! The load is wrk's. All servers run from the start, stopped but for the one that is measured; client and
//! servers share one processor. In each round every server is measured, in random order, and compared
//! with ours of the same round. Ours takes part twice: a difference that is smaller than between the two
//! is none.
//!
//! Run (three minutes):
//!
//!     cargo run --release -p tidegate-bench --bin compare_http
//!
//! Expect a table in Markdown for each of the two. The first round warms up and does not count.

use pico_args::Arguments;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;
use tidegate_bench::machine;
use tidegate_bench::peers::{self, Peer, is_twin, run, twin_of};
use tidegate_bench::program::{self, Result};
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::statistics::{median, noise};
use tidegate_bench::table::{list, table};

const USAGE: &str = "usage: compare_http [--rounds N] [--seconds S] [--cpu N]";

const CONNECTIONS: &str = "64";

/// Requests under way on each connection, and whether [`SCRIPT`] sends them.
const CELLS: [(usize, bool); 2] = [(1, false), (16, true)];

/// Has wrk send 16 requests at a time.
const SCRIPT: &str = "crates/tidegate-bench/peers/pipeline.lua";

struct Options {
    rounds: usize,
    seconds: u32,
    cpu: Option<usize>,
}

/// The figures of a server in a cell, of each round.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, compare)
}

fn parse(words: &mut Arguments) -> Result<Options> {
    Ok(Options {
        rounds: words.opt_value_from_str("--rounds")?.unwrap_or(9),
        seconds: words.opt_value_from_str("--seconds")?.unwrap_or(1),
        cpu: words.opt_value_from_str("--cpu")?,
    })
}

fn compare(options: &Options) -> Result<ExitCode> {
    let programs = peers::build_program("serve_http")?;
    let peers = peers::http(&programs);
    let cpu = machine::pin(options.cpu)?;
    let mut servers = Vec::new();
    for peer in &peers {
        let server = peer.start("")?;
        check(server.address()).map_err(|error| format!("{}: {error}", peer.name()))?;
        server.pause();
        servers.push((peer, server));
    }
    let mut facts = machine::facts();
    facts.insert("client and servers on CPU".to_owned(), cpu.into());
    println!("{}", list(&facts));
    let script = peers::workspace().join(SCRIPT);
    let script = script.to_string_lossy();
    for (depth, scripted) in CELLS {
        let script = scripted.then_some(&*script);
        let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
        // The first round warms up.
        for round in 0..=options.rounds {
            eprintln!("{depth} at a time, round {round}/{}", options.rounds);
            fastrand::shuffle(&mut servers);
            for (peer, server) in &servers {
                let (per_second, cpu_us) = measure(server, options.seconds, script)?;
                if round > 0 {
                    let figures = figures.entry(peer.name()).or_default();
                    figures.per_second.push(per_second);
                    figures.cpu_us.push(cpu_us);
                }
            }
        }
        report(depth, &peers, &figures);
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches the page once. The servers differ in the order and the letters of the fields alone.
fn check(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_default();
    let mut head: Vec<String> = head.lines().map(str::to_lowercase).collect();
    head.sort();
    let date = head.iter_mut().find(|field| field.starts_with("date: "));
    let has_date = date.map(|date| date.truncate(4)).is_some();
    let expected = [
        "connection: close",
        "content-length: 13",
        "content-type: text/plain",
        "date",
        "http/1.1 200 ok",
    ];
    if !has_date || head != expected || body != "Hello World!\n" {
        return Err(format!("another reply: {reply}").into());
    }
    Ok(())
}

/// Returns the requests in a second, and the server's processor time for each, in microseconds.
fn measure(server: &ServerProcess, seconds: u32, script: Option<&str>) -> Result<(f64, f64)> {
    let duration = seconds.to_string();
    let mut arguments = vec![
        "--threads",
        "1",
        "--connections",
        CONNECTIONS,
        "--duration",
        &duration,
    ];
    if let Some(script) = script {
        arguments.extend(["--script", script]);
    }
    let url = format!("http://{}/", server.address());
    arguments.push(&url);
    let (output, used) = server.run_for(|| run("wrk", &arguments))?;
    let output = output?;
    if output.contains("Socket errors") || output.contains("Non-2xx") {
        return Err(format!("wrk: {output}").into());
    }
    let number = |name: &str, at: usize| {
        let line = output.lines().find(|line| line.contains(name));
        line.and_then(|line| line.split_whitespace().nth(at)?.parse::<f64>().ok())
            .ok_or_else(|| format!("wrk without {name}: {output}"))
    };
    let requests = number(" requests in ", 0)?;
    let per_second = number("Requests/sec:", 1)?;
    Ok((per_second, used.as_secs_f64() * 1e6 / requests))
}

fn report(depth: usize, peers: &[Peer], figures: &BTreeMap<&str, Figures>) {
    let ours = &figures[peers[0].name()].cpu_us;
    let ratios = |theirs: &[f64]| -> Vec<f64> {
        ours.iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    };
    let mut rows = Vec::new();
    for peer in peers.iter().filter(|peer| !is_twin(peer.name())) {
        let figures = &figures[peer.name()];
        rows.push(vec![
            peer.name().to_owned(),
            format!("{:.0}", median(&figures.per_second)),
            format!("{:.2}", median(&figures.cpu_us)),
            format!("{:.2}", median(&ratios(&figures.cpu_us))),
        ]);
    }
    let noise = 100.0 * noise(&ratios(&figures[&twin_of(peers[0].name())[..]].cpu_us));
    let head = [
        "server",
        "requests/s",
        "CPU of a request, µs",
        "tidegate's as a multiple",
    ];
    println!("{depth} at a time on each of {CONNECTIONS} connections; noise {noise:.1} %\n");
    println!("{}", table(&head, &rows));
}
