//! Fuzz targets of the storage engine: what each one does with its input, without the fuzzer around it.
//!
//! A target panics on a finding. Decoder targets read their input as bytes from a disk; operation targets read it as
//! a list of operations and compare what they do with a naive model. `cargo test` replays the committed corpora.
//!
//! Invariants:
//! - a target's run depends on its input only: the same bytes do the same;
//! - no input makes a target do more than a bounded amount of work.

pub mod decoders;
pub mod memory;
pub mod operations;

/// What is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As `FUZZ_TARGET` and the corpus folder name it.
    pub name: &'static str,
    /// Reads bytes as from a disk; otherwise as operations.
    pub decodes: bool,
    /// Runs one input.
    pub run: fn(&[u8]),
}

const fn decoder(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, decodes: true, run }
}

const fn operations(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, decodes: false, run }
}

/// All targets.
pub const TARGETS: [Target; 20] = [
    decoder("wal_record", decoders::wal::record),
    decoder("wal_batch", decoders::wal::batch),
    decoder("wal_slot", decoders::wal::slot),
    decoder("superblock", decoders::superblock::superblock),
    decoder("frame", decoders::segment::frame),
    decoder("block", decoders::segment::block),
    decoder("index", decoders::segment::index),
    decoder("filter", decoders::segment::filter),
    decoder("footer", decoders::segment::footer),
    decoder("properties", decoders::segment::properties),
    decoder("manifest", decoders::manifest::chain),
    decoder("table", decoders::table::chain),
    decoder("stream", decoders::stream::frames),
    decoder("backup", decoders::backup::record),
    decoder("resp", decoders::resp::commands),
    operations("memtable", operations::memtable::run),
    operations("segment", operations::segment::run),
    operations("retention", operations::retention::run),
    operations("engine", operations::engine::run),
    operations("commands", operations::commands::run),
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
