//! Thousands of random interleavings on real sockets, each compared with a simple model.
//!
//! A case is a function of its seed. A failure prints the seed and all that was done;
//! `TIDEGATE_SEED=n` replays one seed, and makes its list of operations shorter while it still
//! fails. `TIDEGATE_CASES=n` sets the number of cases for each test.

mod case;
mod layers;
mod model;
mod ops;
mod protocol;
mod shared;

use ops::Plan;
use std::fmt::Write;
use support::{Kind, each_kind};

/// For each of the four tests.
const CASES: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run_cases(kind: Kind, tiny: bool) {
    if let Some(seed) = number("TIDEGATE_SEED") {
        let plan = Plan::new(seed);
        if let Err(failure) = case::run(&plan, kind, tiny) {
            panic!("seed {seed}: {}", shorter(plan, failure, kind, tiny));
        }
        return;
    }
    for seed in 0..number("TIDEGATE_CASES").unwrap_or(CASES) {
        if let Err(failure) = case::run(&Plan::new(seed), kind, tiny) {
            panic!("TIDEGATE_SEED={seed}: {failure}");
        }
    }
}

/// Takes operations out as long as the case still fails.
fn shorter(mut plan: Plan, mut failure: String, kind: Kind, tiny: bool) -> String {
    let mut progress = true;
    while progress {
        progress = false;
        for at in (0..plan.ops.len() + plan.scripts.len()).rev() {
            let mut less = plan.clone();
            if at < plan.ops.len() {
                less.ops.remove(at);
            } else if less.scripts[at - plan.ops.len()].ops.pop().is_none() {
                continue;
            }
            if let Err(error) = case::run(&less, kind, tiny) {
                (plan, failure, progress) = (less, error, true);
            }
        }
    }
    let mut text = failure;
    // Writing to a string does not fail.
    let _ = write!(text, "\n{plan:#?}");
    text
}

each_kind!(no_interleaving_breaks_the_model);
fn no_interleaving_breaks_the_model(kind: Kind) {
    run_cases(kind, false);
}

each_kind!(no_interleaving_with_tiny_kernel_buffers_breaks_the_model);
fn no_interleaving_with_tiny_kernel_buffers_breaks_the_model(kind: Kind) {
    run_cases(kind, true);
}
