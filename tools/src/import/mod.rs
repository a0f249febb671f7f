//! `foreshard import`: copies what a running Redis holds.
//!
//! SCAN names keys; their types and expiries are asked for in one batch, their values in the next, and what comes in is
//! put into batches for the target as it comes. Hashes are read in pages by HSCAN.
//!
//! Invariants:
//! - a key at the target is what the source had, whatever was there before: a run that was cut short is run again;
//! - what is not copied is counted, by type, and makes the exit status 1.

mod connection;
mod options;
mod summary;

use std::io::Write;

use foreshard_engine::limits::VALUE_BYTES_MAX;

use self::connection::{Connection, refusal};
pub(crate) use self::options::Import;
use self::summary::Summary;
use crate::Verdict;
use crate::load::clock::{Nanos, SECOND, now};
use crate::load::reply::Reply;
use crate::shell::Failure;
use crate::text::{bytes, count};

/// Keys that a SCAN names, as far as it can; and fields of an HSCAN.
const PAGE: &[u8] = b"500";
/// Answers that are waited for are sent for at this size, and at this many commands: the target's receive buffer holds
/// them, and its answers fit ours.
const BATCH_BYTES_MAX: usize = 1 << 20;
const BATCH_COMMANDS_MAX: usize = 2000;
/// How often it is told how far it is.
const PERIOD: Nanos = 2 * SECOND;

/// An import under way.
struct Run {
    from: Connection,
    to: Connection,
    /// Keys whose commands the target has not answered.
    unanswered: Vec<Vec<u8>>,
    knows_expiry_time: bool,
    summary: Summary,
    told: Nanos,
}

/// A key that is copied.
struct Key {
    name: Vec<u8>,
    is_hash: bool,
    expiry: Expiry,
}

/// When a key goes.
#[derive(Clone, Copy)]
enum Expiry {
    Never,
    /// Milliseconds since 1970.
    At(u64),
    /// Milliseconds from now: an old Redis says no more.
    In(u64),
}

/// Runs the command.
pub(crate) fn run(options: &Import) -> Result<Verdict, Failure> {
    let mut from = Connection::open(&options.from, "FORESHARD_FROM_PASSWORD")?;
    let to = Connection::open(&options.to, "FORESHARD_TO_PASSWORD")?;
    let knows_expiry_time = from.ask(&[b"PEXPIRETIME", b""], refusal)?.is_none();
    let (summary, told) = (Summary::default(), now());
    let mut run = Run { from, to, unanswered: Vec::new(), knows_expiry_time, summary, told };
    run.other_databases(options.from.database)?;
    let mut cursor = b"0".to_vec();
    loop {
        let mut scan: Vec<&[u8]> = vec![b"SCAN", &cursor, b"COUNT", PAGE];
        if let Some(pattern) = &options.pattern {
            scan.extend([&b"MATCH"[..], pattern.as_bytes()]);
        }
        let page = run.from.ask(&scan, page_of)?;
        let (next, names) = page.map_err(|why| run.not_understood("SCAN", &why))?;
        run.copy(names)?;
        run.tell();
        if next == b"0" {
            break;
        }
        cursor = next;
    }
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", run.summary.json())?;
    } else {
        write!(out, "{}", run.summary.text())?;
    }
    Ok(run.summary.verdict())
}

impl Run {
    /// Keys of databases that are not copied.
    fn other_databases(&mut self, own: u32) -> Result<(), Failure> {
        let keyspace = self.from.ask(&[b"INFO", b"keyspace"], |reply| match reply {
            Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
            Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Null | Reply::Array(_) => {
                String::new()
            }
        })?;
        for line in keyspace.lines() {
            let Some((name, rest)) = line.split_once(":keys=") else { continue };
            let keys = rest.split(',').next().and_then(|keys| keys.parse().ok()).unwrap_or(0);
            if name.strip_prefix("db").and_then(|n| n.parse().ok()) != Some(own) {
                self.summary.skip(&format!("database {}", name.trim_start_matches("db")), keys);
            }
        }
        Ok(())
    }

