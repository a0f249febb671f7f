//! Questions to a node's planner, and orders.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Ctl, http, show, tell};
use crate::Verdict;
use crate::forecast::draw::{Answer, Picture};
use crate::forecast::table;
use crate::shell::Failure;

/// Seconds of an hour, as times are given and told.
const HOUR_SECONDS: i64 = 3600;

/// What to ask the planner, or to tell it.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Planning {
    /// How the planner is doing.
    #[command(after_help = "Example: foreshard ctl planner")]
    Planner,
    /// What each partition has, can do, and is expected to have.
    #[command(after_help = "Example: foreshard ctl outlook")]
    Outlook,
    /// The hour's plan: what moves, when and why, and what stays.
    #[command(
        after_help = "Without --dry-run, a plan is made at once and carried out; with --last, the hour's is shown.\n\
        Example: foreshard ctl plan --dry-run"
    )]
    Plan {
        /// Make a plan, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Show the last plan; make none.
        #[arg(long, conflicts_with = "dry_run")]
        last: bool,
    },
    /// What an entity had and is expected to have, drawn.
    #[command(after_help = "Example: foreshard ctl forecast customer:7")]
    Forecast {
        /// Its name.
        name: String,
    },
    /// Why an entity moves, or does not: its load, its forecast and what that is worth, its score.
    #[command(after_help = "Example: foreshard ctl explain customer:7")]
    Explain {
        /// Its name.
        name: String,
    },
    /// Announce an event, list those that are known, or remove one.
    #[command(subcommand)]
    Event(Event),
    /// Plan, and move nothing, until resumed.
    #[command(after_help = "Example: foreshard ctl pause")]
    Pause,
    /// Move again what plans say.
    #[command(after_help = "Example: foreshard ctl resume")]
    Resume,
    /// Keep an entity where it is.
    #[command(after_help = "Example: foreshard ctl pin customer:7")]
    Pin {
        /// Its name.
        name: String,
    },
    /// Leave an entity out of balancing.
    #[command(after_help = "Example: foreshard ctl exclude customer:7")]
    Exclude {
        /// Its name.
        name: String,
    },
    /// Take `pin` or `exclude` back.
    #[command(after_help = "Example: foreshard ctl release customer:7")]
    Release {
        /// Its name.
        name: String,
    },
    /// Hours that are over: take them in from a file, or show those that are kept.
    #[command(subcommand)]
    History(History),
    /// What forecasts were worth, and what came of moves.
    #[command(after_help = "Example: foreshard ctl ledger")]
    Ledger,
}

/// What to do with events.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum Event {
    /// Announce one, or change it.
    #[command(after_help = "What events of its kind did is learnt from those that are over.\n\
        Example: foreshard ctl event add spring-sale --kind sale --entities 'shop:*' --from 1774000800 --to 1774044000")]
    Add(Announced),
    /// All that are known.
    #[command(after_help = "Example: foreshard ctl event list")]
    List,
    /// Forget one.
    #[command(after_help = "Example: foreshard ctl event remove spring-sale")]
    Remove {
        /// Its name.
        name: String,
    },
}

/// An event.
#[derive(Args, Clone, Debug)]
pub(super) struct Announced {
    /// Its name.
    name: String,
    /// Events of one kind are expected to do alike. [default: its name]
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    /// An event that is over and did what this one is expected to do: its kind is taken.
    #[arg(long, conflicts_with = "kind")]
    like: Option<String>,
    /// How many times as much it will make, if that is known: 3 for three times.
    #[arg(long, conflicts_with = "like")]
    factor: Option<f64>,
    /// Whom it concerns: a name, in which * stands for any characters and ? for any one.
    #[arg(long)]
    entities: String,
    /// When it begins, Unix seconds.
    #[arg(long)]
    from: i64,
    /// When it is over, Unix seconds.
    #[arg(long)]
    to: i64,
    /// When it was known, Unix seconds. [default: now]
    #[arg(long)]
    announced: Option<i64>,
}

/// What to do with hours.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum History {
    /// Take hours in: CSV, plain or gzip, with columns time, entity, reads and writes, a second.
    #[command(after_help = "Example: foreshard ctl history import load.csv.gz")]
    Import {
        /// The file.
        file: PathBuf,
    },
    /// All kept hours, as CSV.
    #[command(after_help = "Example: foreshard ctl history export > load.csv")]
    Export,
}

