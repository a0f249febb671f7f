//! `foreshard backup` and `foreshard restore`.
//!
//! The engine takes backups and makes stores of them; here it is decided who runs it: this process, on a store that
//! nobody has open, or a node, asked through its admin endpoint (`remote`).

mod options;
mod remote;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use foreshard_engine::backup::{self, Directory, Progress, Request};
use foreshard_engine::io::ring::{RingConfig, RingRuntime};
use foreshard_engine::{Error, Options, Store, block_on};
use foreshard_net::admin::summary_json;
use serde_json::{Value, json};

pub(crate) use self::options::{Backup, Restore};
use crate::Verdict;
use crate::shell::Failure;
use crate::text::{bytes, count};

/// Short commands say nothing; long ones something this often.
const PERIOD: Duration = Duration::from_secs(2);

/// Takes a backup, or shows which there are.
pub(crate) fn run(options: &Backup) -> Result<Verdict, Failure> {
    if options.list {
        return list(options);
    }
    let told = match (&options.admin, &options.data) {
        (Some(admin), _) => remote::back_up(admin, options)?,
        (None, Some(data)) => match of_closed(data, options) {
            Ok(told) => told,
            Err(e) => return damaged_or(e),
        },
        (None, None) => unreachable!("clap has one of them given"),
    };
    tell(options.json, &told, &words(&told, &options.to))
}

/// Makes a store of a backup.
pub(crate) fn restore(options: &Restore) -> Result<Verdict, Failure> {
    let restored = (|| {
        let _lock = backup::lock(&options.data)?;
        let restore = backup::restore::Restore {
            from: options.from.clone(),
            number: options.backup,
            to: options.data.clone(),
            name: foreshard_engine::store::random_id()?,
            limit: options.limit.unwrap_or(0),
        };
        let ring = RingRuntime::new(&RingConfig::default())?;
        let progress = Arc::new(Progress::default());
        let (disk, runtime) = (ring.disk(), ring.runtime());
        watched(&progress, || ring.run(restore.run(&disk, &runtime, &progress)))
    })();
    let record = match restored {
        Ok(record) => record,
        Err(e) => return damaged_or(e),
    };
    let told = json!({
        "type": "restore", "backup": record.number, "created_ms": record.created_ms,
        "partitions": record.partitions.len(), "segments": record.segments(), "bytes": record.bytes(),
        "data": options.data.display().to_string(),
    });
    let text = format!(
        "backup {} restored into {}: {} in {}",
        record.number,
        options.data.display(),
        bytes(record.bytes()),
        count(record.segments(), "segment")
    );
    tell(options.json, &told, &text)
}

/// A backup of a store that this process opens for it.
fn of_closed(data: &Path, options: &Backup) -> Result<Value, Error> {
    if !data.join("SUPER").exists() {
        return Err(Error::misuse(format!("{}: no store is here", data.display())));
    }
    let _lock = backup::lock(&options.to)?;
    let store = Store::open(data, Options::default())?;
    let client = store.client()?;
    let request = Request {
        to: options.to.clone(),
        limit: options.limit.unwrap_or(0),
        link: options.link,
        keep: options.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX)),
    };
    let progress = Arc::new(Progress::default());
    let summary = watched(&progress, || block_on(client.back_up(request, Arc::clone(&progress))));
    drop(client);
    let closed = store.close();
    let summary = summary?;
    closed?;
    Ok(summary_json(&summary))
}

fn list(options: &Backup) -> Result<Verdict, Failure> {
    let ring = RingRuntime::new(&RingConfig::default())?;
    let directory = Directory::new(&ring.disk(), &options.to);
    ring.run(async {
        for number in directory.numbers().await? {
            let record = match directory.read(Some(number)).await {
                Ok(record) => record,
                Err(e) => return damaged_or(e),
            };
            let told = json!({
                "type": "backup", "backup": number, "created_ms": record.created_ms,
                "partitions": record.partitions.len(), "segments": record.segments(), "bytes": record.bytes(),
            });
            let text = format!(
                "backup {number}: {} in {}, taken {} ms after 1970",
                bytes(record.bytes()),
                count(record.segments(), "segment"),
                record.created_ms
            );
            tell(options.json, &told, &text)?;
        }
        Ok(Verdict::Sound)
    })
}

/// Runs `work`, and says how far it is now and then.
fn watched<T>(progress: &Arc<Progress>, work: impl FnOnce() -> T) -> T {
    let (ended, waiting) = channel::<()>();
    let watched = Arc::clone(progress);
    let watcher = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
        while waiting.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            say_progress(watched.bytes_done(), watched.bytes_total());
        }
    });
    let result = work();
    drop(ended);
    if let Ok(watcher) = watcher {
        // It says things and does nothing else.
        let _panicked = watcher.join();
    }
    result
}

fn say_progress(done: u64, total: u64) {
    // Progress that nobody can see is no failure.
    let _unheard = writeln!(std::io::stderr(), "foreshard: {} of {} copied", bytes(done), bytes(total));
}

/// A backup's summary in words.
fn words(told: &Value, to: &Path) -> String {
    let number = |name: &str| told[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "backup {} in {}: {} in {}, of them {} new, {} copied; writers waited {} us",
        number("backup"),
        to.display(),
        bytes(number("bytes")),
        count(number("segments"), "segment"),
        number("segments_new"),
        bytes(number("bytes_copied")),
        number("pause_micros")
    );
    let removed = told["removed"].as_array().map_or(0, Vec::len);
    if removed > 0 {
        text += &format!("; {} removed", count(removed as u64, "older backup"));
    }
    if let Some(why) = told["untidy"].as_str() {
        text += &format!("; what no backup needs any more was not removed: {why}");
    }
    text
}

fn tell(is_json: bool, told: &Value, text: &str) -> Result<Verdict, Failure> {
    let mut out = std::io::stdout().lock();
    if is_json {
        writeln!(out, "{told}")?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(Verdict::Sound)
}

/// Damage is a verdict; everything else keeps the command from having one.
fn damaged_or(e: Error) -> Result<Verdict, Failure> {
    if let Error::Corrupt(what) = &e {
        // Nothing is left to tell it to when stderr is closed too.
        let _unheard = writeln!(std::io::stderr(), "foreshard: {what}");
        return Ok(Verdict::Damaged);
    }
    Err(e.into())
}
