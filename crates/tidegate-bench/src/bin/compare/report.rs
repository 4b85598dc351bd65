//! The figures as a page of Markdown.

use crate::cells::{Cell, Kind};
use crate::results::{Results, Standing};
use std::fmt::Write;
use tidegate_bench::carrier::Carrier;
use tidegate_bench::peers::{EPOLL, EPOLL_UDP, MIO_UDP, OPENSSL, TOKIO_RUSTLS, is_twin, twin_of};
use tidegate_bench::table::{list, size, table};

/// A kind of memory: a sentence about it, in which `{}` is the number of connections, and its
/// figures with the heads of their columns.
type Memory = (Kind, &'static str, &'static [(&'static str, &'static str)]);

const MEMORY: [Memory; 4] = [
    (
        Kind::Idle,
        "{} idle connections.",
        &[("bytes_per_connection", "an idle connection")],
    ),
    (
        Kind::Unread,
        "The peer that never reads goes on for up to 256 MiB; most of what is taken is in the \
         kernel where the growth is small.",
        &[
            ("growth", "growth for a peer that never reads"),
            ("taken", "bytes taken from it"),
        ],
    ),
    (
        Kind::Owed,
        "{} peers that do not read are each owed 1 MiB, by one write; a server can hold these bytes \
         once for all of them.",
        &[
            ("growth", "growth for each peer that is owed 1 MiB"),
            ("waiting", "bytes of that not encrypted"),
        ],
    ),
    (
        Kind::Burst,
        "{} connections in a burst, which all end; then the allocator is asked to give back what \
         is free.",
        &[("growth", "growth in a burst"), ("left", "left of that")],
    ),
];

/// The figures to report: those over one carrier.
pub(crate) struct Report<'a> {
    pub(crate) results: &'a Results,
    pub(crate) carrier: Carrier,
    pub(crate) cells: Vec<&'a Cell>,
    pub(crate) servers: Vec<&'a str>,
    /// Those with which the others are compared, each in a table of its own.
    pub(crate) baselines: Vec<&'static str>,
}

/// In the order of the page.
pub(crate) const CARRIERS: [Carrier; 3] = [Carrier::Tcp, Carrier::Tls, Carrier::Udp];

/// The baselines among these servers, over a carrier: over TLS two, else the first that there is.
pub(crate) fn baselines<'a>(
    carrier: Carrier,
    servers: impl Iterator<Item = &'a str>,
) -> Vec<&'static str> {
    let servers: Vec<&str> = servers.collect();
    let (mut baselines, most) = match carrier {
        Carrier::Tcp => (vec![EPOLL, "mio"], 1),
        Carrier::Tls => (vec![OPENSSL, TOKIO_RUSTLS], 2),
        Carrier::Udp => (vec![EPOLL_UDP, MIO_UDP], 1),
    };
    baselines.retain(|name| servers.contains(name));
    baselines.truncate(most);
    baselines
}

/// Divides the figures of these cells and servers.
pub(crate) fn reports<'a>(
    results: &'a Results,
    cells: &'a [Cell],
    servers: &'a [String],
) -> Vec<Report<'a>> {
    let report = |carrier| {
        let cells: Vec<&Cell> = cells
            .iter()
            .filter(|cell| cell.carrier == carrier)
            .collect();
        let is_known = |server: &&str| cells.iter().any(|cell| results.knows(&cell.name, server));
        let servers: Vec<&str> = servers
            .iter()
            .map(|name| &name[..])
            .filter(is_known)
            .collect();
        Report {
            results,
            carrier,
            baselines: baselines(carrier, servers.iter().copied()),
            cells,
            servers,
        }
    };
    let mut reports = Vec::from(CARRIERS.map(report));
    reports.retain(|report| !report.servers.is_empty());
    reports
}

