//! A shard's log: its chain, what is in it, and where it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreshard_engine::Error;
use foreshard_engine::ids::{EditNumber, Index, PartitionId};
use foreshard_engine::io::buffer::AlignedBuf;
use foreshard_engine::io::disk::OpenMode;
use foreshard_engine::wal::format::{BLOCK_BYTES, BatchHeader, SlotHeader};
use foreshard_engine::wal::slots::file_number;
use foreshard_engine::wal::{Body, LogId, LogReader, Record, RowOp};
use serde_json::{Value, json};

use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::text;

/// What a log holds of one partition.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Records {
    pub(crate) records: u64,
    pub(crate) first: Index,
    pub(crate) last: Index,
}

/// What a log holds.
#[derive(Default, Debug)]
pub(crate) struct Log {
    pub(crate) partitions: BTreeMap<PartitionId, Records>,
    pub(crate) witnesses: BTreeMap<PartitionId, EditNumber>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) records: u64,
    /// It was read to an end that no damage made.
    pub(crate) is_whole: bool,
}

/// Whose log lies in `dir`, and the size of its files: as the headers of its files say, the latest incarnation's.
pub(crate) async fn identify(tools: &Tools, dir: &Path) -> Result<Option<(LogId, u64)>, Error> {
    let mut found: Option<(LogId, u64)> = None;
    for name in tools.list(dir).await? {
        if file_number(&name).is_none() {
            continue;
        }
        let file = tools.disk.open(&dir.join(&name), OpenMode::Read).await?;
        let (buf, read) = file.read_at(AlignedBuf::zeroed(2 * BLOCK_BYTES), 0).await;
        let bytes = buf.get(..read?).unwrap_or_default();
        let id = match SlotHeader::decode(bytes) {
            Ok(header) => Some((header.id, header.file_bytes)),
            Err(_) => match bytes.get(BLOCK_BYTES..).map(BatchHeader::decode) {
                Some(Ok(header)) => Some((header.id, file.size().await?)),
                Some(Err(_)) | None => None,
            },
        };
        found = found.into_iter().chain(id).max_by_key(|(id, _)| id.incarnation);
    }
    Ok(found)
}

/// Reads the log of `id` in `dir` as far as its chain is whole.
pub(crate) async fn survey(
    tools: &Tools,
    dir: &Path,
    (id, file_bytes): (LogId, u64),
    findings: &mut Findings,
    output: &mut Output,
) -> Result<Log, Failure> {
    let mut log = Log::default();
    let mut reader = match LogReader::salvage(&tools.disk, dir, id, file_bytes).await {
        Ok(reader) => reader,
        Err(error) => {
            findings.add_error(&error, dir);
            return Ok(log);
        }
    };
    let what = format!("reading the log {}", dir.display());
    log.is_whole = true;
    loop {
        let batch = match reader.next_batch().await {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => {
                findings.add_error(&error, dir);
                log.is_whole = false;
                break;
            }
        };
        let header = *batch.header();
        let (mut details, mut invalid) = (Vec::new(), None);
        for record in batch.records() {
            match record {
                Ok(record) => {
                    log.note(&record);
                    if output.dump {
                        details.push(describe(&record));
                    }
                }
                Err(what) => invalid = Some(what),
            }
        }
        tools.progress.step(&what, header.batch_bytes() as u64);
        let (path, offset) = (reader.place().0.to_path_buf(), header.lsn.0 % file_bytes);
        if let Some(what) = invalid {
            findings.add(Severity::Damaged, &path, offset, format!("batch {}: {what}", header.number));
        }
        show_batch(&header, &path, offset, details, output)?;
    }
    for loss in reader.losses() {
        findings.add(Severity::Damaged, &loss.path, loss.offset, &loss.what);
        log.is_whole = false;
    }
    if let Some(torn) = &reader.end().torn {
        let what = format!("the last batch was being written when the store stopped: {}", torn.what);
        findings.add(Severity::Torn, &torn.path, torn.offset, what);
    }
    log.files = reader.files().to_vec();
    log.show(&reader, dir, id, output)?;
    Ok(log)
}

impl Log {
    fn note(&mut self, record: &Record<'_>) {
        self.records += 1;
        if let Body::Witness(witnesses) = record.body {
            for (partition, edit) in witnesses.iter() {
                let known = self.witnesses.entry(partition).or_default();
                *known = edit.max(*known);
            }
            return;
        }
        let index = record.header.index;
        let of = self.partitions.entry(record.header.partition).or_default();
        of.first = if of.records == 0 { index } else { of.first.min(index) };
        of.last = of.last.max(index);
        of.records += 1;
    }

