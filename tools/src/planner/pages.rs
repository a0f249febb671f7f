//! What a planner tells, and what it is told: pages of the admin endpoint, in JSON.
//!
//! Loads are requests a second, times Unix hours. Whoever asks waits for the planner's turn, which a plan may take.

use foreshard_engine::ids::{PartitionId, ShardId};
use foreshard_engine::key::RoutingKey;
use foreshard_forecast::Series;
use foreshard_forecast::store::{EntityId, Metric};
use foreshard_net::{Question, Said};
use foreshard_placement::delay::Delay;
use foreshard_placement::forecasts::{Forecasts, HORIZON, Subject};
use foreshard_placement::growth::Growth;
use foreshard_placement::history::Counted;
use foreshard_placement::ledger::{Entry, Record, Why};
use foreshard_placement::situation::Band;
use foreshard_placement::{Fate, Kept, Snapshot};
use serde::Deserialize;
use serde_json::{Value, json};

use super::capacity::Answers;
use super::growth::Change;
use super::made::{Basis, Made};
use super::memory::{Held, Named};
use super::mind::{Mind, entity_of};
use super::orders::why_text;

/// All pages.
pub(super) const PATHS: &[&str] = &[
    "/planner",
    "/outlook",
    "/plan",
    "/forecast",
    "/explain",
    "/events",
    "/events/remove",
    "/balancer",
    "/hold",
    "/history",
    "/history/import",
    "/ledger",
];
/// Hours of history that are told with an outlook or a forecast.
const HOURS_TOLD: i64 = 48;
/// Moves that the ledger tells.
const MOVES_TOLD: usize = 100;
/// Those named together with an entity that are told: the strongest ties.
const TOGETHER_TOLD: usize = 5;
/// Entities that stay whose reasons a plan tells; the others are asked for one by one.
const KEPT_TOLD: usize = 200;

/// Answers a question.
pub(super) fn answer(mind: &mut Mind, question: Question) {
    let said = match (question.is_order, question.path.as_str()) {
        (false, "/planner") => Ok(about(mind)),
        (false, "/outlook") => outlook(mind),
        (false, "/plan") => mind.made.as_ref().map(|made| plan(mind, made)).ok_or(NO_PLAN.to_owned()),
        (true, "/plan") => order::<Order>(&question).and_then(|order| make(mind, order.dry_run)),
        (false, "/forecast") => entity(mind, &question).and_then(|entity| forecast(mind, entity)),
        (false, "/explain") => entity(mind, &question).and_then(|entity| explain(mind, entity)),
        (false, "/events") => Ok(json!({"events": mind.memory.events.values().collect::<Vec<_>>()})),
        (true, "/events") => order::<Named>(&question).and_then(|event| {
            let hour = mind.history.hour();
            mind.memory.add(event, hour)?;
            mind.keep_memory()?;
            Ok(told(mind))
        }),
        (true, "/events/remove") => order::<Name>(&question).and_then(|Name { name }| {
            mind.memory.events.remove(&name).ok_or(format!("there is no event {name:?}"))?;
            mind.keep_memory()?;
            Ok(told(mind))
        }),
        (true, "/balancer") => order::<Balancer>(&question).and_then(|Balancer { paused }| {
            mind.memory.paused = paused;
            mind.keep_memory()?;
            Ok(about(mind))
        }),
        (true, "/hold") => order::<Hold>(&question).and_then(|Hold { entity, hold }| {
            mind.memory.hold(&entity, hold)?;
            mind.keep_memory()?;
            Ok(json!({"entity": entity, "hold": hold}))
        }),
        (true, "/history/import") => import(mind, &question),
        (false, "/ledger") => Ok(ledger(mind)),
        (false, "/history") => {
            question.answer(Said::Text("text/csv; charset=utf-8", history(mind)));
            return;
        }
        _ => Err(format!("{} is not for that: GET tells, POST orders", question.path)),
    };
    question.answer(match said {
        Ok(value) => Said::Json(value),
        Err(why) if why.starts_with(UNKNOWN) => Said::Unknown(why),
        Err(why) => Said::Refused(why),
    });
}

