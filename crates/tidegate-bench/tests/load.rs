//! The load generator beside servers that are right and servers that are not.

use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tidegate_bench::carrier::Carrier;
use tidegate_bench::load::{Mode, Plan, Report, Until, run};
use tidegate_bench::memory;
use tidegate_bench::server_process::{Listening, ServerProcess, tied_to_us};
use tidegate_bench::service::{MEGABYTE, source_block};
use tidegate_bench::tls::{self, Handshake};

/// Servers with the services without TLS.
const SERVERS: [(&str, &[&str]); 7] = [
    (env!("CARGO_BIN_EXE_serve"), &["--api", "protocol"]),
    (env!("CARGO_BIN_EXE_serve"), &["--api", "buffered"]),
    (env!("CARGO_BIN_EXE_serve"), &["--api", "streams"]),
    (env!("CARGO_BIN_EXE_serve"), &["--write", "owned"]),
    (env!("CARGO_BIN_EXE_serve_mio"), &[]),
    (env!("CARGO_BIN_EXE_serve_tokio"), &["--buffers", "shared"]),
    (env!("CARGO_BIN_EXE_serve_tokio"), &["--lines", "buffered"]),
];

/// Those with an echo over TLS.
const SERVERS_OVER_TLS: [(&str, &[&str]); 5] = [
    (env!("CARGO_BIN_EXE_serve"), &["--tls"]),
    (env!("CARGO_BIN_EXE_serve"), &["--tls", "--api", "buffered"]),
    (env!("CARGO_BIN_EXE_serve"), &["--tls", "--api", "streams"]),
    (env!("CARGO_BIN_EXE_serve_tokio"), &["--tls"]),
    (
        env!("CARGO_BIN_EXE_serve_tokio"),
        &["--tls", "--buffers", "shared"],
    ),
];

/// Those over UDP.
const SERVERS_OVER_UDP: [(&str, &[&str]); 4] = [
    (env!("CARGO_BIN_EXE_serve"), &["--udp"]),
    (env!("CARGO_BIN_EXE_serve"), &["--udp", "--coalesce"]),
    (env!("CARGO_BIN_EXE_serve_mio"), &["--udp"]),
    (env!("CARGO_BIN_EXE_serve_tokio"), &["--udp"]),
];

fn start(program: &str, service: &str, options: &[&str]) -> ServerProcess {
    let mut command: Command = tied_to_us(program);
    command.arg(service).args(options);
    command.args(["--listen", "127.0.0.1:0"]);
    ServerProcess::start(command, Listening::Says).unwrap()
}

