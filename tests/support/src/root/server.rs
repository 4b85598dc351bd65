//! An example server in a process of its own, and what the system knows about that process.

use super::{Client, PATIENCE, wait_until};
use crate::{Kind, TempDir};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tidegate::Address;

/// How long a server is watched that has nothing to do, and how much of it it may run. One that
/// spins would run most of it, on a busy machine a third.
const IDLE: Duration = Duration::from_millis(300);
const MOST_IDLE: Duration = Duration::from_millis(50);

/// proc_pid_stat(5) counts in these, on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// How the server's protocols receive.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_enums, reason = "these are all the server has")]
pub enum Mode {
    /// By `data_received`.
    Protocol,
    /// By `get_buffer` and `buffer_updated`.
    Buffered,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Protocol, Self::Buffered];
}

/// The programs that run as a server.
#[derive(Debug, Clone, Copy)]
enum Program {
    Echo(Mode),
    UdpEcho,
}

/// A running `echo_server`, or `udp_echo`; killed when dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    child: Child,
    /// The server's own, which is not the child's when that is a tracer.
    pid: Pid,
    address: Address,
    /// How many descriptors it has when nobody is connected.
    descriptors: usize,
}

impl Server {
    /// Starts one that nothing is done to yet.
    #[track_caller]
    pub fn start(kind: Kind, mode: Mode) -> Self {
        Self::launch(TempDir::new(), kind, Program::Echo(mode), &[], &[])
    }

    /// Starts one under strace, which makes system calls fail, or late, as these say; see `inject`
    /// in strace(1).
    #[track_caller]
    pub fn traced(kind: Kind, mode: Mode, injections: &[&str]) -> Self {
        Self::under_strace(kind, Program::Echo(mode), injections)
    }

    /// As `traced`, the echo of datagrams.
    #[track_caller]
    pub fn of_datagrams_traced(kind: Kind, injections: &[&str]) -> Self {
        Self::under_strace(kind, Program::UdpEcho, injections)
    }

    #[track_caller]
    fn under_strace(kind: Kind, program: Program, injections: &[&str]) -> Self {
        let dir = TempDir::new();
        let calls: Vec<_> = injections
            .iter()
            .filter_map(|injection| injection.split(':').next())
            .collect();
        let mut tracer: Vec<OsString> = ["strace", "-f", "-o"].map(OsString::from).into();
        tracer.push(dir.path("trace").into());
        tracer.push(format!("--trace={}", calls.join(",")).into());
        for injection in injections {
            tracer.push(format!("--inject={injection}").into());
        }
        // Nobody else would end the server if the tracer were killed.
        tracer.extend(DIES_WITH_PARENT.map(OsString::from));
        Self::launch(dir, kind, program, &tracer, &[])
    }

    /// Starts one with these variables set.
    #[track_caller]
    pub fn with_environment(kind: Kind, mode: Mode, variables: &[(&str, OsString)]) -> Self {
        Self::launch(TempDir::new(), kind, Program::Echo(mode), &[], variables)
    }

