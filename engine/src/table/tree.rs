//! An ordered map by storage-key prefixes, of which every version is kept by whoever holds it: a change copies the few
//! nodes above it and shares all others.
//!
//! A radix tree: a node has sixteen children, by four bits of the key each, from the routing key's first one on, so that
//! names, which are hashed, spread evenly; a leaf has up to [`LEAF_MAX`] items. What a search reads of a leaf lies
//! apart from the items: a byte of hash of each in one cache line, so that it reads the item that it finds, and mostly
//! no other.
//!
//! Invariants:
//! - no item's key is a prefix of another's, and all are at least a routing key long;
//! - walked in order, keys ascend;
//! - a node has more items below it than a leaf may be left with, a leaf has some.

use std::fmt;
use std::sync::Arc;

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
    Leaf(Arc<Leaf<T>>),
    Inner(Arc<Inner<T>>),
}

#[derive(Clone)]
struct Inner<T> {
    /// Items below it.
    len: usize,
    children: [Child<T>; FANOUT],
}

#[derive(Clone)]
struct Leaf<T> {
    tags: [u8; LEAF_MAX],
    items: Box<[T]>,
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
            match child {
                Child::Empty => return None,
                Child::Leaf(leaf) => return leaf.covering(key, tag_of(routing)),
                Child::Inner(inner) => child = &inner.children[digit(routing, key, level)],
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
        let mut child = if routing >> ROUTING_BITS == 0 { &self.root } else { &Child::Empty };
        loop {
            let leaf = match child {
                Child::Empty => &[],
                Child::Leaf(leaf) => {
                    let first = leaf.items.partition_point(|item| item.key() < start);
                    leaf.items.get(first..).unwrap_or_default()
                }
                Child::Inner(inner) => {
                    let at = digit(routing, start, level);
                    above.push(inner.children.get(at + 1..).unwrap_or_default().iter());
                    (child, level) = (&inner.children[at], level + 1);
                    continue;
                }
            };
            return Items { above, leaf: leaf.iter() };
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
    /// What comes behind the leaf, from the root on.
    above: Vec<std::slice::Iter<'a, Child<T>>>,
    leaf: std::slice::Iter<'a, T>,
}

impl<'a, T> Iterator for Items<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            match self.above.last_mut()?.next() {
                None => drop(self.above.pop()),
                Some(Child::Empty) => {}
                Some(Child::Leaf(leaf)) => self.leaf = leaf.items.iter(),
                Some(Child::Inner(inner)) => self.above.push(inner.children.iter()),
            }
        }
    }
}

impl<T: Item> Child<T> {
    fn leaf(items: Vec<T>) -> Self {
        let mut tags = [0; LEAF_MAX];
        for (tag, item) in tags.iter_mut().zip(&items) {
            *tag = tag_of(RoutingKey::of_key(item.key()).0);
        }
        Self::Leaf(Arc::new(Leaf { tags, items: items.into() }))
    }

