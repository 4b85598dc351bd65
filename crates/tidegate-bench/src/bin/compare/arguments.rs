//! The command line.

use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_bench::peers::Peer;

pub(crate) const USAGE: &str = "\
usage: compare [--quick] [--rounds N] [--seconds S] [--minutes M] [--seed N] [--cpu N]
               [--only PATTERN]... [--extra NAME='CMD {mode} {port}']...
               [--out DIRECTORY] [--resume | --report]

Measures tidegate beside every peer that this machine has. The table, the chart and the raw
figures go to DIRECTORY (target/compare), the table also to stdout.

--quick    tidegate beside epoll and mio alone, few cells, two short rounds
--only     cells and servers of these names; * stands for anything. May be repeated.
--extra    another server: modes are echo, lines, sink, source. Without {port} in it, it has to
           print `listening on IP:PORT`.
--resume   goes on with the raw figures that are in DIRECTORY
--report   writes the table and the chart of the raw figures that are in DIRECTORY, no more
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
    /// `None` when only the usage is asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        let (mut rounds, mut seconds, mut minutes) = (None, None, None);
        let mut arguments = Self {
            quick: false,
            rounds: 0,
            seconds: 0.0,
            limit: Duration::ZERO,
            seed: None,
            cpu: None,
            only: Vec::new(),
            extra: Vec::new(),
            out: None,
            resume: false,
            report: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("quick") => arguments.quick = true,
                Long("rounds") => rounds = Some(parser.value()?.parse()?),
                Long("seconds") => seconds = Some(positive(&mut parser)?),
                Long("minutes") => minutes = Some(positive(&mut parser)?),
                Long("seed") => arguments.seed = Some(parser.value()?.parse()?),
                Long("cpu") => arguments.cpu = Some(parser.value()?.parse()?),
                Long("only") => arguments.only.push(parser.value()?.string()?),
                Long("extra") => {
                    let text = parser.value()?.string()?;
                    arguments.extra.push(Peer::extra(&text)?);
                }
                Long("out") => arguments.out = Some(parser.value()?.into()),
                Long("resume") => arguments.resume = true,
                Long("report") => arguments.report = true,
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        let (quick_or, limit) = if arguments.quick {
            ((2, 0.15), 1.5)
        } else {
            ((9, 0.25), 20.0)
        };
        arguments.rounds = rounds.unwrap_or(quick_or.0);
        arguments.seconds = seconds.unwrap_or(quick_or.1);
        arguments.limit = Duration::from_secs_f64(minutes.unwrap_or(limit) * 60.0);
        Ok(Some(arguments))
    }
}

fn positive(parser: &mut lexopt::Parser) -> Result<f64, lexopt::Error> {
    let number: f64 = parser.value()?.parse()?;
    if number > 0.0 && number < 1e6 {
        return Ok(number);
    }
    Err(format!("a positive number expected, not {number}").into())
}
