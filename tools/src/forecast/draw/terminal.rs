//! A picture as characters: lines in Braille dots, two hours and four loads a character, and the band as shade behind them.

use std::fmt::Write as _;

use super::Picture;
use super::axis::{self, Axis};

/// Characters of the plot: with the axis, less than a terminal of 120 columns.
const WIDTH: usize = 104;
const HEIGHT: usize = 18;
/// Dots of a character, across and down.
const DOTS: (usize, usize) = (2, 4);
/// Of names of events that would run into each other.
const EVENT_LINES_MAX: usize = 4;
/// Characters of the axis on the left.
const LABELS: usize = 8;
/// Braille's dots are numbered down its columns, and the lowest row came later.
const BRAILLE: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// A character's place.
#[derive(Clone, Copy, Default)]
struct Cell {
    dots: u8,
    is_median: bool,
    is_band: bool,
    is_origin: bool,
}

pub(super) fn draw(picture: &Picture) -> String {
    let axis = picture.axis();
    let mut cells = vec![[Cell::default(); WIDTH]; HEIGHT];
    let origin = index(picture, picture.origin);
    let count = picture.was.len();
    for (ahead, band) in picture.bands[0].iter().enumerate() {
        shade(&mut cells, column(origin + ahead, count), (axis.share(band.0), axis.share(band.1)));
    }
    for row in &mut cells {
        row[column(origin, count) / DOTS.0].is_origin = true;
    }
    for (ahead, &median) in picture.median.iter().enumerate() {
        let (x, y) = (column(origin + ahead, count), height(axis.share(median)));
        cells[y / DOTS.1][x / DOTS.0].is_median = true;
    }
    for (hour, &load) in picture.was.iter().enumerate() {
        let from = (column(hour, count), axis.share(load));
        // A known hour beside a gap is a dot.
        let next = picture.was.get(hour + 1).filter(|next| !next.is_nan());
        let to = next.map_or(from, |&next| (column(hour + 1, count), axis.share(next)));
        if !load.is_nan() {
            line(&mut cells, from, to);
        }
    }
    render(picture, axis, &cells)
}

fn render(picture: &Picture, axis: Axis, cells: &[[Cell; WIDTH]]) -> String {
    let mut text = format!("{}\n", picture.title(axis));
    let ticks = axis.ticks();
    for (row, cells) in cells.iter().enumerate() {
        let tick = ticks.iter().rfind(|tick| height(axis.share(**tick)) / DOTS.1 == row);
        let label = tick.map(|&load| axis::short(load)).unwrap_or_default();
        let line: String = cells.iter().copied().map(Cell::character).collect();
        let _infallible = writeln!(text, "{label:>LABELS$} │{}", line.trim_end());
    }
    let _infallible = writeln!(text, "{:>LABELS$} └{}", "", "─".repeat(WIDTH));
    let days = picture.hours.clone().enumerate();
    let days = days.filter_map(|(at, hour)| Some((at, axis::day(hour, picture.is_dated)?)));
    let (line, _) = labels(picture, days.collect());
    let _infallible = writeln!(text, "{:>LABELS$}  {line}", "");
    let marks = picture.marks.iter().map(|mark| (index(picture, mark.from), format!("▲{}", mark.name)));
    let mut marks: Vec<(usize, String)> = marks.collect();
    for _ in 0..EVENT_LINES_MAX {
        if marks.is_empty() {
            break;
        }
        let (line, left) = labels(picture, marks);
        let _infallible = writeln!(text, "{:>LABELS$}  {line}", "events");
        marks = left;
    }
    if !marks.is_empty() {
        let _infallible = writeln!(text, "{:>LABELS$}  and {} more", "events", marks.len());
    }
    text.push_str(
        "⠉ what was   • median of the forecast   ░ 95 % of what may come   ┊ first hour that was not known\n",
    );
    text
}

/// Texts below their hours, and those that would have run into another. Near the right edge a text begins earlier.
fn labels(picture: &Picture, texts: Vec<(usize, String)>) -> (String, Vec<(usize, String)>) {
    let (mut line, mut left) = (String::new(), Vec::new());
    for (at, text) in texts {
        let text: String = text.chars().take(WIDTH).collect();
        let column = (column(at, picture.was.len()) / DOTS.0).min(WIDTH - text.chars().count());
        let length = line.chars().count();
        if length == 0 || column > length {
            line.extend(std::iter::repeat_n(' ', column - length));
            line.push_str(&text);
        } else {
            left.push((at, text));
        }
    }
    (line, left)
}

/// Where an hour is among those drawn, or the nearest one.
fn index(picture: &Picture, hour: i64) -> usize {
    usize::try_from(hour - picture.hours.start).unwrap_or(0).min(picture.was.len() - 1)
}

/// The column of dots of the hour at an index.
fn column(index: usize, count: usize) -> usize {
    index * (WIDTH * DOTS.0 - 1) / (count - 1).max(1)
}

/// The row of dots of a share of the height.
fn height(share: f64) -> usize {
    let rows = HEIGHT * DOTS.1 - 1;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the rows")]
    let below = (share.clamp(0.0, 1.0) * rows as f64).round() as usize;
    rows - below
}

fn shade(cells: &mut [[Cell; WIDTH]], x: usize, (low, high): (f64, f64)) {
    for row in &mut cells[height(high) / DOTS.1..=height(low) / DOTS.1] {
        row[x / DOTS.0].is_band = true;
    }
}

/// From one column to another, the dots of a line, with no hole however steep it is.
fn line(cells: &mut [[Cell; WIDTH]], from: (usize, f64), to: (usize, f64)) {
    let (mut before, columns) = (height(from.1), (to.0 - from.0).max(1));
    for step in 0..=columns {
        let share = from.1 + (to.1 - from.1) * step as f64 / columns as f64;
        let y = height(share);
        for y in before.min(y)..=before.max(y) {
            let x = (from.0 + step).min(WIDTH * DOTS.0 - 1);
            cells[y / DOTS.1][x / DOTS.0].dots |= BRAILLE[x % DOTS.0][y % DOTS.1];
        }
        before = y;
    }
}

impl Cell {
    fn character(self) -> char {
        match self {
            Self { dots: 1.., .. } => char::from_u32(0x2800 + u32::from(self.dots)).unwrap_or(' '),
            Self { is_median: true, .. } => '•',
            Self { is_origin: true, .. } => '┊',
            Self { is_band: true, .. } => '░',
            _ => ' ',
        }
    }
}
