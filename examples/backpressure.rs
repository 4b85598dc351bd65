//! Memory with and without backpressure. A source that offers 64 MiB a second writes to a reader that
//! takes 16. The first run obeys `Flow`, within the default limits. The second one ignores it, with the
//! limits lifted, as a program on asyncio does that never awaits `drain`. Source, reader and loop are the
//! same; the difference is where the rest waits.
//!
//! Run:
//!
//!     cargo run --example backpressure -- --svg backpressure.svg
//!
//! Expect within about 5 s a table: the first run's write buffer stays at the high-water mark and
//! one write (80 KiB) and the process does not grow; the second one's takes some 90 MiB. The chart
//! shows both buffers over time. `--seconds 10` makes each run longer: the second one then reaches
//! 256 MiB, the cap of this program.

#[path = "backpressure/chart.rs"]
mod chart;

use chart::{Chart, Curve, size};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidegate::{
    Closed, Completer, ConnectOptions, EventLoop, Protocol, Result, Transport, WriteError,
    WriteLimits,
};
use tidegate_examples::{Args, exit_code, say};

/// Bytes a second.
const OFFERED: u64 = 64 << 20;
const TAKEN: u64 = 16 << 20;

static PIECE: [u8; 16 << 10] = [b'.'; 16 << 10];
/// The time between two steps of the source, and two samples of the buffer (beside each resume).
const TICK: Duration = Duration::from_millis(10);
/// Maximum number of bytes that the second run holds, so that a long one does no harm.
const CAP: usize = 256 << 20;

/// The figures of one run.
#[derive(Default)]
struct Run {
    /// Seconds since the start, bytes in the write buffer.
    samples: Vec<(f64, u64)>,
    peak: u64,
    /// The maximum growth of the process; `None` where the system does not tell it.
    growth: Option<u64>,
    duration: Duration,
    offered: u64,
    written: u64,
    unsent: u64,
    /// By the reader.
    received: u64,
}

struct Source {
    /// Whether it stops at `Paused`.
    heeds: bool,
    limit: Duration,
    started: Instant,
    resident_before: Option<u64>,
    /// When the next line of progress is due.
    next_line: Duration,
    run: Run,
    /// Completes with the run in `connection_lost`.
    done: Option<Completer<Run>>,
}

/// Bytes that the source has offered by then.
fn offered(elapsed: Duration) -> u64 {
    (OFFERED as f64 * elapsed.as_secs_f64()) as u64
}

impl Source {
    fn elapsed(&self, transport: &Transport) -> Duration {
        transport.handle().now() - self.started
    }

    /// Writes the bytes that are due. Bytes that it may not write now stay due, and are not made.
    fn produce(&mut self, transport: &Transport) -> Result {
        let due = offered(self.elapsed(transport));
        while transport.written() + PIECE.len() as u64 <= due {
            if self.heeds && transport.flow().is_paused() {
                break; // `resume_writing` goes on.
            }
            match transport.write(&PIECE) {
                Err(WriteError::BufferFull { .. }) => break,
                taken => taken?,
            };
            self.run.peak = self.run.peak.max(transport.write_buffer_size() as u64);
        }
        Ok(())
    }

    fn sample(&mut self, transport: &Transport) {
        let elapsed = self.elapsed(transport).as_secs_f64();
        let buffered = transport.write_buffer_size() as u64;
        self.run.samples.push((elapsed, buffered));
    }

    /// Prints a line on stderr every half second.
    fn show_progress(&mut self, elapsed: Duration, buffered: u64) {
        if elapsed >= self.next_line {
            self.next_line = elapsed + Duration::from_millis(500);
            let (name, seconds) = (name(self.heeds), elapsed.as_secs_f64());
            let buffered = size(buffered);
            let resident = resident().map_or_else(|| "?".to_owned(), size);
            eprintln!(
                "{name}: {seconds:4.1} s, {buffered:>9} in the write buffer, {resident:>9} resident"
            );
        }
    }

    fn tick(&mut self, transport: &Transport) -> Result {
        self.produce(transport)?;
        self.sample(transport);
        let elapsed = self.elapsed(transport);
        if let (Some(now), Some(before)) = (resident(), self.resident_before) {
            self.run.growth = self.run.growth.max(Some(now.saturating_sub(before)));
        }
        self.show_progress(elapsed, transport.write_buffer_size() as u64);
        if elapsed >= self.limit {
            self.run.duration = elapsed;
            self.run.offered = offered(elapsed);
            transport.abort();
            return Ok(());
        }
        transport.call_later(TICK, Self::tick);
        Ok(())
    }
}

impl Protocol for Source {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.started = transport.handle().now();
        self.tick(transport)
    }

    fn resume_writing(&mut self, transport: &Transport) -> Result {
        self.sample(transport);
        self.produce(transport)?;
        self.sample(transport);
        Ok(())
    }

    fn connection_lost(&mut self, transport: &Transport, closed: &Closed) {
        self.run.written = transport.written();
        self.run.unsent = closed.unsent();
        if let Some(done) = self.done.take() {
            done.complete(Ok(std::mem::take(&mut self.run)));
        }
    }
}

