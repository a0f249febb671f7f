//! Where a partition is best split: half of what it does to either side, or half of what it holds where it does little.
//!
//! What entities do is counted for those that do most; the rest of the partition's load is taken to lie as its bytes do, which
//! segment indexes tell, exact to a block. Guests, which have no place in the range, go where they even it out.

use std::rc::Rc;

use super::Shard;
use crate::error::{Error, Result};
use crate::ids::PartitionId;
use crate::key::RoutingKey;
use crate::partition::Partition;
use crate::segment::Segment;
use crate::segment::index::BlockNumber;

/// Places of a segment's index that are looked at: half of a partition of a hundred segments is found to a part in a thousand.
const PLACES_MAX: u32 = 64;
/// What was counted of less service time than this says nothing about what is to come.
const SERVICE_NANOS_MIN: u64 = 1_000_000_000;

/// Where to split a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitPoint {
    /// The first routing key of the upper part.
    pub at: RoutingKey,
    /// Guests that go with it, ascending.
    pub guests: Vec<Vec<u8>>,
    /// What lies below and above, by load where `is_by_load` and by bytes otherwise.
    pub weights: [u64; 2],
    /// Whether it was found by load.
    pub is_by_load: bool,
}

impl Shard {
    /// Where a partition of this shard is best split; with `at`, what lies to either side of that.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it is not here, or has one entity at most.
    pub async fn split_point(self: &Rc<Self>, id: PartitionId, at: Option<RoutingKey>) -> Result<SplitPoint> {
        let partition = self.here(id)?;
        let image = self.image();
        let home = image.place_of(id).ok_or_else(|| Error::misuse(format!("there is no partition {id}")))?;
        let bytes = self.bytes_by_place(&partition, home.start, home.end).await;
        let all_bytes: u64 = bytes.iter().map(|place| place.1).sum();
        let owned = self.owned(home)?;
        let mut counters = self.counters.borrow_mut();
        let load = counters.partition_load(owned.slot).load.service_nanos;
        let is_by_load = load >= SERVICE_NANOS_MIN;
        let mut weights = bytes;
        let mut guests: Vec<(Vec<u8>, u64)> = Vec::new();
        for guest in image.guests_in(id) {
            let weight = if is_by_load {
                counters.entity(guest.routing()).lower.service_nanos
            } else {
                let end = crate::key::prefix_end(guest.prefix);
                partition.levels().all().map(|s| s.bytes_between(guest.prefix, end.as_deref())).sum()
            };
            guests.push((guest.entity(), weight));
        }
        if is_by_load {
            let counted = counters.entities_between(home.start, home.end);
            let heavy: u64 = counted.iter().map(|(_, load)| load.service_nanos).sum();
            let guests: u64 = guests.iter().map(|guest| guest.1).sum();
            let rest = load.saturating_sub(heavy).saturating_sub(guests);
            for place in &mut weights {
                place.1 = share(rest, place.1, all_bytes);
            }
            weights.extend(counted.into_iter().map(|(routing, load)| (routing, load.service_nanos)));
        }
        drop(counters);
        let at = at.or_else(|| half(&mut weights, home.start, home.end)).ok_or_else(|| {
            Error::misuse(format!(
                "partition {id} holds one entity at most: give the routing key to split it at"
            ))
        })?;
        let side = |above: bool| weights.iter().filter(|w| (w.0 >= at) == above).map(|w| w.1).sum();
        let mut sides = [side(false), side(true)];
        guests.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut going = Vec::new();
        for (entity, weight) in guests {
            let to = usize::from(sides[1] <= sides[0]);
            sides[to] += weight.max(1);
            if to == 1 {
                going.push(entity);
            }
        }
        going.sort_unstable();
        Ok(SplitPoint { at, guests: going, weights: sides, is_by_load })
    }

    /// Bytes of a partition's segments by place, in its range.
    async fn bytes_by_place(
        &self,
        partition: &Rc<Partition>,
        start: RoutingKey,
        end: RoutingKey,
    ) -> Vec<(RoutingKey, u64)> {
        let mut slice = self.runtime().slice();
        let levels = partition.levels();
        let mut places = Vec::new();
        for segment in levels.all() {
            places
                .extend(places_of(segment).into_iter().filter(|(routing, _)| (start..end).contains(routing)));
            slice.pause().await;
        }
        places
    }
}

