//! What is wrong with a file: where, and how bad.

use std::fmt;
use std::path::Path;

use foreshard_engine::Error;
use serde::Serialize;

use crate::Verdict;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Worth knowing: opening the store deals with it.
    Note,
    /// What a crash left of an unacknowledged write: cut when the store is opened.
    Torn,
    /// What was durable is not what was written.
    Damaged,
    /// The device refused to read it.
    Unreadable,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) what: String,
}

/// All that was found so far. Of two findings at one place the first counts.
#[derive(Default, Debug)]
pub(crate) struct Findings {
    all: Vec<Finding>,
}

impl Findings {
    pub(crate) fn add(&mut self, severity: Severity, file: &Path, offset: u64, what: impl Into<String>) {
        let file = file.display().to_string();
        if !self.all.iter().any(|f| f.offset == offset && f.file == file && f.severity >= severity) {
            self.all.push(Finding { severity, file, offset, what: what.into() });
        }
    }

    /// Notes an engine error that says that something is damaged or cannot be read.
    pub(crate) fn add_error(&mut self, error: &Error, file: &Path) {
        match error {
            Error::Corrupt(c) => self.add(Severity::Damaged, &c.path, c.offset, &c.what),
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                self.add(Severity::Damaged, file, 0, "the file is lost");
            }
            Error::Io { path, .. } => self.add(Severity::Unreadable, path, 0, error.to_string()),
            Error::Misuse(_)
            | Error::Full(_)
            | Error::Conflict
            | Error::Moved { .. }
            | Error::TryAgain(_)
            | Error::Stopped(_)
            | Error::Closed
            | Error::Unsupported(_) => self.add(Severity::Unreadable, file, 0, error.to_string()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.all.iter()
    }

    /// How many things are worse than torn.
    pub(crate) fn damages(&self) -> usize {
        self.all.iter().filter(|f| f.severity >= Severity::Damaged).count()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self.all.iter().map(|f| f.severity).max() {
            Some(Severity::Unreadable) => Verdict::Unreadable,
            Some(Severity::Damaged) => Verdict::Damaged,
            Some(Severity::Torn | Severity::Note) | None => Verdict::Sound,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Torn => "torn",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at offset {}: {}", self.severity, self.file, self.offset, self.what)
    }
}
