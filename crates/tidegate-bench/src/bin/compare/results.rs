//! The raw figures: a file with a JSON object a line, and the statistics of them.

use crate::cells::{Cell, Kind};
use crate::measure::Figures;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use tidegate_bench::peers::twin_of;
use tidegate_bench::statistics::{median, noise};
use tidegate_bench::table::Facts;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Line {
    /// The machine and the run.
    Run(Facts),
    LeftOut {
        name: String,
        why: String,
    },
    Figures(Measurement),
}

/// One server in one cell in one round.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) round: u32,
    pub(crate) cell: String,
    pub(crate) server: String,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

impl Measurement {
    fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

pub(crate) struct Results {
    /// Takes the lines that are added.
    file: Option<File>,
    lines: Vec<Line>,
}

impl Results {
    /// Opens the file, empty or with the lines that an earlier run has left there.
    pub(crate) fn open(path: &Path, resume: bool) -> io::Result<Self> {
        let lines = if resume {
            Self::read(path)?.lines
        } else {
            Vec::new()
        };
        // Written anew, so that no half line stays in the middle.
        let mut results = Self {
            file: Some(File::create(path)?),
            lines: Vec::new(),
        };
        lines.into_iter().try_for_each(|line| results.add(line))?;
        Ok(results)
    }

    /// Reads the lines that an earlier run has left. A line that was cut off when that was ended is
    /// left out, and measured again.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let lines = text.lines();
        Ok(Self {
            file: None,
            lines: lines
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
        })
    }

    pub(crate) fn add(&mut self, line: Line) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// The servers that were measured: ours first, the others by name.
    pub(crate) fn servers(&self) -> Vec<String> {
        let names: BTreeSet<_> = self.measurements().map(|one| one.server.clone()).collect();
        let (mut servers, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|name| name.starts_with("tidegate"));
        servers.extend(others);
        servers
    }

    /// The facts about the machine and the run.
    pub(crate) fn run(&self) -> Option<&Facts> {
        self.lines.iter().find_map(|line| match line {
            Line::Run(facts) => Some(facts),
            _ => None,
        })
    }

    /// Names of the servers that were left out, and the reasons.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| match line {
            Line::LeftOut { name, why } => Some((&name[..], &why[..])),
            _ => None,
        })
    }

    fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.lines.iter().filter_map(|line| match line {
            Line::Figures(measurement) => Some(measurement),
            _ => None,
        })
    }

    fn of(&self, cell: &str, server: &str) -> impl Iterator<Item = &Measurement> {
        self.measurements()
            .filter(move |one| one.cell == cell && one.server == server)
    }

    pub(crate) fn has(&self, round: u32, cell: &str, server: &str) -> bool {
        self.of(cell, server).any(|one| one.round == round)
    }

    /// Whether a server was measured in a cell, with success or without.
    pub(crate) fn knows(&self, cell: &str, server: &str) -> bool {
        self.of(cell, server).next().is_some()
    }

    /// Why a server has no figure in a cell.
    pub(crate) fn error(&self, cell: &str, server: &str) -> Option<&str> {
        self.of(cell, server).find_map(|one| one.error.as_deref())
    }

    /// The median of a figure over the rounds.
    pub(crate) fn middle(&self, cell: &str, server: &str, figure: &str) -> Option<f64> {
        let figures = self.of(cell, server);
        let figures: Vec<f64> = figures.filter_map(|one| one.figure(figure)).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// In each round: the figure of one server, divided by that of another.
    pub(crate) fn ratios(&self, cell: &str, server: &str, by: &str, figure: &str) -> Vec<f64> {
        let mut ratios = Vec::new();
        for one in self.of(cell, server) {
            let mut others = self.of(cell, by);
            let other = others.find(|other| other.round == one.round);
            let other = other.and_then(|other| other.figure(figure));
            if let (Some(one), Some(other)) = (one.figure(figure), other)
                && other != 0.0
            {
                ratios.push(one / other);
            }
        }
        ratios
    }
}

/// How a server stands beside the baseline in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    Nothing,
    /// Closer than the baseline is to its twin.
    Equal,
    Ratio(f64),
}

impl Results {
    pub(crate) fn standing(
        &self,
        cell: &Cell,
        server: &str,
        baseline: &str,
        figure: &str,
    ) -> Standing {
        let ratios = self.ratios(&cell.name, server, baseline, figure);
        if ratios.is_empty() {
            return Standing::Nothing;
        }
        let ratio = median(&ratios);
        if (ratio - 1.0).abs() <= self.noise(cell, baseline, figure) && server != baseline {
            return Standing::Equal;
        }
        Standing::Ratio(ratio)
    }

