//! The order of a memtable's entries: a B+tree of handles, made for random inserts and point lookups.
//!
//! It stores no keys, only for each a *head*: the eight bytes that follow what all keys of a node have in common.
//! A search compares heads, and reads an entry only where they tie, so that a lookup costs a cache miss or two per
//! level and one for the entry. (Prefix truncation by fences and heads: Graefe and Larson, "B-tree indexes and CPU
//! caches", ICDE 2001.) Nothing is ever removed.
//!
//! An insert appends to its leaf, and so waits for two or three cache lines of it, where shifting what is behind its place
//! would wait for a dozen. Who searches a leaf, walks it or splits it puts it in order first.
//!
//! Invariants:
//! - all keys of a node lie between its fences, the separators left and right of it in its ancestors; the
//!   first `skip` bytes are the same in both, and so in every key that is ever routed to the node;
//! - where both fences are versions of one key, heads are of the version instead ([`WHOLE`]);
//! - a separator is the first entry of what lies right of it;
//! - a [`Place`] is in a leaf that is in order.

use std::cmp::Ordering;
use std::fmt;
use std::hint::black_box;

use super::arena::{Arena, Handle};
use crate::entry;
use crate::entry::Entry;
use crate::ids::Version;

/// Handles of an [`Arena`] in storage order.
pub(super) struct Tree {
    leaves: Pool<Leaf>,
    inners: Pool<Inner>,
    /// A leaf at height 0, else an inner node.
    root: u32,
    height: usize,
    rows: usize,
}

/// A place in the tree; good until the next insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    leaf: u32,
    slot: usize,
}

struct Leaf {
    keys: Keys,
    next: u32,
}

/// `children[i]` lies right of separator `i`, `first` left of them all.
struct Inner {
    keys: Keys,
    first: u32,
    children: [u32; FANOUT],
}

struct Keys {
    /// Those not in use are `u64::MAX`: above or equal to every head.
    heads: [u64; FANOUT],
    handles: [Handle; FANOUT],
    len: u16,
    /// The first so many are in order; in a leaf, what is behind them came since it was last looked at.
    ordered: u16,
    skip: u16,
}

