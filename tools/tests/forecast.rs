//! `foreshard forecast` as a program: odd and broken input, any number of threads, the same bytes each time.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by it, and has files of its own"
)]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use common::run;
use tempfile::TempDir;

const HOURS: i64 = 24 * 75;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Entities of every odd kind, beside two of a usual one. Hour indexes, not seconds: walks begin before hour zero.
fn trace(dir: &Path) -> String {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut rows = "time,entity,reads,writes\n".to_owned();
    for hour in 0..HOURS {
        let daily = 100.0 * (1.2 + (hour as f64 / 24.0 * std::f64::consts::TAU).sin());
        let mut row = |entity: &str, reads: &str| writeln!(rows, "{hour},{entity},{reads},1").unwrap();
        row("usual", &format!("{:.2}", daily * (0.5 + rng.f64())));
        row("\"a \"\"quoted\"\", name\"", &format!("{:.2}", daily * rng.f64()));
        row("zero", "0");
        row("constant", "42");
        row("huge", "1e300");
        row("unknown", "");
        row("nan", "NaN");
        if hour == 1000 {
            row("one point", "7");
        }
        if hour % 24 == 3 {
            row("a point a day", "5");
        }
        if !(1000..1600).contains(&hour) {
            row("a gap of weeks", &format!("{daily:.2}"));
        }
        if hour >= HOURS - 30 {
            row("young", &format!("{daily:.2}"));
        }
    }
    let path = dir.join("load.csv");
    fs::write(&path, rows).unwrap();
    path.to_str().unwrap().to_owned()
}

/// No number of a CSV that the program wrote is missing or none.
fn assert_numbers(path: &Path, entities: usize, rows_each: usize) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let mut count = 0;
    for record in reader.records() {
        let record = record.unwrap();
        for field in record.iter().skip(2) {
            let number: f64 = field.parse().unwrap();
            assert!(number.is_finite() && number >= 0.0, "{record:?}");
        }
        count += 1;
    }
    assert_eq!(count, entities * rows_each);
}

