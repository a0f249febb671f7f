//! What came of it: a table for people, or JSON.

use std::fmt::Write;

use serde_json::json;

use super::cell::{Cell, POLICIES};
use super::fleet::Fleet;
use super::hot::{Judgement, LEAD};
use super::options::Sim;

/// All cells.
#[derive(Debug)]
pub(crate) struct Report {
    about: String,
    seed: u64,
    cells: Vec<Cell>,
    /// By the percentage that is overloaded.
    hot: Vec<(f64, Judgement)>,
}

impl Report {
    pub(crate) fn new(options: &Sim, fleet: &Fleet) -> Self {
        let (entities, hours) = (fleet.world.loads.len(), fleet.world.hours());
        let about = format!(
            "{}: {entities} entities, {hours} hours, {} partitions, seed {}; modelled",
            options.load.input.display(),
            options.partitions,
            options.seed
        );
        Self { about, seed: options.seed, cells: Vec::new(), hot: Vec::new() }
    }

    pub(crate) fn add(&mut self, cell: Cell) {
        self.cells.push(cell);
    }

    pub(crate) fn add_hot(&mut self, overloaded: f64, judged: Judgement) {
        self.hot.push((overloaded, judged));
    }

    pub(crate) fn text(&self, as_json: bool) -> String {
        if as_json { self.json() } else { self.table() }
    }

    fn json(&self) -> String {
        let mut cells = Vec::new();
        for cell in &self.cells {
            for (policy, outcome) in POLICIES.iter().zip(&cell.outcomes) {
                let rule = (*policy == "reactive").then(|| {
                    json!({ "high": cell.tuned.high, "low": cell.tuned.low, "window_s": cell.tuned.window_s,
                        "hold_s": cell.tuned.hold_s, "rest_s": cell.tuned.rest_s, "alone": cell.tuned.alone, "at_edge": cell.at_edge })
                });
                cells.push(json!({
                    "policy": policy,
                    "capacity_case": cell.overloaded,
                    "spread": cell.spread,
                    "capacity": cell.capacity,
                    "seed": self.seed,
                    "violation_seconds": outcome.violation_seconds,
                    "alone_seconds": outcome.alone_seconds,
                    "moves": outcome.moves.len(),
                    "planned_moves": outcome.moves.iter().filter(|made| made.planned).count(),
                    "bytes_moved": outcome.bytes_moved,
                    "rule": rule,
                    "oracle_is": (*policy == "oracle").then_some(&cell.oracle_is),
                }));
            }
        }
        let total = |(index, policy): (usize, &&str)| {
            let (violations, alone, moves, bytes) = self.total(index);
            json!({ "policy": policy, "violation_seconds": violations, "alone_seconds": alone, "moves": moves,
                "bytes_moved": bytes })
        };
        let totals: Vec<_> = POLICIES.iter().enumerate().map(total).collect();
        let hot = self
            .hot
            .iter()
            .map(|(overloaded, judged)| json!({ "capacity_case": overloaded, "judged": judged }));
        let hot = json!({ "lead_hours": LEAD, "cases": hot.collect::<Vec<_>>() });
        format!("{}\n", json!({ "about": self.about, "hot": hot, "cells": cells, "totals": totals }))
    }

    fn table(&self) -> String {
        let mut text = format!("{}\n\n{}", self.about, self.hot_table());
        for cell in &self.cells {
            let Cell { tuned, .. } = cell;
            // A string takes everything.
            let _infallible = writeln!(
                text,
                "overloaded {} % of partition-hours, spread {}: reactive at high {} low {:.2} window {} s hold {} s rest {} s alone {}{}; \
                 oracle: {}",
                cell.overloaded,
                cell.spread,
                tuned.high,
                tuned.low,
                tuned.window_s,
                tuned.hold_s,
                tuned.rest_s,
                tuned.alone,
                if cell.at_edge.is_empty() {
                    String::new()
                } else {
                    format!(" (at the edge: {})", cell.at_edge.join(", "))
                },
                cell.oracle_is,
            );
            text.push_str(HEADER);
            for (policy, outcome) in POLICIES.iter().zip(&cell.outcomes) {
                let facts = (
                    outcome.violation_seconds,
                    outcome.alone_seconds,
                    outcome.moves.len(),
                    outcome.bytes_moved,
                );
                row(&mut text, policy, facts);
            }
            text.push('\n');
        }
        text.push_str("all cells\n");
        text.push_str(HEADER);
        for (index, policy) in POLICIES.iter().enumerate() {
            row(&mut text, policy, self.total(index));
        }
        text + &self.verdict()
    }

    fn hot_table(&self) -> String {
        let mut text = format!(
            "hot partitions, told {LEAD} hours ahead, everyone at home\n  {:>10} {:>8} {:>8} {:>8}  {:<14} {:>9} {:>7} {:>16}\n",
            "overloaded", "hot", "emerging", "alarms", "by", "precision", "recall", "recall, emerging"
        );
        for (overloaded, judged) in &self.hot {
            for (by, alarms) in [("forecast", judged.forecast), ("seasonal naive", judged.seasonal_naive)] {
                // A string takes everything.
                let _infallible = writeln!(
                    text,
                    "  {overloaded:>8} % {:>8} {:>8} {:>8}  {by:<14} {:>9.3} {:>7.3} {:>16.3}",
                    judged.hot,
                    judged.emerging,
                    judged.alarms,
                    alarms.precision,
                    alarms.recall,
                    alarms.recall_emerging
                );
            }
        }
        text + "\n"
    }

    /// Violations, those of entities alone, moves and bytes of one policy, over all cells.
    fn total(&self, policy: usize) -> (u64, u64, usize, f64) {
        self.cells.iter().map(|cell| &cell.outcomes[policy]).fold((0, 0, 0, 0.0), |sum, outcome| {
            (
                sum.0 + outcome.violation_seconds,
                sum.1 + outcome.alone_seconds,
                sum.2 + outcome.moves.len(),
                sum.3 + outcome.bytes_moved,
            )
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "shares")]
    fn verdict(&self) -> String {
        let [_, reactive, predictive, oracle] = [0, 1, 2, 3].map(|policy| self.total(policy));
        let (r, p, o) = (reactive.0 as f64, predictive.0 as f64, oracle.0 as f64);
        let fewer = 100.0 * (1.0 - p / r.max(1.0));
        let closed = 100.0 * (r - p) / (r - o).max(1.0);
        let bytes = predictive.3 / reactive.3.max(1.0);
        format!(
            "\npredictive: {fewer:.0} % fewer violation-seconds than reactive, {closed:.0} % of the way to the oracle, \
             {bytes:.2} times the bytes\n"
        )
    }
}

const HEADER: &str = "  policy       violation-s      alone-s    moves      GB moved\n";

fn row(text: &mut String, policy: &str, (violations, alone, moves, bytes): (u64, u64, usize, f64)) {
    // A string takes everything.
    let _infallible =
        writeln!(text, "  {policy:<11} {violations:>12} {alone:>12} {moves:>8} {:>13.1}", bytes / 1e9);
}