    /// The noise: the difference between two names of one server; 0 when there is only one.
    pub(crate) fn noise(&self, cell: &Cell, baseline: &str, figure: &str) -> f64 {
        let ratios = self.ratios(&cell.name, &twin_of(baseline), baseline, figure);
        if ratios.is_empty() || !matches!(cell.kind, Kind::Load(_)) {
            return 0.0;
        }
        noise(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::cells;
    use crate::report::reports;
    use tidegate_bench::carrier::Carrier;
    use tidegate_bench::peers::{EPOLL, EPOLL_UDP, OPENSSL, OUR_TLS, TOKIO_RUSTLS};

    /// A directory of our own, gone at the end.
    fn with_results(test: impl FnOnce(&mut Results, &Path)) {
        let name = format!("tidegate-compare-{}-{:p}", std::process::id(), &test);
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(&place).unwrap();
        let path = place.join("raw.jsonl");
        test(&mut Results::open(&path, false).unwrap(), &path);
        fs::remove_dir_all(&place).unwrap();
    }

    fn figures(round: u32, cell: &str, server: &str, rate: f64) -> Line {
        Line::Figures(Measurement {
            round,
            cell: cell.to_owned(),
            server: server.to_owned(),
            error: None,
            figures: [("per_second".to_owned(), rate)].into(),
        })
    }

    #[test]
    fn the_recorded_run_is_read_to_its_last_line() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recorded/raw.jsonl");
        let results = Results::read(Path::new(path)).unwrap();
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert_eq!(results.lines.len(), lines);
        assert!(results.run().is_some_and(|run| run.contains_key("kernel")));
        let figures = ["bytes_per_connection", "growth"].map(|figure| {
            let cell = if figure == "growth" { "unread" } else { "idle" };
            results.middle(cell, "tidegate", figure)
        });
        assert!(figures.iter().all(Option::is_some), "{figures:?}");
    }

    #[test]
    fn a_run_is_resumed_behind_the_last_whole_line() {
        with_results(|results, path| {
            results.add(figures(1, "churn", "mio", 5.0)).unwrap();
            write!(results.file.as_ref().unwrap(), "{{\"kind\":\"fig").unwrap();
            let again = Results::open(path, true).unwrap();
            assert!(again.has(1, "churn", "mio"));
            assert!(!again.has(2, "churn", "mio"));
            assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
        });
    }

    #[test]
    fn what_differs_less_than_a_server_from_itself_is_equal() {
        with_results(|results, _| {
            let cell = &cells(true, 1024)[0];
            let epoll = twin_of(EPOLL);
            for (round, twin, other, far) in [(1, 95.0, 104.0, 50.0), (2, 106.0, 103.0, 60.0)] {
                for (server, rate) in [("epoll", 100.0), (&epoll, twin), ("mio", other), ("x", far)]
                {
                    let line = figures(round, &cell.name, server, rate);
                    results.add(line).unwrap();
                }
            }
            let standing = |server| results.standing(cell, server, "epoll", "per_second");
            assert_eq!(standing("mio"), Standing::Equal);
            assert_eq!(standing("x"), Standing::Ratio(0.55));
            assert_eq!(standing("epoll"), Standing::Ratio(1.0));
            assert_eq!(standing("nobody"), Standing::Nothing);
        });
    }

    #[test]
    fn servers_over_tls_and_udp_are_reported_apart_and_beside_each_of_their_baselines() {
        with_results(|results, _| {
            for (cell, server) in [
                ("echo-64B-x1", "mio"),
                ("echo-64B-x1", EPOLL),
                ("tls-echo-64B-x1", OUR_TLS),
                ("tls-echo-64B-x1", TOKIO_RUSTLS),
                ("tls-echo-64B-x1", OPENSSL),
                ("udp-echo-64B-x1", EPOLL_UDP),
            ] {
                results.add(figures(1, cell, server, 100.0)).unwrap();
            }
            let (cells, servers) = (cells(true, 1024), results.servers());
            let reports = reports(results, &cells, &servers);
            let [plain, over_tls, over_udp] = &reports[..] else {
                panic!("{} reports", reports.len());
            };
            assert_eq!(plain.servers, [EPOLL, "mio"]);
            assert_eq!(plain.baselines, [EPOLL]);
            assert_eq!(over_tls.servers, [OUR_TLS, OPENSSL, TOKIO_RUSTLS]);
            assert_eq!(over_udp.servers, [EPOLL_UDP]);
            assert_eq!(over_udp.baselines, [EPOLL_UDP]);
            assert_eq!(over_tls.baselines, [OPENSSL, TOKIO_RUSTLS]);
            assert!(
                over_tls
                    .cells
                    .iter()
                    .all(|cell| cell.carrier == Carrier::Tls)
            );
        });
    }
}
