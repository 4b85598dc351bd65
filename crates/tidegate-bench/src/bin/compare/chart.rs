//! Throughput as an SVG: a row for each cell, a mark for each of a few servers. It lies on a card with
//! its own background, so that it reads the same on any page, and follows a preference for dark. Each
//! server has a shape of its own, so that they can be told apart in grey.

use crate::cells::Kind;
use crate::report::Report;
use std::fmt::Write;
use tidegate_bench::statistics::median;

/// The servers that are drawn, the first six that took part: a chart of all of them cannot be read. The
/// rest are in the table.
const DRAWN: [&str; 8] = [
    "tidegate",
    "tidegate-streams",
    "tokio-task",
    "libuv",
    "uvloop-protocol",
    "asyncio-streams",
    "mio",
    "tokio-shared",
];
/// Number of shapes of a mark, and of colours in `chart.css`.
const SERIES: usize = 6;
const WIDTH: f64 = 980.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 950.0;
const ROW: f64 = 26.0;
/// Names of servers in a line of the legend.
const IN_LINE: usize = 6;

/// `None` when there is nothing to draw.
pub(crate) fn throughput(report: &Report<'_>) -> Option<String> {
    let baseline = report.baselines.first()?;
    let servers = drawn(report, baseline);
    let mut rows = Vec::new();
    for cell in &report.cells {
        if !matches!(cell.kind, Kind::Load(_)) {
            continue;
        }
        let marks: Vec<(usize, f64)> = (servers.iter().enumerate())
            .filter_map(|(series, server)| {
                let results = report.results;
                let ratios = results.ratios(&cell.name, server, baseline, "per_second");
                (!ratios.is_empty()).then(|| (series, median(&ratios)))
            })
            .collect();
        if !marks.is_empty() {
            rows.push((&cell.name, marks));
        }
    }
    if rows.is_empty() {
        return None;
    }
    let all = rows.iter().flat_map(|(_, marks)| marks);
    let most = all.map(|(_, ratio)| *ratio).fold(1.1, f64::max);
    let place = |ratio: f64| LEFT + (RIGHT - LEFT) * ratio / most;

    let legend = servers.len().div_ceil(IN_LINE) as f64 * 20.0;
    let top = 90.0 + legend;
    let bottom = top + rows.len() as f64 * ROW;
    let title = format!("Throughput beside {baseline}");
    let subtitle = format!(
        "each mark is a server's median share of the throughput of {baseline} in the same round; further \
         right is faster"
    );
    let mut drawing = Drawing::default();
    drawing.text("title", (24.0, 36.0), "start", &title);
    drawing.text("subtitle", (24.0, 57.0), "start", &subtitle);
    for (series, server) in servers.iter().enumerate() {
        let x = 30.0 + (series % IN_LINE) as f64 * 156.0;
        let y = 84.0 + (series / IN_LINE) as f64 * 20.0;
        drawing.mark(series, (x, y), 5.0, server);
        drawing.text("name", (x + 12.0, y + 4.5), "start", server);
    }
    for tick in 0..=(most * 5.0) as u32 {
        let x = place(f64::from(tick) / 5.0);
        let class = if tick == 5 { "reference" } else { "grid" };
        drawing.line(class, (x, top), (x, bottom));
        let label = format!("{} %", tick * 20);
        drawing.text("tick", (x, bottom + 20.0), "middle", &label);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let unit = format!("share of {baseline}'s throughput");
    drawing.text("unit", (middle, bottom + 44.0), "middle", &unit);
    drawing.text(
        "unit",
        (WIDTH / 2.0, bottom + 70.0),
        "middle",
        &facts(report),
    );
    for (row, (name, marks)) in rows.iter().enumerate() {
        let y = top + (row as f64 + 0.5) * ROW;
        drawing.text("name", (LEFT - 14.0, y + 4.5), "end", name);
        drawing.line("grid", (LEFT, y), (RIGHT, y));
        // Ours are first among the servers: drawn last, they lie on top.
        for (series, ratio) in marks.iter().rev() {
            let title = format!("{}: {ratio:.2}", servers[*series]);
            // Larger marks for ours.
            let is_ours = servers[*series].starts_with("tidegate");
            let radius = if is_ours { 6.5 } else { 4.5 };
            drawing.mark(*series, (place(*ratio), y), radius, &title);
        }
    }
    Some(drawing.finish(WIDTH, bottom + 84.0))
}

/// Returns at most [`SERIES`] servers: those of [`DRAWN`], then others that were asked for.
fn drawn<'r>(report: &'r Report<'_>, baseline: &'r str) -> Vec<&'r str> {
    let place = |server: &&str| DRAWN.iter().position(|name| name == server);
    let mut servers: Vec<&str> = report.others(baseline).collect();
    servers.sort_by_key(|server| place(server).unwrap_or(DRAWN.len()));
    servers.truncate(SERIES);
    servers
}

/// Of which machine and which programs it is.
fn facts(report: &Report<'_>) -> String {
    let Some(run) = report.results.run() else {
        return String::new();
    };
    let text = |name| run.get(name)?.as_str();
    let version = |name| Some(format!("{name} {}", text(name)?));
    let versions = ["tokio", "libuv", "mio"].map(version);
    let others = ["python", "date", "cpu", "kernel"].map(|name| text(name).map(str::to_owned));
    let known: Vec<String> = versions.into_iter().chain(others).flatten().collect();
    known.join(" \u{b7} ")
}

/// The elements that were drawn.
#[derive(Default)]
struct Drawing(String);

impl Drawing {
    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.0,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    /// `anchor` is `start`, `middle` or `end`.
    fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, words: &str) {
        let words = escaped(words);
        let _ = writeln!(
            self.0,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#
        );
    }

    /// Draws the shape of a series in its colour. The title shows under the pointer.
    fn mark(&mut self, series: usize, (x, y): (f64, f64), radius: f64, title: &str) {
        let title = escaped(title);
        let at = |dx: f64, dy: f64| format!("{:.1} {:.1}", x + dx * radius, y + dy * radius);
        let corners: &[(f64, f64)] = match series {
            0 => {
                let _ = writeln!(
                    self.0,
                    r#"<circle class="mark s0" cx="{x:.1}" cy="{y:.1}" r="{radius:.1}"><title>{title}</title></circle>"#
                );
                return;
            }
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
            3 => &[(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
            4 => &[(0.0, 1.2), (1.1, -0.9), (-1.1, -0.9)],
            _ => &[
                (-1.0, -1.0),
                (1.0, 1.0),
                (0.0, 0.0),
                (1.0, -1.0),
                (-1.0, 1.0),
                (0.0, 0.0),
            ],
        };
        let corners: Vec<String> = corners.iter().map(|&(dx, dy)| at(dx, dy)).collect();
        let path = corners.join("L");
        let _ = writeln!(
            self.0,
            r#"<path class="mark s{series}" d="M{path}z"><title>{title}</title></path>"#
        );
    }

    fn finish(self, width: f64, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<style>\n{}</style>\n\
             <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
             {}</svg>\n",
            include_str!("chart.css"),
            width - 1.0,
            height - 1.0,
            self.0
        )
    }
}

fn escaped(words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    words.replace('>', "&gt;").replace('"', "&quot;")
}
