//! One measurement: one server, one cell, once.

use crate::cells::{Cell, Kind};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tidegate_bench::peers::Peer;
use tidegate_bench::record::Record;
use tidegate_bench::server_process::ServerProcess;
use tidegate_bench::{memory, usage};

/// What a peer that never reads sends at the most.
const UNREAD_MOST: usize = 256 << 20;

/// The servers that were started, each once for each mode, and stopped between measurements.
pub(crate) struct Bench {
    pub(crate) load: PathBuf,
    pub(crate) seconds: f64,
    running: BTreeMap<(String, &'static str), ServerProcess>,
}

impl Bench {
    pub(crate) fn new(load: PathBuf, seconds: f64) -> Self {
        Self {
            load,
            seconds,
            running: BTreeMap::new(),
        }
    }

    /// The figures of one measurement.
    pub(crate) fn measure(&mut self, peer: &Peer, cell: &Cell) -> io::Result<Record> {
        match cell.kind {
            Kind::Load(mode) => self.load(peer, cell, mode),
            Kind::Idle => {
                let server = peer.start(cell.server)?;
                let few = cell.connections / 10;
                let bytes = memory::idle(&server, few, cell.connections)?;
                Ok(Record::new()
                    .with("connections", cell.connections as f64)
                    .with("bytes_per_connection", bytes))
            }
            Kind::Unread => {
                let server = peer.start(cell.server)?;
                let (growth, taken) = memory::unread(&server, UNREAD_MOST)?;
                Ok(Record::new()
                    .with("growth", growth as f64)
                    .with("taken", taken as f64))
            }
        }
    }

    fn load(&mut self, peer: &Peer, cell: &Cell, mode: &'static str) -> io::Result<Record> {
        let key = (peer.name().to_owned(), cell.server);
        if !self.running.contains_key(&key) {
            let server = peer.start(cell.server)?;
            self.running.insert(key.clone(), server);
        }
        let server = self.running.get_mut(&key).expect("it is there now");
        server.resume();
        let measured = run_load(&self.load, self.seconds, server, cell, mode);
        server.settle();
        server.pause();
        if !server.is_alive() {
            self.running.remove(&key);
            return Err(io::Error::other("the server has ended"));
        }
        measured
    }
}

fn run_load(
    load: &PathBuf,
    seconds: f64,
    server: &ServerProcess,
    cell: &Cell,
    mode: &str,
) -> io::Result<Record> {
    let before = usage::cpu_time(server.pid())?;
    let mut child = Command::new(load)
        .arg(mode)
        .args(["--connect", &server.address().to_string()])
        .args(["--connections", &cell.connections.to_string()])
        .args(["--size", &cell.size.to_string()])
        .args(["--depth", &cell.depth.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let limit = Duration::from_secs_f64(seconds + 30.0);
    if !ends_within(&mut child, limit)? {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the load hangs"));
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("load: {complaint}{said}")));
    }
    let used = usage::cpu_time(server.pid())?.saturating_sub(before);
    let figures: Record = said.trim().parse().map_err(io::Error::other)?;
    complete(&figures, cell, used).ok_or_else(|| io::Error::other(format!("load said: {said}")))
}

/// Waits for a child that says little.
fn ends_within(child: &mut std::process::Child, limit: Duration) -> io::Result<bool> {
    let end = std::time::Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if std::time::Instant::now() > end {
            return Ok(false);
        }
        // Short against a measurement, and seldom enough not to disturb it.
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(true)
}

/// The figures of the load, with what is compared: messages a second (of a stream: bytes), and
/// the server's processor time for each message.
fn complete(figures: &Record, cell: &Cell, used: Duration) -> Option<Record> {
    let seconds = figures.number("seconds")?;
    let bytes = figures.number("bytes")?;
    let messages = if cell.is_stream() {
        bytes / cell.size as f64
    } else {
        figures.number("messages")?
    };
    if messages <= 0.0 || seconds <= 0.0 {
        return None;
    }
    let rate = if cell.is_stream() { bytes } else { messages } / seconds;
    let mut record = Record::new()
        .with("per_second", rate)
        .with("cpu_us_per_message", used.as_secs_f64() * 1e6 / messages);
    for name in ["messages", "bytes", "seconds", "p50_us", "p99_us", "errors"] {
        if let Some(number) = figures.number(name) {
            record = record.with(name, number);
        }
    }
    Some(record)
}
