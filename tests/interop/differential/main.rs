//! The same scripts on asyncio and on Tidegate, each on real sockets of its own: what the two
//! protocols see is compared word by word.
//!
//! `differential/script.rs` has the language of the scripts. `TIDEGATE_SCRIPT='tcp write 5; close'`
//! has the first test show both traces of that one; `TIDEGATE_CASES=n` sets the number of random
//! scripts.

mod asyncio;
mod compare;
mod driven;
mod ours;
mod random;
mod script;
mod sockets;
mod tables;

use asyncio::{Version, asyncio};
use compare::{Both, check, run_both};
use ours::ours;
use random::{explain, random_scripts};
use script::{Op, PeerOp, Script, Step};
use tables::{Entry, agreed, deviations, versions};

/// Each on each kind of socket.
const RANDOM: usize = 200;

fn same(both: &Both) -> Option<String> {
    (both.asyncio != both.ours).then(|| "the traces differ".to_owned())
}

/// Runs a table of scripts; `of` says which of an entry's traces are to be asyncio's and ours.
#[track_caller]
fn check_table(entries: &[Entry], of: impl Fn(&Entry, Version) -> [&Vec<String>; 2]) {
    let scripts: Vec<Script> = entries.iter().map(|entry| entry.script.clone()).collect();
    let (version, all) = run_both(&scripts);
    check(all.iter().zip(entries).map(|(both, entry)| {
        let [asyncio, ours] = of(entry, version);
        let who = match (both.asyncio == *asyncio, both.ours == *ours) {
            (true, true) => return (both, None),
            (false, true) => "asyncio does",
            (true, false) => "we do",
            (false, false) => "both do",
        };
        let complaint = format!("{who} something else than the table says: {}", entry.why);
        (both, Some(complaint))
    }));
}

#[test]
fn a_script_alone_is_seen_alike() {
    let line = std::env::var("TIDEGATE_SCRIPT");
    let default = "tcp write 5; peer reads; peer sends 7; peer shuts";
    let script = Script::of_line(line.as_deref().unwrap_or(default));
    let (_, all) = run_both(&[script]);
    println!("{}", all[0].side_by_side());
    check(all.iter().map(|both| (both, same(both))));
}

#[test]
fn where_we_promise_what_asyncio_does_both_protocols_see_the_same() {
    let (_, all) = run_both(&agreed());
    check(all.iter().map(|both| (both, same(both))));
}

#[test]
fn where_we_differ_from_asyncio_the_table_says_how_and_why() {
    check_table(&deviations(), |entry, _| [&entry.left, &entry.right]);
}

#[test]
fn where_versions_of_cpython_differ_we_do_as_the_newest() {
    check_table(&versions(), |entry, version| {
        let old = entry.since.is_some_and(|since| version < since);
        let asyncio = if old { &entry.left } else { &entry.right };
        [asyncio, &entry.right]
    });
}

#[test]
fn random_scripts_differ_only_where_a_rule_says_so() {
    let count = std::env::var("TIDEGATE_CASES").ok();
    let count = count.map_or(RANDOM, |count| count.parse().unwrap());
    let (_, mut all) = run_both(&random_scripts(count));
    all.iter_mut().for_each(explain);
    check(all.iter().map(|both| (both, same(both))));
}
