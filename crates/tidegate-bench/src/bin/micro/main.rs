//! Small things, many times: timers, scheduled callbacks and wake-ups from another thread, through
//! the public API, beside tokio's on its single-threaded runtime.
//!
//! Each pair is measured in turn in every round, and the ratio is taken within the round. The first
//! round warms up and does not count.
//!
//! Run (half a minute):
//!
//!     cargo run --release -p tidegate-bench --bin micro
//!
//! Expect a table in Markdown: nanoseconds for one of each, medians, and tidegate's share of
//! tokio's time. What is compared is said under it.

mod ours;
mod theirs;

use std::process::ExitCode;
use std::time::Duration;
use tidegate_bench::machine;
use tidegate_bench::statistics::median;

const USAGE: &str = "usage: micro [--rounds N] [--quick]";

/// A measurement: how long one operation took, of so many.
type Measure = fn(usize) -> Duration;

struct Case {
    name: &'static str,
    count: usize,
    ours: Measure,
    theirs: Measure,
}

fn cases(quick: bool) -> Vec<Case> {
    let many = if quick { 10_000 } else { 1_000_000 };
    let mut cases = Vec::new();
    for count in [1_000, many] {
        for (name, ours, theirs) in [
            (
                "insert a timer",
                ours::insert as Measure,
                theirs::insert as Measure,
            ),
            ("cancel a timer", ours::cancel, theirs::cancel),
            (
                "insert and cancel beside live timers",
                ours::insert_and_cancel,
                theirs::insert_and_cancel,
            ),
            ("expire a timer", ours::expire, theirs::expire),
        ] {
            cases.push(Case {
                name,
                count,
                ours,
                theirs,
            });
        }
    }
    cases.push(Case {
        name: "call_soon",
        count: 10_000,
        ours: ours::soon,
        theirs: theirs::soon,
    });
    let trips = if quick { 500 } else { 5_000 };
    cases.push(Case {
        name: "wake from another thread, and be answered",
        count: trips,
        ours: ours::round_trips,
        theirs: theirs::round_trips,
    });
    cases.push(Case {
        name: "call from another thread, of many",
        count: if quick { 10_000 } else { 200_000 },
        ours: ours::remote_calls,
        theirs: theirs::remote_calls,
    });
    cases
}

/// How much later than the first timer another one is due: within a second, in no order.
fn spread(index: usize) -> Duration {
    let mixed = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Duration::from_nanos(mixed % 1_000_000_000)
}

/// By when so many timers are certainly set.
fn time_to_insert(count: usize) -> Duration {
    Duration::from_millis(20) + Duration::from_nanos(1_500) * count as u32
}

fn main() -> ExitCode {
    match parse() {
        Ok(Some((rounds, quick))) => {
            run(rounds, quick);
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse() -> Result<Option<(usize, bool)>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut rounds, mut quick) = (None, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("rounds") => rounds = Some(parser.value()?.parse()?),
            Long("quick") => quick = true,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    let rounds: usize = rounds.unwrap_or(if quick { 1 } else { 7 });
    if rounds == 0 {
        return Err("--rounds must be more than 0".into());
    }
    Ok(Some((rounds, quick)))
}

fn run(rounds: usize, quick: bool) {
    let cases = cases(quick);
    let mut figures = vec![(Vec::new(), Vec::new(), Vec::new()); cases.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for (case, (ours, theirs, ratios)) in cases.iter().zip(&mut figures) {
            eprintln!("round {round}/{rounds}: {} ({})", case.name, case.count);
            let nanoseconds = |time: Duration| time.as_nanos() as f64 / case.count as f64;
            // Who comes first changes from round to round.
            let (us, them) = if round % 2 == 0 {
                let us = (case.ours)(case.count);
                (us, (case.theirs)(case.count))
            } else {
                let them = (case.theirs)(case.count);
                ((case.ours)(case.count), them)
            };
            if round > 0 {
                let (us, them) = (nanoseconds(us), nanoseconds(them));
                ours.push(us);
                theirs.push(them);
                ratios.push(us / them);
            }
        }
    }
    println!("- command: `{}`", machine::command());
    for (name, value) in machine::facts().entries() {
        if let tidegate_bench::record::Value::Text(text) = value {
            println!("- {name}: {text}");
        }
    }
    println!("\n| | live, or in all | tidegate, ns | tokio, ns | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (case, (ours, theirs, ratios)) in cases.iter().zip(&figures) {
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.2} |",
            case.name,
            case.count,
            median(ours),
            median(theirs),
            median(ratios)
        );
    }
    println!("\n{NOTES}");
}

const NOTES: &str = "\
Insert: `call_later`; a boxed `sleep`, polled once. Cancel: the handle's `cancel`; the drop of the \
`sleep`. Beside so many: that many stay, and as many more are inserted and cancelled at once. \
Expire: from the first of them that fired to the last, all due at one time; with tokio a spawned \
task waits for each. `call_soon`: schedule and run; with tokio a spawned task. A wake and answer: \
`call_soon_threadsafe`, with tokio `spawn` from the other thread, each answered over a channel of \
the standard library. Of many: the same, all called in a row.";