    /// Copies the keys of one page.
    fn copy(&mut self, names: Vec<Vec<u8>>) -> Result<(), Failure> {
        let keys = self.look_at(names)?;
        for key in &keys {
            if key.is_hash {
                self.from.put(&[b"HSCAN", &key.name, b"0", b"COUNT", PAGE]);
            } else {
                self.from.put(&[b"GET", &key.name]);
            }
        }
        self.from.send()?;
        let mut long = Vec::new();
        for key in keys {
            if key.is_hash {
                if let Some(cursor) = self.first_fields(&key)? {
                    long.push((key, cursor));
                }
            } else {
                self.string(&key)?;
            }
        }
        for (key, cursor) in long {
            self.other_fields(&key, cursor)?;
        }
        self.flush()
    }

    /// Types and expiries.
    fn look_at(&mut self, names: Vec<Vec<u8>>) -> Result<Vec<Key>, Failure> {
        let expiry_command: &[u8] = if self.knows_expiry_time { b"PEXPIRETIME" } else { b"PTTL" };
        for name in &names {
            self.from.put(&[b"TYPE", name]);
            self.from.put(&[expiry_command, name]);
        }
        self.from.send()?;
        let mut keys = Vec::with_capacity(names.len());
        for name in names {
            let kind = self.from.next(|reply| {
                let Reply::Simple(kind) = reply else { return Err(why_not(reply)) };
                Ok(String::from_utf8_lossy(kind).into_owned())
            })?;
            let millis = self.from.next(|reply| {
                let Reply::Integer(millis) = reply else { return Err(why_not(reply)) };
                Ok(millis)
            })?;
            let expiry = match millis {
                Ok(millis) => u64::try_from(millis).map_or(Expiry::Never, |millis| {
                    if self.knows_expiry_time { Expiry::At(millis) } else { Expiry::In(millis.max(1)) }
                }),
                Err(why) => {
                    self.summary.refuse(&name, &why);
                    continue;
                }
            };
            match kind.as_deref() {
                Ok("string") => keys.push(Key { name, is_hash: false, expiry }),
                Ok("hash") => keys.push(Key { name, is_hash: true, expiry }),
                Ok("none") => self.summary.vanished += 1,
                Ok(other) => self.summary.skip(other, 1),
                Err(why) => self.summary.refuse(&name, why),
            }
        }
        Ok(keys)
    }

    fn string(&mut self, key: &Key) -> Result<(), Failure> {
        let (to, summary) = (&mut self.to, &mut self.summary);
        let put = self.from.next(|reply| match reply {
            Reply::Bulk(value) if value.len() > VALUE_BYTES_MAX => {
                summary.refuse(&key.name, &too_large(value.len()));
                false
            }
            Reply::Bulk(value) => {
                match key.expiry {
                    Expiry::Never => to.put(&[b"SET", &key.name, value]),
                    Expiry::At(at) => to.put(&[b"SET", &key.name, value, b"PXAT", at.to_string().as_bytes()]),
                    Expiry::In(ms) => to.put(&[b"SET", &key.name, value, b"PX", ms.to_string().as_bytes()]),
                }
                summary.strings += 1;
                summary.bytes += value.len() as u64;
                summary.expiring += u64::from(!matches!(key.expiry, Expiry::Never));
                true
            }
            Reply::Null => {
                summary.vanished += 1;
                false
            }
            Reply::Simple(_) | Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => {
                summary.refuse(&key.name, &why_not(reply));
                false
            }
        })?;
        if put { self.sent_for(&key.name) } else { Ok(()) }
    }

    /// The first page of a hash's fields; where the next one begins, if there is one.
    fn first_fields(&mut self, key: &Key) -> Result<Option<Vec<u8>>, Failure> {
        let (cursor, fields) = match self.from.next(page_of)? {
            Ok(page) => page,
            Err(why) => {
                self.summary.refuse(&key.name, &why);
                return Ok(None);
            }
        };
        if fields.is_empty() && cursor == b"0" {
            self.summary.vanished += 1;
            return Ok(None);
        }
        self.to.put(&[b"DEL", &key.name]);
        self.sent_for(&key.name)?;
        self.summary.hashes += 1;
        self.fields(key, &fields)?;
        if cursor == b"0" {
            self.hash_ends(key)?;
            return Ok(None);
        }
        Ok(Some(cursor))
    }

