//! The drawing of `backpressure`: bytes over time as SVG. The bytes are on a logarithmic scale,
//! because one curve is about a thousand times the other.

use std::fmt;

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

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
/// Of the plot.
const LEFT: f64 = 92.0;
const RIGHT: f64 = 716.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 416.0;

/// The axis begins here; less is drawn on it.
const FLOOR: u64 = 1 << 10;

/// A card with its own background, so that it reads the same on any page; it follows the
/// reader's preference for dark where the viewer knows it.
const STYLE: &str = "
  text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-size: 19px; font-weight: 600; fill: #1f2328; }
  .name { font-weight: 600; fill: #1f2328; }
  .card { fill: #ffffff; stroke: #d0d7de; }
  .grid { stroke: #d8dee4; stroke-width: 1; }
  .axis { stroke: #6e7781; stroke-width: 1.2; }
  .mark { stroke: #6e7781; stroke-width: 1.2; stroke-dasharray: 6 4; }
  .curve { fill: none; stroke-linejoin: round; stroke-linecap: round; }
  .first { stroke: #d1480c; stroke-width: 3; }
  .second { stroke: #0a66c2; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9ea7b3; }
    .title, .name { fill: #e6edf3; }
    .card { fill: #0d1117; stroke: #30363d; }
    .grid { stroke: #262c36; }
    .axis, .mark { stroke: #7d8590; }
    .first { stroke: #ff8a4c; }
    .second { stroke: #58a6ff; }
  }
";

const CLASSES: [&str; 2] = ["curve first", "curve second"];

impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            title, subtitle, ..
        } = self;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
        )?;
        writeln!(f, "<title>{title}</title>")?;
        let peaks = self
            .curves
            .each_ref()
            .map(|curve| (curve.name, size(curve.peak)));
        let [(first, first_peak), (second, second_peak)] = peaks;
        writeln!(
            f,
            "<desc>{subtitle}. Peaks: {first} {first_peak}, {second} {second_peak}.</desc>"
        )?;
        writeln!(f, "<style>{STYLE}</style>")?;
        writeln!(
            f,
            "<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>",
            WIDTH - 1.0,
            HEIGHT - 1.0
        )?;
        text(f, "title", (LEFT, 36.0), "start", title)?;
        text(f, "subtitle", (LEFT, 57.0), "start", subtitle)?;
        let scale = Scale::of(self);
        self.bytes_axis(f, &scale)?;
        self.time_axis(f, &scale)?;
        self.marks(f, &scale)?;
        self.curves(f, &scale)?;
        self.legend(f)?;
        writeln!(f, "</svg>")
    }
}

impl Chart {
    fn bytes_axis(&self, f: &mut fmt::Formatter<'_>, scale: &Scale) -> fmt::Result {
        let mut bytes = FLOOR;
        while bytes <= scale.most_bytes {
            let y = scale.y(bytes);
            let class = if bytes == FLOOR { "axis" } else { "grid" };
            line(f, class, (LEFT, y), (RIGHT, y))?;
            let label = if bytes == FLOOR {
                format!("≤ {}", size(bytes))
            } else {
                size(bytes)
            };
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

    fn time_axis(&self, f: &mut fmt::Formatter<'_>, scale: &Scale) -> fmt::Result {
        let steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
        let fits = |step: &f64| scale.most_seconds / step <= 8.0;
        let step = steps.into_iter().find(fits).unwrap_or(20.0);
        let digits = if step < 0.1 {
            2
        } else {
            usize::from(step < 1.0)
        };
        for tick in 0..=(scale.most_seconds / step + 1e-9) as u32 {
            let seconds = f64::from(tick) * step;
            let x = scale.x(seconds);
            line(f, "axis", (x, BOTTOM), (x, BOTTOM + 5.0))?;
            let label = format!("{seconds:.digits$}");
            text(f, "tick", (x, BOTTOM + 21.0), "middle", &label)?;
        }
        let middle = (LEFT + RIGHT) / 2.0;
        text(f, "unit", (middle, BOTTOM + 45.0), "middle", "seconds")
    }

    fn marks(&self, f: &mut fmt::Formatter<'_>, scale: &Scale) -> fmt::Result {
        for (name, bytes) in self.marks {
            let y = scale.y(bytes);
            line(f, "mark", (LEFT, y), (RIGHT, y))?;
            text(f, "tick", (RIGHT + 10.0, y + 4.5), "start", name)?;
        }
        Ok(())
    }

    fn curves(&self, f: &mut fmt::Formatter<'_>, scale: &Scale) -> fmt::Result {
        for (curve, class) in self.curves.iter().zip(CLASSES) {
            write!(f, "<polyline class=\"{class}\" points=\"")?;
            for &(seconds, bytes) in &curve.samples {
                write!(f, "{:.1},{:.1} ", scale.x(seconds), scale.y(bytes))?;
            }
            writeln!(f, "\"><title>{}</title></polyline>", curve.name)?;
        }
        Ok(())
    }

    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut x = LEFT;
        for (curve, class) in self.curves.iter().zip(CLASSES) {
            line(f, class, (x, 80.0), (x + 26.0, 80.0))?;
            let label = format!("{}: peak {}", curve.name, size(curve.peak));
            text(f, "name", (x + 36.0, 84.5), "start", &label)?;
            x += 290.0;
        }
        Ok(())
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
        let mut most_bytes = 1 << 20;
        let mut most_seconds = 0.1_f64;
        for curve in &chart.curves {
            while most_bytes < curve.peak {
                most_bytes *= 4;
            }
            for &(seconds, _) in &curve.samples {
                most_seconds = most_seconds.max(seconds);
            }
        }
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
}

fn line(f: &mut fmt::Formatter<'_>, class: &str, from: (f64, f64), to: (f64, f64)) -> fmt::Result {
    writeln!(
        f,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    )
}

fn text(
    f: &mut fmt::Formatter<'_>,
    class: &str,
    at: (f64, f64),
    anchor: &str,
    text: &str,
) -> fmt::Result {
    writeln!(
        f,
        "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
        at.0, at.1
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