const NO_PLAN: &str = "no hour has ended yet: ask for a plan (POST /plan), or wait for it";
const UNKNOWN: &str = "nothing is known of";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Order {
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balancer {
    paused: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    entity: String,
    hold: Option<Held>,
}

fn order<T: for<'a> Deserialize<'a>>(question: &Question) -> Result<T, String> {
    serde_json::from_slice(&question.body).map_err(|e| e.to_string())
}

/// The entity that a question names.
fn entity(mind: &Mind, question: &Question) -> Result<EntityId, String> {
    let name = foreshard_net::argument(&question.query, "entity")
        .ok_or("give entity=, with other bytes than letters as %xx")?;
    let entity = entity_of(&name);
    match mind.history.name(entity) {
        Some(_) => Ok(entity),
        None => Err(format!("{UNKNOWN} {:?}: it was not asked for lately", String::from_utf8_lossy(&name))),
    }
}

fn about(mind: &Mind) -> Value {
    let (tracked, hourly) = mind.history.tracked();
    let last = mind.made.as_ref().map(|made| {
        json!({"hour": made.hour, "took_ms": made.took.as_millis(), "moves": made.plan.moves.len(), "homeward": made.homeward.len()})
    });
    json!({
        "paused": mind.memory.paused,
        "hour": mind.history.hour(),
        "hour_ms": mind.hours.length().as_millis(),
        "now": mind.hours.now(),
        "tracked": tracked,
        "hourly": hourly,
        "events": mind.memory.events.len(),
        "held": mind.memory.held.len(),
        "open_moves": mind.ledger.open().count(),
        "last_plan": last,
        "slow_shards": mind.answers().filter(|(_, answers)| answers.share() < 1.0).map(answers_json).collect::<Vec<_>>(),
    })
}

/// Each partition's hours behind and ahead.
fn outlook(mind: &Mind) -> Result<Value, String> {
    let made = mind.made.as_ref().ok_or(NO_PLAN)?;
    let hour = mind.history.hour();
    let seconds = mind.counted_since.elapsed().as_secs_f64().max(0.001);
    let partitions = made.snapshot.partitions.iter().zip(&made.outlook).enumerate().map(|(index, (one, bands))| {
        let id = PartitionId(one.id);
        let shard = mind.image.place_of(id).map(|home| home.shard.0);
        json!({
            "id": one.id,
            "shard": shard,
            "capacity": mind.capacity(id),
            "capacity_share": mind.share(id),
            "load": mind.history.counted_of_partition(one.id).requests() / seconds,
            "history": past(mind, made, index, hour),
            "forecast": bands.iter().zip(made.hour..).map(|(band, hour)| band_json(band, hour)).collect::<Vec<_>>(),
        })
    });
    Ok(
        json!({"hour": hour, "unit": "requests/s", "planned_hour": made.hour, "partitions": partitions.collect::<Vec<_>>()}),
    )
}

/// What a partition had, and before anything was counted, what its entities had.
fn past(mind: &Mind, made: &Made, index: usize, hour: i64) -> Vec<Value> {
    let measured = mind.history.load(made.snapshot.partitions[index].id);
    let here: Vec<Series> = made
        .placed
        .iter()
        .filter(|placed| placed.at == index)
        .filter_map(|placed| mind.history.requests(placed.entity))
        .collect();
    let load = |hour: i64| {
        let known = measured.and_then(|series| series.load(hour));
        known.unwrap_or_else(|| here.iter().filter_map(|series| series.load(hour)).sum())
    };
    (hour - HOURS_TOLD..hour).map(|hour| json!({"hour": hour, "load": load(hour)})).collect()
}

/// How a shard answers, and what that leaves of its capacity.
fn answers_json((shard, answers): (ShardId, &Answers)) -> Value {
    let ms = |seconds: Option<f64>| seconds.map(|seconds| 1000.0 * seconds);
    let delay = |delay: &Delay| json!({"now_ms": ms(delay.now()), "usual_ms": ms(delay.usual()), "share": delay.share()});
    json!({"shard": shard.0, "share": answers.share(), "queue": delay(&answers.queue), "log": delay(&answers.log)})
}

fn band_json(band: &Band, hour: i64) -> Value {
    json!({"hour": hour, "q10": band.q10, "q50": band.q50, "q90": band.q90, "p_over": band.over})
}

fn make(mind: &mut Mind, is_dry: bool) -> Result<Value, String> {
    mind.forecast();
    let made = mind.plan(Basis::Foretold)?;
    let told = plan(mind, &made);
    if !is_dry {
        mind.made = Some(made);
    }
    Ok(told)
}

fn name(mind: &Mind, entity: EntityId) -> String {
    mind.history.name(entity).map_or_else(String::new, |name| String::from_utf8_lossy(name).into_owned())
}

fn plan(mind: &Mind, made: &Made) -> Value {
    let ids = |index: usize| made.snapshot.partitions[index].id;
    let hours = |count: usize| made.hour + i64::try_from(count).unwrap_or(0);
    let sum = |after: bool| -> f64 {
        let of = |outlook: &foreshard_placement::Outlook| {
            if after { outlook.after.iter().sum::<f64>() } else { outlook.before.iter().sum() }
        };
        made.plan.outlook.iter().map(of).sum()
    };
    let moves = made.plan.moves.iter().map(|one| {
        json!({
            "entities": one.entities.iter().map(|&index| name(mind, made.placed[index].entity)).collect::<Vec<_>>(),
            "from": ids(one.from), "to": ids(one.to), "score": one.score, "avoided": one.avoided, "cost": one.cost,
            "target_score": one.target_score, "bytes": one.bytes, "begin_hour": hours(one.begin),
            "peak_hour": hours(one.needed),
        })
    });
    let homeward = made.homeward.iter().map(|&index| {
        let placed = &made.placed[index];
        json!({"entity": name(mind, placed.entity), "from": ids(placed.at), "to": ids(placed.home)})
    });
    let joining = made.joining.iter().map(|one| {
        let placed = &made.placed[one.entity];
        json!({"entity": name(mind, placed.entity), "from": ids(placed.at), "to": ids(one.to), "gain": one.gain})
    });
    let kept = made.plan.fates.iter().filter_map(|(index, fate)| match fate {
        Fate::Moves(_) => None,
        Fate::Stays(kept) => {
            Some(json!({"entity": name(mind, made.placed[*index].entity), "reason": kept_text(kept)}))
        }
    });
    json!({
        "hour": made.hour, "took_ms": made.took.as_millis(), "threshold": made.plan.threshold, "fullness": made.plan.fullness,
        "overloaded_hours_before": sum(false), "overloaded_hours_after": sum(true),
        "moves": moves.collect::<Vec<_>>(), "homeward": homeward.collect::<Vec<_>>(),
        "joining": joining.collect::<Vec<_>>(),
        "kept": kept.take(KEPT_TOLD).collect::<Vec<_>>(),
        "growth": made.growth.iter().map(|one| growth_json(mind, made, *one)).collect::<Vec<_>>(),
        "changes": mind.changes.iter().map(change_json).collect::<Vec<_>>(),
    })
}

fn growth_json(mind: &Mind, made: &Made, growth: Growth) -> Value {
    let id = |index: usize| made.snapshot.partitions[index].id;
    match growth {
        Growth::Split { partition, needed, overload } => json!({"what": "split", "partition": id(partition),
            "needed_hour": made.hour + i64::try_from(needed).unwrap_or(0), "overloaded_hours": overload}),
        Growth::Merge { into, from, busiest } => {
            json!({"what": "merge", "partition": id(into), "other": id(from), "busiest": busiest})
        }
        Growth::Alone { partition, entity } => json!({"what": "too much for any partition",
            "partition": id(partition), "entity": name(mind, made.placed[entity].entity)}),
    }
}

fn change_json(change: &Change) -> Value {
    let how = change.ended.unwrap_or("under way");
    json!({"change": change.id.0, "hour": change.hour, "why": change.why, "phase": how})
}

fn kept_text(kept: &Kept) -> String {
    use foreshard_placement::Hold;
    match kept {
        Kept::Held(Hold::Pinned) => "it is pinned".to_owned(),
        Kept::Held(Hold::Excluded) => "it is excluded from balancing".to_owned(),
        Kept::Held(Hold::Moving) => "it is moving".to_owned(),
        Kept::Held(Hold::Resting { until }) => format!("it moved lately, and rests until hour {until}"),
        Kept::NoTarget => "no other partition would be better off with it".to_owned(),
        Kept::TooLittle { avoided } => {
            format!("moving it avoids {avoided:.4} overloaded hours, less than a forecast can tell")
        }
        Kept::BelowThreshold { score } => format!("its score of {score:.3} is below the threshold"),
        Kept::Budget { score } => {
            format!("its score is {score:.3}, but other moves use up what one plan may move")
        }
        Kept::Relieved => {
            "others leave its partition, and what is left of the overload is too little".to_owned()
        }
    }
}

fn forecast(mind: &Mind, entity: EntityId) -> Result<Value, String> {
    let subject = Subject::Entity(entity);
    let who = name(mind, entity);
    let (paths, series) =
        mind.forecasts.paths(subject).zip(mind.history.requests(entity)).ok_or_else(|| {
            format!("{UNKNOWN} the hours of {who:?}: it has too little load for its hours to be kept")
        })?;
    let hour = mind.history.hour();
    let shape = Forecasts::shape();
    let ahead = (0..HORIZON).zip(hour..).map(|(index, hour)| {
        let at = |share| paths.quantile(index, share, shape);
        json!({"hour": hour, "q025": at(0.025), "q10": at(0.1), "q50": at(0.5), "q90": at(0.9), "q975": at(0.975)})
    });
    let behind = (hour - HOURS_TOLD..hour)
        .filter_map(|hour| series.load(hour).map(|load| json!({"hour": hour, "value": load})));
    let model = if mind.forecasts.is_demoted(subject) { "last days (its blend does worse)" } else { "auto" };
    Ok(json!({
        "entity": who, "hour": hour, "model": model,
        "history": behind.collect::<Vec<_>>(), "forecast": ahead.collect::<Vec<_>>(),
        "events": mind.memory.of(&who).collect::<Vec<_>>(), "record": record(&mind.ledger.record(subject)),
    }))
}

fn record(record: &Record) -> Value {
    json!({
        "hours": record.hours,
        "error": record.error / record.hours.max(1.0),
        "day_before_error": record.day_before_error / record.hours.max(1.0),
        "ratio": record.ratio(),
        "inside_80": (record.hours > 0.0).then(|| record.inside / record.hours),
    })
}

/// Everything about one entity: what it does, what is expected, and why it moves or does not.
fn explain(mind: &Mind, entity: EntityId) -> Result<Value, String> {
    let who = name(mind, entity);
    let seconds = mind.counted_since.elapsed().as_secs_f64().max(0.001);
    let at = mind.partition_of(entity).ok_or_else(|| format!("{UNKNOWN} {who:?}"))?;
    let home = mind.image.home_by_range(RoutingKey(entity.0)).partition;
    let moves = mind.ledger.moves().rev().filter(|entry| entry.entity == entity).take(5).map(move_json);
    let fate = mind.made.as_ref().map(|made| fate(mind, made, entity));
    let of_plan = |made: &Made| {
        let index = made.placed.iter().position(|placed| placed.entity == entity)?;
        Some(json!({"hour": made.hour, "threshold": made.plan.threshold, "bytes": made.placed[index].bytes,
            "peak": peak(&made.snapshot, index), "dependencies": made.snapshot.entities[index].dependencies,
            "capacity": made.snapshot.partitions[made.placed[index].at].capacity[0],
            "capacity_share": made.snapshot.partitions[made.placed[index].at].share,
            "together": together(mind, made, index)}))
    };
    Ok(json!({
        "entity": who, "partition": at.0, "home": home.0,
        "load": mind.history.counted(entity).requests() / seconds,
        "held": mind.memory.held.get(&who),
        "shard": mind.answers_of(at).map(answers_json),
        "forecast": forecast(mind, entity).ok(),
        "plan": mind.made.as_ref().and_then(of_plan),
        "verdict": fate,
        "moves": moves.collect::<Vec<_>>(),
    }))
}

/// The hour ahead in which an entity is expected to have most.
fn peak(snapshot: &Snapshot, index: usize) -> Value {
    let paths = &snapshot.entities[index].loads.0[0];
    let loads = (0..snapshot.shape.hours).map(|hour| (hour, paths.mean(hour, snapshot.shape)));
    let peak = loads.max_by(|a, b| a.1.total_cmp(&b.1));
    json!(
        peak.map(
            |(hour, load)| json!({"hour": snapshot.hour + i64::try_from(hour).unwrap_or(0), "load": load})
        )
    )
}

/// Those that an entity is named together with, and where they are, the strongest tie first.
fn together(mind: &Mind, made: &Made, index: usize) -> Vec<Value> {
    let pairs = made.snapshot.co_access.iter();
    let mut others: Vec<(f64, usize)> = pairs
        .filter_map(|pair| match (pair.a == index, pair.b == index) {
            (true, _) => Some((pair.share, pair.b)),
            (_, true) => Some((pair.share, pair.a)),
            _ => None,
        })
        .collect();
    others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let told = others.into_iter().take(TOGETHER_TOLD).map(|(share, other)| {
        let placed = &made.placed[other];
        let at = made.snapshot.partitions[placed.at].id;
        json!({"entity": name(mind, placed.entity), "partition": at, "share": share})
    });
    told.collect()
}

fn fate(mind: &Mind, made: &Made, entity: EntityId) -> Value {
    let id = |index: usize| made.snapshot.partitions[index].id;
    if let Some(joining) = made.joining.iter().find(|one| made.placed[one.entity].entity == entity) {
        let with = together(mind, made, joining.entity);
        let with: Vec<&Value> =
            with.iter().filter(|one| one["partition"] == id(joining.to)).map(|one| &one["entity"]).collect();
        return json!({"moves": true, "kind": "joining", "to": id(joining.to), "gain": joining.gain, "with": with});
    }
    if let Some(index) = made.homeward.iter().find(|index| made.placed[**index].entity == entity) {
        return json!({"moves": true, "kind": "homeward", "to": id(made.placed[*index].home)});
    }
    let found = made.plan.fates.iter().find(|(index, _)| made.placed[*index].entity == entity);
    match found {
        None => json!({"moves": false, "why": "its partition is not expected to be overloaded"}),
        Some((_, Fate::Stays(kept))) => json!({"moves": false, "why": kept_text(kept)}),
        Some((_, Fate::Moves(index))) => {
            let one = &made.plan.moves[*index];
            json!({"moves": true, "kind": "planned", "to": id(one.to), "score": one.score, "avoided": one.avoided,
                "cost": one.cost, "target_score": one.target_score,
                "begin_hour": made.hour + i64::try_from(one.begin).unwrap_or(0),
                "peak_hour": made.hour + i64::try_from(one.needed).unwrap_or(0)})
        }
    }
}

fn ledger(mind: &Mind) -> Value {
    let moves: Vec<Value> = mind.ledger.moves().rev().take(MOVES_TOLD).map(move_json).collect();
    let demoted = mind.forecasts.subjects().filter(|subject| mind.forecasts.is_demoted(*subject)).count();
    json!({
        "forecasts": record(&mind.ledger.all()),
        "demoted": demoted,
        "wasted": mind.ledger.wasted(),
        "moves": moves,
    })
}

fn move_json(entry: &Entry) -> Value {
    let (kind, score, peak) = match entry.why {
        Why::Planned { score, needed, .. } => ("planned", Some(score), Some(needed)),
        Why::Reactive => ("reactive", None, None),
        Why::Homeward => ("homeward", None, None),
        Why::Joining { gain } => ("joining", Some(gain), None),
        Why::Back { .. } => ("back", None, None),
    };
    let ended = entry.ended.as_ref();
    json!({
        "move": entry.id, "entity": String::from_utf8_lossy(&entry.name), "from": entry.from, "to": entry.to,
        "kind": kind, "score": score, "reason": why_text(&entry.why), "began": entry.began, "peak_hour": peak,
        "ended": ended.map(|ended| ended.at), "outcome": ended.map_or("under way", |ended| ended.how.as_str()),
        "bytes": ended.map(|ended| ended.bytes), "pause_ms": ended.map(|ended| 1000.0 * ended.pause),
        "worse": entry.worse, "judged": entry.judged.map(|judged| json!({
            "source": judged.source, "source_without": judged.source_without, "target": judged.target,
            "capacity": judged.capacity, "was_needed": judged.was_needed(),
        })),
    })
}

/// What changes with events: everything that is expected.
fn told(mind: &mut Mind) -> Value {
    mind.forecast();
    json!({"events": mind.memory.events.values().collect::<Vec<_>>()})
}

/// Rows of `time,entity,reads,writes`, the latter as requests a second.
fn import(mind: &mut Mind, question: &Question) -> Result<Value, String> {
    let rows = rows(&question.body)?;
    let named = rows.iter().map(|(name, hour, load)| (&name[..], entity_of(name), *hour, *load));
    let refused = mind.history.import(named);
    let rows = rows.len();
    mind.forecast();
    mind.keep_hours()?;
    let (tracked, hourly) = mind.history.tracked();
    Ok(json!({"rows": rows, "refused": refused, "tracked": tracked, "hourly": hourly}))
}

/// The rows of a file: name, hour, and what came a second.
pub(super) fn rows(text: &[u8]) -> Result<Vec<(Vec<u8>, i64, Counted)>, String> {
    let mut reader = csv::Reader::from_reader(text);
    let mut rows: Vec<(Vec<u8>, i64, Counted)> = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|e| e.to_string())?;
        if row.reads.is_none() && row.writes.is_none() {
            return Err("rows have neither reads nor writes, in operations a second".to_owned());
        }
        let (reads, writes) = (row.reads.unwrap_or(0.0), row.writes.unwrap_or(0.0));
        let is_load = |load: f64| load.is_finite() && load >= 0.0;
        if row.time % 3600 != 0 || row.entity.is_empty() || !is_load(reads) || !is_load(writes) {
            return Err(format!(
                "row {}: a time that is the start of an hour in Unix seconds, an entity, and loads that are not below 0",
                rows.len() + 1
            ));
        }
        let counted = Counted { reads, writes, ..Counted::default() };
        rows.push((row.entity.into_bytes(), row.time / 3600, counted));
    }
    Ok(rows)
}

