//! What a planner keeps in the store: hours of entities, what operators told it, and moves.
//!
//! They are rows of an entity of the node's own, whose marker no key of a client has (net/FORMAT.md, "The node's own rows"),
//! so that they are as durable as everything else, go into backups, and are seen by nobody else. A row is written when an
//! hour has ended, or something was told: what is lost with a crash is the hour under way.
//!
//! Bytes that are not understood are told of and left out: planning begins with less.

use std::collections::{BTreeMap, BTreeSet};

use foreshard_engine::key::{NODES_OWN as ENTITY, NODES_OWN_ROW as MARKER};
use foreshard_engine::{Client, PageLimit, Result, block_on};
use foreshard_placement::history::{Counted, History};
use serde::{Deserialize, Serialize};

use super::memory::Memory;
use super::mind::entity_of;

const HOUR: u8 = b'h';
const MEMORY: u8 = b'm';
const MOVES: u8 = b'l';
/// Of the bytes of an hour.
const VERSION: u8 = 1;
/// Hours that are kept: five weeks.
const HOURS_MAX: i64 = 35 * 24;
/// What a row may have is 8 MiB; entities beyond it, which are the last by number, are left out.
const HOUR_BYTES_MAX: usize = 7 << 20;
/// Of a page that is read at once.
const PAGE: PageLimit = PageLimit { rows: 64, bytes: 16 << 20 };

/// A move as it is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct KeptMove {
    pub(super) id: u64,
    pub(super) name: Vec<u8>,
    pub(super) from: u32,
    pub(super) to: u32,
    /// Planned, reactive, homeward, joining or back; and of a planned one score, avoided, cost, needed.
    pub(super) why: Option<(f64, f64, f64, i64)>,
    pub(super) is_reactive: bool,
    /// How much stronger its tie is there, of an entity that joins others; older stores know of none.
    #[serde(default)]
    pub(super) joining: Option<f64>,
    /// Which move it takes back, and what became worse for it afterwards, if so; older stores know of none.
    #[serde(default)]
    pub(super) back: Option<u64>,
    #[serde(default)]
    pub(super) worse: Option<String>,
    pub(super) began: f64,
    pub(super) ended: Option<(f64, String, u64, f64)>,
}

/// Everything that was kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) hours: BTreeMap<i64, Vec<(Vec<u8>, Counted)>>,
    pub(super) memory: Option<Memory>,
    pub(super) moves: Vec<KeptMove>,
}

/// Reads it.
///
/// # Errors
/// What the store says.
pub(super) fn load(client: &Client) -> Result<Kept> {
    let mut kept = Kept::default();
    let mut from = vec![MARKER];
    loop {
        let page = block_on(client.scan(ENTITY, &from, PAGE))?;
        for row in &page.rows {
            let Some((_, key)) = foreshard_engine::key::decode(&row.key) else { continue };
            if let Err(what) = kept.take(key, &row.value) {
                tracing::warn!("the planner's row {} is left out: {what}", key.escape_ascii());
            }
        }
        let resume = page.resume.as_deref().and_then(foreshard_engine::key::decode);
        match resume {
            Some((_, key)) => from = key.to_vec(),
            None => return Ok(kept),
        }
    }
}

impl Kept {
    fn take(&mut self, key: &[u8], value: &[u8]) -> std::result::Result<(), String> {
        match key {
            [MARKER, HOUR, hour @ ..] => {
                let hour: [u8; 8] = hour.try_into().map_err(|_| "no hour".to_owned())?;
                self.hours.insert(i64::from_be_bytes(hour), decode(value).ok_or("bytes that are no hour")?);
            }
            [MARKER, MEMORY] => {
                self.memory = Some(serde_json::from_slice(value).map_err(|e| e.to_string())?);
            }
            [MARKER, MOVES] => self.moves = serde_json::from_slice(value).map_err(|e| e.to_string())?,
            _ => return Err("a kind that this program does not know".to_owned()),
        }
        Ok(())
    }

    /// Takes a file's hours too, of those hours that were not kept. Says how many hours of entities these are.
    pub(super) fn add(&mut self, rows: Vec<(Vec<u8>, i64, Counted)>) -> usize {
        let kept: BTreeSet<i64> = self.hours.keys().copied().collect();
        let mut count = 0;
        for (name, hour, load) in rows.into_iter().filter(|row| !kept.contains(&row.1)) {
            self.hours.entry(hour).or_default().push((name, load));
            count += 1;
        }
        count
    }

    /// Puts its hours into a history. Says of how many entities' hours that could not be done: they are not over yet.
    pub(super) fn restore(&self, history: &mut History) -> usize {
        let rows = self.hours.iter().flat_map(|(hour, entities)| {
            entities.iter().map(|(name, load)| (&name[..], entity_of(name), *hour, *load))
        });
        history.import(rows)
    }
}

/// Keeps an hour that is over, and forgets one that is too old.
///
/// # Errors
/// What the store says.
pub(super) fn save_hour(client: &Client, hour: i64, entities: &[(Vec<u8>, Counted)]) -> Result<()> {
    block_on(client.put(ENTITY, &hour_key(hour), &encode(entities)))?;
    block_on(client.delete(ENTITY, &hour_key(hour - HOURS_MAX)))
}

