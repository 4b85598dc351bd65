//! Counts that are the same on every machine, beside a recorded baseline: system calls,
//! instructions and heap allocations for each message, and the memory of an idle connection; the
//! same over TLS, and those of a handshake.
//!
//! Instructions are those of user code, as callgrind counts them, and are compared as a multiple
//! of what the raw mio server takes for the same traffic in the same run, over TLS of what
//! tokio-rustls takes: another compiler changes both. The processor that callgrind shows to a program
//! has no VAES. Allocations are the calls of malloc and its
//! kin that callgrind saw. System calls are those that strace saw. Each is the difference of two
//! runs of different length, so that start and end do not count. A handshake is that of a
//! connection that lives for one message, with all that such a connection costs.
//!
//! Run (two minutes, a part of it with `--tls`; with `--record` the figures become the baseline):
//!
//!     cargo run --release -p tidegate-bench --bin counts
//!
//! Expect a table, and status 1 when a figure is worse than it may be, which is named.

mod baseline;
mod tools;

use baseline::{ALLOCATIONS, Figures, IDLE, INSTRUCTIONS, SYSTEM_CALLS};
use std::convert::Infallible;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tidegate_bench::load::Mode;
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::program::{self, Result};
use tidegate_bench::tls::Handshake;
use tidegate_bench::{machine, memory, usage};
use tools::Traffic;

const USAGE: &str = "\
usage: counts [--record] [--baseline FILE] [--all] [--tls]

--record   makes the figures the baseline
--all      counts instructions and allocations of the other peers too, which takes some minutes;
           they have no baseline
--tls      counts over TLS alone";

const PING_PONG: Traffic = Traffic {
    name: "echo-x1",
    load: Mode::PingPong,
    server: "echo",
    tls: None,
    connections: 1,
    depth: 1,
    runs: [6_400, 38_400],
    floor: "mio",
    has_exact_allocations: true,
};

const TRAFFIC: [Traffic; 3] = [
    PING_PONG,
    Traffic {
        name: "echo-x64",
        connections: 64,
        ..PING_PONG
    },
    Traffic {
        name: "lines-x64-depth16",
        load: Mode::Lines,
        server: "lines",
        connections: 64,
        depth: 16,
        ..PING_PONG
    },
];

const PING_PONG_OVER_TLS: Traffic = Traffic {
    name: "tls-echo-x1",
    tls: Some(Handshake::Full),
    runs: [3_200, 12_800],
    floor: peers::TOKIO_RUSTLS,
    ..PING_PONG
};

/// Beside the server without a buffer for each task: to clear that buffer counts as an instruction
/// a byte.
const HANDSHAKE: Traffic = Traffic {
    name: "tls-handshake-full",
    load: Mode::Churn,
    runs: [50, 250],
    floor: peers::TOKIO_RUSTLS_SHARED,
    has_exact_allocations: false,
    ..PING_PONG_OVER_TLS
};

const TRAFFIC_OVER_TLS: [Traffic; 4] = [
    PING_PONG_OVER_TLS,
    Traffic {
        name: "tls-echo-x64",
        connections: 64,
        // Those of the handshakes vary.
        has_exact_allocations: false,
        ..PING_PONG_OVER_TLS
    },
    HANDSHAKE,
    Traffic {
        name: "tls-handshake-resumed",
        tls: Some(Handshake::Resumed),
        ..HANDSHAKE
    },
];

/// Idle connections before and after: as many as 1,024 descriptors allow.
const IDLE_CONNECTIONS: [usize; 2] = [100, 900];

/// Servers that are counted for the same traffic. The system calls, and the memory, are those of the
/// first traffic.
struct Group<'a> {
    traffic: &'static [Traffic],
    /// All of them, to find a floor in.
    servers: &'a [Peer],
    ours: Vec<&'a Peer>,
    /// Those without a baseline.
    others: Vec<&'a Peer>,
}

impl Group<'_> {
    /// Those of ours that serve a traffic.
    fn ours_for(&self, traffic: Traffic) -> impl Iterator<Item = &Peer> {
        let serves = move |peer: &&Peer| peer.serves(traffic.server, traffic.tls.is_some());
        self.ours.iter().copied().filter(serves)
    }

    fn floor(&self, traffic: Traffic) -> Result<&Peer> {
        let mut servers = self.servers.iter();
        let floor = servers.find(|peer| peer.name() == traffic.floor);
        Ok(floor.ok_or_else(|| format!("there is no {} server", traffic.floor))?)
    }
}

struct Arguments {
    record: bool,
    baseline: PathBuf,
    all: bool,
    tls: bool,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |arguments| {
        let faults = run(arguments)?;
        for fault in &faults {
            eprintln!("worse: {fault}");
        }
        Ok(ExitCode::from(u8::from(!faults.is_empty())))
    })
}

fn parse(words: &mut pico_args::Arguments) -> Result<Arguments> {
    let path = |text: &std::ffi::OsStr| Ok::<_, Infallible>(PathBuf::from(text));
    let baseline = words.opt_value_from_os_str("--baseline", path)?;
    let recorded = || peers::workspace().join("crates/tidegate-bench/baseline.toml");
    let arguments = Arguments {
        record: words.contains("--record"),
        baseline: baseline.unwrap_or_else(recorded),
        all: words.contains("--all"),
        tls: words.contains("--tls"),
    };
    if arguments.record && arguments.tls {
        return Err("--record is for all figures, and not with --tls".into());
    }
    Ok(arguments)
}