#[derive(Deserialize)]
struct Row {
    time: i64,
    entity: String,
    #[serde(default, alias = "reads_per_s", alias = "reads_per_second")]
    reads: Option<f64>,
    #[serde(default, alias = "writes_per_s", alias = "writes_per_second")]
    writes: Option<f64>,
}

/// The kept hours, as they can be imported.
fn history(mind: &Mind) -> String {
    let mut rows = csv::Writer::from_writer(Vec::new());
    // Rows are as long as their header, and memory takes them.
    let _infallible = rows.write_record(["time", "entity", "reads", "writes"]);
    for entity in mind.history.entities() {
        let reads = mind.history.series(entity, Metric::Reads);
        let Some((reads, writes)) = reads.zip(mind.history.series(entity, Metric::Writes)) else { continue };
        let name = name(mind, entity);
        if name.is_empty() {
            continue;
        }
        for hour in reads.start()..reads.end() {
            if let (Some(read), Some(written)) = (reads.load(hour), writes.load(hour)) {
                let [time, read, written] =
                    [(hour * 3600).to_string(), format!("{read:.4}"), format!("{written:.4}")];
                let _infallible = rows.write_record([&time, &name, &read, &written]);
            }
        }
    }
    String::from_utf8_lossy(&rows.into_inner().unwrap_or_default()).into_owned()
}
