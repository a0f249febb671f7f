//! Callers at work: each does a random mix of operations on rows of its own, checks what it reads, and now and then
//! touches the rows all share.

use std::rc::Rc;

use foreshard_engine::entry::Expiry;
use foreshard_engine::io::runtime::Runtime;
use foreshard_engine::{Client, Error, PageLimit, Transaction, WriteBatch, key};

use super::model::{Caller, Effect, Key, Model, Rows, agrees};

/// The rows all callers share: one number in all of them.
pub const SHARED: usize = 5;
const ENTITIES: u8 = 7;
const ROWS: u8 = 12;
/// Rows of a long batch, all in one entity and so in one partition: more than are inserted in one turn.
const LONG: std::ops::Range<u16> = 129..160;

pub fn shared_entity(n: usize) -> Vec<u8> {
    format!("shared:{n}").into_bytes()
}

fn entity_of(caller: usize, n: u8) -> Vec<u8> {
    format!("caller:{caller}:{n}").into_bytes()
}

/// One of all entities that are written to.
pub fn any_entity(random: &mut fastrand::Rng, callers: usize) -> Vec<u8> {
    if random.u8(..4) == 0 {
        shared_entity(random.usize(..SHARED))
    } else {
        entity_of(random.usize(..callers), random.u8(..ENTITIES))
    }
}

/// What an error says of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// It certainly did not happen.
    Refused,
    /// It may have happened.
    Unknown,
}

pub fn outcome(result: &Result<(), Error>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(Error::Conflict | Error::Full(_) | Error::TryAgain(_)) => Outcome::Refused,
        Err(Error::Misuse(what)) => panic!("the workload breaks a limit: {what}"),
        Err(Error::Moved { version }) => panic!("told to look again at version {version}"),
        Err(
            Error::Stopped(_) | Error::Io { .. } | Error::Corrupt(_) | Error::Closed | Error::Unsupported(_),
        ) => Outcome::Unknown,
    }
}

/// Called after each acknowledged write with its unique bytes, if it has some.
pub type Witness = Rc<dyn Fn(&[u8])>;

/// One caller of an open store.
pub struct Worker {
    pub number: usize,
    pub client: Client,
    pub model: Rc<Model>,
    pub runtime: Runtime,
    pub random: fastrand::Rng,
    pub witness: Option<Witness>,
    /// Reads may fail too: the device is faulty.
    pub is_faulty: bool,
}

impl Worker {
    fn me(&self) -> &Caller {
        &self.model.callers[self.number]
    }

    /// Does `count` things, or fewer: nothing is written any more after a write whose outcome is unknown.
    pub async fn work(&mut self, count: usize) {
        for _ in 0..count {
            let result = match self.random.u8(..100) {
                0..30 => self.put().await,
                30..38 => self.put_expiring().await,
                38..46 => self.delete().await,
                46..49 => self.delete_entity().await,
                49..60 => self.batch().await,
                60..62 => self.long_batch().await,
                62..67 => self.transaction().await,
                67..75 => self.shared().await,
                75..88 => {
                    self.read().await;
                    Ok(())
                }
                88..94 => {
                    self.scan().await;
                    Ok(())
                }
                94..98 => self.snapshot().await,
                _ => {
                    self.runtime.sleep(std::time::Duration::from_millis(self.random.u64(1..30))).await;
                    Ok(())
                }
            };
            if outcome(&result) == Outcome::Unknown {
                assert!(self.is_faulty, "caller {}: {}", self.number, result.unwrap_err());
                break;
            }
        }
    }

    fn token(&mut self, bytes: usize) -> Vec<u8> {
        let mut value: Vec<u8> = format!("<{}:{:016x}>", self.number, self.random.u64(..)).into_bytes();
        // Half of it compresses, half does not.
        while value.len() < bytes {
            value.push(if value.len().is_multiple_of(2) { b'.' } else { self.random.u8(..) });
        }
        value
    }

    fn value(&mut self) -> Vec<u8> {
        let bytes = match self.random.u8(..20) {
            0 => self.random.usize(1000..9000),
            1..5 => self.random.usize(200..900),
            _ => self.random.usize(20..120),
        };
        self.token(bytes)
    }

    fn key(&mut self) -> Key {
        let row = vec![b'r', self.random.u8(..ROWS)];
        (entity_of(self.number, self.random.u8(..ENTITIES)), row)
    }