/// Bytes of a segment by place: those between two of its blocks' first keys are taken to lie evenly between them.
fn places_of(segment: &Segment) -> Vec<(RoutingKey, u64)> {
    let index = segment.index();
    let blocks = index.block_count();
    let step = blocks.div_ceil(PLACES_MAX).max(1);
    let key_of = |number: BlockNumber| match number {
        0 => RoutingKey::of_key(&segment.meta().first),
        _ if number < blocks => RoutingKey::of_key(&index.border(number)),
        _ => RoutingKey::of_key(&segment.meta().last),
    };
    let mut places = Vec::new();
    for number in (0..blocks).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        let next = number.saturating_add(step);
        let end = if next < blocks { index.offset(next) } else { index.end() };
        let bytes = end.saturating_sub(index.offset(number));
        spread(key_of(number), key_of(next), bytes, &mut places);
    }
    places
}

/// Deals `bytes` out to a few places from `first` to `last`; what is all of one entity stays together.
fn spread(first: RoutingKey, last: RoutingKey, bytes: u64, places: &mut Vec<(RoutingKey, u64)>) {
    /// A small partition is one block: halves of it are found to a part in so many.
    const PARTS: u64 = 16;
    let step = last.0.saturating_sub(first.0) / PARTS;
    if step == 0 {
        return places.push((first, bytes));
    }
    places.extend((0..PARTS).map(|n| (RoutingKey(first.0 + n * step), bytes / PARTS)));
}

/// `whole * part / all`.
fn share(whole: u64, part: u64, all: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The routing key inside `start..end` that has as nearly as can be half of the weights below it; none: there is nothing
/// to tell by.
fn half(weights: &mut [(RoutingKey, u64)], start: RoutingKey, end: RoutingKey) -> Option<RoutingKey> {
    weights.sort_unstable();
    let all: u64 = weights.iter().map(|weight| weight.1).sum();
    if all == 0 {
        return Some(RoutingKey(start.0 + (end.0 - start.0) / 2)).filter(|at| *at > start);
    }
    let mut best: Option<(u64, RoutingKey)> = None;
    let mut below = 0_u64;
    let mut rest = weights.iter().peekable();
    while let Some(&(routing, weight)) = rest.next() {
        let mut look = |at: RoutingKey, below: u64| {
            let off = below.abs_diff(all - below);
            if at > start && at < end && best.is_none_or(|(least, _)| off < least) {
                best = Some((off, at));
            }
        };
        look(routing, below);
        below += weight;
        while let Some(same) = rest.next_if(|next| next.0 == routing) {
            below += same.1;
        }
        // Before the next one: one heavy entity may be all of the lower part.
        look(RoutingKey(routing.0 + 1), below);
    }
    best.map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_of(weights: &[(u64, u64)]) -> Option<u64> {
        let mut weights: Vec<_> = weights.iter().map(|(at, weight)| (RoutingKey(*at), *weight)).collect();
        half(&mut weights, RoutingKey(10), RoutingKey(100)).map(|at| at.0)
    }

    #[test]
    fn half_of_the_weight_lies_below() {
        assert_eq!(half_of(&[(20, 5), (30, 5), (40, 5), (50, 5)]), Some(31));
        assert_eq!(half_of(&[(50, 5), (40, 5), (30, 5), (20, 5), (20, 20)]), Some(21));
        assert_eq!(
            half_of(&[(20, 3), (60, 50), (70, 1)]),
            Some(21),
            "a heavy one goes where it evens it out"
        );
        assert_eq!(half_of(&[(20, 1), (60, 50), (70, 3)]), Some(61));
    }

    #[test]
    fn one_entity_that_is_all_is_cut_off_and_nothing_is_cut_in_the_middle() {
        assert_eq!(half_of(&[]), Some(55));
        assert_eq!(half_of(&[(10, 9)]), Some(11), "not below the range's first key");
        assert_eq!(half_of(&[(99, 9)]), Some(99));
    }
}