/// A mode with the service that it is for; connections, size, depth and messages.
type Loads = [(Mode, &'static str, [usize; 4])];

const LOADS: &Loads = &[
    (Mode::PingPong, "echo", [1, 1, 1, 100]),
    (Mode::PingPong, "echo", [50, 64, 1, 2000]),
    (Mode::Pipeline, "echo", [20, 64, 16, 5000]),
    (Mode::Pipeline, "echo", [4, 100_000, 16, 200]),
    (Mode::Lines, "lines", [20, 30, 16, 5000]),
    (Mode::Lines, "lines", [3, 20_000, 4, 200]),
    (Mode::Sink, "sink", [3, 70_000, 1, 200]),
    (Mode::Source, "source", [3, 70_000, 1, 200]),
    (Mode::Source, "source", [1, 9, 1, 20_001]),
    (Mode::Churn, "echo", [5, 1000, 1, 100]),
    (Mode::Churn, "echo", [2, 200_000, 1, 20]),
    (Mode::SlowReader, "echo", [3, 5000, 1, 12]),
];

/// Few enough on their way that a receive buffer has room for them.
const LOADS_OVER_UDP: &Loads = &[
    (Mode::PingPong, "echo", [1, 1, 1, 100]),
    (Mode::PingPong, "echo", [50, 64, 1, 2000]),
    (Mode::Pipeline, "echo", [4, 64, 16, 5000]),
    (Mode::Pipeline, "echo", [1, 9000, 4, 200]),
    (Mode::Sink, "sink", [1, 1200, 1, 1000]),
    (Mode::SegmentedSink, "sink", [1, 1200, 1, 1000]),
    (Mode::Source, "source", [3, 1200, 1, 1000]),
];

/// Runs the loads of a service, and checks that each has counted the messages asked for.
fn check(program: &str, options: &[&str], service: &str, carrier: Carrier, handshake: Handshake) {
    let server = start(program, service, options);
    let loads = match carrier {
        Carrier::Udp => LOADS_OVER_UDP,
        Carrier::Tcp | Carrier::Tls => LOADS,
    };
    for &(mode, of, [connections, size, depth, messages]) in loads {
        if of != service {
            continue;
        }
        let mut plan = Plan::new(mode, server.address());
        (plan.carrier, plan.handshake) = (carrier, handshake);
        (plan.connections, plan.size, plan.depth) = (connections, size, depth);
        plan.until = Until::Messages(messages as u64);
        plan.warmup = 7;
        let report = run(plan).unwrap();
        let what = format!("{program} {options:?} {carrier:?} {handshake:?} {report}");
        assert_eq!(report.errors, 0, "{what}");
        let counted = report.messages;
        if mode == Mode::SlowReader {
            // A tick reads on all connections.
            let most = (messages + connections) as u64;
            assert!((messages as u64..most).contains(&counted), "{what}");
        } else {
            assert_eq!(counted, messages as u64, "{what}");
        }
        is_plausible(&report);
    }
}

#[test]
fn every_mode_counts_the_messages_asked_for_and_finds_no_fault_in_servers_that_are_right() {
    for (program, options) in SERVERS {
        for service in ["echo", "lines", "sink", "source"] {
            check(program, options, service, Carrier::Tcp, Handshake::Full);
        }
    }
}

#[test]
fn over_udp_the_modes_of_datagrams_do_the_same() {
    for (program, options) in SERVERS_OVER_UDP {
        for service in ["echo", "sink", "source"] {
            check(program, options, service, Carrier::Udp, Handshake::Full);
        }
    }
}

#[test]
fn over_tls_the_modes_of_an_echo_do_the_same_with_full_handshakes_and_resumed_ones() {
    for (program, options) in SERVERS_OVER_TLS {
        for handshake in [Handshake::Full, Handshake::Resumed] {
            check(program, options, "echo", Carrier::Tls, handshake);
        }
    }
}

fn is_plausible(report: &Report) {
    let whole = report.messages * report.size as u64;
    // At either end of the measurement a message of each connection may be on its way.
    let slack = (report.connections * report.size * (report.depth + 1)) as u64 + (1 << 16) * 3;
    assert!(report.bytes.abs_diff(whole) <= slack, "{report}");
    let names = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let latencies = names.map(|name| report.latencies.get(name));
    assert!(latencies.is_sorted(), "{report}");
    let timed = matches!(
        report.mode,
        Mode::PingPong | Mode::Pipeline | Mode::Lines | Mode::Churn
    );
    assert_eq!(latencies[0].is_some(), timed, "{report}");
    assert!(report.seconds > 0.0, "{report}");
    if report.mode == Mode::PingPong {
        assert_eq!(report.bytes, whole, "{report}");
        assert!(
            report.latencies["p50_us"] <= report.seconds * 1e6,
            "{report}"
        );
    }
}

#[test]
fn bytes_that_a_server_kept_while_the_kernel_was_full_come_back_right() {
    // Each takes a second of slow reading, so all at once.
    let plain = SERVERS.map(|server| (server, Carrier::Tcp));
    let over_tls = SERVERS_OVER_TLS.map(|server| (server, Carrier::Tls));
    let start_check = |((program, options), carrier)| {
        thread::spawn(move || {
            let server = start(program, "echo", options);
            let mut plan = Plan::new(Mode::SlowReader, server.address());
            plan.carrier = carrier;
            plan.size = 65_536;
            // More than the kernel's buffers of both sides hold by default.
            plan.until = Until::Messages(120);
            let report = run(plan).unwrap();
            assert_eq!(report.errors, 0, "{program} {options:?} {report}");
            assert!(report.messages >= 120, "{report}");
        })
    };
    let checks: Vec<_> = plain.into_iter().chain(over_tls).map(start_check).collect();
    for check in checks {
        check.join().unwrap();
    }
}

#[test]
fn idle_connections_are_held_for_the_time_after_one_message_or_none() {
    let plain = (SERVERS[0], Carrier::Tcp);
    let over_tls = (SERVERS_OVER_TLS[0], Carrier::Tls);
    for (((program, options), carrier), size) in
        [(plain, 0), (plain, 64), (over_tls, 0), (over_tls, 64)]
    {
        let server = start(program, "echo", options);
        let mut plan = Plan::new(Mode::Idle, server.address());
        plan.carrier = carrier;
        (plan.connections, plan.size) = (100, size);
        plan.until = Until::Seconds(Duration::from_millis(50));
        let report = run(plan).unwrap();
        assert_eq!((report.messages, report.errors), (0, 0), "{report}");
        assert!(report.seconds >= 0.05, "{report}");
    }
}

/// Spoils the bytes that a server sends back, at one of them.
type Fault = fn(&mut Vec<u8>, usize);

/// An echo server, or with `source` that, whose bytes are right up to this number.
fn faulty(source: bool, right_until: usize, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || echo_wrongly(stream, source, right_until, fault));
        }
    });
    address
}