    fn other_fields(&mut self, key: &Key, mut cursor: Vec<u8>) -> Result<(), Failure> {
        while cursor != b"0" {
            match self.from.ask(&[b"HSCAN", &key.name, &cursor, b"COUNT", PAGE], page_of)? {
                Ok((next, fields)) => {
                    self.fields(key, &fields)?;
                    cursor = next;
                }
                Err(why) => {
                    self.summary.refuse(&key.name, &why);
                    break;
                }
            }
        }
        self.hash_ends(key)
    }

    fn fields(&mut self, key: &Key, fields: &[Vec<u8>]) -> Result<(), Failure> {
        for pair in fields.chunks_exact(2) {
            if pair[1].len() > VALUE_BYTES_MAX {
                self.summary.refuse(&key.name, &too_large(pair[1].len()));
                continue;
            }
            self.to.put(&[b"HSET", &key.name, &pair[0], &pair[1]]);
            self.summary.fields += 1;
            self.summary.bytes += (pair[0].len() + pair[1].len()) as u64;
            self.sent_for(&key.name)?;
        }
        Ok(())
    }

    fn hash_ends(&mut self, key: &Key) -> Result<(), Failure> {
        match key.expiry {
            Expiry::Never => return Ok(()),
            Expiry::At(at) => self.to.put(&[b"PEXPIREAT", &key.name, at.to_string().as_bytes()]),
            Expiry::In(ms) => self.to.put(&[b"PEXPIRE", &key.name, ms.to_string().as_bytes()]),
        }
        self.summary.expiring += 1;
        self.sent_for(&key.name)
    }

    /// A command for `name` is in the target's batch.
    fn sent_for(&mut self, name: &[u8]) -> Result<(), Failure> {
        self.unanswered.push(name.to_vec());
        let is_full =
            self.to.pending_bytes() >= BATCH_BYTES_MAX || self.unanswered.len() >= BATCH_COMMANDS_MAX;
        if is_full { self.flush() } else { Ok(()) }
    }

    /// Sends the target's batch, and takes its answers.
    fn flush(&mut self) -> Result<(), Failure> {
        self.to.send()?;
        for name in std::mem::take(&mut self.unanswered) {
            if let Some(why) = self.to.next(refusal)? {
                self.summary.refuse(&name, &why);
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let time = now();
        if time - self.told >= PERIOD {
            self.told = time;
            let so_far = format!("{}, {}", count(self.summary.keys(), "key"), bytes(self.summary.bytes));
            // Progress that nobody can see is no failure.
            let _unheard = writeln!(std::io::stderr(), "foreshard: {so_far} copied");
        }
    }

    fn not_understood(&self, command: &str, why: &str) -> Failure {
        Failure::told(format!("{command} at {}: {why}", self.from.host()))
    }
}

fn too_large(len: usize) -> String {
    format!("a value of {len} bytes: at most {VALUE_BYTES_MAX}")
}

/// Why an answer is not the one that was asked for.
fn why_not(reply: Reply<'_>) -> String {
    refusal(reply).unwrap_or_else(|| "an answer of another kind".to_owned())
}

/// A cursor and what it comes with; or why there is none.
fn page_of(reply: Reply<'_>) -> Result<(Vec<u8>, Vec<Vec<u8>>), String> {
    let Reply::Array(mut parts) = reply else { return Err(why_not(reply)) };
    match (parts.next(), parts.next()) {
        (Some(Reply::Bulk(cursor)), Some(Reply::Array(items))) => {
            let items = items.map(|item| {
                let Reply::Bulk(bytes) = item else { return Err(why_not(item)) };
                Ok(bytes.to_vec())
            });
            Ok((cursor.to_vec(), items.collect::<Result<_, _>>()?))
        }
        _ => Err(why_not(reply)),
    }
}
