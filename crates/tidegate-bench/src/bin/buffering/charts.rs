//! The pictures: memory over time, and bars for each setting of the watermarks.

use crate::growth::Growth;
use crate::watermarks::Setting;
use tidegate_bench::drawing::{Drawing, size};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 404.0;

pub(crate) fn memory(grown: &[Growth]) -> String {
    let mut drawing = Drawing::new(
        WIDTH,
        472.0,
        "A writer that is faster than its peer",
        "offered 48 MiB a second, taken 8: by how much the writing process grows",
    );
    let peak = grown.iter().map(Growth::peak).fold(1_048_576.0, f64::max);
    let ends = grown.iter().filter_map(|growth| growth.samples.last());
    let end = ends.map(|(seconds, _)| *seconds).fold(0.1, f64::max);
    let step = step(peak / 1_048_576.0) * 1_048_576.0;
    let most = (peak / step).ceil() * step;
    let x = |seconds: f64| LEFT + (RIGHT - LEFT) * seconds / end;
    let y = |bytes: f64| BOTTOM - (BOTTOM - TOP) * bytes / most;
    for index in 0..=(most / step) as usize {
        let bytes = index as f64 * step;
        let class = if index == 0 { "axis" } else { "grid" };
        drawing.line(class, (LEFT, y(bytes)), (RIGHT, y(bytes)));
        drawing.text("tick", (LEFT - 10.0, y(bytes) + 4.5), "end", &size(bytes));
    }
    let seconds_step = self::step(end);
    for index in 0..=(end / seconds_step + 1e-9) as usize {
        let seconds = index as f64 * seconds_step;
        drawing.line("axis", (x(seconds), BOTTOM), (x(seconds), BOTTOM + 5.0));
        let label = format!("{seconds:.1}");
        drawing.text("tick", (x(seconds), BOTTOM + 21.0), "middle", &label);
    }
    drawing.text(
        "unit",
        ((LEFT + RIGHT) / 2.0, BOTTOM + 45.0),
        "middle",
        "seconds",
    );
    drawing.text_upwards((22.0, (TOP + BOTTOM) / 2.0), "growth of resident memory");

    // Names stand at the ends of their curves, apart from each other.
    let mut names = Vec::new();
    for (series, growth) in grown.iter().enumerate() {
        let points: Vec<(f64, f64)> = (growth.samples.iter())
            .map(|(seconds, bytes)| (x(*seconds), y(*bytes)))
            .collect();
        drawing.curve(series, &growth.name, &points);
        let last = growth.samples.last().map_or(0.0, |(_, bytes)| *bytes);
        names.push((y(last), series, format!("{}: {}", growth.name, size(last))));
    }
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut lowest = BOTTOM + 4.5;
    for (place, series, name) in names {
        lowest = lowest.min(place + 4.5);
        drawing.mark(series, (RIGHT + 12.0, lowest - 4.5), 4.0, &name);
        drawing.text("name", (RIGHT + 22.0, lowest), "start", &name);
        lowest -= 19.0;
    }
    drawing.finish()
}

/// Between four and ten of them fit: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [5.0, 2.0];
    let found = factors.into_iter().find(|factor| factor * power <= rough);
    found.unwrap_or(1.0) * power
}

pub(crate) fn lateness(settings: &[Setting]) -> String {
    bars(
        settings,
        "How old a message is when it arrives",
        "behind what is queued before it, at a reader of 32 MiB a second; median, and 99 % in words",
        |setting| setting.age(0.5) * 1e3,
        |setting| {
            let (median, most) = (setting.age(0.5) * 1e3, setting.age(0.99) * 1e3);
            format!("{median:.1} ms (99 %: {most:.1} ms)")
        },
    )
}

pub(crate) fn throughput(settings: &[Setting]) -> String {
    bars(
        settings,
        "What the high-water mark does to throughput",
        "one connection, 4 KiB messages, a reader that takes all; longer is better",
        Setting::throughput,
        |setting| format!("{}/s", size(setting.throughput())),
    )
}

/// A pair of bars for each high-water mark: without and with a bound in the kernel.
fn bars(
    settings: &[Setting],
    title: &str,
    subtitle: &str,
    figure: impl Fn(&Setting) -> f64,
    words: impl Fn(&Setting) -> String,
) -> String {
    const BAR: f64 = 22.0;
    const LEFT: f64 = 170.0;
    const LONGEST: f64 = 480.0;
    let groups = settings.len().div_ceil(2) as f64;
    let height = 112.0 + groups * (2.0 * BAR + 22.0) + 10.0;
    let mut drawing = Drawing::new(WIDTH, height, title, subtitle);
    let legend = [
        "kernel buffers as the system likes",
        "set_unsent_low_water(16 KiB)",
    ];
    for (series, name) in legend.iter().enumerate() {
        let x = 30.0 + series as f64 * 290.0;
        drawing.mark(series, (x, 84.0), 5.0, name);
        drawing.text("name", (x + 12.0, 88.5), "start", name);
    }
    let most = settings
        .iter()
        .map(&figure)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut y = 112.0;
    for (index, setting) in settings.iter().enumerate() {
        let series = usize::from(setting.unsent.is_some());
        if series == 0 {
            let name = format!("high water {}", size(setting.high as f64));
            drawing.text("name", (LEFT - 14.0, y + BAR + 4.5), "end", &name);
        }
        let width = LONGEST * figure(setting) / most;
        let words = words(setting);
        drawing.bar(series, (LEFT, y), (width, BAR - 3.0), &words);
        drawing.text("tick", (LEFT + width + 10.0, y + 15.0), "start", &words);
        y += if index % 2 == 0 { BAR } else { BAR + 22.0 };
    }
    drawing.finish()
}
