//! What shards and partitions may do: `GET /capacity`, and `POST /capacity` to set one of them until the next start.

use std::time::Duration;

use foreshard_engine::Client;
use foreshard_engine::ids::PartitionId;
use foreshard_engine::shard::capacity::{CapacityStatus, Paced};
use foreshard_engine::table::Image;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::moves::{Refused, ask, read};

/// What is to be set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CapacityOrder {
    /// A partition, or a shard; neither: every partition that has no capacity of its own.
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    shard: Option<u16>,
    /// Cost units a second; 0: no limit.
    units: f64,
}

/// Sets one, on all shards.
///
/// # Errors
/// What is wrong with it, or why it is not done.
pub(super) async fn set(client: &Client, image: &Image, body: &[u8]) -> Result<Value, Refused> {
    let bad = |what: String| (StatusCode::BAD_REQUEST, what);
    let order: CapacityOrder = read(body)?;
    let shards: Vec<_> = client.shards().collect();
    match (order.partition, order.shard) {
        (Some(_), Some(_)) => return Err(bad("give a partition or a shard, and not both".to_owned())),
        (Some(id), None) if image.place_of(PartitionId(id)).is_none() => {
            return Err((StatusCode::NOT_FOUND, format!("there is no partition {id}")));
        }
        (None, Some(id)) if !shards.iter().any(|shard| shard.0 == id) => {
            return Err((StatusCode::NOT_FOUND, format!("there is no shard {id}")));
        }
        _ => {}
    }
    let Some(first) = shards.first() else { return Err(bad("there is no shard".to_owned())) };
    let mut set = ask(client, *first, |shard| Ok(shard.capacities())).await?;
    match (order.partition, order.shard) {
        (Some(id), _) => drop(set.partitions.insert(id, order.units)),
        (_, Some(id)) => drop(set.shards.insert(id, order.units)),
        (None, None) => set.partition = order.units,
    }
    set.check().map_err(|e| bad(e.to_string()))?;
    for shard in shards {
        let set = set.clone();
        ask(client, shard, move |shard| shard.set_capacities(set)).await?;
    }
    tracing::info!("capacities are set: {set:?}");
    tell(client).await
}

/// All of them.
///
/// # Errors
/// Where a shard does not answer.
pub(super) async fn tell(client: &Client) -> Result<Value, Refused> {
    let (mut shards, mut partitions) = (Vec::new(), Vec::new());
    for shard in client.shards() {
        let status = ask(client, shard, |shard| Ok(shard.capacity_status())).await?;
        shards.push(shard_json(shard.0, &status));
        partitions
            .extend(status.partitions.iter().map(|(id, paced)| (id.0, partition_json(id.0, shard.0, paced))));
    }
    partitions.sort_by_key(|(id, _)| *id);
    let partitions: Vec<Value> = partitions.into_iter().map(|(_, one)| one).collect();
    Ok(json!({"unit": "cost units a second", "shards": shards, "partitions": partitions}))
}

fn shard_json(id: u16, status: &CapacityStatus) -> Value {
    let totals = &status.totals;
    json!({
        "shard": id, "set": status.shard.set, "learnt": status.learnt, "unit_microseconds": status.factor, "waiting": status.shard.waiting,
        "spent": units(totals.spent), "spent_on_rows": units(totals.spent_on_rows), "paced": totals.paced,
        "paced_seconds": Duration::from_nanos(totals.paced_nanos).as_secs_f64(),
    })
}

fn partition_json(id: u32, shard: u16, paced: &Paced) -> Value {
    json!({"partition": id, "shard": shard, "set": paced.set, "waiting": paced.waiting})
}

#[expect(clippy::cast_precision_loss, reason = "a sum that is shown")]
fn units(milli_units: u64) -> f64 {
    milli_units as f64 / 1000.0
}
