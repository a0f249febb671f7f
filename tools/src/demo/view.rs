//! What is seen while a demo runs: drawn anew in place on a terminal, a line now and then elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use serde_json::Value;

use super::live::Sight;
use super::town::replay_start;
use crate::shell::Failure;

/// Characters of a bar; its end is one and a half times the capacity.
const BAR: usize = 44;
const BAR_END: f64 = 1.5;
/// Moves that are shown.
const MOVES: usize = 5;
/// Hours between two lines where there is no terminal.
const HOURS_APART: i64 = 6;

/// Where it is drawn.
#[derive(Debug)]
pub(super) struct View {
    is_terminal: bool,
    is_silent: bool,
    /// Lines that were drawn, to be drawn over.
    lines: usize,
    told: i64,
}

impl View {
    pub(super) fn new(is_silent: bool) -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), is_silent, lines: 0, told: i64::MIN }
    }

    /// Says something that stays.
    pub(super) fn say(&self, what: &str) -> Result<(), Failure> {
        if !self.is_silent {
            writeln!(std::io::stderr(), "{what}")?;
        }
        Ok(())
    }

    /// Shows what was seen.
    pub(super) fn show(&mut self, sight: &Sight) -> Result<(), Failure> {
        let hour = sight.outlook["hour"].as_i64().unwrap_or_default();
        if self.is_silent {
            return Ok(());
        }
        if !self.is_terminal {
            if hour.div_euclid(HOURS_APART) > self.told.div_euclid(HOURS_APART) {
                self.told = hour;
                writeln!(std::io::stderr(), "{}", line(sight, hour))?;
            }
            return Ok(());
        }
        let text = picture(sight, hour);
        let mut out = std::io::stderr().lock();
        if self.lines > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines)?;
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        self.lines = text.lines().count();
        Ok(())
    }
}

/// The day and hour of a replay, as people say it.
pub(super) fn clock(hour: i64) -> String {
    let since = hour - replay_start();
    format!("day {} {:02}:00", since.div_euclid(24) + 1, since.rem_euclid(24))
}

fn line(sight: &Sight, hour: i64) -> String {
    let partitions = sight.outlook["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let loads = partitions.iter().map(|one| format!("{:.0}", last_hour(one)));
    let moves = sight.ledger["moves"].as_array().map_or(0, Vec::len);
    let capacity = partitions.first().map_or(0.0, |one| number(&one["capacity"]));
    format!(
        "{}: requests/s {} of {capacity:.0} each, {moves} moves so far",
        clock(hour),
        loads.collect::<Vec<_>>().join(" "),
    )
}

/// What a partition had in the hour that is over: the one under way has hardly begun when it is looked at.
fn last_hour(partition: &Value) -> f64 {
    let history = partition["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    history.last().map_or(0.0, |last| number(&last["load"]))
}

fn picture(sight: &Sight, hour: i64) -> String {
    let mut text = format!("{}   {} shops followed\n", clock(hour), sight.planner["hourly"]);
    for partition in sight.outlook["partitions"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let (capacity, load) = (number(&partition["capacity"]).max(1.0), last_hour(partition));
        let empty = Vec::new();
        let ahead = partition["forecast"].as_array().unwrap_or(&empty);
        let busiest = ahead.iter().max_by(|a, b| number(&a["q50"]).total_cmp(&number(&b["q50"])));
        let busiest = busiest.unwrap_or(&Value::Null);
        let _infallible = writeln!(
            text,
            "partition {} on core {} {} {load:>5.0} of {capacity:.0}/s   next peak {:>5.0} ({:.0} to {:.0}) at {}",
            partition["id"],
            partition["shard"],
            bar(load / capacity, number(&busiest["q50"]) / capacity),
            number(&busiest["q50"]),
            number(&busiest["q10"]),
            number(&busiest["q90"]),
            clock(busiest["hour"].as_i64().unwrap_or(hour)),
        );
    }
    for one in sight.ledger["moves"].as_array().map(Vec::as_slice).unwrap_or_default().iter().take(MOVES) {
        text += &moved(one);
    }
    text
}

/// A move in a line.
pub(super) fn moved(one: &Value) -> String {
    let when = |value: &Value| value.as_f64().map_or_else(|| "?".to_owned(), |at| clock(whole(at)));
    let mut text = format!(
        "  {}: {} from partition {} to {}, {}",
        when(&one["began"]),
        one["entity"].as_str().unwrap_or_default(),
        one["from"],
        one["to"],
        one["kind"].as_str().unwrap_or_default(),
    );
    if let Some(peak) = one["peak_hour"].as_i64() {
        let _infallible = write!(text, ", before the peak of {}", clock(peak));
    }
    match one["pause_ms"].as_f64() {
        Some(pause) => {
            let outcome = one["outcome"].as_str().unwrap_or_default();
            let _infallible = writeln!(text, "; {outcome}, requests waited {pause:.1} ms at most");
        }
        None => text.push_str("; under way\n"),
    }
    text
}

/// Load as blocks, the peak to come as a mark, the capacity as a wall.
fn bar(load: f64, peak: f64) -> String {
    let place = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a bar")]
        let place = (share.clamp(0.0, BAR_END) / BAR_END * (BAR - 1) as f64).round() as usize;
        place
    };
    let mut cells: Vec<char> = (0..BAR).map(|at| if at < place(load) { '#' } else { '.' }).collect();
    cells[place(1.0)] = '|';
    cells[place(peak)] = '>';
    cells.into_iter().collect()
}

pub(super) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "hours since 1970")]
fn whole(hours: f64) -> i64 {
    hours.floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_load_its_wall_and_its_mark() {
        let text = bar(0.5, 1.2);
        assert_eq!(text.chars().count(), BAR);
        assert_eq!(text.matches('#').count(), 14);
        assert!(text.find('|') < text.find('>'), "{text}");
        assert!(bar(9.0, 9.0).ends_with('>'));
    }

    #[test]
    fn hours_are_told_by_day() {
        assert_eq!(clock(replay_start()), "day 1 00:00");
        assert_eq!(clock(replay_start() + 41), "day 2 17:00");
    }
}
