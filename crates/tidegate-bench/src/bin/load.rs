//! Measures a server from the client's side, and prints the figures as one line of JSON.
//!
//! ```sh
//! load pingpong --connect 127.0.0.1:7000 --connections 100 --seconds 5 --warmup 10000
//! ```
//!
//! Modes: `pingpong`, `pipeline`, `churn`, `idle` and `slow-reader` of an `echo` server, `lines`
//! of a `lines` server, `sink` and `source` of those, `segmented-sink` of a `sink` over UDP. `connected` on standard error means that the
//! warm-up is over. It ends with status 1 when a connection failed or a byte was wrong.

use std::process::ExitCode;
use tidegate_bench::load::{Load, Plan};
use tidegate_bench::program::{self, Result};
use tidegate_bench::usage;

const USAGE: &str = "\
usage: load MODE --connect IP:PORT (--seconds S | --messages N)
            [--connections 1] [--size 64] [--depth 1] [--warmup 0] [--tls full|resumed | --udp]

Modes: pingpong, pipeline, churn, idle and slow-reader of an echo server; lines, sink and source;
segmented-sink of a sink over UDP.
Sizes are bytes; --warmup is the number of messages before those that count. --tls is TLS 1.3;
with `resumed` each connection of churn but the first resumes a session. --udp is for pingpong,
pipeline, and with --size 1200 sink and source, which wait for each window of datagrams.";

fn main() -> ExitCode {
    program::main(USAGE, Plan::parse, run)
}

fn run(plan: &Plan) -> Result<ExitCode> {
    usage::raise_descriptor_limit();
    let mut load = Load::connect(plan.clone())?;
    load.warm_up()?;
    eprintln!("connected");
    load.measure()?;
    let report = load.report();
    println!("{report}");
    Ok(ExitCode::from(u8::from(report.errors > 0)))
}
