//! The entity-partition table's log: both files, which of them counts, and what the table says.
//!
//! What is torn and what is corrupt is the engine's `table::frame` to say; here nothing is cut.

use std::path::Path;

use foreshard_engine::Error;
use foreshard_engine::superblock::StoreId;
use foreshard_engine::table::frame::{Body, Chain, Found, Frame, Rest, choose, decode, read_chain};
use foreshard_engine::table::{Change, GuestRef, RESERVED_BYTES_MAX, State, paths};
use serde_json::{Value, json};

use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::text::count;

/// Whose table lies in `dir`, as the first whole frame in it says.
pub(crate) async fn identify(tools: &Tools, dir: &Path) -> Result<Option<StoreId>, Failure> {
    for path in paths(dir).iter().filter(|path| path.is_file()) {
        if let Found::Whole(frame, ..) = decode(&tools.read(path, RESERVED_BYTES_MAX as u64).await?) {
            return Ok(Some(frame.store));
        }
    }
    Ok(None)
}

/// Reads the table of `store` in `dir`, and shows it. None: it is damaged.
pub(crate) async fn survey(
    tools: &Tools,
    dir: &Path,
    store: StoreId,
    findings: &mut Findings,
    output: &mut Output,
) -> Result<Option<State>, Failure> {
    let paths = paths(dir);
    let mut files: Vec<(Chain, u64)> = Vec::new();
    for path in &paths {
        match read(tools, path, store, output).await? {
            Ok(file) => files.push(file),
            Err(error) => findings.add_error(&error, path),
        }
    }
    let [(first, first_bytes), (second, second_bytes)] = &files[..] else { return Ok(None) };
    let chosen = match choose([first, second]) {
        Ok(chosen) => chosen,
        Err((file, offset, what)) => {
            findings.add(Severity::Damaged, &paths[file], offset, what);
            return Ok(None);
        }
    };
    let (chain, spare) = if chosen == 0 { (first, second) } else { (second, first) };
    let lens = [*first_bytes, *second_bytes];
    if let Some(short) = lens.iter().position(|len| *len < chain.reserved_bytes) {
        let what =
            format!("{} bytes: a file of the table has at least {}", lens[short], chain.reserved_bytes);
        findings.add(Severity::Damaged, &paths[short], lens[short], what);
        return Ok(None);
    }
    if let Rest::Torn(what) = chain.rest {
        let what = format!("a change was being made when the store stopped: {what}");
        findings.add(Severity::Torn, &paths[chosen], chain.end, what);
    }
    if !spare.is_retired() {
        let what = "this file was being made, or given up, when the store stopped: the other one counts";
        findings.add(Severity::Torn, &paths[1 - chosen], 0, what);
    }
    if let Some(state) = &chain.state {
        show(state, &paths[chosen], output)?;
    }
    Ok(chain.state.clone())
}

/// One file's chain, its frames shown where everything is wanted, and the file's length.
async fn read(
    tools: &Tools,
    path: &Path,
    store: StoreId,
    output: &mut Output,
) -> Result<Result<(Chain, u64), Error>, Failure> {
    let bytes = match tools.read(path, RESERVED_BYTES_MAX as u64).await {
        Ok(bytes) => bytes,
        Err(error @ (Error::Corrupt(_) | Error::Io { .. })) => return Ok(Err(error)),
        Err(error) => return Err(error.into()),
    };
    let mut shown = Ok(());
    let chain = read_chain(&bytes, store, |offset, frame| {
        if shown.is_ok() {
            shown = output.detail("table_frame", || detail(path, offset, frame));
        }
    });
    shown?;
    Ok(Ok((chain, bytes.len() as u64)))
}

