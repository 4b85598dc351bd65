//! The elements of which the charts are drawn: SVG on a card with its own background, so that it
//! reads the same on any page, following a preference for dark where the viewer knows it.

use std::fmt::{Display, Write};

/// The colours of the series, each for light and for dark.
const COLOURS: [(&str, &str); 8] = [
    ("#d1480c", "#ff8a4c"),
    ("#0a66c2", "#58a6ff"),
    ("#1a7f37", "#56d364"),
    ("#8250df", "#bc8cff"),
    ("#9a6700", "#e3b341"),
    ("#bf3989", "#f778ba"),
    ("#1b7c83", "#76e3ea"),
    ("#57606a", "#9ea7b3"),
];

/// A drawing under way.
#[derive(Debug)]
pub(crate) struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

impl Drawing {
    /// A card with a title and a line under it.
    pub(crate) fn new(width: f64, height: f64, title: &str, subtitle: &str) -> Self {
        let mut drawing = Self {
            body: String::new(),
            width,
            height,
        };
        drawing.text("title", (24.0, 36.0), "start", title);
        drawing.text("subtitle", (24.0, 57.0), "start", subtitle);
        drawing
    }

    /// A line of a class.
    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// Words at a place; `anchor` is `start`, `middle` or `end`.
    pub(crate) fn text(&mut self, class: &str, at: (f64, f64), anchor: &str, words: &str) {
        let words = escaped(words);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
            at.0, at.1
        ));
    }

    /// A mark in the colour of a series; beyond the number of colours, and where `hollow`, of
    /// another form. What it stands for shows under the pointer.
    pub(crate) fn mark(&mut self, series: usize, at: (f64, f64), radius: f64, title: &str) {
        let class = format!("mark s{}", series % COLOURS.len());
        let title = escaped(title);
        let (x, y) = at;
        if series < COLOURS.len() {
            self.add(format_args!(
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{title}</title></circle>"
            ));
        } else {
            self.add(format_args!(
                "<path class=\"{class}\" d=\"M{x:.1} {:.1}l{radius:.1} {radius:.1}l-{radius:.1} {radius:.1}l-{radius:.1} -{radius:.1}z\"><title>{title}</title></path>",
                y - radius
            ));
        }
    }

    /// The SVG.
    pub(crate) fn finish(self) -> String {
        let Self {
            body,
            width,
            height,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<style>{}</style>\n\
             <rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
             {body}</svg>\n",
            style(),
            width - 1.0,
            height - 1.0
        )
    }

    fn add(&mut self, element: impl Display) {
        let _ = writeln!(self.body, "{element}"); // A string takes everything.
    }
}

fn style() -> String {
    let mut light = String::from(
        "
  text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #57606a; }
  .title { font-size: 19px; font-weight: 600; fill: #1f2328; }
  .name { font-weight: 600; fill: #1f2328; }
  .card { fill: #ffffff; stroke: #d0d7de; }
  .grid { stroke: #d8dee4; }
  .axis { stroke: #6e7781; stroke-width: 1.2; }
  .reference { stroke: #6e7781; stroke-width: 1.4; stroke-dasharray: 6 4; }
",
    );
    let mut dark = String::from(
        "  @media (prefers-color-scheme: dark) {
    text { fill: #9ea7b3; }
    .title, .name { fill: #e6edf3; }
    .card { fill: #0d1117; stroke: #30363d; }
    .grid { stroke: #262c36; }
    .axis, .reference { stroke: #7d8590; }
",
    );
    for (series, (in_light, in_dark)) in COLOURS.iter().enumerate() {
        for (css, colour) in [(&mut light, in_light), (&mut dark, in_dark)] {
            let _ = writeln!(css, "  .mark.s{series} {{ fill: {colour}; }}");
        }
    }
    format!("{light}{dark}  }}\n")
}

fn escaped(words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    words.replace('>', "&gt;").replace('"', "&quot;")
}
