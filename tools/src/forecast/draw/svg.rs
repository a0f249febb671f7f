//! A picture as SVG: what was as a line, the forecast's median and bands, events as columns behind them.

use std::fmt::Write as _;

use super::axis::{self, Axis};
use super::{Mark, Picture};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 380.0;
/// Of the plot, from the picture's edges.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 40.0;
/// A letter's width, about: names of events that would run into each other are written lower.
const LETTER: f64 = 6.2;

const STYLE: &str = "text{font:12px sans-serif;fill:#444} .title{font-size:15px;fill:#111} \
.grid{stroke:#e4e4e4} .was{fill:none;stroke:#1b4f8a;stroke-width:1.4} .median{fill:none;stroke:#c2571a;stroke-width:1.8} \
.outer{fill:#f3c9a8;fill-opacity:.55} .inner{fill:#e89a5f;fill-opacity:.55} .origin{stroke:#777;stroke-dasharray:4 3} \
.event{fill:#7a5fb5;fill-opacity:.16} .name{fill:#5b4391;font-size:11px}";

pub(super) fn draw(picture: &Picture) -> String {
    let plot = Plot { picture, axis: picture.axis() };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\n\
        <style>{STYLE}</style>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
        <clipPath id=\"plot\"><rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/></clipPath>\n\
        <text class=\"title\" x=\"{LEFT}\" y=\"22\">{}</text>\n",
        WIDTH - LEFT - RIGHT,
        HEIGHT - TOP - BOTTOM,
        escaped(&picture.title(plot.axis))
    );
    plot.axes(&mut out);
    plot.events(&mut out);
    out.push_str("<g clip-path=\"url(#plot)\">\n");
    for (class, band) in ["outer", "inner"].iter().zip(&picture.bands) {
        let edge = |at: usize, load: f64| plot.point(plot.ahead(at), load);
        let upper = band.iter().enumerate().map(|(at, band)| edge(at, band.1));
        let lower = band.iter().enumerate().rev().map(|(at, band)| edge(at, band.0));
        let points = upper.chain(lower).collect::<Vec<_>>().join(" ");
        let _infallible = writeln!(out, "<polygon class=\"{class}\" points=\"{points}\"/>");
    }
    let was = picture.hours.clone().zip(picture.was.iter().copied());
    plot.line(&mut out, "was", was);
    let median = (picture.origin..).zip(picture.median.iter().copied());
    plot.line(&mut out, "median", median);
    out.push_str("</g>\n");
    let x = plot.x(picture.origin);
    let _infallible = writeln!(
        out,
        "<line class=\"origin\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
        HEIGHT - BOTTOM
    );
    legend(&mut out);
    out.push_str("</svg>\n");
    out
}

struct Plot<'a> {
    picture: &'a Picture,
    axis: Axis,
}

impl Plot<'_> {
    fn x(&self, hour: i64) -> f64 {
        let hours = &self.picture.hours;
        let share = (hour - hours.start) as f64 / (hours.end - 1 - hours.start).max(1) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, load: f64) -> f64 {
        // Far above the plot a line is cut anyway, and numbers stay short.
        HEIGHT - BOTTOM - self.axis.share(load).min(10.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn point(&self, hour: i64, load: f64) -> String {
        format!("{:.1},{:.1}", self.x(hour), self.y(load))
    }

    fn ahead(&self, hours: usize) -> i64 {
        self.picture.origin + i64::try_from(hours).unwrap_or(0)
    }

    fn axes(&self, out: &mut String) {
        for load in self.axis.ticks() {
            let y = self.y(load);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                axis::short(load)
            );
        }
        let days = self.picture.hours.clone();
        for (hour, day) in days.filter_map(|hour| Some((hour, axis::day(hour, self.picture.is_dated)?))) {
            let x = self.x(hour);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
                <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{day}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 18.0
            );
        }
    }

    /// A column each; names in rows at the top, so that neighbours do not cover each other.
    fn events(&self, out: &mut String) {
        /// More would cover the plot.
        const ROWS: usize = 4;
        let mut ends = [f64::MIN; ROWS];
        for Mark { name, from, to } in &self.picture.marks {
            let hours = &self.picture.hours;
            let (from, to) = (self.x((*from).max(hours.start)), self.x((*to).min(hours.end - 1)));
            let _infallible = writeln!(
                out,
                "<rect class=\"event\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                (to - from).max(1.0),
                HEIGHT - TOP - BOTTOM
            );
            // Near the right edge a name ends where its event does.
            let width = LETTER * name.chars().count() as f64;
            let x = (from + 3.0).min(WIDTH - RIGHT - width);
            if let Some(row) = (0..ROWS).find(|&row| ends[row] < x) {
                ends[row] = x + width;
                let y = TOP + 12.0 + 13.0 * row as f64;
                let name = escaped(name);
                let _infallible =
                    writeln!(out, "<text class=\"name\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>");
            }
        }
    }

    /// In pieces between gaps; a known hour between two gaps is a dot's width long.
    fn line(&self, out: &mut String, class: &str, loads: impl Iterator<Item = (i64, f64)>) {
        let loads: Vec<(i64, f64)> = loads.collect();
        for piece in loads.split(|(_, load)| load.is_nan()).filter(|piece| !piece.is_empty()) {
            let mut points: Vec<String> = piece.iter().map(|&(hour, load)| self.point(hour, load)).collect();
            if let [(hour, load)] = piece {
                points.push(format!("{:.1},{:.1}", self.x(*hour) + 1.5, self.y(*load)));
            }
            let _infallible = writeln!(out, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        }
    }
}

fn legend(out: &mut String) {
    let entries =
        [("was", "what was"), ("median", "median"), ("inner", "80 %"), ("outer", "95 % of what may come")];
    let mut x = LEFT;
    for (class, text) in entries {
        let sample = match class {
            "was" | "median" => format!("<polyline class=\"{class}\" points=\"{x},44 {},44\"/>", x + 22.0),
            _ => format!("<rect class=\"{class}\" x=\"{x}\" y=\"38\" width=\"22\" height=\"12\"/>"),
        };
        let _infallible = writeln!(out, "{sample}<text x=\"{}\" y=\"48\">{text}</text>", x + 28.0);
        x += 28.0 + LETTER * text.chars().count() as f64 + 24.0;
    }
}

/// What means something in SVG as what it is; characters that no XML may have as `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            other => out.push(other),
        }
    }
    out
}