/// Reads no faster than `TAKEN`: when it is ahead of that, it does not read until it no longer is.
struct Reader {
    started: Instant,
    received: Rc<Cell<u64>>,
}

impl Protocol for Reader {
    fn connection_made(&mut self, transport: &Transport) -> Result {
        self.started = transport.handle().now();
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result {
        self.received.set(self.received.get() + data.len() as u64);
        let allowed = Duration::from_secs_f64(self.received.get() as f64 / TAKEN as f64);
        let ahead = allowed.saturating_sub(transport.handle().now() - self.started);
        if !ahead.is_zero() {
            transport.pause_reading();
            transport.call_later(ahead, |_: &mut Self, transport| {
                transport.resume_reading();
                Ok(())
            });
        }
        Ok(())
    }
}

fn name(heeds: bool) -> &'static str {
    if heeds {
        "heeding Flow"
    } else {
        "ignoring Flow"
    }
}

/// Bytes of this process in memory, where /proc says so.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn run_once(event_loop: &mut EventLoop, heeds: bool, limit: Duration) -> Result<Run> {
    let handle = event_loop.handle().clone();
    let received = Rc::new(Cell::new(0));
    let server = handle.create_server("127.0.0.1:0", {
        let received = received.clone();
        move || Reader {
            started: Instant::now(),
            received: received.clone(),
        }
    })?;
    let (done, run) = handle.completion();
    let source = Source {
        heeds,
        limit,
        started: Instant::now(),
        resident_before: resident(),
        next_line: Duration::ZERO,
        run: Run::default(),
        done: Some(done),
    };
    let mut options = ConnectOptions::new(&server.local_addrs()[0]);
    if !heeds {
        options = options.write_limits(WriteLimits::new().with_high(CAP).with_cap(CAP));
    }
    handle.create_connection(options, source).detach();
    let mut run = event_loop.run_until(run)?;
    server.close();
    server.abort_clients();
    event_loop.run_until(server.wait_closed())?;
    run.received = received.get();
    Ok(run)
}

fn print_table(heeding: &Run, ignoring: &Run) {
    let (from, to) = (size(OFFERED), size(TAKEN));
    say!("The source offers {from} a second, the reader takes {to}.\n");
    let row = |title: &str, cell: &dyn Fn(&Run) -> String| {
        say!("{title:<28}{:>14}{:>16}", cell(heeding), cell(ignoring));
    };
    say!("{:<28}{:>14}{:>16}", "", name(true), name(false));
    row("duration", &|run| {
        format!("{:.2} s", run.duration.as_secs_f64())
    });
    row("offered by the source", &|run| size(run.offered));
    row("left at the source", &|run| {
        size(run.offered.saturating_sub(run.written))
    });
    row("written", &|run| size(run.written));
    row("sent to the kernel", &|run| size(run.written - run.unsent));
    row("received by the reader", &|run| size(run.received));
    row("unsent at the end", &|run| size(run.unsent));
    row("peak of the write buffer", &|run| size(run.peak));
    row("growth of resident memory", &|run| {
        run.growth.map_or_else(|| "unknown".to_owned(), size)
    });
}

fn run() -> Result {
    let args = Args::from_env(&[("seconds", "SECONDS"), ("svg", "FILE")])?;
    let limit = Duration::from_secs_f64(args.number("seconds", 0.1..=60.0, 2.0)?);
    // Now, so that a wrong path does not cost a run.
    let file = args
        .get("svg")
        .map(|path| File::create(path).map_err(|error| format!("cannot write {path}: {error}")));
    let file = file.transpose()?;
    let mut event_loop = EventLoop::builder()
        .slow_callback(Duration::from_millis(100))
        .build()?;
    // In this order: the rest of the second run in the allocator would hide growth.
    let heeding = run_once(&mut event_loop, true, limit)?;
    let ignoring = run_once(&mut event_loop, false, limit)?;
    print_table(&heeding, &ignoring);
    io::stdout().flush()?;
    if let Some(mut file) = file {
        let curve = |run: Run, heeds| Curve {
            name: name(heeds),
            samples: run.samples,
            peak: run.peak,
        };
        let limits = WriteLimits::new();
        let chart = Chart {
            title: "Bytes waiting in the write buffer",
            subtitle: format!(
                "A source of {}/s, a reader of {}/s. At first the kernel's own buffers take it all.",
                size(OFFERED),
                size(TAKEN)
            ),
            curves: [curve(ignoring, false), curve(heeding, true)],
            marks: [
                ("high-water mark", limits.high() as u64),
                ("low-water mark", limits.low() as u64),
            ],
        };
        write!(file, "{chart}")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    exit_code(run)
}
