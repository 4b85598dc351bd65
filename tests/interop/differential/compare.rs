//! Runs scripts in both worlds, and tells of a difference so that one can work on it.

use super::{Script, Version, asyncio, ours};
use std::fmt::Write;

/// One script and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Both {
    pub(crate) script: Script,
    pub(crate) asyncio: Vec<String>,
    pub(crate) ours: Vec<String>,
}

/// Runs all scripts in both worlds.
#[track_caller]
pub(crate) fn run_both(scripts: &[Script]) -> (Version, Vec<Both>) {
    let (version, theirs) = asyncio(scripts);
    let Version([major, minor, patch]) = version;
    println!(
        "{} scripts, python3 is {major}.{minor}.{patch}",
        scripts.len()
    );
    let traces = scripts.iter().zip(theirs).zip(ours(scripts));
    let both = traces.map(|((script, asyncio), ours)| Both {
        script: script.clone(),
        asyncio,
        ours,
    });
    (version, both.collect())
}

impl Both {
    /// Both traces, one beside the other.
    pub(crate) fn side_by_side(&self) -> String {
        let mut text = format!("{}\n", self.script);
        let names = self.script.names();
        let mut row = |mark, name: &str, asyncio: &str, ours: &str| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{mark} {name:<28} | {asyncio:<48} | {ours}");
        };
        row(' ', "", "asyncio", "Tidegate");
        for (at, name) in names.iter().enumerate() {
            let [asyncio, ours] =
                [&self.asyncio, &self.ours].map(|trace| trace.get(at).map_or("", String::as_str));
            row(if asyncio == ours { ' ' } else { '!' }, name, asyncio, ours);
        }
        let _ = writeln!(
            text,
            "alone: TIDEGATE_SCRIPT='{}' cargo test -p tests --features interop \
             --test interop_differential a_script_alone -- --nocapture",
            self.script
        );
        text
    }
}

/// Fails with all complaints there are.
#[track_caller]
pub(crate) fn check<'a>(all: impl Iterator<Item = (&'a Both, Option<String>)>) {
    let tell = |(both, complaint): (&Both, Option<String>)| {
        Some(format!("{}\n{}", complaint?, both.side_by_side()))
    };
    let complaints: Vec<_> = all.filter_map(tell).collect();
    assert!(
        complaints.is_empty(),
        "scripts with complaints: {}\n\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}