fn echo_wrongly(mut stream: TcpStream, source: bool, right_until: usize, fault: Fault) {
    let mut sent = 0;
    let mut buffer = source_block();
    loop {
        let len = match source {
            true => buffer.len(),
            false => stream.read(&mut buffer).unwrap_or(0),
        };
        if len == 0 {
            return;
        }
        let mut bytes = buffer[..len].to_vec();
        if (sent..sent + len).contains(&right_until) {
            fault(&mut bytes, right_until - sent);
        }
        sent += len;
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

#[test]
fn one_wrong_missing_or_additional_byte_is_an_error_in_every_mode_that_receives() {
    let faults: [Fault; 3] = [
        |bytes, place| bytes[place] ^= 1,
        |bytes, place| bytes.insert(place, b'x'),
        |bytes, place| {
            bytes.remove(place);
        },
    ];
    let echoes = [
        (Mode::PingPong, 1),
        (Mode::Pipeline, 8),
        (Mode::Lines, 8),
        (Mode::Churn, 1),
        (Mode::SlowReader, 1),
        (Mode::Source, 1),
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        for (mode, depth) in echoes {
            // In the middle of a message.
            let right_until = if mode == Mode::Churn { 10 } else { 1010 };
            let mut plan = Plan::new(mode, faulty(mode == Mode::Source, right_until, fault));
            (plan.size, plan.depth) = (100, depth);
            // Far more than come to pass.
            plan.until = match mode {
                Mode::Churn => Until::Messages(1),
                _ => Until::Messages(20_000),
            };
            let report = run(plan).unwrap();
            assert_eq!(report.errors, 1, "{mode:?} {index}: {report}");
            assert!(report.messages < 10_000, "{mode:?} {index}: {report}");
        }
    }
}

/// Sends a datagram back, in a wrong way.
type DatagramFault = fn(&UdpSocket, &[u8], SocketAddr);

/// An echo server over UDP, whose datagrams are right up to this number.
fn faulty_over_udp(right_until: usize, fault: DatagramFault) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        for number in 0.. {
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            if number == right_until {
                fault(&socket, &buffer[..len], from);
            } else {
                socket.send_to(&buffer[..len], from).unwrap();
            }
        }
    });
    address
}

#[test]
fn one_wrong_lost_or_doubled_datagram_is_an_error() {
    fn send(socket: &UdpSocket, data: &[u8], to: SocketAddr) {
        socket.send_to(data, to).unwrap();
    }
    let faults: [DatagramFault; 4] = [
        |socket, data, to| send(socket, &[data, b"x"].concat(), to),
        |socket, data, to| send(socket, &data[1..], to),
        |socket, data, to| {
            send(socket, data, to);
            send(socket, data, to);
        },
        |_, _, _| {},
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        for (mode, depth) in [(Mode::PingPong, 1), (Mode::Pipeline, 8)] {
            let mut plan = Plan::new(mode, faulty_over_udp(100, fault));
            (plan.carrier, plan.depth) = (Carrier::Udp, depth);
            plan.until = Until::Messages(20_000);
            plan.silence = Duration::from_millis(500);
            let report = run(plan).unwrap();
            assert_eq!(report.errors, 1, "{mode:?} {index}: {report}");
            assert!(report.messages < 10_000, "{mode:?} {index}: {report}");
        }
    }
}

