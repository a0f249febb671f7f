//! What an import came to.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Verdict;
use crate::text::{bytes, count};

/// Refusals that are told word by word; more are counted only.
const REFUSALS_TOLD_MAX: usize = 10;

/// Counts of keys, unless they say something else. SCAN may name a key twice; it is then copied and counted twice.
#[derive(Clone, Default, Debug)]
pub(super) struct Summary {
    pub(super) strings: u64,
    pub(super) hashes: u64,
    pub(super) fields: u64,
    /// Of values, and of fields with their values.
    pub(super) bytes: u64,
    pub(super) expiring: u64,
    /// Named by SCAN, and gone when they were read.
    pub(super) vanished: u64,
    /// Of types that are not copied, or of databases.
    pub(super) skipped: BTreeMap<String, u64>,
    /// Keys that could not be read or written.
    pub(super) refused: u64,
    refusals: Vec<String>,
}

impl Summary {
    pub(super) fn skip(&mut self, kind: &str, keys: u64) {
        *self.skipped.entry(kind.to_owned()).or_default() += keys;
    }

    pub(super) fn refuse(&mut self, key: &[u8], why: &str) {
        self.refused += 1;
        if self.refusals.len() < REFUSALS_TOLD_MAX {
            self.refusals.push(format!("{}: {why}", key.escape_ascii()));
        }
    }

    pub(super) fn keys(&self) -> u64 {
        self.strings + self.hashes
    }

    pub(super) fn verdict(&self) -> Verdict {
        if self.skipped.is_empty() && self.refused == 0 { Verdict::Sound } else { Verdict::Damaged }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "type": "import", "status": self.verdict().status(), "keys": self.keys(), "strings": self.strings,
            "hashes": self.hashes, "fields": self.fields, "bytes": self.bytes, "expiring": self.expiring,
            "vanished": self.vanished, "skipped": self.skipped, "refused": self.refused,
            "refusals": self.refusals,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "copied {} and {} with {}, {}; {} of them expire\n",
            count(self.strings, "string"),
            // "hashs" is no word.
            if self.hashes == 1 { "1 hash".to_owned() } else { format!("{} hashes", self.hashes) },
            count(self.fields, "field"),
            bytes(self.bytes),
            self.expiring
        );
        for (kind, keys) in &self.skipped {
            text += &format!("skipped, {kind}: {}\n", count(*keys, "key"));
        }
        if self.refused > 0 {
            text += &format!("refused: {}\n", count(self.refused, "key"));
        }
        for why in &self.refusals {
            text += &format!("  {why}\n");
        }
        text
    }
}
