//! Counts that are the same on every machine, beside a recorded baseline: system calls,
//! instructions and heap allocations for each message, and the memory of an idle connection; the
//! same over TLS, and those of a handshake.
//!
//! Instructions are those of user code, as callgrind counts them, and are compared as a multiple
//! of what the raw mio server takes for the same traffic in the same run, over TLS of what
//! tokio-rustls takes: another compiler changes both. Over UDP ours have a bound of their own too. The processor that callgrind shows to a program
//! has no VAES. Allocations are the calls of malloc and its
//! kin that callgrind saw. System calls are those that strace saw. Each is the difference of two
//! runs of different length, so that start and end do not count. A handshake is that of a
//! connection that lives for one message, with all that such a connection costs. Over UDP a connection
//! is a socket of the client, and the server has one.
//!
//! Run (three minutes, a part of it with `--tls` or `--udp`; with `--record` the figures become the baseline):
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
use tidegate_bench::carrier::Carrier;
use tidegate_bench::load::Mode;
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::program::{self, Result};
use tidegate_bench::tls::Handshake;
use tidegate_bench::{machine, memory, usage};
use tools::Traffic;

const USAGE: &str = "\
usage: counts [--record] [--baseline FILE] [--all] [--tls | --udp]

--record   makes the figures the baseline
--all      counts instructions and allocations of the other peers too, which takes some minutes;
           they have no baseline
--tls      counts over TLS alone
--udp      counts over UDP alone";

const PING_PONG: Traffic = Traffic {
    name: "echo-x1",
    load: Mode::PingPong,
    server: "echo",
    carrier: Carrier::Tcp,
    handshake: Handshake::Full,
    connections: 1,
    depth: 1,
    runs: [6_400, 38_400],
    floor: "mio",
    traffic_of_floor: None,
    most_instructions: None,
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
    carrier: Carrier::Tls,
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
        handshake: Handshake::Resumed,
        ..HANDSHAKE
    },
];

const SOCKETS_OVER_UDP: Traffic = Traffic {
    name: "udp-echo-x64",
    carrier: Carrier::Udp,
    connections: 64,
    floor: peers::MIO_UDP,
    most_instructions: Some(600.0),
    ..PING_PONG
};

/// Of one socket the next datagram may come before or after the server has asked for it once more, so
/// that the floor would be one of two.
const PING_PONG_OVER_UDP: Traffic = Traffic {
    name: "udp-echo-x1",
    connections: 1,
    traffic_of_floor: Some(&SOCKETS_OVER_UDP),
    most_instructions: Some(700.0),
    ..SOCKETS_OVER_UDP
};

const TRAFFIC_OVER_UDP: [Traffic; 3] = [
    PING_PONG_OVER_UDP,
    SOCKETS_OVER_UDP,
    Traffic {
        name: "udp-echo-x1-depth16",
        load: Mode::Pipeline,
        depth: 16,
        most_instructions: Some(500.0),
        ..PING_PONG_OVER_UDP
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
        let serves = move |peer: &&Peer| peer.serves(traffic.server, traffic.carrier);
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
    /// That alone.
    carrier: Option<Carrier>,
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
    let carrier = match (words.contains("--tls"), words.contains("--udp")) {
        (false, false) => None,
        (true, false) => Some(Carrier::Tls),
        (false, true) => Some(Carrier::Udp),
        (true, true) => return Err("either --tls or --udp".into()),
    };
    let arguments = Arguments {
        record: words.contains("--record"),
        baseline: baseline.unwrap_or_else(recorded),
        all: words.contains("--all"),
        carrier,
    };
    if arguments.record && carrier.is_some() {
        return Err("--record is for all figures, and not with --tls or --udp".into());
    }
    Ok(arguments)
}

/// Counts, and returns the figures that are worse than recorded or above their bound.
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
        let known = [protocol, buffered, streams, peers::OUR_TLS, peers::OUR_UDP];
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
        others: others.clone(),
    };
    let over_udp = Group {
        traffic: &TRAFFIC_OVER_UDP,
        servers: &servers,
        ours: named(&[peers::OUR_UDP]),
        others,
    };

    let (mut figures, mut faults) = (Figures::new(), Vec::new());
    let groups = match arguments.carrier {
        None => vec![plain, over_tls, over_udp],
        Some(Carrier::Tcp) => vec![plain],
        Some(Carrier::Tls) => vec![over_tls],
        Some(Carrier::Udp) => vec![over_udp],
    };
    for group in groups {
        per_message(&scratch, &group, &mut figures, &mut faults)?;
        system_calls(&scratch, &group, &mut figures)?;
        idle(&group, &mut figures)?;
    }
    if arguments.record {
        fs::write(&arguments.baseline, baseline::write(&figures))?;
        println!("recorded in {}", arguments.baseline.display());
        return Ok(faults);
    }
    let text = fs::read_to_string(&arguments.baseline)
        .map_err(|error| format!("{}: {error}", arguments.baseline.display()))?;
    let mut recorded = baseline::read(&text)?;
    if arguments.carrier.is_some() {
        recorded.retain(|name, _| figures.contains_key(name));
    }
    faults.extend(baseline::judge(&recorded, &figures));
    Ok(faults)
}

fn per_message(
    scratch: &Path,
    group: &Group<'_>,
    figures: &mut Figures,
    faults: &mut Vec<String>,
) -> Result<()> {
    println!("\nuser-space instructions and heap allocations for each message (callgrind):");
    for &traffic in group.traffic {
        let of_floor = *traffic.traffic_of_floor.unwrap_or(&traffic);
        let floor = tools::callgrind(scratch, group.floor(traffic)?, of_floor)?;
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
            if let Some(most) = traffic.most_instructions {
                let name = format!("{name}.instructions");
                faults.extend(baseline::above(&name, counted.instructions, most));
            }
            if traffic.has_exact_allocations {
                figures.insert(format!("{name}.{ALLOCATIONS}"), counted.allocations);
            }
        }
        for peer in &group.others {
            let serves = peer.serves(traffic.server, traffic.carrier);
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
    let traffic = group.traffic[0];
    if traffic.carrier == Carrier::Udp {
        // A server knows no clients.
        return Ok(());
    }
    usage::raise_descriptor_limit();
    println!("\nresident bytes of the process for each idle connection:");
    let [few, many] = IDLE_CONNECTIONS;
    for peer in iter::once(group.floor(traffic)?).chain(group.ours_for(traffic)) {
        let server = peer.start(traffic.server)?;
        let bytes = memory::idle(&server, traffic.carrier, few, many)?;
        println!("{:17} {bytes:.0}", peer.name());
        if peer.name() != traffic.floor {
            figures.insert(format!("{}.idle.{IDLE}", peer.name()), bytes);
        }
    }
    Ok(())
}
