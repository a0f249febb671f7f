//! What is where, what moves, and orders to move it: `GET /table`, `/entity`, `/partition`, `/moves`, `/capacity`, `POST
//! /move`, `/cancel`, `/capacity`, `/drill`.
//!
//! Orders are JSON objects; the same that protects `/backup` from web pages protects them.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshard_engine::ids::{MoveId, PartitionId, ShardId};
use foreshard_engine::shard::moves::progress::{MoveStatus, Phase};
use foreshard_engine::shard::moves::shadow::{ShadowPolicy, ShadowReport, Spread, Verdict};
use foreshard_engine::shard::moves::watch::{Course, Stretch};
use foreshard_engine::table::Image;
use foreshard_engine::{Client, Error, key};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{ANSWER_TIME_MAX, JSON, argument, capacity, drill, is_from_a_page};

/// An order is a line of text.
const ORDER_BYTES_MAX: usize = 16 << 10;
/// Guests that are told one by one; how many there are is told always.
const GUESTS_TOLD_MAX: usize = 1000;
/// An entity that moves while it is asked about is looked for again so often.
const LOOKS_MAX: usize = 3;

/// Why there is no answer.
pub(super) type Refused = (StatusCode, String);

/// What to move, and where to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveOrder {
    entity: String,
    /// A partition; none: home.
    #[serde(default)]
    to: Option<u32>,
    /// To where its last move took it from.
    #[serde(default)]
    back: bool,
    /// `always`, `never` or `above:SIZE`; none: as the node is set.
    #[serde(default)]
    shadow: Option<String>,
}

/// Which move, or change of partitions, is to be cancelled.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelOrder {
    pub(super) id: u64,
}

/// What a client asks to be done.
///
/// # Errors
/// What is wrong with it, or why it is not done.
pub(super) async fn order(client: &Client, request: Request<Incoming>) -> Result<Value, Refused> {
    let path = request.uri().path().to_owned();
    let body = body_of(request).await?;
    if path == "/capacity" {
        return capacity::set(client, &*image(client).await?, &body).await;
    }
    if path == "/drill" {
        return drill::order(client, &body).await;
    }
    if path == "/move" {
        let order: MoveOrder = read(&body)?;
        if order.back && order.to.is_some() {
            return Err((StatusCode::BAD_REQUEST, "give a partition or \"back\", and not both".to_owned()));
        }
        let entity = order.entity.into_bytes();
        let to = if order.back { Some(back(client, &entity).await?) } else { order.to.map(PartitionId) };
        let bad = |e| (StatusCode::BAD_REQUEST, format!("shadow: {e}"));
        let policy: Option<ShadowPolicy> = order.shadow.map(|text| text.parse()).transpose().map_err(bad)?;
        let begin = client.on(ShardId(0), move |shard| async move {
            match policy {
                Some(policy) => shard.begin_move_with(&entity, to, policy).await,
                None => shard.begin_move(&entity, to).await,
            }
        });
        let id = begin.await.map_err(refused)?;
        return Ok(json!({"move": id.0}));
    }
    let id = MoveId(read::<CancelOrder>(&body)?.id);
    for shard in client.shards() {
        if ask(client, shard, move |shard| Ok(shard.cancel_move(id))).await? {
            return Ok(json!({"move": id.0, "cancelled": true}));
        }
    }
    let known = moves(client).await?.into_iter().find(|status| status.id == id);
    Err(match known {
        Some(status) => (
            StatusCode::CONFLICT,
            format!("move {id} is not to be cancelled any more: {}", status.phase.name()),
        ),
        None => (StatusCode::NOT_FOUND, format!("there is no move {id}")),
    })
}

/// The text of an order that no web page has sent.
///
/// # Errors
/// That one has, or that it is too long.
pub(super) async fn body_of(request: Request<Incoming>) -> Result<bytes::Bytes, Refused> {
    if is_from_a_page(request.headers()) {
        return Err((StatusCode::FORBIDDEN, format!("send Content-Type: {JSON}, and no Origin")));
    }
    let body = Limited::new(request.into_body(), ORDER_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))
}