#[test]
fn odd_entities_pass_through_every_command_and_any_number_of_threads_says_the_same() {
    let dir = TempDir::new().unwrap();
    let load = trace(dir.path());
    let course = |threads: &str, model: &str| {
        let out = dir.path().join(format!("course-{model}-{threads}.csv"));
        let output = run(&[
            "forecast",
            "--in",
            &load,
            "--metric",
            "reads",
            "--horizon",
            "30",
            "--model",
            model,
            "--threads",
            threads,
            "--training-steps",
            "30",
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_numbers(&out, 11, 30);
        fs::read(&out).unwrap()
    };
    for model in ["seasonal-naive", "week-median", "climatology", "double-seasonal", "autoregression"] {
        course("1", model);
    }
    for model in ["arima", "prophet", "mstl"] {
        course("2", model);
    }
    let one = course("1", "auto");
    assert_eq!(one, course("3", "auto"));
    assert_eq!(one, course("1", "auto"));
    let hot = |threads: &str| {
        let out = dir.path().join(format!("hot-{threads}.csv"));
        let output = run(&[
            "forecast",
            "hot",
            "--in",
            &load,
            "--metric",
            "reads+writes",
            "--limit",
            "p97",
            "--window",
            "2..7",
            "--last",
            "5d",
            "--threads",
            threads,
            "--out",
            out.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_numbers(&out, 11, 21);
        fs::read(&out).unwrap()
    };
    assert_eq!(hot("1"), hot("4"));
}

#[test]
fn a_backtest_tells_its_measures_and_draws() {
    let dir = TempDir::new().unwrap();
    let load = trace(dir.path());
    let backtest = |more: &[&str]| {
        let mut command = vec!["forecast", "backtest", "--in", &load, "--metric", "reads", "--horizon", "24"];
        command.extend(["--last", "3d", "--model", "seasonal-naive,week-median"]);
        command.extend(more);
        run(&command)
    };
    let measures = |threads: &str| {
        let output = backtest(&["--json", "--threads", threads]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for model in value["models"].as_array_mut().unwrap() {
            let millis = model.as_object_mut().unwrap().remove("millis_per_series");
            assert!(millis.unwrap().as_f64().unwrap() > 0.0);
        }
        value
    };
    let value = measures("1");
    assert_eq!(value, measures("3"), "whatever the number of threads");
    assert_eq!(value["series"], 11);
    let names: Vec<&str> = (0..2).map(|model| value["models"][model]["model"].as_str().unwrap()).collect();
    assert_eq!(names, ["seasonal-naive", "week-median"]);
    for measure in ["ratio", "smape", "mase", "owa", "pinball", "coverage_80", "coverage_95", "brier"] {
        let of = |model: usize| value["models"][model][measure].as_f64().unwrap();
        assert!(of(0) >= 0.0 && of(1) >= 0.0, "{measure}");
    }

    let drawn = text(&backtest(&["--draw", "usual"]).stdout);
    let said = drawn.lines().find(|line| line.contains("usual: reads, 24 h ahead by week-median"));
    assert!(said.is_some() && drawn.contains('░') && drawn.contains("day 74"), "{drawn}");
    let (svg, events) = (dir.path().join("a.svg"), dir.path().join("events.csv"));
    let calendar = format!(
        "name,kind,entities,from,to,announced\nsale & more,sale,*name,{},{},0\nother,sale,zero,{},{},0\n",
        HOURS - 60,
        HOURS - 40,
        HOURS - 60,
        HOURS - 40
    );
    fs::write(&events, calendar).unwrap();
    let (svg_path, events_path) = (svg.to_str().unwrap(), events.to_str().unwrap());
    let output = backtest(&["--draw", "a \"quoted\", name", "--svg", svg_path, "--events", events_path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("sale &amp; more") && !picture.contains("other") && !picture.contains("NaN"));
    for entity in [
        "zero",
        "constant",
        "huge",
        "unknown",
        "nan",
        "one point",
        "a point a day",
        "a gap of weeks",
        "young",
    ] {
        for more in [&[][..], &["--svg", svg_path]] {
            let output = backtest(&[&["--draw", entity][..], more].concat());
            assert_eq!(output.status.code(), Some(0), "{entity}: {}", text(&output.stderr));
        }
        assert!(!fs::read_to_string(&svg).unwrap().contains("NaN"), "{entity}");
    }
}

#[test]
fn each_draw_of_groups_is_counted_and_the_lowest_and_the_highest_are_told() {
    let dir = TempDir::new().unwrap();
    let load = trace(dir.path());
    let ways = |draws: &str, threads: &str| -> Vec<serde_json::Value> {
        let sums =
            ["forecast", "sums", "--in", &load, "--metric", "reads", "--horizon", "24", "--last", "3d"];
        let groups = ["--groups", "30", "--size", "2", "--model", "week-median", "--json"];
        let output = run(&[&sums[..], &groups, &["--draws", draws, "--threads", threads]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        said["ways"].as_array().unwrap().clone()
    };
    let (one, three) = (ways("1", "1"), ways("3", "1"));
    assert_eq!(three, ways("3", "2"), "whatever the number of threads");
    assert_eq!((one.len(), three.len()), (4, 4), "two ways of two sums");
    for (one, three) in one.iter().zip(&three) {
        let of = |way: &serde_json::Value, key: &str| way[key].as_f64().unwrap();
        let [lowest, all, highest] =
            ["coverage_80_lowest", "coverage_80_all", "coverage_80_highest"].map(|key| of(three, key));
        assert!((lowest..=highest).contains(&of(three, "coverage_80")), "the first is one of them");
        assert!(0.0 < lowest && lowest <= all && all <= highest && highest <= 1.0, "{three}");
        assert_eq!(of(one, "coverage_80_lowest"), of(one, "coverage_80_highest"), "of one draw");
        assert!(of(one, "count") > 0.0 && of(three, "count") > of(one, "count"), "{one} {three}");
    }
}

#[test]
fn broken_rows_are_told_with_line_and_reason_and_the_others_count() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("load.csv");
    let mut rows = "time,entity,reads\n".to_owned();
    (0..100).for_each(|hour| writeln!(rows, "{hour},a,{}", hour % 24).unwrap());
    rows.push_str("x,a,1\n100,,1\n101,a,many\n5,a,1\n102,a,-3\n103,a\n104,a,4\n");
    fs::write(&path, &rows).unwrap();
    let (load, out) = (path.to_str().unwrap(), dir.path().join("out.csv"));
    let command =
        ["forecast", "--in", load, "--metric", "reads", "--horizon", "2", "--out", out.to_str().unwrap()];
    let output = run(&command);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    for (line, reason) in [
        (102, "no whole number"),
        (103, "no name"),
        (104, "no number"),
        (105, "has that hour already"),
        (106, "cannot be"),
        (107, "fields"),
    ] {
        let told = said.lines().find(|told| told.contains(&format!("line {line}:")));
        assert!(told.is_some_and(|told| told.contains(reason)), "line {line}: {said}");
    }
    let written = fs::read_to_string(&out).unwrap();
    assert!(written.lines().nth(1).is_some_and(|row| row.starts_with("a,105,")), "{written}");
}

#[test]
fn wrong_questions_are_refused_and_say_what_would_do() {
    let dir = TempDir::new().unwrap();
    let load = trace(dir.path());
    let svg = dir.path().join("none.svg");
    let backtest =
        ["forecast", "backtest", "--in", &load, "--metric", "reads", "--horizon", "24", "--last", "2d"];
    for (more, reason) in [
        (&["--model", "oracle"][..], "must be one of seasonal-naive"),
        (&["--model", "week-median", "--draw", "nobody"], "no entity \"nobody\""),
        (&["--svg", svg.to_str().unwrap()], "--draw"),
        (&["--model", "week-median", "--draw", "usual", "--events", "/no/such/file"], "/no/such/file"),
    ] {
        let output = run(&[&backtest[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(text(&output.stderr).contains(reason), "{more:?}: {}", text(&output.stderr));
    }
}