fn detail(path: &Path, offset: u64, frame: &Frame) -> (Value, String) {
    let (kind, what, mut value) = match &frame.body {
        Body::Snapshot(state, _) => {
            let partitions: Vec<u32> = state.partitions.keys().map(|id| id.0).collect();
            let (guests, moves) = (state.guests.len() as u64, state.moves.len() as u64);
            let what = of_partitions(&partitions, guests, moves);
            ("snapshot", what, json!({ "partitions": partitions, "guests": guests, "moves": moves }))
        }
        Body::Change(Change::Partitions(change)) => {
            let partitions: Vec<u32> = change.edits.iter().map(|(id, _)| id.0).collect();
            let guests = change.guests.len() as u64;
            let what = of_partitions(&partitions, guests, 0);
            ("change", what, json!({ "partitions": partitions, "guests": guests }))
        }
        Body::Change(Change::BeginMove(begin)) => {
            let entity = begin.entity.escape_ascii().to_string();
            let what = format!("move of \"{entity}\" from partition {} to {} begins", begin.from, begin.to);
            let value = json!({ "begins": entity, "from": begin.from.0, "to": begin.to.0 });
            ("change", what, value)
        }
        Body::Change(Change::CommitMove { id }) => {
            ("change", format!("move {id} is committed"), json!({ "commits": id.0 }))
        }
        Body::Change(Change::AbortMove { id }) => {
            ("change", format!("move {id} is aborted"), json!({ "aborts": id.0 }))
        }
        Body::Mark => ("mark", "all before it is durable".to_owned(), json!({})),
    };
    let text = format!("table {kind} {} in {} at offset {offset}: {what}", frame.version, path.display());
    value["file"] = json!(path.display().to_string());
    value["offset"] = json!(offset);
    value["kind"] = json!(kind);
    value["version"] = json!(frame.version.0);
    (value, text)
}

fn of_partitions(partitions: &[u32], guests: u64, moves: u64) -> String {
    let mut text = count(partitions.len() as u64, "partition");
    for (found, what) in [(guests, "guest"), (moves, "open move")] {
        if found > 0 {
            text += &format!(", {}", count(found, what));
        }
    }
    text
}

fn show(state: &State, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let mut text = format!(
        "table: {} at version {}: {} dealt out to {}, {}",
        path.display(),
        state.version,
        count(state.partitions.len() as u64, "partition"),
        count(u64::from(state.shards), "shard"),
        count(state.guests.len() as u64, "guest"),
    );
    let mut partitions = Vec::new();
    for (id, entry) in &state.partitions {
        let (placed, guests) = (entry.placed, state.guests.in_partition(*id).count() as u64);
        text += &format!(
            "\n  partition {id}: routing keys {:016x} to {:016x}, {}, shard {}, epoch {}, changed at version {}",
            placed.start.0,
            placed.end.0,
            count(guests, "guest"),
            placed.shard.0,
            placed.epoch,
            entry.version
        );
        partitions.push(json!({
            "partition": id.0, "start": placed.start.0, "end": placed.end.0, "guests": guests,
            "shard": placed.shard.0, "epoch": placed.epoch.0, "version": entry.version.0,
        }));
    }
    let mut moves = Vec::new();
    for (id, open) in &state.moves {
        let (entity, from, to) = (open.entity.escape_ascii().to_string(), open.from, open.to);
        text += &format!("\n  move {id}: of \"{entity}\" from partition {from} to {to}, not decided");
        moves.push(json!({ "move": id.0, "entity": entity, "from": from.0, "to": to.0 }));
    }
    let value = json!({
        "file": path.display().to_string(),
        "version": state.version.0,
        "shards": state.shards,
        "guests": state.guests.len(),
        "partitions": partitions,
        "moves": moves,
    });
    output.item("table", value, &text)?;
    for found in state.guests.iter() {
        output.detail("guest", || guest(&found))?;
    }
    Ok(())
}

fn guest(found: &GuestRef<'_>) -> (Value, String) {
    let (entity, guest) = (found.entity().escape_ascii().to_string(), found.guest);
    let text =
        format!("guest \"{entity}\" in partition {}, changed at version {}", guest.partition, guest.version);
    let value = json!({
        "entity": entity, "partition": guest.partition.0, "home": found.routing().0, "version": guest.version.0,
    });
    (value, text)
}
