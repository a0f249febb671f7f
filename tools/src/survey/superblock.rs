//! The superblock: both copies, and which of them counts.

use std::path::Path;

use foreshard_engine::Error;
use foreshard_engine::superblock::{COPY_BYTES, FILE_NAME, State, decode};
use serde_json::json;

use crate::finding::{Findings, Severity};
use crate::output::Output;
use crate::shell::{Failure, Tools};
use crate::text::count;

/// Two copies, and what a file system may add: nothing writes a longer one.
const FILE_BYTES_MAX: u64 = 2 * COPY_BYTES as u64;

/// What the superblock in `dir` says, as far as one copy is whole.
pub(crate) async fn survey(
    tools: &Tools,
    dir: &Path,
    findings: &mut Findings,
) -> Result<Option<State>, Failure> {
    let path = dir.join(FILE_NAME);
    let bytes = match tools.read(&path, FILE_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error @ (Error::Corrupt(_) | Error::Io { .. })) => {
            findings.add_error(&error, &path);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let second_at = COPY_BYTES as u64;
    let first = decode(bytes.get(..COPY_BYTES).unwrap_or(&bytes));
    let second = decode(bytes.get(COPY_BYTES..).unwrap_or(&[]));
    for (offset, copy) in [(0, &first), (second_at, &second)] {
        if let Err(what) = copy {
            let what = format!("this copy of the superblock is damaged: {what}");
            findings.add(Severity::Damaged, &path, offset, what);
        }
    }
    Ok(match (first, second) {
        (Ok(first), Ok(second)) => {
            let behind = "this copy of the superblock is behind the other: an update was cut short";
            if first.0 == second.0 && first.1 != second.1 {
                findings.add(Severity::Damaged, &path, 0, "two superblocks of one sequence number differ");
                None
            } else if first.0 < second.0 {
                findings.add(Severity::Torn, &path, 0, behind);
                Some(second.1)
            } else {
                if second.0 < first.0 {
                    findings.add(Severity::Torn, &path, second_at, behind);
                }
                Some(first.1)
            }
        }
        (Ok(whole), Err(_)) | (Err(_), Ok(whole)) => Some(whole.1),
        (Err(_), Err(_)) => None,
    })
}

/// Shows what it says.
pub(crate) fn show(state: &State, output: &mut Output) -> Result<(), Failure> {
    let value = json!({
        "store": state.store.to_string(),
        "incarnation": state.incarnation.0,
        "shards": state.shards,
        "wal_file_bytes": state.wal_file_bytes,
    });
    let text = format!(
        "superblock: store {}, incarnation {}, {}",
        state.store,
        state.incarnation,
        count(u64::from(state.shards), "shard"),
    );
    output.item("superblock", value, &text)
}
