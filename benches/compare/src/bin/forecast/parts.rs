//! The parts: what is asked, and what has to come of it.

use std::path::{Path, PathBuf};

use foreshard_compare::Result;
use foreshard_compare::measured::Bound;
use serde_json::Value;

use crate::said::{COMMAND_MAX, cargo, finite_rows, number, row, rows, run, table, text};
use crate::{Forecasts, Part};

/// Bins of fewer cases tell nothing of reliability.
const BIN_CASES_MIN: f64 = 100.0;
/// Of entities, in one draw.
const GROUPS: &str = "50";
/// The first draw of fifty groups is judged; how far others lie from it is told.
const DRAWS: &str = "4";

/// What forecast/MODELS.md has of each method.
const OF_MODELS: [&str; 5] = ["ratio", "pinball", "coverage_80", "coverage_95", "millis_per_series"];
const OF_EVENTS: [&str; 3] = ["count", "error_without_events", "error_with_events"];
const OF_SUMS: [&str; 6] =
    ["sum", "coverage_80", "coverage_80_lowest", "coverage_80_highest", "coverage_80_all", "coverage_95"];
const OF_COLD: [&str; 5] = ["pinball", "of_all", "ratio", "coverage_80", "coverage_95"];

impl Forecasts {
    /// On days that constants were not chosen on, and the gain over the blend on the three weeks before these too.
    pub(crate) fn hot(&mut self) -> Result<()> {
        for (name, file, limit) in self.tenants.clone() {
            for leave_off in if self.arguments.smoke { vec!["0"] } else { vec!["0", "21"] } {
                let out = self.arguments.dir.join("hot.csv");
                let asked = [
                    "--metric",
                    "reads+writes",
                    "--limit",
                    limit,
                    "--window",
                    "2..7",
                    "--leave-off",
                    leave_off,
                ];
                let mut hot = self.forecast(&["hot", "--origins", "6h", "--last", "21d"], &file);
                run(hot.arguments(asked).argument("--out").argument(&out))?;
                let mut score = self.forecast(&["score", "--json"], &file);
                let said: Value = serde_json::from_str(&run(score
                    .arguments(asked)
                    .argument("--forecast")
                    .argument(&out))?)?;
                self.hot_lines(&format!("{name}, {leave_off} days left off"), &said)?;
                if (name, leave_off) == ("disk", "0") {
                    let forecast = row(&said["rankings"], "ranking", "the forecast")?;
                    let all = number(forecast, "average_precision")?;
                    self.add(Part::Hot, "disk: AP, stated", all, Bound::AtLeast(0.83));
                    let emerging = number(forecast, "average_precision_emerging")?;
                    self.add(Part::Hot, "disk: AP emerging, stated", emerging, Bound::AtLeast(0.65));
                }
            }
        }
        Ok(())
    }

    /// The forecast beside the best of each measure.
    fn hot_lines(&mut self, name: &str, said: &Value) -> Result<()> {
        let forecast = row(&said["rankings"], "ranking", "the forecast")?;
        let others = rows(&said["rankings"])?.iter().filter(|row| row["ranking"] != "the forecast");
        for (key, title) in [("average_precision", "AP"), ("average_precision_emerging", "AP emerging")] {
            let best = others.clone().filter_map(|row| row[key].as_f64()).fold(0.0, f64::max);
            self.add(
                Part::Hot,
                format!("{name}: {title}, the best other"),
                number(forecast, key)?,
                Bound::Above(best),
            );
        }
        let blend = number(row(&said["rankings"], "ranking", "mean of the last two")?, "brier")?;
        self.add(
            Part::Hot,
            format!("{name}: Brier, the blend's"),
            number(forecast, "brier")?,
            Bound::AtMost(blend),
        );
        let bins =
            rows(&said["reliability"])?.iter().filter(|bin| bin["cases"].as_f64() >= Some(BIN_CASES_MIN));
        let off = bins.map(|bin| Ok((number(bin, "said")? - number(bin, "was")?).abs()));
        let off = off.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
        self.add(Part::Hot, format!("{name}: furthest tenth from what was"), off, Bound::AtMost(0.1));
        Ok(())
    }

