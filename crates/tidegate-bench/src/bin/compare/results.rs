//! The raw figures: a file with a record a line, and what they come to.

use crate::cells::{Cell, Kind};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use tidegate_bench::peers::TWIN;
use tidegate_bench::record::Record;
use tidegate_bench::statistics::{median, noise};

pub(crate) struct Results {
    /// For what is added.
    file: Option<File>,
    records: Vec<Record>,
}

impl Results {
    /// Opens the file, empty or with what an earlier run has left there.
    pub(crate) fn open(path: &Path, resume: bool) -> io::Result<Self> {
        let records = if resume {
            Self::read(path)?.records
        } else {
            Vec::new()
        };
        // Written anew, so that no half line stays in the middle.
        let mut file = File::create(path)?;
        for record in &records {
            writeln!(file, "{record}")?;
        }
        Ok(Self {
            file: Some(file),
            records,
        })
    }

    /// What an earlier run has left in the file. A line that was cut off when that was ended is left
    /// out, and measured again.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let records = text.lines().filter_map(|line| line.parse().ok());
        Ok(Self {
            file: None,
            records: records.collect(),
        })
    }

    pub(crate) fn add(&mut self, record: Record) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{record}")?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Who was measured: ours first, the others by name.
    pub(crate) fn servers(&self) -> Vec<String> {
        let figures = self.of_kind("figures");
        let names: BTreeSet<_> = figures.filter_map(|record| record.text("server")).collect();
        let (ours, others): (Vec<&str>, Vec<&str>) = names
            .into_iter()
            .partition(|name| name.starts_with("tidegate"));
        ours.into_iter().chain(others).map(str::to_owned).collect()
    }

    /// The record about the machine and the run.
    pub(crate) fn run(&self) -> Option<&Record> {
        self.of_kind("run").next()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Record> {
        let is_it = move |record: &&Record| record.text("kind") == Some(kind);
        self.records.iter().filter(is_it)
    }

    fn figures(&self, cell: &str, server: &str) -> impl Iterator<Item = &Record> {
        self.of_kind("figures").filter(move |record| {
            record.text("cell") == Some(cell) && record.text("server") == Some(server)
        })
    }

    pub(crate) fn has(&self, round: u32, cell: &str, server: &str) -> bool {
        self.figures(cell, server)
            .any(|record| record.number("round") == Some(f64::from(round)))
    }

    /// Why a server has no figure in a cell.
    pub(crate) fn error(&self, cell: &str, server: &str) -> Option<&str> {
        self.figures(cell, server)
            .find_map(|record| record.text("error"))
    }

    /// The middle of a figure over the rounds.
    pub(crate) fn middle(&self, cell: &str, server: &str, figure: &str) -> Option<f64> {
        let figures = self.figures(cell, server);
        let figures: Vec<f64> = figures.filter_map(|record| record.number(figure)).collect();
        (!figures.is_empty()).then(|| median(&figures))
    }

    /// In each round: the figure of one server, divided by that of another.
    pub(crate) fn ratios(&self, cell: &str, server: &str, by: &str, figure: &str) -> Vec<f64> {
        let mut ratios = Vec::new();
        for record in self.figures(cell, server) {
            let round = record.number("round");
            let mut others = self.figures(cell, by);
            let other = others.find(|other| other.number("round") == round);
            let other = other.and_then(|other| other.number(figure));
            if let (Some(one), Some(other)) = (record.number(figure), other)
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

    /// What two names of one server differ by; 0 when there is only one.
    pub(crate) fn noise(&self, cell: &Cell, baseline: &str, figure: &str) -> f64 {
        let ratios = self.ratios(&cell.name, TWIN, baseline, figure);
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

    /// A directory of our own, gone at the end.
    fn with_results(test: impl FnOnce(&mut Results, &Path)) {
        let name = format!("tidegate-compare-{}-{:p}", std::process::id(), &test);
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(&place).unwrap();
        let path = place.join("raw.jsonl");
        test(&mut Results::open(&path, false).unwrap(), &path);
        fs::remove_dir_all(&place).unwrap();
    }

    fn figures(round: u32, cell: &str, server: &str, rate: f64) -> Record {
        Record::new()
            .with("kind", "figures")
            .with("round", f64::from(round))
            .with("cell", cell)
            .with("server", server)
            .with("per_second", rate)
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
            for (round, twin, other, far) in [(1, 95.0, 104.0, 50.0), (2, 106.0, 103.0, 60.0)] {
                for (server, rate) in [("epoll", 100.0), (TWIN, twin), ("mio", other), ("x", far)] {
                    results
                        .add(figures(round, &cell.name, server, rate))
                        .unwrap();
                }
            }
            let standing = |server| results.standing(cell, server, "epoll", "per_second");
            assert_eq!(standing("mio"), Standing::Equal);
            assert_eq!(standing("x"), Standing::Ratio(0.55));
            assert_eq!(standing("epoll"), Standing::Ratio(1.0));
            assert_eq!(standing("nobody"), Standing::Nothing);
        });
    }
}
