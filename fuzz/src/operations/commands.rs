//! Redis commands against a naive model of keys: a store in virtual time, several shards and partitions, with flushes,
//! reopenings and time that passes. Several callers, each of whom may have begun a transaction (`transactions`).

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use foreshard_engine::io::disk::Disk;
use foreshard_engine::io::memory::{MemoryConfig, MemoryDisk};
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::io::virtual_time::VirtualRuntime;
use foreshard_engine::{Options, SimulatedStore};

use super::trace;
use super::transactions::{Callers, Touches};

const OPERATIONS_MAX: u32 = 400;
const SHARDS_MAX: usize = 3;
/// No command takes as long, in virtual time.
const COMMAND_MS_MAX: u64 = 500;
/// An expiry that no run comes by: the year 2100.
const FAR_MS: u64 = 4_102_444_800_000;

/// Two of one entity, one that needs escaping, one that is empty.
const KEYS: [&[u8]; 6] = [b"a", b"b", b"{t}1", b"{t}2", b"x\0{y}", b""];
const FIELDS: [&[u8]; 4] = [b"f", b"g", b"", b"\0\xff"];
const VALUES: [&[u8]; 6] = [b"", b"1", b"-7", b"text", b"9223372036854775807", &[0xff; 700]];

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// What a key holds, and the time at which it is gone.
pub(super) type Held = (Value, Option<u64>);

/// Keys, and how often each was touched.
#[derive(Default, Debug)]
pub(super) struct Model(BTreeMap<Vec<u8>, Held>, Touches);

/// What a command should answer.
pub(super) enum Answer {
    Is(Vec<u8>),
    /// Elements in any order, in groups of so many.
    Unordered(usize, Vec<Vec<u8>>),
}

