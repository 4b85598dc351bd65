//! One measurement: one server, one cell, once.

use crate::cells::{Cell, Kind};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_bench::load::{self, Mode, Plan, Report, Until};
use tidegate_bench::memory;
use tidegate_bench::peers::{self, Peer};
use tidegate_bench::server_process::ServerProcess;

/// Maximum number of bytes that a peer that never reads sends.
const UNREAD_MOST: usize = 256 << 20;

/// Figures by name.
pub(crate) type Figures = BTreeMap<String, f64>;

fn named<const N: usize>(figures: [(&str, f64); N]) -> Figures {
    figures
        .map(|(name, figure)| (name.to_owned(), figure))
        .into()
}

/// The servers that were started, each once for each mode, and stopped between measurements.
pub(crate) struct Bench {
    /// How long each measurement takes.
    seconds: f64,
    /// The directory of the programs.
    programs: PathBuf,
    running: BTreeMap<(String, &'static str), ServerProcess>,
}

impl Bench {
    pub(crate) fn new(seconds: f64, programs: &Path) -> Self {
        Self {
            seconds,
            programs: programs.to_owned(),
            running: BTreeMap::new(),
        }
    }

    /// The figures of one measurement.
    pub(crate) fn measure(&mut self, peer: &Peer, cell: &Cell) -> io::Result<Figures> {
        match cell.kind {
            Kind::Load(mode) => self.load(peer, cell, mode),
            Kind::Idle => {
                let server = peer.start(cell.server)?;
                let few = cell.connections / 10;
                let bytes = memory::idle(&server, cell.carrier, few, cell.connections)?;
                Ok(named([
                    ("connections", cell.connections as f64),
                    ("bytes_per_connection", bytes),
                ]))
            }
            Kind::Unread => {
                let server = peer.start(cell.server)?;
                let (growth, taken) = memory::unread(&server, UNREAD_MOST)?;
                Ok(named([("growth", growth as f64), ("taken", taken as f64)]))
            }
            Kind::Owed => {
                let server = peer.start(cell.server)?;
                let owed = memory::owed(&server, cell.carrier, cell.connections)?;
                Ok(named([("growth", owed.growth), ("waiting", owed.waiting)]))
            }
            Kind::Burst => {
                let trimmer = peers::trimmer(&self.programs).map_err(io::Error::other)?;
                let server =
                    peer.start_under(&trimmer.each_ref().map(|word| &word[..]), cell.server)?;
                let (growth, left) = memory::burst(&server, cell.carrier, cell.connections)?;
                Ok(named([("growth", growth), ("left", left)]))
            }
        }
    }

    fn load(&mut self, peer: &Peer, cell: &Cell, mode: Mode) -> io::Result<Figures> {
        let key = (peer.name().to_owned(), cell.server);
        if !self.running.contains_key(&key) {
            let server = peer.start(cell.server)?;
            self.running.insert(key.clone(), server);
        }
        let server = self.running.get_mut(&key).expect("it is there now");
        server.resume();
        let measured = run_load(self.seconds, server, cell, mode);
        server.settle();
        server.pause();
        if let Some(status) = server.ended()? {
            self.running.remove(&key);
            return Err(io::Error::other(format!("the server has ended: {status}")));
        }
        measured
    }
}

fn run_load(seconds: f64, server: &ServerProcess, cell: &Cell, mode: Mode) -> io::Result<Figures> {
    let mut plan = Plan::new(mode, server.address());
    plan.carrier = cell.carrier;
    plan.connections = cell.connections;
    plan.size = cell.size;
    plan.depth = cell.depth;
    plan.until = Until::Seconds(Duration::from_secs_f64(seconds));
    // So that every connection was accepted before.
    plan.warmup = cell.connections as u64;
    let (report, used) = load::measure(plan, server.pid())?;
    figures(&report, cell, used).ok_or_else(|| io::Error::other(format!("nothing done: {report}")))
}

/// Returns the compared figures: messages a second (of a stream: bytes), and the server's processor time for
/// each message. The latencies are there to be looked up.
fn figures(report: &Report, cell: &Cell, used: Duration) -> Option<Figures> {
    let seconds = report.seconds;
    let bytes = report.bytes as f64;
    let messages = if cell.is_stream() {
        bytes / cell.size as f64
    } else {
        report.messages as f64
    };
    if messages <= 0.0 || seconds <= 0.0 {
        return None;
    }
    let rate = if cell.is_stream() { bytes } else { messages } / seconds;
    let mut figures = named([
        ("per_second", rate),
        ("cpu_us_per_message", used.as_secs_f64() * 1e6 / messages),
        ("messages", messages),
        ("seconds", seconds),
    ]);
    figures.extend(report.latencies.clone());
    Some(figures)
}
