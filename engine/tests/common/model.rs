//! What the store has promised: for every row of a caller its acknowledged value, and what an operation whose outcome
//! nobody was told may have made of it.
//!
//! Every caller has entities of its own and does one thing at a time, so that its rows have one history. All callers
//! share one group of rows, in several partitions, that transactions and batches set to one number: never half.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::history::Histories;
use super::operator::Promised;

/// (entity, row)
pub type Key = (Vec<u8>, Vec<u8>);

/// What a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub value: Vec<u8>,
    /// 0: never.
    pub expiry: u64,
    /// It was seen expired: it must stay so.
    pub is_gone: bool,
}

pub type Rows = BTreeMap<Key, Held>;

/// One step of an operation.
#[derive(Clone)]
pub enum Effect {
    Put { key: Key, value: Vec<u8>, expiry: u64 },
    Delete { key: Key },
    DeleteEntity { entity: Vec<u8> },
}

impl Effect {
    pub fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Put { key, value, expiry } => {
                rows.insert(key.clone(), Held { value: value.clone(), expiry: *expiry, is_gone: false });
            }
            Self::Delete { key } => {
                rows.remove(key);
            }
            Self::DeleteEntity { entity } => rows.retain(|key, _| key.0 != *entity),
        }
    }
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Put { key, value, .. } => write!(f, "put {:?} {}", (text(&key.0), key.1[1]), text(value)),
            Self::Delete { key } => write!(f, "delete {:?}", (text(&key.0), key.1[1])),
            Self::DeleteEntity { entity } => write!(f, "delete {:?}", text(entity)),
        }
    }
}

/// One caller's rows.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub rows: RefCell<Rows>,
    /// The operation under way, or the one that failed without saying whether it happened.
    pub unknown: RefCell<Vec<Effect>>,
}

impl Caller {
    /// The rows as they may be: without the unknown operation, and with all of it.
    pub fn candidates(&self) -> Vec<Rows> {
        let before = self.rows.borrow().clone();
        let unknown = self.unknown.borrow();
        if unknown.is_empty() {
            return vec![before];
        }
        let mut after = before.clone();
        unknown.iter().for_each(|effect| effect.apply(&mut after));
        vec![before, after]
    }

    pub fn begin(&self, effects: &[Effect]) {
        assert!(self.unknown.borrow().is_empty(), "one thing at a time");
        *self.unknown.borrow_mut() = effects.to_vec();
    }

    /// It happened.
    pub fn acknowledge(&self) {
        let effects = std::mem::take(&mut *self.unknown.borrow_mut());
        effects.iter().for_each(|effect| effect.apply(&mut self.rows.borrow_mut()));
    }

    /// It did not happen.
    pub fn refuse(&self) {
        self.unknown.borrow_mut().clear();
    }
}

/// The whole store.
#[derive(Clone, Debug)]
pub struct Model {
    pub callers: Vec<Caller>,
    /// The shared group's number: the last acknowledged one, and the largest that was ever tried.
    pub shared_acknowledged: Cell<u64>,
    pub shared_tried: Cell<u64>,
    /// The latest wall time at which the store was open or was read, ms: partition time is not beyond it.
    pub latest_ms: Cell<u64>,
    /// Acknowledged operations.
    pub acknowledged: Cell<u64>,
    pub operator: Promised,
    /// Keys that anybody reads and writes.
    pub histories: Rc<Histories>,
}

impl Model {
    pub fn new(callers: usize) -> Self {
        Self {
            callers: (0..callers).map(|_| Caller::default()).collect(),
            shared_acknowledged: Cell::new(0),
            shared_tried: Cell::new(0),
            latest_ms: Cell::new(0),
            acknowledged: Cell::new(0),
            operator: Promised::default(),
            histories: Rc::default(),
        }
    }
}

/// Whether a read may have answered `got` for a row that holds `held`. `from_ms` and `to_ms` are wall time before and
/// after the read, `latest_ms` the latest ever.
pub fn agrees(held: Option<&Held>, got: Option<&[u8]>, from_ms: u64, latest_ms: u64) -> Result<bool, String> {
    match (held, got) {
        (None, None) => Ok(false),
        (None, Some(_)) => Err("there is a row where none was written".into()),
        (Some(held), Some(got)) => {
            if held.value != got {
                Err(format!("holds {:?}, not {:?}", text(got), text(&held.value)))
            } else if held.is_gone {
                Err("came back after it was seen expired".into())
            } else if held.expiry != 0 && held.expiry <= from_ms {
                Err(format!("expired at {}, and is there at {from_ms}", held.expiry))
            } else {
                Ok(false)
            }
        }
        (Some(held), None) if held.expiry != 0 && held.expiry <= latest_ms => Ok(true),
        (Some(held), None) => Err(format!(
            "is lost; acknowledged: {:?}, expires {}, latest {latest_ms}",
            text(&held.value),
            held.expiry
        )),
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(24)]).into_owned()
}
