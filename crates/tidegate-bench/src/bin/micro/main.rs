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
//! tokio's time. Notes under it say what is compared.

mod ours;
mod theirs;

use pico_args::Arguments;
use std::process::ExitCode;
use std::time::Duration;
use tidegate_bench::machine;
use tidegate_bench::program::{self, Result};
use tidegate_bench::statistics::median;
use tidegate_bench::table::{list, table};

const USAGE: &str = "usage: micro [--rounds N] [--quick]";

/// A measurement: the time that this number of operations takes.
type Measure = fn(usize) -> Duration;

struct Case {
    name: &'static str,
    count: usize,
    ours: Measure,
    theirs: Measure,
    /// Of each round: nanoseconds for one operation of ours, of theirs, and the ratio.
    figures: [Vec<f64>; 3],
}

fn cases(quick: bool) -> Vec<Case> {
    let case = |name, count, ours: Measure, theirs: Measure| Case {
        name,
        count,
        ours,
        theirs,
        figures: Default::default(),
    };
    let [live, trips, calls] = if quick {
        [10_000, 500, 10_000]
    } else {
        [1_000_000, 5_000, 200_000]
    };
    let both = ours::insert_and_cancel as Measure;
    let mut cases = Vec::new();
    for count in [1_000, live] {
        cases.extend([
            case("insert a timer", count, ours::insert, theirs::insert),
            case("cancel a timer", count, ours::cancel, theirs::cancel),
            case(
                "insert and cancel beside live timers",
                count,
                both,
                theirs::insert_and_cancel,
            ),
            case("move a deadline", count, ours::reset, theirs::reset),
            case("expire a timer", count, ours::expire, theirs::expire),
        ]);
    }
    let wake = "wake from another thread, and reply";
    let call = "call from another thread, of many";
    cases.extend([
        case("call_soon", 10_000, ours::soon, theirs::soon),
        case(wake, trips, ours::round_trips, theirs::round_trips),
        case(call, calls, ours::remote_calls, theirs::remote_calls),
    ]);
    cases
}

/// How much later than the first timer another one is due: within a second, in no order.
fn spread(index: usize) -> Duration {
    let mixed = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Duration::from_nanos(mixed % 1_000_000_000)
}

/// Returns a time in which this number of timers is certainly set.
fn time_to_insert(count: usize) -> Duration {
    Duration::from_millis(20) + Duration::from_nanos(1_500) * count as u32
}

fn main() -> ExitCode {
    program::main(USAGE, parse, run)
}

fn parse(words: &mut Arguments) -> Result<(usize, bool)> {
    let quick = words.contains("--quick");
    let rounds = words.opt_value_from_str("--rounds")?;
    match rounds.unwrap_or(if quick { 1 } else { 7 }) {
        0 => Err("--rounds must be more than 0".into()),
        rounds => Ok((rounds, quick)),
    }
}

fn run(&(rounds, quick): &(usize, bool)) -> Result<ExitCode> {
    let mut cases = cases(quick);
    // The first round warms up.
    for round in 0..=rounds {
        for case in &mut cases {
            eprintln!("round {round}/{rounds}: {} ({})", case.name, case.count);
            // The first of the two changes from round to round.
            let (us, them) = if round % 2 == 0 {
                let us = (case.ours)(case.count);
                (us, (case.theirs)(case.count))
            } else {
                let them = (case.theirs)(case.count);
                ((case.ours)(case.count), them)
            };
            if round > 0 {
                let [us, them] = [us, them].map(|time| time.as_nanos() as f64 / case.count as f64);
                for (figures, figure) in case.figures.iter_mut().zip([us, them, us / them]) {
                    figures.push(figure);
                }
            }
        }
    }
    let row = |case: &Case| {
        let [us, them, ratio] = case.figures.each_ref().map(|figures| median(figures));
        let figures = [
            format!("{us:.0}"),
            format!("{them:.0}"),
            format!("{ratio:.2}"),
        ];
        [case.name.to_owned(), case.count.to_string()]
            .into_iter()
            .chain(figures)
            .collect()
    };
    let rows: Vec<_> = cases.iter().map(row).collect();
    let head = ["", "live, or in all", "tidegate, ns", "tokio, ns", "ratio"];
    println!("{}\n{}", list(&machine::facts()), table(&head, &rows));
    println!("{NOTES}");
    Ok(ExitCode::SUCCESS)
}

const NOTES: &str = "\
Insert: `call_later`; a boxed `sleep`, polled once. Cancel: the handle's `cancel`; the drop of the \
`sleep`. Beside live timers: the live ones stay, and the same number is inserted and cancelled at once. \
Move: `CallbackHandle::reset`; `Sleep::reset`. \
Expire: from the first of them that fired to the last, all due at one time; with tokio a spawned \
task waits for each. `call_soon`: schedule and run; with tokio a spawned task. Wake and reply: \
`call_soon_threadsafe`, with tokio `spawn` from the other thread, each with a reply over a channel of \
the standard library. Of many: the same, all called in a row.";
