//! Throughput as a picture: a row for each cell, a mark for each server.

use crate::cells::Kind;
use crate::drawing::Drawing;
use crate::report::Report;
use tidegate_bench::peers::TWIN;
use tidegate_bench::statistics::median;

const WIDTH: f64 = 980.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 950.0;
const ROW: f64 = 26.0;
/// Names of servers in a line of the legend.
const IN_LINE: usize = 5;

/// `None` when there is nothing to draw.
pub(crate) fn throughput(report: &Report<'_>) -> Option<String> {
    let servers: Vec<&String> = report
        .servers
        .iter()
        .filter(|server| *server != TWIN && *server != report.baseline)
        .collect();
    let mut rows = Vec::new();
    for cell in report.cells {
        if !matches!(cell.kind, Kind::Load(_)) {
            continue;
        }
        let marks: Vec<(usize, f64)> = (servers.iter().enumerate())
            .filter_map(|(series, server)| {
                let results = report.results;
                let ratios = results.ratios(&cell.name, server, report.baseline, "per_second");
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
    let title = format!("Throughput beside {}", report.baseline);
    let subtitle = format!(
        "each mark is a server's median share of what {} does in the same round; further right \
         is faster",
        report.baseline
    );
    let mut drawing = Drawing::new(WIDTH, bottom + 84.0, &title, &subtitle);
    for (series, server) in servers.iter().enumerate() {
        let x = 30.0 + (series % IN_LINE) as f64 * 184.0;
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
    let unit = format!("share of {}'s throughput", report.baseline);
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
            let what = format!("{}: {ratio:.2}", servers[*series]);
            // Larger marks for ours.
            let is_ours = servers[*series].starts_with("tidegate");
            let radius = if is_ours { 6.5 } else { 4.5 };
            drawing.mark(*series, (place(*ratio), y), radius, &what);
        }
    }
    Some(drawing.finish())
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
