//! A segment: every block, and what stands around them.

use std::path::Path;

use foreshard_engine::Error;
use foreshard_engine::entry::Kind;
use foreshard_engine::segment::SegmentMeta;
use foreshard_engine::segment::salvage::{Lost, Piece, Salvage};
use foreshard_engine::segment::verify::{Report, verify};
use serde_json::json;

use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::text;

/// Verifies the segment at `path`; `meta` is what its manifest says of it, if that was read.
pub(crate) async fn survey(
    tools: &Tools,
    path: &Path,
    meta: Option<&SegmentMeta>,
    findings: &mut Findings,
    output: &mut Output,
) -> Result<(), Failure> {
    let verified = verify(&*tools.disk, path).await;
    match &verified {
        Ok(report) => {
            tools.progress.step(&format!("reading {}", path.display()), report.meta.bytes);
            show(report, path, output)?;
            compare(report, path, meta, findings);
        }
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            findings.add(Severity::Damaged, path, 0, "the manifest names this segment, and the file is lost");
            return Ok(());
        }
        Err(Error::Corrupt(_) | Error::Io { .. }) => {}
        Err(error) => return Err(error.clone().into()),
    }
    if verified.is_err() || output.dump {
        walk(tools, path, findings, output).await?;
    }
    if let Err(error) = &verified {
        findings.add_error(error, path);
    }
    Ok(())
}

/// A file that is whole in itself may still be another one.
fn compare(report: &Report, path: &Path, meta: Option<&SegmentMeta>, findings: &mut Findings) {
    let Some(meta) = meta else { return };
    let found = &report.meta;
    if (found.id, found.bytes, found.checksum) != (meta.origin, meta.bytes, meta.checksum) {
        let what = format!(
            "segment {:016x} of {} bytes with checksum {:08x}, the manifest means {:016x} of {} bytes with {:08x}",
            found.id.0, found.bytes, found.checksum, meta.origin.0, meta.bytes, meta.checksum
        );
        findings.add(Severity::Damaged, path, 0, what);
    }
}

/// Every damaged part of it, not only the first; and every entry, if wanted.
async fn walk(
    tools: &Tools,
    path: &Path,
    findings: &mut Findings,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut salvage = match Salvage::open(&*tools.disk, path).await {
        Ok(salvage) => salvage,
        Err(error) => {
            findings.add_error(&error, path);
            return Ok(());
        }
    };
    for damage in salvage.damages() {
        findings.add(Severity::Damaged, path, damage.offset, &damage.what);
    }
    while let Some(piece) = salvage.next().await {
        match piece {
            Piece::Lost(lost) => findings.add(Severity::Damaged, path, lost.offset, describe(&lost)),
            Piece::Block(block) if output.dump => {
                let mut entries = Vec::new();
                block.for_each(|e| {
                    let kind = if e.kind == Kind::Delete { "delete" } else { "put" };
                    let value = json!({"kind": kind, "key": text::key_json(e.key), "version": e.version.0,
                        "expiry_ms": e.expiry.0, "value_bytes": e.value.len()});
                    let size = text::bytes(e.value.len() as u64);
                    entries.push((
                        value,
                        format!("  {kind} {} version {}, {size}", text::key(e.key), e.version),
                    ));
                });
                for entry in entries {
                    output.detail("entry", || entry)?;
                }
            }
            Piece::Block(_) => {}
        }
    }
    Ok(())
}

/// A lost block in words, with the keys it had.
pub(crate) fn describe(lost: &Lost) -> String {
    let first =
        if lost.first.is_empty() { "the partition's first".to_owned() } else { text::key(&lost.first) };
    let last = lost.last.as_ref().map_or_else(|| "the segment's last".to_owned(), |key| text::key(key));
    let size = lost.bytes.map_or_else(|| "unknown size".to_owned(), text::bytes);
    format!("block of {size}, keys from {first} to {last}: {}", lost.what)
}

fn show(report: &Report, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let meta = &report.meta;
    let value = json!({
        "file": path.display().to_string(),
        "segment": format!("{:016x}", meta.id.0),
        "bytes": meta.bytes,
        "checksum": format!("{:08x}", meta.checksum),
        "entries": meta.rows,
        "deletes": meta.deletes,
        "range_tombstones": meta.range_tombstones,
        "blocks": report.blocks,
        "key_bytes": report.key_bytes,
        "value_bytes": report.value_bytes,
        "stored_bytes": report.stored_bytes,
        "first": text::key_json(&meta.first),
        "last": text::key_json(&meta.last),
        "version_min": meta.version_min.0,
        "version_max": meta.version_max.0,
        "expiry_min_ms": meta.expiry_min.0,
        "created_ms": meta.created_ms,
    });
    let text = format!(
        "segment {}: {} entries ({}, {}) in {}, {}, {} to {}, versions {} to {}",
        path.display(),
        meta.rows,
        text::count(meta.deletes, "delete"),
        text::count(meta.range_tombstones, "range tombstone"),
        text::count(report.blocks, "block"),
        text::bytes(meta.bytes),
        text::key(&meta.first),
        text::key(&meta.last),
        meta.version_min,
        meta.version_max
    );
    output.item("segment", value, &text)
}
