//! The scripts and tables that are files.
//!
//! A table has entries with an empty line between them: comment lines (`#`) say why, a line with
//! the version from which on a table of versions has `>`, a line with the kinds of sockets, then
//! the lines of the trace. The name of a step stands at the left margin, its results
//! below: indented when they are the same in both worlds, after `<` for the first and `>` for the
//! second one.

use super::{Script, Version};
use support::Kind;

/// A script whose two traces differ.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) why: String,
    /// The first version with the second trace, in the table of versions.
    pub(crate) since: Option<Version>,
    pub(crate) script: Script,
    /// The trace after `<`.
    pub(crate) left: Vec<String>,
    /// The trace after `>`.
    pub(crate) right: Vec<String>,
}

/// Scripts that are the same in both worlds: on all kinds of sockets, or on Unix sockets alone.
pub(crate) fn agreed() -> Vec<Script> {
    let lines = include_str!("agreed.txt").lines();
    let scripts = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let on_its_own = |line: &str| line.starts_with("unix ").then(|| Script::of_line(line));
    let of = |line| match on_its_own(line) {
        Some(script) => vec![script],
        None => Script::on_all(line).collect(),
    };
    scripts.flat_map(of).collect()
}

/// Where we differ from asyncio on purpose.
#[track_caller]
pub(crate) fn deviations() -> Vec<Entry> {
    entries(include_str!("deviations.txt"))
}

/// Where older versions of CPython differ from 3.14.
#[track_caller]
pub(crate) fn versions() -> Vec<Entry> {
    entries(include_str!("versions.txt"))
}

#[track_caller]
fn entries(text: &str) -> Vec<Entry> {
    // The first block says what the table is.
    text.split("\n\n").skip(1).flat_map(parse).collect()
}

/// An entry for each of its kinds.
#[track_caller]
fn parse(block: &str) -> Vec<Entry> {
    let (mut why, mut since) = (Vec::new(), None);
    let mut kinds: Option<Vec<Kind>> = None;
    let (mut steps, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for line in block.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            why.push(comment);
        } else if let Some(version) = line.strip_prefix("since ") {
            since = Version::parse(version);
            assert!(since.is_some(), "{line:?} is no version");
        } else if kinds.is_none() {
            let all = line.split(' ').map(|word| match word {
                "tcp" => Kind::Tcp,
                "unix" => Kind::Unix,
                _ => panic!("{word:?} is no kind of socket, in:\n{block}"),
            });
            kinds = Some(all.collect());
        } else if let Some(trace) = line.strip_prefix("< ") {
            left.push(trace.to_owned());
        } else if let Some(trace) = line.strip_prefix("> ") {
            right.push(trace.to_owned());
        } else if let Some(trace) = line.strip_prefix("  ") {
            left.push(trace.to_owned());
            right.push(trace.to_owned());
        } else {
            steps.push(line);
        }
    }
    assert!(!why.is_empty(), "nothing says why:\n{block}");
    assert!(left != right, "these are the same:\n{block}");
    let setup = |step: &&str| !matches!(*step, "(connect)" | "(end)");
    let steps: Vec<_> = steps.into_iter().filter(setup).collect();
    let text = steps.join("; ").replace("(connect) ", "");
    let entries = kinds.into_iter().flatten().map(|kind| Entry {
        why: why.join(" "),
        since,
        script: Script::new(kind, &text),
        left: left.clone(),
        right: right.clone(),
    });
    entries.collect()
}
