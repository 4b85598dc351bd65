//! Where figures come from: the machine and the versions of what was measured.

use crate::peers::{run, workspace};
use crate::program::Result;
use crate::table::Facts;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::env;
use std::fs;

/// Returns the command of this program and facts about the machine, as names and texts.
pub fn facts() -> Facts {
    let found = [
        ("command", Some(command())),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("cpu", cpu()),
        ("load", read("/proc/loadavg")),
        (
            "congestion",
            read("/proc/sys/net/ipv4/tcp_congestion_control"),
        ),
        ("date", run("date", &["-u", "+%F %R UTC"]).ok()),
        ("commit", commit()),
        ("rustc", run("rustc", &["--version"]).ok()),
        ("cc", run("cc", &["--version"]).ok().and_then(first_line)),
        ("python", run("python3", &["--version"]).ok()),
        ("libuv", run("pkg-config", &["--modversion", "libuv"]).ok()),
        (
            "openssl",
            run("pkg-config", &["--modversion", "openssl"]).ok(),
        ),
        ("rustls", locked("rustls")),
        ("mio", locked("mio")),
        ("tokio", locked("tokio")),
    ];
    let known = found.into_iter();
    let known = known.filter_map(|(name, text)| Some((name.to_owned(), text?.into())));
    known.collect()
}

/// Puts this process, and so all that it starts, on one processor: this one, or the last. Returns which.
///
/// # Errors
///
/// When it may not run there.
pub fn pin(cpu: Option<usize>) -> Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let cpu = cpu.or(last).ok_or("no processor")?;
    if cpu >= CpuSet::MAX_CPU || !allowed.is_set(cpu) {
        return Err(format!("there is no CPU {cpu} for us").into());
    }
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(None, &one)?;
    Ok(cpu)
}

/// The command that started this program, as one would type it.
fn command() -> String {
    let program = env::args().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    let mut command = format!("cargo run --release -p tidegate-bench --bin {name}");
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.is_empty() {
        command.push_str(" --");
    }
    for argument in arguments {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,".contains(c);
        if argument.chars().all(plain) {
            command.push_str(&format!(" {argument}"));
        } else {
            command.push_str(&format!(" '{argument}'"));
        }
    }
    command
}

fn first_line(text: String) -> Option<String> {
    text.lines().next().map(str::to_owned)
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map(|(_, m)| m);
    // All of the machine's: this process may be tied to one of them.
    let is_one = |line: &&str| line.starts_with("processor");
    let count = text.lines().filter(is_one).count();
    Some(format!("{} x {}", count, model.unwrap_or("unknown")))
}

fn commit() -> Option<String> {
    let root = workspace();
    let root = root.to_string_lossy();
    let id = run("git", &["-C", &root, "rev-parse", "--short", "HEAD"]).ok()?;
    let changed = run("git", &["-C", &root, "status", "--porcelain", "-uno"]).ok()?;
    let changed = if changed.is_empty() { "" } else { ", changed" };
    Some(format!("{id}{changed}"))
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> Option<String> {
    let text = fs::read_to_string(workspace().join("Cargo.lock")).ok()?;
    let mut lines = text.lines();
    lines.find(|line| *line == format!("name = \"{name}\""))?;
    let version = lines.next()?.strip_prefix("version = \"")?;
    Some(version.trim_end_matches('"').to_owned())
}