    async fn put(&mut self) -> Result<(), Error> {
        let (key, value) = (self.key(), self.value());
        self.me().begin(&[Effect::Put { key: key.clone(), value: value.clone(), expiry: 0 }]);
        let result = self.client.put(&key.0, &key.1, &value).await;
        self.finish(result, Some(&value))
    }

    async fn put_expiring(&mut self) -> Result<(), Error> {
        let (key, value) = (self.key(), self.value());
        let expiry = self.runtime.wall_ms() + self.random.u64(1..80);
        self.me().begin(&[Effect::Put { key: key.clone(), value: value.clone(), expiry }]);
        let result = self.client.put_until(&key.0, &key.1, &value, Expiry(expiry)).await;
        self.finish(result, Some(&value))
    }

    async fn delete(&mut self) -> Result<(), Error> {
        let key = self.key();
        self.me().begin(&[Effect::Delete { key: key.clone() }]);
        let result = self.client.delete(&key.0, &key.1).await;
        self.finish(result, None)
    }

    async fn delete_entity(&mut self) -> Result<(), Error> {
        let (entity, _) = self.key();
        let mut batch = WriteBatch::new();
        batch.delete_entity(&entity).unwrap();
        self.me().begin(&[Effect::DeleteEntity { entity }]);
        let result = self.client.write(batch).await;
        self.finish(result, None)
    }

    fn effects(&mut self) -> Vec<Effect> {
        let many = self.random.u8(..12) == 0;
        let count = if many { self.random.usize(100..160) } else { self.random.usize(1..8) };
        (0..count)
            .map(|_| match self.random.u8(..20) {
                0 => Effect::DeleteEntity { entity: self.key().0 },
                1..4 => Effect::Delete { key: self.key() },
                _ if many => Effect::Put { key: self.key(), value: self.token(24), expiry: 0 },
                _ => Effect::Put { key: self.key(), value: self.value(), expiry: 0 },
            })
            .collect()
    }

    async fn batch(&mut self) -> Result<(), Error> {
        let effects = self.effects();
        let mut batch = WriteBatch::new();
        for effect in &effects {
            match effect {
                Effect::Put { key, value, .. } => batch.put(&key.0, &key.1, value).unwrap(),
                Effect::Delete { key } => batch.delete(&key.0, &key.1).unwrap(),
                Effect::DeleteEntity { entity } => batch.delete_entity(entity).unwrap(),
            }
        }
        let told = last_value(&effects);
        self.me().begin(&effects);
        let result = self.client.write(batch).await;
        self.finish(result, told.as_deref())
    }

    async fn long_batch(&mut self) -> Result<(), Error> {
        let (entity, _) = self.key();
        let mut batch = WriteBatch::new();
        let mut effects = Vec::new();
        for n in 0..self.random.u16(LONG) {
            let key = (entity.clone(), [&b"l"[..], &n.to_be_bytes()].concat());
            let value = self.token(24);
            batch.put(&key.0, &key.1, &value).unwrap();
            effects.push(Effect::Put { key, value, expiry: 0 });
        }
        let told = last_value(&effects);
        self.me().begin(&effects);
        let result = self.client.write(batch).await;
        self.finish(result, told.as_deref())
    }