/// The inner nodes from the root to a leaf, each with the count of separators left of the way taken.
#[derive(Default)]
struct Path {
    steps: [(u32, usize); HEIGHT_MAX],
    len: usize,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut leaves = Pool::new();
        let root = leaves.push(Leaf { keys: Keys::empty(), next: NONE });
        Self { leaves, inners: Pool::new(), root, height: 0, rows: 0 }
    }

    /// Adds `entry` to the arena and the tree. If its (key, version) is there already, it is left out when its leaf is
    /// put in order.
    pub(super) fn insert(&mut self, arena: &mut Arena, entry: &Entry<'_>) {
        let mut path = Path::default();
        let leaf = self.descend(arena, entry.key, entry.version, |inner, slot| path.push(inner, slot));
        if self.leaves.get(leaf).keys.is_full() {
            self.order(arena, leaf);
        }
        let handle = arena.push(entry);
        self.rows += 1;
        let keys = &mut self.leaves.get_mut(leaf).keys;
        if !keys.is_full() {
            keys.append(head(keys.skip, entry.key, entry.version), handle);
            return;
        }
        let slot = keys.rank(arena, entry.key, entry.version, Ordering::Less);
        if keys.is_at(arena, slot, entry.key, entry.version) {
            self.rows -= 1;
        } else {
            self.split_leaf(arena, &path, Place { leaf, slot }, handle);
        }
    }

    /// The first entry at or after (key, version) in storage order.
    pub(super) fn seek(&mut self, arena: &Arena, key: &[u8], version: Version) -> Option<Place> {
        let leaf = self.descend(arena, key, version, |_, _| ());
        self.order(arena, leaf);
        let slot = self.leaves.get(leaf).keys.rank(arena, key, version, Ordering::Less);
        self.settle(arena, Place { leaf, slot })
    }

    /// The entry after `place`.
    pub(super) fn after(&mut self, arena: &Arena, place: Place) -> Option<Place> {
        self.settle(arena, Place { slot: place.slot + 1, ..place })
    }

    /// What lies at `place`.
    pub(super) fn handle(&self, place: Place) -> Handle {
        self.leaves.get(place.leaf).keys.handles[place.slot]
    }

    /// Fetches the next entries from memory into the core's caches, every [`TOUCHED`] places: they lie in the order in
    /// which they were written, and read one after the other each would be waited for.
    pub(super) fn touch_from(&self, place: Place, arena: &Arena) {
        if place.slot.is_multiple_of(TOUCHED) {
            let Keys { handles, len, .. } = &self.leaves.get(place.leaf).keys;
            let next = &handles[place.slot..usize::from(*len).min(place.slot + TOUCHED)];
            black_box(next.iter().fold(0, |seen, &handle| seen ^ arena.touch(handle)));
        }
    }

    /// The leaf that an insert of `key` goes to, by heads alone, so that no entry is waited for: where they tie it may be
    /// another.
    pub(super) fn leaf_near(&self, key: &[u8]) -> u32 {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            node = inner.child(inner.keys.heads_below(head(inner.keys.skip, key, Version::MAX)));
        }
        node
    }

    /// Reads what an insert into a leaf reads first. What it returns is only to be used, so that it is not optimised away.
    pub(super) fn touch_len(&self, leaf: u32) -> u64 {
        u64::from(self.leaves.get(leaf).keys.len)
    }

    /// Reads the places that an insert into a leaf writes to, as [`Self::touch_len`].
    pub(super) fn touch_end(&self, leaf: u32) -> u64 {
        let Keys { heads, handles, len, .. } = &self.leaves.get(leaf).keys;
        let end = usize::from(*len).min(FANOUT - 1);
        heads[end] ^ u64::from(handles[end].number())
    }

    /// How many entries were added, but for those that were found to be there already.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the nodes.
    pub(super) const fn bytes(&self) -> usize {
        self.leaves.len * size_of::<Leaf>() + self.inners.len * size_of::<Inner>()
    }

    /// Frees some nodes; false when none is left. The tree may then only be freed further.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.leaves.chunks.pop().is_some() || self.inners.chunks.pop().is_some()
    }

    /// The leaf whose fences (key, version) lies between.
    fn descend(&self, arena: &Arena, key: &[u8], version: Version, mut visit: impl FnMut(u32, usize)) -> u32 {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let slot = inner.keys.rank(arena, key, version, Ordering::Equal);
            visit(node, slot);
            node = inner.child(slot);
        }
        node
    }

    /// `place`, or the first of the next leaf where it is past the end of its own.
    fn settle(&mut self, arena: &Arena, place: Place) -> Option<Place> {
        let Leaf { keys, next } = self.leaves.get(place.leaf);
        if place.slot < usize::from(keys.len) {
            return Some(place);
        }
        let leaf = *next;
        if leaf == NONE {
            return None;
        }
        // Only an empty tree has an empty leaf.
        self.order(arena, leaf);
        Some(Place { leaf, slot: 0 })
    }

    /// Puts a leaf in order.
    fn order(&mut self, arena: &Arena, leaf: u32) {
        let keys = &mut self.leaves.get_mut(leaf).keys;
        if keys.ordered < keys.len {
            self.rows -= keys.order(arena);
        }
    }

    /// Makes two leaves of a full one, with `handle` in its place.
    fn split_leaf(&mut self, arena: &Arena, path: &Path, place: Place, handle: Handle) {
        let (low, high) = self.fences(path, path.len);
        let left = self.leaves.get_mut(place.leaf);
        // Ascending keys leave full leaves behind.
        let ascending = left.next == NONE && place.slot == FANOUT;
        let cut = if ascending { FANOUT } else { FANOUT / 2 };
        let separator = if ascending { handle } else { left.keys.handles[cut] };
        let mut right = Leaf { keys: left.keys.split_off(cut), next: left.next };
        left.keys.fence(arena, low, Some(separator));
        right.keys.fence(arena, Some(separator), high);
        if place.slot < cut || (place.slot == cut && !ascending) {
            left.keys.insert_entry(arena, place.slot, handle);
        } else {
            right.keys.insert_entry(arena, place.slot - cut, handle);
        }
        let right = self.leaves.push(right);
        self.leaves.get_mut(place.leaf).next = right;
        self.add_separator(arena, path, separator, right);
    }

    /// Adds `separator` and what lies right of it to the inner nodes of `path`, bottom up.
    fn add_separator(&mut self, arena: &Arena, path: &Path, mut separator: Handle, mut child: u32) {
        for depth in (0..path.len).rev() {
            let (id, slot) = path.steps[depth];
            if !self.inners.get(id).keys.is_full() {
                self.inners.get_mut(id).insert(arena, slot, separator, child);
                return;
            }
            let fences = self.fences(path, depth);
            let (middle, right) = self.inners.get_mut(id).split(arena, fences, slot, separator, child);
            separator = middle;
            child = self.inners.push(right);
        }
        let mut root = Inner { keys: Keys::empty(), first: self.root, children: [NONE; FANOUT] };
        root.insert(arena, 0, separator, child);
        self.root = self.inners.push(root);
        self.height += 1;
        assert!(self.height <= HEIGHT_MAX, "handles run out long before the height");
    }

    /// The separators next to the node below `path`'s first `depth` steps.
    fn fences(&self, path: &Path, depth: usize) -> (Option<Handle>, Option<Handle>) {
        let (mut low, mut high) = (None, None);
        for &(id, slot) in &path.steps[..depth] {
            let keys = &self.inners.get(id).keys;
            if slot > 0 {
                low = Some(keys.handles[slot - 1]);
            }
            if slot < usize::from(keys.len) {
                high = Some(keys.handles[slot]);
            }
        }
        (low, high)
    }
}

