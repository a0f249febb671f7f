//! `POST /backup`: a backup of the running node, told line by line.
//!
//! The body is a JSON object: `to`, `limit`, `keep`, `link` (see [`Order`]). The answer is lines of JSON: how far it is,
//! twice a second, and at last what came of it. A backup lives as long as its request: a client that goes away gives
//! it up.
//!
//! Who reaches the endpoint makes this process write files. So:
//! - nothing is written outside the directory that the node was started with for it; without one, nothing at all;
//! - a request that a web page may have sent (it has an `Origin`, or is no JSON) is refused;
//! - one backup at a time.

use std::cell::Cell;
use std::path::{Component, Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foreshard_engine::backup::{self, Progress, Summary};
use foreshard_engine::{Client, Result};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{JSON, is_from_a_page};

/// An order is a line of text.
const ORDER_BYTES_MAX: usize = 16 << 10;
/// How often it is told how far a backup is.
const PERIOD: Duration = Duration::from_millis(500);
/// Lines that the client has not taken; a client that takes none for longer than this many periods holds the backup up.
const LINES_MAX: usize = 16;

/// Where backups may go, and whether one is being taken.
#[derive(Debug)]
pub(super) struct Backups {
    root: Option<PathBuf>,
    busy: Cell<bool>,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    /// A directory in the node's directory for backups: a name, or the whole path.
    to: String,
    /// Bytes a second; 0: no bound.
    limit: u64,
    /// How many backups stay.
    keep: Option<usize>,
    /// Link segments instead of copying them.
    link: bool,
}

/// Lines of an answer, as they come.
#[derive(Debug)]
pub(super) struct Lines(mpsc::Receiver<Bytes>);

/// The one backup under way.
struct Turn(Rc<Backups>);

impl Backups {
    pub(super) const fn new(root: Option<PathBuf>) -> Self {
        Self { root, busy: Cell::new(false) }
    }

    /// Where an order's backup goes.
    fn target(&self, to: &str) -> Result<PathBuf, String> {
        let Some(root) = &self.root else {
            return Err(
                "this node was started without a directory for backups: give it --backups DIR, or `backups` \
                in its configuration"
                    .to_owned(),
            );
        };
        let path = Path::new(to);
        let inside = path.strip_prefix(root).unwrap_or(path);
        if inside.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!(
                "{to:?}: must be a name in {}, where this node's backups go",
                root.display()
            ));
        }
        Ok(root.join(inside))
    }
}

/// Begins a backup; or why not.
pub(super) async fn begin(
    client: &Rc<Client>,
    backups: &Rc<Backups>,
    request: Request<Incoming>,
) -> Result<Lines, (StatusCode, String)> {
    if is_from_a_page(request.headers()) {
        return Err((StatusCode::FORBIDDEN, format!("send Content-Type: {JSON}, and no Origin")));
    }
    let body = Limited::new(request.into_body(), ORDER_BYTES_MAX).collect().await;
    let body = body.map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?.to_bytes();
    let order: Order = serde_json::from_slice(&body).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?;
    let to = backups.target(&order.to).map_err(|why| (StatusCode::FORBIDDEN, why))?;
    if backups.busy.replace(true) {
        return Err((StatusCode::CONFLICT, "another backup is being taken".to_owned()));
    }
    let turn = Turn(Rc::clone(backups));
    let request = backup::Request { to, limit: order.limit, link: order.link, keep: order.keep };
    let (lines, told) = mpsc::channel(LINES_MAX);
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        take(&client, request, &lines).await;
        drop(turn);
    });
    Ok(Lines(told))
}

async fn take(client: &Client, request: backup::Request, lines: &mpsc::Sender<Bytes>) {
    let progress = Arc::new(Progress::default());
    let work = async {
        let to = request.to.clone();
        // Released when the backup has ended, however it does.
        let _lock = backup::lock(&to)?;
        tracing::info!("a backup goes to {}", to.display());
        client.back_up(request, Arc::clone(&progress)).await
    };
    let mut work = pin!(work);
    let mut periods = tokio::time::interval(PERIOD);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            () = lines.closed() => break Err(foreshard_engine::Error::misuse("its client went away")),
            _ = periods.tick() => {
                let so_far = json!({
                    "type": "progress", "bytes_done": progress.bytes_done(), "bytes_total": progress.bytes_total(),
                });
                // Full: the client is slow, and will be told later. Closed: seen above.
                let _later = lines.try_send(line(&so_far));
            }
        }
    };
    match &result {
        Ok(summary) => tracing::info!("backup {}: {} bytes copied", summary.number, summary.bytes_copied),
        Err(e) => tracing::warn!("no backup: {e}"),
    }
    let told = match result {
        Ok(summary) => summary_json(&summary),
        Err(e) => json!({"type": "error", "what": e.to_string()}),
    };
    // Nobody may listen any more.
    let _unheard = lines.send(line(&told)).await;
}

/// A backup's summary, as it is told.
#[must_use]
pub fn summary_json(summary: &Summary) -> Value {
    json!({
        "type": "backup", "backup": summary.number, "created_ms": summary.created_ms,
        "partitions": summary.partitions, "segments": summary.segments, "bytes": summary.bytes,
        "segments_new": summary.segments_new, "bytes_copied": summary.bytes_copied,
        "pause_micros": u64::try_from(summary.pause.as_micros()).unwrap_or(u64::MAX),
        "removed": summary.removed, "untidy": summary.untidy,
    })
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.set(false);
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_goes_nowhere_but_into_the_directory_for_backups() {
        let backups = Backups::new(Some(PathBuf::from("/srv/backups")));
        let goes = |to: &str| backups.target(to).ok();
        assert_eq!(goes("daily"), Some(PathBuf::from("/srv/backups/daily")));
        assert_eq!(goes("/srv/backups/daily"), Some(PathBuf::from("/srv/backups/daily")));
        assert_eq!(goes(""), Some(PathBuf::from("/srv/backups/")));
        for outside in ["/etc", "..", "daily/../../etc", "/srv/backups/../x", "/srv/backupsx", "./x"] {
            assert_eq!(goes(outside), None, "{outside}");
        }
        assert!(Backups::new(None).target("daily").unwrap_err().contains("--backups"));
    }
}
