//! The journal's file: appended to while a run goes on, written anew when it is mostly past.
//!
//! It is for a server that dies, and for this process dying; it is not synced: a crash of this machine is not covered.
//!
//! Invariants:
//! - under its name there is always a journal that can be read: it is replaced by renaming;
//! - its size is bounded by the count of cells, not by the length of the run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::journal::{Description, Journal, Record, put_closed, put_header, put_records, read};
use super::ledger::Ledger;

/// Smaller journals are not worth writing anew.
const REWRITE_BYTES_MIN: u64 = 64 << 20;
/// How often longer than what it was when last written anew it gets.
const REWRITE_FACTOR: u64 = 4;

/// An open journal.
#[derive(Debug)]
pub(crate) struct JournalFile {
    path: PathBuf,
    description: Description,
    file: File,
    bytes: u64,
    rewrite_bytes: u64,
    /// By cell.
    ledger: Ledger,
    buffer: Vec<u8>,
}

/// Reads the journal at `path`; none if there is no such file.
pub(crate) fn load(path: &Path) -> Result<Option<Journal>, String> {
    #[expect(clippy::disallowed_methods, reason = "a file of this program's own, outside of any store")]
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    read(&bytes).map(Some).map_err(|what| format!("{}: {what}", path.display()))
}

impl JournalFile {
    /// Writes what is known so far.
    pub(crate) fn create(path: &Path, description: Description, ledger: Ledger) -> Result<Self, String> {
        let (file, bytes) = rewrite(path, &description, &ledger, false)?;
        let rewrite_bytes = (bytes * REWRITE_FACTOR).max(REWRITE_BYTES_MIN);
        let path = path.to_path_buf();
        Ok(Self { path, description, file, bytes, rewrite_bytes, ledger, buffer: Vec::new() })
    }

    /// Notes what was acknowledged.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), String> {
        for record in records {
            self.ledger.learn(record.cell, record.window);
        }
        self.buffer.clear();
        put_records(records, &mut self.buffer);
        self.file.write_all(&self.buffer).map_err(|error| told(&self.path, &error))?;
        self.bytes += self.buffer.len() as u64;
        if self.bytes > self.rewrite_bytes {
            (self.file, self.bytes) = rewrite(&self.path, &self.description, &self.ledger, false)?;
            self.rewrite_bytes = (self.bytes * REWRITE_FACTOR).max(REWRITE_BYTES_MIN);
        }
        Ok(())
    }

    /// Leaves all that was written and acknowledged, to the last write.
    pub(crate) fn close(self, ledger: &Ledger) -> Result<(), String> {
        rewrite(&self.path, &self.description, ledger, true).map(|_| ())
    }
}

fn rewrite(
    path: &Path,
    description: &Description,
    ledger: &Ledger,
    is_last: bool,
) -> Result<(File, u64), String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let mut bytes = Vec::new();
    put_header(description, &mut bytes);
    let records: Vec<Record> = ledger.written().map(|(cell, window)| Record { cell, window }).collect();
    put_records(&records, &mut bytes);
    if is_last {
        put_closed(&mut bytes);
    }
    let mut file = File::create(&beside).map_err(|error| told(&beside, &error))?;
    file.write_all(&bytes).map_err(|error| told(&beside, &error))?;
    #[expect(clippy::disallowed_methods, reason = "a file of this program's own, outside of any store")]
    std::fs::rename(&beside, path).map_err(|error| told(path, &error))?;
    Ok((file, bytes.len() as u64))
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: cannot write the journal: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Data, Layout};
    use super::super::ledger::Window;
    use super::*;

    fn description() -> Description {
        let prefix = "key:".into();
        let layout = Layout {
            data: Data::Strings,
            prefix,
            entities: 9,
            fields: 1,
            members: 1,
            connections: 1,
            names: Vec::new(),
        };
        Description { run: 5, layout }
    }

    fn record(cell: u64, write: u32) -> Record {
        Record { cell, window: Window { acknowledged: write, sent: write } }
    }

    #[test]
    fn what_was_appended_is_there_also_after_it_was_written_anew() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("journal");
        assert!(load(&path).unwrap().is_none());
        let mut file = JournalFile::create(&path, description(), Ledger::default()).unwrap();
        file.rewrite_bytes = 200;
        for write in 1..100 {
            file.append(&[record(u64::from(write % 3), write)]).unwrap();
            let journal = load(&path).unwrap().unwrap();
            assert_eq!((journal.is_closed, journal.bytes_cut), (false, 0));
            assert_eq!(journal.ledger.window(u64::from(write % 3)).acknowledged, write);
            file.rewrite_bytes = 500;
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= 600);
        let mut ledger = Ledger::default();
        ledger.learn(4, Window { acknowledged: 2, sent: 3 });
        file.close(&ledger).unwrap();
        let journal = load(&path).unwrap().unwrap();
        assert!(journal.is_closed);
        assert_eq!(journal.ledger, ledger);
    }
}