/// Runs the commands that `data` is.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let shards = input.int_in_range(1..=SHARDS_MAX).unwrap_or(1);
    let world = VirtualRuntime::new(1);
    let runtimes: Vec<_> = (0..shards).map(|_| world.runtime()).collect();
    let disk: Rc<dyn Disk> = Rc::new(MemoryDisk::new(&runtimes[0], 3, MemoryConfig::default()));
    world.block_on(async {
        let mut store = Some(open(&runtimes, &disk).await);
        let (mut model, mut callers) = (Model::default(), Callers::default());
        for _ in 0..OPERATIONS_MAX {
            let of = (&mut model, &mut callers);
            match operation(&mut input, &mut store, of, &runtimes, &disk).await {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        store.expect("always open between operations").close().await.expect("closes");
    });
}

async fn open(runtimes: &[Runtime], disk: &Rc<dyn Disk>) -> SimulatedStore {
    let options = Options {
        partitions: 5,
        memory_bytes: 4 << 20,
        memtables_bytes: 1 << 20,
        memtable_bytes: 16 << 10,
        wal_file_bytes: 256 << 10,
        wal_cap_bytes: 4 << 20,
        reserve_bytes: 1 << 20,
        block_bytes: 512,
        ..Options::default()
    };
    SimulatedStore::open(runtimes, Rc::clone(disk), Path::new("/s"), options, 5).await.expect("opens")
}

async fn operation(
    input: &mut Unstructured<'_>,
    slot: &mut Option<SimulatedStore>,
    (model, callers): (&mut Model, &mut Callers),
    runtimes: &[Runtime],
    disk: &Rc<dyn Disk>,
) -> Result<bool> {
    if input.is_empty() {
        return Ok(false);
    }
    let store = slot.as_ref().expect("always open between operations");
    match input.int_in_range(0..=40_u8)? {
        0 => store.client().expect("open").flush().await.expect("flushes"),
        1 => runtimes[0].sleep(Duration::from_millis(input.int_in_range(1..=3000)?)).await,
        2 => {
            slot.take().expect("always open between operations").close().await.expect("closes");
            *slot = Some(open(runtimes, disk).await);
            // Connections do not outlive the server.
            *callers = Callers::default();
        }
        _ => {
            // A command takes virtual time: none may expire while it runs.
            model.expire(runtimes[0].wall_ms());
            while model.expires_before(runtimes[0].wall_ms() + COMMAND_MS_MAX) {
                runtimes[0].sleep(Duration::from_millis(COMMAND_MS_MAX)).await;
                model.expire(runtimes[0].wall_ms());
            }
            let caller = callers.choose(input)?;
            let line = command(input, runtimes[0].wall_ms(), callers.is_queueing(caller))?;
            let words: Vec<&[u8]> = line.iter().map(Vec::as_slice).collect();
            let shard = store.shard(caller % runtimes.len()).expect("open");
            let now_ms = shard.runtime().wall_ms();
            model.expire(now_ms);
            let got = callers.execute(caller, &shard, &words).await;
            let shown = || line.iter().map(|w| w.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
            trace(|| format!("{now_ms}: {caller}: {} -> {}", shown(), got.escape_ascii()));
            callers.judge((caller, now_ms), model, &words, &got);
        }
    }
    Ok(true)
}

fn command(input: &mut Unstructured<'_>, now_ms: u64, is_queued: bool) -> Result<Vec<Vec<u8>>> {
    let mut line: Vec<Vec<u8>> = Vec::new();
    let shapes = [
        "SET k v",
        "SET k v",
        "SET k v NX",
        "SET k v XX",
        "SET k v KEEPTTL",
        "SETNX k v",
        "GETSET k v",
        "GETDEL k",
        "GET k",
        "DEL k k",
        "EXISTS k k",
        "TYPE k",
        "APPEND k v",
        "STRLEN k",
        "INCRBY k n",
        "SETRANGE k o v",
        "GETRANGE k n n",
        "MSET k v k v",
        "MGET k k k",
        "MSETNX k v k v",
        "HSET k f v",
        "HSET k f v f v",
        "HSETNX k f v",
        "HGET k f",
        "HMGET k f f",
        "HDEL k f f",
        "HLEN k",
        "HEXISTS k f",
        "HINCRBY k f n",
        "HGETALL k",
        "HKEYS k",
        "HVALS k",
        "RENAME k k",
        "RENAMENX k k",
        "COPY k k",
        "COPY k k REPLACE",
        "PEXPIREAT k t",
        "PERSIST k",
        "PEXPIRETIME k",
        "KEYS *",
        "DBSIZE",
        "FLUSHALL",
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH k",
        "WATCH k k",
        "UNWATCH",
    ];
    let shape = *input.choose(&shapes)?;
    for word in shape.split(' ') {
        line.push(match word {
            "k" => input.choose(&KEYS)?.to_vec(),
            "v" => input.choose(&VALUES)?.to_vec(),
            "f" => input.choose(&FIELDS)?.to_vec(),
            "n" => input.int_in_range(-9..=9_i64)?.to_string().into_bytes(),
            "o" => input.int_in_range(0..=20_i64)?.to_string().into_bytes(),
            // What is queued may run later: not at a time that could be on either side of it.
            "t" if is_queued => (*input.choose(&[1, FAR_MS])?).to_string().into_bytes(),
            "t" => (now_ms + input.int_in_range(0..=4000)? - 1000).to_string().into_bytes(),
            _ => word.as_bytes().to_vec(),
        });
    }
    Ok(line)
}

impl Answer {
    /// Whether `got` is this answer.
    pub(super) fn check(self, got: &[u8], shown: impl Fn() -> String) {
        match self {
            Self::Is(want) => assert_eq!(got, want, "{}: {}", shown(), got.escape_ascii()),
            Self::Unordered(group, mut want) => {
                let mut elements = elements(got);
                let sort = |all: &mut Vec<Vec<u8>>| {
                    let mut groups: Vec<Vec<Vec<u8>>> = all.chunks(group).map(<[_]>::to_vec).collect();
                    groups.sort();
                    *all = groups.concat();
                };
                sort(&mut elements);
                sort(&mut want);
                assert_eq!(elements, want, "{}", shown());
            }
        }
    }
}

/// The elements of an array of strings.
fn elements(reply: &[u8]) -> Vec<Vec<u8>> {
    let (head, mut rest) = line_of(reply);
    assert_eq!(head[0], b'*', "{}", reply.escape_ascii());
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = line_of(rest);
        let len = number(&head[1..]).and_then(|n| usize::try_from(n).ok()).expect("a length");
        elements.push(tail[..len].to_vec());
        rest = &tail[len + 2..];
    }
    assert_eq!(number(&head[1..]).and_then(|n| usize::try_from(n).ok()), Some(elements.len()));
    elements
}

pub(super) fn line_of(reply: &[u8]) -> (&[u8], &[u8]) {
    let end = reply.iter().position(|&b| b == b'\r').expect("a line");
    (&reply[..end], &reply[end + 2..])
}

pub(super) fn number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

fn bulk(value: Option<&Vec<u8>>) -> Vec<u8> {
    match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    }
}

