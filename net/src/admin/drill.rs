//! What goes wrong on purpose, to see beforehand what that does to a node: `POST /drill`. It ends with the node.

use std::time::Duration;

use foreshard_engine::Client;
use foreshard_engine::ids::ShardId;
use foreshard_engine::wal::LOG_DELAY_MAX;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::moves::{Refused, ask, read};

/// What is to go wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillOrder {
    shard: u16,
    /// So much longer each flush of its log takes, ms; 0: as long as the device does.
    log_delay_ms: u64,
}

/// Has it go wrong.
///
/// # Errors
/// What is wrong with the order, or why it is not done.
pub(super) async fn order(client: &Client, body: &[u8]) -> Result<Value, Refused> {
    let order: DrillOrder = read(body)?;
    let delay = Duration::from_millis(order.log_delay_ms);
    if !client.shards().any(|shard| shard.0 == order.shard) {
        return Err((StatusCode::NOT_FOUND, format!("there is no shard {}", order.shard)));
    }
    if delay > LOG_DELAY_MAX {
        return Err((StatusCode::BAD_REQUEST, format!("log_delay_ms: at most {LOG_DELAY_MAX:?}")));
    }
    ask(client, ShardId(order.shard), move |shard| {
        shard.delay_log(delay);
        Ok(())
    })
    .await?;
    tracing::warn!("a drill: flushes of the log of shard {} take {delay:?} longer", order.shard);
    Ok(json!({"shard": order.shard, "log_delay_ms": order.log_delay_ms}))
}
