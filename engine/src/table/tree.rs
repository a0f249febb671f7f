//! An ordered map by storage-key prefixes, of which every version is kept by whoever holds it: a change copies the page
//! that it is in and the few nodes above it, and shares all others.
//!
//! A radix tree: a node has sixteen children, by four bits of the key each, from the first bit of a routing key that is not
//! always zero on. Names are hashed, so they spread evenly: nodes are few enough to stay in a core's cache, and what is
//! below them is a [page](page::Page), where the next bits say at which item to look.
//!
//! Invariants:
//! - no item's key is a prefix of another's, and all are at least a routing key long;
//! - walked in order, keys ascend;
//! - there are no empty pages, and no nodes with so few items below them that a page is better.

mod page;

use std::fmt;
use std::sync::Arc;

use self::page::Page;
use crate::key::RoutingKey;
use crate::limits::ROUTING_KEY_BYTES;

/// What a tree holds.
pub(super) trait Item: Clone {
    /// By what it is found.
    fn key(&self) -> &[u8];
}

/// See the module.
#[derive(Clone)]
pub(super) struct Tree<T> {
    root: Child<T>,
    len: usize,
}

#[derive(Clone)]
enum Child<T> {
    Empty,
    Page(Page<T>),
    Inner(Arc<Inner<T>>),
}

#[derive(Clone)]
struct Inner<T> {
    /// Items below it.
    len: usize,
    children: [Child<T>; FANOUT],
}

impl<T: Item> Tree<T> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The item whose key `key` begins with.
    #[inline]
    pub(super) fn covering(&self, key: &[u8]) -> Option<&T> {
        let routing = RoutingKey::of_key(key).0;
        let (mut child, mut level) = (&self.root, 0);
        loop {
            let window = window(routing, key, level);
            match child {
                Child::Empty => return None,
                Child::Page(page) => return page.covering(key, window),
                Child::Inner(inner) => child = &inner.children[digit(window)],
            }
            level += 1;
        }
    }

    /// Puts `item` in; the one that had its key, if there was one.
    pub(super) fn insert(&mut self, item: T) -> Option<T> {
        let replaced = self.root.insert(0, item);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes out the item whose key is `key`.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<T> {
        // Nothing is copied for one that is not there.
        self.covering(key).filter(|item| item.key() == key)?;
        let removed = self.root.remove(0, key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// The items whose keys are not before `start`, in order.
    pub(super) fn from(&self, start: &[u8]) -> Items<'_, T> {
        let mut routing = [0; ROUTING_KEY_BYTES];
        routing.iter_mut().zip(start).for_each(|(to, from)| *to = *from);
        let routing = u64::from_be_bytes(routing);
        let (mut above, mut level) = (Vec::new(), 0);
        // No entity has a routing key with one of the bits that digits leave out: it is behind all items.
        let mut child = if routing.leading_zeros() < ZERO_BITS { &Child::Empty } else { &self.root };
        loop {
            let window = window(routing, start, level);
            let slots = match child {
                Child::Empty => [].iter(),
                Child::Page(page) => page.from(start, window),
                Child::Inner(inner) => {
                    let at = digit(window);
                    above.push(inner.children.get(at + 1..).unwrap_or_default().iter());
                    (child, level) = (&inner.children[at], level + 1);
                    continue;
                }
            };
            return Items { above, slots };
        }
    }

    /// All items, in order.
    pub(super) fn iter(&self) -> Items<'_, T> {
        self.from(&[])
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { root: Child::Empty, len: 0 }
    }
}

impl<T: Item + PartialEq> PartialEq for Tree<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Item + Eq> Eq for Tree<T> {}

impl<T: Item + fmt::Debug> fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Items of a tree, in order.
pub(super) struct Items<'a, T> {
    /// What comes behind the page, from the root on.
    above: Vec<std::slice::Iter<'a, Child<T>>>,
    slots: std::slice::Iter<'a, Option<T>>,
}