    #[track_caller]
    fn launch(
        dir: TempDir,
        kind: Kind,
        program: Program,
        wrapper: &[OsString],
        variables: &[(&str, OsString)],
    ) -> Self {
        let (name, settings) = match program {
            Program::Echo(Mode::Protocol) => ("echo_server", ["--mode", "protocol"]),
            Program::Echo(Mode::Buffered) => ("echo_server", ["--mode", "buffered"]),
            Program::UdpEcho => ("udp_echo", ["--as", "protocol"]),
        };
        let [program, rest @ ..] = DIES_WITH_PARENT;
        let mut child = Command::new(program)
            .args(rest)
            .args(wrapper)
            .arg("env")
            .args(variables.iter().map(|(name, value)| {
                let mut variable = OsString::from(name);
                variable.push("=");
                variable.push(value);
                variable
            }))
            .arg(executable(name))
            .args(["--listen", &kind.somewhere(&dir)])
            .args(settings)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path("stderr")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        let Some(output) = child.stdout.take() else {
            unreachable!("it was asked for")
        };
        let address = match first_line(output) {
            Some(line) => listening_on(&line),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                let complaint = fs::read_to_string(dir.path("stderr")).unwrap();
                panic!("the server, or what it runs under, did not start: {complaint}");
            }
        };
        let own = child.id();
        let pid = if wrapper.is_empty() {
            own
        } else {
            let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
            children.trim().parse().unwrap()
        };
        let mut server = Self {
            dir,
            child,
            pid: Pid::from_raw(pid.cast_signed()).unwrap(),
            address,
            descriptors: 0,
        };
        server.descriptors = server.descriptors();
        server
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid.as_raw_nonzero()))
    }

    /// The numbers of its descriptors.
    pub fn descriptor_numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.proc("fd")).expect("the server is alive");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn descriptors(&self) -> usize {
        self.descriptor_numbers().len()
    }

    /// How many connections it has.
    pub fn connections(&self) -> usize {
        self.descriptors() - self.descriptors
    }

    /// From the third on; see proc_pid_stat(5).
    fn stat(&self) -> Vec<String> {
        let stat = fs::read_to_string(self.proc("stat")).expect("the server is alive");
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').map(str::to_owned).collect()
    }

    /// How long it ran so far, in user code and in system calls.
    pub fn ran(&self) -> Duration {
        let stat = self.stat();
        let ticks = |field: usize| stat[field - 3].parse::<u32>().unwrap();
        TICK * (ticks(14) + ticks(15))
    }

    /// Whether it is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.stat()[0] == "T"
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the server is alive");
    }

    /// Returns the lines that it has logged.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path("stderr")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Checks that it has logged `most` lines at most. A slow callback is not counted: on a busy
    /// machine any can be.
    #[track_caller]
    pub fn assert_lines(&self, most: usize) {
        let mut lines = self.lines();
        lines.retain(|line| !line.contains("tidegate::slow"));
        assert!(lines.len() <= most, "{} lines: {lines:#?}", lines.len());
    }

    /// Every connection is closed, new ones are served, and with those open and silent the server
    /// sleeps.
    #[track_caller]
    pub fn assert_is_well(&self) {
        wait_until("all connections closed", || self.connections() == 0);
        let mut clients: Vec<_> = (0..3)
            .map(|i| {
                let mut client = Client::connect(self.address(), i).unwrap();
                client.exchange(100).unwrap();
                client
            })
            .collect();
        assert_eq!(self.connections(), 3);
        self.assert_sleeps(&mut clients[0]);
    }

    /// It runs hardly at all while this client, which it owes nothing, listens.
    #[track_caller]
    pub fn assert_sleeps(&self, client: &mut Client) {
        let before = self.ran();
        client.assert_hears_nothing(IDLE);
        let ran = self.ran() - before;
        assert!(ran <= MOST_IDLE, "ran for {ran:?} of {IDLE:?}");
    }

    /// Ends the server; returns the number of calls of each kind that strace has tampered with.
    #[track_caller]
    pub fn injected(self) -> BTreeMap<String, usize> {
        self.traced_calls(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)"))
    }

    /// Ends the server; returns the number of calls of each kind that strace has seen the end of.
    #[track_caller]
    pub fn calls(self) -> BTreeMap<String, usize> {
        self.traced_calls(|line| line.contains(") = "))
    }

    #[track_caller]
    fn traced_calls(mut self, counts_for: impl Fn(&str) -> bool) -> BTreeMap<String, usize> {
        self.end();
        let trace = fs::read_to_string(self.dir.path("trace")).expect("it was traced");
        let mut counts = BTreeMap::new();
        for line in trace.lines().filter(|line| counts_for(line)) {
            // "PID call(...", or "PID <... call resumed>...".
            let word = |word: &&str| !word.is_empty() && !word.starts_with("<...");
            let call = line.split([' ', '(']).skip(1).find(word).unwrap();
            *counts.entry(call.to_owned()).or_default() += 1;
        }
        counts
    }

    fn end(&mut self) {
        // Gone already, when it was ended or has crashed. Its tracer then ends by itself.
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines = self.lines();
            let last = &lines[lines.len().saturating_sub(10)..];
            eprintln!("{} lines of the server, the last: {last:#?}", lines.len());
        }
        self.end();
    }
}

/// Of util-linux, which every system has.
const DIES_WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// Next to the folder of the tests.
fn executable(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{} is missing: run cargo build --examples first",
        path.display()
    );
    path
}

fn first_line(output: impl Read + Send + 'static) -> Option<String> {
    let (told, line) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        if matches!(BufReader::new(output).read_line(&mut line), Ok(1..)) {
            // Nobody waits when it came too late.
            let _ = told.send(line);
        }
    });
    line.recv_timeout(PATIENCE).ok()
}

fn listening_on(line: &str) -> Address {
    let Some(address) = line.trim_end().strip_prefix("listening on ") else {
        panic!("the server says {line:?}")
    };
    match address.strip_prefix("unix:") {
        Some(path) => Address::Unix(path.into()),
        None => Address::Inet(address.parse::<SocketAddr>().unwrap()),
    }
}
