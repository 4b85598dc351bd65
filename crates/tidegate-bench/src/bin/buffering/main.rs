//! What a write buffer costs: its growth when nobody drains it, and what the watermarks do.
//!
//! The first experiment: a writer is offered 48 MiB a second, its reader takes 8. Writers on
//! asyncio, uvloop and libuv that never wait, and tidegate's, which do not wait either or do. Each
//! is a process of its own, whose resident memory is sampled.
//!
//! The second: one connection of tidegate that heeds `Flow`, with different high-water marks, with
//! and without a bound on what waits in the kernel (`set_unsent_low_water`): bytes a second to a
//! reader that takes all, and the age of a message on arrival at one that takes 32 MiB a second.
//!
//! Run (a minute; the charts go to target/buffering):
//!
//!     cargo run --release -p tidegate-bench --bin buffering
//!
//! Expect two tables in Markdown, and `memory.svg`, `lateness.svg` and `throughput.svg`.

mod charts;
mod growth;
mod watermarks;
mod writer;

use growth::Growth;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_bench::drawing::size;
use tidegate_bench::record::Value;
use tidegate_bench::{machine, peers};
use watermarks::Setting;

const USAGE: &str = "usage: buffering [--quick] [--seconds 4] [--rounds 3] [--out DIRECTORY]";

struct Arguments {
    /// Of each writer that is never drained.
    seconds: f64,
    rounds: usize,
    /// Of each setting of the watermarks.
    measure: Duration,
    out: Option<PathBuf>,
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("buffering: {error}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("buffering: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` when there is nothing more to do.
fn parse() -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut seconds, mut rounds, mut out, mut quick) = (None, None, None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("quick") => quick = true,
            Long("seconds") => seconds = Some(parser.value()?.parse()?),
            Long("rounds") => rounds = Some(parser.value()?.parse()?),
            Long("out") => out = Some(parser.value()?.into()),
            // The program starts itself in this way, as one of the writers.
            Long("writer") => {
                let style = parser.value()?.string()?;
                let address = parser.value()?.parse()?;
                writer::write(style.parse()?, address).map_err(|error| error.to_string())?;
                return Ok(None);
            }
            Short('h') | Long("help") => {
                println!("{USAGE}");
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    let (default_seconds, default_rounds, measure) =
        if quick { (0.5, 1, 100) } else { (4.0, 3, 700) };
    let seconds: f64 = seconds.unwrap_or(default_seconds);
    if !(0.1..=60.0).contains(&seconds) {
        return Err("--seconds must be between 0.1 and 60".into());
    }
    Ok(Some(Arguments {
        seconds,
        rounds: rounds.unwrap_or(default_rounds).max(1),
        measure: Duration::from_millis(measure),
        out,
        quick,
    }))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let programs = peers::build_programs()?;
    let default = || programs.with_file_name("buffering");
    let out = arguments.out.clone().unwrap_or_else(default);
    fs::create_dir_all(&out)?;

    let (writers, left_out) = growth::writers(&programs, arguments.quick)?;
    let seconds = Duration::from_secs_f64(arguments.seconds);
    let mut grown = Vec::new();
    for (name, command) in writers {
        eprintln!("{name}: {:.1} s", arguments.seconds);
        grown.push(Growth::measure(&name, command, seconds)?);
    }
    let settings = watermarks::measure(arguments.rounds, arguments.measure)?;

    println!("# Buffering\n\n- command: `{}`", machine::command());
    for (name, value) in machine::facts().entries() {
        if let Value::Text(text) = value {
            println!("- {name}: {text}");
        }
    }
    for (name, why) in left_out {
        println!("- left out: {name} ({why})");
    }
    println!(
        "\n{}\n\n{}",
        growth_table(&grown),
        settings_table(&settings)
    );
    fs::write(out.join("memory.svg"), charts::memory(&grown))?;
    fs::write(out.join("lateness.svg"), charts::lateness(&settings))?;
    fs::write(out.join("throughput.svg"), charts::throughput(&settings))?;
    eprintln!(
        "memory.svg, lateness.svg and throughput.svg are in {}",
        out.display()
    );
    Ok(())
}

fn growth_table(grown: &[Growth]) -> String {
    let mut table = String::from(
        "Offered 48 MiB a second, taken 8:\n\n\
         | writer | grown at the end | at the most |\n| --- | ---: | ---: |",
    );
    for growth in grown {
        let last = growth.samples.last().map_or(0.0, |(_, bytes)| *bytes);
        let (last, peak) = (size(last), size(growth.peak()));
        table.push_str(&format!("\n| {} | {last} | {peak} |", growth.name));
    }
    table
}

fn settings_table(settings: &[Setting]) -> String {
    let mut table = String::from(
        "One writer that heeds Flow; the age of a message when it arrives, at 32 MiB a second:\n\n\
         | high-water mark | unsent in the kernel | throughput | age, median | age, 99 % |\n\
         | ---: | --- | ---: | ---: | ---: |",
    );
    for setting in settings {
        table.push_str(&format!(
            "\n| {} | {} | {}/s | {:.1} ms | {:.1} ms |",
            size(setting.high as f64),
            setting.kernel(),
            size(setting.throughput()),
            setting.age(0.5) * 1e3,
            setting.age(0.99) * 1e3,
        ));
    }
    table
}
