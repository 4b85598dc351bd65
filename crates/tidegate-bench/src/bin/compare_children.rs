//! The output of a child process, read by a `SubprocessProtocol`, by tokio's `Command`, and by blocking reads
//! of std: the processor time of the process that reads.
//!
//! Each measurement is a process of its own. It starts `head -c BYTES /dev/zero`, and reads the output to its end,
//! with a buffer of 128 KiB. The time is that from before the start of the child until it was reaped, user and
//! system. In each round every reader is measured, in random order, and compared with ours of the same round. Ours
//! takes part twice: a difference that is smaller than between the two is none.
//!
//! Run (a minute):
//!
//!     cargo run --release -p tidegate-bench --features children --bin compare_children
//!
//! Expect a table in Markdown. The first round warms up and does not count.

use pico_args::Arguments;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::io::Read;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tidegate::{EventLoop, Pipe, SubprocessProtocol, SubprocessTransport};
use tidegate_bench::machine;
use tidegate_bench::peers::{run, twin_of};
use tidegate_bench::program::{self, Result};
use tidegate_bench::statistics::{median, noise};
use tidegate_bench::table::{list, table};
use tokio::io::AsyncReadExt;

const USAGE: &str = "\
usage: compare_children [--rounds N] [--mebibytes N] [--cpu N | --unpinned]

Measures the processor time of reading the output of a child process.

--mebibytes  of output in each measurement (2048)
--unpinned   the reader and the child run on any processor, and not on the same one";

/// As large as the loop's.
const BUFFER: usize = 128 * 1024;

/// A reader: the number of bytes that the child shall write to the number of those that were read.
type Reader = fn(u64) -> Result<u64>;

const OURS: &str = "tidegate";
const READERS: [(&str, Reader); 3] = [(OURS, tidegate), ("tokio", tokio), ("std", blocking)];

struct Options {
    /// In a process that measures: the reader.
    one: Option<String>,
    rounds: usize,
    mebibytes: u64,
    cpu: Option<usize>,
    unpinned: bool,
}

fn main() -> ExitCode {
    program::main(USAGE, parse, |options| {
        match &options.one {
            Some(name) => measure_here(name, options.mebibytes)?,
            None => compare(options)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn parse(words: &mut Arguments) -> Result<Options> {
    Ok(Options {
        one: words.opt_value_from_str("--one")?,
        rounds: words.opt_value_from_str("--rounds")?.unwrap_or(9),
        mebibytes: words.opt_value_from_str("--mebibytes")?.unwrap_or(2048),
        cpu: words.opt_value_from_str("--cpu")?,
        unpinned: words.contains("--unpinned"),
    })
}

fn compare(options: &Options) -> Result<()> {
    let mut facts = machine::facts();
    if !options.unpinned {
        let cpu = machine::pin(options.cpu)?;
        facts.insert("reader and child on CPU".to_owned(), cpu.into());
    }
    facts.insert("rounds".to_owned(), options.rounds.into());
    facts.insert("MiB of output".to_owned(), options.mebibytes.into());
    let twin = twin_of(OURS);
    let mut order: Vec<&str> = READERS.iter().map(|reader| reader.0).collect();
    order.push(&twin);
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=options.rounds {
        eprintln!("round {round}/{}", options.rounds);
        fastrand::shuffle(&mut order);
        for name in &order {
            let figure = measure(name, options.mebibytes)?;
            if round > 0 {
                figures.entry(*name).or_default().push(figure);
            }
        }
    }
    println!("{}", list(&facts));
    report(&figures, &twin, options.mebibytes);
    Ok(())
}

/// Returns the processor time of a reader in a process of its own, in milliseconds.
fn measure(name: &str, mebibytes: u64) -> Result<f64> {
    let program = env::current_exe()?;
    let reader = READERS.iter().find(|reader| name.starts_with(reader.0));
    let reader = reader
        .ok_or_else(|| format!("there is no reader {name}"))?
        .0;
    let mebibytes = mebibytes.to_string();
    let arguments = ["--one", reader, "--mebibytes", &mebibytes];
    let text = run(&program.to_string_lossy(), &arguments)?;
    Ok(text.trim().parse()?)
}

fn measure_here(name: &str, mebibytes: u64) -> Result<()> {
    let reader = READERS.iter().find(|reader| reader.0 == name);
    let (_, read) = reader.ok_or_else(|| format!("there is no reader {name}"))?;
    let bytes = mebibytes << 20;
    let before = cpu_time();
    let arrived = read(bytes)?;
    let used = cpu_time() - before;
    if arrived != bytes {
        return Err(format!("{arrived} bytes arrived of {bytes}").into());
    }
    println!("{}", used.as_secs_f64() * 1e3);
    Ok(())
}

/// The processor time of this process. Times in `/proc` are those at the last change of threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn report(figures: &BTreeMap<&str, Vec<f64>>, twin: &str, mebibytes: u64) {
    let ours = &figures[OURS];
    let ratios = |theirs: &[f64]| -> Vec<f64> {
        let pairs = ours.iter().zip(theirs);
        pairs.map(|(ours, theirs)| ours / theirs).collect()
    };
    let gibibytes = mebibytes as f64 / 1024.0;
    let rows = READERS.iter().map(|(name, _)| {
        let figures = &figures[name];
        vec![
            (*name).to_owned(),
            format!("{:.0}", median(figures) / gibibytes),
            format!("{:.2}", median(&ratios(figures))),
        ]
    });
    let head = ["reader", "CPU for a GiB, ms", "tidegate's as a multiple"];
    println!("{}", table(&head, &rows.collect::<Vec<_>>()));
    println!("noise {:.1} %", 100.0 * noise(&ratios(&figures[twin])));
}

fn head(bytes: u64) -> Command {
    let mut command = Command::new("head");
    command.arg("-c").arg(bytes.to_string()).arg("/dev/zero");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn ended(status: ExitStatus) -> Result<()> {
    match status.success() {
        true => Ok(()),
        false => Err(format!("head: {status}").into()),
    }
}

struct Count(Rc<Cell<u64>>);

impl SubprocessProtocol for Count {
    fn pipe_data_received(
        &mut self,
        _: &SubprocessTransport,
        _: Pipe,
        data: &[u8],
    ) -> tidegate::Result {
        self.0.set(self.0.get() + data.len() as u64);
        Ok(())
    }
}

fn tidegate(bytes: u64) -> Result<u64> {
    let mut event_loop = EventLoop::new()?;
    let arrived = Rc::new(Cell::new(0));
    let protocol = Count(arrived.clone());
    let handle = event_loop.handle();
    let process = handle.subprocess_exec(&mut head(bytes), protocol)?;
    ended(event_loop.run_until(process.wait_closed())?)?;
    Ok(arrived.get())
}

fn tokio(bytes: u64) -> Result<u64> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        let mut child = tokio::process::Command::from(head(bytes)).spawn()?;
        let mut output = child.stdout.take().ok_or("no pipe")?;
        let (mut buffer, mut arrived) = (vec![0; BUFFER], 0);
        loop {
            match output.read(&mut buffer).await? {
                0 => break,
                len => arrived += len as u64,
            }
        }
        ended(child.wait().await?)?;
        Ok(arrived)
    })
}

fn blocking(bytes: u64) -> Result<u64> {
    let mut child = head(bytes).spawn()?;
    let mut output = child.stdout.take().ok_or("no pipe")?;
    let (mut buffer, mut arrived) = (vec![0; BUFFER], 0);
    loop {
        match output.read(&mut buffer)? {
            0 => break,
            len => arrived += len as u64,
        }
    }
    ended(child.wait()?)?;
    Ok(arrived)
}