fn integer(n: impl TryInto<i64>) -> Answer {
    Answer::Is(format!(":{}\r\n", n.try_into().unwrap_or(i64::MAX)).into_bytes())
}

pub(super) fn told(text: &str) -> Answer {
    Answer::Is(format!("{text}\r\n").into_bytes())
}

fn wrong_type() -> Answer {
    told("-WRONGTYPE Operation against a key holding the wrong kind of value")
}

impl Model {
    fn expires_before(&self, then_ms: u64) -> bool {
        self.0.values().any(|(_, expiry)| expiry.is_some_and(|expiry| expiry <= then_ms))
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        self.0.retain(|_, (_, expiry)| expiry.is_none_or(|expiry| expiry > now_ms));
    }

    fn string(&self, key: &[u8]) -> std::result::Result<Option<&Vec<u8>>, Answer> {
        match self.0.get(key) {
            Some((Value::String(bytes), _)) => Ok(Some(bytes)),
            Some((Value::Hash(_), _)) => Err(wrong_type()),
            None => Ok(None),
        }
    }

    fn hash(&self, key: &[u8]) -> std::result::Result<BTreeMap<Vec<u8>, Vec<u8>>, Answer> {
        match self.0.get(key) {
            Some((Value::Hash(fields), _)) => Ok(fields.clone()),
            Some((Value::String(_), _)) => Err(wrong_type()),
            None => Ok(BTreeMap::new()),
        }
    }

    fn expiry(&self, key: &[u8]) -> Option<u64> {
        self.0.get(key).and_then(|(_, expiry)| *expiry)
    }

    fn set(&mut self, key: &[u8], value: &[u8], expiry: Option<u64>) {
        self.0.insert(key.to_vec(), (Value::String(value.to_vec()), expiry));
    }

