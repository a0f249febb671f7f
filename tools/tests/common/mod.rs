//! A small real store, ways to damage it, and the program run over it.
#![allow(dead_code, reason = "each test program uses a part")]
#![expect(clippy::unwrap_used, reason = "a helper of tests: a panic is a failed test")]
#![expect(clippy::disallowed_methods, reason = "damages real files behind the engine's back")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use foreshard_engine::{Options, PageLimit, Store, block_on, key};
use serde_json::Value;
use tempfile::TempDir;

/// Entity and row, and the value they have.
pub(crate) type Rows = BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>;

/// Entities `e0` to this one less one.
pub(crate) const ENTITIES: u32 = 16;

/// A closed store, and every row in it.
pub(crate) struct Sample {
    dir: TempDir,
    pub(crate) rows: Rows,
}

pub(crate) fn options() -> Options {
    let mut options = Options {
        partitions: 2,
        memory_bytes: 8 << 20,
        memtables_bytes: 2 << 20,
        memtable_bytes: 256 << 10,
        wal_file_bytes: 1 << 20,
        wal_cap_bytes: 8 << 20,
        reserve_bytes: 1 << 20,
        ..Options::default()
    };
    options.shape.segment_bytes = 64 << 10;
    options
}

impl Sample {
    /// `flushed` rows in segments, then `logged` ones in the log only.
    pub(crate) fn new(flushed: u32, logged: u32) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::open(dir.path(), options()).unwrap();
        let client = store.client().unwrap();
        let mut rows = Rows::new();
        block_on(async {
            for n in 0..flushed + logged {
                if n == flushed && n > 0 {
                    client.flush().await.unwrap();
                }
                let entity = format!("e{}", n % ENTITIES).into_bytes();
                let row = format!("row {n:06}").into_bytes();
                let value = format!("value {n} ").repeat(10).into_bytes();
                client.put(&entity, &row, &value).await.unwrap();
                rows.insert((entity, row), value);
            }
            if logged == 0 {
                client.flush().await.unwrap();
            }
        });
        drop(client);
        store.close().unwrap();
        Self { dir, rows }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The first segment of the first partition that has one.
    pub(crate) fn segment(&self) -> PathBuf {
        let mut all = files(&self.file("partitions"));
        all.retain(|path| path.extension().is_some_and(|e| e == "seg"));
        all.sort();
        // The newest: an older one may have been compacted, and its file not removed before the store closed.
        all.into_iter().next_back().expect("rows were flushed")
    }

    /// Flips a byte's lowest bit.
    pub(crate) fn flip(&self, path: &Path, offset: u64) {
        self.flip_bit(path, offset, 0);
    }

    /// Flips a bit.
    pub(crate) fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        let mut bytes = std::fs::read(path).unwrap();
        let at = usize::try_from(offset).unwrap();
        bytes[at] ^= 1 << bit;
        std::fs::write(path, bytes).unwrap();
    }

    /// Shortens a file, or lengthens it by zeros.
    pub(crate) fn set_len(&self, path: &Path, len: u64) {
        std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
    }

    /// Every file and what is in it.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(self.path()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// What `foreshard inspect store --json` says: exit status, and all lines.
    pub(crate) fn inspect(&self) -> (i32, Vec<Value>) {
        let output = inspect_both_ways("store", self.path());
        (output.status.code().unwrap(), lines(&output))
    }

    /// Repairs into a fresh directory: exit status, all lines, the rows found there.
    pub(crate) fn repair(&self) -> (i32, Vec<Value>, Rows) {
        let into = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let target = into.path().join("new");
        let before = self.contents();
        let output =
            run(&["repair", self.path().to_str().unwrap(), "--into", target.to_str().unwrap(), "--json"]);
        assert!(before == self.contents(), "the damaged store is not changed");
        (output.status.code().unwrap(), lines(&output), read_all(&target))
    }
}

/// Runs the program.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreshard")).args(arguments).output().unwrap()
}

/// What `foreshard inspect WHAT --json` says of mapped files, which is what it says of files read through the ring.
pub(crate) fn inspect_both_ways(what: &str, path: &Path) -> Output {
    let arguments = ["inspect", what, path.to_str().unwrap(), "--json", "--verbose"];
    let mapped = run(&arguments);
    let unmapped = run(&[&arguments[..], &["--unmapped"]].concat());
    for (output, way) in [(&mapped, "files are mapped"), (&unmapped, "through the ring")] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(way), "{said}");
    }
    assert_eq!(String::from_utf8_lossy(&mapped.stdout), String::from_utf8_lossy(&unmapped.stdout));
    assert_eq!(mapped.status, unmapped.status);
    mapped
}

/// All lines of a JSON output.
pub(crate) fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    lines
}

/// The findings among lines that are worse than torn: file and offset.
pub(crate) fn damages(lines: &[Value]) -> Vec<(PathBuf, u64)> {
    let is_damage = |line: &&Value| line["type"] == "finding" && line["severity"] == "damaged";
    let place =
        |line: &Value| (PathBuf::from(line["file"].as_str().unwrap()), line["offset"].as_u64().unwrap());
    lines.iter().filter(is_damage).map(place).collect()
}

fn read_all(dir: &Path) -> Rows {
    let store = Store::open(dir, options()).unwrap();
    let client = store.client().unwrap();
    let mut rows = Rows::new();
    block_on(async {
        for n in 0..ENTITIES {
            let entity = format!("e{n}").into_bytes();
            let limit = PageLimit { rows: 1_000_000, bytes: 1 << 30 };
            let page = client.scan(&entity, b"", limit).await.unwrap();
            assert!(page.resume.is_none());
            for row in page.rows {
                let name = key::decode(&row.key).unwrap().1.to_vec();
                rows.insert((entity.clone(), name), row.value);
            }
        }
    });
    drop(client);
    store.close().unwrap();
    rows
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