/// What the text of an order says.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))
}

/// What a client asks to be told.
///
/// # Errors
/// What is wrong with the question.
pub(super) async fn tell(client: &Client, path: &str, query: &str) -> Result<Value, Refused> {
    match path {
        "/table" => {
            let image = image(client).await?;
            Ok(table_json(&image))
        }
        "/moves" => {
            if !query.is_empty() {
                let id = String::from_utf8(given(query, "move")?).ok().and_then(|id| id.parse().ok());
                let id = MoveId(id.ok_or((StatusCode::BAD_REQUEST, "move: its number".to_owned()))?);
                return Ok(json!({ "moves": one_move(client, id).await?.into_iter().collect::<Vec<_>>() }));
            }
            let courses = courses(client).await?;
            let told = |status: &MoveStatus| move_json(status, courses.get(&status.id));
            let moves: Vec<Value> = moves(client).await?.iter().map(told).collect();
            Ok(json!({ "moves": moves }))
        }
        "/capacity" => capacity::tell(client).await,
        "/entity" => entity(client, &given(query, "name")?).await,
        _ => {
            let id = String::from_utf8(given(query, "id")?).ok().and_then(|id| id.parse().ok());
            let id = id.ok_or((StatusCode::BAD_REQUEST, "id: the number of a partition".to_owned()))?;
            partition(client, PartitionId(id)).await
        }
    }
}

async fn entity(client: &Client, name: &[u8]) -> Result<Value, Refused> {
    let mut prefix = Vec::new();
    key::encode_entity(name, &mut prefix).map_err(refused)?;
    for _ in 0..LOOKS_MAX {
        let image = image(client).await?;
        let home = image.home_of(&prefix);
        let entity = name.to_vec();
        let status = ask(client, home.shard, move |shard| match shard.entity_status(&entity) {
            Err(Error::Moved { .. }) => Ok(None),
            status => status.map(Some),
        });
        let Some(status) = status.await? else { continue };
        let load = status.load;
        return Ok(json!({
            "entity": String::from_utf8_lossy(name),
            "partition": status.partition.0,
            "shard": home.shard.0,
            "home": image.home_by_range(key::RoutingKey::of(name)).partition.0,
            "is_guest": status.entry.0 > 0,
            "entry": status.entry.0,
            "score": Value::Null,
            "stored_bytes": status.stored_bytes,
            "reads_per_second": rate(load.lower.reads, status.counted),
            "writes_per_second": rate(load.lower.writes, status.counted),
            "counted_seconds": status.counted.as_secs_f64(),
        }));
    }
    Err((StatusCode::SERVICE_UNAVAILABLE, "the entity moves while it is looked for: ask again".to_owned()))
}

async fn partition(client: &Client, id: PartitionId) -> Result<Value, Refused> {
    let image = image(client).await?;
    let home = image.place_of(id).ok_or((StatusCode::NOT_FOUND, format!("there is no partition {id}")))?;
    let status = ask(client, home.shard, move |shard| shard.partition_status(id)).await?;
    let capacity = ask(client, home.shard, |shard| Ok(shard.capacity_status())).await?;
    let paced = capacity.partitions.iter().find(|(other, _)| *other == id).map(|(_, paced)| paced);
    let load = status.load;
    Ok(json!({
        "partition": id.0,
        "shard": home.shard.0,
        "hosts": ["this one"],
        "epoch": status.epoch.0,
        "start": home.start.0,
        "end": home.end.0,
        "guests": status.guests,
        "away": status.away,
        "capacity": paced.and_then(|paced| paced.set),
        "capacity_learnt": capacity.learnt / capacity.partitions.len().max(1) as f64,
        "waiting": paced.map(|paced| paced.waiting),
        "segment_bytes": status.segment_bytes,
        "memtable_bytes": status.memtable_bytes,
        "reads_per_second": rate(load.load.reads, status.counted),
        "writes_per_second": rate(load.load.writes, status.counted),
        "bytes_in_per_second": rate(load.load.bytes_in, status.counted),
        "bytes_out_per_second": rate(load.load.bytes_out, status.counted),
        "core_share": rate(load.load.service_nanos, status.counted) / 1e9,
        "errors": load.errors,
        "counted_seconds": status.counted.as_secs_f64(),
    }))
}

