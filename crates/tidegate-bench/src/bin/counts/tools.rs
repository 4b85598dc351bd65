//! A server run by a tool that counts: valgrind's callgrind, strace.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tidegate_bench::carrier::Carrier;
use tidegate_bench::load::{self, Mode, Plan, Until};
use tidegate_bench::peers::Peer;
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::tls::Handshake;

/// The traffic for which a server is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) name: &'static str,
    /// Of the load generator.
    pub(crate) load: Mode,
    /// Of the server.
    pub(crate) server: &'static str,
    pub(crate) carrier: Carrier,
    /// Over TLS.
    pub(crate) handshake: Handshake,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    /// Messages of the two runs: many, because how the connections come together costs some dozens
    /// of allocations more or less. Under callgrind a message takes some 50 µs, over TLS 0.3 ms, and
    /// a handshake 40 ms.
    pub(crate) runs: [u64; 2],
    /// The server whose instructions the others are compared with.
    pub(crate) floor: &'static str,
    /// The traffic for which that server is counted, if it is another one.
    pub(crate) traffic_of_floor: Option<&'static Traffic>,
    /// Maximum number of instructions of ours for each message, whatever is recorded.
    pub(crate) most_instructions: Option<f64>,
    /// Whether the number of allocations is the same in each run.
    pub(crate) has_exact_allocations: bool,
}

/// The counts of callgrind in the life of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

/// Returns counts per message: the difference of two runs, which cancels out all that is not per
/// message.
pub(crate) fn callgrind(scratch: &Path, peer: &Peer, traffic: Traffic) -> io::Result<Counted> {
    let runs = traffic.runs;
    let out = scratch.join("callgrind.out");
    let option = format!("--callgrind-out-file={}", out.display());
    let tool = ["valgrind", "--tool=callgrind", "-q", &option];
    let mut counted = [Counted::default(); 2];
    for (counted, messages) in counted.iter_mut().zip(runs) {
        load(peer.start_under(&tool, traffic.server)?, traffic, messages)?;
        *counted = read_callgrind(&fs::read_to_string(&out)?)?;
    }
    let [short, long] = counted;
    let messages = (runs[1] - runs[0]) as f64;
    Ok(Counted {
        instructions: (long.instructions - short.instructions) / messages,
        // Without what is far below one in a hundred messages, and without a "-0".
        allocations: ((long.allocations - short.allocations) / messages * 1e2).round() / 1e2 + 0.0,
    })
}

/// Returns system calls per message, by the difference of two runs, and their names.
pub(crate) fn strace(
    scratch: &Path,
    peer: &Peer,
    traffic: Traffic,
) -> io::Result<(f64, Vec<(String, f64)>)> {
    let runs = traffic.runs;
    let out = scratch.join("strace.out");
    let path = out.to_string_lossy();
    let tool = ["strace", "-f", "-c", "-o", &path];
    let mut calls = HashMap::new();
    let messages = (runs[1] - runs[0]) as f64;
    for (run, sign) in runs.into_iter().zip([-1.0, 1.0]) {
        let server = peer.start_under(&tool, traffic.server)?;
        load(server.is_child_of_tool()?, traffic, run)?;
        for (name, count) in read_strace(&fs::read_to_string(&out)?) {
            *calls.entry(name).or_insert(0.0) += sign * count / messages;
        }
    }
    let sum = calls.values().sum();
    let mut calls: Vec<(String, f64)> = calls.into_iter().collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    calls.retain(|(_, calls)| calls.abs() >= 0.005);
    Ok((sum, calls))
}

/// Sends the traffic, then ends the server, so that its tool writes the counts.
fn load(server: ServerProcess, traffic: Traffic, messages: u64) -> io::Result<()> {
    let mut plan = Plan::new(traffic.load, server.address());
    plan.carrier = traffic.carrier;
    plan.handshake = traffic.handshake;
    plan.connections = traffic.connections;
    plan.depth = traffic.depth;
    plan.until = Until::Messages(messages);
    let report = load::run(plan)?;
    if report.errors > 0 || report.messages != messages {
        return Err(io::Error::other(report.to_string()));
    }
    server.settle();
    server.terminate()
}

/// Sums of callgrind's file: instructions in all, and calls of the functions that allocate.
fn read_callgrind(text: &str) -> io::Result<Counted> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut called = None;
    let mut counted = Counted::default();
    for line in text.lines() {
        if let Some(function) = line
            .strip_prefix("fn=")
            .or_else(|| line.strip_prefix("cfn="))
        {
            // "(7) malloc" the first time, "(7)" from then on.
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            called = line.starts_with('c').then_some(id);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let name = called.and_then(|id| names.get(id)).copied();
            if name.is_some_and(allocates) {
                counted.allocations += number(calls)?;
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            counted.instructions = number(total)?;
        }
    }
    if counted.instructions == 0.0 {
        return Err(io::Error::other("callgrind wrote no totals"));
    }
    Ok(counted)
}

fn allocates(function: &str) -> bool {
    // A function that is on the stack already is counted as malloc'2.
    let name = function.split('\'').next().unwrap_or_default();
    let functions = [
        "malloc",
        "calloc",
        "realloc",
        "posix_memalign",
        "aligned_alloc",
    ];
    functions.contains(&name)
}

fn number(text: &str) -> io::Result<f64> {
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no number: {text}")))
}

/// Calls by name of strace's table: share of time, seconds, microseconds, calls, errors if there
/// were any, name.
fn read_strace(text: &str) -> HashMap<String, f64> {
    let mut calls = HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() < 5 || words[words.len() - 1] == "total" {
            continue;
        }
        if let Ok(count) = words[3].parse() {
            calls.insert(words[words.len() - 1].to_owned(), count);
        }
    }
    calls
}

/// The version of a tool, in a line.
pub(crate) fn version(tool: &str, option: &str) -> Result<String, String> {
    let text = tidegate_bench::peers::run(tool, &[option])
        .map_err(|why| format!("{why} (it is needed; install {tool})"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A directory for what the tools write.
pub(crate) fn scratch(programs: &Path) -> io::Result<PathBuf> {
    let place = programs.with_file_name("counts");
    fs::create_dir_all(&place)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_file_says_how_often_memory_was_allocated() {
        let text = "fn=(1) main\n12 30\ncfn=(2) malloc\ncalls=3 0\n12 99\ncfn=(3) free\n\
                    calls=3 0\n12 9\nfn=(4) other\ncfn=(2)\ncalls=2 0\n1 1\n\
                    cfn=(5) realloc'2\ncalls=1 0\n1 1\ntotals: 1234\n";
        let expected = Counted {
            instructions: 1234.0,
            allocations: 6.0,
        };
        assert_eq!(read_callgrind(text).unwrap(), expected);
        assert!(read_callgrind("fn=(1) main\n").is_err());
    }

    #[test]
    fn straces_table_says_how_often_each_call_was_made() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n\
                    ------ ----------- ----------- --------- --------- ----------------\n\
                    \x2070.00    0.000100          10        12         2 recvfrom\n\
                    \x2030.00    0.000100           0        34           sendto\n\
                    100.00    0.000200           1        46         2 total\n";
        let calls = read_strace(text);
        assert_eq!(calls.len(), 2);
        assert_eq!(calls["recvfrom"], 12.0);
        assert_eq!(calls["sendto"], 34.0);
    }
}