    pub(crate) fn backtest(&mut self) -> Result<()> {
        for (name, file, _) in self.tenants.clone() {
            for horizon in ["24h", "48h"] {
                let mut backtest = self.forecast(&["backtest", "--json", "--metric", "reads+writes"], &file);
                backtest.arguments(["--horizon", horizon]);
                if self.arguments.smoke {
                    backtest.arguments(["--last", "3d", "--training-steps", "20"]);
                    backtest.arguments(["--model", "seasonal-naive,week-median,lstm,auto"]);
                }
                let said: Value = serde_json::from_str(&run(&mut backtest)?)?;
                table(&format!("{name}, reads and writes, {horizon}"), &said["models"], "model", &OF_MODELS)?;
                let auto = row(&said["models"], "model", "auto")?;
                let others = rows(&said["models"])?.iter().filter(|row| row["model"] != "auto");
                let best = others.filter_map(|row| row["ratio"].as_f64()).fold(f64::INFINITY, f64::min);
                let title = format!("{name}, {horizon}");
                let ratio = number(auto, "ratio")?;
                self.add(
                    Part::Backtest,
                    format!("{title}: error of auto, the best single method's"),
                    ratio,
                    Bound::Below(best),
                );
                for (key, low, high) in [("coverage_80", 0.77, 0.83), ("coverage_95", 0.93, 0.97)] {
                    self.add(
                        Part::Backtest,
                        format!("{title}: {key}"),
                        number(auto, key)?,
                        Bound::Within(low, high),
                    );
                }
            }
        }
        Ok(())
    }

    pub(crate) fn events(&mut self) -> Result<()> {
        let (trace, events) =
            (self.arguments.dir.join("shops.csv"), self.arguments.dir.join("promotions.csv"));
        let mut example = cargo("run", &["--example", "promotions", "--"]);
        run(example.argument(&trace).argument(&events))?;
        self.event_lines("promotions", (&trace, &events), "40d", ("first, learnt from others", 0.5))?;
        if let Some(traces) = self.arguments.traces.clone() {
            let files = (&traces.join("calendar-rides.csv.gz"), &traces.join("calendar-events.csv"));
            self.event_lines("rides", (files.0, files.1), "365d", ("event", 0.92))?;
        }
        Ok(())
    }

    fn event_lines(
        &mut self,
        name: &str,
        files: (&Path, &Path),
        last: &str,
        (hours, bound): (&str, f64),
    ) -> Result<()> {
        let mut backtest = self.forecast(&["backtest", "--json", "--metric", "requests"], files.0);
        backtest
            .arguments(["--horizon", "24h", "--model", "auto", "--last", last, "--events"])
            .argument(files.1);
        if self.arguments.smoke {
            backtest.arguments(["--training-steps", "20"]);
        }
        let said: Value = serde_json::from_str(&run(&mut backtest)?)?;
        table(
            &format!("{name}: error without and with the calendar, 24h"),
            &said["events"],
            "hours",
            &OF_EVENTS,
        )?;
        let row = row(&said["events"], "hours", hours)?;
        let ratio = number(row, "error_with_events")? / number(row, "error_without_events")?;
        self.add(
            Part::Events,
            format!("{name}: error of auto with the calendar, hours: {hours}"),
            ratio,
            Bound::AtMost(bound),
        );
        Ok(())
    }

    /// Rows of finite numbers are what is asked for, and of two that they beat the day before.
    pub(crate) fn models(&mut self) -> Result<()> {
        let mut files: Vec<(&str, PathBuf, &str)> =
            self.tenants.iter().map(|(name, file, _)| (*name, file.clone(), "writes")).collect();
        if let Some(traces) = &self.arguments.traces {
            files.push(("rides", traces.join("calendar-rides.csv.gz"), "requests"));
        }
        for (name, file, metric) in files {
            for model in ["arima", "prophet", "lstm"] {
                let out = self.arguments.dir.join("course.csv");
                let mut course = self.forecast(&[], &file);
                course
                    .arguments(["--metric", metric, "--horizon", "24h", "--model", model, "--out"])
                    .argument(&out);
                if self.arguments.smoke {
                    course.arguments(["--training-steps", "20"]);
                }
                run(&mut course)?;
                self.add(
                    Part::Models,
                    format!("{name}: hours with finite quantiles by {model}"),
                    finite_rows(&out)?,
                    Bound::AtLeast(24.0),
                );
            }
        }
        self.other_accuracies()
    }