/// Returns the page of all reports.
pub(crate) fn markdown(results: &Results, reports: &[Report<'_>]) -> String {
    let mut page = String::from("# Comparison\n\n");
    machine(results, &mut page);
    for report in reports {
        page.push_str(match report.carrier {
            Carrier::Tcp => "",
            Carrier::Tls => "\n## TLS\n\n",
            Carrier::Udp => "\n## UDP\n\n",
        });
        for baseline in &report.baselines {
            report.beside(baseline, &mut page);
        }
        report.memory(&mut page);
        report.gaps(&mut page);
    }
    page
}

fn machine(results: &Results, page: &mut String) {
    page.extend(results.run().map(list));
    for (name, why) in results.left_out() {
        let _ = writeln!(page, "- left out: {name} ({why})");
    }
}

impl Report<'_> {
    fn beside(&self, baseline: &str, page: &mut String) {
        let speed = self.speed(baseline);
        if speed.is_empty() {
            return;
        }
        let noise = if self.has_twin(baseline) {
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
        self.absolute(baseline, page);
    }

    fn loads(&self) -> impl Iterator<Item = &Cell> {
        let is_load = |cell: &&Cell| matches!(cell.kind, Kind::Load(_));
        self.cells.iter().copied().filter(is_load)
    }

    fn speed(&self, baseline: &str) -> String {
        const RATE_AND_CPU: [&str; 2] = ["per_second", "cpu_us_per_message"];
        let mut rows = Vec::new();
        for cell in self.loads() {
            let mut row = vec![cell.name.clone()];
            for server in self.others(baseline) {
                let [rate, cpu] = RATE_AND_CPU.map(|figure| {
                    match self.results.standing(cell, server, baseline, figure) {
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
            if self.has_twin(baseline) {
                let [rate, cpu] =
                    RATE_AND_CPU.map(|figure| 100.0 * self.results.noise(cell, baseline, figure));
                row.push(format!("{rate:.1} % ({cpu:.1} %)"));
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return String::new();
        }
        let mut head = vec!["cell"];
        head.extend(self.others(baseline));
        if self.has_twin(baseline) {
            head.push("noise");
        }
        table(&head, &rows)
    }

    /// The servers, without the twins, which are in the noise.
    fn compared(&self) -> impl Iterator<Item = &str> {
        self.servers
            .iter()
            .copied()
            .filter(|server| !is_twin(server))
    }

    /// Those that are compared with a baseline.
    pub(crate) fn others(&self, baseline: &str) -> impl Iterator<Item = &str> {
        self.compared().filter(move |server| *server != baseline)
    }

    /// Whether a baseline is measured under a second name.
    fn has_twin(&self, baseline: &str) -> bool {
        self.servers.contains(&&twin_of(baseline)[..])
    }

    fn absolute(&self, baseline: &str, page: &mut String) {
        let mut rows = Vec::new();
        for cell in self.loads() {
            let middle = |figure| self.results.middle(&cell.name, baseline, figure);
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
            "{baseline} in absolute numbers, medians:\n\n{}\n",
            table(&head, &rows)
        );
    }

    fn memory(&self, page: &mut String) {
        let mut about = String::from("Resident memory of a server.");
        let mut head = vec!["server"];
        let mut columns = Vec::new();
        for (kind, text, figures) in MEMORY {
            let Some(cell) = self.cells.iter().find(|cell| cell.kind == kind) else {
                continue;
            };
            about.push(' ');
            about.push_str(&text.replace("{}", &cell.connections.to_string()));
            for (figure, title) in figures {
                head.push(title);
                columns.push((&cell.name, figure));
            }
        }
        let row = |server: &str| {
            let figures = columns.iter().map(|(cell, figure)| {
                let number = self.results.middle(cell, server, figure);
                number.map_or("-".to_owned(), size)
            });
            [server.to_owned()].into_iter().chain(figures).collect()
        };
        let rows: Vec<Vec<String>> = self.compared().map(row).collect();
        if !columns.is_empty() {
            let _ = write!(page, "{about}\n\n{}\n", table(&head, &rows));
        }
    }

    /// Lists the reason for each "-".
    fn gaps(&self, page: &mut String) {
        for server in &self.servers {
            for cell in &self.cells {
                if let Some(error) = self.results.error(&cell.name, server) {
                    let _ = writeln!(page, "- no figure of {server} in {}: {error}", cell.name);
                }
            }
        }
    }
}