    async fn transaction(&mut self) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        for _ in 0..self.random.usize(1..4) {
            let key = self.key();
            let from = self.runtime.wall_ms();
            let got = self.client.get_in(&mut transaction, &key.0, &key.1).await;
            match got {
                Ok(got) => self.check(&key, got.as_deref(), from),
                Err(Error::Conflict) => return Ok(()),
                Err(e) => return self.failed_read(e),
            }
        }
        let effects: Vec<Effect> = (0..self.random.usize(1..5))
            .map(|_| Effect::Put { key: self.key(), value: self.value(), expiry: 0 })
            .collect();
        for effect in &effects {
            let Effect::Put { key, value, .. } = effect else { unreachable!() };
            transaction.put(&key.0, &key.1, value).unwrap();
        }
        self.me().begin(&effects);
        let told = last_value(&effects);
        // The rows are its own, but one may expire between its read and the commit.
        let result = self.client.commit(transaction).await;
        self.finish(result, told.as_deref())
    }

    /// Adds one to the shared number, in all its rows, if nobody else does meanwhile.
    async fn shared(&mut self) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        let from = self.model.shared_acknowledged.get();
        let before = match self.client.get_in(&mut transaction, &shared_entity(0), b"n").await {
            Ok(before) => number_of(before.as_deref()),
            Err(e) => return self.failed_read(e),
        };
        assert!(before >= from, "the shared number went back from {from} to {before}");
        let tried = before + 1;
        self.model.shared_tried.set(tried.max(self.model.shared_tried.get()));
        for n in 0..SHARED {
            transaction.put(&shared_entity(n), b"n", tried.to_string().as_bytes()).unwrap();
        }
        let result = self.client.commit(transaction).await;
        match outcome(&result) {
            Outcome::Done => {
                let known = self.model.shared_acknowledged.get();
                assert!(tried > known, "{tried} was acknowledged after {known}");
                self.model.shared_acknowledged.set(tried);
                self.model.acknowledged.set(self.model.acknowledged.get() + 1);
                Ok(())
            }
            Outcome::Refused => Ok(()),
            Outcome::Unknown => result,
        }
    }

    async fn read(&mut self) {
        let key = self.key();
        let from = self.runtime.wall_ms();
        match self.client.get(&key.0, &key.1).await {
            Ok(got) => self.check(&key, got.as_deref(), from),
            Err(e) => self.failed_read(e).unwrap(),
        }
    }

    async fn scan(&mut self) {
        let (entity, _) = self.key();
        let from = self.runtime.wall_ms();
        let limit = PageLimit { rows: self.random.usize(1..9), bytes: 4096 };
        match scan_entity(&self.client, &entity, limit).await {
            Ok(got) => {
                for row in 0..ROWS {
                    let key = (entity.clone(), vec![b'r', row]);
                    self.check(&key, got.get(&key).map(Vec::as_slice), from);
                }
            }
            Err(e) => self.failed_read(e).unwrap(),
        }
    }

    /// A snapshot shows what there was when it was taken, whatever is written after it.
    async fn snapshot(&mut self) -> Result<(), Error> {
        let snapshot = match self.client.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(e) => return self.failed_read(e),
        };
        let then = self.me().rows.borrow().clone();
        for _ in 0..self.random.usize(1..4) {
            let result = self.put().await;
            if outcome(&result) == Outcome::Unknown {
                return result;
            }
        }
        for _ in 0..4 {
            let key = self.key();
            let from = self.runtime.wall_ms();
            match self.client.get_at(&snapshot, &key.0, &key.1).await {
                Ok(got) => {
                    self.saw_time();
                    let latest = self.model.latest_ms.get();
                    if let Err(what) = agrees(then.get(&key), got.as_deref(), from, latest) {
                        panic!("snapshot of caller {}: {key:?} {what}", self.number);
                    }
                }
                Err(e) => self.failed_read(e)?,
            }
        }
        Ok(())
    }

    fn failed_read(&self, e: Error) -> Result<(), Error> {
        assert!(self.is_faulty, "caller {} reads: {e}", self.number);
        Ok(())
    }

    fn saw_time(&self) {
        self.model.latest_ms.set(self.runtime.wall_ms().max(self.model.latest_ms.get()));
    }

    fn check(&self, key: &Key, got: Option<&[u8]>, from_ms: u64) {
        self.saw_time();
        let mut rows = self.me().rows.borrow_mut();
        match agrees(rows.get(key), got, from_ms, self.model.latest_ms.get()) {
            Ok(false) => {}
            Ok(true) => rows.get_mut(key).unwrap().is_gone = true,
            Err(what) => panic!("caller {}: {:?} {what}", self.number, key),
        }
    }

    fn finish(&mut self, result: Result<(), Error>, told: Option<&[u8]>) -> Result<(), Error> {
        match outcome(&result) {
            Outcome::Done => {
                if let (Some(witness), Some(value)) = (&self.witness, told) {
                    witness(value);
                }
                self.me().acknowledge();
                self.model.acknowledged.set(self.model.acknowledged.get() + 1);
                Ok(())
            }
            Outcome::Refused => {
                self.me().refuse();
                Ok(())
            }
            Outcome::Unknown => result,
        }
    }
}

