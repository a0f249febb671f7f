//! Where results go: lines for people, or one JSON object per line.

use std::fmt;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use crate::Verdict;
use crate::finding::Findings;
use crate::shell::Failure;

/// Standard output in one of two languages.
pub(crate) struct Output {
    out: Box<dyn Write>,
    json: bool,
    /// Whether every record, edit and entry is wanted.
    pub(crate) dump: bool,
}

impl Output {
    pub(crate) fn new(json: bool, dump: bool) -> Self {
        Self { out: Box::new(BufWriter::new(io::stdout().lock())), json, dump }
    }

    /// Says nothing.
    pub(crate) fn silent() -> Self {
        Self { out: Box::new(io::sink()), json: false, dump: false }
    }

    /// One thing that was found; `value` is an object.
    pub(crate) fn item(&mut self, kind: &str, mut value: Value, text: &str) -> Result<(), Failure> {
        if self.json {
            if let Value::Object(fields) = &mut value {
                fields.insert("type".into(), kind.into());
            }
            writeln!(self.out, "{value}")?;
        } else {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }

    /// As [`Self::item`], only when everything is wanted.
    pub(crate) fn detail(
        &mut self,
        kind: &str,
        make: impl FnOnce() -> (Value, String),
    ) -> Result<(), Failure> {
        if !self.dump {
            return Ok(());
        }
        let (value, text) = make();
        self.item(kind, value, &text)
    }

    /// All that is wrong, then what follows from it.
    pub(crate) fn verdict(
        mut self,
        findings: &Findings,
        verdict: Verdict,
        (summary, text): (Value, &str),
    ) -> Result<Verdict, Failure> {
        for finding in findings.iter() {
            let value = serde_json::to_value(finding).unwrap_or(Value::Null);
            self.item("finding", value, &finding.to_string())?;
        }
        let mut value = json!({"status": verdict.status(), "sound": findings.verdict() == Verdict::Sound});
        if let (Value::Object(all), Value::Object(more)) = (&mut value, summary) {
            all.extend(more);
        }
        self.item("verdict", value, text)?;
        self.out.flush()?;
        Ok(verdict)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("json", &self.json).field("dump", &self.dump).finish_non_exhaustive()
    }
}
