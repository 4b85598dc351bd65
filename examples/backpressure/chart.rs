//! The drawing of `backpressure`: bytes over time as SVG. The bytes are on a logarithmic scale,
//! because one curve is about a thousand times the other.

use std::fmt::{Display, Formatter, Result};

pub(super) struct Curve {
    pub(super) name: &'static str,
    /// Seconds and bytes, in the order of time.
    pub(super) samples: Vec<(f64, u64)>,
    pub(super) peak: u64,
}

pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) subtitle: String,
    pub(super) curves: [Curve; 2],
    /// Lines across, with their names.
    pub(super) marks: [(&'static str, u64); 2],
}

/// The edges of the plot, in a drawing of 860 by 480.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 716.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 416.0;

/// The axis begins here; less is drawn on it.
const FLOOR: u64 = 1 << 10;

/// The background is part of the drawing, so that it reads the same on any page.
const HEAD: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 480\" role=\"img\">
<style>
  text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-size: 19px; font-weight: 600; fill: #1f2328; }
  .name { font-weight: 600; fill: #1f2328; }
  .card { fill: #ffffff; stroke: #d0d7de; }
  .grid { stroke: #d8dee4; }
  .axis { stroke: #6e7781; }
  .mark { stroke: #6e7781; stroke-dasharray: 6 4; }
  .curve { fill: none; stroke-linejoin: round; }
  .first { stroke: #d1480c; stroke-width: 3; }
  .second { stroke: #0a66c2; stroke-width: 2; }
</style>
<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"859\" height=\"479\" rx=\"8\"/>";

const CLASSES: [&str; 2] = ["curve first", "curve second"];

impl Display for Chart {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "{HEAD}")?;
        text(f, "title", (LEFT, 36.0), "start", self.title)?;
        text(f, "subtitle", (LEFT, 57.0), "start", &self.subtitle)?;
        let scale = Scale::of(self);
        scale.bytes_axis(f)?;
        scale.time_axis(f)?;
        for (name, bytes) in self.marks {
            let y = scale.y(bytes);
            line(f, "mark", (LEFT, y), (RIGHT, y))?;
            text(f, "tick", (RIGHT + 10.0, y + 4.5), "start", name)?;
        }
        for ((curve, class), x) in self.curves.iter().zip(CLASSES).zip([LEFT, 382.0]) {
            write!(f, "<polyline class=\"{class}\" points=\"")?;
            for &(seconds, bytes) in &curve.samples {
                write!(f, "{:.1},{:.1} ", scale.x(seconds), scale.y(bytes))?;
            }
            writeln!(f, "\"><title>{}</title></polyline>", curve.name)?;
            line(f, class, (x, 80.0), (x + 26.0, 80.0))?;
            let label = format!("{}: peak {}", curve.name, size(curve.peak));
            text(f, "name", (x + 36.0, 84.5), "start", &label)?;
        }
        writeln!(f, "</svg>")
    }
}

/// From seconds and bytes to places in the plot.
struct Scale {
    most_seconds: f64,
    /// A power of 4, as all labelled bytes.
    most_bytes: u64,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let peak = chart.curves.iter().map(|curve| curve.peak).max();
        let mut most_bytes = 1 << 20;
        while Some(most_bytes) < peak {
            most_bytes *= 4;
        }
        let samples = chart.curves.iter().flat_map(|curve| &curve.samples);
        let most_seconds = samples.fold(0.1, |most, &(seconds, _)| seconds.max(most));
        Self {
            most_seconds,
            most_bytes,
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * seconds / self.most_seconds
    }

    fn y(&self, bytes: u64) -> f64 {
        let octaves = |bytes: u64| (bytes.max(FLOOR) as f64 / FLOOR as f64).log2();
        BOTTOM - (BOTTOM - TOP) * octaves(bytes) / octaves(self.most_bytes)
    }

    fn bytes_axis(&self, f: &mut Formatter<'_>) -> Result {
        let mut bytes = FLOOR;
        while bytes <= self.most_bytes {
            let y = self.y(bytes);
            let (class, sign) = if bytes == FLOOR {
                ("axis", "≤ ")
            } else {
                ("grid", "")
            };
            line(f, class, (LEFT, y), (RIGHT, y))?;
            let label = format!("{sign}{}", size(bytes));
            text(f, "tick", (LEFT - 10.0, y + 4.5), "end", &label)?;
            bytes *= 4;
        }
        line(f, "axis", (LEFT, TOP), (LEFT, BOTTOM))?;
        let middle = (TOP + BOTTOM) / 2.0;
        writeln!(
            f,
            "<text transform=\"translate(22 {middle}) rotate(-90)\" text-anchor=\"middle\">\
             buffered bytes (log scale)</text>"
        )
    }

    fn time_axis(&self, f: &mut Formatter<'_>) -> Result {
        let steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let fits = |step: &f64| self.most_seconds / step <= 8.0;
        let step = steps.into_iter().find(fits).unwrap_or(20.0);
        for tick in 0..=(self.most_seconds / step + 1e-9) as u32 {
            let seconds = (f64::from(tick) * step * 100.0).round() / 100.0;
            let x = self.x(seconds);
            line(f, "axis", (x, BOTTOM), (x, BOTTOM + 5.0))?;
            text(
                f,
                "tick",
                (x, BOTTOM + 21.0),
                "middle",
                &seconds.to_string(),
            )?;
        }
        let middle = (LEFT + RIGHT) / 2.0;
        text(f, "unit", (middle, BOTTOM + 45.0), "middle", "seconds")
    }
}

fn line(f: &mut Formatter<'_>, class: &str, from: (f64, f64), to: (f64, f64)) -> Result {
    let ((x1, y1), (x2, y2)) = (from, to);
    writeln!(
        f,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    )
}

fn text(f: &mut Formatter<'_>, class: &str, at: (f64, f64), anchor: &str, text: &str) -> Result {
    let (x, y) = at;
    writeln!(
        f,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    )
}

/// "64 KiB", "91.3 MiB".
pub(super) fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    let (number, unit) = if kib < 1024.0 {
        (kib, "KiB")
    } else {
        (kib / 1024.0, "MiB")
    };
    let number = format!("{number:.1}");
    format!("{} {unit}", number.trim_end_matches(".0"))
}