impl Inner {
    const fn child(&self, slot: usize) -> u32 {
        if slot == 0 { self.first } else { self.children[slot - 1] }
    }

    fn insert(&mut self, arena: &Arena, slot: usize, separator: Handle, child: u32) {
        let len = usize::from(self.keys.len);
        self.keys.insert_entry(arena, slot, separator);
        self.children.copy_within(slot..len, slot + 1);
        self.children[slot] = child;
    }

    /// Splits a full node and adds the separator to the half it belongs to. Returns the separator between the
    /// halves, which neither has, and the right one.
    fn split(
        &mut self,
        arena: &Arena,
        (low, high): (Option<Handle>, Option<Handle>),
        slot: usize,
        separator: Handle,
        child: u32,
    ) -> (Handle, Self) {
        let cut = if slot == FANOUT { FANOUT - 1 } else { FANOUT / 2 };
        let middle = self.keys.handles[cut];
        let mut right =
            Self { keys: self.keys.split_off(cut + 1), first: self.children[cut], children: [NONE; FANOUT] };
        right.children[..FANOUT - cut - 1].copy_from_slice(&self.children[cut + 1..]);
        self.keys.pop();
        self.keys.fence(arena, low, Some(middle));
        right.keys.fence(arena, Some(middle), high);
        if slot <= cut {
            self.insert(arena, slot, separator, child);
        } else {
            right.insert(arena, slot - cut - 1, separator, child);
        }
        (middle, right)
    }
}

impl Keys {
    const fn empty() -> Self {
        Self { heads: [u64::MAX; FANOUT], handles: [Handle::NONE; FANOUT], len: 0, ordered: 0, skip: 0 }
    }