/// Counts, and returns the figures that are worse than recorded.
fn run(arguments: &Arguments) -> Result<Vec<String>> {
    for (tool, option) in [("valgrind", "--version"), ("strace", "--version")] {
        println!("{}", tools::version(tool, option)?);
    }
    let facts = machine::facts();
    for name in ["kernel", "rustc", "mio", "rustls"] {
        if let Some(text) = facts.get(name).and_then(|fact| fact.as_str()) {
            println!("{name}: {text}");
        }
    }
    let programs = peers::build_programs()?;
    let scratch = tools::scratch(&programs)?;
    let timed = peers::with_write_timeout(&programs);
    let limited = peers::with_limits(&programs);
    let framed = peers::framed(&programs);
    let framed_readers = peers::framed_readers(&programs);
    let servers = if arguments.all {
        let found = peers::find(&programs, false);
        for (name, why) in &found.left_out {
            println!("left out: {name} ({why})");
        }
        found.found
    } else {
        peers::rust_peers(&programs)
    };
    let named = |names: &[&str]| -> Vec<&Peer> {
        let is_named = |peer: &&Peer| names.contains(&peer.name());
        servers.iter().filter(is_named).collect()
    };
    let [protocol, buffered, streams] = peers::OURS;
    let mut others: Vec<&Peer> = servers.iter().collect();
    if arguments.all {
        let known = [protocol, buffered, streams, peers::OUR_TLS];
        others.retain(|peer| !known.contains(&peer.name()) && !peers::is_twin(peer.name()));
    } else {
        others.clear();
    }
    let mut plain = Group {
        traffic: &TRAFFIC,
        servers: &servers,
        ours: named(&[protocol, streams]),
        others: others.clone(),
    };
    plain.ours.extend([&timed, &limited, &framed]);
    plain.ours.extend(&framed_readers);
    let over_tls = Group {
        traffic: &TRAFFIC_OVER_TLS,
        servers: &servers,
        ours: named(&[peers::OUR_TLS]),
        others,
    };

    let mut figures = Figures::new();
    let groups = if arguments.tls {
        vec![over_tls]
    } else {
        vec![plain, over_tls]
    };
    for group in groups {
        per_message(&scratch, &group, &mut figures)?;
        system_calls(&scratch, &group, &mut figures)?;
        idle(&group, &mut figures)?;
    }
    if arguments.record {
        fs::write(&arguments.baseline, baseline::write(&figures))?;
        println!("recorded in {}", arguments.baseline.display());
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&arguments.baseline)
        .map_err(|error| format!("{}: {error}", arguments.baseline.display()))?;
    let mut recorded = baseline::read(&text)?;
    if arguments.tls {
        recorded.retain(|name, _| figures.contains_key(name));
    }
    Ok(baseline::judge(&recorded, &figures))
}

fn per_message(scratch: &Path, group: &Group<'_>, figures: &mut Figures) -> Result<()> {
    println!("\nuser-space instructions and heap allocations for each message (callgrind):");
    for &traffic in group.traffic {
        let floor = tools::callgrind(scratch, group.floor(traffic)?, traffic)?;
        let show = |name: &str, counted: tools::Counted| {
            let ratio = counted.instructions / floor.instructions;
            println!(
                "{:21} {name:20} {:9.1} instructions, {ratio:.3} x {}, {:6.3} allocations",
                traffic.name, counted.instructions, traffic.floor, counted.allocations
            );
            ratio
        };
        show(traffic.floor, floor);
        for peer in group.ours_for(traffic) {
            let counted = tools::callgrind(scratch, peer, traffic)?;
            let ratio = show(peer.name(), counted);
            let name = format!("{}.{}", peer.name(), traffic.name);
            let instructions = format!("{name}.{INSTRUCTIONS}{}", traffic.floor.replace('-', "_"));
            figures.insert(instructions, ratio);
            if traffic.has_exact_allocations {
                figures.insert(format!("{name}.{ALLOCATIONS}"), counted.allocations);
            }
        }
        for peer in &group.others {
            let serves = peer.serves(traffic.server, traffic.tls.is_some());
            if serves && peer.name() != traffic.floor {
                show(peer.name(), tools::callgrind(scratch, peer, traffic)?);
            }
        }
    }
    Ok(())
}

fn system_calls(scratch: &Path, group: &Group<'_>, figures: &mut Figures) -> Result<()> {
    println!("\nsystem calls for each message of one connection (strace):");
    let traffic = group.traffic[0];
    for peer in iter::once(group.floor(traffic)?).chain(group.ours_for(traffic)) {
        let (calls, names) = tools::strace(scratch, peer, traffic)?;
        let names: Vec<String> = names
            .iter()
            .map(|(name, calls)| format!("{name} {calls:.2}"))
            .collect();
        println!("{:17} {calls:.3}: {}", peer.name(), names.join(", "));
        if peer.name() != traffic.floor {
            let name = format!("{}.{}.{SYSTEM_CALLS}", peer.name(), traffic.name);
            figures.insert(name, calls);
        }
    }
    Ok(())
}

fn idle(group: &Group<'_>, figures: &mut Figures) -> Result<()> {
    usage::raise_descriptor_limit();
    println!("\nresident bytes of the process for each idle connection:");
    let traffic = group.traffic[0];
    let [few, many] = IDLE_CONNECTIONS;
    for peer in iter::once(group.floor(traffic)?).chain(group.ours_for(traffic)) {
        let server = peer.start(traffic.server)?;
        let bytes = memory::idle(&server, traffic.tls, few, many)?;
        println!("{:17} {bytes:.0}", peer.name());
        if peer.name() != traffic.floor {
            figures.insert(format!("{}.idle.{IDLE}", peer.name()), bytes);
        }
    }
    Ok(())
}
