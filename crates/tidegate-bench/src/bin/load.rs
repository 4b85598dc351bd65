//! Asks a server for what it can do, and says what came of it as one line of JSON.
//!
//! ```sh
//! load pingpong --connect 127.0.0.1:7000 --connections 100 --seconds 5 --warmup 10000
//! ```
//!
//! Modes: `pingpong`, `pipeline`, `churn`, `idle` and `slow-reader` of an `echo` server, `lines`
//! of a `lines` server, `sink` and `source` of those. `connected` on standard error says that the
//! warm-up is over. It ends with status 1 when a connection failed or a byte was wrong.

use std::env;
use std::process::ExitCode;
use tidegate_bench::load::{Load, Plan};
use tidegate_bench::usage;

const USAGE: &str = "\
usage: load MODE --connect IP:PORT (--seconds S | --messages N)
            [--connections 1] [--size 64] [--depth 1] [--warmup 0]

Modes: pingpong, pipeline, churn, idle and slow-reader of an echo server; lines, sink and source.
Sizes are bytes; --warmup is so many messages before those that count.";

fn main() -> ExitCode {
    if env::args_os().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::parse(env::args_os()) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("load: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    usage::raise_descriptor_limit();
    let run = || {
        let mut load = Load::connect(plan)?;
        load.warm_up()?;
        eprintln!("connected");
        load.measure()?;
        std::io::Result::Ok(load.report())
    };
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(report.errors > 0))
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