/// Echoes over TLS, the first message of a connection, and ends it without close_notify if it is
/// asked to cut.
fn echo_over_tls(config: Arc<ServerConfig>, cuts: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(session, socket);
            let mut buffer = [0; 64];
            stream.read_exact(&mut buffer).unwrap();
            stream.write_all(&buffer).unwrap();
            // The client's close_notify.
            assert_eq!(stream.read(&mut buffer).unwrap(), 0);
            if !cuts {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        }
    });
    address
}

#[test]
fn over_tls_an_end_without_close_notify_and_a_session_that_is_not_resumed_are_errors() {
    let config = tls::server_config();
    let mut forgetful = ServerConfig::clone(&config);
    forgetful.session_storage = Arc::new(NoServerSessionStorage {});
    let forgetful = Arc::new(forgetful);
    for (config, cuts, handshake, messages, errors) in [
        (&config, false, Handshake::Resumed, 20, 0),
        (&config, true, Handshake::Resumed, 0, 1),
        (&forgetful, false, Handshake::Resumed, 1, 1),
        (&forgetful, false, Handshake::Full, 20, 0),
    ] {
        let address = echo_over_tls(Arc::clone(config), cuts);
        let mut plan = Plan::new(Mode::Churn, address);
        (plan.carrier, plan.handshake) = (Carrier::Tls, handshake);
        plan.until = Until::Messages(20);
        let report = run(plan).unwrap();
        let counted = (report.messages, report.errors);
        assert_eq!(counted, (messages, errors), "cuts: {cuts}, {handshake:?}");
    }
}

#[test]
fn peers_that_are_owed_a_megabyte_leave_most_of_it_to_the_server() {
    let programs = [
        env!("CARGO_BIN_EXE_serve"),
        env!("CARGO_BIN_EXE_serve_tokio"),
    ];
    let without: &[&str] = &[];
    let plain = programs.map(|program| (program, without, Carrier::Tcp));
    let over_tls = programs.map(|program| (program, &["--tls"][..], Carrier::Tls));
    for (program, options, carrier) in plain.into_iter().chain(over_tls) {
        let server = start(program, "megabyte", options);
        let owed = memory::owed(&server, carrier, 10).unwrap();
        let most = MEGABYTE as f64;
        assert!((most * 0.8..most).contains(&owed.waiting), "{owed:?}");
    }
}

#[test]
fn a_server_that_falls_silent_is_an_error_and_not_waited_for_without_end() {
    // The kernel takes connections for it, and that is all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for mode in [Mode::PingPong, Mode::Sink, Mode::Source, Mode::Churn] {
        let mut plan = Plan::new(mode, listener.local_addr().unwrap());
        plan.until = Until::Messages(1);
        plan.silence = Duration::from_millis(50);
        let report = run(plan).unwrap();
        assert_eq!((report.messages, report.errors), (0, 1), "{report}");
    }
}

#[test]
fn the_program_prints_its_report_as_json_and_fails_when_there_were_errors() {
    let server = start(SERVERS[0].0, "echo", &[]);
    let load = |address: SocketAddr| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
        command.args(["pingpong", "--messages", "50", "--connections", "2"]);
        command.args(["--connect", &address.to_string()]);
        command.output().unwrap()
    };
    let output = load(server.address());
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).unwrap();
    let report: Report = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (report.messages, report.bytes, report.errors),
        (50, 3200, 0)
    );
    assert_eq!(report.mode, Mode::PingPong);
    assert!(report.latencies["p999_us"] > 0.0);
    let output = load(faulty(false, 100, |bytes, place| bytes[place] ^= 1));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn churn_against_a_server_that_is_gone_ends_with_an_error() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut plan = Plan::new(Mode::Churn, address);
    plan.warmup = 1;
    plan.connections = 2;
    let report = run(plan).unwrap();
    assert_eq!((report.messages, report.errors), (0, 2), "{report}");
}