    fn insert(&mut self, level: usize, item: T) -> Option<T> {
        let leaf = match self {
            Self::Empty => {
                *self = Self::leaf(vec![item]);
                return None;
            }
            Self::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let replaced = inner.child(level, item.key()).insert(level + 1, item);
                inner.len += usize::from(replaced.is_none());
                return replaced;
            }
            Self::Leaf(leaf) => leaf,
        };
        match leaf.search(item.key()) {
            Ok(at) => Some(std::mem::replace(&mut Arc::make_mut(leaf).items[at], item)),
            Err(at) => {
                let (before, behind) = leaf.items.split_at(at);
                let mut items = Vec::with_capacity(leaf.items.len() + 1);
                items.extend_from_slice(before);
                items.push(item);
                items.extend_from_slice(behind);
                *self = if items.len() > LEAF_MAX { Self::split(level, items) } else { Self::leaf(items) };
                None
            }
        }
    }

    /// A node of more items than a leaf has.
    fn split(level: usize, items: Vec<T>) -> Self {
        let len = items.len();
        let mut parts: [Vec<T>; FANOUT] = Default::default();
        for item in items {
            let part = digit(RoutingKey::of_key(item.key()).0, item.key(), level);
            parts[part].push(item);
        }
        let children = parts.map(|items| match items.len() {
            0 => Self::Empty,
            1..=LEAF_MAX => Self::leaf(items),
            _ => Self::split(level + 1, items),
        });
        Self::Inner(Arc::new(Inner { len, children }))
    }

    /// Takes out the item whose key is `key`: it is there.
    fn remove(&mut self, level: usize, key: &[u8]) -> Option<T> {
        match self {
            Self::Empty => None,
            Self::Leaf(leaf) => {
                let at = leaf.search(key).ok()?;
                let mut items = leaf.items.to_vec();
                let removed = items.remove(at);
                *self = if items.is_empty() { Self::Empty } else { Self::leaf(items) };
                Some(removed)
            }
            Self::Inner(inner) => {
                let inner = Arc::make_mut(inner);
                let removed = inner.child(level, key).remove(level + 1, key);
                inner.len -= 1;
                if inner.len <= LEAF_LEFT {
                    let len = inner.len;
                    let root = std::mem::replace(self, Self::Empty);
                    *self = Self::leaf(Tree { root, len }.iter().cloned().collect());
                }
                removed
            }
        }
    }
}

impl<T: Item> Inner<T> {
    fn child(&mut self, level: usize, key: &[u8]) -> &mut Child<T> {
        &mut self.children[digit(RoutingKey::of_key(key).0, key, level)]
    }
}

impl<T: Item> Leaf<T> {
    #[inline]
    fn covering(&self, key: &[u8], tag: u8) -> Option<&T> {
        let mut alike = 0_u32;
        for (n, other) in self.tags.iter().enumerate() {
            alike |= u32::from(*other == tag) << n;
        }
        while alike != 0 {
            // Where there is no item its tag means nothing.
            let item = self.items.get(alike.trailing_zeros() as usize)?;
            if key.starts_with(item.key()) {
                return Some(item);
            }
            alike &= alike - 1;
        }
        None
    }

    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.items.binary_search_by(|item| item.key().cmp(key))
    }
}

/// The four bits of a key that choose a child at `level`: of its routing key from the first that is not always zero on,
/// then of what follows it. Behind a key's end they are zero.
#[inline]
fn digit(routing: u64, key: &[u8], level: usize) -> usize {
    let bits = match u32::try_from(level) {
        Ok(level) if level < ROUTING_DIGITS => {
            let left_out = u64::BITS - ROUTING_BITS;
            (routing << left_out >> (u64::BITS - DIGIT_BITS * (level + 1))).to_le_bytes()[0]
        }
        _ => {
            let behind = level - ROUTING_DIGITS as usize;
            let byte = key.get(ROUTING_KEY_BYTES + behind / 2).copied().unwrap_or(0);
            if behind.is_multiple_of(2) { byte >> DIGIT_BITS } else { byte }
        }
    };
    usize::from(bits) % FANOUT
}

/// Bits that no digit of the first levels is made of.
const fn tag_of(routing: u64) -> u8 {
    routing.to_le_bytes()[0]
}

/// Four bits a level: nodes of a few cache lines, of which five levels hold a million items.
const DIGIT_BITS: u32 = 4;
const FANOUT: usize = 1 << DIGIT_BITS;
/// A routing key begins with a slot below 16,384: its first two bits are zero.
const ROUTING_BITS: u32 = 62;
const ROUTING_DIGITS: u32 = ROUTING_BITS.div_ceil(DIGIT_BITS);
/// Half a cache line of tags. A leaf that splits leaves sixteen of two items each; one of eight or fewer would be split at
/// a million items into nodes that no longer fit the core's cache.
const LEAF_MAX: usize = 32;
/// A node of so few items becomes a leaf again: not one more insertion away from being split.
const LEAF_LEFT: usize = LEAF_MAX / 2;

#[cfg(test)]
mod tests;
