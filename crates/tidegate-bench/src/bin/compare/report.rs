//! The figures as a page of Markdown.

use crate::cells::{Cell, Kind};
use crate::results::{Results, Standing};
use std::fmt::Write;
use tidegate_bench::peers::TWIN;
use tidegate_bench::table::{list, size, table};

/// The figures to report.
pub(crate) struct Report<'a> {
    pub(crate) results: &'a Results,
    pub(crate) cells: &'a [Cell],
    pub(crate) servers: &'a [String],
    pub(crate) baseline: &'a str,
}

impl Report<'_> {
    pub(crate) fn markdown(&self) -> String {
        let mut page = String::from("# Comparison\n\n");
        self.machine(&mut page);
        let (speed, baseline) = (self.speed(), self.baseline);
        if !speed.is_empty() {
            let noise = if self.has_twin() {
                format!(
                    " \"=\": the difference is smaller than the noise, which is that between \
                     {baseline} and itself, measured twice under two names."
                )
            } else {
                String::new()
            };
            let _ = write!(
                page,
                "\nThroughput as a share of that of {baseline}, more is better, and in brackets the \
                 server's processor time for each message as a multiple of that of {baseline}, \
                 less is better: medians over the rounds of the ratio within each \
                 round.{noise}\n\n{speed}\n"
            );
            self.absolute(&mut page);
        }
        self.memory(&mut page);
        self.gaps(&mut page);
        page
    }

    fn machine(&self, page: &mut String) {
        page.extend(self.results.run().map(list));
        for (name, why) in self.results.left_out() {
            let _ = writeln!(page, "- left out: {name} ({why})");
        }
    }

    fn loads(&self) -> impl Iterator<Item = &Cell> {
        let is_load = |cell: &&Cell| matches!(cell.kind, Kind::Load(_));
        self.cells.iter().filter(is_load)
    }

    fn speed(&self) -> String {
        const RATE_AND_CPU: [&str; 2] = ["per_second", "cpu_us_per_message"];
        let mut rows = Vec::new();
        for cell in self.loads() {
            let mut row = vec![cell.name.clone()];
            for server in self.others() {
                let [rate, cpu] = RATE_AND_CPU.map(|figure| {
                    match self.results.standing(cell, server, self.baseline, figure) {
                        Standing::Nothing => "-".to_owned(),
                        Standing::Equal => "=".to_owned(),
                        Standing::Ratio(ratio) => format!("{ratio:.2}"),
                    }
                });
                let has_none = rate == "-";
                row.push(if has_none {
                    rate
                } else {
                    format!("{rate} ({cpu})")
                });
            }
            if self.has_twin() {
                let [rate, cpu] = RATE_AND_CPU
                    .map(|figure| 100.0 * self.results.noise(cell, self.baseline, figure));
                row.push(format!("{rate:.1} % ({cpu:.1} %)"));
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return String::new();
        }
        let mut head = vec!["cell"];
        head.extend(self.others().map(String::as_str));
        if self.has_twin() {
            head.push("noise");
        }
        table(&head, &rows)
    }

    /// The servers, without the twin, which is in the noise.
    fn compared(&self) -> impl Iterator<Item = &String> {
        self.servers.iter().filter(|server| *server != TWIN)
    }

    /// Those that are compared with the baseline.
    fn others(&self) -> impl Iterator<Item = &String> {
        self.compared().filter(|server| *server != self.baseline)
    }

    /// Whether the baseline is measured under a second name.
    fn has_twin(&self) -> bool {
        self.servers.iter().any(|server| server == TWIN)
    }

    fn absolute(&self, page: &mut String) {
        let mut rows = Vec::new();
        for cell in self.loads() {
            let middle = |figure| self.results.middle(&cell.name, self.baseline, figure);
            let Some(rate) = middle("per_second") else {
                continue;
            };
            let rate = if cell.is_stream() {
                format!("{}/s", size(rate))
            } else {
                format!("{rate:.0}/s")
            };
            let time = |figure| middle(figure).map_or("-".to_owned(), |time| format!("{time:.2}"));
            rows.push(vec![
                cell.name.clone(),
                rate,
                time("cpu_us_per_message"),
                time("p50_us"),
                time("p99_us"),
            ]);
        }
        let head = ["cell", "messages or bytes", "CPU, µs", "p50, µs", "p99, µs"];
        let _ = write!(
            page,
            "{} in absolute numbers, medians:\n\n{}\n",
            self.baseline,
            table(&head, &rows)
        );
    }

    fn memory(&self, page: &mut String) {
        let mut rows = Vec::new();
        let cell = |kind| self.cells.iter().find(|cell| cell.kind == kind);
        let (idle, unread) = (cell(Kind::Idle), cell(Kind::Unread));
        for server in self.compared() {
            let figure = |cell: Option<&Cell>, figure| {
                let number = cell.and_then(|cell| self.results.middle(&cell.name, server, figure));
                number.map_or("-".to_owned(), size)
            };
            rows.push(vec![
                server.clone(),
                figure(idle, "bytes_per_connection"),
                figure(unread, "growth"),
                figure(unread, "taken"),
            ]);
        }
        if idle.is_none() && unread.is_none() {
            return;
        }
        let head = [
            "server",
            "an idle connection",
            "growth for a peer that never reads",
            "bytes taken from it",
        ];
        let connections = idle.map_or(0, |cell| cell.connections);
        let _ = write!(
            page,
            "Resident memory of an echo server; {connections} idle connections. The peer that \
             never reads goes on for up to 256 MiB; most of what is taken is in the kernel where \
             the growth is small.\n\n{}\n",
            table(&head, &rows)
        );
    }

    /// Lists the reason for each "-".
    fn gaps(&self, page: &mut String) {
        for server in self.servers {
            for cell in self.cells {
                if let Some(error) = self.results.error(&cell.name, server) {
                    let _ = writeln!(page, "- no figure of {server} in {}: {error}", cell.name);
                }
            }
        }
    }
}
