//! The command line.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_bench::peers::Peer;
use tidegate_bench::program::Result;

pub(crate) const USAGE: &str = "\
usage: compare [--quick] [--rounds N] [--seconds S] [--minutes M] [--seed N] [--cpu N]
               [--only PATTERN]... [--extra NAME='CMD {mode} {port}']...
               [--out DIRECTORY] [--resume | --report]

Measures tidegate beside every peer that this machine has. The tables, the charts and the raw
figures go to DIRECTORY (target/compare), the tables also to stdout.

--quick    tidegate beside epoll, mio and tokio-rustls alone, few cells, two short rounds
--only     cells and servers of these names; * stands for anything. May be repeated.
--extra    another server: modes are echo, lines, sink, source. Without {port} in it, it has to
           print `listening on IP:PORT`.
--resume   goes on with the raw figures that are in DIRECTORY
--report   writes the tables and the charts of the raw figures that are in DIRECTORY, no more
--minutes  no round begins that would end later (20)";

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) quick: bool,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) limit: Duration,
    pub(crate) seed: Option<u64>,
    pub(crate) cpu: Option<usize>,
    pub(crate) only: Vec<String>,
    pub(crate) extra: Vec<Peer>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) resume: bool,
    pub(crate) report: bool,
}

impl Arguments {
    pub(crate) fn parse(words: &mut pico_args::Arguments) -> Result<Self> {
        let quick = words.contains("--quick");
        let (rounds, seconds, minutes) = if quick {
            (2, 0.15, 1.5)
        } else {
            (9, 0.25, 20.0)
        };
        let minutes = words
            .opt_value_from_fn("--minutes", positive)?
            .unwrap_or(minutes);
        let path = |text: &std::ffi::OsStr| Ok::<_, Infallible>(PathBuf::from(text));
        Ok(Self {
            quick,
            rounds: words.opt_value_from_str("--rounds")?.unwrap_or(rounds),
            seconds: words
                .opt_value_from_fn("--seconds", positive)?
                .unwrap_or(seconds),
            limit: Duration::from_secs_f64(minutes * 60.0),
            seed: words.opt_value_from_str("--seed")?,
            cpu: words.opt_value_from_str("--cpu")?,
            only: words.values_from_str("--only")?,
            extra: words.values_from_fn("--extra", Peer::extra)?,
            out: words.opt_value_from_os_str("--out", path)?,
            resume: words.contains("--resume"),
            report: words.contains("--report"),
        })
    }
}

fn positive(text: &str) -> Result<f64> {
    let number: f64 = text.parse()?;
    if number > 0.0 && number < 1e6 {
        return Ok(number);
    }
    Err(format!("a positive number expected, not {number}").into())
}
