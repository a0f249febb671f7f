//! What a server was found to have done wrong. No I/O.

use serde::Serialize;

use super::ledger::Wrong;

/// More are counted, and not kept.
const KEPT_MAX: usize = 200;

/// One wrong answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Violation {
    /// One of: lost, never_sent, torn, damaged, misplaced.
    pub(crate) what: String,
    pub(crate) key: String,
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// All of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Violations {
    pub(crate) count: u64,
    pub(crate) kept: Vec<Violation>,
}

impl Violations {
    pub(crate) fn add(&mut self, wrong: Wrong, tell: impl FnOnce() -> [String; 3]) {
        self.count += 1;
        if self.kept.len() < KEPT_MAX {
            let [key, expected, found] = tell();
            self.kept.push(Violation { what: wrong.to_string(), key, expected, found });
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.kept.extend(other.kept);
        self.kept.truncate(KEPT_MAX);
    }
}
