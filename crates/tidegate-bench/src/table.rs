//! Figures in Markdown.

use serde_json::{Map, Value};
use std::fmt::Write;

/// Names and values in the order in which they were added.
pub type Facts = Map<String, Value>;

/// Returns a list of facts, the command among them as code.
pub fn list(facts: &Facts) -> String {
    let mut text = String::new();
    for (name, value) in facts {
        let _ = match value {
            Value::String(command) if name == "command" => writeln!(text, "- {name}: `{command}`"),
            Value::String(value) => writeln!(text, "- {name}: {value}"),
            value => writeln!(text, "- {name}: {value}"),
        };
    }
    text
}

/// Returns a table, its first column to the left and the others to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(head.len() - 1));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Returns a size with its unit, such as "64 KiB" and "91.3 MiB".
pub fn size(bytes: f64) -> String {
    let (number, unit) = match bytes {
        ..1024.0 => (bytes, "B"),
        ..1_048_576.0 => (bytes / 1024.0, "KiB"),
        ..1_073_741_824.0 => (bytes / 1_048_576.0, "MiB"),
        _ => (bytes / 1_073_741_824.0, "GiB"),
    };
    let number = format!("{number:.1}");
    format!("{} {unit}", number.trim_end_matches(".0"))
}