    /// Of all methods on the first trace's writes, where two have to beat the day before; and on the rides.
    fn other_accuracies(&mut self) -> Result<()> {
        let (name, file, _) = self.tenants[0].clone();
        let said = self.accuracies(&file, "writes")?;
        table(&format!("{name}, writes, 24h"), &said, "model", &OF_MODELS)?;
        for model in ["arima", "lstm"] {
            let ratio = number(row(&said, "model", model)?, "ratio")?;
            self.add(
                Part::Models,
                format!("{name} writes, 24h: error of {model}, the day before's"),
                ratio,
                Bound::Below(1.0),
            );
        }
        if let Some(traces) = self.arguments.traces.clone() {
            let said = self.accuracies(&traces.join("calendar-rides.csv.gz"), "requests")?;
            table("rides, 24h", &said, "model", &OF_MODELS)?;
        }
        Ok(())
    }

    fn accuracies(&self, file: &Path, metric: &str) -> Result<Value> {
        let mut backtest =
            self.forecast(&["backtest", "--json", "--metric", metric, "--horizon", "24h"], file);
        if self.arguments.smoke {
            backtest.arguments(["--last", "3d", "--training-steps", "20", "--model", "arima,lstm"]);
        }
        let mut said: Value = serde_json::from_str(&run(&mut backtest)?)?;
        Ok(said["models"].take())
    }

    /// What groups bring over the horizon, and in single hours.
    pub(crate) fn sums(&mut self) -> Result<()> {
        for (name, file, _) in self.tenants.clone() {
            for horizon in ["24h", "48h"] {
                let mut sums = self
                    .forecast(&["sums", "--json", "--metric", "reads+writes", "--horizon", horizon], &file);
                sums.arguments(["--draws", DRAWS]);
                if self.arguments.smoke {
                    sums.arguments(["--groups", "5", "--size", "10", "--last", "3d"]);
                    sums.arguments(["--training-steps", "20"]);
                } else {
                    sums.arguments(["--groups", GROUPS]);
                }
                let said: Value = serde_json::from_str(&run(&mut sums)?)?;
                table(&format!("{name}, {horizon}: sums over groups"), &said["ways"], "way", &OF_SUMS)?;
                for row in rows(&said["ways"])? {
                    let (sum, way) = (text(row, "sum")?, text(row, "way")?);
                    let title = format!("{name}, {horizon}: 80 % of sums over {sum} hold, from {way}");
                    let bound =
                        if way == "paths" { Bound::Within(0.75, 0.85) } else { Bound::Outside(0.75, 0.85) };
                    self.add(Part::Sums, title, number(row, "coverage_80")?, bound);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn cold(&mut self) -> Result<()> {
        for (name, file, _) in self.tenants.clone() {
            let mut cold =
                self.forecast(&["cold", "--json", "--metric", "reads+writes", "--horizon", "24h"], &file);
            if self.arguments.smoke {
                cold.arguments(["--entities", "8", "--last", "3d"]);
            }
            let said: Value = serde_json::from_str(&run(&mut cold)?)?;
            table(&format!("{name}: 48 h of history, 24 h ahead"), &said["forecasts"], "forecast", &OF_COLD)?;
            let forecast = row(&said["forecasts"], "forecast", "the forecast")?;
            let plain = row(&said["forecasts"], "forecast", "shape-times-level")?;
            for (key, title) in [
                ("of_all", "loss of all together"),
                ("ratio", "loss, each entity the same"),
                ("pinball", "loss in units of the day before's"),
            ] {
                let bound = Bound::Below(number(plain, key)?);
                self.add(
                    Part::Cold,
                    format!("{name}: {title}, the plain way's"),
                    number(forecast, key)?,
                    bound,
                );
            }
        }
        Ok(())
    }

    pub(crate) fn fleet(&mut self) -> Result<()> {
        let mut bench = cargo("bench", &["--bench", "fleet", "--", "--json"]);
        if self.arguments.smoke {
            bench.argument("--smoke");
        }
        let said: Value = serde_json::from_str(&run(&mut bench)?)?;
        let entities = number(&said, "entities")?;
        for (key, bound) in [("seconds", 360.0), ("resident_mib", 2048.0), ("hour_us", 20.0)] {
            self.add(
                Part::Fleet,
                format!("{entities} entities: {key}"),
                number(&said, key)?,
                Bound::Below(bound),
            );
        }
        Ok(())
    }

    pub(crate) fn tests(&mut self) -> Result<()> {
        let (status, _told) = cargo("test", &["--quiet", "--all-features"]).heard().run(COMMAND_MAX)?;
        self.add(
            Part::Tests,
            "the crate's tests pass",
            f64::from(u8::from(status.success())),
            Bound::AtLeast(1.0),
        );
        Ok(())
    }
}