/// Does one of them.
pub(super) fn run(ctl: &Ctl, what: &Planning) -> Result<Verdict, Failure> {
    let get = |path: &str| http::get(&ctl.admin, path);
    let post = |path: &str, order: &Value| http::post(&ctl.admin, path, order);
    let of = |path: &str, name: &str| get(&format!("{path}?entity={}", http::escaped(name.as_bytes())));
    let hold = |name: &str, hold: Option<&str>| post("/hold", &json!({"entity": name, "hold": hold}));
    match what {
        Planning::Planner => tell(ctl, &get("/planner")?, show::fields),
        Planning::Outlook => tell(ctl, &get("/outlook")?, show::outlook),
        Planning::Plan { last: true, .. } => tell(ctl, &get("/plan")?, show::plan),
        Planning::Plan { dry_run, .. } => {
            tell(ctl, &post("/plan", &json!({"dry_run": dry_run}))?, show::plan)
        }
        Planning::Forecast { name } => tell(ctl, &of("/forecast", name)?, forecast),
        Planning::Explain { name } => tell(ctl, &of("/explain", name)?, explain),
        Planning::Event(Event::List) => tell(ctl, &get("/events")?, show::events),
        Planning::Event(Event::Remove { name }) => {
            tell(ctl, &post("/events/remove", &json!({"name": name}))?, show::events)
        }
        Planning::Event(Event::Add(event)) => {
            let kind = match &event.like {
                Some(like) => kind_of(&get("/events")?, like)?,
                None => event.kind.clone(),
            };
            let announced = event.announced.map(|seconds| seconds.div_euclid(HOUR_SECONDS));
            let order = json!({
                "name": event.name, "kind": kind, "entities": event.entities,
                "from": event.from.div_euclid(HOUR_SECONDS), "to": (event.to + HOUR_SECONDS - 1).div_euclid(HOUR_SECONDS),
                "announced": announced, "factor": event.factor,
            });
            tell(ctl, &post("/events", &order)?, show::events)
        }
        Planning::Pause => tell(ctl, &post("/balancer", &json!({"paused": true}))?, show::fields),
        Planning::Resume => tell(ctl, &post("/balancer", &json!({"paused": false}))?, show::fields),
        Planning::Pin { name } => tell(ctl, &hold(name, Some("pinned"))?, show::fields),
        Planning::Exclude { name } => tell(ctl, &hold(name, Some("excluded"))?, show::fields),
        Planning::Release { name } => tell(ctl, &hold(name, None)?, show::fields),
        Planning::History(History::Import { file }) => {
            let rows = table::text(file)?;
            tell(ctl, &http::post_csv(&ctl.admin, "/history/import", &rows)?, show::fields)
        }
        Planning::History(History::Export) => {
            std::io::stdout().lock().write_all(http::get_text(&ctl.admin, "/history")?.as_bytes())?;
            Ok(Verdict::Sound)
        }
        Planning::Ledger => tell(ctl, &get("/ledger")?, show::ledger),
    }
}