/// A value that is still in the batch after what follows it.
fn last_value(effects: &[Effect]) -> Option<Vec<u8>> {
    match effects.last() {
        Some(Effect::Put { value, .. }) => Some(value.clone()),
        _ => None,
    }
}

fn number_of(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| String::from_utf8_lossy(value).parse().unwrap())
}

/// All rows of an entity, page by page.
pub async fn scan_entity(
    client: &Client,
    entity: &[u8],
    limit: PageLimit,
) -> Result<std::collections::BTreeMap<Key, Vec<u8>>, Error> {
    let mut rows = std::collections::BTreeMap::new();
    let mut from = Vec::new();
    loop {
        let page = client.scan(entity, &from, limit).await?;
        for row in page.rows {
            let (entity, name) = key::decode(&row.key).unwrap();
            rows.insert((entity.to_vec(), name.to_vec()), row.value);
        }
        let Some(resume) = page.resume else { return Ok(rows) };
        from = key::decode(&resume).unwrap().1.to_vec();
    }
}

/// Compares all that is there with all that may be, and settles what was unknown.
///
/// # Errors
/// The store's: what could be read agreed.
pub async fn verify(client: &Client, model: &Model, runtime: &Runtime) -> Result<(), Error> {
    for (number, caller) in model.callers.iter().enumerate() {
        let from_ms = runtime.wall_ms();
        let mut got = std::collections::BTreeMap::new();
        for n in 0..ENTITIES {
            let limit = PageLimit { rows: 100, bytes: 1 << 20 };
            let entity = entity_of(number, n);
            let rows = scan_entity(client, &entity, limit).await?;
            for row in 0..ROWS {
                let key = (entity.clone(), vec![b'r', row]);
                let point = client.get(&key.0, &key.1).await?;
                let is_same = point.as_ref() == rows.get(&key);
                let may_expire =
                    caller.candidates().iter().any(|c| c.get(&key).is_some_and(|h| h.expiry != 0));
                assert!(
                    is_same || may_expire,
                    "caller {number}: {key:?} by get {:?} and by scan {:?}",
                    point.as_deref().map(super::model::text),
                    rows.get(&key).map(|v| super::model::text(v))
                );
            }
            got.extend(rows);
        }
        model.latest_ms.set(runtime.wall_ms().max(model.latest_ms.get()));
        let candidates = caller.candidates();
        let compared = candidates.iter().map(|rows| compare(rows, &got, from_ms, model.latest_ms.get()));
        let compared: Vec<_> = compared.collect();
        let Some(settled) = compared.iter().find_map(|c| c.as_ref().ok()) else {
            let unknown = caller.unknown.borrow();
            panic!("caller {number}: {compared:?}, in doubt: {unknown:?}");
        };
        *caller.rows.borrow_mut() = settled.clone();
        caller.unknown.borrow_mut().clear();
    }
    let numbers = shared_numbers(client).await?;
    let (least, most) = (model.shared_acknowledged.get(), model.shared_tried.get());
    assert!(numbers.iter().all(|n| n == &numbers[0]), "a transaction is there in part: {numbers:?}");
    assert!(
        (least..=most).contains(&numbers[0]),
        "shared number {}: {least} acknowledged, {most} tried",
        numbers[0]
    );
    model.shared_acknowledged.set(numbers[0]);
    model.shared_tried.set(numbers[0]);
    Ok(())
}

/// The number in each of the rows that all callers share.
///
/// # Errors
/// The store's.
pub async fn shared_numbers(client: &Client) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for n in 0..SHARED {
        numbers.push(number_of(client.get(&shared_entity(n), b"n").await?.as_deref()));
    }
    Ok(numbers)
}

/// The rows with what was seen expired marked; or how they differ.
fn compare(
    rows: &Rows,
    got: &std::collections::BTreeMap<Key, Vec<u8>>,
    from_ms: u64,
    latest_ms: u64,
) -> Result<Rows, String> {
    let mut settled = rows.clone();
    for key in rows.keys().chain(got.keys()) {
        let seen = got.get(key).map(Vec::as_slice);
        match agrees(rows.get(key), seen, from_ms, latest_ms) {
            Ok(false) => {}
            Ok(true) => settled.get_mut(key).unwrap().is_gone = true,
            Err(what) => return Err(format!("{:?} {what}", (String::from_utf8_lossy(&key.0), key.1[1]))),
        }
    }
    Ok(settled)
}