impl<'a, T: Item> Iterator for Items<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.slots.by_ref().flatten().next() {
                return Some(item);
            }
            match self.above.last_mut()?.next() {
                None => drop(self.above.pop()),
                Some(Child::Empty) => {}
                Some(Child::Page(page)) => self.slots = page.slots(),
                Some(Child::Inner(inner)) => self.above.push(inner.children.iter()),
            }
        }
    }
}

impl<T: Item> Child<T> {
    fn insert(&mut self, level: usize, item: T) -> Option<T> {
        match self {
            Self::Empty => {
                *self = Self::of(level, vec![item]);
                None
            }
            Self::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let replaced = inner.child(level, item.key()).insert(level + 1, item);
                inner.len += usize::from(replaced.is_none());
                replaced
            }
            Self::Page(page) => {
                let replaced = page.insert(level, item);
                if page.len() > PAGE_ITEMS_MAX {
                    *self = Self::of(level, page.slots().flatten().cloned().collect());
                }
                replaced
            }
        }
    }

    /// What holds these items, which are in order and alike up to `level`.
    fn of(level: usize, items: Vec<T>) -> Self {
        match items.len() {
            0 => Self::Empty,
            1..=PAGE_ITEMS_MAX => Self::Page(Page::of(level, items)),
            len => {
                let mut parts: [Vec<T>; FANOUT] = Default::default();
                for item in items {
                    parts[digit_of(item.key(), level)].push(item);
                }
                let children = parts.map(|items| Self::of(level + 1, items));
                Self::Inner(Arc::new(Inner { len, children }))
            }
        }
    }

    /// Takes out the item whose key is `key`: it is there.
    fn remove(&mut self, level: usize, key: &[u8]) -> Option<T> {
        match self {
            Self::Empty => None,
            Self::Page(page) => {
                let removed = page.remove(level, key);
                if page.len() == 0 {
                    *self = Self::Empty;
                }
                removed
            }
            Self::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let removed = inner.child(level, key).remove(level + 1, key);
                inner.len -= 1;
                if inner.len <= INNER_ITEMS_LEFT {
                    let len = inner.len;
                    let root = std::mem::replace(self, Self::Empty);
                    *self = Self::of(level, Tree { root, len }.iter().cloned().collect());
                }
                removed
            }
        }
    }
}

impl<T: Item> Inner<T> {
    fn child(&mut self, level: usize, key: &[u8]) -> &mut Child<T> {
        &mut self.children[digit_of(key, level)]
    }
}

/// The bits of a key from where its digit of `level` begins: sixty-four, or what is left of its routing key, and zeros. Of
/// two keys that are alike up to there, the larger one has no smaller ones.
#[inline]
fn window(routing: u64, key: &[u8], level: usize) -> u64 {
    let at = ZERO_BITS as usize + level * DIGIT_BITS;
    if at + DIGIT_BITS <= u64::BITS as usize {
        return routing << at;
    }
    let mut bytes = [0; 16];
    let behind = key.get(at / 8..).unwrap_or_default();
    bytes.iter_mut().zip(behind).for_each(|(to, from)| *to = *from);
    let bits = u128::from_be_bytes(bytes) << (at % 8);
    u64::from_be_bytes(*bits.to_be_bytes().first_chunk().expect("sixteen bytes"))
}

#[inline]
fn window_of(key: &[u8], level: usize) -> u64 {
    window(RoutingKey::of_key(key).0, key, level)
}

/// Which child a window leads to.
#[inline]
fn digit(window: u64) -> usize {
    usize::from(window.to_be_bytes()[0]) >> (8 - DIGIT_BITS)
}

fn digit_of(key: &[u8], level: usize) -> usize {
    digit(window_of(key, level))
}

/// A routing key begins with a slot below 16,384: its first two bits are zero.
const ZERO_BITS: u32 = 2;
/// Three levels of nodes over a million items, some hundred kilobytes; and a change copies few children.
const DIGIT_BITS: usize = 4;
const FANOUT: usize = 1 << DIGIT_BITS;
/// What a change copies: some tens of kilobytes.
const PAGE_ITEMS_MAX: usize = 512;
/// A node of so few items becomes a page again: not one more insertion away from being split.
const INNER_ITEMS_LEFT: usize = PAGE_ITEMS_MAX / 2;

#[cfg(test)]
mod tests;
