//! A demo as SVG: each partition's load against what had been expected of it, its capacity, and the moves.

use std::fmt::Write as _;

use serde_json::Value;

use super::live::{Seen, Sight};
use super::town::{Sale, replay_start};
use super::view::number;

const WIDTH: f64 = 1000.0;
/// Of a partition's plot, and the space below it.
const HEIGHT: f64 = 150.0;
const GAP: f64 = 34.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
/// Marks that lie close have their names below each other.
const MARK_ROWS: usize = 4;
const TOP: f64 = 84.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#444} .title{font-size:15px;fill:#111} .frame{fill:none;stroke:#ccc} \
.grid{stroke:#eee} .load{fill:none;stroke:#1b4f8a;stroke-width:1.8} .band{fill:#f3c9a8;fill-opacity:.7} \
.median{fill:none;stroke:#c2571a;stroke-width:1.2} .capacity{stroke:#b02a2a;stroke-dasharray:5 4} \
.out{fill:#b02a2a} .in{fill:#2a7d3f} .sale{fill:#7a5fb5;fill-opacity:.13} .name{font-size:10px}";

/// What is drawn.
#[derive(Debug)]
pub(super) struct Drawn<'a> {
    pub(super) sight: &'a Sight,
    pub(super) sales: &'a [Sale],
    pub(super) hours: i64,
    pub(super) capacity: f64,
    pub(super) partitions: u64,
}

/// Draws it.
pub(super) fn svg(drawn: &Drawn<'_>) -> String {
    let height = TOP + drawn.partitions as f64 * (HEIGHT + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
        <style>{STYLE}</style>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
        <text class=\"title\" x=\"{LEFT}\" y=\"22\">Load of each partition, requests a second (live)</text>\n\
        <text x=\"{LEFT}\" y=\"42\">blue: measured; orange: what was expected up to six hours before, with its inner 80 %; dashes: \
        capacity; shaded: announced sales</text>\n<text x=\"{LEFT}\" y=\"57\">red: an entity leaves; green: it arrives</text>\n"
    );
    let most = drawn.sight.hours.values().filter_map(|seen| seen.load).fold(drawn.capacity, f64::max) * 1.15;
    for partition in 0..drawn.partitions {
        let plot = Plot { drawn, partition, top: TOP + partition as f64 * (HEIGHT + GAP), most };
        plot.draw(&mut out);
    }
    out.push_str("</svg>\n");
    out
}

struct Plot<'a> {
    drawn: &'a Drawn<'a>,
    partition: u64,
    top: f64,
    most: f64,
}

impl Plot<'_> {
    fn x(&self, hours: f64) -> f64 {
        LEFT + hours / self.drawn.hours as f64 * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, load: f64) -> f64 {
        self.top + HEIGHT - (load / self.most).clamp(0.0, 1.0) * HEIGHT
    }

    fn draw(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + HEIGHT);
        let mut sales: Vec<(i64, i64)> = self.drawn.sales.iter().map(|sale| (sale.from, sale.to)).collect();
        sales.sort_unstable();
        sales.dedup();
        for (from, to) in sales {
            let (from, to) = ((from - replay_start()) as f64, (to - replay_start()) as f64);
            if from >= 0.0 && to <= self.drawn.hours as f64 {
                let (x, width) = (self.x(from), self.x(to) - self.x(from));
                let _infallible = writeln!(
                    out,
                    "<rect class=\"sale\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>",
                    self.top
                );
            }
        }
        for hour in (0..=self.drawn.hours).step_by(6) {
            let x = self.x(hour as f64);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\"/>\
                <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:02}:00</text>",
                self.top,
                bottom + 15.0,
                hour % 24
            );
        }
        let _infallible = writeln!(
            out,
            "<text x=\"8\" y=\"{:.1}\">partition {}</text><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>",
            self.top - 6.0,
            self.partition,
            LEFT - 6.0,
            self.y(self.drawn.capacity) + 4.0,
            self.drawn.capacity
        );
        self.band(out);
        let expected = self.points(|seen| seen.expected.map(|expected| expected[1]));
        let _infallible = writeln!(out, "<polyline class=\"median\" points=\"{expected}\"/>");
        let load = self.points(|seen| seen.load);
        let _infallible = writeln!(out, "<polyline class=\"load\" points=\"{load}\"/>");
        let y = self.y(self.drawn.capacity);
        let _infallible = writeln!(
            out,
            "<line class=\"capacity\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
            <rect class=\"frame\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
            self.top,
            right - LEFT
        );
        let moves = self.drawn.sight.ledger["moves"].as_array().map(Vec::as_slice).unwrap_or_default();
        let here = moves.iter().rev().filter_map(|one| Some((one, self.class(one)?)));
        for (count, (one, class)) in here.enumerate() {
            self.mark(one, class, 9.0 + 11.0 * (count % MARK_ROWS) as f64, out);
        }
    }

    /// The hours that were seen, in the middle of each.
    fn seen(&self) -> impl DoubleEndedIterator<Item = (f64, Seen)> {
        let hours = (self.partition, i64::MIN)..=(self.partition, i64::MAX);
        let all = self.drawn.sight.hours.range(hours).map(|(at, seen)| (at.1 - replay_start(), *seen));
        let last = self.drawn.hours;
        all.filter(move |(hour, _)| (0..last).contains(hour)).map(|(hour, seen)| (hour as f64 + 0.5, seen))
    }

    fn points(&self, value: impl Fn(&Seen) -> Option<f64>) -> String {
        let points = self.seen().filter_map(|(hour, seen)| Some((hour, value(&seen)?)));
        points
            .map(|(hour, load)| format!("{:.1},{:.1}", self.x(hour), self.y(load)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn band(&self, out: &mut String) {
        let edge = |hour: f64, load: f64| format!("{:.1},{:.1}", self.x(hour), self.y(load));
        let known: Vec<(f64, [f64; 3])> =
            self.seen().filter_map(|(hour, seen)| Some((hour, seen.expected?))).collect();
        let upper = known.iter().map(|(hour, expected)| edge(*hour, expected[2]));
        let lower = known.iter().rev().map(|(hour, expected)| edge(*hour, expected[0]));
        let points = upper.chain(lower).collect::<Vec<_>>().join(" ");
        let _infallible = writeln!(out, "<polygon class=\"band\" points=\"{points}\"/>");
    }

    /// How a move is marked here, if it is.
    fn class(&self, one: &Value) -> Option<&'static str> {
        let is_here = |name: &str| one[name].as_u64() == Some(self.partition);
        let class = if is_here("from") { "out" } else { "in" };
        (one["outcome"] == "done" && (is_here("from") || is_here("to"))).then_some(class)
    }

    fn mark(&self, one: &Value, class: &str, dy: f64, out: &mut String) {
        let (x, y) = (self.x(number(&one["ended"]) - replay_start() as f64), self.top + dy);
        let name = one["entity"].as_str().unwrap_or_default();
        let name = name.replace('&', "&amp;").replace('<', "&lt;");
        let _infallible = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>\
            <text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            x + 5.0,
            y + 3.5
        );
    }
}
