//! The figures that were recorded, and by how much new ones may be worse.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Figures by name, `server.traffic.figure`.
pub(crate) type Figures = BTreeMap<String, f64>;

pub(crate) const SYSTEM_CALLS: &str = "system_calls";
/// The name of the server that the instructions are compared with follows.
pub(crate) const INSTRUCTIONS: &str = "instructions_by_";
pub(crate) const ALLOCATIONS: &str = "allocations";
pub(crate) const IDLE: &str = "bytes";

/// How much more than recorded a figure may be, as a share and in absolute numbers.
fn allowance(name: &str) -> (f64, f64) {
    let figure = name.rsplit('.').next().unwrap_or_default();
    match figure {
        // A message that comes in two parts, now and then, is no fault of ours.
        SYSTEM_CALLS => (0.0, 0.02),
        _ if figure.starts_with(INSTRUCTIONS) => (0.05, 0.0),
        // One in two hundred messages; a growing table allocates, but not that often.
        ALLOCATIONS => (0.0, 0.005),
        _ => (0.10, 0.0),
    }
}

/// Each figure that is worse than it may be, or was never recorded, or is recorded and gone.
/// Allocations have to be the same: fewer are a reason to record them.
pub(crate) fn judge(recorded: &Figures, counted: &Figures) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, &figure) in counted {
        let Some(&before) = recorded.get(name) else {
            faults.push(format!("{name}: {figure:.3}, not recorded; use --record"));
            continue;
        };
        let (share, absolute) = allowance(name);
        let most = before * (1.0 + share) + absolute;
        if figure > most || !figure.is_finite() {
            faults.push(format!(
                "{name}: {figure:.3}, recorded {before:.3}, at most {most:.3}"
            ));
        } else if name.ends_with(ALLOCATIONS) && figure < before - absolute {
            faults.push(format!(
                "{name}: {figure:.3}, fewer than the recorded {before:.3}; use --record"
            ));
        }
    }
    for name in recorded.keys().filter(|name| !counted.contains_key(*name)) {
        faults.push(format!("{name}: recorded, but not counted any more"));
    }
    faults
}

/// Returns the fault of a figure that is above a bound which holds whatever is recorded.
pub(crate) fn above(name: &str, figure: f64, most: f64) -> Option<String> {
    // A figure that is no number is a fault too.
    let is_within = figure <= most;
    (!is_within).then(|| format!("{name}: {figure:.1}, at most {most}"))
}

/// As TOML: a table for each server and traffic.
pub(crate) fn write(figures: &Figures) -> String {
    let mut text = String::from(
        "# The figures that `counts` compares with. Written by\n\
         #     cargo run --release -p tidegate-bench --bin counts -- --record\n",
    );
    let mut table = "";
    for (name, figure) in figures {
        let (of, key) = name.rsplit_once('.').unwrap_or(("", name));
        if of != table {
            let _ = write!(text, "\n[{of}]\n");
            table = of;
        }
        // Without "-0.000".
        let _ = writeln!(text, "{key} = {:.3}", figure + 0.0);
    }
    text
}

/// Reads what [`write`](fn@write) wrote.
pub(crate) fn read(text: &str) -> Result<Figures, String> {
    let mut figures = Figures::new();
    let mut table = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let wrong = || format!("line {}: {line}", index + 1);
        if line.is_empty() {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            name.strip_suffix(']')
                .ok_or_else(wrong)?
                .clone_into(&mut table);
            continue;
        }
        let (key, figure) = line.split_once('=').ok_or_else(wrong)?;
        let figure = figure.trim().parse().map_err(|_| wrong())?;
        figures.insert(format!("{table}.{}", key.trim()), figure);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(entries: &[(&str, f64)]) -> Figures {
        let named = entries
            .iter()
            .map(|(name, figure)| ((*name).to_owned(), *figure));
        named.collect()
    }

    const RECORDED: [(&str, f64); 4] = [
        ("protocol.echo-x1.allocations", 0.0),
        ("protocol.echo-x1.instructions_by_mio", 1.2),
        ("protocol.echo-x1.system_calls", 3.0),
        ("protocol.idle.bytes", 500.0),
    ];

    #[test]
    fn the_baseline_is_read_back_as_it_was_written() {
        let figures = figures(&RECORDED);
        assert_eq!(read(&write(&figures)), Ok(figures));
        assert!(read("[a]\nb: 1\n").is_err());
        assert!(read("[a\n").is_err());
    }

    #[test]
    fn what_is_a_little_worse_passes_and_what_is_worse_is_named() {
        let recorded = figures(&RECORDED);
        let with = |name: &str, figure| {
            let mut counted = recorded.clone();
            counted.insert(name.to_owned(), figure);
            judge(&recorded, &counted)
        };
        for (name, passes, fails) in [
            ("protocol.echo-x1.allocations", 0.001, 1.0),
            ("protocol.echo-x1.instructions_by_mio", 1.25, 1.27),
            ("protocol.echo-x1.system_calls", 3.01, 3.1),
            ("protocol.idle.bytes", 545.0, 555.0),
        ] {
            assert_eq!(with(name, passes), Vec::<String>::new());
            let faults = with(name, fails);
            assert!(
                faults.len() == 1 && faults[0].starts_with(name),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn a_bound_holds_whatever_is_recorded() {
        assert_eq!(above("protocol.echo-x1", 700.0, 700.0), None);
        for figure in [700.1, f64::NAN] {
            let fault = above("protocol.echo-x1", figure, 700.0);
            assert!(fault.is_some_and(|fault| fault.starts_with("protocol.echo-x1: ")));
        }
    }

    #[test]
    fn what_was_not_recorded_or_is_gone_is_a_fault() {
        let recorded = figures(&RECORDED);
        assert_eq!(judge(&Figures::new(), &recorded).len(), 4);
        assert_eq!(judge(&recorded, &Figures::new()).len(), 4);
        let fewer = figures(&[("protocol.echo-x1.allocations", -1.0)]);
        assert_eq!(judge(&figures(&RECORDED[..1]), &fewer).len(), 1);
    }
}