    /// How many keys are before (key, version), or, with `bound` of `Equal`, not after it.
    fn rank(&self, arena: &Arena, key: &[u8], version: Version, bound: Ordering) -> usize {
        let head = head(self.skip, key, version);
        let len = usize::from(self.len);
        let mut low = self.heads_below(head);
        if low >= len || self.heads[low] != head {
            return low;
        }
        // Ties are few, unless an entity's rows or a row's versions meet at the edge of the tree.
        let mut high = low + self.heads[low..len].partition_point(|&h| h == head);
        while low < high {
            let middle = usize::midpoint(low, high);
            let entry = arena.entry(self.handles[middle]);
            if entry::order((entry.key, entry.version), (key, version)) <= bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// How many heads are below `head`. Reads one head per cache line first, then one line: the misses of the first
    /// round overlap, where a binary search would wait for each in turn.
    fn heads_below(&self, head: u64) -> usize {
        let (lines, _) = self.heads.as_chunks::<LINE_HEADS>();
        let line = lines.iter().map(|line| usize::from(line[LINE_HEADS - 1] < head)).sum::<usize>();
        let within = lines.get(line).map_or(0, |line| line.iter().map(|&h| usize::from(h < head)).sum());
        line * LINE_HEADS + within
    }

    /// Whether exactly (key, version) is in `slot`.
    fn is_at(&self, arena: &Arena, slot: usize, key: &[u8], version: Version) -> bool {
        slot < usize::from(self.len) && self.heads[slot] == head(self.skip, key, version) && {
            let entry = arena.entry(self.handles[slot]);
            entry.version == version && entry.key == key
        }
    }

    const fn is_full(&self) -> bool {
        self.len as usize == FANOUT
    }

    /// Adds a key behind the others.
    const fn append(&mut self, head: u64, handle: Handle) {
        let len = self.len as usize;
        if self.ordered == self.len && (len == 0 || self.heads[len - 1] < head) {
            self.ordered += 1;
        }
        self.heads[len] = head;
        self.handles[len] = handle;
        self.len += 1;
    }

    /// Puts what was appended in its places; returns how much of it was there already, and is left out.
    #[inline(never)]
    fn order(&mut self, arena: &Arena) -> usize {
        let appended = usize::from(self.ordered)..usize::from(self.len);
        let (heads, handles) = (self.heads, self.handles);
        self.heads[appended.clone()].fill(u64::MAX);
        self.len = self.ordered;
        self.touch_ties(arena, &heads[appended.clone()]);
        let mut duplicates = 0;
        for at in appended {
            let (head, handle) = (heads[at], handles[at]);
            let mut slot = self.heads_below(head);
            // Where heads tie, and where a head is what unused ones are, the keys themselves tell.
            if self.heads.get(slot) == Some(&head) {
                let Entry { key, version, .. } = arena.entry(handle);
                slot = self.rank(arena, key, version, Ordering::Less);
                if self.is_at(arena, slot, key, version) {
                    duplicates += 1;
                    continue;
                }
            }
            self.insert(slot, head, handle);
        }
        duplicates
    }

    /// Fetches the entries that keys of these heads have to be compared with.
    fn touch_ties(&self, arena: &Arena, heads: &[u64]) {
        let mut tied = [Handle::NONE; FANOUT];
        let mut ties = 0;
        for &head in heads {
            let slot = self.heads_below(head);
            if slot < usize::from(self.len) && self.heads[slot] == head {
                tied[ties] = self.handles[slot];
                ties += 1;
            }
        }
        arena.touch_headers(&tied[..ties]);
    }

    /// Adds a key to those in order, which all are.
    fn insert(&mut self, slot: usize, head: u64, handle: Handle) {
        debug_assert_eq!(self.ordered, self.len, "a place is among keys in order");
        let len = usize::from(self.len);
        self.heads.copy_within(slot..len, slot + 1);
        self.handles.copy_within(slot..len, slot + 1);
        self.heads[slot] = head;
        self.handles[slot] = handle;
        self.len += 1;
        self.ordered = self.len;
    }

    /// As [`Self::insert`], for an entry that the arena has.
    fn insert_entry(&mut self, arena: &Arena, slot: usize, handle: Handle) {
        let entry = arena.entry(handle);
        self.insert(slot, head(self.skip, entry.key, entry.version), handle);
    }

    fn pop(&mut self) {
        self.len -= 1;
        self.ordered = self.len;
        self.heads[usize::from(self.len)] = u64::MAX;
    }

    /// Moves the keys from `cut` into a node of their own.
    fn split_off(&mut self, cut: usize) -> Self {
        let len = usize::from(self.len);
        let mut right = Self { skip: self.skip, ..Self::empty() };
        right.heads[..len - cut].copy_from_slice(&self.heads[cut..len]);
        right.handles[..len - cut].copy_from_slice(&self.handles[cut..len]);
        right.len = count(len - cut);
        right.ordered = right.len;
        self.heads[cut..].fill(u64::MAX);
        self.len = count(cut);
        self.ordered = self.len;
        right
    }

    /// Takes the node's fences as they are after a split.
    fn fence(&mut self, arena: &Arena, low: Option<Handle>, high: Option<Handle>) {
        let (Some(low), Some(high)) = (low, high) else { return };
        let skip = common(arena.entry(low).key, arena.entry(high).key);
        if skip.saturating_sub(self.skip) < SKIP_STEP {
            return;
        }
        self.skip = skip;
        for slot in 0..usize::from(self.len) {
            let entry = arena.entry(self.handles[slot]);
            self.heads[slot] = head(skip, entry.key, entry.version);
        }
    }
}

impl Path {
    const fn push(&mut self, inner: u32, slot: usize) {
        self.steps[self.len] = (inner, slot);
        self.len += 1;
    }
}

/// Nodes that never move, by number.
struct Pool<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Pool<T> {
    const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    fn get(&self, id: u32) -> &T {
        &self.chunks[id as usize / POOL_CHUNK][id as usize % POOL_CHUNK]
    }

    fn get_mut(&mut self, id: u32) -> &mut T {
        &mut self.chunks[id as usize / POOL_CHUNK][id as usize % POOL_CHUNK]
    }

    fn push(&mut self, node: T) -> u32 {
        if self.len.is_multiple_of(POOL_CHUNK) {
            self.chunks.push(Vec::with_capacity(POOL_CHUNK));
        }
        self.chunks[self.len / POOL_CHUNK].push(node);
        self.len += 1;
        u32::try_from(self.len - 1).expect("fewer nodes than handles")
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({} rows, height {})", self.rows, self.height)
    }
}

/// Eight bytes by which keys that share their first `skip` bytes are compared first: a smaller head is a smaller
/// key, equal heads say nothing. Keys that end early are continued with zeros, which sort first as the end does.
pub(super) fn head(skip: u16, key: &[u8], version: Version) -> u64 {
    if skip == WHOLE {
        return !version.0;
    }
    let tail = key.get(usize::from(skip)..).unwrap_or(&[]);
    if let Some(bytes) = tail.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 8];
    bytes[..tail.len()].copy_from_slice(tail);
    u64::from_be_bytes(bytes)
}

/// The `skip` of a node between two keys.
fn common(low: &[u8], high: &[u8]) -> u16 {
    if low == high {
        return WHOLE;
    }
    let shared = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    u16::try_from(shared).expect("keys are at most 64 KiB")
}

fn count(len: usize) -> u16 {
    u16::try_from(len).expect("at most the fanout")
}

/// Keys in a node. Over 500,000 random rows 32 and 128 measured no better.
const FANOUT: usize = 64;
/// Entries fetched ahead of a cursor.
const TOUCHED: usize = 16;
/// Heads in a cache line.
const LINE_HEADS: usize = 8;
/// Half-full nodes of that fanout hold more than the 2^32 handles there are.
const HEIGHT_MAX: usize = 7;
/// Nodes allocated at once. They are not resident before they are used.
const POOL_CHUNK: usize = 128;
/// Heads are taken anew, which reads every key of a node, when so many of their bytes have become the same: the others
/// still tell most keys apart.
const SKIP_STEP: u16 = 4;
/// No node.
const NONE: u32 = u32::MAX;
/// The `skip` of a node whose keys are all the same: its heads are versions, newest first.
const WHOLE: u16 = u16::MAX;

const _: () = assert!(crate::limits::STORAGE_KEY_BYTES_MAX < WHOLE as usize, "no key is that long");