    fn show(&self, reader: &LogReader, dir: &Path, id: LogId, output: &mut Output) -> Result<(), Failure> {
        let end = reader.end();
        let (place, offset) = reader.place();
        let partitions = self.partitions.iter().map(|(id, of)| {
            json!({"partition": id.0, "records": of.records, "first_index": of.first.0, "last_index": of.last.0})
        });
        let witnesses = self.witnesses.iter().map(|(id, edit)| json!({"partition": id.0, "edit": edit.0}));
        let value = json!({
            "dir": dir.display().to_string(),
            "store": id.store.to_string(),
            "incarnation": id.incarnation.0,
            "shard": id.shard.0,
            "files": self.files.len(),
            "batches": end.batches,
            "bytes": end.bytes,
            "records": self.records,
            "whole": self.is_whole,
            "end_position": end.lsn.0,
            "end_file": place.display().to_string(),
            "end_offset": offset,
            "partitions": partitions.collect::<Vec<_>>(),
            "witnesses": witnesses.collect::<Vec<_>>(),
        });
        let mut text = format!(
            "log {}: {}, {} in {}, {} of {}; {} {} at offset {offset}",
            dir.display(),
            text::count(self.files.len() as u64, "file"),
            text::bytes(end.bytes),
            if end.batches == 1 { "1 batch".into() } else { format!("{} batches", end.batches) },
            text::count(self.records, "record"),
            text::count(self.partitions.len() as u64, "partition"),
            if self.is_whole { "ends in" } else { "whole up to" },
            place.display(),
        );
        for (id, of) in &self.partitions {
            text += &format!(
                "\n  partition {id}: {}, index {} to {}",
                text::count(of.records, "record"),
                of.first,
                of.last
            );
        }
        for (id, edit) in &self.witnesses {
            text += &format!("\n  witness: partition {id} has manifest edit {edit}");
        }
        output.item("log", value, &text)
    }
}

fn show_batch(
    header: &BatchHeader,
    path: &Path,
    offset: u64,
    records: Vec<(Value, String)>,
    output: &mut Output,
) -> Result<(), Failure> {
    output.detail("batch", || {
        let value = json!({
            "file": path.display().to_string(), "offset": offset, "number": header.number,
            "position": header.lsn.0, "durable": header.durable.0, "start": header.start.0,
            "bytes": header.batch_bytes(), "records": header.records,
        });
        let text = format!(
            "batch {} in {} at offset {offset}: {}, position {}, durable before {}, needed from {}",
            header.number,
            path.display(),
            text::count(u64::from(header.records), "record"),
            header.lsn,
            header.durable,
            header.start
        );
        (value, text)
    })?;
    for record in records {
        output.detail("record", || record)?;
    }
    Ok(())
}

fn describe(record: &Record<'_>) -> (Value, String) {
    let (what, rows): (String, Vec<_>) = match record.body {
        Body::Write(rows) => ("write".into(), rows.collect()),
        Body::Prepare { tx, rows, copy, .. } => {
            (format!("prepare{} {tx:?}", if copy { " (copy)" } else { "" }), rows.collect())
        }
        Body::Decide { tx, version, copy, .. } => {
            (format!("decide{} {tx:?} at version {version}", if copy { " (copy)" } else { "" }), Vec::new())
        }
        Body::Resolve { tx, outcome } => (format!("resolve {tx:?}: {outcome:?}"), Vec::new()),
        Body::Time => ("time".into(), Vec::new()),
        Body::Witness(witnesses) => {
            let pairs = witnesses.iter().map(|(id, edit)| format!("partition {id} edit {edit}"));
            (format!("witness {}", pairs.collect::<Vec<_>>().join(", ")), Vec::new())
        }
    };
    let header = record.header;
    let rows: Vec<(Value, String)> = rows.into_iter().flatten().map(|row| describe_row(&row)).collect();
    let mut text = match record.body {
        Body::Witness(_) => format!("  {what}"),
        Body::Write(_) | Body::Prepare { .. } | Body::Decide { .. } | Body::Resolve { .. } | Body::Time => {
            format!(
                "  partition {} epoch {} index {} time {}: {what}",
                header.partition, header.epoch, header.index, header.time_ms
            )
        }
    };
    for (_, row) in &rows {
        text += "\n    ";
        text += row;
    }
    let value = json!({
        "partition": header.partition.0, "epoch": header.epoch.0, "index": header.index.0,
        "time_ms": header.time_ms, "what": what,
        "rows": rows.into_iter().map(|(value, _)| value).collect::<Vec<_>>(),
    });
    (value, text)
}

fn describe_row(row: &RowOp<'_>) -> (Value, String) {
    match *row {
        RowOp::Put { key, value, expiry, version } => (
            json!({"op": "put", "key": text::key_json(key), "version": version.0, "expiry_ms": expiry.0,
                "value_bytes": value.len()}),
            format!("put {} version {version}, {}", text::key(key), text::bytes(value.len() as u64)),
        ),
        RowOp::Delete { key, version } => (
            json!({"op": "delete", "key": text::key_json(key), "version": version.0}),
            format!("delete {} version {version}", text::key(key)),
        ),
        RowOp::DeleteRange { start, end, version } => (
            json!({"op": "delete_range", "start": text::key_json(start), "end": text::key_json(end),
                "version": version.0}),
            format!("delete {} up to {} version {version}", text::key(start), text::key(end)),
        ),
    }
}