/// The moves of all shards, oldest first.
async fn moves(client: &Client) -> Result<Vec<MoveStatus>, Refused> {
    let mut all = Vec::new();
    for shard in client.shards() {
        all.extend(ask(client, shard, |shard| Ok(shard.moves())).await?);
    }
    all.sort_by_key(|status| status.id);
    Ok(all)
}

/// One move, as all of them are told: the last shard that has its course tells that.
async fn one_move(client: &Client, id: MoveId) -> Result<Option<Value>, Refused> {
    let (mut status, mut course) = (None, None);
    for shard in client.shards() {
        let (here, fared) =
            ask(client, shard, move |shard| Ok((shard.move_status(id), shard.course(id)))).await?;
        (status, course) = (status.or(here), fared.or(course));
    }
    Ok(status.map(|status| move_json(&status, course.as_ref())))
}

/// How entities fared: of each move, what the shard says that has watched it last.
async fn courses(client: &Client) -> Result<BTreeMap<MoveId, Course>, Refused> {
    let mut all: BTreeMap<MoveId, Course> = BTreeMap::new();
    for shard in client.shards() {
        all.extend(
            ask(client, shard, |shard| Ok(shard.courses())).await?.into_iter().map(|one| (one.id, one)),
        );
    }
    Ok(all)
}

/// Where the last move of an entity took it from, which is where the entity still is.
async fn back(client: &Client, entity: &[u8]) -> Result<PartitionId, Refused> {
    let name = entity.escape_ascii();
    let is_done = |status: &MoveStatus| status.entity == entity && status.phase == Phase::Done;
    let last = moves(client).await?.into_iter().rev().find(is_done).ok_or_else(|| {
        let what = format!("no move of entity \"{name}\" is remembered: give the partition it is to go to");
        (StatusCode::NOT_FOUND, what)
    })?;
    let mut prefix = Vec::new();
    key::encode_entity(entity, &mut prefix).map_err(refused)?;
    let at = image(client).await?.home_of(&prefix).partition;
    if at != last.to {
        let what = format!(
            "entity \"{name}\" is in partition {at}, and move {} took it to {}: give the partition it is to go to",
            last.id, last.to
        );
        return Err((StatusCode::CONFLICT, what));
    }
    Ok(last.from)
}

pub(super) async fn image(client: &Client) -> Result<std::sync::Arc<Image>, Refused> {
    ask(client, ShardId(0), |shard| Ok(shard.image())).await
}

/// Asks a shard something that it can tell at once.
pub(super) async fn ask<T: Send + 'static>(
    client: &Client,
    shard: ShardId,
    question: impl FnOnce(&foreshard_engine::Shard) -> Result<T, Error> + Send + 'static,
) -> Result<T, Refused> {
    let asked = client.on(shard, move |shard| async move { question(&shard) });
    match timeout(ANSWER_TIME_MAX, asked).await {
        Ok(answer) => answer.map_err(refused),
        Err(_elapsed) => {
            let what = format!("shard {}: no answer in {ANSWER_TIME_MAX:?}", shard.0);
            Err((StatusCode::SERVICE_UNAVAILABLE, what))
        }
    }
}

pub(super) fn refused(e: Error) -> Refused {
    let is_mistaken = matches!(e, Error::Misuse(_));
    let status = if is_mistaken { StatusCode::CONFLICT } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, e.to_string())
}