/// The kind of the event of this name.
fn kind_of(events: &Value, like: &str) -> Result<String, Failure> {
    let all = events["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let event = all.iter().find(|event| event["name"] == like);
    let event = event
        .ok_or_else(|| Failure::told(format!("there is no event {like:?}: ctl event list shows them")))?;
    let kind = event["kind"].as_str().filter(|kind| !kind.is_empty());
    Ok(kind.unwrap_or(like).to_owned())
}

/// A chart, and what such forecasts were worth.
fn forecast(answer: &Value) -> String {
    let hours = |name: &str, field: &str| -> Vec<(i64, f64)> {
        let all = answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(|one| Some((one["hour"].as_i64()?, one[field].as_f64()?))).collect()
    };
    let ahead = |field| hours("forecast", field).into_iter().map(|one| one.1).collect::<Vec<f64>>();
    let band = |low, high| ahead(low).into_iter().zip(ahead(high)).collect();
    let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let marks = events.iter().filter_map(|event| {
        Some((event["name"].as_str()?.to_owned(), event["from"].as_i64()?, event["to"].as_i64()?))
    });
    let picture = Picture::of_answer(Answer {
        title: format!("{}, requests a second", answer["entity"].as_str().unwrap_or_default()),
        origin: answer["hour"].as_i64().unwrap_or_default(),
        was: hours("history", "value"),
        median: ahead("q50"),
        bands: [band("q025", "q975"), band("q10", "q90")],
        marks: marks.collect(),
    });
    let record = &answer["record"];
    let mut text = picture.terminal();
    let _infallible = write!(text, "model {}", answer["model"].as_str().unwrap_or_default());
    if let Some(ratio) = record["ratio"].as_f64() {
        let inside = 100.0 * record["inside_80"].as_f64().unwrap_or_default();
        let _infallible = write!(
            text,
            "; 6 hours ahead its error is {ratio:.2} of the day before's, {inside:.0} % within the inner 80 %"
        );
    }
    text + "\n"
}

/// Why a partition counts as less than it was.
fn slowed(answer: &Value) -> String {
    let (plan, shard) = (&answer["plan"], &answer["shard"]);
    let ms = |value: &Value| value.as_f64().map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    let delay = |what: &str, name: &str| {
        format!("{what} {}, usually {}", ms(&shard[name]["now_ms"]), ms(&shard[name]["usual_ms"]))
    };
    format!(
        "its partition counts as {:.0} % of what it was, {:.0} requests/s: shard {} is slow ({}; {})\n",
        100.0 * plan["capacity_share"].as_f64().unwrap_or_default(),
        plan["capacity"].as_f64().unwrap_or_default(),
        shard["shard"],
        delay("a flush of its log takes", "log"),
        delay("a question waits", "queue"),
    )
}

/// Whom an entity is named together with.
fn named_together(plan: &Value) -> String {
    let together = plan["together"].as_array().map(Vec::as_slice).unwrap_or_default();
    if together.is_empty() {
        return String::new();
    }
    let one = |one: &Value| {
        let share = 100.0 * one["share"].as_f64().unwrap_or_default();
        let name = one["entity"].as_str().unwrap_or_default();
        format!("{name} ({share:.0} %, in partition {})", one["partition"])
    };
    let all: Vec<String> = together.iter().map(one).collect();
    format!("named together with {}\n", all.join(", "))
}

/// Where it goes and why, or why it stays.
fn verdict(verdict: &Value) -> String {
    let mut text = String::new();
    if verdict["kind"] == "joining" {
        let with = verdict["with"].as_array().map(Vec::as_slice).unwrap_or_default();
        let with: Vec<&str> = with.iter().filter_map(Value::as_str).collect();
        let _infallible = writeln!(
            text,
            "moves to partition {}: it joins {}, by {:.2} shares of its commands more than it has here",
            verdict["to"],
            with.join(", "),
            verdict["gain"].as_f64().unwrap_or_default(),
        );
    } else if verdict["kind"] == "homeward" {
        let _infallible =
            writeln!(text, "moves to partition {}: its home has room for it again", verdict["to"]);
    } else if verdict["moves"] == true {
        let part = |name: &str| verdict[name].as_f64().unwrap_or_default();
        let _infallible = writeln!(
            text,
            "moves to partition {}: score {:.3} (avoids {:.3} overloaded hours, costs {:.3}; target scores {:.2}), \
             from hour {} on, before hour {}",
            verdict["to"],
            part("score"),
            part("avoided"),
            part("cost"),
            part("target_score"),
            verdict["begin_hour"],
            verdict["peak_hour"],
        );
    } else if let Some(why) = verdict["why"].as_str() {
        let _infallible = writeln!(text, "stays: {why}");
    }
    text
}

fn explain(answer: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |number| format!("{number:.1}"));
    let mut text = format!(
        "{}: in partition {}, at home in {}; {} requests/s now\n",
        answer["entity"].as_str().unwrap_or_default(),
        answer["partition"],
        answer["home"],
        number(&answer["load"]),
    );
    if let Some(held) = answer["held"].as_str() {
        let _infallible = writeln!(text, "held by an operator: {held}");
    }
    if answer["forecast"].is_object() {
        text += &forecast(&answer["forecast"]);
    }
    let plan = &answer["plan"];
    if plan.is_object() {
        let _infallible = writeln!(
            text,
            "plan of hour {}: peak of {} requests/s expected in hour {}; {} bytes to move; {} dependencies; threshold {}",
            plan["hour"],
            number(&plan["peak"]["load"]),
            plan["peak"]["hour"],
            plan["bytes"].as_f64().unwrap_or_default(),
            plan["dependencies"],
            plan["threshold"].as_f64().map_or("-".to_owned(), |score| format!("{score:.3}")),
        );
    }
    if plan["capacity_share"].as_f64().is_some_and(|share| share < 1.0) {
        text += &slowed(answer);
    }
    text += &named_together(plan);
    text += &verdict(&answer["verdict"]);
    if answer["moves"].as_array().is_some_and(|moves| !moves.is_empty()) {
        text += "its last moves\n";
        text += &show::ledger_moves(&answer["moves"]);
        for one in answer["moves"].as_array().into_iter().flatten() {
            let _infallible =
                writeln!(text, "move {}: {}", one["move"], one["reason"].as_str().unwrap_or_default());
        }
    }
    text
}
