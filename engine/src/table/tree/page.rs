//! A leaf of the tree: items in order, with gaps between them, so that an item lies at its home or a little behind it. The
//! home follows from the bits of its key: most look-ups read one item, and no index before it.
//!
//! It is a hash table with linear probing that keeps its items in order (Amble and Knuth, "Ordered hash tables", 1974), of
//! keys whose order is that of their hashes.
//!
//! Invariants:
//! - items are in order, each at its home or behind it, with no gap between the two;
//! - the last slot is free.

use std::sync::Arc;

use super::{Item, window_of};

/// See the module. The keys of its items are alike up to a level, which its caller knows.
#[derive(Clone)]
pub(super) struct Page<T> {
    slots: Arc<[Option<T>]>,
    /// How many slots homes are spread over.
    spread: u32,
    len: u32,
}

impl<T: Item> Page<T> {
    /// Of items in order.
    pub(super) fn of(level: usize, items: Vec<T>) -> Self {
        let len = u32::try_from(items.len()).expect("a page is split long before");
        let spread = len * SLOTS / ITEMS_AT_FIRST + 1;
        let mut slots = Vec::with_capacity(spread as usize + SLACK);
        for item in items {
            let home = home(window_of(item.key(), level), spread);
            slots.resize_with(home.max(slots.len()), || None);
            slots.push(Some(item));
        }
        slots.resize_with(slots.len().max(spread as usize) + SLACK, || None);
        Self { slots: slots.into(), spread, len }
    }

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// All slots.
    pub(super) fn slots(&self) -> std::slice::Iter<'_, Option<T>> {
        self.slots.iter()
    }

    /// The slots from the first on whose item is not before `start`.
    pub(super) fn from(&self, start: &[u8], window: u64) -> std::slice::Iter<'_, Option<T>> {
        let mut slots = self.slots.get(home(window, self.spread)..).unwrap_or_default();
        while let Some((Some(item), behind)) = slots.split_first()
            && item.key() < start
        {
            slots = behind;
        }
        slots.iter()
    }

    /// The item whose key `key` begins with.
    #[inline]
    pub(super) fn covering(&self, key: &[u8], window: u64) -> Option<&T> {
        for slot in self.slots.get(home(window, self.spread)..)? {
            let item = slot.as_ref()?;
            if key.starts_with(item.key()) {
                return Some(item);
            }
            if item.key() > key {
                return None;
            }
        }
        None
    }

    /// Puts `item` in; the one that had its key, if there was one.
    pub(super) fn insert(&mut self, level: usize, item: T) -> Option<T> {
        let at = match self.position(level, item.key()) {
            Ok(at) => return Arc::make_mut(&mut self.slots)[at].replace(item),
            Err(at) => at,
        };
        let free = at + self.slots[at..].iter().take_while(|slot| slot.is_some()).count();
        self.len += 1;
        if free + 1 < self.slots.len() && self.len * SLOTS <= self.spread * ITEMS_AT_LAST {
            let slots = Arc::make_mut(&mut self.slots);
            slots[at..=free].rotate_right(1);
            slots[at] = Some(item);
        } else {
            let (before, behind) = self.slots.split_at(at);
            let mut items = Vec::with_capacity(self.len());
            items.extend(before.iter().flatten().cloned());
            items.push(item);
            items.extend(behind.iter().flatten().cloned());
            *self = Self::of(level, items);
        }
        None
    }

    /// Takes out the item whose key is `key`.
    pub(super) fn remove(&mut self, level: usize, key: &[u8]) -> Option<T> {
        let at = self.position(level, key).ok()?;
        let slots = Arc::make_mut(&mut self.slots);
        let removed = slots[at].take();
        self.len -= 1;
        // Those behind it that are not at home come nearer.
        let spread = self.spread;
        let strays = slots[at + 1..].iter().zip(at + 1..);
        let strays = strays.take_while(|(slot, at)| {
            slot.as_ref().is_some_and(|item| home(window_of(item.key(), level), spread) < *at)
        });
        let count = strays.count();
        slots[at..=at + count].rotate_left(1);
        if self.len * SLOTS < self.spread {
            *self = Self::of(level, self.slots.iter().flatten().cloned().collect());
        }
        removed
    }

    /// Where the item with this key is, or where it belongs.
    fn position(&self, level: usize, key: &[u8]) -> Result<usize, usize> {
        let home = home(window_of(key, level), self.spread);
        for (slot, at) in self.slots[home..].iter().zip(home..) {
            match slot.as_ref().map(|item| item.key().cmp(key)) {
                Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => return Ok(at),
                Some(std::cmp::Ordering::Greater) | None => return Err(at),
            }
        }
        unreachable!("the last slot is free")
    }
}

/// Of `spread` slots, the one that a key with this window is at home in.
#[inline]
fn home(window: u64, spread: u32) -> usize {
    let scaled = (window >> 32) * u64::from(spread);
    usize::try_from(scaled >> 32).expect("less than the spread")
}

/// Of so many slots ..
const SLOTS: u32 = 8;
/// .. so many are taken when a page is made,
const ITEMS_AT_FIRST: u32 = 5;
/// and so many when it is made anew. Then an item is two behind its home on average.
const ITEMS_AT_LAST: u32 = 6;
/// Slots behind the spread, so that items at home near its end have room behind it.
const SLACK: usize = 4;