fn table_json(image: &Image) -> Value {
    let partitions = image.state().partitions.iter().map(|(id, entry)| {
        json!({
            "partition": id.0, "start": entry.placed.start.0, "end": entry.placed.end.0,
            "shard": entry.placed.shard.0, "epoch": entry.placed.epoch.0, "version": entry.version.0,
            "guests": image.guests_in(*id).count(),
        })
    });
    let guests = image.state().guests.iter().take(GUESTS_TOLD_MAX).map(|guest| {
        json!({
            "entity": String::from_utf8_lossy(&guest.entity()), "partition": guest.guest.partition.0,
            "version": guest.guest.version.0,
        })
    });
    let moves = image.open_moves().iter().map(|(id, open)| {
        json!({
            "move": id.0, "entity": String::from_utf8_lossy(&open.entity), "from": open.from.0, "to": open.to.0,
        })
    });
    json!({
        "version": image.version().0,
        "shards": image.state().shards,
        "partitions": partitions.collect::<Vec<_>>(),
        "guest_count": image.state().guests.len(),
        "guests": guests.collect::<Vec<_>>(),
        "open_moves": moves.collect::<Vec<_>>(),
    })
}

fn move_json(status: &MoveStatus, course: Option<&Course>) -> Value {
    json!({
        "move": status.id.0,
        "entity": String::from_utf8_lossy(&status.entity),
        "from": status.from.0,
        "to": status.to.0,
        "phase": status.phase.name(),
        "is_over": status.phase.is_over(),
        "base_rows": status.base_rows,
        "base_bytes": status.base_bytes,
        "linked_bytes": status.linked_bytes,
        "log_rows": status.log_rows,
        "log_bytes": status.log_bytes,
        "lag_bytes": status.lag_bytes,
        "bytes_per_second": status.bytes_per_second,
        "restarts": status.restarts,
        "began_ms": status.began_ms,
        "elapsed_seconds": status.elapsed.as_secs_f64(),
        "copying_after_seconds": status.copying_after.map(|after| after.as_secs_f64()),
        "fenced_after_seconds": status.fenced_after.map(|after| after.as_secs_f64()),
        "pause_seconds": status.pause.map(|pause| pause.as_secs_f64()),
        "failure": status.failure,
        "shadow": status.shadow.as_ref().map(shadow_json),
        "course": course.map(course_json),
    })
}

fn course_json(course: &Course) -> Value {
    let stretch = |one: &Stretch| {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        json!({
            "operations": one.operations, "errors": one.errors, "mean_us": micros(one.mean), "p50_us": micros(one.p50),
            "p99_us": micros(one.p99), "max_us": micros(one.max),
        })
    };
    json!({
        "before": stretch(&course.before),
        "during": stretch(&course.during),
        "after": stretch(&course.after),
        "watched_seconds": course.watched.as_secs_f64(),
        "is_watched": course.is_watched,
        "regression": course.regression,
    })
}

fn shadow_json(report: &ShadowReport) -> Value {
    let spread = |one: &Spread| json!({"count": one.count, "mean": one.mean, "p50": one.p50, "p90": one.p90, "p99": one.p99, "max": one.max});
    json!({
        "verdict": report.verdict.map(Verdict::name),
        "reason": report.reason,
        "elapsed_seconds": report.elapsed.as_secs_f64(),
        "share": f64::from(report.share_ppm) / 1e6,
        "reads": report.reads,
        "mirrored": report.mirrored,
        "dropped": report.dropped,
        "equal": report.equal,
        "later": report.later,
        "differing": report.differing,
        "source_nanos": spread(&report.source),
        "shadow_nanos": spread(&report.shadow),
        "source_per_second": spread(&report.source_rate),
        "shadow_per_second": spread(&report.shadow_rate),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(count: u64, counted: Duration) -> f64 {
    count as f64 / counted.as_secs_f64().max(1e-9)
}

/// An argument that there has to be.
fn given(query: &str, name: &str) -> Result<Vec<u8>, Refused> {
    argument(query, name).ok_or_else(|| {
        (StatusCode::BAD_REQUEST, format!("give {name}=, with other bytes than letters as %xx"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_they_were_meant_and_broken_ones_refused() {
        let name = |query: &str| given(query, "name").ok();
        assert_eq!(name("id=1&name=a%3ab+c"), Some(b"a:b c".to_vec()));
        assert_eq!(name("name=%00%ff"), Some(vec![0, 255]));
        for broken in ["", "name=", "name", "name=%f", "name=%zz", "names=a"] {
            assert_eq!(name(broken), None, "{broken}");
        }
    }
}
