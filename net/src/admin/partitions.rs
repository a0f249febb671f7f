//! Orders to split, merge and hand over partitions, and how far they are: `POST /split`, `/merge`, `/hand-over`,
//! `/cancel-change`, `GET /changes`, `/split-point`.
//!
//! Orders are JSON objects, protected as those of moves are.

use std::str::FromStr;

use foreshard_engine::Client;
use foreshard_engine::ids::{PartitionId, ReshapeId, ShardId};
use foreshard_engine::key::RoutingKey;
use foreshard_engine::shard::reshape::progress::{Order, ReshapeStatus};
use hyper::{Request, StatusCode, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json};

use super::argument;
use super::moves::{CancelOrder, Refused, ask, body_of, image, read, refused};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitOrder {
    partition: u32,
    /// The first routing key of the upper part; none: half of the load lies below.
    #[serde(default)]
    at: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MergeOrder {
    into: u32,
    from: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HandOverOrder {
    partition: u32,
    to: u16,
}

/// What a client asks to be done.
///
/// # Errors
/// What is wrong with it, or why it is not done.
pub(super) async fn order(client: &Client, request: Request<Incoming>) -> Result<Value, Refused> {
    let path = request.uri().path().to_owned();
    let body = body_of(request).await?;
    let order = match path.as_str() {
        "/split" => {
            let SplitOrder { partition, at } = read(&body)?;
            Order::Split { partition: PartitionId(partition), at: at.map(RoutingKey) }
        }
        "/merge" => {
            let MergeOrder { into, from } = read(&body)?;
            Order::Merge { into: PartitionId(into), from: PartitionId(from) }
        }
        "/hand-over" => {
            let HandOverOrder { partition, to } = read(&body)?;
            Order::HandOver { partition: PartitionId(partition), to: ShardId(to) }
        }
        _ => return cancel(client, ReshapeId(read::<CancelOrder>(&body)?.id)).await,
    };
    let begin = client.on(ShardId(0), move |shard| async move { shard.begin_reshape(order).await });
    let id = begin.await.map_err(refused)?;
    Ok(json!({ "change": id.0 }))
}

async fn cancel(client: &Client, id: ReshapeId) -> Result<Value, Refused> {
    for shard in client.shards() {
        if ask(client, shard, move |shard| Ok(shard.cancel_reshape(id))).await? {
            return Ok(json!({ "change": id.0, "cancelled": true }));
        }
    }
    let known = changes(client).await?.into_iter().find(|status| status.id == id);
    Err(match known {
        Some(status) => (
            StatusCode::CONFLICT,
            format!("change {id} is not to be cancelled any more: {}", status.phase.name()),
        ),
        None => (StatusCode::NOT_FOUND, format!("there is no change {id} of partitions")),
    })
}

/// What a client asks to be told.
///
/// # Errors
/// What is wrong with the question.
pub(super) async fn tell(client: &Client, path: &str, query: &str) -> Result<Value, Refused> {
    if path == "/changes" {
        let one: Option<u64> = number(query, "change");
        if one.is_none() && !query.is_empty() {
            return Err((StatusCode::BAD_REQUEST, "change: its number".to_owned()));
        }
        let all = changes(client).await?;
        let asked = all.iter().filter(|status| one.is_none_or(|id| status.id.0 == id));
        return Ok(json!({ "changes": asked.map(change_json).collect::<Vec<_>>() }));
    }
    let id = number(query, "id").map(PartitionId);
    let id = id.ok_or((StatusCode::BAD_REQUEST, "id: the number of a partition".to_owned()))?;
    let image = image(client).await?;
    let place = image.place_of(id).ok_or((StatusCode::NOT_FOUND, format!("there is no partition {id}")))?;
    let look = client.on(place.shard, move |shard| async move { shard.split_point(id, None).await });
    let point = look.await.map_err(refused)?;
    Ok(json!({
        "partition": id.0,
        "at": point.at.0,
        "by": if point.is_by_load { "load" } else { "bytes" },
        "below": point.weights[0],
        "above": point.weights[1],
        "guests_above": point.guests.len(),
    }))
}

fn number<T: FromStr>(query: &str, name: &str) -> Option<T> {
    String::from_utf8(argument(query, name)?).ok()?.parse().ok()
}

/// The changes of all shards, oldest first.
async fn changes(client: &Client) -> Result<Vec<ReshapeStatus>, Refused> {
    let mut all = Vec::new();
    for shard in client.shards() {
        all.extend(ask(client, shard, |shard| Ok(shard.reshapes())).await?);
    }
    all.sort_by_key(|status| status.id);
    Ok(all)
}

fn change_json(status: &ReshapeStatus) -> Value {
    let (kind, partition, other, to) = match status.order {
        Order::Split { partition, .. } => ("split", partition, status.made, None),
        Order::Merge { into, from } => ("merge", into, Some(from), None),
        Order::HandOver { partition, to } => ("hand-over", partition, None, Some(to)),
    };
    json!({
        "change": status.id.0,
        "kind": kind,
        "partition": partition.0,
        "other": other.map(|id| id.0),
        "to_shard": to.map(|shard| shard.0),
        "at": status.at.map(|at| at.0),
        "phase": status.phase.name(),
        "is_over": status.phase.is_over(),
        "linked_bytes": status.linked_bytes,
        "began_ms": status.began_ms,
        "elapsed_seconds": status.elapsed.as_secs_f64(),
        "pause_seconds": status.pause.map(|pause| pause.as_secs_f64()),
        "failure": status.failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_meant_and_broken_ones_refused() {
        let split = read::<SplitOrder>(br#"{"partition": 3, "at": 9223372036854775808}"#).unwrap();
        assert_eq!((split.partition, split.at), (3, Some(1 << 63)));
        assert!(read::<SplitOrder>(br#"{"partition": 3}"#).unwrap().at.is_none());
        for broken in [
            "",
            "{}",
            r#"{"partition": -1}"#,
            r#"{"partition": 3, "at": "x"}"#,
            r#"{"partition": 3, "to": 1}"#,
        ] {
            let (status, why) = read::<SplitOrder>(broken.as_bytes()).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(!why.is_empty(), "{broken}");
        }
        assert!(read::<HandOverOrder>(br#"{"partition": 3, "to": 65536}"#).is_err());
        assert!(read::<MergeOrder>(br#"{"into": 3, "from": 4, "and": 5}"#).is_err());
    }

    #[test]
    fn a_change_says_what_it_changes() {
        let status = ReshapeStatus {
            id: ReshapeId(7),
            order: Order::Split { partition: PartitionId(2), at: None },
            phase: foreshard_engine::shard::reshape::progress::Phase::Done,
            made: Some(PartitionId(9)),
            at: Some(RoutingKey(5)),
            linked_bytes: 1 << 30,
            began_ms: 1,
            elapsed: std::time::Duration::from_millis(1500),
            pause: None,
            failure: None,
        };
        let told = change_json(&status);
        assert_eq!(
            (&told["kind"], &told["partition"], &told["other"]),
            (&json!("split"), &json!(2), &json!(9))
        );
        assert_eq!(
            (&told["at"], &told["is_over"], &told["pause_seconds"]),
            (&json!(5), &json!(true), &Value::Null)
        );
    }
}
