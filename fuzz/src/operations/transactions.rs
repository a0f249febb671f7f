//! MULTI, EXEC and WATCH in the model of commands: what each caller has begun, and what EXEC may answer.
//!
//! WATCH is about versions, and the model has values. So it knows for certain that EXEC is refused where a watched key holds
//! something else than it did, or was written again; that it runs, where nobody touched the key; and otherwise it takes
//! either answer, and goes on from it.

use std::collections::BTreeMap;
use std::rc::Rc;

use arbitrary::{Result, Unstructured};
use foreshard_engine::Shard;
use foreshard_net::Caller;

use super::commands::{Held, Model, line_of, number, told};

const CALLERS: usize = 3;
/// Of one transaction: a model of many looks no different.
const QUEUED_MAX: usize = 12;

/// Everybody who sends commands.
#[derive(Default)]
pub(super) struct Callers([One; CALLERS]);

#[derive(Default)]
struct One {
    caller: Caller,
    /// Since MULTI.
    queued: Option<Vec<Vec<Vec<u8>>>>,
    watched: BTreeMap<Vec<u8>, Seen>,
}

/// What a key was when it was first watched.
struct Seen {
    held: Option<Held>,
    touched: u64,
    written: u64,
}

/// How often keys were named by a command that may write, and how often one certainly wrote them.
#[derive(Default, Debug)]
pub(super) struct Touches {
    keys: BTreeMap<Vec<u8>, (u64, u64)>,
    all: u64,
}

impl Touches {
    pub(super) fn of(&self, key: &[u8]) -> (u64, u64) {
        let (touched, written) = self.keys.get(key).copied().unwrap_or_default();
        (touched + self.all, written)
    }

    pub(super) fn note(&mut self, line: &[&[u8]]) {
        const READS: [&[u8]; 16] = [
            b"GET",
            b"STRLEN",
            b"EXISTS",
            b"TYPE",
            b"GETRANGE",
            b"MGET",
            b"HGET",
            b"HMGET",
            b"HLEN",
            b"HEXISTS",
            b"HGETALL",
            b"HKEYS",
            b"HVALS",
            b"PEXPIRETIME",
            b"KEYS",
            b"DBSIZE",
        ];
        if READS.contains(&line[0]) {
            return;
        }
        self.all += u64::from(line[0] == b"FLUSHALL");
        let sets = line[0] == b"MSET" || line[0] == b"SET" && line.len() == 3;
        for (n, word) in line[1..].iter().enumerate() {
            // A value that reads like a key is taken for one: then either answer is right.
            let (touched, written) = self.keys.entry(word.to_vec()).or_default();
            *touched += 1;
            *written += u64::from(sets && n % 2 == 0);
        }
    }
}

impl Callers {
    pub(super) fn choose(&self, input: &mut Unstructured<'_>) -> Result<usize> {
        input.int_in_range(0..=CALLERS - 1)
    }

    pub(super) fn is_queueing(&self, caller: usize) -> bool {
        self.0[caller].queued.is_some()
    }

    pub(super) async fn execute(&mut self, caller: usize, shard: &Rc<Shard>, line: &[&[u8]]) -> Vec<u8> {
        let one = &mut self.0[caller];
        if one.queued.as_ref().is_some_and(|queued| queued.len() >= QUEUED_MAX) && line[0] != b"EXEC" {
            return one.caller.execute(shard, &[b"DISCARD"]).await.expect("no fault was made");
        }
        one.caller.execute(shard, line).await.expect("no fault was made")
    }

    /// Whether `got` is what `caller` should be told, at that time.
    pub(super) fn judge(
        &mut self,
        (caller, now_ms): (usize, u64),
        model: &mut Model,
        line: &[&[u8]],
        got: &[u8],
    ) {
        let one = &mut self.0[caller];
        let is_full = one.queued.as_ref().is_some_and(|queued| queued.len() >= QUEUED_MAX);
        let line: &[&[u8]] = if is_full && line[0] != b"EXEC" { &[b"DISCARD"] } else { line };
        let shown = || line.iter().map(|w| w.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        let answer = match (line[0], one.queued.is_some()) {
            (b"MULTI", true) => told("-ERR MULTI calls can not be nested"),
            (b"MULTI", false) => {
                one.queued = Some(Vec::new());
                told("+OK")
            }
            (b"WATCH", true) => told("-ERR WATCH inside MULTI is not allowed"),
            (b"WATCH", false) => {
                for key in &line[1..] {
                    let (held, (touched, written)) = model.look(key);
                    one.watched.entry(key.to_vec()).or_insert(Seen { held, touched, written });
                }
                told("+OK")
            }
            (b"EXEC", false) => told("-ERR EXEC without MULTI"),
            (b"DISCARD", false) => told("-ERR DISCARD without MULTI"),
            (b"DISCARD", true) => {
                (one.queued, one.watched) = (None, BTreeMap::new());
                told("+OK")
            }
            (b"EXEC", true) => return one.executed(now_ms, model, got),
            (_, true) => {
                let words = line.iter().map(|word| word.to_vec()).collect();
                one.queued.as_mut().expect("after MULTI").push(words);
                told("+QUEUED")
            }
            (b"UNWATCH", false) => {
                one.watched.clear();
                told("+OK")
            }
            (_, false) => model.run(line),
        };
        answer.check(got, shown);
    }
}

impl One {
    fn executed(&mut self, now_ms: u64, model: &mut Model, got: &[u8]) {
        let queued = self.queued.take().expect("after MULTI");
        let (may_run, may_refuse) = self.may(model);
        self.watched.clear();
        if got == b"*-1\r\n" {
            assert!(may_refuse, "EXEC is refused, and nobody touched what was watched");
            return;
        }
        assert!(may_run, "EXEC runs, although what was watched has changed: {}", got.escape_ascii());
        let (head, mut rest) = line_of(got);
        assert_eq!(head, format!("*{}", queued.len()).as_bytes(), "{}", got.escape_ascii());
        for words in queued {
            let line: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let shown = || {
                format!(
                    "in EXEC: {}",
                    line.iter().map(|w| w.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
                )
            };
            let (reply, tail) = rest.split_at(length_of(rest));
            rest = tail;
            let answer = match line[0] {
                b"UNWATCH" => told("+OK"),
                _ => model.run(&line),
            };
            answer.check(reply, shown);
            model.expire(now_ms);
        }
        assert!(rest.is_empty(), "{}", got.escape_ascii());
    }

    /// Whether EXEC may run, and whether it may be refused.
    fn may(&self, model: &Model) -> (bool, bool) {
        let mut may = (true, false);
        for (key, seen) in &self.watched {
            let (held, (touched, written)) = model.look(key);
            let is_written = written != seen.written && held.is_some() && seen.held.is_some();
            if held != seen.held || is_written {
                return (false, true);
            }
            may.1 |= touched != seen.touched;
        }
        may
    }
}

/// Bytes of the first reply in `bytes`.
fn length_of(bytes: &[u8]) -> usize {
    let (head, rest) = line_of(bytes);
    let line = bytes.len() - rest.len();
    let count = || number(&head[1..]).and_then(|n| usize::try_from(n).ok());
    match (head[0], count()) {
        (b'$', Some(len)) => line + len + 2,
        (b'*', Some(count)) => (0..count).fold(line, |at, _| at + length_of(&bytes[at..])),
        _ => line,
    }
}