/// Whether an hour is kept. One that is not, and was, went with everything else, as with FLUSHALL.
///
/// # Errors
/// What the store says.
pub(super) fn has_hour(client: &Client, hour: i64) -> Result<bool> {
    Ok(block_on(client.get(ENTITY, &hour_key(hour)))?.is_some())
}

/// Keeps all hours that a history knows.
///
/// # Errors
/// What the store says.
pub(super) fn save_hours(client: &Client, history: &History) -> Result<()> {
    for (hour, entities) in history.hours_from(history.hour() - HOURS_MAX) {
        let named = |(entity, load)| Some((history.name(entity)?.to_vec(), load));
        let entities: Vec<(Vec<u8>, Counted)> = entities.into_iter().filter_map(named).collect();
        save_hour(client, hour, &entities)?;
    }
    Ok(())
}

/// Keeps what was told.
///
/// # Errors
/// What the store says.
pub(super) fn save_memory(client: &Client, memory: &Memory) -> Result<()> {
    save(client, MEMORY, memory)
}

/// Keeps the moves.
///
/// # Errors
/// What the store says.
pub(super) fn save_moves(client: &Client, moves: &[KeptMove]) -> Result<()> {
    save(client, MOVES, &moves)
}

fn save(client: &Client, kind: u8, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_vec(value).expect("strings, numbers and maps by strings can be written as JSON");
    block_on(client.put(ENTITY, &[MARKER, kind], &text))
}

fn hour_key(hour: i64) -> Vec<u8> {
    [&[MARKER, HOUR][..], &hour.to_be_bytes()].concat()
}

/// Version (1 byte); then for each entity: length of its name (2 bytes), name, and reads, writes, bytes in, bytes out and
/// nanoseconds of a core a second, each a 32-bit float. Little-endian.
fn encode(entities: &[(Vec<u8>, Counted)]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for (name, load) in entities {
        let Ok(length) = u16::try_from(name.len()) else { continue };
        if out.len() + name.len() + 22 > HOUR_BYTES_MAX {
            break;
        }
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(name);
        for value in [load.reads, load.writes, load.bytes_in, load.bytes_out, load.service_nanos] {
            #[expect(clippy::cast_possible_truncation, reason = "the precision that hours are kept in")]
            out.extend_from_slice(&(value as f32).to_le_bytes());
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Counted)>> {
    let (&version, mut rest) = bytes.split_first()?;
    if version != VERSION {
        return None;
    }
    let mut entities = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk()?;
        let (name, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let mut values = [0.0; 5];
        rest = tail;
        for value in &mut values {
            let (bytes, tail) = rest.split_first_chunk()?;
            *value = f64::from(f32::from_le_bytes(*bytes));
            if !value.is_finite() || *value < 0.0 {
                return None;
            }
            rest = tail;
        }
        let [reads, writes, bytes_in, bytes_out, service_nanos] = values;
        entities.push((name.to_vec(), Counted { reads, writes, bytes_in, bytes_out, service_nanos }));
    }
    Some(entities)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entities() -> Vec<(Vec<u8>, Counted)> {
        let load = Counted { reads: 1.5, writes: 2.0, bytes_in: 3.0, bytes_out: 4.0, service_nanos: 5e8 };
        vec![(b"shop:1".to_vec(), load), (Vec::new(), Counted::default())]
    }

    #[test]
    fn an_hour_is_exactly_these_bytes() {
        let bytes = encode(&entities()[..1]);
        assert_eq!(bytes[..9], *b"\x01\x06\0shop:1");
        assert_eq!(bytes.len(), 9 + 5 * 4);
        assert_eq!(bytes[9..13], 1.5_f32.to_le_bytes());
        assert_eq!(hour_key(1), b"\xffh\0\0\0\0\0\0\0\x01");
    }

    #[test]
    fn of_a_file_the_hours_that_were_not_kept_are_taken() {
        let mut kept = Kept::default();
        kept.take(&hour_key(7), &encode(&entities())).unwrap();
        let row = |hour| (b"shop:1".to_vec(), hour, Counted { reads: 9.0, ..Counted::default() });
        assert_eq!(kept.add(vec![row(6), row(7), row(8)]), 2);
        assert_eq!(kept.hours[&7], entities());
        assert_eq!((kept.hours[&6].len(), kept.hours[&8].len()), (1, 1));
    }

    #[test]
    fn hours_read_back_and_broken_ones_are_refused() {
        let bytes = encode(&entities());
        assert_eq!(decode(&bytes), Some(entities()));
        for cut in 2..bytes.len() {
            // One entity by itself is an hour too.
            assert!(cut == 29 || decode(&bytes[..cut]).is_none(), "{cut}");
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut mangled = bytes.clone();
            mangled[random.usize(..bytes.len())] = random.u8(..);
            if let Some(entities) = decode(&mangled) {
                assert!(entities.iter().all(|(_, load)| load.requests().is_finite()));
            }
        }
        let mut kept = Kept::default();
        assert!(kept.take(b"\xffx", b"").is_err() && kept.take(b"\xffh", b"\x01").is_err());
        assert!(kept.take(b"\xffm", b"{}").is_err() && kept.memory.is_none());
    }
}