    fn put_hash(&mut self, key: &[u8], fields: BTreeMap<Vec<u8>, Vec<u8>>) {
        let expiry = self.expiry(key);
        if fields.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_vec(), (Value::Hash(fields), expiry));
        }
    }

    /// What a key holds, and how often it was touched.
    pub(super) fn look(&self, key: &[u8]) -> (Option<Held>, (u64, u64)) {
        (self.0.get(key).cloned(), self.1.of(key))
    }

    pub(super) fn run(&mut self, line: &[&[u8]]) -> Answer {
        self.1.note(line);
        let name = String::from_utf8_lossy(line[0]).into_owned();
        let answer =
            if name.starts_with('H') { self.run_hash(&name, line) } else { self.run_string(&name, line) };
        answer.unwrap_or_else(|refusal| refusal)
    }

    fn run_string(&mut self, name: &str, line: &[&[u8]]) -> std::result::Result<Answer, Answer> {
        let key = line.get(1).copied().unwrap_or_default();
        let is_there = self.0.contains_key(key);
        Ok(match name {
            "SET" => {
                let option = line.get(3).map(|option| String::from_utf8_lossy(option).into_owned());
                if option.as_deref() == Some("NX") && is_there || option.as_deref() == Some("XX") && !is_there
                {
                    return Ok(told("$-1"));
                }
                let expiry = self.expiry(key).filter(|_| option.as_deref() == Some("KEEPTTL"));
                self.set(key, line[2], expiry);
                told("+OK")
            }
            "SETNX" => {
                if !is_there {
                    self.set(key, line[2], None);
                }
                integer(i64::from(!is_there))
            }
            "GETSET" => {
                let before = bulk(self.string(key)?);
                self.set(key, line[2], None);
                Answer::Is(before)
            }
            "GETDEL" => {
                let before = bulk(self.string(key)?);
                self.0.remove(key);
                Answer::Is(before)
            }
            "GET" => Answer::Is(bulk(self.string(key)?)),
            "STRLEN" => integer(self.string(key)?.map_or(0, Vec::len)),
            "DEL" => integer(line[1..].iter().filter(|key| self.0.remove(**key).is_some()).count()),
            "EXISTS" => integer(line[1..].iter().filter(|key| self.0.contains_key(**key)).count()),
            "TYPE" => match self.0.get(key) {
                Some((Value::String(_), _)) => told("+string"),
                Some((Value::Hash(_), _)) => told("+hash"),
                None => told("+none"),
            },
            "APPEND" => {
                let mut value = self.string(key)?.cloned().unwrap_or_default();
                value.extend_from_slice(line[2]);
                self.set(key, &value, self.expiry(key));
                integer(value.len())
            }
            "INCRBY" => {
                let value = self.string(key)?.cloned().unwrap_or_else(|| b"0".to_vec());
                let before =
                    number(&value).ok_or_else(|| told("-ERR value is not an integer or out of range"))?;
                let sum = before.checked_add(number(line[2]).expect("a number"));
                let sum = sum.ok_or_else(|| told("-ERR increment or decrement would overflow"))?;
                self.set(key, sum.to_string().as_bytes(), self.expiry(key));
                integer(sum)
            }
            "SETRANGE" => {
                let mut value = self.string(key)?.cloned().unwrap_or_default();
                let offset = usize::try_from(number(line[2]).expect("a number")).expect("not negative");
                if !line[3].is_empty() {
                    value.resize(value.len().max(offset + line[3].len()), 0);
                    value[offset..offset + line[3].len()].copy_from_slice(line[3]);
                    self.set(key, &value, self.expiry(key));
                }
                integer(value.len())
            }
            "GETRANGE" => {
                let value = self.string(key)?.cloned().unwrap_or_default();
                let (start, end) = (number(line[2]).expect("a number"), number(line[3]).expect("a number"));
                Answer::Is(bulk(Some(&range(&value, start, end))))
            }
            "MSET" => {
                line[1..].chunks(2).for_each(|pair| self.set(pair[0], pair[1], None));
                told("+OK")
            }
            "MSETNX" => {
                let free = line[1..].chunks(2).all(|pair| !self.0.contains_key(pair[0]));
                if free {
                    line[1..].chunks(2).for_each(|pair| self.set(pair[0], pair[1], None));
                }
                integer(i64::from(free))
            }
            "MGET" => {
                let values = line[1..].iter().map(|key| bulk(self.string(key).ok().flatten()));
                let values: Vec<Vec<u8>> = values.collect();
                Answer::Is([format!("*{}\r\n", values.len()).into_bytes(), values.concat()].concat())
            }
            _ => self.run_key(name, line),
        })
    }

    fn run_key(&mut self, name: &str, line: &[&[u8]]) -> Answer {
        let key = line.get(1).copied().unwrap_or_default();
        let held = self.0.get(key).cloned();
        match name {
            "RENAME" | "RENAMENX" => {
                let Some(held) = held else { return told("-ERR no such key") };
                let free = !self.0.contains_key(line[2]);
                if name == "RENAME" || free {
                    self.0.remove(key);
                    self.0.insert(line[2].to_vec(), held);
                }
                if name == "RENAME" { told("+OK") } else { integer(i64::from(free)) }
            }
            "COPY" => {
                if key == line[2] {
                    return told("-ERR source and destination objects are the same");
                }
                let free = line.len() > 3 || !self.0.contains_key(line[2]);
                let copied = held.filter(|_| free);
                let done = copied.is_some();
                if let Some(held) = copied {
                    self.0.insert(line[2].to_vec(), held);
                }
                integer(i64::from(done))
            }
            "PEXPIREAT" => {
                let then = u64::try_from(number(line[2]).expect("a number")).expect("not negative");
                if let Some((_, expiry)) = self.0.get_mut(key) {
                    *expiry = Some(then);
                }
                integer(i64::from(held.is_some()))
            }
            "PERSIST" => {
                let had = self.expiry(key).is_some();
                if let Some((_, expiry)) = self.0.get_mut(key) {
                    *expiry = None;
                }
                integer(i64::from(had))
            }
            "PEXPIRETIME" => match held {
                None => integer(-2),
                Some((_, None)) => integer(-1),
                Some((_, Some(expiry))) => integer(i64::try_from(expiry).unwrap_or(i64::MAX)),
            },
            "KEYS" => Answer::Unordered(1, self.0.keys().cloned().collect()),
            "DBSIZE" => integer(self.0.len()),
            "FLUSHALL" => {
                self.0.clear();
                told("+OK")
            }
            _ => unreachable!("{name} is among the shapes"),
        }
    }

    fn run_hash(&mut self, name: &str, line: &[&[u8]]) -> std::result::Result<Answer, Answer> {
        let key = line[1];
        let mut fields = self.hash(key)?;
        Ok(match name {
            "HSET" => {
                let pairs = line[2..].chunks(2);
                let added =
                    pairs.filter(|pair| fields.insert(pair[0].to_vec(), pair[1].to_vec()).is_none()).count();
                self.put_hash(key, fields);
                integer(added)
            }
            "HSETNX" => {
                let is_new = !fields.contains_key(line[2]);
                if is_new {
                    fields.insert(line[2].to_vec(), line[3].to_vec());
                    self.put_hash(key, fields);
                }
                integer(i64::from(is_new))
            }
            "HGET" => Answer::Is(bulk(fields.get(line[2]))),
            "HMGET" => {
                let values: Vec<Vec<u8>> = line[2..].iter().map(|field| bulk(fields.get(*field))).collect();
                Answer::Is([format!("*{}\r\n", values.len()).into_bytes(), values.concat()].concat())
            }
            "HDEL" => {
                let deleted = line[2..].iter().filter(|field| fields.remove(**field).is_some()).count();
                self.put_hash(key, fields);
                integer(deleted)
            }
            "HLEN" => integer(fields.len()),
            "HEXISTS" => integer(i64::from(fields.contains_key(line[2]))),
            "HINCRBY" => {
                let value = fields.get(line[2]).cloned().unwrap_or_else(|| b"0".to_vec());
                let before = number(&value).ok_or_else(|| told("-ERR hash value is not an integer"))?;
                let sum = before.checked_add(number(line[3]).expect("a number"));
                let sum = sum.ok_or_else(|| told("-ERR increment or decrement would overflow"))?;
                fields.insert(line[2].to_vec(), sum.to_string().into_bytes());
                self.put_hash(key, fields);
                integer(sum)
            }
            "HGETALL" => Answer::Unordered(2, fields.into_iter().flat_map(|(f, v)| [f, v]).collect()),
            "HKEYS" => Answer::Unordered(1, fields.into_keys().collect()),
            "HVALS" => Answer::Unordered(1, fields.into_values().collect()),
            _ => unreachable!("{name} is among the shapes"),
        })
    }
}

/// GETRANGE, byte by byte.
fn range(value: &[u8], start: i64, end: i64) -> Vec<u8> {
    let len = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Vec::new();
    }
    let place = |n: i64| if n < 0 { (len + n).max(0) } else { n };
    let within = |n: &i64| (place(start)..=place(end)).contains(n);
    (0..len).filter(within).filter_map(|n| value.get(usize::try_from(n).ok()?).copied()).collect()
}
